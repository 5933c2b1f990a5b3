//! The node in the cluster: registered once, kept alive by a Lease, described by its status.
//!
//! In: what the machine has, whether its network is ready. Out: the Node object, patches of its status when it
//! changes and every five minutes, a Lease renewed every ten seconds.
//! <https://kubernetes.io/docs/concepts/architecture/nodes/#node-heartbeats>

mod lease;
pub mod object;

use std::time::Duration;

use jiff::Timestamp;
use kontiki_api::resources::NODES;
use kontiki_client::{Error, Patch, events::ObjectReference};
use rand::Rng;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::object::{Conditions, describe, status};
use crate::{Options, health::NodeHealth};

/// Longest time between two patches of the status.
const REPORT_PERIOD: Duration = Duration::from_secs(300);
/// How often the status is compared with what was sent.
const LOOK_PERIOD: Duration = Duration::from_secs(10);
/// First and longest pause after an error.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(7));

/// The node, as events refer to it: Kubernetes has the name for the UID there.
pub fn reference(node_name: &str) -> ObjectReference {
    let name = node_name.to_owned();
    ObjectReference { api_version: "v1".into(), kind: "Node".into(), uid: name.clone(), name, ..ObjectReference::default() }
}

/// Keeps the node registered and alive until `cancel`.
pub async fn run(options: Options, health: NodeHealth, cancel: CancellationToken) {
    let work = async {
        let conditions = register(&options).await;
        tokio::join!(lease::renew(&options), report(&options, &health, conditions));
    };
    tokio::select! {
        () = work => {}
        () = cancel.cancelled() => {}
    }
}

/// Registers the node; ends when it is there. The conditions are those that it has.
async fn register(options: &Options) -> Conditions {
    let mut pause = RETRY.0;
    loop {
        match try_register(options).await {
            Ok(conditions) => {
                tracing::info!(node = options.node_name, "registered");
                return conditions;
            }
            Err(error) => tracing::warn!(%error, "cannot register the node; trying again"),
        }
        let jitter = rand::rng().random_range(0.75..1.25);
        tokio::time::sleep(pause.mul_f64(jitter)).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

async fn try_register(options: &Options) -> Result<Conditions, Error> {
    let mut node = describe(options);
    match options.client.create::<Value>(NODES, "", &node).await {
        Ok(_) => Ok(Conditions::default()),
        Err(error) if error.is_already_exists() => {
            // What a user or a controller set stays; what the machine says is said again.
            if let Some(spec) = node.as_object_mut() {
                spec.remove("spec");
            }
            let found: Value = options.client.patch(NODES, "", &options.node_name, None, Patch::Strategic(node)).await?;
            Ok(Conditions::of(&found))
        }
        Err(error) => Err(error),
    }
}

async fn report(options: &Options, node_health: &NodeHealth, mut conditions: Conditions) {
    let mut network = options.network_ready.clone();
    let mut health = node_health.follow();
    let mut sent: Option<(Value, tokio::time::Instant)> = None;
    let mut pause = RETRY.0;
    loop {
        let images = options.runtime.list_images().await.unwrap_or_default();
        let ready = *network.borrow_and_update();
        let now = Timestamp::now();
        let told = health.borrow_and_update().clone();
        conditions.observe(ready, &told, now);
        let wanted = status(options, &images, &conditions, None);
        let due = sent.as_ref().is_none_or(|(before, at)| *before != wanted || at.elapsed() >= REPORT_PERIOD);
        let mut wait = LOOK_PERIOD;
        if due {
            let body = status(options, &images, &conditions, Some(now));
            let patch = Patch::Strategic(serde_json::json!({ "status": body }));
            match options.client.patch::<Value>(NODES, "", &options.node_name, Some("status"), patch).await {
                Ok(_) => {
                    sent = Some((wanted, tokio::time::Instant::now()));
                    node_health.was_told(told);
                    pause = RETRY.0;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot report the node's status; trying again");
                    if error.is_not_found() {
                        // Somebody deleted the node: it registers again.
                        conditions = register(options).await;
                    }
                    wait = pause;
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // Its sender goes once the network is ready; that is no news, and must not delay any.
            Ok(()) = network.changed() => {}
            // Its sender is held here.
            _ = health.changed() => {}
        }
    }
}
