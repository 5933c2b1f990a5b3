//! Removes a local cluster and everything that it left on the host, however it ended.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{cgroup, link, mounts, paths::Paths, provision, supervisor};
use crate::kubeconfig;

/// How long the supervisor may take to end by itself.
const SUPERVISOR_DEADLINE: Duration = Duration::from_secs(10);

/// Stops a cluster and removes it; `keep_data` leaves its data for the next `up`.
pub fn run(name: &str, keep_data: bool) -> Result<()> {
    let paths = Paths::new(name);
    if let Some(pid) = supervisor::running(&paths)? {
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("ask the supervisor to end")?;
        supervisor::wait_until_gone(&paths, SUPERVISOR_DEADLINE);
    }
    cgroup::destroy(&paths.cgroup())?;
    link::remove(&paths.link())?;
    mounts::remove_places(&paths);
    let context = provision::read_shape(&paths).map_or_else(|_| format!("kontiki-{name}"), |shape| shape.context());
    kubeconfig::remove_from(&kubeconfig::default_path()?, &context)?;
    if !keep_data && paths.root().exists() {
        fs::remove_dir_all(paths.root()).with_context(|| format!("remove {}", paths.root().display()))?;
    }
    Ok(())
}
