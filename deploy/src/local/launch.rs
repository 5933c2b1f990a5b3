//! The step between the supervisor and a node's init: a process that joins the node's cgroup and
//! makes its namespaces while it still has one thread, then starts the init as their first process.
//!
//! It stays as the init's parent and ends with the init's exit code, so that the supervisor waits
//! for a child of its own.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};

use super::{cgroup, paths::Paths};
use crate::files::{PUBLIC, write_atomically};

/// Runs a node until its init ends. Must be called before any thread is started.
pub fn run(cluster: &str, node: &str) -> Result<ExitCode> {
    let paths = Paths::new(cluster);
    cgroup::enter(&paths.node_system_cgroup(node))?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID,
    )
    .context("make the node's namespaces (needs root)")?;
    let program = std::env::current_exe().context("find this program")?;
    let mut init = Command::new(program)
        .args(["node-init", "--cluster", cluster, "--node", node])
        .spawn()
        .context("start the node's init")?;
    write_atomically(&paths.init_pid(node), init.id().to_string().as_bytes(), PUBLIC)?;
    let status = init.wait().context("wait for the node's init")?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}
