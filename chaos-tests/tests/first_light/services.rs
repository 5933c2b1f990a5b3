//! Services, names and scheduling as users see them: what the pure tests of proxy and scheduler say holds in a cluster.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use kontiki_chaos_tests::{cluster::eventually, kubectl::Kubectl};
use serde_json::Value;

use super::{DEADLINE, Shared};

fn get(kubectl: &Kubectl, arguments: &[&str]) -> Result<Value> {
    let text = kubectl.run(&[&["get", "-o", "json"], arguments].concat())?;
    serde_json::from_str(&text).context("parse what kubectl printed")
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

const ASKED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: asker}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "nginx:1.21", command: [sleep, "100000"]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  replicas: 2
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: "nginx:1.21", ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {selector: {app: echo}, ports: [{name: http, port: 8080, targetPort: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: each}
spec: {clusterIP: None, selector: {app: echo}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: echo.default.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
"#;

/// Aim: the API server leads to pods and services, names are followed, clients stay, nobody is refused. Method: two
/// replicas, asked by kubectl and from a pod.
pub fn services_lead_where_they_should(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    kubectl.run_with(&["apply", "-f", "-"], ASKED)?;
    kubectl.run(&["rollout", "status", "deployment/echo", "--timeout=45s"])?;
    kubectl.run(&["wait", "--for=condition=Ready", "pod/asker", "--timeout=30s"])?;
    let pods = get(&kubectl, &["pods", "-l", "app=echo"])?;
    let first = items(&pods).next().context("no pod")?;
    let pod = format!("/api/v1/namespaces/default/pods/{}:80/proxy/", name(first));
    for path in
        ["/api/v1/namespaces/default/services/echo:http/proxy/", "/api/v1/namespaces/default/services/echo:8080/proxy/", &pod]
    {
        let page = eventually(DEADLINE, path, || Ok(kubectl.run(&["get", "--raw", path]).ok()))?;
        ensure!(page.contains("Welcome to nginx!"), "{path}: {page}");
    }
    let refused = kubectl.run(&["get", "--raw", "/api/v1/namespaces/default/services/nobody/proxy/"]);
    let refused = refused.err().context("nobody must not answer")?.to_string();
    ensure!(refused.contains("no endpoints available for service \"nobody\""), "{refused}");
    let page = kubectl.run(&["exec", "asker", "--", "wget", "-qO-", "http://alias:8080"])?;
    ensure!(page.contains("Welcome to nginx!"), "{page}");
    let said = kubectl.run(&["exec", "asker", "--", "nslookup", "each.default.svc.cluster.local"])?;
    for pod in items(&pods) {
        let address = pod["status"]["podIP"].as_str().context("no address")?;
        ensure!(said.contains(address), "{address}: {said}");
    }
    let said = kubectl.run(&["exec", "asker", "--", "sh", "-c", "wget -qO- http://nobody 2>&1 || true"])?;
    ensure!(said.contains("refused"), "{said}");
    pods_reach_themselves(&kubectl, &pods)?;
    kubectl.run(&["patch", "service", "echo", "-p", r#"{"spec":{"sessionAffinity":"ClientIP"}}"#])?;
    let mut round = 0;
    eventually(DEADLINE, "one replica alone has a client's requests", || {
        round += 1;
        let path = format!("stay-{round}-");
        let ask = format!("for n in 1 2 3 4 5 6 7 8; do wget -qO- http://echo:8080/?{path} >/dev/null; done");
        kubectl.run(&["exec", "asker", "--", "sh", "-c", &ask])?;
        let mut who = BTreeSet::new();
        for pod in items(&pods) {
            let log = kubectl.run(&["logs", name(pod), "--tail=8"])?;
            let own = log.lines().rev().take_while(|line| line.contains(&path)).count();
            if own == 8 {
                who.insert(name(pod));
            }
        }
        Ok((who.len() == 1).then_some(()))
    })?;
    kubectl
        .run(&[
            "delete",
            "deployment/echo",
            "service/echo",
            "service/each",
            "service/alias",
            "service/nobody",
            "pod/asker",
            "--wait=false",
        ])
        .map(drop)
}

/// Through the Service: of twenty requests all are answered, and one at least comes back to the pod that asked.
fn pods_reach_themselves(kubectl: &Kubectl, pods: &Value) -> Result<()> {
    for pod in items(pods).map(name) {
        let ask =
            format!("n=0; while [ $n -lt 20 ]; do n=$((n+1)); wget -qO- http://echo:8080/?from-{pod} >/dev/null || exit 1; done");
        kubectl.run(&["exec", pod, "--", "sh", "-c", &ask])?;
        let log = kubectl.run(&["logs", pod])?;
        ensure!(log.contains(&format!("?from-{pod}")), "no request came back to {pod}: {log}");
    }
    Ok(())
}

const APART: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: apart}
spec:
  replicas: 3
  selector: {matchLabels: {app: apart}}
  template:
    metadata: {labels: {app: apart}}
    spec:
      terminationGracePeriodSeconds: 0
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: apart}}}]
      containers: [{name: c, image: "nginx:1.21"}]
"#;

fn port_holder(pod: &str, node: &str, class: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{pod}"}},"spec":{{"priorityClassName":"{class}",
        "terminationGracePeriodSeconds":0,"nodeSelector":{{"kubernetes.io/hostname":"{node}"}},
        "containers":[{{"name":"c","image":"nginx:1.21","ports":[{{"containerPort":80,"hostPort":31987}}]}}]}}}}"#
    )
}

/// Aim: pods that avoid each other are apart, and an important pod gets the place of a lesser one. Method: three
/// replicas on two workers; two pods that want the same port of one worker.
pub fn pods_keep_apart_and_make_room(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    kubectl.run_with(&["apply", "-f", "-"], APART)?;
    eventually(DEADLINE, "two pods apart and one that waits", || {
        let pods = get(&kubectl, &["pods", "-l", "app=apart"])?;
        let nodes: BTreeSet<&str> = items(&pods).filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
        let told = items(&pods).filter_map(|pod| pod["status"]["conditions"][0]["message"].as_str());
        let wanted = "2 node(s) didn't match pod anti-affinity rules";
        Ok((nodes.len() == 2 && told.into_iter().any(|message| message.contains(wanted))).then_some(()))
    })?;
    kubectl.run(&["delete", "deployment/apart", "--wait=false"])?;
    let nodes = get(&kubectl, &["nodes", "-l", "!node-role.kubernetes.io/control-plane"])?;
    let node = name(items(&nodes).next().context("no worker")?).to_owned();
    for (class, value) in [("lesser", "10"), ("greater", "1000")] {
        kubectl.run(&["create", "priorityclass", class, "--value", value])?;
    }
    kubectl.run_with(&["create", "-f", "-"], &port_holder("holder", &node, "lesser"))?;
    kubectl.run(&["wait", "--for=condition=PodScheduled", "pod/holder", "--timeout=30s"])?;
    kubectl.run_with(&["create", "-f", "-"], &port_holder("taker", &node, "greater"))?;
    kubectl.run(&["wait", "--for=condition=PodScheduled", "pod/taker", "--timeout=30s"])?;
    ensure!(kubectl.run(&["get", "pod", "holder"]).is_err(), "the lesser pod is still there");
    let events = kubectl.run(&["get", "events", "--field-selector=reason=Preempted"])?;
    ensure!(events.contains("Preempted by pod") && events.contains(&node), "{events}");
    kubectl.run(&["delete", "pod/taker", "priorityclass/lesser", "priorityclass/greater", "--wait=false"]).map(drop)
}
