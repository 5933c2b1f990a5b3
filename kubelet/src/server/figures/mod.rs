//! Figures of the node and its pods: gathered once a request, told as JSON or as metrics.

mod exposition;
mod summary;

use std::sync::Arc;

use http::Response;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

pub use self::{
    exposition::{cadvisor, kubelet, resource},
    summary::summary,
};
use super::Body;
use crate::{
    Options,
    pods::model,
    runtime::{Container, ContainerState, ContainerStats, NodeStats, SandboxState, SandboxStats},
};

/// One pod's.
pub struct PodFigures {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Of all its containers together.
    pub sandbox: SandboxStats,
    /// Of each that runs.
    pub containers: Vec<(Container, ContainerStats)>,
    /// Nanoseconds since the epoch.
    pub started_at: i64,
}

/// Everything's.
pub struct Figures {
    /// The node's.
    pub node: NodeStats,
    /// The pods'.
    pub pods: Vec<PodFigures>,
    /// Memory of the node, bytes.
    pub memory_bytes: u64,
    /// Name of the node.
    pub node_name: String,
    /// When they were gathered.
    pub at: jiff::Timestamp,
}

/// Looks at everything that runs. What ends meanwhile is left out.
async fn gather(options: &Options, pods: &[Arc<Pod>]) -> Figures {
    let runtime = &options.runtime;
    let sandboxes = runtime.list_sandboxes().await.unwrap_or_default();
    let running = runtime.list_containers().await.unwrap_or_default();
    let mut figures = Vec::new();
    for sandbox in sandboxes.into_iter().filter(|sandbox| sandbox.state == SandboxState::Ready) {
        let Some(pod) = pods.iter().find(|pod| model::uid(pod) == sandbox.pod_uid) else { continue };
        let Ok(stats) = runtime.sandbox_stats(&sandbox.id).await else { continue };
        let mut containers = Vec::new();
        for container in &running {
            if container.sandbox_id == sandbox.id
                && container.state == ContainerState::Running
                && let Ok(stats) = runtime.container_stats(&container.id).await
            {
                containers.push((container.clone(), stats));
            }
        }
        containers.sort_by(|(left, _), (right, _)| left.name.cmp(&right.name));
        figures.push(PodFigures { pod: Arc::clone(pod), sandbox: stats, containers, started_at: sandbox.created_at });
    }
    figures.sort_by_key(|one| (model::namespace(&one.pod).to_owned(), model::name(&one.pod).to_owned()));
    Figures {
        node: runtime.node_stats().await.unwrap_or_default(),
        pods: figures,
        memory_bytes: options.capacity.memory_bytes,
        node_name: options.node_name.clone(),
        at: jiff::Timestamp::now(),
    }
}

/// Metrics, as scrapers take them.
pub fn text(metrics: &str) -> Response<Body> {
    let mut response = super::text(http::StatusCode::OK, metrics);
    let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert("content-type", kind);
    response
}

/// What the kubelet was started with, in the words of its configuration.
pub fn configuration(options: &Options) -> Value {
    let configuration = &options.configuration;
    let in_words = |span: std::time::Duration| format!("{}s", span.as_secs());
    let eviction: std::collections::BTreeMap<_, _> =
        configuration.eviction.hard.iter().map(|(signal, least)| (signal.name(), least.to_string())).collect();
    let shutdown = configuration
        .shutdown
        .iter()
        .map(|period| json!({ "priority": period.priority, "shutdownGracePeriodSeconds": period.grace.as_secs() }));
    json!({ "kubeletconfig": {
        "authentication": { "webhook": { "enabled": true }, "anonymous": { "enabled": false } },
        "authorization": { "mode": "Webhook" },
        "clusterDomain": options.cluster_domain,
        "clusterDNS": options.cluster_dns.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "maxPods": options.capacity.pods,
        "port": options.listen.port(),
        "cgroupDriver": "cgroupfs",
        "containerLogMaxSize": configuration.logs.bytes_max.map_or_else(|| "-1".to_owned(), |bytes| bytes.to_string()),
        "containerLogMaxFiles": configuration.logs.files_max,
        "containerLogMonitorInterval": in_words(configuration.logs_period),
        "seccompDefault": configuration.seccomp_default,
        "staticPodPath": configuration.static_pods,
        "evictionHard": eviction,
        "evictionPressureTransitionPeriod": in_words(configuration.eviction.transition),
        "imageGCHighThresholdPercent": configuration.images.high,
        "imageGCLowThresholdPercent": configuration.images.low,
        "shutdownGracePeriodByPodPriority": shutdown.collect::<Vec<_>>(),
    }})
}
