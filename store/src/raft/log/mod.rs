//! The log: votes and entries of this member, in segments of their own.
//!
//! In come openraft's appends, votes, truncations and purges; each is put into memory and queued to
//! one writer, which writes all that waits with one fsync and then reports back. What it writes to is
//! a [`Device`].
//! Invariant: one strict order for everything written; a record is read back only if its checksum
//! holds; only an incomplete last record is ever cut off.

mod codec;
pub mod device;
mod files;
mod frame;
mod index;
mod io;

use std::fmt::Debug;
use std::io::Error as IoError;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};

use self::device::Device;
use self::files::Files;
pub use self::files::OpenError;
use self::io::{Command, Writer};
use crate::metrics::Metrics;
use crate::raft::types::{Config, Entry, LogId, Vote};

/// The log of one member; clones share it.
#[derive(Clone)]
pub struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    device: Arc<dyn Device>,
    memory: Arc<parking_lot::Mutex<io::Memory>>,
    writer: Writer,
}

impl LogStore {
    /// Opens or creates the log in a directory.
    pub fn open(path: &Path, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        Self::over(Arc::new(Files::open(path)?), metrics)
    }

    /// Goes on with what a device holds.
    pub fn over(device: Arc<dyn Device>, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        let memory = Arc::new(parking_lot::Mutex::new(io::Memory::load(device.as_ref())?));
        let writer = Writer::start(device.clone(), memory.clone(), metrics)?;
        Ok(Self { shared: Arc::new(Shared { device, memory, writer }) })
    }

    /// All entries from an index on, as they are on disk. Blocks.
    pub fn read_from(&self, index: u64) -> Result<Vec<Entry>, IoError> {
        self.read(index, u64::MAX)
    }

    fn read(&self, start: u64, end: u64) -> Result<Vec<Entry>, IoError> {
        let entry = |(index, record): (u64, Vec<u8>)| codec::to_entry(&codec::entry_key(index), &record).map_err(IoError::other);
        self.shared.device.read(start, end)?.into_iter().map(entry).collect()
    }

    async fn wait(&self, command: impl FnOnce(io::Done) -> Command) -> Result<(), IoError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.shared.writer.send(command(io::Done::Signal(sender))).await?;
        receiver.await.map_err(|_| IoError::other("the log's writer has stopped"))?
    }
}

impl RaftLogReader<Config> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, IoError> {
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index + 1,
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        let cached = self.shared.memory.lock().read(start, end);
        match cached {
            Ok(entries) => Ok(entries),
            // The range begins before what is kept in memory: older entries are on disk for sure.
            Err(first_cached) => {
                let mut entries = self.read(start, end.min(first_cached))?;
                if end > first_cached {
                    let rest = self.shared.memory.lock().read(first_cached, end);
                    entries.extend(match rest {
                        Ok(rest) => rest,
                        // Evicted meanwhile, so it is on disk by now.
                        Err(_) => self.read(first_cached, end)?,
                    });
                }
                Ok(entries)
            }
        }
    }

    /// What replication sends after its `start - 1`: nothing at all where the entry at `start` has been
    /// purged. openraft would send whatever comes first, and a follower would take it for the next one;
    /// of an empty answer it makes a heartbeat, and the follower's reply leads to a snapshot.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, IoError> {
        let entries = self.try_get_log_entries(start..end).await?;
        Ok(if entries.first().is_some_and(|first| first.log_id.index == start) { entries } else { vec![] })
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, IoError> {
        Ok(self.shared.memory.lock().vote)
    }
}

impl RaftLogStorage<Config> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Config>, IoError> {
        let memory = self.shared.memory.lock();
        Ok(LogState { last_purged_log_id: memory.purged, last_log_id: memory.last })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), IoError> {
        self.shared.memory.lock().vote = Some(*vote);
        let record = codec::vote(vote);
        self.wait(|done| Command::Vote(record, done)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), IoError> {
        let Some(committed) = committed else {
            return Ok(());
        };
        // Only a lower bound, so it rides along with the next write.
        self.shared.memory.lock().commit(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, IoError> {
        Ok(self.shared.memory.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Config>) -> Result<(), IoError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let cuts = self.shared.memory.lock().append(&entries);
        self.shared.writer.send(Command::Append(entries, cuts, io::Done::Flushed(callback))).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), IoError> {
        let next = last_log_id.map_or(0, |id| id.index + 1);
        self.shared.memory.lock().truncate(next, last_log_id);
        self.wait(|done| Command::Truncate(next, done)).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), IoError> {
        self.shared.memory.lock().purge(log_id);
        let record = codec::log_id(codec::PURGED_KEY, &log_id);
        self.wait(|done| Command::Purge(log_id.index, record, done)).await
    }
}

#[cfg(test)]
mod tests;
