//! Graceful node shutdown: pods end in order before the machine does.
//!
//! In: the word that the machine goes down (SIGPWR to the agent, which `kontiki node stop` sends). Out: a node that says
//! so and takes no pod any more; pods that end by priority ([`plan`], pure), with time to do so, as Failed. A kubelet
//! that only ends itself (SIGTERM) ends no pod.
//! <https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#graceful-node-shutdown>

mod plan;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kontiki_client::events::{EventType, Recorder};

pub use self::plan::{Period, groups, periods, total};
use crate::{
    Options,
    health::NodeHealth,
    node,
    pods::{Handle, model, model::Ended},
    runtime::ContainerState,
};

/// What is left to tell when a group's time is over may take so long.
const TELL_DEADLINE: Duration = Duration::from_secs(2);
/// Without news pods are looked at after this time.
const LOOK_PERIOD: Duration = Duration::from_millis(200);
/// Of a pod that ended because of it.
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";

/// Ends all pods; returns once they have ended or their time is over.
pub async fn run(options: &Options, health: &NodeHealth, pods: &Handle, recorder: &Recorder) {
    let periods = &options.configuration.shutdown;
    if periods.is_empty() {
        return;
    }
    health.shut_down();
    let (kind, reason) = (EventType::Normal, "NodeShutdown");
    recorder.event(&node::reference(&options.node_name), kind, reason, "Shutdown manager detected shutdown event");
    if tokio::time::timeout(TELL_DEADLINE, pods.synced()).await.is_err() {
        tracing::warn!("no API server says which pods there are; they end with the machine");
    }
    for group in groups(periods, &pods.active()) {
        tracing::info!(pods = group.pods.len(), grace = ?group.grace, "pods end because the machine goes down");
        for (pod, grace) in &group.pods {
            let ended = Ended {
                reason: "Terminated".to_owned(),
                message: MESSAGE.to_owned(),
                grace: Some(*grace),
                is_disruption: true,
                ..Ended::default()
            };
            pods.end(model::uid(pod), ended);
        }
        let over = async {
            for (pod, _) in &group.pods {
                until_over(options, pods, pod).await;
            }
        };
        if tokio::time::timeout(group.grace + TELL_DEADLINE, over).await.is_err() {
            tracing::warn!("pods have not ended in their time; the machine goes down nevertheless");
        }
    }
    health.until_told(TELL_DEADLINE).await;
}

/// Waits until nothing of a pod runs and the API has heard of it.
async fn until_over(options: &Options, pods: &Handle, pod: &Pod) {
    while is_running(options, pod).await || !pods.is_over(pod) {
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}

async fn is_running(options: &Options, pod: &Pod) -> bool {
    let containers = options.runtime.list_containers().await.unwrap_or_default();
    containers.iter().any(|container| {
        let owner = container.labels.get("io.kubernetes.pod.uid").map(String::as_str);
        container.state == ContainerState::Running && owner == Some(model::uid(pod))
    })
}
