//! Makes this process the pod's sandbox.
//!
//! In: the settings file. Out: a session, namespaces and a host name of its own; orphans come here.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use kontiki_shim::protocol::{PAUSE, READY, SETTINGS, Settings};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::{Pid, dup2_stdout, sethostname, setsid},
};

use crate::pause;

/// Score of the shim itself: the kernel takes the containers first.
const OOM_SCORE: &str = "-998";

/// Leaves the kubelet's session and enters the pod's namespaces.
/// Returns the process whose PID namespace the containers are to share, if they are.
pub fn enter() -> anyhow::Result<Option<Pid>> {
    let text = fs::read(SETTINGS).context("cannot read the settings")?;
    let settings: Settings = serde_json::from_slice(&text).context("cannot parse the settings")?;
    // Fails only where this process leads a session already.
    let _ = setsid();
    nix::sys::prctl::set_child_subreaper(true).context("cannot become subreaper")?;
    let mut namespaces = if settings.host_ipc { CloneFlags::empty() } else { CloneFlags::CLONE_NEWIPC };
    if !settings.host_network {
        namespaces |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
    }
    unshare(namespaces).context("cannot make the pod's namespaces")?;
    if !settings.host_network {
        sethostname(&settings.hostname).context("cannot set the host name")?;
    }
    for (name, value) in &settings.sysctls {
        let path = sysctl_path(name).with_context(|| format!("sysctl {name} has no valid name"))?;
        fs::write(&path, value).with_context(|| format!("cannot set sysctl {name}"))?;
    }
    reset_oom_score();
    let pause = settings.share_processes.then(pause::start).transpose().context("cannot make the pod's PID namespace")?;
    if let Some(pause) = pause {
        fs::write(PAUSE, pause.to_string()).context("cannot tell the pod's first process")?;
    }
    Ok(pause)
}

/// File of a kernel parameter; its name may use dots or slashes, never leave /proc/sys.
fn sysctl_path(name: &str) -> Option<PathBuf> {
    let relative = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    let sound = relative.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    sound.then(|| Path::new("/proc/sys").join(relative))
}

/// libcontainer sets a container's score on this process for its children to inherit; take it back.
pub fn reset_oom_score() {
    // Not allowed in some nested containers; then the shim is as likely a victim as anyone.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
}

/// Tells the kubelet that the socket listens, and lets go of the pipe that it waits on.
pub fn announce() -> anyhow::Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "{READY}")?;
    output.flush()?;
    let null = fs::File::options().write(true).open("/dev/null")?;
    dup2_stdout(&null)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_names_stay_below_proc_sys() {
        let cases = [
            ("net.ipv4.ip_forward", Some("/proc/sys/net/ipv4/ip_forward")),
            ("net/ipv4/conf/eth0.1/forwarding", Some("/proc/sys/net/ipv4/conf/eth0.1/forwarding")),
            ("../../etc/passwd", None),
            ("/kernel", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(sysctl_path(name), expected.map(PathBuf::from), "{name}");
        }
    }
}
