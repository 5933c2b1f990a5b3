//! What a kubelet does of its own accord: logs, seccomp, pods that end before their node.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use kontiki_chaos_tests::{cluster::eventually, kubectl::Kubectl};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{DEADLINE, Shared};

/// The node whose settings are changed.
const NODE: &str = "agent-2";
/// A program that writes numbered lines until it has written enough for several files, and goes on slowly.
const WRITER: &str = "i=0; while true; do i=$((i+1)); echo line-$i; [ $((i % 200)) -gt 0 ] || sleep 0.3; done";

fn get(kubectl: &Kubectl, what: &[&str]) -> Result<Value> {
    let text = kubectl.run(&[&["get"], what, &["-o", "json"]].concat())?;
    serde_json::from_str(&text).context("parse what kubectl printed")
}

fn pod(name: &str, script: &str, more: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 3, "nodeName": NODE, "restartPolicy": "Never",
            "containers": [{"name": "c", "image": "nginx:1.21", "command": ["sh", "-c", script]}],
        },
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

fn apply(kubectl: &Kubectl, pods: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": pods});
    kubectl.run_with(&["apply", "-f", "-"], &list.to_string()).map(drop)
}

/// Changes a node's settings; its agent is started again, its containers are not.
fn set(shared: &Shared, lines: &str) -> Result<()> {
    let file = shared.cluster.node(NODE).join("etc/kubelet.yaml");
    let before = fs::read_to_string(&file).context("read the kubelet's settings")?;
    fs::write(&file, format!("{before}{lines}")).context("change the kubelet's settings")?;
    let running = shared.cluster.processes(NODE, "agent")?;
    running.iter().try_for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGKILL))?;
    eventually(DEADLINE, "the agent comes back", || {
        let now = shared.cluster.processes(NODE, "agent")?;
        Ok((!now.is_empty() && now.iter().all(|pid| !running.contains(pid))).then_some(()))
    })
}

