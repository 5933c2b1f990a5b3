//! cgroups of a cluster's nodes: where processes are put, and how all of them are found again.
//!
//! Every process of a node lies below `kontiki/CLUSTER/NODE` in each hierarchy: those of the node
//! itself in `system`, pods beside it. Killing what is listed there kills the node, whatever
//! became of the processes' parents.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const HIERARCHIES: &str = "/sys/fs/cgroup";
/// How long killed processes may take to vanish.
const KILL_DEADLINE: Duration = Duration::from_secs(15);

/// Roots of the mounted hierarchies: one for each controller in version 1, one in version 2.
pub fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    Ok(parse_hierarchies(&mounts))
}

fn parse_hierarchies(mounts: &str) -> Vec<PathBuf> {
    let mut versions = (Vec::new(), Vec::new());
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(path), Some(kind)) = (fields.next(), fields.next()) else { continue };
        match kind {
            "cgroup" => versions.0.push(PathBuf::from(path)),
            "cgroup2" => versions.1.push(PathBuf::from(path)),
            _ => {}
        }
    }
    // On a hybrid machine the version 2 mount has no controllers; version 1 does the work.
    if versions.0.is_empty() { versions.1 } else { versions.0 }
}

/// Moves this process into `relative` of every hierarchy, making the groups.
pub fn enter(relative: &str) -> Result<()> {
    for root in hierarchies()? {
        let group = root.join(relative);
        make(&root, &group)?;
        let file = group.join("cgroup.procs");
        fs::write(&file, std::process::id().to_string()).with_context(|| format!("join cgroup {}", group.display()))?;
    }
    Ok(())
}

fn make(root: &Path, group: &Path) -> Result<()> {
    fs::create_dir_all(group).with_context(|| format!("make cgroup {}", group.display()))?;
    let mut ancestors: Vec<_> = group.ancestors().take_while(|path| *path != root).collect();
    ancestors.reverse();
    for path in ancestors {
        // A cpuset group takes no process before it has CPUs and memory nodes; they come from its parent.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = path.join(file);
            if fs::read_to_string(&own).is_ok_and(|text| text.trim().is_empty()) {
                let parent = path.parent().context("a cgroup has a parent")?.join(file);
                fs::write(&own, fs::read(&parent)?).with_context(|| format!("write {}", own.display()))?;
            }
        }
        enable_controllers(path);
    }
    Ok(())
}

/// In version 2 a group's children have a controller only where the group passes it on.
fn enable_controllers(group: &Path) {
    if let Some(parent) = group.parent() {
        let control = parent.join("cgroup.subtree_control");
        if control.exists() && parent != Path::new(HIERARCHIES) {
            for controller in ["cpu", "memory", "pids", "cpuset"] {
                // Not every kernel has every controller; the kubelet names those it misses.
                let _ = fs::write(&control, format!("+{controller}"));
            }
        }
    }
}

/// Processes anywhere below `relative`, of every hierarchy.
pub fn processes(relative: &str) -> Result<BTreeSet<i32>> {
    let mut found = BTreeSet::new();
    for root in hierarchies()? {
        walk(&root.join(relative), &mut |group| {
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        });
    }
    Ok(found)
}

/// Kills every process below `relative` and removes the groups.
pub fn destroy(relative: &str) -> Result<()> {
    let deadline = Instant::now() + KILL_DEADLINE;
    loop {
        let left = processes(relative)?;
        if left.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            bail!("processes {left:?} of cgroup {relative} do not end");
        }
        for pid in left {
            // It may have ended since it was listed.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    for root in hierarchies()? {
        let mut groups = Vec::new();
        walk(&root.join(relative), &mut |group| groups.push(group.to_owned()));
        for group in groups.iter().rev() {
            remove_group(group, deadline)?;
        }
    }
    Ok(())
}

/// A group is busy for a moment after its last process has gone.
fn remove_group(group: &Path, deadline: Instant) -> Result<()> {
    loop {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("remove cgroup {}", group.display()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Visits a group and all below it, parents first. A group that is gone is no mistake.
fn walk(group: &Path, visit: &mut dyn FnMut(&Path)) {
    if !group.is_dir() {
        return;
    }
    visit(group);
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_wins_on_a_hybrid_machine() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(parse_hierarchies(mounts), [PathBuf::from("/sys/fs/cgroup/cpu")]);
        assert_eq!(parse_hierarchies("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"), [PathBuf::from(HIERARCHIES)]);
    }
}
