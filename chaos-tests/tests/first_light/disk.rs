//! The disk: what `kill -9` cannot show, because the page cache survives it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use kontiki_chaos_tests::{cluster::eventually, etcd::Etcdctl};

use super::{DEADLINE, SERVERS, Shared};

/// Writes that are looked at. The members write now and then by themselves, so one alone proves little.
const WRITES: usize = 12;

/// strace on one member.
struct Tracer {
    process: Child,
    log: PathBuf,
}

impl Tracer {
    fn start(files: &Path, pid: i32, log: PathBuf) -> Result<Self> {
        let tools = files.join("tools");
        let libraries = tools.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
        let process = Command::new(tools.join("usr/bin/strace"))
            .env("LD_LIBRARY_PATH", libraries)
            .args(["-f", "-ttt", "-T", "-e", "trace=fsync,fdatasync,sync_file_range", "-p", &pid.to_string(), "-o"])
            .arg(&log)
            .stdin(Stdio::null())
            .stderr(File::create(log.with_extension("err"))?)
            .spawn()
            .context("start strace")?;
        Ok(Self { process, log })
    }

    /// When syncs began and ended, in seconds since the epoch.
    fn syncs(&self) -> Result<Vec<(f64, f64)>> {
        Ok(std::fs::read_to_string(&self.log)?.lines().filter_map(span).collect())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It is this test's own process; it lets go of the member when it ends.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `PID TIME fdatasync(7) = 0 <DURATION>`, or the second half of a call that was interrupted in the log.
fn span(line: &str) -> Option<(f64, f64)> {
    let mut words = line.split_whitespace();
    let at: f64 = words.nth(1)?.parse().ok()?;
    let call = words.next()?;
    let took: f64 = line.rsplit_once('<')?.1.strip_suffix('>')?.parse().ok()?;
    let succeeded = line.contains("= 0 ");
    let span = if call.starts_with("<...") { (at - took, at) } else { (at, at + took) };
    (succeeded && (call.starts_with("<...") || call.starts_with('f') || call.starts_with("sync"))).then_some(span)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Aim: a write is answered only after two of three members have it on disk. Method: trace the members' syncs;
/// between a write's beginning and its answer, two members must have begun and ended one.
pub fn writes_are_answered_after_a_quorums_fsync(shared: &Shared) -> Result<()> {
    let etcdctl = Etcdctl::new(&shared.files, &shared.cluster);
    let mut tracers = Vec::new();
    for node in SERVERS {
        let running = shared.cluster.processes(node, "server")?;
        ensure!(running.len() == 1, "{node} runs {running:?}");
        tracers.push(Tracer::start(&shared.files, running[0], shared.cluster.folder().join(format!("{node}.strace")))?);
    }
    eventually(DEADLINE, "every member is traced", || {
        etcdctl.run(0, &["put", "test/traced", "begin"])?;
        for tracer in &tracers {
            if tracer.syncs()?.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    let mut writes = Vec::new();
    for number in 0..WRITES {
        let began = now();
        etcdctl.run(number % SERVERS.len(), &["put", "test/traced", &number.to_string()])?;
        writes.push((began, now()));
    }
    for (began, answered) in writes {
        let mut synced = 0;
        for tracer in &tracers {
            synced += usize::from(tracer.syncs()?.iter().any(|(begin, end)| *begin >= began && *end <= answered));
        }
        ensure!(synced >= 2, "{synced} of three members synced between {began} and the answer at {answered}");
    }
    etcdctl.run(0, &["del", "test/traced"]).map(drop)
}
