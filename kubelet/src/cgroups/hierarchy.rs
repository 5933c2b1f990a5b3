//! The groups themselves: made, limited, measured, emptied, removed.
//!
//! In: paths relative to the node's own root, such as `kubepods/burstable/pod<uid>`. Out: folders below the
//! mounted hierarchies. Removing a group kills what is in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::table::{Setting, Version};
use crate::runtime::Usage;

/// How long a group may take to empty after its processes were killed.
const REMOVE_DEADLINE: Duration = Duration::from_secs(5);
/// Between two attempts to remove a group.
const REMOVE_PAUSE: Duration = Duration::from_millis(10);

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    controllers: Vec<String>,
    mount_point: PathBuf,
}

/// The mounted hierarchies, and the node's root below each.
#[derive(Clone, Debug)]
pub struct Hierarchies {
    version: Version,
    mounted: Vec<Hierarchy>,
    root: PathBuf,
}

impl Hierarchies {
    /// Finds what is mounted here; `root` is the node's own group in each hierarchy.
    pub fn detect(root: &str) -> io::Result<Hierarchies> {
        let (version, mounted) = parse_mounts(&fs::read_to_string("/proc/self/mountinfo")?);
        if mounted.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no cgroup hierarchy is mounted"));
        }
        Ok(Hierarchies { version, mounted, root: PathBuf::from(root.trim_matches('/')) })
    }

    /// Version of the interface.
    pub fn version(&self) -> Version {
        self.version
    }

    /// A group's path from the roots of the hierarchies, as OCI's `cgroupsPath` wants it.
    pub fn absolute(&self, path: &str) -> PathBuf {
        Path::new("/").join(&self.root).join(path.trim_matches('/'))
    }

    /// A group's folder in the hierarchy of `controller`.
    pub fn folder(&self, controller: &str, path: &str) -> Option<PathBuf> {
        let mount_point = self.mount_point(controller)?;
        Some(mount_point.join(&self.root).join(path.trim_matches('/')))
    }

    /// Where the hierarchy of `controller` is mounted.
    pub fn mount_point(&self, controller: &str) -> Option<&Path> {
        let hierarchy = self
            .mounted
            .iter()
            .find(|hierarchy| self.version == Version::V2 || hierarchy.controllers.iter().any(|mounted| mounted == controller))?;
        Some(&hierarchy.mount_point)
    }

    /// Each hierarchy's mount point and the group's folder in it.
    pub fn folders(&self, path: &str) -> Vec<(PathBuf, PathBuf)> {
        self.mounted.iter().map(|hierarchy| (hierarchy.mount_point.clone(), self.below(hierarchy, path))).collect()
    }

    /// The group's folder in each hierarchy by the name of the hierarchy, and of each controller where it has several.
    pub fn named(&self, path: &str) -> Vec<(String, PathBuf)> {
        let mut named = Vec::new();
        for hierarchy in &self.mounted {
            let folder = self.below(hierarchy, path);
            let name = hierarchy.mount_point.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.contains(',') {
                named.extend(name.split(',').map(|part| (part.to_owned(), folder.clone())));
            }
            named.push((name, folder));
        }
        named
    }

    /// Makes a group with all above it, and writes its settings.
    pub fn create(&self, path: &str, settings: &[Setting]) -> io::Result<()> {
        for hierarchy in &self.mounted {
            let mut folder = hierarchy.mount_point.clone();
            for part in self.root.join(path.trim_matches('/')).iter() {
                if self.version == Version::V2 {
                    enable_controllers(&folder);
                }
                folder.push(part);
                make(&folder, hierarchy)?;
            }
        }
        self.apply(path, settings)
    }

    /// Writes settings to a group that exists.
    pub fn apply(&self, path: &str, settings: &[Setting]) -> io::Result<()> {
        for setting in settings {
            let Some(folder) = self.folder(setting.controller, path) else {
                tracing::debug!(controller = setting.controller, "controller is not mounted; its limit is not enforced");
                continue;
            };
            let file = folder.join(setting.file);
            fs::write(&file, &setting.value).map_err(|error| {
                let message = format!("cannot write {:?} to {}: {error}", setting.value, file.display());
                io::Error::new(error.kind(), message)
            })?;
        }
        Ok(())
    }

    /// Kills all processes in a group and below it.
    pub fn kill(&self, path: &str) {
        for (_, folder) in self.folders(path) {
            kill_tree(&folder);
        }
    }

    /// Kills what is in a group and removes it and what is below it. One that is gone is fine.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let deadline = Instant::now() + REMOVE_DEADLINE;
        for (_, folder) in self.folders(path) {
            while let Err(error) = remove_tree(&folder) {
                if Instant::now() > deadline {
                    return Err(error);
                }
                kill_tree(&folder);
                thread::sleep(REMOVE_PAUSE);
            }
        }
        Ok(())
    }

    /// What a group has used; zero where there is nothing to read.
    pub fn usage(&self, path: &str) -> Usage {
        let read = |controller: &str, file: &str| {
            self.folder(controller, path).and_then(|folder| fs::read_to_string(folder.join(file)).ok()).unwrap_or_default()
        };
        let stat = read("memory", "memory.stat");
        let processes = number(&read("pids", "pids.current"));
        let usage = |cpu_nanoseconds, memory: u64, inactive, rss, faults, major| Usage {
            cpu_nanoseconds,
            memory_working_set: memory.saturating_sub(inactive),
            memory_usage: memory,
            memory_rss: rss,
            page_faults: (faults, major),
            processes,
        };
        match self.version {
            Version::V1 => usage(
                number(&read("cpuacct", "cpuacct.usage")),
                number(&read("memory", "memory.usage_in_bytes")),
                field(&stat, "total_inactive_file"),
                field(&stat, "total_rss"),
                field(&stat, "total_pgfault"),
                field(&stat, "total_pgmajfault"),
            ),
            Version::V2 => usage(
                field(&read("cpu", "cpu.stat"), "usage_usec") * 1000,
                number(&read("memory", "memory.current")),
                field(&stat, "inactive_file"),
                field(&stat, "anon"),
                field(&stat, "pgfault"),
                field(&stat, "pgmajfault"),
            ),
        }
    }

    fn below(&self, hierarchy: &Hierarchy, path: &str) -> PathBuf {
        hierarchy.mount_point.join(&self.root).join(path.trim_matches('/'))
    }
}

