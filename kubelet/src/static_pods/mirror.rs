//! Mirror pods: what the API shows of static pods.
//!
//! In: the static pods, the API's pods of this node. Out: mirrors made and deleted ([`plan`], pure) until each static pod
//! has the one that is of it, and nothing else is shown.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kontiki_api::resources::{NODES, PODS};
use kontiki_client::{DeleteOptions, Error};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{HASH, MIRROR, annotation};
use crate::{
    Options,
    pods::{Pods, model},
};

/// How often mirrors are looked at when nothing has changed.
const PERIOD: Duration = Duration::from_secs(2);

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// Show a static pod.
    Create(Arc<Pod>),
    /// Delete a mirror that is of no static pod, or not of this one any more, or that somebody deleted.
    Delete(Arc<Pod>),
}

/// Whether a pod of the API is the mirror of a static pod as it is now.
pub fn is_mirror_of(pod: &Pod, of: &Pod) -> bool {
    annotation(pod, MIRROR).is_some_and(|hash| annotation(of, HASH) == Some(hash))
}

fn plan(statics: &[Arc<Pod>], api: &[Arc<Pod>]) -> Vec<Step> {
    let name = |pod: &Pod| (model::namespace(pod).to_owned(), model::name(pod).to_owned());
    let stale = |pod: &&Arc<Pod>| {
        let of = statics.iter().find(|of| name(of) == name(pod));
        annotation(pod, MIRROR).is_some() && (model::is_deleted(pod) || !of.is_some_and(|of| is_mirror_of(pod, of)))
    };
    let stale: Vec<&Arc<Pod>> = api.iter().filter(stale).collect();
    // A name that somebody else's pod has is taken.
    let is_free = |of: &&Arc<Pod>| !api.iter().any(|pod| name(pod) == name(of));
    let gone = stale.into_iter().map(|pod| Step::Delete(Arc::clone(pod)));
    gone.chain(statics.iter().filter(is_free).map(|of| Step::Create(Arc::clone(of)))).collect()
}

/// Keeps the mirrors until `cancel`.
pub async fn run(options: &Options, pods: &Pods, cancel: CancellationToken) {
    let work = async {
        pods.synced().await;
        let mut period = tokio::time::interval(PERIOD);
        loop {
            let (statics, api) = pods.both();
            for step in plan(&statics, &api) {
                if let Err(error) = act(options, &step).await {
                    tracing::warn!(?error, "cannot show a static pod as it is; it is tried again");
                }
            }
            tokio::select! {
                _ = period.tick() => {}
                () = pods.changed() => {}
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = cancel.cancelled() => {}
    }
}

async fn act(options: &Options, step: &Step) -> Result<(), Error> {
    let client = &options.client;
    match step {
        Step::Delete(pod) => {
            let wanted = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::with_uid(model::uid(pod)) };
            match client.delete(PODS, model::namespace(pod), model::name(pod), &wanted).await {
                Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
                other => other,
            }
        }
        Step::Create(pod) => {
            let node: Value = client.get(NODES, "", &options.node_name).await?;
            match client.create::<Value>(PODS, model::namespace(pod), &mirror(pod, &node, Timestamp::now())).await {
                // The one that is there is looked at next.
                Err(error) if error.is_already_exists() => Ok(()),
                other => other.map(drop),
            }
        }
    }
}

/// The mirror of a static pod, owned by the node.
fn mirror(pod: &Pod, node: &Value, now: Timestamp) -> Value {
    let mut mirror = serde_json::to_value(pod).unwrap_or_default();
    if let Some(metadata) = mirror["metadata"].as_object_mut() {
        metadata.remove("uid");
    }
    mirror["apiVersion"] = json!("v1");
    mirror["kind"] = json!("Pod");
    mirror["metadata"]["annotations"][MIRROR] = json!(annotation(pod, HASH));
    mirror["metadata"]["annotations"]["kubernetes.io/config.seen"] = json!(now.to_string());
    let (name, uid) = (&node["metadata"]["name"], &node["metadata"]["uid"]);
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid, "controller": true});
    mirror["metadata"]["ownerReferences"] = json!([owner]);
    mirror
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pod(name: &str, annotations: Value, deleted: bool) -> Arc<Pod> {
        let mut metadata = json!({"name": name, "namespace": "d", "uid": format!("{name}-uid"), "annotations": annotations});
        if deleted {
            metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Arc::new(serde_json::from_value(json!({"metadata": metadata})).unwrap())
    }

    fn check(statics: &[(&str, &str)], api: &[(&str, Option<&str>, bool)], expected: &[&str]) {
        let statics: Vec<_> = statics.iter().map(|(name, hash)| pod(name, json!({HASH: hash}), false)).collect();
        let of = |mirror: &Option<&str>| mirror.map_or(json!({}), |hash| json!({MIRROR: hash}));
        let api: Vec<_> = api.iter().map(|(name, mirror, deleted)| pod(name, of(mirror), *deleted)).collect();
        let steps = plan(&statics, &api);
        let words = steps.iter().map(|step| match step {
            Step::Create(pod) => format!("create {}", model::name(pod)),
            Step::Delete(pod) => format!("delete {}", model::name(pod)),
        });
        assert_eq!(words.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn each_static_pod_has_its_mirror() {
        check(&[("a", "1")], &[], &["create a"]);
        check(&[("a", "1")], &[("a", Some("1"), false)], &[]);
        check(&[("a", "2")], &[("a", Some("1"), false)], &["delete a"]);
        check(&[("a", "1")], &[("a", Some("1"), true)], &["delete a"]);
        check(&[], &[("a", Some("1"), false), ("b", None, false)], &["delete a"]);
        check(&[("b", "1")], &[("b", None, false)], &[]);
    }

    #[test]
    fn a_mirror_is_the_nodes() {
        let node = json!({"metadata": {"name": "n", "uid": "node-uid"}});
        let mirror = mirror(&pod("a", json!({HASH: "1"}), false), &node, Timestamp::UNIX_EPOCH);
        assert_eq!(mirror["metadata"]["annotations"][MIRROR], "1");
        assert_eq!(mirror["metadata"]["ownerReferences"][0]["uid"], "node-uid");
        assert!(mirror["metadata"].get("uid").is_none(), "the API gives it its own");
    }
}
