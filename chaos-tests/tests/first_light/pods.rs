//! Pods: real containers behind a Service, as a user's kubectl sees them.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use kontiki_chaos_tests::{cluster::eventually, kubectl::Kubectl};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{DEADLINE, DEPLOYMENT, Shared};

/// Pods of the example.
const REPLICAS: usize = 3;

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

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Waits until so many pods of the example are ready, and returns them.
fn ready(kubectl: &Kubectl, count: usize) -> Result<Vec<Value>> {
    eventually(DEADLINE, &format!("{count} ready pods"), || {
        let list = get(kubectl, &["pods", "-l", "app=nginx"])?;
        let there: Vec<Value> = items(&list).cloned().collect();
        let all = there.len() == count && there.iter().all(|pod| is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null());
        Ok(all.then_some(there))
    })
}

/// A pod that stays, to ask from.
fn client(kubectl: &Kubectl) -> Result<()> {
    kubectl.run(&["run", "client", "--image=nginx:1.21", "--restart=Never", "--command", "--", "sleep", "100000"])?;
    kubectl.run(&["wait", "--for=condition=Ready", "pod/client", "--timeout=30s"]).map(drop)
}

/// Aim: the example serves behind its Service. Method: apply, expose, ask by name from another pod until each
/// replica's own log shows it; the registry's log shows who pulled.
pub fn nginx_runs_behind_a_service(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    kubectl.run_with(&["apply", "-f", "-"], DEPLOYMENT)?;
    let said = kubectl.run(&["rollout", "status", "deployment/nginx", "--timeout=60s"])?;
    ensure!(said.contains("successfully rolled out"), "{said}");
    let pods = ready(&kubectl, REPLICAS)?;
    let used: BTreeSet<&str> = pods.iter().filter_map(|pod| pod["status"]["hostIP"].as_str()).collect();
    let pulled = shared.registry.pulled_by()?;
    ensure!(
        used.len() == 2 && used.iter().all(|node| pulled.iter().any(|from| from == node)),
        "{used:?} run it, {pulled:?} pulled it"
    );
    kubectl.run(&["expose", "deployment", "nginx", "--port=80"])?;
    client(&kubectl)?;
    let address = get(&kubectl, &["pod", "client"])?["status"]["podIP"].as_str().context("no address")?.to_owned();
    eventually(DEADLINE, "each replica logs a request of the client", || {
        let page = kubectl.run(&["exec", "client", "--", "wget", "-qO-", "http://nginx"])?;
        ensure!(page.contains("Welcome to nginx!"), "{page}");
        for pod in &pods {
            let log = kubectl.run(&["logs", name(pod)])?;
            if !log.lines().any(|line| line.starts_with(&address) && line.contains("GET / ")) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    names_resolve(&kubectl)?;
    node_port(&kubectl)
}

fn names_resolve(kubectl: &Kubectl) -> Result<()> {
    let cluster_ip = get(kubectl, &["service", "nginx"])?["spec"]["clusterIP"].as_str().context("no address")?.to_owned();
    for (asked, wanted) in
        [("nginx.default.svc.cluster.local", cluster_ip.as_str()), ("kubernetes.default.svc.cluster.local", "10.96.0.1")]
    {
        let said = kubectl.run(&["exec", "client", "--", "nslookup", asked])?;
        ensure!(said.contains(wanted), "{asked}: {said}");
    }
    let secret = kubectl.run(&["exec", "client", "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/namespace"])?;
    ensure!(secret.trim() == "default", "{secret}");
    Ok(())
}

/// The host reaches a node port on 127.0.0.1.
fn node_port(kubectl: &Kubectl) -> Result<()> {
    kubectl.run(&["expose", "deployment", "nginx", "--name=nginx-outside", "--port=80", "--type=NodePort"])?;
    let service = get(kubectl, &["service", "nginx-outside"])?;
    let port =
        service["spec"]["ports"][0]["nodePort"].as_u64().and_then(|port| u16::try_from(port).ok()).context("no node port")?;
    eventually(DEADLINE, "an answer on the node port", || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: nginx\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page.contains("Welcome to nginx!").then_some(()))
    })?;
    kubectl.run(&["delete", "service", "nginx-outside"]).map(drop)
}

/// Eight half CPUs fill two workers of two CPUs; what is too much is told so in Kubernetes' words.
pub fn scaling_fills_the_workers(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    let nodes = get(&kubectl, &["nodes", "-l", "!node-role.kubernetes.io/control-plane"])?;
    let cpus: usize = items(&nodes).filter_map(|node| node["status"]["allocatable"]["cpu"].as_str()?.parse::<usize>().ok()).sum();
    let fit = cpus * 2;
    kubectl.run(&["scale", "deployment/nginx", &format!("--replicas={fit}")])?;
    ready(&kubectl, fit)?;
    kubectl.run(&["scale", "deployment/nginx", &format!("--replicas={}", fit + 2)])?;
    let wanted = "0/5 nodes are available: 2 Insufficient cpu, 3 node(s) had untolerated taint(s). no new claims to deallocate, \
                  preemption: 0/5 nodes are available: 2 No preemption victims found for incoming pod, 3 Preemption is not helpful \
                  for scheduling.";
    eventually(DEADLINE, "two pods that fit nowhere", || {
        let list = get(&kubectl, &["pods", "-l", "app=nginx", "--field-selector=status.phase=Pending"])?;
        let told = items(&list).filter(|pod| pod["status"]["conditions"][0]["message"] == wanted).count();
        ensure!(told == 2, "{told} pods were told so: {list}");
        Ok(Some(()))
    })?;
    let events = kubectl.run(&["get", "events", "--field-selector=reason=FailedScheduling"])?;
    ensure!(events.contains(wanted), "{events}");
    kubectl.run(&["scale", "deployment/nginx", &format!("--replicas={REPLICAS}")])?;
    ready(&kubectl, REPLICAS).map(drop)
}

/// A new template replaces the old one pod by pod; limits are the kernel's own.
pub fn a_rollout_replaces_pods_within_its_limits(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    let before = ready(&kubectl, REPLICAS)?;
    kubectl.run(&["set", "env", "deployment/nginx", "COLOR=green"])?;
    let said = kubectl.run(&["rollout", "status", "deployment/nginx", "--timeout=60s"])?;
    ensure!(said.contains("successfully rolled out"), "{said}");
    let after = ready(&kubectl, REPLICAS)?;
    ensure!(after.iter().all(|pod| before.iter().all(|old| name(old) != name(pod))), "an old pod is still there");
    let color = kubectl.run(&["exec", name(&after[0]), "--", "sh", "-c", "echo $COLOR"])?;
    ensure!(color.trim() == "green", "{color}");
    let sets = get(&kubectl, &["replicasets", "-l", "app=nginx"])?;
    let sizes: BTreeSet<u64> = items(&sets).filter_map(|set| set["spec"]["replicas"].as_u64()).collect();
    ensure!(sizes == BTreeSet::from([0, 3]), "{sizes:?}");
    kubectl.run(&["rollout", "undo", "deployment/nginx"])?;
    kubectl.run(&["rollout", "status", "deployment/nginx", "--timeout=60s"])?;
    let history = kubectl.run(&["rollout", "history", "deployment/nginx"])?;
    ensure!(history.contains("2 ") && history.contains("3 "), "{history}");
    let pod = &ready(&kubectl, REPLICAS)?[0];
    let (uid, node) = (pod["metadata"]["uid"].as_str().context("no uid")?, pod["spec"]["nodeName"].as_str().context("no node")?);
    let group = format!("kontiki/{}/{node}/kubepods/pod{uid}", shared.cluster.name);
    let read = |file: String| std::fs::read_to_string(file).ok();
    let limit = read(format!("/sys/fs/cgroup/memory/{group}/memory.limit_in_bytes"))
        .or(read(format!("/sys/fs/cgroup/{group}/memory.max")));
    ensure!(limit.as_deref().map(str::trim) == Some("536870912"), "{group}: {limit:?}");
    Ok(())
}

/// A deleted pod is replaced; logs follow; commands bring their output and exit code.
pub fn pods_are_replaced_and_looked_into(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    let before = ready(&kubectl, REPLICAS)?;
    kubectl.run(&["delete", "pod", name(&before[0])])?;
    let after = ready(&kubectl, REPLICAS)?;
    ensure!(after.iter().all(|pod| name(pod) != name(&before[0])), "the deleted pod is still there");
    let described = kubectl.run(&["describe", "pod", name(&after[0])])?;
    ensure!(
        described.contains("Container started") && described.contains("QoS Class:                   Guaranteed"),
        "{described}"
    );
    let tail = kubectl.run(&["logs", "-l", "app=nginx", "--tail=1", "--prefix"])?;
    ensure!(tail.lines().count() <= REPLICAS, "{tail}");
    let said = kubectl.run(&["exec", "client", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    let error = said.err().context("a command that fails must not succeed")?.to_string();
    ensure!(error.contains("out") && error.contains("exit code 3"), "{error}");
    let missing = kubectl.run(&["logs", "client", "-c", "other"]).err().context("a container that is not there has no log")?;
    ensure!(missing.to_string().contains("container other is not valid for pod client"), "{missing}");
    let manifest = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"counter"},"spec":{"restartPolicy":"Never","containers":[
        {"name":"c","image":"nginx:1.21","command":["sh","-c","for i in 1 2 3; do echo line $i; sleep 1; done"]}]}}"#;
    kubectl.run_with(&["create", "--validate=false", "-f", "-"], manifest)?;
    eventually(DEADLINE, "the counter runs", || {
        let phase = get(&kubectl, &["pod", "counter"])?["status"]["phase"].as_str().unwrap_or_default().to_owned();
        Ok((phase != "Pending").then_some(()))
    })?;
    let followed = kubectl.run(&["logs", "-f", "counter"])?;
    ensure!(followed == "line 1\nline 2\nline 3\n", "{followed:?}");
    eventually(DEADLINE, "the counter has succeeded", || {
        Ok((get(&kubectl, &["pod", "counter"])?["status"]["phase"] == "Succeeded").then_some(()))
    })
}

const FED: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue, file.txt: from the map}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {password: s3cret}
---
apiVersion: v1
kind: Pod
metadata: {name: fed}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  initContainers:
    - {name: first, image: "nginx:1.21", command: [sh, -c, "echo prepared > /shared/note"], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
    - name: main
      image: nginx:1.21
      command: [sh, -c, "echo $(COLOR) $PASSWORD $NAME; cat /shared/note /map/file.txt; id -u; sleep 1000"]
      securityContext: {runAsUser: 33}
      env:
        - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
        - {name: PASSWORD, valueFrom: {secretKeyRef: {name: hidden, key: password}}}
        - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
      volumeMounts: [{name: shared, mountPath: /shared}, {name: map, mountPath: /map, readOnly: true}]
      readinessProbe: {exec: {command: [cat, /tmp/ready]}, periodSeconds: 1}
  volumes: [{name: shared, emptyDir: {}}, {name: map, configMap: {name: settings}}]
---
apiVersion: v1
kind: Pod
metadata: {name: crashing}
spec:
  containers: [{name: c, image: "nginx:1.21", command: [sh, -c, "exit 7"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: no-image}
spec:
  containers: [{name: c, image: "nothing:1"}]
---
apiVersion: v1
kind: Pod
metadata: {name: unhealthy}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: c
      image: nginx:1.21
      command: [sleep, "1000"]
      livenessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1, failureThreshold: 1}
"#;

/// What a pod is given, and how it fares when something is wrong.
pub fn pods_are_fed_probed_and_restarted(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    kubectl.run_with(&["apply", "-f", "-"], FED)?;
    eventually(DEADLINE, "the fed pod's output", || {
        let log = kubectl.run(&["logs", "fed"])?;
        Ok((log == "blue s3cret fed\nprepared\nfrom the map33\n").then_some(()))
            .map_err(|_: std::convert::Infallible| anyhow::anyhow!(log))
    })?;
    ensure!(!is_ready(&get(&kubectl, &["pod", "fed"])?), "a pod whose probe fails is not ready");
    kubectl.run(&["exec", "fed", "--", "sh", "-c", "echo > /tmp/ready"])?;
    kubectl.run(&["wait", "--for=condition=Ready", "pod/fed", "--timeout=20s"])?;
    let state = |pod: &str| -> Result<Value> { Ok(get(&kubectl, &["pod", pod])?["status"]["containerStatuses"][0].clone()) };
    eventually(DEADLINE, "back-off of a container that fails", || {
        let status = state("crashing")?;
        let waits =
            status["state"]["waiting"]["reason"] == "CrashLoopBackOff" && status["lastState"]["terminated"]["exitCode"] == 7;
        Ok((waits && status["restartCount"].as_u64() >= Some(1)).then_some(()))
    })?;
    eventually(DEADLINE, "an image that is not there", || {
        let waiting = state("no-image")?["state"]["waiting"].clone();
        let reason = waiting["reason"].as_str().unwrap_or_default();
        let told = waiting["message"].as_str().unwrap_or_default().contains("docker.io/library/nothing:1: not found");
        Ok((["ErrImagePull", "ImagePullBackOff"].contains(&reason) && told).then_some(()))
    })?;
    eventually(DEADLINE, "a restart after a failed liveness probe", || {
        Ok((state("unhealthy")?["restartCount"].as_u64() >= Some(1)).then_some(()))
    })?;
    let events = kubectl.run(&["get", "events", "--field-selector=involvedObject.name=unhealthy"])?;
    ensure!(events.contains("Liveness probe failed") && events.contains("will be restarted"), "{events}");
    kubectl.run(&["delete", "pod", "fed", "crashing", "no-image", "unhealthy", "counter"]).map(drop)
}

/// An archive reaches every node without a registry.
pub fn an_imported_image_runs(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    shared.cluster.import(&shared.files.join("nginx.tar"))?;
    let run = [
        "run",
        "imported",
        "--image=imported.example/nginx:1.21",
        "--restart=Never",
        "--image-pull-policy=Never",
        "--command",
        "--",
        "sh",
        "-c",
        "exit 0",
    ];
    kubectl.run(&run)?;
    eventually(DEADLINE, "the imported image has run", || {
        Ok((get(&kubectl, &["pod", "imported"])?["status"]["phase"] == "Succeeded").then_some(()))
    })?;
    kubectl.run(&["delete", "pod", "imported"]).map(drop)
}

/// Aim: a node's software may restart under its containers. Method: kill every agent with -9; the same
/// containers go on, and new ones can be made.
pub fn containers_outlive_the_agent(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    let identity = |pods: &[Value]| -> BTreeSet<String> {
        pods.iter().map(|pod| pod["status"]["containerStatuses"][0]["containerID"].to_string()).collect()
    };
    let before = identity(&ready(&kubectl, REPLICAS)?);
    for node in ["agent-1", "agent-2"] {
        let running = shared.cluster.processes(node, "agent")?;
        ensure!(running.len() == 1, "{node} runs {running:?}");
        kill(Pid::from_raw(running[0]), Signal::SIGKILL)?;
        eventually(DEADLINE, "the agent comes back", || {
            let now = shared.cluster.processes(node, "agent")?;
            Ok((now.len() == 1 && now != running).then_some(()))
        })?;
    }
    let page = eventually(DEADLINE, "an answer after the restart", || {
        kubectl.run(&["exec", "client", "--", "wget", "-qO-", "http://nginx"]).map(Some)
    })?;
    ensure!(page.contains("Welcome to nginx!"), "{page}");
    let after = identity(&ready(&kubectl, REPLICAS)?);
    ensure!(before == after, "other containers run: {before:?} {after:?}");
    let pods = ready(&kubectl, REPLICAS)?;
    kubectl.run(&["delete", "pod", name(&pods[0])])?;
    ready(&kubectl, REPLICAS).map(drop)
}

/// Everything in a namespace goes with it; dependents go with their owner.
pub fn namespaces_and_owners_take_theirs_along(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    kubectl.run_with(&["create", "-f", "-"], "{apiVersion: v1, kind: Namespace, metadata: {name: short}}")?;
    eventually(DEADLINE, "a service account for the namespace", || {
        kubectl.run(&["-n", "short", "get", "serviceaccount/default", "configmap/kube-root-ca.crt"]).map(Some).or(Ok(None))
    })?;
    kubectl.run_with(&["-n", "short", "apply", "-f", "-"], DEPLOYMENT)?;
    eventually(DEADLINE, "a pod in the namespace", || {
        Ok((items(&get(&kubectl, &["-n", "short", "pods"])?).count() == REPLICAS).then_some(()))
    })?;
    kubectl.run(&["delete", "namespace", "short", "--timeout=60s"])?;
    kubectl.run(&["delete", "deployment", "nginx"])?;
    eventually(DEADLINE, "pods without their deployment are gone", || {
        let pods = get(&kubectl, &["pods", "-l", "app=nginx"])?;
        let sets = get(&kubectl, &["replicasets"])?;
        if items(&pods).count() + items(&sets).count() > 0 {
            bail!("{pods} {sets}");
        }
        Ok(Some(()))
    })
}