/// Makes one folder; a new cpuset is empty and takes no process until it has its parent's CPUs and memory nodes.
fn make(folder: &Path, hierarchy: &Hierarchy) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(io::Error::new(error.kind(), format!("cannot make {}: {error}", folder.display()))),
    }
    if hierarchy.controllers.iter().any(|controller| controller == "cpuset") {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Some(parent) = folder.parent() {
                let value = fs::read_to_string(parent.join(file))?;
                if !value.trim().is_empty() {
                    fs::write(folder.join(file), value.trim())?;
                }
            }
        }
    }
    Ok(())
}

/// Lets the children of a v2 group use what it has. One at a time: a controller that is not there spoils only itself.
fn enable_controllers(folder: &Path) {
    for controller in ["cpu", "cpuset", "memory", "pids", "io"] {
        // Refused where the group holds processes itself; the limit then fails with its own message.
        let _ = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn kill_tree(folder: &Path) {
    // v2 from kernel 5.14 on; what it leaves, signals take.
    let _ = fs::write(folder.join("cgroup.kill"), "1");
    for child in children(folder) {
        kill_tree(&child);
    }
    let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 1) {
        // It may have ended meanwhile.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    for child in children(folder) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

fn field(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map_or(0, number)
}

/// The hierarchies in `/proc/self/mountinfo`. With v1 controllers mounted, a v2 hierarchy beside them has none.
fn parse_mounts(mountinfo: &str) -> (Version, Vec<Hierarchy>) {
    let mut v1: Vec<Hierarchy> = Vec::new();
    let mut v2: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(mount_point) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
        let mut fields = right.split(' ');
        let kind = fields.next().unwrap_or_default();
        let options = fields.nth(1).unwrap_or_default();
        let controllers: Vec<String> =
            options.split(',').filter(|option| CONTROLLERS.contains(option)).map(str::to_owned).collect();
        let known = |hierarchies: &[Hierarchy]| hierarchies.iter().any(|known| known.controllers == controllers);
        if kind == "cgroup" && !controllers.is_empty() && !known(&v1) {
            v1.push(Hierarchy { controllers, mount_point });
        } else if kind == "cgroup2" && v2.is_empty() {
            v2.push(Hierarchy { controllers: Vec::new(), mount_point });
        }
    }
    if v1.is_empty() { (Version::V2, v2) } else { (Version::V1, v1) }
}

/// v1 controllers that a container joins.
const CONTROLLERS: [&str; 12] =
    ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls", "net_prio", "perf_event"];

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "24 1 0:20 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
30 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
31 24 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
32 24 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
33 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
34 24 0:27 / /mnt/again/memory rw - cgroup cgroup rw,memory
";

    #[test]
    fn mounted_hierarchies_are_found_once() {
        let (version, mounted) = parse_mounts(V1);
        assert_eq!(version, Version::V1);
        let points: Vec<_> = mounted.iter().map(|hierarchy| hierarchy.mount_point.to_string_lossy().into_owned()).collect();
        assert_eq!(points, ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory"]);
        let (version, mounted) = parse_mounts("30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
        assert_eq!((version, mounted.len()), (Version::V2, 1));
    }

    #[test]
    fn folders_lie_below_the_nodes_root() {
        let (version, mounted) = parse_mounts(V1);
        let hierarchies = Hierarchies { version, mounted, root: "kontiki/dev/server-1".into() };
        let folder = hierarchies.folder("cpuacct", "kubepods/pod1").map(|path| path.to_string_lossy().into_owned());
        assert_eq!(folder.as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct/kontiki/dev/server-1/kubepods/pod1"));
        let named: Vec<_> = hierarchies.named("kubepods").into_iter().map(|(name, _)| name).collect();
        assert_eq!(named, ["cpu", "cpuacct", "cpu,cpuacct", "memory"]);
        assert_eq!(hierarchies.folder("pids", "kubepods"), None);
        assert_eq!(hierarchies.absolute("/kubepods/"), PathBuf::from("/kontiki/dev/server-1/kubepods"));
    }

    #[test]
    fn fields_of_memory_stat() {
        assert_eq!(field("total_inactive_file 12\ninactive_file 5\n", "inactive_file"), 5);
        assert_eq!(field("", "inactive_file"), 0);
    }
}
