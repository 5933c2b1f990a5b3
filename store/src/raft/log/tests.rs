//! The log and the state machine under openraft's own suite, and the log on a damaged disk.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::StorageError;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};

use super::*;
use crate::raft::machine::Machine;
use crate::raft::types::{Batch, LeaderId};
use crate::service::waiters::Waiters;
use crate::state::rocks::Budget;
use crate::state::store::{Identity, State};

struct Builder;

impl StoreBuilder<Config, LogStore, Machine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<Config>> {
        let folder = tempfile::tempdir().unwrap();
        let budget = Arc::new(Budget::new(8 << 20));
        let metrics = Arc::new(Metrics::default());
        let log_folder = folder.path().join("log");
        std::fs::create_dir(&log_folder).unwrap();
        let log = LogStore::open(&log_folder, metrics.clone()).unwrap();
        let identity = Identity { cluster_id: 1, member_id: 1 };
        let state = Arc::new(State::open(&folder.path().join("state"), identity, budget, Default::default()).unwrap());
        let (waiters, _queue) = Waiters::new(1);
        Ok((folder, log, Machine::new(state, Arc::new(waiters), metrics)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_storage_suite_passes() {
    Suite::test_all(Builder).await.unwrap();
}

fn entry(index: u64) -> Entry {
    let log_id = LogId { leader_id: LeaderId { term: 1, node_id: 1 }, index };
    Entry { log_id, payload: openraft::EntryPayload::Normal(Batch(vec![b'x'; 100].into())) }
}

fn open(path: &Path) -> Result<LogStore, OpenError> {
    LogStore::open(path, Arc::new(Metrics::default()))
}

/// Writes ten entries, each with a sync of its own, and copies what is on disk then, as after a power cut; returns the
/// segment in the copy.
async fn ten_entries(path: &Path) -> PathBuf {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path()).unwrap();
    log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    for index in 0..10 {
        log.blocking_append([entry(index)]).await.unwrap();
    }
    copy(folder.path(), path);
    path.join("00000000000000000001.log")
}

fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    ten_entries(folder.path()).await;
    let mut log = open(folder.path()).unwrap();
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(entry(9).log_id));
    assert_eq!(log.try_get_log_entries(3..5).await.unwrap(), vec![entry(3), entry(4)]);
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(1, 1)));
}

#[tokio::test]
async fn replication_gets_nothing_from_behind_a_purged_gap() {
    let folder = tempfile::tempdir().unwrap();
    ten_entries(folder.path()).await;
    let mut log = open(folder.path()).unwrap();
    log.purge(entry(4).log_id).await.unwrap();
    assert_eq!(log.limited_get_log_entries(3, 8).await.unwrap(), vec![]);
    assert_eq!(log.limited_get_log_entries(5, 7).await.unwrap(), vec![entry(5), entry(6)]);
}

#[test]
fn a_record_of_ours_with_a_wrong_checksum_is_refused() {
    let key = codec::entry_key(7);
    let mut record = codec::entry(&entry(7));
    assert_eq!(codec::to_entry(&key, &record).unwrap(), entry(7));
    assert!(codec::to_entry(&codec::entry_key(8), &record).is_err(), "a record under another key");
    let last = record.len() - 1;
    record[last] ^= 1;
    let error = codec::to_entry(&key, &record).unwrap_err();
    assert_eq!(error.to_string(), "record e7 of the log is damaged: its checksum does not match");
}

/// The last byte that was written.
fn end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incomplete_last_write_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let file = ten_entries(folder.path()).await;
    let mut bytes = std::fs::read(&file).unwrap();
    let end = end(&bytes);
    bytes[end - 20..].fill(0);
    std::fs::write(&file, bytes).unwrap();
    let mut log = open(folder.path()).unwrap();
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(entry(8).log_id));
    // What is written now does not run into what was left of it.
    log.blocking_append([entry(9)]).await.unwrap();
    drop(log);
    let mut log = reopen(folder.path());
    assert_eq!(log.try_get_log_entries(8..20).await.unwrap(), vec![entry(8), entry(9)]);
}

