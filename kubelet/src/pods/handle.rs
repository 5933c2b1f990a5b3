//! The way to the pods for other parts of the kubelet: which there are, and that one must end.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    Pods,
    model::{self, Ended},
};

/// Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pods: Pods,
    /// Pods that must end, by UID.
    ended: Arc<Mutex<HashMap<String, Ended>>>,
    changed: Arc<Notify>,
}

impl Handle {
    /// Rings `changed` when a pod must end.
    pub(super) fn new(pods: Pods, changed: Arc<Notify>) -> Self {
        Self { pods, ended: Arc::default(), changed }
    }

    /// Waits until it is known which pods there are.
    pub async fn synced(&self) {
        self.pods.synced().await;
    }

    /// Pods that have not ended.
    pub fn active(&self) -> Vec<Arc<Pod>> {
        self.pods.list().into_iter().filter(|pod| !is_terminal(pod)).collect()
    }

    /// Ends a pod of the node's own accord. What was said first of a pod counts.
    pub fn end(&self, uid: &str, ended: Ended) {
        self.ended.lock().entry(uid.to_owned()).or_insert(ended);
        self.changed.notify_one();
    }

    /// Whether the API knows that a pod has ended, or no longer knows it.
    pub fn is_over(&self, pod: &Pod) -> bool {
        let (_, api) = self.pods.both();
        let named =
            |known: &&Arc<Pod>| model::namespace(known) == model::namespace(pod) && model::name(known) == model::name(pod);
        // The API has a static pod under the UID of its mirror.
        let same = |known: &Pod| model::is_static(pod) || model::uid(known) == model::uid(pod);
        api.iter().find(named).is_none_or(|known| !same(known) || is_terminal(known))
    }

    /// Whether and why a pod must end.
    pub(super) fn ended(&self, uid: &str) -> Option<Ended> {
        self.ended.lock().get(uid).cloned()
    }

    /// Forgets pods that are gone.
    pub(super) fn keep(&self, mut is_there: impl FnMut(&str) -> bool) {
        self.ended.lock().retain(|uid, _| is_there(uid));
    }
}

fn is_terminal(pod: &Pod) -> bool {
    matches!(model::phase(pod), "Succeeded" | "Failed")
}
