//! How a container's end is told and kept.
//!
//! In: what wait(2) and the memory cgroup say. Out: Kubernetes' words, in a file that survives a power cut.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use jiff::Timestamp;
use kontiki_shim::protocol::ContainerStatus;

/// Completes a status with the way the first process ended: an exit code, or a signal.
pub fn end(status: &mut ContainerStatus, code: i32, signal: i32, oom_kills: u64, now: Timestamp) {
    status.pid = 0;
    status.finished_at = nanoseconds(now);
    status.signal = signal;
    status.exit_code = if signal == 0 { code } else { 128 + signal };
    status.reason = match (status.exit_code, oom_kills) {
        (0, _) => "Completed",
        (_, 0) => "Error",
        (_, _) => "OOMKilled",
    }
    .to_owned();
}

/// Nanoseconds since the epoch.
pub fn nanoseconds(now: Timestamp) -> i64 {
    i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX)
}

/// Processes that the kernel has killed in a cgroup for want of memory, by either version's file.
pub fn oom_kills(cgroup: &Path) -> u64 {
    ["memory.events", "memory.oom_control"]
        .iter()
        .find_map(|name| fs::read_to_string(cgroup.join(name)).ok())
        .map_or(0, |text| parse_oom_kills(&text))
}

fn parse_oom_kills(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Replaces the status file; with `durable` it is on disk when this returns.
pub fn write(path: &Path, status: &ContainerStatus, durable: bool) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(status)?)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&temporary, path)?;
    if let (true, Some(folder)) = (durable, path.parent()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_end_in_kubernetes_words() {
        let cases = [
            ((0, 0, 0), (0, "Completed")),
            ((0, 0, 1), (0, "Completed")),
            ((3, 0, 0), (3, "Error")),
            ((0, 15, 0), (143, "Error")),
            ((0, 9, 1), (137, "OOMKilled")),
            ((137, 0, 2), (137, "OOMKilled")),
        ];
        for ((code, signal, kills), (exit_code, reason)) in cases {
            let mut status = ContainerStatus { pid: 7, ..ContainerStatus::default() };
            end(&mut status, code, signal, kills, Timestamp::UNIX_EPOCH);
            assert_eq!((status.exit_code, status.reason.as_str(), status.pid), (exit_code, reason, 0));
        }
    }

    #[test]
    fn reads_the_count_of_both_cgroup_versions() {
        assert_eq!(parse_oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 3);
        assert_eq!(parse_oom_kills("low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n"), 1);
        assert_eq!(parse_oom_kills(""), 0);
    }

    #[test]
    fn a_status_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.json");
        let status = ContainerStatus { id: "c".into(), exit_code: 2, ..ContainerStatus::default() };
        write(&path, &status, true).unwrap();
        assert_eq!(serde_json::from_slice::<ContainerStatus>(&fs::read(&path).unwrap()).unwrap(), status);
    }
}
