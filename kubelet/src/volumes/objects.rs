//! ConfigMaps and Secrets that pods refer to: whoever uses one is woken when it changes.
//!
//! Each object is followed by name, because a node may see no other. What is in it is read when it is needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use k8s_openapi::api::core::v1::Pod;
use kontiki_api::resources::{CONFIG_MAPS, ResourceKey, SECRETS};
use kontiki_client::{
    Client,
    reflector::{Reflector, ReflectorOptions},
};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::pods::{environment, model};

/// Objects that one node follows; those beyond it are looked at once a minute.
const FOLLOWED_MAX: usize = 400;

/// An object by kind, namespace and name.
pub type Reference = (ResourceKey, String, String);

/// Nothing of an object is kept: that it changed is all.
#[derive(Deserialize)]
struct Changed {}

/// Who uses an object.
#[derive(Clone, Default)]
pub struct User {
    /// Rung when something changes.
    pub wake: Arc<Notify>,
    /// Set when something has changed.
    pub stale: Arc<AtomicBool>,
}

struct Followed {
    users: Arc<Mutex<BTreeMap<String, User>>>,
    cancel: CancellationToken,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// All objects that are followed.
pub struct Objects {
    client: Client,
    followed: Mutex<BTreeMap<Reference, Followed>>,
}

impl Objects {
    /// Follows nothing yet.
    pub fn new(client: Client) -> Self {
        Self { client, followed: Mutex::default() }
    }

    /// Wakes a pod's worker when one of these changes, and no longer for others.
    pub fn follow(&self, pod_uid: &str, wanted: &BTreeSet<Reference>, user: &User) {
        let mut followed = self.followed.lock();
        followed.retain(|reference, one| {
            if !wanted.contains(reference) {
                one.users.lock().remove(pod_uid);
            }
            !one.users.lock().is_empty()
        });
        for reference in wanted {
            if !followed.contains_key(reference) && followed.len() >= FOLLOWED_MAX {
                continue;
            }
            let one = followed.entry(reference.clone()).or_insert_with(|| self.start(reference));
            one.users.lock().insert(pod_uid.to_owned(), user.clone());
        }
    }

    fn start(&self, (key, namespace, name): &Reference) -> Followed {
        let users: Arc<Mutex<BTreeMap<String, User>>> = Arc::default();
        let cancel = CancellationToken::new();
        let told = Arc::clone(&users);
        let options = ReflectorOptions {
            namespace: namespace.clone(),
            field_selector: format!("metadata.name={name}"),
            ..ReflectorOptions::default()
        };
        let on_change = move |_: &kontiki_client::reflector::Change<Changed>| {
            for user in told.lock().values() {
                user.stale.store(true, Ordering::Release);
                user.wake.notify_one();
            }
        };
        // The picture is not asked: the calls are what counts, and they end with the token.
        drop(Reflector::start(self.client.clone(), *key, options, on_change, cancel.clone()));
        Followed { users, cancel }
    }
}

/// The objects that a pod's volumes and environments refer to.
pub fn references(pod: &Pod) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    let mut add = |key: ResourceKey, name: &str| {
        if !name.is_empty() {
            found.insert((key, model::namespace(pod).to_owned(), name.to_owned()));
        }
    };
    for volume in pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default() {
        if let Some(source) = &volume.config_map {
            add(CONFIG_MAPS, &source.name);
        }
        if let Some(source) = &volume.secret {
            add(SECRETS, source.secret_name.as_deref().unwrap_or_default());
        }
        for part in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            if let Some(source) = &part.config_map {
                add(CONFIG_MAPS, &source.name);
            }
            if let Some(source) = &part.secret {
                add(SECRETS, &source.name);
            }
        }
    }
    for container in model::containers(pod).iter().chain(model::init_containers(pod)) {
        let (config_maps, secrets) = environment::references(container);
        config_maps.iter().for_each(|name| add(CONFIG_MAPS, name));
        secrets.iter().for_each(|name| add(SECRETS, name));
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_pod_refers_to() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"namespace": "n"}, "spec": {
            "volumes": [
                {"name": "a", "configMap": {"name": "c"}}, {"name": "b", "secret": {"secretName": "s"}},
                {"name": "p", "projected": {"sources": [{"configMap": {"name": "d"}}, {"secret": {"name": "s"}}]}},
            ],
            "containers": [{"name": "x", "envFrom": [{"configMapRef": {"name": "e"}}]}],
        }}))
        .unwrap();
        let names: Vec<_> = references(&pod).into_iter().map(|(key, _, name)| format!("{}/{name}", key.plural)).collect();
        assert_eq!(names, ["configmaps/c", "configmaps/d", "configmaps/e", "secrets/s"]);
    }
}
