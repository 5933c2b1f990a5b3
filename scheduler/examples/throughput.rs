//! Counts decisions: so many pods of a few shapes onto so many nodes, with nothing but the decision in the way.
//!
//! `cargo run --release -p kontiki-scheduler --example throughput -- 1000 10000` prints decisions a second.

use std::{sync::Arc, time::Instant};

use kontiki_scheduler::{
    cluster::Cluster,
    cycle::{Decision, Scheduler},
    model::{Node, Pod},
};
use serde_json::json;

fn node(number: usize) -> Result<Node, serde_json::Error> {
    let name = format!("node-{number}");
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", number % 3)}},
        "status": {"allocatable": {"cpu": "16", "memory": "64Gi", "pods": "110"}},
    }))
}

fn pod(number: usize, shape: &str) -> Result<Pod, serde_json::Error> {
    let set = number % 4;
    let mut pod = json!({
        "metadata": {
            "name": format!("pod-{number}"), "namespace": "default", "uid": number.to_string(), "labels": {"app": format!("app-{set}")},
        },
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]},
    });
    let selector = json!({"matchLabels": {"app": format!("app-{set}")}});
    match shape {
        "spread" => {
            pod["spec"]["topologySpreadConstraints"] = json!([{
                "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector,
            }]);
        }
        "affinity" => {
            let term = json!({"labelSelector": selector, "topologyKey": "topology.kubernetes.io/zone"});
            pod["spec"]["affinity"] = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        }
        _ => {}
    }
    serde_json::from_value(pod)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let (nodes, pods) = (numbers.first().copied().unwrap_or(1000), numbers.get(1).copied().unwrap_or(10_000));
    for shape in ["plain", "spread", "affinity"] {
        let mut cluster = Cluster::default();
        for number in 0..nodes {
            cluster.set_node(Arc::new(node(number)?));
        }
        cluster.reorder();
        let waiting = (0..pods).map(|number| pod(number, shape).map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let mut scheduler = Scheduler::default();
        let (began, mut placed) = (Instant::now(), 0);
        for pod in waiting {
            if let Decision::Node { name, .. } = scheduler.decide(&pod, &cluster) {
                cluster.place(pod, &name);
                placed += 1;
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        println!("{shape}: {placed} of {pods} pods on {nodes} nodes, {:.0} decisions/s", pods as f64 / seconds);
    }
    Ok(())
}
