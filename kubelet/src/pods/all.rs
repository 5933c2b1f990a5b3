//! The pods of this node, wherever they come from: those that the API has bound here, and static ones.
//!
//! A static pod is in the list under its own UID, with the status that its mirror shows; mirrors are not.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use kontiki_client::reflector::Reflector;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::model;
use crate::static_pods::{MIRROR, StaticPods, annotation, mirror::is_mirror_of};

/// Cheap to clone.
#[derive(Clone)]
pub struct Pods {
    api: Reflector<Pod>,
    statics: StaticPods,
    /// Static pods with their status, by UID: one that has not changed is the same one.
    shown: Arc<Mutex<HashMap<String, Shown>>>,
    /// Rung for mirrors.
    changed: Arc<Notify>,
}

struct Shown {
    own: Arc<Pod>,
    mirror: Option<Arc<Pod>>,
    both: Arc<Pod>,
}

impl Pods {
    /// Both sources; `changed` is rung when one of them has news.
    pub(super) fn new(api: Reflector<Pod>, statics: StaticPods, changed: Arc<Notify>) -> Self {
        Self { api, statics, shown: Arc::default(), changed }
    }

    /// Waits until it is known which pods there are.
    pub async fn synced(&self) {
        let mut statics = self.statics.clone();
        // Its sender goes only when the kubelet ends.
        let _ = statics.wait_for(Option::is_some).await;
        self.api.synced().await;
    }

    /// Waits for news.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Static pods as their files have them, and the API's pods, mirrors included.
    pub fn both(&self) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
        let statics = self.statics.borrow().as_ref().map(|pods| pods.to_vec());
        (statics.unwrap_or_default(), self.api.list())
    }

    /// All of them.
    pub fn list(&self) -> Vec<Arc<Pod>> {
        let (statics, api) = self.both();
        let mut shown = self.shown.lock();
        shown.retain(|uid, _| statics.iter().any(|own| model::uid(own) == uid));
        let own = statics.iter().map(|own| show(&mut shown, own, mirror_of(&api, own)));
        let others = api.iter().filter(|pod| annotation(pod, MIRROR).is_none()).cloned();
        own.chain(others).collect()
    }

    /// The one of that name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let named = |pod: &Arc<Pod>| model::namespace(pod) == namespace && model::name(pod) == name;
        if self.statics.borrow().as_ref().is_some_and(|statics| statics.iter().any(named)) {
            return self.list().into_iter().find(named);
        }
        self.api.get(namespace, name).filter(|pod| annotation(pod, MIRROR).is_none())
    }

    /// UID under which the API knows a pod; none where it does not.
    pub fn api_uid(&self, namespace: &str, name: &str, uid: &str) -> Option<String> {
        let own = self.statics.borrow().as_ref().and_then(|all| all.iter().find(|own| model::uid(own) == uid).cloned());
        let Some(own) = own else { return Some(uid.to_owned()) };
        let mirror = self.api.get(namespace, name).filter(|pod| is_mirror_of(pod, &own))?;
        Some(model::uid(&mirror).to_owned())
    }
}

fn mirror_of(api: &[Arc<Pod>], own: &Pod) -> Option<Arc<Pod>> {
    let named = |pod: &&Arc<Pod>| model::namespace(pod) == model::namespace(own) && model::name(pod) == model::name(own);
    api.iter().find(named).filter(|pod| is_mirror_of(pod, own)).cloned()
}

fn show(shown: &mut HashMap<String, Shown>, own: &Arc<Pod>, mirror: Option<Arc<Pod>>) -> Arc<Pod> {
    let same = |left: &Option<Arc<Pod>>, right: &Option<Arc<Pod>>| match (left, right) {
        (Some(left), Some(right)) => Arc::ptr_eq(left, right),
        (left, right) => left.is_none() && right.is_none(),
    };
    let uid = model::uid(own);
    if let Some(known) = shown.get(uid).filter(|known| Arc::ptr_eq(&known.own, own) && same(&known.mirror, &mirror)) {
        return Arc::clone(&known.both);
    }
    let mut status = mirror.as_ref().map_or_else(|| own.status.clone(), |mirror| mirror.status.clone());
    if let Some(status) = &mut status
        && matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
    {
        // A static pod is over when its containers say so, not for ever: it runs again on a machine that was down.
        status.phase = own.status.as_ref().and_then(|status| status.phase.clone());
    }
    let both = Arc::new(Pod { status, ..Pod::clone(own) });
    shown.insert(uid.to_owned(), Shown { own: Arc::clone(own), mirror, both: Arc::clone(&both) });
    both
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::static_pods::HASH;

    #[test]
    fn a_static_pod_has_its_mirrors_status_and_its_own_uid() {
        let pod = |annotation: &str, uid: &str, phase: &str| -> Arc<Pod> {
            let metadata = json!({"name": "a", "namespace": "d", "uid": uid, "annotations": {annotation: "1"}});
            Arc::new(serde_json::from_value(json!({"metadata": metadata, "status": {"phase": phase}})).unwrap())
        };
        let (own, mirror) = (pod(HASH, "1", "Pending"), pod(MIRROR, "u", "Running"));
        let mut shown = HashMap::new();
        let found = mirror_of(&[Arc::clone(&mirror)], &own);
        let first = show(&mut shown, &own, found.clone());
        assert_eq!((model::uid(&first), model::phase(&first)), ("1", "Running"));
        assert!(Arc::ptr_eq(&first, &show(&mut shown, &own, found)), "without news it is the same one");
        assert_eq!(model::phase(&show(&mut shown, &own, None)), "Pending");
        let over = show(&mut shown, &own, Some(pod(MIRROR, "u", "Failed")));
        assert_eq!(model::phase(&over), "Pending", "it is not over because it once was");
    }
}
