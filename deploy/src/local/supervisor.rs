//! The one process of a local cluster that lives outside its nodes: makes the link, starts and
//! restarts the nodes, and leads 127.0.0.1 to them.
//!
//! Nodes outlive it: one that is started after another was killed finds them running and goes on watching over them.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use tokio_util::sync::CancellationToken;

use super::{cgroup, forwarder, link, paths::Paths, provision, trouble};
use crate::shape::Node;

/// First and longest wait before a node that ended is started again.
const RESTART_DELAY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How often a file or a process that another process changes is looked at.
const POLL: Duration = Duration::from_millis(10);
/// How often a node that is nobody's child, or was stopped, is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Starts a supervisor that outlives this process.
pub fn start(paths: &Paths, name: &str) -> Result<()> {
    let log = OpenOptions::new().create(true).append(true).open(paths.supervisor_log());
    let log = log.with_context(|| format!("open {}", paths.supervisor_log().display()))?;
    let errors = log.try_clone().context("share the supervisor's log")?;
    Command::new(std::env::current_exe().context("find this program")?)
        .args(["supervise", "--cluster", name])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .context("start the supervisor")?;
    Ok(())
}

/// Process identifier of a cluster's supervisor, if one runs.
pub fn running(paths: &Paths) -> Result<Option<i32>> {
    let Ok(mut file) = OpenOptions::new().read(true).write(true).open(paths.supervisor_lock()) else {
        return Ok(None);
    };
    let mut text = String::new();
    file.read_to_string(&mut text).context("read the supervisor's lock file")?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_) => Ok(None),
        Err(_) => Ok(text.trim().parse().ok()),
    }
}

/// Waits until no supervisor runs, at most `deadline`.
pub fn wait_until_gone(paths: &Paths, deadline: Duration) {
    let end = Instant::now() + deadline;
    while Instant::now() < end && matches!(running(paths), Ok(Some(_))) {
        std::thread::sleep(POLL);
    }
}

fn take_lock(paths: &Paths) -> Result<Flock<File>> {
    let path = paths.supervisor_lock();
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    let Ok(mut lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
        bail!("another supervisor of this cluster runs");
    };
    lock.set_len(0)?;
    lock.rewind()?;
    write!(lock, "{}", std::process::id())?;
    Ok(lock)
}

/// Runs a cluster until `cancel`.
pub async fn run(name: &str, cancel: CancellationToken) -> Result<()> {
    let paths = Paths::new(name);
    let _lock = take_lock(&paths)?;
    let shape = provision::read_shape(&paths)?;
    let link = paths.link();
    tokio::task::spawn_blocking(move || link::create(&link)).await.context("prepare the link")??;
    let forwarder = forwarder::start(&paths, &shape, cancel.clone()).await?;
    let mut nodes = tokio::task::JoinSet::new();
    for node in shape.nodes() {
        nodes.spawn(run_node(paths.clone(), name.to_owned(), node, cancel.clone()));
    }
    while nodes.join_next().await.is_some() {}
    forwarder.join().await;
    let (left, link_path) = (paths.clone(), paths.link());
    tokio::task::spawn_blocking(move || {
        cgroup::destroy(&left.cgroup())?;
        link::remove(&link_path)
    })
    .await
    .context("remove the link")?
}

/// Starts a node again and again until `cancel`.
async fn run_node(paths: Paths, cluster: String, node: Node, cancel: CancellationToken) {
    watch_over_what_runs(&paths, &node, &cancel).await;
    let mut delay = RESTART_DELAY.0;
    while !cancel.is_cancelled() {
        if trouble::is_stopped(&paths, &node) {
            delay = RESTART_DELAY.0;
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            continue;
        }
        let started = Instant::now();
        if let Err(error) = run_node_once(&paths, &cluster, &node, &cancel).await {
            tracing::error!(node = %node.name, "{error:#}");
        }
        if started.elapsed() > RESTART_DELAY.1 {
            delay = RESTART_DELAY.0;
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(delay) => {}
        }
        delay = (delay * 2).min(RESTART_DELAY.1);
    }
}

/// Waits for the end of a node that a supervisor before this one has started, if it runs.
async fn watch_over_what_runs(paths: &Paths, node: &Node, cancel: &CancellationToken) {
    let mut is_found = false;
    while !cancel.is_cancelled() && trouble::running(paths, node).is_some() {
        if !is_found {
            tracing::info!(node = %node.name, "node found running");
            is_found = true;
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    if is_found && !cancel.is_cancelled() {
        tracing::warn!(node = %node.name, "node ended; it is started again");
    }
}

async fn run_node_once(paths: &Paths, cluster: &str, node: &Node, cancel: &CancellationToken) -> Result<()> {
    let group = paths.node_cgroup(&node.name);
    // A node that died may have left containers and groups; a machine that is switched on has none.
    tokio::task::spawn_blocking(move || cgroup::destroy(&group)).await.context("clean up the node")??;
    fs::create_dir_all(paths.node(&node.name)).context("make the node's folder")?;
    let log_path = paths.node(&node.name).join("init.log");
    let log = OpenOptions::new().create(true).append(true).open(&log_path).context("open the node's log")?;
    let mut child = tokio::process::Command::new(std::env::current_exe().context("find this program")?)
        .args(["node-launch", "--cluster", cluster, "--node", &node.name])
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the node's log")?)
        .stderr(log)
        .spawn()
        .context("start the node")?;
    tracing::info!(node = %node.name, "node started");
    tokio::select! {
        status = child.wait() => {
            tracing::warn!(node = %node.name, status = ?status.context("wait for the node")?, "node ended; it is started again");
            Ok(())
        }
        () = cancel.cancelled() => stop_node(paths, node, &mut child).await,
    }
}

/// A cluster that goes away needs no orderly end of each pod: the power is switched off.
async fn stop_node(paths: &Paths, node: &Node, child: &mut tokio::process::Child) -> Result<()> {
    let group = paths.node_cgroup(&node.name);
    tokio::task::spawn_blocking(move || cgroup::destroy(&group)).await.context("stop the node")??;
    child.wait().await.context("wait for the node")?;
    Ok(())
}