/// Aim: a log that is rotated while it is followed loses no line. Method: small files, a program that writes much, and
/// numbers in the lines.
pub fn logs_go_on_in_new_files(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    apply(&kubectl, &[pod("writer", WRITER, &json!({}))])?;
    kubectl.run(&["wait", "--for=condition=Ready", "pod/writer", "--timeout=30s"])?;
    set(shared, "containerLogMaxSize: 32Ki\ncontainerLogMaxFiles: 3\ncontainerLogMonitorInterval: 3s\n")?;
    eventually(DEADLINE, "the kubelet answers again", || kubectl.run(&["logs", "writer", "--tail=1"]).map(Some))?;
    let mut follower = kubectl.command(&["logs", "-f", "writer"]).stdout(std::process::Stdio::piped()).spawn()?;
    let output = follower.stdout.take().context("no output")?;
    let followed = std::thread::spawn(move || std::io::read_to_string(output));
    let uid = get(&kubectl, &["pod", "writer"])?["metadata"]["uid"].as_str().context("no UID")?.to_owned();
    let folder = shared.cluster.node(NODE).join(format!("log/pods/default_writer_{uid}/c"));
    let names = || -> Result<Vec<String>> {
        let entries = fs::read_dir(&folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        entries.collect()
    };
    eventually(DEADLINE, "files that went before, packed and not", || {
        let names = names()?;
        let packed = names.iter().filter(|name| name.ends_with(".gz")).count();
        Ok((names.len() == 3 && packed == 1).then_some(()))
    })?;
    let newest = kubectl.run(&["logs", "writer", "--tail=1"])?;
    kubectl.run(&["delete", "pod", "writer", "--grace-period=1"])?;
    follower.wait()?;
    let followed = followed.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    let numbers: Vec<u64> =
        followed.lines().filter_map(|line| line.strip_prefix("line-").and_then(|number| number.parse().ok())).collect();
    let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
    ensure!(gap.is_none() && !numbers.is_empty(), "lines are missing: {gap:?}");
    ensure!(followed.contains(&newest), "the follower stopped before {newest}");
    Ok(())
}

/// What a profile refuses is refused, to the container and to commands in it; nothing else changes.
pub fn system_calls_are_refused_by_profile(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    let folder = shared.cluster.node(NODE).join("agent/kubelet/seccomp");
    fs::create_dir_all(&folder)?;
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
    ]});
    fs::write(folder.join("own.json"), profile.to_string())?;
    let with = |name: &str, profile: Value, more: Value| {
        let mut pod = pod(name, "sleep 100000", &json!({"securityContext": {"seccompProfile": profile}}));
        pod["spec"]["containers"][0]["securityContext"] = more;
        pod
    };
    let own = json!({"type": "Localhost", "localhostProfile": "own.json"});
    let pods = [
        with("seccomp-default", json!({"type": "RuntimeDefault"}), json!({})),
        with("seccomp-user", json!({"type": "RuntimeDefault"}), json!({"runAsUser": 1000, "allowPrivilegeEscalation": false})),
        with("seccomp-own", own.clone(), json!({})),
        with("seccomp-none", json!({"type": "Unconfined"}), json!({})),
        with("seccomp-privileged", own, json!({"privileged": true})),
        with("seccomp-missing", json!({"type": "Localhost", "localhostProfile": "none.json"}), json!({})),
    ];
    apply(&kubectl, &pods)?;
    let ready = ["seccomp-default", "seccomp-user", "seccomp-own", "seccomp-none", "seccomp-privileged"];
    for name in ready {
        kubectl.run(&["wait", "--for=condition=Ready", "pod", name, "--timeout=30s"])?;
    }
    let sh = |pod: &str, script: &str| kubectl.run(&["exec", pod, "--", "sh", "-c", script]);
    let modes = "for at in 1 self; do busybox grep -E '^(Seccomp|NoNewPrivs|CapEff):' /proc/$at/status; done";
    let outside = fs::read_to_string("/proc/self/status").context("read the own status")?.contains("Seccomp:\t2");
    for (name, filtered) in ready.iter().zip([true, true, true, false, false]) {
        let found = sh(name, modes)?;
        let wanted = if filtered || outside { "Seccomp:\t2" } else { "Seccomp:\t0" };
        ensure!(found.matches(wanted).count() == 2, "{name}: {found}");
        let bits: Vec<_> = found.lines().filter_map(|line| line.strip_prefix("CapEff:")).map(str::trim).collect();
        let admin = bits.iter().any(|bits| u64::from_str_radix(bits, 16).is_ok_and(|bits| bits & (1 << 21) != 0));
        ensure!(admin == (*name == "seccomp-privileged"), "{name} has another capability: {found}");
        ensure!(found.contains("NoNewPrivs:\t1") == (*name == "seccomp-user"), "{name}: {found}");
    }
    ensure!(sh("seccomp-default", "busybox unshare -U true").is_err(), "a namespace was made under the runtime's profile");
    let refused = sh("seccomp-own", "busybox mkdir /new").err().context("the own profile refuses nothing")?.to_string();
    ensure!(refused.contains("No space left"), "{refused}");
    sh("seccomp-privileged", "busybox mkdir /new").context("a privileged container has no profile")?;
    eventually(DEADLINE, "a profile that is missing", || {
        let pod = get(&kubectl, &["pod", "seccomp-missing"])?;
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        ensure!(waiting["reason"] == "CreateContainerError", "{waiting}");
        ensure!(waiting["message"].as_str().unwrap_or_default().contains("cannot load seccomp profile"), "{waiting}");
        Ok(Some(()))
    })?;
    let names = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str());
    kubectl.run(&["delete", "pod", "--grace-period=1"].into_iter().chain(names).collect::<Vec<_>>()).map(drop)
}

/// Aim: a node that is stopped ends its pods in order, says so, and comes back. Method: a pod that takes its leave in
/// writing, one that would never go.
pub fn pods_end_before_their_node(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    let leave = "trap 'echo leaving; exit 0' TERM QUIT; echo waiting; while true; do sleep 0.1; done";
    let stubborn = "trap '' TERM QUIT; echo waiting; while true; do sleep 0.1; done";
    let always = json!({"restartPolicy": "Always"});
    apply(&kubectl, &[pod("leaves", leave, &always), pod("stays", stubborn, &always)])?;
    kubectl.run(&["wait", "--for=condition=Ready", "pod/leaves", "pod/stays", "--timeout=30s"])?;
    for name in ["leaves", "stays"] {
        // Before it says so it hears no signal.
        eventually(DEADLINE, "the program waits for its signal", || {
            Ok(kubectl.run(&["logs", name])?.contains("waiting").then_some(()))
        })?;
    }
    shared.cluster.act("stop", NODE)?;
    for name in ["leaves", "stays"] {
        let pod = get(&kubectl, &["pod", name])?;
        let status = &pod["status"];
        ensure!(status["phase"] == "Failed" && status["reason"] == "Terminated", "{name}: {status}");
        ensure!(status["message"] == "Pod was terminated in response to imminent node shutdown.", "{name}: {status}");
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        ensure!(conditions.iter().any(|one| one["type"] == "DisruptionTarget" && one["reason"] == "TerminationByKubelet"));
        let code = &status["containerStatuses"][0]["state"]["terminated"]["exitCode"];
        ensure!(*code == if name == "leaves" { 0 } else { 137 }, "{name}: {status}");
    }
    let node = get(&kubectl, &["node", NODE])?;
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|one| one["type"] == "Ready").context("no condition")?;
    ensure!(ready["status"] == "False" && ready["message"] == "node is shutting down", "{ready}");
    shared.cluster.act("start", NODE)?;
    kubectl.run(&["wait", "--for=condition=Ready", "node", NODE, "--timeout=60s"])?;
    let late = Duration::from_secs(60);
    eventually(late, "the node takes pods again", || {
        let node = get(&kubectl, &["node", NODE])?;
        Ok(node["spec"]["taints"].is_null().then_some(()))
    })?;
    kubectl.run(&["delete", "pod", "leaves", "stays"]).map(drop)
}