/// The writer of a log that was just dropped may have it for a moment longer.
fn reopen(path: &Path) -> LogStore {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        match open(path) {
            Err(OpenError::InUse(_)) if std::time::Instant::now() < deadline => {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            opened => return opened.unwrap(),
        }
    }
}

#[tokio::test]
async fn a_log_has_one_member() {
    let folder = tempfile::tempdir().unwrap();
    let _log = open(folder.path()).unwrap();
    assert!(matches!(open(folder.path()), Err(OpenError::InUse(_))));
}

fn refused(folder: &Path, expected: &str) {
    let Err(error) = open(folder) else { panic!("the damage went unnoticed") };
    assert!(error.to_string().contains("the log is damaged") && error.to_string().contains(expected), "{error}");
}

#[tokio::test]
async fn damage_stops_the_member() {
    let folder = tempfile::tempdir().unwrap();
    let file = ten_entries(folder.path()).await;
    let bytes = std::fs::read(&file).unwrap();
    for (at, expected) in [(end(&bytes) / 2, "more was written after it"), (end(&bytes) - 30, "does not match")] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        refused(folder.path(), expected);
    }
}

#[tokio::test]
async fn what_an_older_version_wrote_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("CURRENT"), "MANIFEST-000005").unwrap();
    assert!(matches!(open(folder.path()), Err(OpenError::Older(_))));
}

fn large(index: u64) -> Entry {
    let payload = openraft::EntryPayload::Normal(Batch(vec![index as u8; 3 << 20].into()));
    Entry { payload, ..entry(index) }
}

fn segments(path: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    segments.sort();
    segments
}

/// Ten entries in segments of two, a vote and a committed position.
async fn many_segments(path: &Path) {
    let mut log = open(path).unwrap();
    log.save_vote(&Vote::new_committed(4, 1)).await.unwrap();
    for index in 0..10 {
        log.blocking_append([large(index)]).await.unwrap();
        log.save_committed(Some(large(index).log_id)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_go_with_their_last_entry_and_take_nothing_along() {
    let folder = tempfile::tempdir().unwrap();
    many_segments(folder.path()).await;
    let mut log = reopen(folder.path());
    assert_eq!(log.read_committed().await.unwrap(), Some(large(9).log_id), "it is saved at the end at the latest");
    let before = segments(folder.path()).len();
    assert_eq!(before, 5);
    log.purge(large(6).log_id).await.unwrap();
    assert_eq!(segments(folder.path()).len(), 2);
    assert_eq!(log.try_get_log_entries(0..20).await.unwrap(), (7..10).map(large).collect::<Vec<_>>());
    drop(log);
    let mut log = reopen(folder.path());
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(large(6).log_id), Some(large(9).log_id)));
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(4, 1)), "the segment that it was written to is gone");
    log.truncate_after(Some(large(7).log_id)).await.unwrap();
    log.blocking_append([entry(8)]).await.unwrap();
    drop(log);
    assert_eq!(reopen(folder.path()).try_get_log_entries(7..20).await.unwrap(), vec![large(7), entry(8)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_lost_its_end_or_is_gone_stops_the_member() {
    let folder = tempfile::tempdir().unwrap();
    many_segments(folder.path()).await;
    drop(reopen(folder.path()));
    let [_, second, third, ..] = &segments(folder.path())[..] else { panic!("few segments") };
    let whole = std::fs::read(second).unwrap();
    let mut cut = whole.clone();
    cut[4 << 20..].fill(0);
    std::fs::write(second, &cut).unwrap();
    let refuse = |expected: &str| {
        let copied = tempfile::tempdir().unwrap();
        copy(folder.path(), copied.path());
        refused(copied.path(), expected);
    };
    refuse("more was written after it");
    // Back to where only its first write is left.
    cut[1 << 20..].fill(0);
    let begin = cut.windows(4).rposition(|mark| mark == b"Klog").unwrap() - 12;
    cut[begin..].fill(0);
    std::fs::write(second, &cut).unwrap();
    refuse("writes at the end of the file before it are missing");
    std::fs::write(second, &whole).unwrap();
    std::fs::remove_file(third).unwrap();
    refuse("the file is missing");
}
