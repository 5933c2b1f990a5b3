//! The node's heartbeat: a Lease in `kube-node-lease` renewed every ten seconds.

use std::time::Duration;

use jiff::Timestamp;
use kontiki_api::resources::{LEASES, NODES};
use kontiki_client::{Error, Patch, leader::micro_time};
use serde_json::{Value, json};

use crate::Options;

const NAMESPACE: &str = "kube-node-lease";
/// Seconds after which others think the node dead.
const DURATION_SECONDS: u32 = 40;
/// A quarter of it, as Kubernetes renews.
const PERIOD: Duration = Duration::from_secs(10);
/// Pause after an error.
const RETRY: Duration = Duration::from_millis(500);

/// Renews for ever.
pub async fn renew(options: &Options) {
    let mut node_uid = String::new();
    loop {
        if node_uid.is_empty() {
            let node: Result<Value, _> = options.client.get(NODES, "", &options.node_name).await;
            node_uid = node.ok().and_then(|node| node["metadata"]["uid"].as_str().map(str::to_owned)).unwrap_or_default();
        }
        let wait = match renew_once(options, &node_uid).await {
            Ok(()) => PERIOD,
            Err(error) => {
                tracing::warn!(%error, "cannot renew the node's lease");
                RETRY
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn renew_once(options: &Options, node_uid: &str) -> Result<(), Error> {
    let renew_time = micro_time(Timestamp::now());
    let name = &options.node_name;
    let patch = Patch::Merge(json!({ "spec": { "renewTime": renew_time } }));
    match options.client.patch::<Value>(LEASES, NAMESPACE, name, None, patch).await {
        Err(error) if error.is_not_found() => {
            let owners: Vec<Value> = if node_uid.is_empty() {
                Vec::new()
            } else {
                vec![json!({ "apiVersion": "v1", "kind": "Node", "name": name, "uid": node_uid })]
            };
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": { "name": name, "namespace": NAMESPACE, "ownerReferences": owners },
                "spec": { "holderIdentity": name, "leaseDurationSeconds": DURATION_SECONDS, "renewTime": renew_time },
            });
            options.client.create::<Value>(LEASES, NAMESPACE, &lease).await.map(drop)
        }
        other => other.map(drop),
    }
}
