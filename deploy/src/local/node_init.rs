//! PID 1 of a node: prepares the machine in small, starts the node's processes, reaps, restarts.
//!
//! Killing it is a power cut: the kernel kills every process of its PID namespace, containers
//! included, and the node's mounts and interfaces vanish with the last of them.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    os::fd::AsFd,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, sethostname},
};

use super::{grace, link, mounts, paths::Paths, provision};
use crate::shape::Node;

/// First and longest wait before a process that ended is started again.
const RESTART_DELAY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A process that ran this long begins again with the first wait.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// How long processes may take to end when the node is stopped; pods have their own time before it.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// The process that has the pods.
const AGENT: &str = "agent";
/// Folders that are empty in a fresh machine.
const VOLATILE: [&str; 1] = ["/run"];

/// One process that belongs to the node.
struct Part {
    name: &'static str,
    child: Option<Child>,
    started: Instant,
    delay: Duration,
    start_at: Option<Instant>,
}

/// How far the end of the node has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It runs.
    Up,
    /// The agent knows that the machine goes down and ends the pods; the others serve it, until then at the latest.
    Pods(Instant),
    /// All processes are asked to end, until then at the latest.
    Processes(Instant),
}

impl Stage {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Up => None,
            Self::Pods(at) | Self::Processes(at) => Some(at),
        }
    }
}

/// Runs the node until SIGTERM.
pub fn run(cluster: &str, node: &str) -> Result<ExitCode> {
    let paths = Paths::new(cluster);
    let shape = provision::read_shape(&paths)?;
    let node = shape.node(node).with_context(|| format!("cluster {cluster} has no node {node}"))?;
    prepare(&paths, &node)?;
    mounts::bind(&paths, &shape.extras(&node.name).mounts)?;
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        signals.add(signal);
    }
    signals.thread_block().context("block signals")?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).context("open a signalfd")?;
    supervise(&paths, &node, &signals)
}

fn prepare(paths: &Paths, node: &Node) -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("make the node's mounts private")?;
    link::attach(&paths.link(), &node.name, node.address)?;
    sethostname(&node.name).context("set the host name")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, None::<&str>)
        .context("mount /proc")?;
    for folder in VOLATILE {
        mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
            .with_context(|| format!("mount a tmpfs at {folder}"))?;
    }
    fs::create_dir_all("/run/netns").context("make /run/netns")?;
    fs::create_dir_all("/run/lock").context("make /run/lock")?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("let the node forward packets")?;
    let hosts = paths.node_etc(&node.name).join("hosts");
    mount(Some(&hosts), "/etc/hosts", None::<&str>, MsFlags::MS_BIND, None::<&str>).context("bind /etc/hosts")
}

fn supervise(paths: &Paths, node: &Node, signals: &SignalFd) -> Result<ExitCode> {
    let names = node.role.processes();
    let now = Instant::now();
    let new = |name: &&'static str| Part { name, child: None, started: now, delay: RESTART_DELAY.0, start_at: Some(now) };
    let mut parts: Vec<Part> = names.iter().map(new).collect();
    let mut stage = Stage::Up;
    loop {
        let now = Instant::now();
        let runs =
            |name: Option<&str>| parts.iter().any(|part| part.child.is_some() && name.is_none_or(|name| part.name == name));
        match stage {
            Stage::Up => {
                for part in &mut parts {
                    start_if_due(part, paths, node, now)?;
                }
            }
            Stage::Pods(at) if now >= at || !runs(Some(AGENT)) => {
                signal_all(&parts, Signal::SIGTERM);
                stage = Stage::Processes(now + STOP_GRACE);
            }
            Stage::Processes(at) if now >= at || !runs(None) => return Ok(ExitCode::SUCCESS),
            Stage::Pods(_) | Stage::Processes(_) => {}
        }
        wait(signals, &parts, stage)?;
        while let Some(signal) = signals.read_signal().context("read a signal")? {
            if signal.ssi_signo != Signal::SIGCHLD as u32 && stage == Stage::Up {
                let agent: Vec<&Part> = parts.iter().filter(|part| part.name == AGENT).collect();
                signal_all(agent, Signal::SIGPWR);
                stage = Stage::Pods(Instant::now() + grace::shutdown_grace(paths, &node.name));
            }
        }
        reap(&mut parts)?;
    }
}

fn signal_all<'a>(parts: impl IntoIterator<Item = &'a Part>, signal: Signal) {
    for child in parts.into_iter().filter_map(|part| part.child.as_ref()) {
        // It may have ended already.
        let _ = kill(pid_of(child), signal);
    }
}

fn wait(signals: &SignalFd, parts: &[Part], stage: Stage) -> Result<()> {
    // A node that goes down starts nothing.
    let starts = parts.iter().filter_map(|part| part.start_at.filter(|_| stage == Stage::Up));
    let next = starts.chain(stage.deadline()).min();
    let timeout = next.map_or(PollTimeout::NONE, |at| {
        let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("wait for signals"),
    }
}

fn start_if_due(part: &mut Part, paths: &Paths, node: &Node, now: Instant) -> Result<()> {
    if part.start_at.is_none_or(|at| at > now) {
        return Ok(());
    }
    let log_path = paths.node_log(&node.name, part.name);
    let log = OpenOptions::new().create(true).append(true).open(&log_path);
    let log = log.with_context(|| format!("open {}", log_path.display()))?;
    let errors = log.try_clone().context("share the log")?;
    let child = Command::new(std::env::current_exe().unwrap_or_else(|_| Path::new("/proc/self/exe").into()))
        .arg(part.name)
        .arg("--config")
        .arg(paths.node_etc(&node.name).join(format!("{}.yaml", part.name)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("start {}", part.name))?;
    part.child = Some(child);
    part.started = now;
    part.start_at = None;
    Ok(())
}

/// Reaps whatever has ended: the node's own processes and orphans that the kernel gave to PID 1.
fn reap(parts: &mut [Part]) -> Result<()> {
    let now = Instant::now();
    let mut by_pid: HashMap<i32, &mut Part> = parts
        .iter_mut()
        .filter_map(|part| part.child.as_ref().map(|child| pid_of(child).as_raw()).map(|pid| (pid, part)))
        .collect();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
            Ok(status) => {
                if let Some(part) = status.pid().and_then(|pid| by_pid.remove(&pid.as_raw())) {
                    eprintln!("{} ended: {status:?}", part.name);
                    schedule_restart(part, now);
                }
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("reap processes"),
        }
    }
}

fn schedule_restart(part: &mut Part, now: Instant) {
    part.child = None;
    if now.duration_since(part.started) >= STABLE_AFTER {
        part.delay = RESTART_DELAY.0;
    }
    part.start_at = Some(now + part.delay);
    part.delay = (part.delay * 2).min(RESTART_DELAY.1);
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_crashes_at_once_waits_longer_each_time_and_a_stable_one_does_not() {
        let now = Instant::now();
        let mut part = Part { name: "agent", child: None, started: now, delay: RESTART_DELAY.0, start_at: None };
        schedule_restart(&mut part, now);
        schedule_restart(&mut part, now);
        assert_eq!(part.start_at, Some(now + RESTART_DELAY.0 * 2));
        for _ in 0..20 {
            schedule_restart(&mut part, now);
        }
        assert_eq!(part.start_at, Some(now + RESTART_DELAY.1));
        let later = now + STABLE_AFTER;
        schedule_restart(&mut part, later);
        assert_eq!(part.start_at, Some(later + RESTART_DELAY.0));
    }
}
