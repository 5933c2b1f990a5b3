//! What the node can really use, which may be less than the machine has.
//!
//! In: affinity, cgroup limits from the node's group up to the root, /proc/meminfo, the file system. Out: the
//! node's capacity.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::{
    sched::{CpuSet, sched_getaffinity},
    sys::statvfs::statvfs,
    unistd::Pid,
};

use super::Hierarchies;

/// Pods that one node takes, as Kubernetes' default.
const PODS: u64 = 110;

/// The node's capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Thousandths of a CPU.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Number of pods.
    pub pods: u64,
    /// Bytes of the file system that holds images and containers.
    pub ephemeral_storage_bytes: u64,
}

/// Bounds that one cgroup sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bounds {
    cpu_millis: Option<u64>,
    memory_bytes: Option<u64>,
}

/// Reads the capacity of this node, whose files lie in `storage`.
pub fn capacity(hierarchies: &Hierarchies, storage: &Path) -> Capacity {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bounds = groups(hierarchies).iter().map(|group| read_bounds(group)).fold(Bounds::default(), narrower);
    let online = affinity() * 1000;
    Capacity {
        cpu_millis: bounds.cpu_millis.map_or(online, |bound| bound.min(online)).max(1),
        memory_bytes: bounds.memory_bytes.unwrap_or(u64::MAX).min(memory_field(&meminfo, "MemTotal:").unwrap_or(0)),
        pods: PODS,
        ephemeral_storage_bytes: statvfs(storage).map_or(0, |stat| stat.blocks() * stat.fragment_size()),
    }
}

/// Memory that this node can still get: what the machine has left, or less where a group around the node is nearer to
/// its limit.
pub fn available_memory(hierarchies: &Hierarchies) -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let left = groups(hierarchies).into_iter().filter_map(|group| memory_left(&group));
    left.chain(memory_field(&meminfo, "MemAvailable:")).min()
}

/// Memory below a group's limit, what can simply be dropped counted as free; none where it has no limit.
fn memory_left(group: &Path) -> Option<u64> {
    let read = |file: &str| fs::read_to_string(group.join(file)).ok();
    let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
    let limit = read_bounds(group).memory_bytes?;
    let used = number("memory.usage_in_bytes").or_else(|| number("memory.current"))?;
    let stat = read("memory.stat").unwrap_or_default();
    let field = |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let droppable = field("total_inactive_file ").or_else(|| field("inactive_file ")).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(droppable)))
}

/// The node's groups and this process's, with all around them.
fn groups(hierarchies: &Hierarchies) -> Vec<PathBuf> {
    let of_node = ["cpu", "cpuset", "memory"].into_iter().filter_map(|controller| hierarchies.folder(controller, ""));
    let folders = of_node.chain(own_groups(hierarchies)).collect::<Vec<_>>();
    let around = |folder: &PathBuf| {
        let groups = folder.ancestors().take_while(|group| *group != Path::new("/sys/fs"));
        groups.map(Path::to_owned).collect::<Vec<_>>()
    };
    folders.iter().flat_map(around).collect()
}

/// Groups of this process, which may lie elsewhere than the node's root.
fn own_groups(hierarchies: &Hierarchies) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let first = controllers.split(',').next().unwrap_or_default();
        groups.extend(hierarchies.mount_point(first).map(|mount| mount.join(path.trim_start_matches('/'))));
    }
    groups
}

fn affinity() -> u64 {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return 1 };
    (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).count() as u64
}

/// A field of /proc/meminfo in bytes.
fn memory_field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

fn read_bounds(group: &Path) -> Bounds {
    let read = |file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
    let quota_v1 = quota(&format!("{} {}", read("cpu.cfs_quota_us").trim(), read("cpu.cfs_period_us").trim()));
    let cpus = ["cpuset.cpus.effective", "cpuset.effective_cpus"].map(|file| cpu_list(&read(file)));
    let memory = ["memory.limit_in_bytes", "memory.max"].map(|file| read(file).trim().parse::<u64>().ok());
    Bounds {
        cpu_millis: [quota_v1, quota(&read("cpu.max"))].into_iter().chain(cpus).flatten().min(),
        memory_bytes: memory.into_iter().flatten().min(),
    }
}

/// `quota period` in microseconds as thousandths of a CPU.
fn quota(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0).then(|| quota * 1000 / period.max(1))
}

/// CPUs in a list such as `0-3,8` as thousandths; none if the list is empty.
fn cpu_list(text: &str) -> Option<u64> {
    let mut count = 0;
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        count += last.checked_sub(first)? + 1;
    }
    (count > 0).then_some(count * 1000)
}

fn narrower(left: Bounds, right: Bounds) -> Bounds {
    let least = |left: Option<u64>, right: Option<u64>| left.into_iter().chain(right).min();
    Bounds { cpu_millis: least(left.cpu_millis, right.cpu_millis), memory_bytes: least(left.memory_bytes, right.memory_bytes) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn quotas_and_lists() {
        assert_eq!(quota("150000 100000\n"), Some(1500));
        assert_eq!(quota("max 100000"), None);
        assert_eq!(quota("-1 100000"), None);
        assert_eq!(cpu_list("0-3,8\n"), Some(5000));
        assert_eq!(cpu_list(""), None);
        assert_eq!(memory_field("MemTotal:  2048 kB\nMemFree: 1 kB\n", "MemTotal:"), Some(2_097_152));
    }

    #[test]
    fn bounds_of_a_group_of_either_version() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, value: &str| fs::write(folder.path().join(file), value).unwrap();
        assert_eq!(read_bounds(folder.path()), Bounds::default());
        write("memory.max", "max\n");
        write("cpu.max", "50000 100000\n");
        assert_eq!(read_bounds(folder.path()), Bounds { cpu_millis: Some(500), memory_bytes: None });
        write("memory.limit_in_bytes", "1073741824\n");
        write("cpuset.effective_cpus", "1\n");
        assert_eq!(read_bounds(folder.path()).memory_bytes, Some(1_073_741_824));
        assert_eq!(memory_left(folder.path()), None);
        write("memory.usage_in_bytes", "1073741824\n");
        write("memory.stat", "inactive_file 1\ntotal_inactive_file 1000\n");
        assert_eq!(memory_left(folder.path()), Some(1000), "what can be dropped is free");
    }
}
