//! One member of the store on a disk whose power fails.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use kontiki_chaos_tests::{
    cluster::{Place, binary, eventually, text},
    disk::Disk,
    registry,
};

/// More than [`FLUSH`], so that some of them are in the log alone.
const WRITES: usize = 25;
/// Entries after which the member flushes its state and forgets the log before.
const FLUSH: &str = "10";
/// The disk decides from it what of the unsynced is lost.
const SEEDS: [u64; 3] = [1, 2, 3];
const DEADLINE: Duration = Duration::from_secs(20);

/// A member that runs, and is killed when it is dropped.
struct Member {
    process: Child,
    endpoint: String,
}

impl Member {
    fn start(data: &Path, port: u16) -> Result<Self> {
        let endpoint = format!("http://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{}", port + 1);
        let mut command = Command::new(binary().context("no binary")?);
        command.args(["store", "--name", "one", "--snapshot-count", FLUSH, "--data-dir"]).arg(data);
        command.args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.arg(format!("--initial-cluster=one={peer}"));
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start a member")?;
        let member = Self { process, endpoint };
        eventually(DEADLINE, "the member answers", || member.etcdctl(&["get", "nothing"]).map(Some))?;
        Ok(member)
    }

    fn etcdctl(&self, arguments: &[&str]) -> Result<String> {
        let files = registry::test_files().context("no test files")?;
        let mut command = Command::new(files.join("tools/usr/bin/etcdctl"));
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(&self.endpoint).args(arguments);
        text(&command.output().context("run etcdctl")?)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended by itself, for its disk fails.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Whether RocksDB has written a table below this folder: a flush of the state.
fn has_table(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|end| end == "sst") || has_table(&path))
}

/// Aim: what a member flushed, and forgot in its log, is there after a power cut. Method: writes until it has flushed, the
/// power fails, what was not synced is lost, and the member starts again on what is left of a new disk.
pub fn what_was_flushed_survives_a_power_cut() -> Result<()> {
    let place = Place::from_environment("one-member", 26_644)?;
    for seed in SEEDS {
        let folder = tempfile::tempdir()?;
        let disk = Disk::mount(folder.path())?;
        let data = folder.path().join("data");
        let member = Member::start(&data, place.port)?;
        for number in 0..WRITES {
            member.etcdctl(&["put", &format!("key-{number:02}"), "value"])?;
        }
        eventually(DEADLINE, "the state is flushed", || Ok(has_table(&data).then_some(())))?;
        member.etcdctl(&["put", "last", "value"])?;
        disk.power_off();
        drop(member);
        disk.power_on(seed);
        let member = Member::start(&data, place.port).with_context(|| format!("after the power cut, seed {seed}"))?;
        let keys = member.etcdctl(&["get", "", "--from-key", "--keys-only"])?;
        let there = keys.lines().filter(|line| !line.is_empty()).count();
        ensure!(there == WRITES + 1, "{there} of {} keys are there after the power cut, seed {seed}", WRITES + 1);
    }
    Ok(())
}
