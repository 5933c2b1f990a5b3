//! `/stats/summary`. What is not measured is not there.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{Figures, PodFigures, gather};
use crate::{
    Options,
    pods::model,
    runtime::{Container, ContainerStats, FileSystem, Usage},
};

/// The figures, as `kubectl get --raw /api/v1/nodes/NAME/proxy/stats/summary` shows them.
pub async fn summary(options: &Options, pods: &[Arc<Pod>]) -> Value {
    render(&gather(options, pods).await)
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn time_of(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).map(time).unwrap_or_default()
}

fn cpu(at: &str, usage: &Usage) -> Value {
    json!({ "time": at, "usageCoreNanoSeconds": usage.cpu_nanoseconds })
}

fn memory(at: &str, usage: &Usage, available: Option<u64>) -> Value {
    let mut memory = json!({
        "time": at,
        "usageBytes": usage.memory_usage,
        "workingSetBytes": usage.memory_working_set,
        "rssBytes": usage.memory_rss,
        "pageFaults": usage.page_faults.0,
        "majorPageFaults": usage.page_faults.1,
    });
    if let Some(available) = available {
        memory["availableBytes"] = json!(available);
    }
    memory
}

fn file_system(at: &str, room: &FileSystem, used_bytes: u64, inodes_used: u64) -> Value {
    json!({
        "time": at,
        "availableBytes": room.available_bytes,
        "capacityBytes": room.capacity_bytes,
        "usedBytes": used_bytes,
        "inodesFree": room.inodes_free,
        "inodes": room.inodes,
        "inodesUsed": inodes_used,
    })
}

fn container(at: &str, room: &FileSystem, (container, stats): &(Container, ContainerStats)) -> Value {
    json!({
        "name": container.name,
        "startTime": time_of(container.started_at),
        "cpu": cpu(at, &stats.usage),
        "memory": memory(at, &stats.usage, None),
        "rootfs": file_system(at, room, stats.written_bytes, stats.written_inodes),
    })
}

fn pod(at: &str, room: &FileSystem, figures: &PodFigures) -> Value {
    let usage = &figures.sandbox.usage;
    let written = figures.containers.iter().fold((0, 0), |sum, (_, stats)| {
        let (bytes, inodes): (u64, u64) = sum;
        (bytes + stats.written_bytes, inodes + stats.written_inodes)
    });
    let mut summary = json!({
        "podRef": {
            "name": model::name(&figures.pod), "namespace": model::namespace(&figures.pod), "uid": model::uid(&figures.pod),
        },
        "startTime": time_of(figures.started_at),
        "containers": figures.containers.iter().map(|one| container(at, room, one)).collect::<Vec<_>>(),
        "cpu": cpu(at, usage),
        "memory": memory(at, usage, None),
        "ephemeral-storage": file_system(at, room, written.0, written.1),
        "process_stats": { "process_count": usage.processes },
    });
    if let Some(network) = &figures.sandbox.network {
        let carried = json!({
            "name": "eth0",
            "rxBytes": network.received.0, "rxErrors": network.received.1,
            "txBytes": network.sent.0, "txErrors": network.sent.1,
        });
        summary["network"] = carried.clone();
        summary["network"]["time"] = json!(at);
        summary["network"]["interfaces"] = json!([carried]);
    }
    summary
}

fn render(figures: &Figures) -> Value {
    let at = time(figures.at);
    let room = &figures.node.file_system;
    let used = room.capacity_bytes.saturating_sub(room.available_bytes);
    let inodes_used = room.inodes.saturating_sub(room.inodes_free);
    let available = figures.memory_bytes.saturating_sub(figures.node.node.memory_working_set);
    json!({
        "node": {
            "nodeName": figures.node_name,
            "systemContainers": [{
                "name": "pods",
                "startTime": null,
                "cpu": cpu(&at, &figures.node.pods),
                "memory": memory(&at, &figures.node.pods, None),
            }],
            "startTime": null,
            "cpu": cpu(&at, &figures.node.node),
            "memory": memory(&at, &figures.node.node, Some(available)),
            "fs": file_system(&at, room, used, inodes_used),
            "runtime": { "imageFs": file_system(&at, room, figures.node.image_bytes, inodes_used) },
        },
        "pods": figures.pods.iter().map(|one| pod(&at, room, one)).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{NodeStats, SandboxStats};

    #[test]
    fn a_pods_figures_stand_beside_its_name() {
        let usage = Usage { cpu_nanoseconds: 5, memory_working_set: 7, ..Usage::default() };
        let mut pod = Pod::default();
        pod.metadata.name = Some("web".into());
        let figures = Figures {
            node: NodeStats { node: Usage { memory_working_set: 30, ..Usage::default() }, ..NodeStats::default() },
            pods: vec![PodFigures {
                pod: Arc::new(pod),
                sandbox: SandboxStats { usage, ..SandboxStats::default() },
                containers: Vec::new(),
                started_at: 0,
            }],
            memory_bytes: 100,
            node_name: "a".into(),
            at: Timestamp::UNIX_EPOCH,
        };
        let shown = render(&figures);
        assert_eq!(shown["pods"][0]["podRef"]["name"], "web");
        assert_eq!(shown["pods"][0]["cpu"]["usageCoreNanoSeconds"], 5);
        assert_eq!(shown["pods"][0]["memory"]["workingSetBytes"], 7);
        assert_eq!(shown["node"]["memory"]["availableBytes"], 70);
        assert!(shown["pods"][0].get("network").is_none());
    }
}
