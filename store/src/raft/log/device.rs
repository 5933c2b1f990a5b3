//! Where the log lies: the least that the log needs of a disk, so that a simulation can be one.

use std::io::Error as IoError;

use async_trait::async_trait;

/// One step in the one order of the log. Contents are sealed: a device looks into none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry at an index.
    Entry(u64, Vec<u8>),
    /// The vote.
    Vote(Vec<u8>),
    /// The last entry known to be committed.
    Committed(Vec<u8>),
    /// Everything from an index on is gone.
    Truncated(u64),
    /// Everything up to an index is gone; the position says what was there.
    Purged(u64, Vec<u8>),
}

/// What a device holds beside the entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The vote.
    pub vote: Option<Vec<u8>>,
    /// The last entry known to be committed.
    pub committed: Option<Vec<u8>>,
    /// The last purged entry.
    pub purged: Option<Vec<u8>>,
    /// The last entry and its index.
    pub last: Option<(u64, Vec<u8>)>,
}

/// A disk. What was written is there after a power cut, with all that was written before it; of a write that did not
/// come to its end all is there or nothing.
#[async_trait]
pub trait Device: Send + Sync + 'static {
    /// Writes records, in order and all or none, and waits until they are on the disk.
    async fn write(&self, records: Vec<Record>) -> Result<(), IoError>;
    /// Entries from one index up to before another.
    fn read(&self, start: u64, end: u64) -> Result<Vec<(u64, Vec<u8>)>, IoError>;
    /// What is held beside them.
    fn held(&self) -> Result<Held, IoError>;
}
