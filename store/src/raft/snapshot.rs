//! Snapshots: a checkpoint of the state machine's files, streamed to a follower that is far behind.
//!
//! Only the state machine travels, never a member's log or vote. What a snapshot stands for is read
//! from the files themselves, so that it cannot contradict them.

use std::io::{Error as IoError, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use kontiki_proto::kontiki::store::v1 as pb;
use pb::snapshot_chunk::Part;

use super::types::{SnapshotMeta, Vote};
use super::wire;
use crate::limits::SNAPSHOT_PART_BYTES;
use crate::state::database::{Database, StateError};
use crate::state::rocks::Budget;
use crate::state::store::State;

/// The layout of the stream.
const VERSION: u32 = 1;

/// Where a snapshot is.
pub enum SnapshotHandle {
    /// In a state that is open here and at least that new.
    Local(Arc<State>),
    /// In a directory, complete and synced.
    Received(PathBuf),
}

/// Why a snapshot could not be received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The sender speaks another version, or nonsense.
    #[error("the snapshot's stream is malformed: {0}")]
    Malformed(&'static str),
    /// A part arrived damaged.
    #[error("a part of {0} arrived damaged")]
    Checksum(String),
    /// The disk failed.
    #[error("cannot store the snapshot")]
    Io(#[from] IoError),
    /// The files make no state.
    #[error("the snapshot's files are unusable")]
    State(#[from] StateError),
}

/// A checkpoint that is being sent: part by part, as fast as they are asked for.
pub struct Outgoing {
    path: PathBuf,
    header: Option<pb::SnapshotHeader>,
    /// Names of the files that are not sent yet.
    files: Vec<String>,
    open: Option<(String, std::fs::File)>,
    ended: bool,
}

impl Outgoing {
    /// Makes a checkpoint, for a follower with the leader's vote. Blocks.
    pub fn new(state: &State, vote: Option<&Vote>) -> Result<Self, StateError> {
        let path = state.outgoing();
        let mut outgoing = Self { path, header: None, files: vec![], open: None, ended: false };
        state.database().checkpoint(&outgoing.path)?;
        for entry in std::fs::read_dir(&outgoing.path)? {
            outgoing.files.push(entry?.file_name().to_string_lossy().into_owned());
        }
        outgoing.files.sort_unstable_by(|left, right| right.cmp(left));
        let (applied, membership) = state.applied();
        outgoing.header = Some(pb::SnapshotHeader {
            version: VERSION,
            vote: vote.map(wire::vote),
            last_log_id: applied.as_ref().map(wire::log_id),
            membership: Some(wire::stored_membership(&membership)),
        });
        Ok(outgoing)
    }

    /// The next part. Blocks on the disk.
    pub fn part(&mut self) -> Result<Option<pb::SnapshotChunk>, IoError> {
        let part = match self.header.take() {
            Some(header) => Some(Part::Header(header)),
            None => match self.file()? {
                Some(file) => Some(Part::File(file)),
                None => (!std::mem::replace(&mut self.ended, true)).then_some(Part::End(true)),
            },
        };
        Ok(part.map(|part| pb::SnapshotChunk { part: Some(part) }))
    }

    fn file(&mut self) -> Result<Option<pb::SnapshotFile>, IoError> {
        if self.open.is_none() {
            let Some(name) = self.files.pop() else { return Ok(None) };
            let file = std::fs::File::open(self.path.join(&name))?;
            self.open = Some((name, file));
        }
        let Some((name, file)) = &mut self.open else { return Ok(None) };
        let name = name.clone();
        let mut data = vec![0; SNAPSHOT_PART_BYTES];
        let length = file.read(&mut data)?;
        data.truncate(length);
        if length == 0 {
            // An empty part, so that an empty file is made too.
            self.open = None;
        }
        Ok(Some(pb::SnapshotFile { name, checksum: crc32fast::hash(&data), data: data.into() }))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.path));
    }
}

/// Files that are being received.
pub struct Incoming {
    path: PathBuf,
    budget: Arc<Budget>,
    vote: Option<Vote>,
    open: Option<(String, std::fs::File)>,
    complete: bool,
}

impl Incoming {
    /// Into a new directory.
    pub fn new(state: &State, budget: Arc<Budget>) -> Result<Self, ReceiveError> {
        Ok(Self { path: state.incoming()?, budget, vote: None, open: None, complete: false })
    }

    /// Takes the next part. Blocks on the disk.
    pub fn part(&mut self, chunk: pb::SnapshotChunk) -> Result<(), ReceiveError> {
        match chunk.part.ok_or(ReceiveError::Malformed("empty part"))? {
            Part::Header(header) if header.version == VERSION => {
                let vote = wire::to_vote(header.vote.as_ref());
                self.vote = Some(vote.map_err(|_| ReceiveError::Malformed("no vote"))?);
                Ok(())
            }
            Part::Header(_) => Err(ReceiveError::Malformed("unknown version")),
            Part::File(part) => self.file(part),
            Part::End(_) => {
                self.close()?;
                std::fs::File::open(&self.path)?.sync_all()?;
                self.complete = true;
                Ok(())
            }
        }
    }

    fn file(&mut self, part: pb::SnapshotFile) -> Result<(), ReceiveError> {
        if part.name.is_empty() || part.name.contains(['/', '\0']) || part.name.starts_with("..") {
            return Err(ReceiveError::Malformed("file name"));
        }
        if crc32fast::hash(&part.data) != part.checksum {
            return Err(ReceiveError::Checksum(part.name));
        }
        if self.open.as_ref().is_none_or(|(name, _)| *name != part.name) {
            self.close()?;
            let file = std::fs::File::create_new(self.path.join(&part.name))?;
            self.open = Some((part.name, file));
        }
        if let Some((_, file)) = &mut self.open {
            file.write_all(&part.data)?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), IoError> {
        match self.open.take() {
            Some((_, file)) => file.sync_all(),
            None => Ok(()),
        }
    }

    /// What was received: the sender's vote, what the files stand for, and where they are.
    pub fn finish(mut self) -> Result<(Vote, SnapshotMeta, SnapshotHandle), ReceiveError> {
        let vote = self.vote.ok_or(ReceiveError::Malformed("no header"))?;
        if !self.complete {
            return Err(ReceiveError::Malformed("it ends too early"));
        }
        let memory = Database::open(&self.path, &self.budget)?.load()?;
        let meta = SnapshotMeta { last_log_id: memory.applied, last_membership: memory.membership };
        Ok((vote, meta, SnapshotHandle::Received(std::mem::take(&mut self.path))))
    }
}

impl Drop for Incoming {
    /// What is not handed on is of no use.
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}
