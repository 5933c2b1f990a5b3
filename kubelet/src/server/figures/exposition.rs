//! Figures as metrics: `/metrics/resource`, which metrics servers read, `/metrics/cadvisor` and the kubelet's own.

use std::{fmt::Write, sync::Arc};

use k8s_openapi::api::core::v1::Pod;

use super::{Figures, gather};
use crate::{Options, pods::model};

/// One metric with its samples.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    /// Labels as they are written, value.
    samples: Vec<(String, f64)>,
}

impl Metric {
    fn new(name: &'static str, kind: &'static str, help: &'static str) -> Self {
        Self { name, kind, help, samples: Vec::new() }
    }

    fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        self.samples.push((if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) }, value));
    }
}

fn write(metrics: &[Metric], milliseconds: Option<i64>) -> String {
    let mut text = String::new();
    for metric in metrics {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {} {}\n# TYPE {} {}", metric.name, metric.help, metric.name, metric.kind);
        for (labels, value) in &metric.samples {
            let at = milliseconds.map(|at| format!(" {at}")).unwrap_or_default();
            let _ = writeln!(text, "{}{labels} {value}{at}", metric.name);
        }
    }
    text
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floating-point numbers")]
fn number(value: u64) -> f64 {
    value as f64
}

fn seconds(nanoseconds: u64) -> f64 {
    number(nanoseconds) / 1e9
}

/// What a metrics server reads.
pub async fn resource(options: &Options, pods: &[Arc<Pod>]) -> String {
    let figures = gather(options, pods).await;
    write(&resources(&figures), Some(figures.at.as_millisecond()))
}

fn resources(figures: &Figures) -> Vec<Metric> {
    let counter = |name, help| Metric::new(name, "counter", help);
    let gauge = |name, help| Metric::new(name, "gauge", help);
    let mut container_cpu =
        counter("container_cpu_usage_seconds_total", "[STABLE] Cumulative cpu time consumed by the container in core-seconds");
    let mut container_memory =
        gauge("container_memory_working_set_bytes", "[STABLE] Current working set of the container in bytes");
    let mut container_start =
        gauge("container_start_time_seconds", "[STABLE] Start time of the container since unix epoch in seconds");
    let mut node_cpu =
        counter("node_cpu_usage_seconds_total", "[STABLE] Cumulative cpu time consumed by the node in core-seconds");
    let mut node_memory = gauge("node_memory_working_set_bytes", "[STABLE] Current working set of the node in bytes");
    let mut pod_cpu = counter("pod_cpu_usage_seconds_total", "[STABLE] Cumulative cpu time consumed by the pod in core-seconds");
    let mut pod_memory = gauge("pod_memory_working_set_bytes", "[STABLE] Current working set of the pod in bytes");
    let mut failed =
        gauge("resource_scrape_error", "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise");
    for one in &figures.pods {
        let pod = [("namespace", model::namespace(&one.pod)), ("pod", model::name(&one.pod))];
        for (container, stats) in &one.containers {
            let labels = [("container", container.name.as_str()), pod[0], pod[1]];
            container_cpu.add(&labels, seconds(stats.usage.cpu_nanoseconds));
            container_memory.add(&labels, number(stats.usage.memory_working_set));
            container_start.add(&labels, seconds(u64::try_from(container.started_at).unwrap_or(0)));
        }
        pod_cpu.add(&pod, seconds(one.sandbox.usage.cpu_nanoseconds));
        pod_memory.add(&pod, number(one.sandbox.usage.memory_working_set));
    }
    node_cpu.add(&[], seconds(figures.node.node.cpu_nanoseconds));
    node_memory.add(&[], number(figures.node.node.memory_working_set));
    failed.add(&[], 0.0);
    vec![container_cpu, container_memory, container_start, node_cpu, node_memory, pod_cpu, pod_memory, failed]
}

/// What dashboards made for cAdvisor read, as far as it is measured.
pub async fn cadvisor(options: &Options, pods: &[Arc<Pod>]) -> String {
    let figures = gather(options, pods).await;
    let mut cpu = Metric::new("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.");
    let mut set = Metric::new("container_memory_working_set_bytes", "gauge", "Current working set in bytes.");
    let mut usage = Metric::new("container_memory_usage_bytes", "gauge", "Current memory usage in bytes, including all memory.");
    let mut rss = Metric::new("container_memory_rss", "gauge", "Size of RSS in bytes.");
    let mut received = Metric::new("container_network_receive_bytes_total", "counter", "Cumulative count of bytes received");
    let mut sent = Metric::new("container_network_transmit_bytes_total", "counter", "Cumulative count of bytes transmitted");
    for one in &figures.pods {
        let (namespace, pod) = (model::namespace(&one.pod), model::name(&one.pod));
        for (container, stats) in &one.containers {
            let id = format!("/kubepods/pod{}/{}", model::uid(&one.pod), container.id);
            let labels = [
                ("container", container.name.as_str()),
                ("id", &id),
                ("image", &container.image),
                ("name", &container.id),
                ("namespace", namespace),
                ("pod", pod),
            ];
            cpu.add(&[labels.as_slice(), &[("cpu", "total")]].concat(), seconds(stats.usage.cpu_nanoseconds));
            set.add(&labels, number(stats.usage.memory_working_set));
            usage.add(&labels, number(stats.usage.memory_usage));
            rss.add(&labels, number(stats.usage.memory_rss));
        }
        if let Some(network) = &one.sandbox.network {
            let labels = [("interface", "eth0"), ("namespace", namespace), ("pod", pod)];
            received.add(&labels, number(network.received.0));
            sent.add(&labels, number(network.sent.0));
        }
    }
    write(&[cpu, set, usage, rss, received, sent], None)
}

/// The kubelet's own.
pub async fn kubelet(options: &Options, pods: &[Arc<Pod>]) -> String {
    let figures = gather(options, pods).await;
    let mut name = Metric::new("kubelet_node_name", "gauge", "[ALPHA] The node's name. The count is always 1.");
    name.add(&[("node", &options.node_name)], 1.0);
    let mut running = Metric::new("kubelet_running_pods", "gauge", "[BETA] Number of pods that have a running pod sandbox");
    running.add(&[], number(figures.pods.len() as u64));
    let mut containers = Metric::new("kubelet_running_containers", "gauge", "[ALPHA] Number of containers currently running");
    let count: usize = figures.pods.iter().map(|one| one.containers.len()).sum();
    containers.add(&[("container_state", "running")], number(count as u64));
    write(&[name, running, containers], None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        runtime::{NodeStats, SandboxStats, Usage},
        server::figures::PodFigures,
    };

    #[test]
    fn what_a_metrics_server_reads() {
        let mut pod = Pod::default();
        pod.metadata.name = Some("web".into());
        pod.metadata.namespace = Some("n".into());
        let usage = Usage { cpu_nanoseconds: 1_500_000_000, memory_working_set: 4096, ..Usage::default() };
        let figures = Figures {
            node: NodeStats { node: usage, ..NodeStats::default() },
            pods: vec![PodFigures {
                pod: Arc::new(pod),
                sandbox: SandboxStats { usage, ..SandboxStats::default() },
                containers: Vec::new(),
                started_at: 0,
            }],
            memory_bytes: 0,
            node_name: "a".into(),
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let text = write(&resources(&figures), Some(7));
        assert!(text.contains("pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"web\"} 1.5 7\n"), "{text}");
        assert!(text.contains("# TYPE node_memory_working_set_bytes gauge\nnode_memory_working_set_bytes 4096 7\n"), "{text}");
    }
}
