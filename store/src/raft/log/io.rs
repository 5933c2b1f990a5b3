//! The log's writer: takes everything that waits, writes it with one fsync, reports back.

use std::collections::VecDeque;
use std::io::Error as IoError;
use std::sync::Arc;
use std::time::Instant;

use openraft::storage::IOFlushed;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::codec;
use super::device::{Device, Record};
use super::files::OpenError;
use crate::limits::{LOG_CACHE_BYTES_MAX, LOG_COMMANDS_MAX};
use crate::metrics::Metrics;
use crate::raft::types::{Config, Entry, LogId, Vote};

/// Who is told that a write is on disk.
pub enum Done {
    /// openraft.
    Flushed(IOFlushed<Config>),
    /// A caller of ours.
    Signal(oneshot::Sender<Result<(), IoError>>),
}

impl Done {
    fn report(self, result: Result<(), IoError>) {
        match self {
            Self::Flushed(callback) => callback.io_completed(result),
            // The caller may have gone.
            Self::Signal(sender) => drop(sender.send(result)),
        }
    }
}

/// One write, in the order of the log.
pub enum Command {
    /// Entries, and how often the log had been cut when they were queued.
    Append(Vec<Entry>, u64, Done),
    /// A vote's record.
    Vote(Vec<u8>, Done),
    /// Everything from an index on goes.
    Truncate(u64, Done),
    /// Everything up to an index goes; its record stays.
    Purge(u64, Vec<u8>, Done),
}

/// The way to the writer, which ends when the last way is dropped.
pub struct Writer {
    commands: mpsc::Sender<Command>,
}

impl Writer {
    /// Starts it.
    pub fn start(device: Arc<dyn Device>, memory: Arc<Mutex<Memory>>, metrics: Arc<Metrics>) -> Result<Self, IoError> {
        let (commands, receiver) = mpsc::channel(LOG_COMMANDS_MAX);
        crate::blocking::apart("kontiki-log", run(device, memory, metrics, receiver))?;
        Ok(Self { commands })
    }

    /// Queues a write.
    pub async fn send(&self, command: Command) -> Result<(), IoError> {
        self.commands.send(command).await.map_err(|_| IoError::other("the log's writer has stopped"))
    }
}

async fn run(device: Arc<dyn Device>, memory: Arc<Mutex<Memory>>, metrics: Arc<Metrics>, mut commands: mpsc::Receiver<Command>) {
    while let Some(first) = commands.recv().await {
        let mut group = Group::default();
        group.add(first);
        while group.bytes < crate::limits::LOG_GROUP_BYTES_MAX
            && let Ok(next) = commands.try_recv()
        {
            group.add(next);
        }
        group.records.extend(memory.lock().committed_record(group.last));
        let begin = Instant::now();
        let result = device.write(std::mem::take(&mut group.records)).await;
        metrics.wal_fsync.observe(begin.elapsed().as_secs_f64());
        if let Err(error) = &result {
            tracing::error!(%error, "cannot write the log; this member stops");
        } else if let Some((last, cuts)) = group.last {
            memory.lock().written(last, cuts);
        }
        for done in group.done {
            done.report(result.as_ref().copied().map_err(|error| IoError::other(error.to_string())));
        }
        if result.is_err() {
            return;
        }
    }
    // The last one: what was committed since the last write is known at the next start.
    let record = memory.lock().committed_record(None);
    if let Some(record) = record
        && let Err(error) = device.write(vec![record]).await
    {
        tracing::warn!(%error, "the committed position is not saved");
    }
}

/// Commands that share a write.
#[derive(Default)]
struct Group {
    records: Vec<Record>,
    done: Vec<Done>,
    bytes: usize,
    last: Option<(u64, u64)>,
}

impl Group {
    fn add(&mut self, command: Command) {
        match command {
            Command::Append(entries, cuts, done) => {
                for entry in entries {
                    let record = codec::entry(&entry);
                    self.bytes += record.len();
                    self.records.push(Record::Entry(entry.log_id.index, record));
                    self.last = Some((entry.log_id.index, cuts));
                }
                self.done.push(done);
            }
            Command::Vote(record, done) => {
                self.records.push(Record::Vote(record));
                self.done.push(done);
            }
            Command::Truncate(from, done) => {
                self.records.push(Record::Truncated(from));
                self.done.push(done);
            }
            Command::Purge(upto, record, done) => {
                self.records.push(Record::Purged(upto, record));
                self.done.push(done);
            }
        }
    }
}

