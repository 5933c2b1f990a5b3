//! The OCI configuration of a container. Pure.
//!
//! In: the image's words, the kubelet's, and where things lie. Out: `config.json`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{rootfs::User, seccomp};
use crate::{
    images::ImageConfig,
    runtime::{ContainerConfig, Mount, Propagation},
};

/// Where the parts of a container lie.
pub struct Place<'a> {
    /// The mounted root.
    pub root: &'a Path,
    /// The pod's shared memory.
    pub shared_memory: &'a Path,
    /// Path of the group from the roots of the hierarchies.
    pub cgroup: &'a Path,
    /// Host name inside the pod.
    pub hostname: &'a str,
    /// Its PID namespace.
    pub processes: PidNamespace,
    /// Whether the group is the root of all groups that it sees.
    pub own_cgroups: bool,
    /// Its group in each hierarchy of version 1, by the hierarchy's name; empty under version 2.
    pub groups: Vec<(String, PathBuf)>,
    /// Capabilities that the node may give, a bit for each.
    pub capabilities: u64,
    /// The seccomp profile that the container names, where it lies on the node.
    pub seccomp: Option<Value>,
}

/// The PID namespace of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PidNamespace {
    /// A new one.
    #[default]
    New,
    /// One that exists.
    Joined(PathBuf),
    /// The node's.
    Node,
}

/// Capabilities of a container that asks for none, as containerd has them.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];
/// All capabilities that the kernel has, by their numbers (`linux/capability.h`).
const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The command of a container: the kubelet's words win over the image's, and a command without arguments does
/// not get the image's arguments.
pub fn command(image: &ImageConfig, config: &ContainerConfig) -> Vec<String> {
    let entry = if config.command.is_empty() { &image.entrypoint } else { &config.command };
    let arguments = match (config.command.is_empty(), config.args.is_empty()) {
        (_, false) => &config.args,
        (true, true) => &image.cmd,
        (false, true) => return entry.clone(),
    };
    entry.iter().chain(arguments).cloned().collect()
}

fn environment(image: &ImageConfig, config: &ContainerConfig, hostname: &str, home: &str) -> Vec<String> {
    let mut environment: Vec<String> = Vec::new();
    let mut set = |entry: String| {
        let name = entry.split('=').next().unwrap_or_default().to_owned() + "=";
        match environment.iter_mut().find(|known| known.starts_with(&name)) {
            Some(known) => *known = entry,
            None => environment.push(entry),
        }
    };
    set(PATH.to_owned());
    set(format!("HOSTNAME={hostname}"));
    if config.tty {
        set("TERM=xterm".to_owned());
    }
    image.env.iter().cloned().for_each(&mut set);
    config.env.iter().for_each(|(name, value)| set(format!("{name}={value}")));
    if !environment.iter().any(|entry| entry.starts_with("HOME=")) {
        environment.push(format!("HOME={home}"));
    }
    environment
}

/// The capabilities of a container; `known` has a bit for each that the node itself may give.
fn capabilities(config: &ContainerConfig, known: u64) -> Vec<String> {
    let whole = |name: &String| if name.starts_with("CAP_") { name.clone() } else { format!("CAP_{name}") };
    let all = || {
        let given = ALL_CAPABILITIES.iter().enumerate().filter(|(number, _)| known & (1 << number) != 0);
        given.map(|(_, name)| (*name).to_owned()).collect::<Vec<_>>()
    };
    let is_all = |name: &String| name.eq_ignore_ascii_case("all");
    if config.privileged {
        return all();
    }
    let mut held: Vec<String> = if config.capabilities_add.iter().any(is_all) {
        all()
    } else if config.capabilities_drop.iter().any(is_all) {
        Vec::new()
    } else {
        CAPABILITIES.iter().map(|name| (*name).to_owned()).collect()
    };
    for name in config.capabilities_add.iter().filter(|name| !is_all(name)).map(whole) {
        if !held.contains(&name) {
            held.push(name);
        }
    }
    let dropped: Vec<String> = config.capabilities_drop.iter().filter(|name| !is_all(name)).map(whole).collect();
    held.retain(|name| !dropped.contains(name));
    held
}

