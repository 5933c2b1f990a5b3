//! One node of a cluster from outside: its processes by the cluster's own records, and its network namespace.
//!
//! One process holds several parts: a server is store, API server, scheduler and controllers, an agent is kubelet, proxy and
//! DNS, the supervisor is the forwarder and the parent of nodes. Whoever kills one kills them all, as a crash would.

use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::cluster::{Records, text};

/// Process identifier of a node's init, which the cluster notes.
pub fn init(cluster: &Records, node: &str) -> Result<i32> {
    let path = cluster.node(node).join("init.pid");
    let noted = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let pid = noted.trim().parse().context("parse init.pid")?;
    // A number is used again: only a process of that node's group is its init.
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    if !groups.contains(&format!("/kontiki/{}/{node}/", cluster.name)) {
        bail!("{node} does not run");
    }
    Ok(pid)
}

/// Sends a signal to a process.
pub fn signal(pid: i32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(pid), signal).with_context(|| format!("send {signal} to {pid}"))
}

/// File of a node's network namespace.
pub fn network(cluster: &Records, node: &str) -> Result<PathBuf> {
    Ok(PathBuf::from(format!("/proc/{}/ns/net", init(cluster, node)?)))
}

/// Moves this thread into a node's network namespace; meant for threads that stay there.
pub fn enter_network(cluster: &Records, node: &str) -> Result<()> {
    let file = File::open(network(cluster, node)?).context("open a network namespace")?;
    setns(file, CloneFlags::CLONE_NEWNET).context("enter a network namespace")
}

/// Runs a program in a node's network namespace.
pub fn in_network(cluster: &Records, node: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new("nsenter")
        .arg(format!("--net={}", network(cluster, node)?.display()))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run nsenter")?;
    child.stdin.take().context("nsenter's input")?.write_all(input.as_bytes())?;
    text(&child.wait_with_output()?).with_context(|| format!("{arguments:?} in the network of {node}"))
}
