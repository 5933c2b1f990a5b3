//! What a node does for its pods: volumes that change, sessions of every kind, other resources while a pod runs.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use kontiki_chaos_tests::{cluster::eventually, kubectl::Kubectl};
use serde_json::Value;

use super::{DEADLINE, Shared};

const PODS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: changing}
data: {color: blue}
---
apiVersion: v1
kind: Pod
metadata: {name: volumes, labels: {stage: first}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {fsGroup: 4000}
  hostname: harbour
  subdomain: bay
  setHostnameAsFQDN: true
  hostAliases: [{ip: 10.1.2.3, hostnames: [lighthouse]}]
  containers:
    - name: main
      image: nginx:1.21
      command: [sleep, "100000"]
      env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
      volumeMounts:
        - {name: map, mountPath: /map}
        - {name: labels, mountPath: /labels}
        - {name: empty, mountPath: /empty}
        - {name: memory, mountPath: /memory}
        - {name: empty, mountPath: /own, subPathExpr: $(NAME)/x}
        - {name: image, mountPath: /image}
  volumes:
    - {name: map, configMap: {name: changing, defaultMode: 0400}}
    - {name: labels, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
    - {name: empty, emptyDir: {}}
    - {name: memory, emptyDir: {medium: Memory, sizeLimit: 8Mi}}
    - {name: image, image: {reference: "nginx:1.21"}}
---
apiVersion: v1
kind: Pod
metadata: {name: shared}
spec:
  terminationGracePeriodSeconds: 1
  shareProcessNamespace: true
  restartPolicy: OnFailure
  containers:
    - name: web
      image: nginx:1.21
      command: [busybox, httpd, -f, -p, "8080", -h, /usr/share/nginx/html]
      ports: [{containerPort: 8080, hostPort: 31999}]
      resources: {requests: {cpu: 20m, memory: 30Mi}, limits: {cpu: 40m, memory: 60Mi}}
    - {name: other, image: "nginx:1.21", command: [sleep, "100000"]}
---
apiVersion: v1
kind: Pod
metadata: {name: no-root}
spec:
  securityContext: {runAsNonRoot: true}
  containers: [{name: c, image: "nginx:1.21"}]
---
apiVersion: v1
kind: Pod
metadata: {name: forbidden}
spec:
  securityContext: {sysctls: [{name: kernel.msgmax, value: "1"}]}
  containers: [{name: c, image: "nginx:1.21"}]
"#;

fn status(kubectl: &Kubectl, pod: &str) -> Result<Value> {
    let text = kubectl.run(&["get", "pod", pod, "-o", "json"])?;
    Ok(serde_json::from_str::<Value>(&text).context("parse what kubectl printed")?["status"].clone())
}

/// Volumes have the modes and owners that Kubernetes gives them, and follow what they show; a pod that may not run is
/// told so.
pub fn volumes_follow_what_they_show(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    kubectl.run_with(&["apply", "-f", "-"], PODS)?;
    kubectl.run(&["wait", "--for=condition=Ready", "pod/volumes", "pod/shared", "--timeout=30s"])?;
    let sh = |script: &str| kubectl.run(&["exec", "volumes", "--", "sh", "-c", script]);
    let modes = sh("busybox stat -L -c '%a %g' /empty /memory /map/color")?;
    ensure!(modes == "2777 4000\n2777 4000\n440 4000\n", "{modes}");
    let found = sh("busybox hostname; busybox grep lighthouse /etc/hosts; busybox df -k /memory | busybox tail -1")?;
    ensure!(found.contains("harbour.bay.default.svc.cluster.local") && found.contains("10.1.2.3\tlighthouse"), "{found}");
    ensure!(found.contains("8192"), "the limit of a volume in memory: {found}");
    sh("echo here > /own/note; cat /empty/volumes/x/note /image/etc/passwd").and_then(|text| {
        ensure!(text.starts_with("here\n") && text.contains("root:x:0:0"), "{text}");
        Ok(())
    })?;
    ensure!(sh("echo x > /image/etc/passwd").is_err(), "an image that is a volume can be written to");
    kubectl.run(&["patch", "configmap", "changing", "-p", r#"{"data":{"color":"green"}}"#])?;
    kubectl.run(&["label", "--overwrite", "pod", "volumes", "stage=second"])?;
    eventually(DEADLINE, "volumes that show what has changed", || {
        let shown = sh("cat /map/color; echo; cat /labels/labels")?;
        ensure!(shown.starts_with("green\n") && shown.contains("stage=\"second\""), "{shown}");
        Ok(Some(()))
    })?;
    eventually(DEADLINE, "refusals", || {
        let waiting = status(&kubectl, "no-root")?["containerStatuses"][0]["state"]["waiting"].clone();
        ensure!(waiting["reason"] == "CreateContainerConfigError", "{waiting}");
        ensure!(waiting["message"].as_str().unwrap_or_default().contains("image will run as root"), "{waiting}");
        let refused = status(&kubectl, "forbidden")?;
        ensure!(refused["phase"] == "Failed" && refused["reason"] == "SysctlForbidden", "{refused}");
        Ok(Some(()))
    })?;
    kubectl.run(&["delete", "pod", "volumes", "no-root", "forbidden"]).map(drop)
}

/// Aim: every session that kubectl knows, over WebSocket and over SPDY. Method: the newest kubectl and the oldest here.
pub fn sessions_of_every_kind(shared: &Shared) -> Result<()> {
    let newest = shared.kubectl()?;
    let oldest = Kubectl::new(shared.kubectls.first().context("no kubectl")?, &shared.cluster.kubeconfig);
    for kubectl in [&newest, &oldest] {
        let program = kubectl.program.display();
        let said = kubectl.run_with(&["exec", "-i", "shared", "-c", "other", "--", "sh", "-c", "cat; exit 4"], "through\n");
        let error = said.err().context("a command that fails must not succeed")?.to_string();
        ensure!(error.contains("through") && error.contains("exit code 4"), "{program}: {error}");
        forwarded(kubectl).with_context(|| format!("{program} port-forward"))?;
        let attached =
            ["run", "attached", "--rm", "-i", "--image=nginx:1.21", "--restart=Never", "--command", "--", "busybox", "tac"];
        let said = kubectl.run_with(&attached, "one\ntwo\n").with_context(|| format!("{program} attach"))?;
        ensure!(said.contains("two\none\n"), "{program}: {said}");
    }
    let file = shared.cluster.folder().join("carried");
    std::fs::write(&file, "over there")?;
    // `kubectl cp` runs tar in the container.
    newest.run(&["exec", "shared", "-c", "other", "--", "busybox", "ln", "-s", "/bin/busybox", "/usr/local/bin/tar"])?;
    newest.run(&["cp", file.to_str().context("a name")?, "shared:/tmp/carried", "-c", "other"])?;
    let there = newest.run(&["exec", "shared", "-c", "other", "--", "cat", "/tmp/carried"])?;
    ensure!(there == "over there", "{there}");
    let processes = newest.run(&["exec", "shared", "-c", "other", "--", "busybox", "ps"])?;
    ensure!(processes.contains("httpd"), "the other container's process is not seen: {processes}");
    let debug = ["debug", "shared", "--image=nginx:1.21", "--container=look", "--target=web", "--", "sh", "-c", "echo looked"];
    newest.run(&debug)?;
    eventually(DEADLINE, "what an ephemeral container printed", || {
        let log = newest.run(&["logs", "shared", "-c", "look"])?;
        ensure!(log == "looked\n", "{log}");
        let state = status(&newest, "shared")?["ephemeralContainerStatuses"][0]["state"].clone();
        ensure!(state["terminated"]["reason"] == "Completed", "{state}");
        Ok(Some(()))
    })
}

/// Asks the pod's web server through a port of the host.
fn forwarded(kubectl: &Kubectl) -> Result<()> {
    let mut child = kubectl.command(&["port-forward", "pod/shared", ":8080"]).stdout(Stdio::piped()).spawn()?;
    let asked = (|| {
        let mut line = String::new();
        // Open to the end of the session: kubectl says a line for each connection, and a closed pipe would end it.
        let mut output = BufReader::new(child.stdout.take().context("no output")?);
        output.read_line(&mut line)?;
        // Forwarding from 127.0.0.1:40000 -> 8080
        let port = line.split(':').nth(1).and_then(|rest| rest.split(' ').next()).and_then(|port| port.parse::<u16>().ok());
        let port = port.with_context(|| format!("no port in {line:?}"))?;
        for _ in 0..2 {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: nginx\r\nConnection: close\r\n\r\n")?;
            let mut page = String::new();
            stream.read_to_string(&mut page)?;
            ensure!(page.contains("Welcome to nginx!"), "{page}");
        }
        drop(output);
        Ok(())
    })();
    // The `timeout` that kubectl runs under passes the signal on.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id())?), nix::sys::signal::Signal::SIGTERM)?;
    child.wait()?;
    asked
}

/// A pod gets other limits while it runs, its container stays the same; and its port of the node leads to it.
pub fn a_running_pod_is_resized(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    let before = status(&kubectl, "shared")?;
    ensure!(before["containerStatuses"][1]["resources"]["limits"]["cpu"] == "40m", "{before}");
    let patch = r#"{"spec":{"containers":[{"name":"web","resources":{"requests":{"cpu":"30m"},"limits":{"cpu":"50m"}}}]}}"#;
    kubectl.run(&["patch", "pod", "shared", "--subresource=resize", "-p", patch])?;
    eventually(DEADLINE, "limits that have changed", || {
        let now = status(&kubectl, "shared")?;
        let web = &now["containerStatuses"][1];
        ensure!(web["resources"]["limits"]["cpu"] == "50m" && web["allocatedResources"]["cpu"] == "30m", "{web}");
        ensure!(web["restartCount"] == 0 && web["containerID"] == before["containerStatuses"][1]["containerID"], "{web}");
        let quota = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cat /sys/fs/cgroup/cpu.max";
        let quota = kubectl.run(&["exec", "shared", "-c", "web", "--", "sh", "-c", quota])?;
        ensure!(quota.starts_with("5000"), "{quota}");
        Ok(Some(()))
    })?;
    let refused = r#"{"spec":{"containers":[{"name":"web","resources":{"requests":{"cpu":"900"},"limits":{"cpu":"900"}}}]}}"#;
    kubectl.run(&["patch", "pod", "shared", "--subresource=resize", "-p", refused])?;
    eventually(DEADLINE, "a wish that cannot be granted", || {
        let now = status(&kubectl, "shared")?;
        let conditions = now["conditions"].as_array().cloned().unwrap_or_default();
        let pending = conditions.into_iter().find(|condition| condition["type"] == "PodResizePending");
        ensure!(pending.as_ref().is_some_and(|pending| pending["reason"] == "Infeasible"), "{now}");
        Ok(Some(()))
    })?;
    let node = status(&kubectl, "shared")?["hostIP"].as_str().context("no address")?.to_owned();
    let pid = shared.cluster.processes("server-1", "server")?[0];
    let enter =
        ["-t", &pid.to_string(), "-n", "curl", "-sS", "--max-time", "5", &format!("http://{node}:31999/")].map(str::to_owned);
    let page = Command::new("nsenter").args(enter).output().context("run nsenter")?;
    let page = kontiki_chaos_tests::cluster::text(&page)?;
    ensure!(page.contains("Welcome to nginx!"), "{page}");
    kubectl.run(&["delete", "pod", "shared"]).map(drop)
}
