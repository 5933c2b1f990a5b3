//! Snapshots for operators: one file with the whole state, checked when it is read, and a new cluster
//! made from it.
//!
//! The file is a sequence of framed parts, padded to blocks of 512 bytes, and the SHA-256 of all of
//! that: the outer form that `etcdctl snapshot save` expects. The inside is this store's, not bbolt's.

mod save;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::kontiki::store::v1 as wire_pb;
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tonic::Status;

use crate::error::Error;
use crate::raft::snapshot;
use crate::service::identity::{self, Begin};
use crate::service::{Options, StartError};
use crate::state::database::{Database, StateError};
use crate::state::rocks::Budget;
use crate::state::store::State;

pub use self::save::Client;

/// The file begins with it.
const MAGIC: &[u8; 8] = b"KONTIKI1";
/// What etcd's tools count in.
const BLOCK: usize = 512;
/// A part that claims to be longer is damage.
const PART_BYTES_MAX: usize = 16 << 20;
/// Parts that wait to be sent.
const PARTS_WAITING_MAX: usize = 8;
/// Memory while a snapshot is looked at.
const ROCKSDB_BYTES: usize = 16 << 20;

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("cannot read or write the snapshot")]
    Io(#[from] std::io::Error),
    /// The file is something else.
    #[error("this is no snapshot of this store: {0}")]
    Foreign(&'static str),
    /// The checksum at the end does not match.
    #[error("expected sha256 {expected}, got {found}: the snapshot is damaged")]
    Checksum {
        /// What the file says.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// The member cannot be reached.
    #[error("cannot reach the member")]
    Connect(#[from] tonic::transport::Error),
    /// The member refuses, or breaks off.
    #[error("the member sends no snapshot")]
    Refused(#[from] Box<Status>),
    /// The state inside cannot be opened.
    #[error("the state inside is unusable")]
    State(#[from] StateError),
    /// The new cluster contradicts itself.
    #[error("cannot restore")]
    Start(#[from] StartError),
    /// There is data already.
    #[error("data-dir {0:?} not empty or could not be read")]
    NotEmpty(PathBuf),
}

/// Sends a snapshot to a client.
pub fn send(state: Arc<State>, header: Option<pb::ResponseHeader>) -> mpsc::Receiver<Result<pb::SnapshotResponse, Status>> {
    let (sender, receiver) = mpsc::channel(PARTS_WAITING_MAX);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = send_parts(&state, header, &sender) {
            tracing::error!(%error, "cannot send a snapshot");
            drop(sender.blocking_send(Err(Error::Internal("cannot read the state".to_owned()).into())));
        }
    });
    receiver
}

/// Sends until the end, or until the client is gone. Blocks.
fn send_parts(
    state: &State,
    header: Option<pb::ResponseHeader>,
    sender: &mpsc::Sender<Result<pb::SnapshotResponse, Status>>,
) -> Result<(), StateError> {
    let mut outgoing = snapshot::Outgoing::new(state, None)?;
    let mut sealed = Sealed::default();
    let mut send = |bytes: Vec<u8>| {
        sealed.add(&bytes);
        let version = crate::API_VERSION.to_owned();
        sender.blocking_send(Ok(pb::SnapshotResponse { header, remaining_bytes: 1, blob: bytes.into(), version })).is_ok()
    };
    let mut open = send(MAGIC.to_vec());
    while open && let Some(chunk) = outgoing.part()? {
        open = send(framed(&chunk));
    }
    let end = sealed.finish();
    let version = crate::API_VERSION.to_owned();
    drop(sender.blocking_send(Ok(pb::SnapshotResponse { header, remaining_bytes: 0, blob: end.into(), version })));
    Ok(())
}

/// A part with its length before it.
fn framed(chunk: &wire_pb::SnapshotChunk) -> Vec<u8> {
    let bytes = chunk.encode_to_vec();
    let mut framed = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    framed.extend_from_slice(&bytes);
    framed
}

/// Counts and hashes what was written.
#[derive(Default)]
struct Sealed {
    hasher: Sha256,
    bytes: usize,
}

impl Sealed {
    fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len();
    }

    /// The end of the parts, the padding and the hash.
    fn finish(mut self) -> Vec<u8> {
        // A length of zero ends the parts.
        let mut end = vec![0; 4];
        end.resize(4 + (BLOCK - (self.bytes + 4) % BLOCK) % BLOCK, 0);
        self.hasher.update(&end);
        end.extend_from_slice(&self.hasher.finalize());
        end
    }
}

/// What is in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Of what can be read at the last revision.
    pub hash: u32,
    /// The last revision.
    pub revision: i64,
    /// Versions of keys that are still there.
    pub total_keys: u64,
    /// Bytes of the file.
    pub total_size: u64,
}

/// Reads the parts of a file into a directory, after the hash was checked.
fn unpack(file: &Path, into: &Path) -> Result<(), BackupError> {
    check_hash(file)?;
    let mut reader = std::io::BufReader::new(std::fs::File::open(file)?);
    let mut magic = [0; 8];
    reader.read_exact(&mut magic)?;
    crate::folder::make(into)?;
    loop {
        let mut length = [0; 4];
        reader.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length == 0 {
            return Ok(std::fs::File::open(into)?.sync_all()?);
        }
        if length > PART_BYTES_MAX {
            return Err(BackupError::Foreign("a part is too long"));
        }
        let mut part = vec![0; length];
        reader.read_exact(&mut part)?;
        let chunk = wire_pb::SnapshotChunk::decode(part.as_slice()).map_err(|_| BackupError::Foreign("a part makes no sense"))?;
        if let Some(wire_pb::snapshot_chunk::Part::File(part)) = chunk.part {
            write_part(into, &part)?;
        }
    }
}

fn write_part(into: &Path, part: &wire_pb::SnapshotFile) -> Result<(), BackupError> {
    if part.name.is_empty() || part.name.contains(['/', '\0']) || part.name.starts_with("..") {
        return Err(BackupError::Foreign("a file has an impossible name"));
    }
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(into.join(&part.name))?;
    file.write_all(&part.data)?;
    // An empty part ends a file.
    if part.data.is_empty() {
        file.sync_all()?;
    }
    Ok(())
}

fn check_hash(file: &Path) -> Result<(), BackupError> {
    let mut reader = std::io::BufReader::new(std::fs::File::open(file)?);
    let length = reader.get_ref().metadata()?.len();
    let Some(content) = length.checked_sub(32).filter(|content| content % BLOCK as u64 == 0) else {
        return Err(BackupError::Foreign("its length is impossible"));
    };
    let mut magic = [0; 8];
    reader.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(BackupError::Foreign("it begins with something else, perhaps etcd's own format"));
    }
    let mut hasher = Sha256::new();
    hasher.update(magic);
    let mut rest = (&mut reader).take(content - 8);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = rest.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    let mut expected = [0; 32];
    reader.read_exact(&mut expected)?;
    let found: [u8; 32] = hasher.finalize().into();
    let text = |bytes: [u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    if found == expected { Ok(()) } else { Err(BackupError::Checksum { expected: text(expected), found: text(found) }) }
}

/// Looks into a snapshot; `scratch` is a directory that does not exist yet.
pub fn status(file: &Path, scratch: &Path) -> Result<Contents, BackupError> {
    let looked = || {
        unpack(file, scratch)?;
        let database = Database::open(scratch, &Budget::new(ROCKSDB_BYTES))?;
        let memory = database.load()?;
        let (hash, total_keys) = crate::state::view::digest(&database, memory.revision)?;
        Ok(Contents { hash, revision: memory.revision, total_keys, total_size: std::fs::metadata(file)?.len() })
    };
    let status = looked();
    drop(std::fs::remove_dir_all(scratch));
    status
}

/// Makes the data of one member of a new cluster from a snapshot.
pub fn restore(file: &Path, options: &Options) -> Result<Begin, BackupError> {
    let target = &options.data_dir;
    if target.exists() && std::fs::read_dir(target)?.next().is_some() {
        return Err(BackupError::NotEmpty(target.clone()));
    }
    let begin = identity::of_new(options)?;
    let state = target.join("state");
    unpack(file, &state.join("state-0"))?;
    let database = Database::open(&state.join("state-0"), &Budget::new(ROCKSDB_BYTES))?;
    crate::state::restore::prepare(&database, &begin)?;
    drop(database);
    std::fs::write(state.join("CURRENT"), "state-0")?;
    std::fs::File::open(state.join("CURRENT"))?.sync_all()?;
    std::fs::File::open(&state)?.sync_all()?;
    identity::write(target, &begin)?;
    Ok(begin)
}
