//! A node that is lost and comes back, as the users of its pods see it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use kontiki_chaos_tests::{
    cluster::{Cluster, Size, eventually},
    footprint::{has_pod, rules},
    kubectl::{Kubectl, programs},
    node::init,
    workload::{Clock, requests::Requests},
};
use serde_json::Value;

/// One server: what is tried here is the node's loss, not the server's.
pub const SIZE: Size = Size { servers: 1, agents: 2 };
/// Kubernetes' default is 50 s; a node tells of itself every 10 s.
pub const SETTINGS: [(&str, &str); 1] = [("KONTIKI_NODE_MONITOR_GRACE_PERIOD_SECONDS", "14")];
const DEADLINE: Duration = Duration::from_secs(60);
const SERVED: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: spread}
spec:
  replicas: 2
  selector: {matchLabels: {app: spread}}
  template:
    metadata: {labels: {app: spread}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
        - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 3}
        - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 3}
      topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: spread}}}
      containers:
        - {name: main, image: "nginx:1.21", readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: spread}
spec: {selector: {app: spread}, ports: [{port: 80}]}
"#;

fn get(kubectl: &Kubectl, arguments: &[&str]) -> Result<Value> {
    serde_json::from_str(&kubectl.run(&[&["get", "-o", "json"], arguments].concat())?).context("parse what kubectl printed")
}

fn pods(kubectl: &Kubectl) -> Result<Vec<Value>> {
    Ok(get(kubectl, &["pods", "-l", "app=spread"])?["items"].as_array().cloned().unwrap_or_default())
}

fn on<'a>(pods: &'a [Value], node: &str) -> Vec<&'a Value> {
    pods.iter().filter(|pod| pod["spec"]["nodeName"] == node).collect()
}

fn is(object: &Value, condition: &str, status: &str) -> bool {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|one| one["type"] == condition && one["status"] == status)
}

fn taints(node: &Value) -> Vec<(String, String)> {
    let text = |taint: &Value, field: &str| taint[field].as_str().unwrap_or_default().to_owned();
    node["spec"]["taints"].as_array().into_iter().flatten().map(|taint| (text(taint, "key"), text(taint, "effect"))).collect()
}

/// Addresses of endpoints that are ready.
fn endpoints(kubectl: &Kubectl) -> Result<Vec<String>> {
    let slices = get(kubectl, &["endpointslices", "-l", "kubernetes.io/service-name=spread"])?;
    let all =
        slices["items"].as_array().into_iter().flatten().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let ready = all.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    Ok(ready.filter_map(|endpoint| endpoint["addresses"][0].as_str().map(str::to_owned)).collect())
}