fn mounts(config: &ContainerConfig, place: &Place<'_>) -> Vec<Value> {
    let mount = |at: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": at, "type": kind, "source": source, "options": options});
    let read = if config.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "bind", &place.shared_memory.to_string_lossy(), &["rbind", "rw"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", read]),
    ];
    if place.groups.is_empty() {
        mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", read]));
    } else {
        // Named here, because libcontainer takes those of whatever process has its parent's number.
        mounts.push(mount("/sys/fs/cgroup", "tmpfs", "tmpfs", &["nosuid", "noexec", "nodev", "mode=755"]));
    }
    for (name, folder) in &place.groups {
        let options = ["rbind", "nosuid", "noexec", "nodev", read];
        mounts.push(mount(&format!("/sys/fs/cgroup/{name}"), "bind", &folder.to_string_lossy(), &options));
    }
    // A mount within another mount comes after it.
    let mut own: Vec<_> = config.mounts.iter().collect();
    own.sort_by_key(|mount| mount.container_path.components().count());
    for volume in own {
        let mode = match (volume.read_only, volume.recursive_read_only) {
            (false, _) => "rw",
            (true, false) => "ro",
            (true, true) => "rro",
        };
        let propagation = match volume.propagation {
            Propagation::Private => "rprivate",
            Propagation::HostToContainer => "rslave",
            Propagation::Bidirectional => "rshared",
        };
        mounts.push(mount(
            &volume.container_path.to_string_lossy(),
            "bind",
            &volume.host_path.to_string_lossy(),
            &["rbind", propagation, mode],
        ));
    }
    mounts
}

/// What the root's own mount must pass on for the mounts below it to do so.
fn root_propagation(mounts: &[Mount]) -> Option<&'static str> {
    let any = |wanted| mounts.iter().any(|mount| mount.propagation == wanted);
    if any(Propagation::Bidirectional) {
        return Some("rshared");
    }
    any(Propagation::HostToContainer).then_some("rslave")
}

/// The others are the shim's, which all containers of the pod share.
fn namespaces(place: &Place<'_>) -> Vec<Value> {
    let mut namespaces = vec![json!({"type": "mount"})];
    match &place.processes {
        PidNamespace::New => namespaces.push(json!({"type": "pid"})),
        PidNamespace::Joined(path) => namespaces.push(json!({"type": "pid", "path": path})),
        PidNamespace::Node => {}
    }
    if place.own_cgroups {
        namespaces.push(json!({"type": "cgroup"}));
    }
    namespaces
}

/// Capabilities of the process before it becomes the container's: those that the container's own has, and the one that
/// installs a filter where a process that may gain privileges gets one. Becoming the program takes that back.
fn first_capabilities(config: &ContainerConfig, own: &[String], filtered: bool, known: u64) -> Vec<String> {
    let mut first = own.to_vec();
    let is_known =
        ALL_CAPABILITIES.iter().position(|name| *name == seccomp::SYS_ADMIN).is_some_and(|bit| known & (1 << bit) != 0);
    if filtered && is_known && may_gain(config) && !first.iter().any(|name| name == seccomp::SYS_ADMIN) {
        first.push(seccomp::SYS_ADMIN.to_owned());
    }
    first
}

/// Whether a process may gain privileges by running a program.
fn may_gain(config: &ContainerConfig) -> bool {
    config.privileged || config.allow_privilege_escalation
}

