//! Log rotation: a container's log that has grown goes on in a new file, old ones are packed and thrown away.
//!
//! In: the running containers, every ten seconds. Out: `0.log` renamed to `0.log.<time>` and a shim that goes on in a new
//! `0.log`; older ones packed to `0.log.<time>.gz`; what is beyond the number of files removed ([`tidy`], pure).
//! Invariant: no line is lost. A shim writes to the file that it has open, whatever its name is, until it has the next.
//! <https://kubernetes.io/docs/concepts/cluster-administration/logging/#log-rotation>

mod tidy;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use self::tidy::{Step, rotated, tidy};
use crate::{
    Options,
    runtime::{Container, ContainerState},
};

/// When a log goes on in a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Bytes from which on it does; never where there are none.
    pub bytes_max: Option<u64>,
    /// Files of one container, the one that is written to among them.
    pub files_max: usize,
}

/// Looks at logs until `cancel`.
pub async fn run(options: Options, cancel: CancellationToken) {
    let policy = options.configuration.logs;
    let Some(bytes_max) = policy.bytes_max else { return };
    let mut period = tokio::time::interval(options.configuration.logs_period);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = period.tick() => {}
            () = cancel.cancelled() => return,
        }
        let containers = options.runtime.list_containers().await.unwrap_or_default();
        for container in containers.iter().filter(|container| container.state == ContainerState::Running) {
            if let Err(error) = look(&options, container, bytes_max, policy.files_max).await {
                tracing::warn!(container = container.id, error = format!("{error:#}"), "cannot rotate a log; it is tried again");
            }
        }
    }
}

async fn look(options: &Options, container: &Container, bytes_max: u64, files_max: usize) -> anyhow::Result<()> {
    let log = container.log_path.clone();
    match tokio::fs::metadata(&log).await {
        Ok(metadata) if metadata.len() < bytes_max => return Ok(()),
        Ok(_) => {}
        // A kubelet before this one ended between renaming and reopening, or somebody removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(options.runtime.reopen_log(&container.id).await?),
        Err(error) => return Err(error.into()),
    }
    let path = log.clone();
    tokio::task::spawn_blocking(move || make_room(&path, files_max)).await??;
    let old = rotated(&log, Timestamp::now());
    anyhow::ensure!(!old.exists(), "{} is there already", old.display());
    tokio::fs::rename(&log, &old).await?;
    if let Err(error) = options.runtime.reopen_log(&container.id).await {
        // It goes on as it was; unless the shim made the file before it failed.
        if !log.exists() {
            tokio::fs::rename(&old, &log).await?;
        }
        return Err(error.into());
    }
    Ok(())
}

/// Removes and packs what went before. Blocks.
fn make_room(log: &Path, files_max: usize) -> io::Result<()> {
    for step in tidy(&before(log)?, files_max) {
        match step {
            Step::Remove(path) => fs::remove_file(path)?,
            Step::Pack(path) => pack(&path)?,
        }
    }
    Ok(())
}

/// Files that the log went on from.
fn before(log: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(name)) = (log.parent(), log.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Packs a file; whoever reads its folder meanwhile finds it unpacked or packed, never half.
fn pack(path: &Path) -> io::Result<()> {
    let with = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    let (half, whole) = (with(tidy::HALF), with(tidy::PACKED));
    let mut encoder = GzEncoder::new(File::create(&half)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(&half, &whole)?;
    fs::remove_file(path)
}

/// Removes a container's log and all that it went on from. Blocks.
pub fn remove(log: &Path) -> io::Result<()> {
    let there = match before(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there?,
    };
    for path in there.iter().map(PathBuf::as_path).chain([log]) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn what_went_before_is_packed_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("0.log");
        for name in ["0.log", "0.log.1", "0.log.2", "0.log.3", "0.log.4.tmp", "10.log"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        make_room(&log, 4).unwrap();
        assert_eq!(names(folder.path()), ["0.log", "0.log.2.gz", "0.log.3.gz", "10.log"]);
        let mut text = String::new();
        GzDecoder::new(File::open(folder.path().join("0.log.3.gz")).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "0.log.3");
        remove(&log).unwrap();
        assert_eq!(names(folder.path()), ["10.log"]);
        remove(&folder.path().join("none/0.log")).unwrap();
    }
}
