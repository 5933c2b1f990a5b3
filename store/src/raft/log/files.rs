//! The files of the log: a RocksDB that keeps its write-ahead log in order and in sync.

use std::io::Error as IoError;
use std::path::Path;

use async_trait::async_trait;
use rocksdb::{DB, DBRecoveryMode, Direction, IteratorMode, Options, WriteBatch, WriteOptions};

use super::codec::{self, Damaged};
use super::device::{Device, Held, Record};

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// RocksDB refused: its own checksums fail, or the disk does.
    #[error("cannot open the log; if it says corruption, this member's disk is damaged: remove its data and let it join again")]
    Rocks(#[from] rocksdb::Error),
    /// The disk refused.
    #[error("cannot read the log")]
    Io(#[from] IoError),
    /// A record of ours fails its check.
    #[error("the log is damaged; remove this member's data and let it join again")]
    Damaged(#[from] Damaged),
}

/// The open files.
pub struct Files {
    db: DB,
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

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IoError> {
        self.db.get(key).map_err(IoError::other)
    }

    fn last(&self) -> Result<Option<(u64, Vec<u8>)>, IoError> {
        let end = codec::entry_key(u64::MAX);
        let Some(item) = self.db.iterator(IteratorMode::From(&end, Direction::Reverse)).next() else {
            return Ok(None);
        };
        let (key, record) = item.map_err(IoError::other)?;
        Ok(codec::entry_index(&key).map(|index| (index, record.into_vec())))
    }
}

#[async_trait]
impl Device for Files {
    async fn write(&self, records: Vec<Record>, sync: bool) -> Result<(), IoError> {
        let mut batch = WriteBatch::default();
        for record in records {
            match record {
                Record::Entry(index, entry) => batch.put(codec::entry_key(index), entry),
                Record::Vote(vote) => batch.put(codec::VOTE_KEY, vote),
                Record::Committed(position) => batch.put(codec::COMMITTED_KEY, position),
                Record::Truncated(from) => batch.delete_range(codec::entry_key(from), codec::entry_key(u64::MAX)),
                Record::Purged(upto, position) => {
                    batch.delete_range(codec::entry_key(0), codec::entry_key(upto + 1));
                    batch.put(codec::PURGED_KEY, position);
                }
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.db.write_opt(batch, &options).map_err(IoError::other)
    }

    fn read(&self, start: u64, end: u64) -> Result<Vec<(u64, Vec<u8>)>, IoError> {
        let mut entries = Vec::new();
        for item in self.db.iterator(IteratorMode::From(&codec::entry_key(start), Direction::Forward)) {
            let (key, record) = item.map_err(IoError::other)?;
            let Some(index) = codec::entry_index(&key).filter(|index| *index < end) else { break };
            entries.push((index, record.into_vec()));
        }
        Ok(entries)
    }

    fn held(&self) -> Result<Held, IoError> {
        Ok(Held {
            vote: self.get(codec::VOTE_KEY)?,
            committed: self.get(codec::COMMITTED_KEY)?,
            purged: self.get(codec::PURGED_KEY)?,
            last: self.last()?,
        })
    }
}
