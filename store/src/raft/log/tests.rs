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
        let log = LogStore::open(&folder.path().join("log"), &budget.options(), metrics.clone()).unwrap();
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
    LogStore::open(path, &Budget::new(8 << 20).options(), Arc::new(Metrics::default()))
}

/// Writes ten entries, each with an fsync of its own, and copies what is on disk then, as after a
/// power cut; returns the write-ahead log in the copy.
async fn ten_entries(path: &Path) -> PathBuf {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path()).unwrap();
    log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    for index in 0..10 {
        log.blocking_append([entry(index)]).await.unwrap();
    }
    let mut largest = (0, PathBuf::new());
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let copy = path.join(file.file_name());
        let length = std::fs::copy(file.path(), &copy).unwrap();
        if copy.extension().is_some_and(|extension| extension == "log") && length > largest.0 {
            largest = (length, copy);
        }
    }
    largest.1
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

#[tokio::test]
async fn an_incomplete_last_record_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let file = ten_entries(folder.path()).await;
    let length = std::fs::metadata(&file).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length - 20).unwrap();
    let mut log = open(folder.path()).unwrap();
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(entry(8).log_id));
}

#[tokio::test]
async fn damage_elsewhere_stops_the_member() {
    let folder = tempfile::tempdir().unwrap();
    let file = ten_entries(folder.path()).await;
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&file, bytes).unwrap();
    let Err(error) = open(folder.path()) else { panic!("the damage went unnoticed") };
    assert!(error.to_string().contains("cannot open the log"), "{error}");
}