/// A file is a pod, another text in it another one; deleting what the API shows of it changes nothing.
pub fn static_pods_run_and_are_shown(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    let file = shared.cluster.node(NODE).join("etc/manifests/fixed.yaml");
    let (name, always) = (format!("fixed-{NODE}"), json!({"restartPolicy": "Always"}));
    let write = |says: &str| {
        let text = pod("fixed", &format!("echo {says}; sleep 100000"), &always).to_string();
        // Whole at once, as whoever changes such a file does it.
        fs::write(file.with_file_name(".fixed"), text)?;
        fs::rename(file.with_file_name(".fixed"), &file)
    };
    let running = |says: &str| {
        eventually(DEADLINE, "the static pod runs and is shown", || {
            let shown = get(&kubectl, &["pod", &name])?;
            ensure!(shown["status"]["phase"] == "Running" && shown["metadata"]["deletionTimestamp"].is_null(), "{shown}");
            ensure!(kubectl.run(&["logs", &name])? == format!("{says}\n"));
            Ok(Some(shown))
        })
    };
    let container = |shown: &Value| shown["status"]["containerStatuses"][0]["containerID"].to_string();
    write("first")?;
    let first = running("first")?;
    let annotations = &first["metadata"]["annotations"];
    ensure!(annotations["kubernetes.io/config.mirror"] == annotations["kubernetes.io/config.hash"], "{annotations}");
    ensure!(annotations["kubernetes.io/config.source"] == "file", "{annotations}");
    ensure!(first["metadata"]["ownerReferences"][0]["kind"] == "Node", "{first}");
    // kubectl would wait for the end of whatever has the name, and the next mirror is there at once.
    kubectl.run(&["delete", "pod", &name, "--grace-period=1", "--wait=false"])?;
    let again = eventually(DEADLINE, "the mirror is made again", || {
        let again = running("first")?;
        Ok((again["metadata"]["uid"] != first["metadata"]["uid"]).then_some(again))
    })?;
    ensure!(container(&again) == container(&first), "deleting the mirror started another container");
    write("second")?;
    let second = running("second")?;
    ensure!(container(&second) != container(&first), "another text is not another pod");
    fs::remove_file(&file)?;
    eventually(DEADLINE, "the static pod is gone", || {
        Ok(kubectl.run(&["get", "pod", &name]).is_err_and(|error| error.to_string().contains("not found")).then_some(()))
    })
}

/// Pods that write more than they may go, with Kubernetes' words.
pub fn pods_that_write_too_much_are_evicted(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    let volume = json!({
        "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Mi"}}],
    });
    let mut folder = pod("too-much", "busybox dd if=/dev/zero of=/cache/x bs=1M count=2; sleep 100000", &volume);
    folder["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "cache", "mountPath": "/cache"}]);
    let mut layer = pod("too-much-alone", "busybox dd if=/dev/zero of=/x bs=1M count=2; sleep 100000", &json!({}));
    layer["spec"]["containers"][0]["resources"] = json!({"limits": {"ephemeral-storage": "1Mi"}});
    apply(&kubectl, &[folder, layer])?;
    let words = [
        ("too-much", "Usage of EmptyDir volume \"cache\" exceeds the limit \"1Mi\". "),
        ("too-much-alone", "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "),
    ];
    for (name, wanted) in words {
        eventually(Duration::from_secs(60), "an eviction", || {
            let status = get(&kubectl, &["pod", name])?["status"].clone();
            ensure!(status["phase"] == "Failed" && status["reason"] == "Evicted", "{name}: {status}");
            ensure!(status["message"] == wanted, "{name}: {status}");
            Ok(Some(()))
        })?;
    }
    kubectl.run(&["delete", "pod", "too-much", "too-much-alone"]).map(drop)
}