/// What is known without the disk: the state, and the newest entries.
pub struct Memory {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    /// Whether the disk knows an earlier one.
    committed_unsaved: bool,
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
    /// The end of the log without a gap; all that is not yet on disk is in it.
    tail: VecDeque<Entry>,
    bytes: usize,
    /// The first index that may not be on disk yet.
    unwritten: u64,
    /// How often the end was cut off: what the thread says of entries before a cut no longer counts.
    cuts: u64,
}

impl Memory {
    /// Reads the state from disk.
    pub fn load(device: &dyn Device) -> Result<Self, OpenError> {
        let held = device.held()?;
        let position = |key: &[u8], record: Option<Vec<u8>>| record.map(|record| codec::to_log_id(key, &record)).transpose();
        let purged = position(codec::PURGED_KEY, held.purged)?;
        let last = held.last.map(|(index, record)| codec::to_entry(&codec::entry_key(index), &record)).transpose()?;
        let last = last.map(|entry| entry.log_id).or(purged);
        Ok(Self {
            vote: held.vote.map(|record| codec::to_vote(&record)).transpose()?,
            committed: position(codec::COMMITTED_KEY, held.committed)?,
            committed_unsaved: false,
            purged,
            last,
            tail: VecDeque::new(),
            bytes: 0,
            unwritten: last.map_or(0, |last| last.index + 1),
            cuts: 0,
        })
    }

    /// Adds entries at the end; returns how often the log was cut so far.
    pub fn append(&mut self, entries: &[Entry]) -> u64 {
        let Some(first) = entries.first() else {
            return self.cuts;
        };
        self.cut(first.log_id.index);
        for entry in entries {
            self.bytes += weight(entry);
            self.tail.push_back(entry.clone());
            self.last = Some(entry.log_id);
        }
        self.evict();
        self.cuts
    }

    /// That entry is committed.
    pub fn commit(&mut self, committed: LogId) {
        self.committed_unsaved |= self.committed != Some(committed);
        self.committed = Some(committed);
    }

    /// The record of the committed position if the disk knows an earlier one, for a write that ends with entry `last`. A
    /// position whose entry is not on disk with it waits.
    fn committed_record(&mut self, last: Option<(u64, u64)>) -> Option<Record> {
        let committed = self.committed.filter(|_| self.committed_unsaved)?;
        let there = last.map_or(self.unwritten, |(last, _)| self.unwritten.max(last + 1));
        if committed.index >= there {
            return None;
        }
        self.committed_unsaved = false;
        Some(Record::Committed(codec::log_id(codec::COMMITTED_KEY, &committed)))
    }

    /// Everything up to an index is on disk, unless the log was cut since.
    pub fn written(&mut self, last: u64, cuts: u64) {
        if cuts == self.cuts {
            self.unwritten = self.unwritten.max(last + 1);
        }
        self.evict();
    }

    /// Drops everything from an index on.
    pub fn truncate(&mut self, from: u64, last: Option<LogId>) {
        if self.last.is_none_or(|end| end.index < from) {
            return;
        }
        self.cut(from);
        self.last = last.or(self.purged);
    }

    /// Drops everything up to a position.
    pub fn purge(&mut self, upto: LogId) {
        while self.tail.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
            self.pop();
        }
        self.purged = Some(upto);
        if self.last.is_none_or(|last| last.index < upto.index) {
            self.last = Some(upto);
        }
    }

    /// Entries of an interval, or the first index in memory if it begins before that.
    pub fn read(&self, start: u64, end: u64) -> Result<Vec<Entry>, u64> {
        let next = self.last.map_or(0, |last| last.index + 1);
        let first = self.tail.front().map_or(next, |entry| entry.log_id.index);
        if start >= end || start >= next {
            return Ok(vec![]);
        }
        let Some(skip) = start.checked_sub(first) else {
            return Err(first);
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let count = usize::try_from(end - start).unwrap_or(usize::MAX);
        Ok(self.tail.iter().skip(skip).take(count).cloned().collect())
    }

    fn cut(&mut self, from: u64) {
        while self.tail.back().is_some_and(|entry| entry.log_id.index >= from) {
            if let Some(entry) = self.tail.pop_back() {
                self.bytes -= weight(&entry);
            }
        }
        if from < self.unwritten || self.last.is_some_and(|last| last.index >= from) {
            self.cuts += 1;
        }
        self.unwritten = self.unwritten.min(from);
    }

    fn evict(&mut self) {
        while self.bytes > LOG_CACHE_BYTES_MAX && self.tail.front().is_some_and(|entry| entry.log_id.index < self.unwritten) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(entry) = self.tail.pop_front() {
            self.bytes -= weight(&entry);
        }
    }
}

fn weight(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        openraft::EntryPayload::Normal(batch) => batch.0.len(),
        _ => 64,
    };
    payload + std::mem::size_of::<Entry>()
}