/// Aim: what ran on a lost node runs elsewhere, and the node gives up what is no longer its own when it is back. Method: one
/// of two agents is isolated until its pod is replaced; then it rejoins. The other node's requests fail only until
/// the lost node's endpoints are gone.
pub fn a_lost_node_is_replaced_and_cleans_up(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(programs().last().context("no kubectl")?, &cluster.kubeconfig);
    let records = cluster.records();
    eventually(DEADLINE, "a service account", || kubectl.run(&["get", "serviceaccount", "default"]).map(Some))?;
    kubectl.run_with(&["apply", "-f", "-"], SERVED)?;
    kubectl.run(&["rollout", "status", "deployment/spread", "--timeout=50s"])?;
    let before = pods(&kubectl)?;
    let (lost, kept) = ("agent-2", "agent-1");
    ensure!(on(&before, lost).len() == 1 && on(&before, kept).len() == 1, "the pods are not spread");
    let doomed = on(&before, lost)[0].clone();
    let uid = doomed["metadata"]["uid"].as_str().context("no uid")?.to_owned();
    let address = doomed["status"]["podIP"].as_str().context("no address of the pod")?;
    let clock = Clock::start();
    let mut requests = Requests::new();
    let service = get(&kubectl, &["service", "spread"])?["spec"]["clusterIP"].as_str().context("no address")?.to_owned();
    requests.from_node(&records, clock, kept, SocketAddr::new(service.parse()?, 80), Duration::from_millis(50));

    cluster.act("isolate", lost)?;
    let began = Instant::now();
    let after = |what: &str| println!("{what} {:.1} s after the node was cut off", began.elapsed().as_secs_f64());
    let node = eventually(DEADLINE, "the node is not ready", || {
        let node = get(&kubectl, &["node", lost])?;
        Ok((is(&node, "Ready", "Unknown") && taints(&node).len() >= 2).then_some(node))
    })?;
    after("tainted");
    for effect in ["NoSchedule", "NoExecute"] {
        ensure!(taints(&node).contains(&("node.kubernetes.io/unreachable".into(), effect.into())), "{:?}", taints(&node));
    }
    eventually(DEADLINE, "its endpoint is gone", || {
        Ok((!endpoints(&kubectl)?.iter().any(|endpoint| endpoint == address)).then_some(()))
    })?;
    after("out of the endpoints");
    eventually(DEADLINE, "the other node's rules forget it", || {
        Ok((!rules(&records, kept)?.contains(&format!("\"{address}\""))).then_some(()))
    })?;
    let gone = clock.now();
    eventually(DEADLINE, "another pod runs elsewhere", || {
        let now = pods(&kubectl)?;
        Ok((on(&now, kept).iter().filter(|pod| is(pod, "Ready", "True")).count() == 2).then_some(()))
    })?;
    after("replaced");
    let evicted = get(&kubectl, &["pod", doomed["metadata"]["name"].as_str().unwrap_or_default()])?;
    ensure!(!evicted["metadata"]["deletionTimestamp"].is_null(), "{evicted}");
    ensure!(is(&evicted, "DisruptionTarget", "True"), "{evicted}");
    ensure!(has_pod(&records, lost, &uid), "the pod ended on a node that nobody could tell to");

    cluster.act("rejoin", lost)?;
    let began = Instant::now();
    eventually(DEADLINE, "the node is ready and takes pods again", || {
        let node = get(&kubectl, &["node", lost])?;
        Ok((is(&node, "Ready", "True") && taints(&node).is_empty()).then_some(()))
    })?;
    eventually(DEADLINE, "the evicted pod and its processes are gone", || {
        let listed = pods(&kubectl)?.iter().any(|pod| pod["metadata"]["uid"] == uid.as_str());
        let runs = has_pod(&records, lost, &uid);
        Ok((!listed && !runs).then_some(()))
    })?;
    println!("cleaned up {:.1} s after its return", began.elapsed().as_secs_f64());
    kubectl.run(&["scale", "deployment/spread", "--replicas=4"])?;
    kubectl.run(&["rollout", "status", "deployment/spread", "--timeout=50s"])?;
    ensure!(!on(&pods(&kubectl)?, lost).is_empty(), "the node that is back takes no pods");
    requests.stop();
    let all = requests.record.all();
    let late: Vec<_> = all.iter().filter(|request| request.began > gone).filter_map(|request| request.failure.as_ref()).collect();
    let failed = all.iter().filter(|request| request.failure.is_some()).count();
    println!("{failed} of {} requests failed, all before the endpoint was gone", all.len());
    ensure!(late.is_empty(), "requests failed after the endpoint was gone: {late:?}");
    // Requests would fail while a node with endpoints stands still: they have ended.
    pause_stop_and_kill(cluster, lost)
}

/// A node that is paused stands still, one that is stopped stays down until it is started, one that is killed is back by itself.
fn pause_stop_and_kill(cluster: &Cluster, node: &str) -> Result<()> {
    let records = cluster.records();
    let before = init(&records, node)?;
    let is_stopped = || -> Result<bool> { Ok(std::fs::read_to_string(format!("/proc/{before}/stat"))?.contains(") T ")) };
    cluster.act("pause", node)?;
    eventually(DEADLINE, "the node stands still", || Ok(is_stopped()?.then_some(())))?;
    cluster.act("resume", node)?;
    eventually(DEADLINE, "the node goes on", || Ok((!is_stopped()?).then_some(())))?;
    cluster.act("kill", node)?;
    eventually(DEADLINE, "the node is back", || Ok(init(&records, node).ok().filter(|now| *now != before)))?;
    cluster.act("stop", node)?;
    ensure!(init(&records, node).is_err(), "{node} still runs");
    cluster.act("start", node)?;
    eventually(DEADLINE, "the node runs again", || Ok(init(&records, node).ok()))?;
    let unknown = cluster.act("stop", "nobody").err().context("a node that is not there was stopped")?.to_string();
    ensure!(unknown.contains("has no node nobody; it has server-1, agent-1, agent-2"), "{unknown}");
    Ok(())
}
