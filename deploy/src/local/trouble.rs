//! What people do to the nodes of a local cluster to see how their own software takes it.
//!
//! In: a node that runs, or was stopped. Out: signals to its processes, a file that the supervisor obeys, or rules in the
//! node's own network namespace. Nothing of the host changes.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use kontiki_kubelet::network::namespace::on_thread;
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{cgroup, grace, link::INTERFACE, paths::Paths, provision};
use crate::shape::Node;

/// How long a node may take to end by itself before its power is cut, beside the time that its pods have.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// Table of the rules that isolate a node.
const TABLE: &str = "kontiki-isolated";

/// What can be done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An orderly end; it stays down.
    Stop,
    /// The end of that.
    Start,
    /// A power cut; it is switched on again at once.
    Kill,
    /// The processes of Kontiki die as in a crash, and are started again at once; containers go on.
    Crash,
    /// Every process stands still, containers included.
    Pause,
    /// The end of that.
    Resume,
    /// No packet comes in or goes out.
    Isolate,
    /// The end of that.
    Rejoin,
}

/// Does it.
pub fn act(cluster: &str, node: &str, action: Action) -> Result<()> {
    let paths = Paths::new(cluster);
    let shape = provision::read_shape(&paths)?;
    let Some(node) = shape.node(node) else {
        let names: Vec<_> = shape.nodes().into_iter().map(|node| node.name).collect();
        bail!("cluster {cluster} has no node {node}; it has {}", names.join(", "));
    };
    match action {
        Action::Stop => stop(&paths, &node),
        Action::Start => start(&paths, &node),
        Action::Kill => send(init(&paths, &node)?, Signal::SIGKILL),
        Action::Crash => crash(&paths, &node),
        Action::Pause => send_all(&paths, &node, Signal::SIGSTOP),
        Action::Resume => send_all(&paths, &node, Signal::SIGCONT),
        Action::Isolate => in_network(&paths, &node, &["nft", "-f", "-"], &rules()),
        Action::Rejoin => in_network(&paths, &node, &["nft", "-f", "-"], &without_rules()),
    }
}

/// Process identifier of a node's init, if the node runs.
pub fn running(paths: &Paths, node: &Node) -> Option<i32> {
    let init = fs::read_to_string(paths.init_pid(&node.name)).ok()?.trim().parse().ok()?;
    // A number is used again: only a process of the node's own group is its init.
    cgroup::processes(&paths.node_system_cgroup(&node.name)).ok()?.contains(&init).then_some(init)
}

/// Whether a process was paused.
#[must_use]
pub fn stands_still(pid: i32) -> bool {
    // The state follows the name, which may hold anything but is in brackets.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, after)| after.trim_start().starts_with('T'))
}

/// Whether a node was stopped and may not be started.
pub fn is_stopped(paths: &Paths, node: &Node) -> bool {
    paths.stopped(&node.name).exists()
}

/// Lets a stopped node be started.
pub fn start(paths: &Paths, node: &Node) -> Result<()> {
    match fs::remove_file(paths.stopped(&node.name)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(|| format!("start {}", node.name)),
        _ => Ok(()),
    }
}

fn stop(paths: &Paths, node: &Node) -> Result<()> {
    let file = paths.stopped(&node.name);
    File::create(&file).with_context(|| format!("make {}", file.display()))?;
    let end = Instant::now() + grace::shutdown_grace(paths, &node.name) + STOP_DEADLINE;
    while let Some(init) = running(paths, node) {
        let late = Instant::now().saturating_duration_since(end);
        if late > STOP_DEADLINE {
            bail!("{} does not end", node.name);
        }
        // An init that has only just begun does not hear it yet.
        send(init, if late.is_zero() { Signal::SIGTERM } else { Signal::SIGKILL })?;
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn init(paths: &Paths, node: &Node) -> Result<i32> {
    running(paths, node).with_context(|| format!("{} does not run", node.name))
}

/// A process that has ended meanwhile needs no signal.
fn send(pid: i32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("send {signal} to process {pid}")),
    }
}

fn crash(paths: &Paths, node: &Node) -> Result<()> {
    let is_ours = |pid: &i32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').nth(1).is_some_and(|word| node.role.processes().contains(&word))
    };
    let processes: Vec<i32> = cgroup::processes(&paths.node_system_cgroup(&node.name))?.into_iter().filter(is_ours).collect();
    if processes.is_empty() {
        bail!("no process of Kontiki runs on {}", node.name);
    }
    processes.into_iter().try_for_each(|pid| send(pid, Signal::SIGKILL))
}

fn send_all(paths: &Paths, node: &Node, signal: Signal) -> Result<()> {
    let processes = cgroup::processes(&paths.node_cgroup(&node.name))?;
    if processes.is_empty() {
        bail!("{} does not run", node.name);
    }
    processes.into_iter().try_for_each(|pid| send(pid, signal))
}

/// Takes the table away, whether or not it is there.
fn without_rules() -> String {
    format!("table inet {TABLE} {{}}\ndelete table inet {TABLE}\n")
}

fn rules() -> String {
    let chain = |name: &str, hook: &str, priority: i32, interface: &str| {
        format!("chain {name} {{ type filter hook {hook} priority {priority}; {interface} \"{INTERFACE}\" drop; }}\n")
    };
    let (inbound, outbound) = (chain("inbound", "prerouting", -400, "iifname"), chain("outbound", "postrouting", 400, "oifname"));
    format!("{}table inet {TABLE} {{\n{inbound}{outbound}}}\n", without_rules())
}

fn in_network(paths: &Paths, node: &Node, command: &[&str], input: &str) -> Result<()> {
    let namespace = PathBuf::from(format!("/proc/{}/ns/net", init(paths, node)?));
    let (command, input): (Vec<String>, String) = (command.iter().map(|word| (*word).to_owned()).collect(), input.to_owned());
    on_thread(move || {
        let namespace = File::open(&namespace).with_context(|| format!("open {}", namespace.display()))?;
        setns(&namespace, CloneFlags::CLONE_NEWNET).context("enter the node's network")?;
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {}", command[0]))?;
        child
            .stdin
            .take()
            .context("its input")?
            .write_all(input.as_bytes())
            .with_context(|| format!("write to {}", command[0]))?;
        let output = child.wait_with_output().with_context(|| format!("wait for {}", command[0]))?;
        if output.status.success() { Ok(()) } else { bail!("{}: {}", command[0], String::from_utf8_lossy(&output.stderr).trim()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_isolated_node_neither_hears_nor_is_heard() {
        let rules = rules();
        assert!(rules.contains("hook prerouting") && rules.contains("iifname \"eth0\" drop"), "{rules}");
        assert!(rules.contains("hook postrouting") && rules.contains("oifname \"eth0\" drop"), "{rules}");
    }
}
