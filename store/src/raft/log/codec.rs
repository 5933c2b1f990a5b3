//! How a record of the log is laid out: a version, a checksum, protobuf.

use kontiki_proto::kontiki::store::v1 as pb;
use prost::Message;

use crate::fault::{self, Mistake};
use crate::raft::types::{Entry, LogId, Vote};
use crate::raft::wire;

/// The only layout so far.
const VERSION: u8 = 1;
/// Version and checksum before the message.
const HEAD: usize = 5;

/// Key of the vote.
pub const VOTE_KEY: &[u8] = b"vote";
/// Key of the last entry known to be committed.
pub const COMMITTED_KEY: &[u8] = b"committed";
/// Key of the last purged entry.
pub const PURGED_KEY: &[u8] = b"purged";

/// A record that cannot be what was written.
#[derive(Debug, thiserror::Error)]
#[error("record {key} of the log is damaged: {reason}")]
pub struct Damaged {
    key: String,
    reason: &'static str,
}

/// Key of an entry; entries sort by index.
#[must_use]
pub fn entry_key(index: u64) -> [u8; 9] {
    let mut key = [b'e'; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The index that an entry's key stands for; none for other keys.
#[must_use]
pub fn entry_index(key: &[u8]) -> Option<u64> {
    let index = key.strip_prefix(b"e")?.first_chunk::<8>()?;
    (key.len() == 9).then(|| u64::from_be_bytes(*index))
}

/// An entry's record.
#[must_use]
pub fn entry(entry: &Entry) -> Vec<u8> {
    seal(&entry_key(entry.log_id.index), &wire::entry(entry))
}

/// A vote's record.
#[must_use]
pub fn vote(vote: &Vote) -> Vec<u8> {
    seal(VOTE_KEY, &wire::vote(vote))
}

/// The record of a position under a key.
#[must_use]
pub fn log_id(key: &[u8], id: &LogId) -> Vec<u8> {
    seal(key, &wire::log_id(id))
}

/// Reads an entry's record.
pub fn to_entry(key: &[u8], record: &[u8]) -> Result<Entry, Damaged> {
    let entry: pb::Entry = open(key, record)?;
    let index = entry.id.as_ref().map(|id| id.index);
    if index.map(entry_key).as_ref().map(<[u8; 9]>::as_slice) != Some(key) {
        return Err(damaged(key, "it holds another entry"));
    }
    wire::to_entry(entry).map_err(|_| damaged(key, "its message makes no sense"))
}

/// Reads a vote's record.
pub fn to_vote(record: &[u8]) -> Result<Vote, Damaged> {
    let vote: pb::Vote = open(VOTE_KEY, record)?;
    wire::to_vote(Some(&vote)).map_err(|_| damaged(VOTE_KEY, "its message makes no sense"))
}

/// Reads a position's record.
pub fn to_log_id(key: &[u8], record: &[u8]) -> Result<LogId, Damaged> {
    Ok(wire::to_log_id(&open::<pb::LogId>(key, record)?))
}

fn seal(key: &[u8], message: &impl Message) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD + message.encoded_len());
    record.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
    // A vector grows as needed, so encoding into it cannot fail.
    let _ = message.encode(&mut record);
    let sum = checksum(key, &record[HEAD..]);
    record[1..HEAD].copy_from_slice(&sum.to_le_bytes());
    record
}

fn open<M: Message + Default>(key: &[u8], record: &[u8]) -> Result<M, Damaged> {
    let Some((head, message)) = record.split_at_checked(HEAD) else {
        return Err(damaged(key, "it is too short"));
    };
    if head[0] != VERSION {
        return Err(damaged(key, "its version is unknown"));
    }
    if head[1..] != checksum(key, message).to_le_bytes() && !fault::makes(Mistake::BelievesRecords) {
        return Err(damaged(key, "its checksum does not match"));
    }
    // One copy, so that the values inside are slices of it.
    M::decode(bytes::Bytes::copy_from_slice(message)).map_err(|_| damaged(key, "its message makes no sense"))
}

fn checksum(key: &[u8], message: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(message);
    hasher.finalize()
}

fn damaged(key: &[u8], reason: &'static str) -> Damaged {
    let name = entry_index(key).map_or_else(|| String::from_utf8_lossy(key).into_owned(), |index| format!("e{index}"));
    Damaged { key: name, reason }
}
