//! The files of the log: a RocksDB that keeps its write-ahead log in order and in sync.

use std::io::Error as IoError;
use std::path::Path;

use rocksdb::{DB, DBRecoveryMode, Direction, IteratorMode, Options};

use super::codec::{self, Damaged};
use crate::raft::types::{Entry, LogId, Vote};

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// RocksDB refused: its own checksums fail, or the disk does.
    #[error("cannot open the log; if it says corruption, this member's disk is damaged: remove its data and let it join again")]
    Rocks(#[from] rocksdb::Error),
    /// A record of ours fails its check.
    #[error("the log is damaged; remove this member's data and let it join again")]
    Damaged(#[from] Damaged),
}

impl From<OpenError> for IoError {
    fn from(error: OpenError) -> Self {
        Self::other(error)
    }
}

/// The open files.
pub struct Files {
    pub(super) db: DB,
}

impl Files {
    /// Opens them. Only an incomplete record at the very end is dropped; a record whose checksum is
    /// wrong is an error, wherever it lies.
    pub fn open(path: &Path, options: &Options) -> Result<Self, OpenError> {
        let mut options = options.clone();
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_paranoid_checks(true);
        Ok(Self { db: DB::open(&options, path)? })
    }

    /// Entries of an interval, end excluded.
    pub fn read(&self, start: u64, end: u64) -> Result<Vec<Entry>, IoError> {
        let begin = codec::entry_key(start);
        let stop = codec::entry_key(end);
        let mut entries = Vec::new();
        for item in self.db.iterator(IteratorMode::From(&begin, Direction::Forward)) {
            let (key, record) = item.map_err(IoError::other)?;
            if *key >= stop[..] || key[0] != b'e' {
                break;
            }
            entries.push(codec::to_entry(&key, &record).map_err(IoError::other)?);
        }
        Ok(entries)
    }

    /// The last entry.
    pub fn last(&self) -> Result<Option<Entry>, OpenError> {
        let end = codec::entry_key(u64::MAX);
        match self.db.iterator(IteratorMode::From(&end, Direction::Reverse)).next() {
            Some(item) => {
                let (key, record) = item?;
                if key.len() != end.len() || key[0] != b'e' {
                    return Ok(None);
                }
                Ok(Some(codec::to_entry(&key, &record)?))
            }
            None => Ok(None),
        }
    }

    /// The vote.
    pub fn vote(&self) -> Result<Option<Vote>, OpenError> {
        let record = self.db.get(codec::VOTE_KEY)?;
        Ok(record.map(|record| codec::to_vote(&record)).transpose()?)
    }

    /// A position under a key.
    pub fn log_id(&self, key: &[u8]) -> Result<Option<LogId>, OpenError> {
        let record = self.db.get(key)?;
        Ok(record.map(|record| codec::to_log_id(key, &record)).transpose()?)
    }
}
