//! What a machine must have before a local cluster is started, all that is missing at once.

use std::{fs, path::Path};

use anyhow::{Result, bail};

/// Programs that a node calls, and the Debian package of each.
const PROGRAMS: [(&str, &str); 2] = [("nft", "nftables"), ("ip", "iproute2")];

/// Checks the machine. The error says what is missing and how to get it.
pub fn check() -> Result<()> {
    let mut missing = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        missing.push("root: namespaces, cgroups and nftables need it (run it with sudo)".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    for (program, package) in PROGRAMS {
        if !folders.iter().any(|folder| folder.join(program).is_file()) {
            missing.push(format!("the program {program} (Debian and Ubuntu: apt-get install {package})"));
        }
    }
    let file_systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !file_systems.lines().any(|line| line.ends_with("overlay")) && !Path::new("/sys/module/overlay").exists() {
        missing.push("the overlay file system of the kernel (modprobe overlay)".to_owned());
    }
    if super::cgroup::hierarchies().map_or(true, |roots| roots.is_empty()) {
        missing.push("cgroups (nothing of type cgroup or cgroup2 is mounted)".to_owned());
    }
    if missing.is_empty() { Ok(()) } else { bail!("this machine lacks:\n  - {}", missing.join("\n  - ")) }
}
