//! What extends the API, as users see it: custom resources that own and are owned, figures without a metrics server.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kontiki_chaos_tests::{cluster::eventually, kubectl::Kubectl};
use serde_json::Value;

use super::{DEADLINE, Shared};

/// Two readings of the kubelets, and two looks of the autoscaler.
const SCALING: Duration = Duration::from_secs(60);

const EXTENSIONS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: extensions}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: busy, namespace: extensions}
spec:
  replicas: 1
  selector: {matchLabels: {app: busy}}
  template:
    metadata: {labels: {app: busy}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: "nginx:1.21"
        command: [sh, -c, "while :; do :; done"]
        resources: {requests: {cpu: 20m}, limits: {cpu: 100m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: busy, namespace: extensions}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: busy}
  maxReplicas: 2
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.extensions.example.com}
spec:
  group: extensions.example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
"#;

fn run(kubectl: &Kubectl, arguments: &[&str]) -> Result<String> {
    kubectl.run(&[&["-n", "extensions"], arguments].concat())
}

fn object(kind: &str, name: &str, owner: Option<&str>) -> String {
    let (version, owner_version) =
        (if kind == "Widget" { "extensions.example.com/v1" } else { "v1" }, "extensions.example.com/v1");
    let owner = owner.map(|uid| format!(r#", "ownerReferences": [{{"apiVersion": "{owner_version}", "kind": "Widget", "name": "owner", "uid": "{uid}", "blockOwnerDeletion": true}}]"#));
    format!(
        r#"{{"apiVersion": "{version}", "kind": "{kind}", "metadata": {{"name": "{name}", "namespace": "extensions"{}}}}}"#,
        owner.unwrap_or_default()
    )
}

/// Aim: custom resources take part in garbage collection and in the end of their namespace; `kubectl top` and an
/// autoscaler work with nothing installed. Method: one manifest, then each looked at.
pub fn extensions_are_part_of_the_api(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    kubectl.run_with(&["apply", "-f", "-"], EXTENSIONS)?;
    kubectl.run(&["wait", "--for=condition=Established", "crd/widgets.extensions.example.com", "--timeout=20s"])?;
    kubectl.run(&["wait", "--for=condition=Available", "apiservice/v1.extensions.example.com", "--timeout=20s"])?;
    custom_resources_own_and_are_owned(&kubectl)?;
    figures_are_there(&kubectl)?;
    kubectl.run(&["delete", "namespace", "extensions", "--timeout=50s"])?;
    kubectl.run(&["delete", "crd", "widgets.extensions.example.com", "--timeout=20s"]).map(drop)
}

fn custom_resources_own_and_are_owned(kubectl: &Kubectl) -> Result<()> {
    for (policy, remain) in [("background", false), ("foreground", false), ("orphan", true)] {
        let created = kubectl.run_with(&["create", "-o", "json", "-f", "-"], &object("Widget", "owner", None))?;
        let created: Value = serde_json::from_str(&created).context("parse what kubectl printed")?;
        let uid = created["metadata"]["uid"].as_str().context("no UID")?;
        for kind in ["Widget", "ConfigMap"] {
            kubectl.run_with(&["create", "-f", "-"], &object(kind, "owned", Some(uid)))?;
        }
        run(kubectl, &["delete", "widget", "owner", &format!("--cascade={policy}"), "--timeout=40s"])?;
        let left = ["widget/owned", "configmap/owned"];
        eventually(DEADLINE, policy, || {
            let found = left.map(|name| run(kubectl, &["get", name, "-o", "json"]).ok());
            let as_wanted = |found: &Option<String>| match (remain, found) {
                (true, Some(text)) => !text.contains("ownerReferences"),
                (remain, found) => remain == found.is_some(),
            };
            Ok(found.iter().all(as_wanted).then_some(()))
        })?;
        if remain {
            run(kubectl, &["delete", left[0], left[1]])?;
        }
    }
    // One is left for the namespace's end.
    kubectl.run_with(&["create", "-f", "-"], &object("Widget", "last", None)).map(drop)
}

fn figures_are_there(kubectl: &Kubectl) -> Result<()> {
    run(kubectl, &["rollout", "status", "deployment/busy", "--timeout=45s"])?;
    let pods = eventually(DEADLINE, "the busy pod is measured", || {
        let Ok(pods) = run(kubectl, &["top", "pods", "--no-headers", "-l", "app=busy"]) else { return Ok(None) };
        let cpu = pods.split_whitespace().nth(1).and_then(|cpu| cpu.strip_suffix('m')?.parse::<u32>().ok());
        Ok(cpu.filter(|cpu| *cpu >= 20).map(|_| pods))
    })?;
    ensure!(pods.starts_with("busy-") && pods.contains("Mi"), "{pods}");
    let nodes = kubectl.run(&["top", "nodes", "--no-headers"])?;
    ensure!(nodes.lines().count() >= 2 && nodes.contains('%'), "{nodes}");
    eventually(SCALING, "the autoscaler scales", || {
        let replicas = run(kubectl, &["get", "deployment", "busy", "-o", "jsonpath={.spec.replicas}"])?;
        Ok((replicas == "2").then_some(()))
    })?;
    let columns = run(kubectl, &["get", "hpa", "busy", "--no-headers"])?;
    ensure!(columns.contains("%/50%"), "{columns}");
    Ok(())
}
