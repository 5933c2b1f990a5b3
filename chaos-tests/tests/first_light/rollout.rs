//! Changes under load: a new image while clients ask, and a node that is emptied within a budget.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use kontiki_chaos_tests::{
    api::{Api, version},
    cluster::eventually,
    history::Request,
    kubectl::Kubectl,
    workload::{Clock, requests::Requests, watches},
};
use serde_json::Value;

use super::{DEADLINE, Shared};

const NAMESPACE: &str = "rollout";
const REPLICAS: usize = 3;
/// From each of two nodes: 50 requests a second together.
const PERIOD: Duration = Duration::from_millis(40);
/// The same image under two names.
const IMAGES: [&str; 2] = ["nginx:1.21", "imported.example/nginx:1.21"];
/// Of a hundred requests without a `preStop` hook, at most so many may fail.
const FAILED_PERCENT_MAX: usize = 5;
const SERVED: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: steady, namespace: rollout}
spec:
  replicas: 3
  selector: {matchLabels: {app: steady}}
  template:
    metadata: {labels: {app: steady}}
    spec:
      containers:
        - name: main
          image: nginx:1.21
          imagePullPolicy: IfNotPresent
          readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}
          lifecycle: {preStop: {sleep: {seconds: 2}}}
---
apiVersion: v1
kind: Service
metadata: {name: steady, namespace: rollout}
spec: {selector: {app: steady}, ports: [{port: 80}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: steady, namespace: rollout}
spec: {minAvailable: 2, selector: {matchLabels: {app: steady}}}
"#;

fn run(kubectl: &Kubectl, arguments: &[&str]) -> Result<String> {
    kubectl.run(&[&["-n", NAMESPACE], arguments].concat())
}

fn get(kubectl: &Kubectl, arguments: &[&str]) -> Result<Value> {
    serde_json::from_str(&run(kubectl, &[&["get", "-o", "json"], arguments].concat())?).context("parse what kubectl printed")
}

/// Waits until there are so many pods and all of them are ready.
fn settled(kubectl: &Kubectl) -> Result<Vec<Value>> {
    run(kubectl, &["rollout", "status", "deployment/steady", "--timeout=50s"])?;
    eventually(DEADLINE, "only the new pods are there", || {
        let list = get(kubectl, &["pods", "-l", "app=steady"])?;
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        Ok((pods.len() == REPLICAS).then_some(pods))
    })
}

/// Changes the image while clients ask, and returns what became of each request.
fn change_image(shared: &Shared, kubectl: &Kubectl, service: SocketAddr, image: &str) -> Result<Vec<Request>> {
    let clock = Clock::start();
    let mut requests = Requests::new();
    for node in ["agent-1", "agent-2"] {
        requests.from_node(&shared.cluster.records(), clock, node, service, PERIOD);
    }
    eventually(DEADLINE, "requests before the change", || Ok((requests.record.count() > 20).then_some(())))?;
    run(kubectl, &["set", "image", "deployment/steady", &format!("main={image}")])?;
    settled(kubectl)?;
    let so_far = requests.record.count();
    eventually(DEADLINE, "requests after the change", || Ok((requests.record.count() > so_far + 20).then_some(())))?;
    requests.stop();
    Ok(requests.record.all())
}

fn failures(requests: &[Request]) -> Vec<&str> {
    requests.iter().filter_map(|request| request.failure.as_deref()).collect()
}

/// Aim: a new image costs no request. Method: 50 requests a second through the Service, each on a connection of its own and
/// tried once, while the image changes: none fails with a `preStop` sleep of 2 s; without it the failures are counted.
pub fn a_rollout_costs_no_request(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    shared.cluster.import(&shared.files.join("nginx.tar"))?;
    kubectl.run(&["create", "namespace", NAMESPACE])?;
    kubectl.run_with(&["apply", "-f", "-"], SERVED)?;
    settled(&kubectl)?;
    let address = get(&kubectl, &["service", "steady"])?["spec"]["clusterIP"].as_str().context("no address")?.to_owned();
    let service = SocketAddr::new(address.parse()?, 80);
    let requests = change_image(shared, &kubectl, service, IMAGES[1])?;
    let failed = failures(&requests);
    ensure!(failed.is_empty(), "{} of {} requests failed: {failed:?}", failed.len(), requests.len());
    println!("{} requests while the image changed, none failed", requests.len());
    let without = r#"[{"op": "remove", "path": "/spec/template/spec/containers/0/lifecycle"}]"#;
    run(&kubectl, &["patch", "deployment/steady", "--type=json", "-p", without])?;
    settled(&kubectl)?;
    let requests = change_image(shared, &kubectl, service, IMAGES[0])?;
    let failed = failures(&requests);
    println!("without a preStop hook {} of {} requests failed: {failed:?}", failed.len(), requests.len());
    ensure!(failed.len() * 100 <= requests.len() * FAILED_PERCENT_MAX, "too many requests failed");
    Ok(())
}

/// Aim: `kubectl drain` empties a node and keeps the budget. Method: what the budget's status says is followed meanwhile;
/// a budget that allows nothing is told in Kubernetes' words.
pub fn a_drain_keeps_the_budget(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    let pods = settled(&kubectl)?;
    let node = pods[0]["spec"]["nodeName"].as_str().context("no node")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let api = Api::new(&shared.cluster)?;
    let path = format!("/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets");
    let budgets = watches::follow(runtime.handle(), &api, &path, version(&runtime.block_on(api.get(&path))?));
    let drain = |timeout: &str| kubectl.run(&["drain", node, "--pod-selector=app=steady", &format!("--timeout={timeout}")]);
    let stricter =
        |count: usize| run(&kubectl, &["patch", "pdb", "steady", "-p", &format!(r#"{{"spec":{{"minAvailable":{count}}}}}"#)]);
    stricter(REPLICAS)?;
    eventually(DEADLINE, "nothing may go", || {
        let status = get(&kubectl, &["pdb", "steady"])?["status"].clone();
        Ok((status["disruptionsAllowed"] == 0 && status["desiredHealthy"] == REPLICAS).then_some(()))
    })?;
    let refused = drain("2s").err().context("a drain against the budget")?.to_string();
    ensure!(refused.contains("Cannot evict pod as it would violate the pod's disruption budget."), "{refused}");
    stricter(REPLICAS - 1)?;
    let said = drain("50s")?;
    ensure!(said.contains("evicted") && said.contains(&format!("node/{node} drained")), "{said}");
    let pods = settled(&kubectl)?;
    ensure!(pods.iter().all(|pod| pod["spec"]["nodeName"] != node), "a pod is left on {node}");
    let listed = kubectl.run(&["get", "node", node])?;
    ensure!(listed.contains("Ready,SchedulingDisabled"), "{listed}");
    kubectl.run(&["uncordon", node])?;
    let healthy = |event: &kontiki_chaos_tests::history::Event| event.object["status"]["currentHealthy"].as_u64();
    let least = budgets.events.all().iter().filter_map(healthy).min().context("the budget's status never changed")?;
    ensure!(least >= 2, "only {least} pods were healthy");
    drop(budgets);
    kubectl.run(&["delete", "namespace", NAMESPACE, "--timeout=50s"]).map(drop)
}
