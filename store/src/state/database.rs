//! One open database of the state machine: its column families, and what is kept in memory of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kontiki_proto::kontiki::store::v1 as wire_pb;
use prost::Message;
use rocksdb::{BoundColumnFamily, ColumnFamilyDescriptor, DBWithThreadMode, IteratorMode, MultiThreaded};
use std::sync::Arc;

use super::rocks::Budget;
use crate::raft::types::{LogId, StoredMembership};
use crate::raft::wire;

/// Versions of keys.
pub const KEYS: &str = "keys";
/// Keys by revision.
pub const REVISIONS: &str = "revisions";
/// Leases and the keys attached to them.
pub const LEASES: &str = "leases";
/// Everything else.
pub const META: &str = "meta";

/// Keys in `meta`.
pub const APPLIED: &[u8] = b"applied";
/// The last revision.
pub const REVISION: &[u8] = b"revision";
/// The compacted revision.
pub const COMPACTED: &[u8] = b"compacted";
/// The last membership.
pub const MEMBERSHIP: &[u8] = b"membership";
/// Prefix of what members say about themselves.
pub const ATTRIBUTES: &[u8] = b"attributes/";

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// RocksDB refused.
    #[error("the state machine's database failed")]
    Rocks(#[from] rocksdb::Error),
    /// Something stored cannot be what was written.
    #[error("the state machine's {0} is damaged")]
    Damaged(&'static str),
    /// A file could not be touched.
    #[error("the state machine's files failed")]
    Io(#[from] std::io::Error),
}

/// A lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Granted seconds.
    pub ttl: i64,
    /// Keys that go with it.
    pub keys: BTreeSet<Bytes>,
}

/// What is kept in memory of a database.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The last revision.
    pub revision: i64,
    /// The revision before which history is gone.
    pub compacted: i64,
    /// The last applied entry.
    pub applied: Option<LogId>,
    /// The last applied membership.
    pub membership: StoredMembership,
    /// Leases by identifier.
    pub leases: BTreeMap<i64, Lease>,
    /// What members say about themselves.
    pub attributes: BTreeMap<u64, wire_pb::Attributes>,
}

/// An open database.
pub struct Database {
    /// RocksDB.
    pub db: DBWithThreadMode<MultiThreaded>,
    path: PathBuf,
}

impl Database {
    /// Opens or creates it.
    pub fn open(path: &Path, budget: &Budget) -> Result<Self, StateError> {
        let mut options = budget.options();
        // All families are flushed together, so that the applied position never runs ahead of them.
        options.set_atomic_flush(true);
        options.set_max_total_wal_size(1 << 20);
        let families = [KEYS, REVISIONS, LEASES, META].map(|name| ColumnFamilyDescriptor::new(name, budget.column_options()));
        Ok(Self { db: DBWithThreadMode::open_cf_descriptors(&options, path, families)?, path: path.to_owned() })
    }

    /// A column family.
    pub fn family(&self, name: &'static str) -> Result<Arc<BoundColumnFamily<'_>>, StateError> {
        self.db.cf_handle(name).ok_or(StateError::Damaged(name))
    }

    /// Reads what is kept in memory.
    pub fn load(&self) -> Result<Memory, StateError> {
        let meta = self.family(META)?;
        let number = |key: &[u8]| -> Result<i64, StateError> {
            let Some(stored) = self.db.get_cf(&meta, key)? else {
                return Ok(0);
            };
            let number = stored.first_chunk::<8>().ok_or(StateError::Damaged("revision"))?;
            Ok(i64::from_be_bytes(*number))
        };
        let applied = self.db.get_cf(&meta, APPLIED)?;
        let applied = applied
            .map(|stored| wire_pb::LogId::decode(stored.as_slice()))
            .transpose()
            .map_err(|_| StateError::Damaged("applied position"))?;
        let membership = self.db.get_cf(&meta, MEMBERSHIP)?;
        let membership = membership
            .map(|stored| wire_pb::StoredMembership::decode(stored.as_slice()))
            .transpose()
            .map_err(|_| StateError::Damaged("membership"))?;
        Ok(Memory {
            // Like a new etcd, an empty store is at revision 1.
            revision: number(REVISION)?.max(1),
            compacted: number(COMPACTED)?,
            applied: applied.as_ref().map(wire::to_log_id),
            membership: membership
                .as_ref()
                .map(wire::to_stored_membership)
                .transpose()
                .map_err(|_| StateError::Damaged("membership"))?
                .unwrap_or_default(),
            leases: self.load_leases()?,
            attributes: self.load_attributes()?,
        })
    }

    fn load_leases(&self) -> Result<BTreeMap<i64, Lease>, StateError> {
        let mut leases: BTreeMap<i64, Lease> = BTreeMap::new();
        for item in self.db.iterator_cf(&self.family(LEASES)?, IteratorMode::Start) {
            let (stored, value) = item?;
            let Some((id, key)) = stored.split_first_chunk::<8>() else {
                return Err(StateError::Damaged("list of leases"));
            };
            let lease = leases.entry(i64::from_be_bytes(*id)).or_default();
            if key.is_empty() {
                let ttl = value.first_chunk::<8>().ok_or(StateError::Damaged("list of leases"))?;
                lease.ttl = i64::from_be_bytes(*ttl);
            } else {
                lease.keys.insert(Bytes::copy_from_slice(key));
            }
        }
        Ok(leases)
    }

    fn load_attributes(&self) -> Result<BTreeMap<u64, wire_pb::Attributes>, StateError> {
        let mut attributes = BTreeMap::new();
        let mode = IteratorMode::From(ATTRIBUTES, rocksdb::Direction::Forward);
        for item in self.db.iterator_cf(&self.family(META)?, mode) {
            let (key, value) = item?;
            if !key.starts_with(ATTRIBUTES) {
                break;
            }
            let member = wire_pb::Attributes::decode(&*value).map_err(|_| StateError::Damaged("member attributes"))?;
            attributes.insert(member.member_id, member);
        }
        Ok(attributes)
    }

    /// Writes a batch without the write-ahead log: what a crash takes is applied again from the log.
    pub fn write(&self, batch: rocksdb::WriteBatch) -> Result<(), StateError> {
        let mut options = rocksdb::WriteOptions::default();
        options.disable_wal(true);
        Ok(self.db.write_opt(batch, &options)?)
    }

    /// Writes all families to disk, in one step, and waits for it.
    pub fn flush(&self) -> Result<(), StateError> {
        let families = [KEYS, REVISIONS, LEASES, META];
        let families = families.into_iter().map(|name| self.family(name)).collect::<Result<Vec<_>, _>>()?;
        let mut options = rocksdb::FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families.iter().collect::<Vec<_>>(), &options)?;
        Ok(())
    }

    /// Makes a copy of the files, mostly by links.
    pub fn checkpoint(&self, path: &Path) -> Result<(), StateError> {
        Ok(rocksdb::checkpoint::Checkpoint::new(&self.db)?.create_checkpoint(path)?)
    }

    /// Bytes on disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        super::rocks::directory_bytes(&self.path)
    }
}
