//! One open database of the state machine: its column families, and what is kept in memory of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::kontiki::store::v1 as wire_pb;
use parking_lot::Mutex;
use prost::Message;
use rocksdb::{BoundColumnFamily, ColumnFamilyDescriptor, DBWithThreadMode, IteratorMode, MultiThreaded, properties};
use std::sync::Arc;

use super::rocks::Budget;
use crate::auth::Auth;
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
/// The alarms that are raised.
pub const ALARMS: &[u8] = b"alarms";
/// Users, roles and permissions.
pub const AUTH: &[u8] = b"auth";
/// Which API all members serve.
pub const CLUSTER_VERSION: &[u8] = b"cluster-version";
/// Bytes of all versions of all keys.
pub const BYTES: &[u8] = b"bytes";
/// Prefix of members that are gone for ever.
pub const REMOVED: &[u8] = b"removed/";
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
    /// Seconds that were left when last noted; zero is all of them.
    pub remaining: i64,
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
    /// Alarms: kind and member.
    pub alarms: BTreeSet<(i32, u64)>,
    /// Users, roles and permissions.
    pub auth: Arc<Auth>,
    /// Members that are gone for ever.
    pub removed: BTreeSet<u64>,
    /// Which API all members serve.
    pub cluster_version: wire_pb::ClusterVersion,
}

impl Memory {
    /// Whether an alarm of a kind is raised by any member.
    #[must_use]
    pub fn alarmed(&self, kind: pb::AlarmType) -> bool {
        self.alarms.iter().any(|(raised, _)| *raised == kind as i32)
    }
}

/// An open database.
pub struct Database {
    /// RocksDB.
    pub db: DBWithThreadMode<MultiThreaded>,
    path: PathBuf,
    /// Bytes of all versions of all keys, as they are in `meta`.
    bytes: Mutex<i64>,
}

impl Database {
    /// Opens or creates it.
    pub fn open(path: &Path, budget: &Budget) -> Result<Self, StateError> {
        let mut options = budget.options();
        // All families are flushed together, so that the applied position never runs ahead of them.
        options.set_atomic_flush(true);
        options.set_max_total_wal_size(1 << 20);
        let others = [REVISIONS, LEASES, META].map(|name| ColumnFamilyDescriptor::new(name, budget.column_options()));
        let families = [ColumnFamilyDescriptor::new(KEYS, budget.versions_options())].into_iter().chain(others);
        let db = DBWithThreadMode::open_cf_descriptors(&options, path, families)?;
        let database = Self { db, path: path.to_owned(), bytes: Mutex::new(0) };
        *database.bytes.lock() = database.number(BYTES)?;
        Ok(database)
    }

    fn number(&self, key: &[u8]) -> Result<i64, StateError> {
        let Some(stored) = self.db.get_cf(&self.family(META)?, key)? else {
            return Ok(0);
        };
        let number = stored.first_chunk::<8>().ok_or(StateError::Damaged("number"))?;
        Ok(i64::from_be_bytes(*number))
    }

    fn message<M: Message + Default>(&self, key: &[u8]) -> Result<Option<M>, StateError> {
        let stored = self.db.get_cf(&self.family(META)?, key)?;
        let message = stored.map(|stored| M::decode(stored.as_slice())).transpose();
        message.map_err(|_| StateError::Damaged("description of the cluster"))
    }

    /// A column family.
    pub fn family(&self, name: &'static str) -> Result<Arc<BoundColumnFamily<'_>>, StateError> {
        self.db.cf_handle(name).ok_or(StateError::Damaged(name))
    }

    /// Reads what is kept in memory.
    pub fn load(&self) -> Result<Memory, StateError> {
        let applied: Option<wire_pb::LogId> = self.message(APPLIED)?;
        let membership: Option<wire_pb::StoredMembership> = self.message(MEMBERSHIP)?;
        let alarms: pb::AlarmResponse = self.message(ALARMS)?.unwrap_or_default();
        let auth = self.db.get_cf(&self.family(META)?, AUTH)?;
        let auth = auth.map(|stored| Auth::decode(&stored)).transpose().map_err(|_| StateError::Damaged("users"))?;
        Ok(Memory {
            // Like a new etcd, an empty store is at revision 1.
            revision: self.number(REVISION)?.max(1),
            compacted: self.number(COMPACTED)?,
            applied: applied.as_ref().map(wire::to_log_id),
            membership: membership
                .as_ref()
                .map(wire::to_stored_membership)
                .transpose()
                .map_err(|_| StateError::Damaged("membership"))?
                .unwrap_or_default(),
            leases: self.load_leases()?,
            attributes: self.load_attributes()?,
            alarms: alarms.alarms.iter().map(|alarm| (alarm.alarm, alarm.member_id)).collect(),
            auth: Arc::new(auth.unwrap_or_default()),
            removed: self.load_removed()?,
            cluster_version: self.message(CLUSTER_VERSION)?.unwrap_or_default(),
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
                lease.remaining =
                    value.get(8..).and_then(|rest| rest.first_chunk::<8>()).map_or(0, |left| i64::from_be_bytes(*left));
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

    fn load_removed(&self) -> Result<BTreeSet<u64>, StateError> {
        let mut removed = BTreeSet::new();
        let mode = IteratorMode::From(REMOVED, rocksdb::Direction::Forward);
        for item in self.db.iterator_cf(&self.family(META)?, mode) {
            let (key, _) = item?;
            let Some(id) = key.strip_prefix(REMOVED) else { break };
            let id = id.first_chunk::<8>().ok_or(StateError::Damaged("removed members"))?;
            removed.insert(u64::from_be_bytes(*id));
        }
        Ok(removed)
    }

    /// Writes a batch that makes the keys grow, or shrink, by some bytes.
    pub fn write_counted(&self, mut batch: rocksdb::WriteBatch, growth: i64) -> Result<(), StateError> {
        if growth == 0 {
            return self.write(batch);
        }
        // Held while writing, so that the stored sum is always the last one.
        let mut bytes = self.bytes.lock();
        *bytes += growth;
        batch.put_cf(&self.family(META)?, BYTES, bytes.to_be_bytes());
        self.write(batch)
    }

    /// Bytes of all versions of all keys that are still there.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::try_from(*self.bytes.lock()).unwrap_or(0)
    }

    /// Writes a batch without the write-ahead log: what a crash takes is applied again from the log.
    pub fn write(&self, batch: rocksdb::WriteBatch) -> Result<(), StateError> {
        let mut options = rocksdb::WriteOptions::default();
        options.disable_wal(true);
        let write = || self.db.write_opt(batch, &options);
        // The disk does not take what waits for it: whoever writes now waits too, and other tasks move away.
        let written = if self.is_stalled() { crate::blocking::here(write) } else { write() };
        Ok(written?)
    }

    fn is_stalled(&self) -> bool {
        let is_set = |name| self.db.property_int_value(name).is_ok_and(|value| value.is_some_and(|value| value > 0));
        is_set(properties::IS_WRITE_STOPPED) || is_set(properties::ACTUAL_DELAYED_WRITE_RATE)
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