/// The whole configuration.
pub fn spec(image: &ImageConfig, config: &ContainerConfig, user: &User, place: &Place<'_>) -> Value {
    let held = capabilities(config, place.capabilities);
    let root = user.uid == 0;
    // A process that is not root holds only what it may gain; as other runtimes do without ambient ones.
    let effective: &[String] = if root { &held } else { &[] };
    let filter = seccomp::profile(config, &held, place.seccomp.as_ref());
    let effective = first_capabilities(config, effective, filter.is_some(), place.capabilities);
    let working_dir = [config.working_dir.as_str(), image.working_dir.as_str(), "/"];
    let working_dir = working_dir.into_iter().find(|dir| !dir.is_empty()).unwrap_or("/");
    let mut groups = if config.merge_image_groups { user.groups.clone() } else { Vec::new() };
    groups.extend(config.supplemental_groups.iter().filter_map(|group| u32::try_from(*group).ok()));
    groups.sort_unstable();
    groups.dedup();
    let open = config.privileged || config.unmasked_proc;
    let (masked, read_only): (&[&str], &[&str]) = if open { (&[], &[]) } else { (&MASKED, &READ_ONLY) };
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": config.tty,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": groups},
            "args": command(image, config),
            "env": environment(image, config, place.hostname, &user.home),
            "cwd": working_dir,
            "capabilities": {"bounding": held, "effective": effective, "permitted": effective},
            "noNewPrivileges": !may_gain(config),
            "oomScoreAdj": config.resources.oom_score_adj.unwrap_or(0),
        },
        "root": {"path": place.root, "readonly": config.read_only_root_filesystem},
        "mounts": mounts(config, place),
        "linux": {
            "cgroupsPath": place.cgroup,
            "namespaces": namespaces(place),
            "maskedPaths": masked,
            "readonlyPaths": read_only,
        },
    });
    if let Some(propagation) = root_propagation(&config.mounts) {
        spec["linux"]["rootfsPropagation"] = json!(propagation);
    }
    if let Some(filter) = filter {
        spec["linux"]["seccomp"] = filter;
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Mount, Seccomp};

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn command_and_arguments_as_kubernetes_combines_them() {
        // https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
        let image = ImageConfig { entrypoint: words(&["/ep"]), cmd: words(&["foo", "bar"]), ..ImageConfig::default() };
        let cases: [(&[&str], &[&str], &[&str]); 4] = [
            (&[], &[], &["/ep", "foo", "bar"]),
            (&["/ep-2"], &[], &["/ep-2"]),
            (&[], &["zoo"], &["/ep", "zoo"]),
            (&["/ep-2"], &["zoo"], &["/ep-2", "zoo"]),
        ];
        for (own_command, args, wanted) in cases {
            let config = ContainerConfig { command: words(own_command), args: words(args), ..ContainerConfig::default() };
            assert_eq!(command(&image, &config), wanted);
        }
    }

    #[test]
    fn the_kubelets_environment_wins() {
        let image = ImageConfig { env: words(&["A=image", "PATH=/own"]), ..ImageConfig::default() };
        let config = ContainerConfig { env: vec![("A".into(), "pod".into())], ..ContainerConfig::default() };
        let found = environment(&image, &config, "web-0", "/root");
        assert_eq!(found, ["PATH=/own", "HOSTNAME=web-0", "A=pod", "HOME=/root"]);
    }

    #[test]
    fn capabilities_are_added_and_dropped() {
        let with = |add: &[&str], drop: &[&str]| {
            let config =
                ContainerConfig { capabilities_add: words(add), capabilities_drop: words(drop), ..ContainerConfig::default() };
            capabilities(&config, 0xffff_feff_ffff)
        };
        assert_eq!(with(&[], &[]).len(), CAPABILITIES.len());
        assert_eq!(with(&["NET_ADMIN"], &["ALL"]), ["CAP_NET_ADMIN"]);
        assert!(!with(&[], &["CAP_CHOWN"]).contains(&"CAP_CHOWN".to_owned()));
        let all = with(&["ALL"], &[]);
        assert!(all.contains(&"CAP_SYS_ADMIN".to_owned()));
        assert!(!all.contains(&"CAP_SYS_RESOURCE".to_owned()), "the node does not have it");
    }

    fn place(processes: PidNamespace) -> Place<'static> {
        let path = Path::new;
        let (root, shared_memory, cgroup) = (path("/r"), path("/shm"), path("/g"));
        Place {
            root,
            shared_memory,
            cgroup,
            hostname: "h",
            processes,
            own_cgroups: false,
            groups: Vec::new(),
            capabilities: u64::MAX,
            seccomp: None,
        }
    }

    #[test]
    fn later_mounts_are_seen_where_they_should_be() {
        let with = |propagation| {
            let mount = Mount { host_path: "/h".into(), container_path: "/a".into(), propagation, ..Mount::default() };
            let config = ContainerConfig { mounts: vec![mount], ..ContainerConfig::default() };
            let spec = spec(&ImageConfig::default(), &config, &User::default(), &place(PidNamespace::New));
            let last = spec["mounts"].as_array().and_then(|mounts| mounts.last()).cloned().unwrap_or_default();
            (last["options"][1].clone(), spec["linux"]["rootfsPropagation"].clone())
        };
        assert_eq!(with(Propagation::Private), (json!("rprivate"), Value::Null));
        assert_eq!(with(Propagation::HostToContainer), (json!("rslave"), json!("rslave")));
        assert_eq!(with(Propagation::Bidirectional), (json!("rshared"), json!("rshared")));
    }

    #[test]
    fn who_installs_a_filter_may_do_so_and_keeps_nothing_of_it() {
        let with = |seccomp, allow_privilege_escalation, privileged, uid| {
            let config = ContainerConfig { seccomp, allow_privilege_escalation, privileged, ..ContainerConfig::default() };
            let user = User { uid, ..User::default() };
            let spec = spec(&ImageConfig::default(), &config, &user, &place(PidNamespace::New));
            let has = |set: &str| {
                let held = spec["process"]["capabilities"][set].as_array().cloned().unwrap_or_default();
                held.contains(&json!("CAP_SYS_ADMIN"))
            };
            (spec["linux"]["seccomp"].is_object(), has("effective"), has("permitted"), has("bounding"))
        };
        assert_eq!(with(Seccomp::RuntimeDefault, true, false, 0), (true, true, true, false));
        assert_eq!(with(Seccomp::RuntimeDefault, true, false, 1000), (true, true, true, false));
        assert_eq!(with(Seccomp::RuntimeDefault, false, false, 0), (true, false, false, false));
        assert_eq!(with(Seccomp::Unconfined, true, false, 0), (false, false, false, false));
        assert_eq!(with(Seccomp::RuntimeDefault, true, true, 0), (false, true, true, true));
    }

    #[test]
    fn the_namespace_of_processes() {
        let kinds = |processes| {
            let namespaces = namespaces(&place(processes));
            namespaces.iter().map(|one| one["type"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(kinds(PidNamespace::New), ["mount", "pid"]);
        assert_eq!(kinds(PidNamespace::Node), ["mount"]);
        assert_eq!(namespaces(&place(PidNamespace::Joined("/proc/7/ns/pid".into())))[1]["path"], "/proc/7/ns/pid");
    }

    #[test]
    fn inner_mounts_come_after_outer_ones() {
        let volume = |at: &str| Mount { host_path: "/h".into(), container_path: at.into(), read_only: true, ..Mount::default() };
        let config = ContainerConfig { mounts: vec![volume("/a/b"), volume("/a")], ..ContainerConfig::default() };
        let spec = spec(&ImageConfig::default(), &config, &User::default(), &place(PidNamespace::New));
        let at: Vec<_> = spec["mounts"].as_array().into_iter().flatten().map(|mount| mount["destination"].clone()).collect();
        assert_eq!(at[at.len() - 2..], ["/a", "/a/b"]);
    }
}
