//! Applies committed entries: opens their batches, runs each proposal, writes all in one batch.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::kontiki::store::v1 as wire_pb;
use kontiki_proto::kontiki::store::v1::proposal::Operation;
use kontiki_proto::mvccpb::{Event, KeyValue, event::EventType};
use openraft::EntryPayload;
use prost::Message;
use rocksdb::WriteBatch;

use super::database::{
    APPLIED, COMPACTED, Database, KEYS, LEASES, Lease, MEMBERSHIP, META, Memory, REVISION, REVISIONS, StateError,
};
use super::keys;
use super::view::{self, Found, Overlay, Wanted};
use crate::auth::Caller;
use crate::error::Error;
use crate::mvcc::range::{KeyRange, RangeEnd};
use crate::raft::types::{Entry, StoredMembership};
use crate::raft::wire;

/// What a proposal led to.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A key was written.
    Put(pb::PutResponse),
    /// Keys were removed.
    DeleteRange(pb::DeleteRangeResponse),
    /// A transaction ran.
    Txn(pb::TxnResponse),
    /// A lease was granted, with these seconds.
    LeaseGrant(i64),
    /// Alarms that were raised or cleared.
    Alarms(Vec<pb::AlarmMember>),
    /// Nothing more to say.
    Done,
}

/// The result of one proposal, for whoever waits for it.
#[derive(Debug)]
pub struct Decided {
    /// The member that waits.
    pub proposer: u64,
    /// The number it waits for.
    pub number: u64,
    /// The term in which it was decided.
    pub term: u64,
    /// The revision after it.
    pub revision: i64,
    /// What came of it.
    pub result: Result<Outcome, Error>,
}

/// The events of one revision, in order.
#[derive(Debug)]
pub struct Change {
    /// The revision.
    pub revision: i64,
    /// Its events, each with its previous value.
    pub events: Vec<Event>,
}

/// All that a run of entries led to.
#[derive(Debug, Default)]
pub struct Applied {
    /// Results, in order.
    pub decided: Vec<Decided>,
    /// Events, in order.
    pub changes: Vec<Change>,
    /// The log was compacted logically.
    pub compacted: bool,
    /// Tokens that count from now on: user and token.
    pub tokens: Vec<(String, String)>,
    /// Users whose tokens no longer count; `None` is all of them.
    pub tokens_over: Vec<Option<String>>,
}

/// Applies entries to a database and to what is kept in memory of it.
pub fn apply(database: &Database, memory: &mut Memory, entries: Vec<Entry>) -> Result<Applied, StateError> {
    let mut writer = Writer::new(database, memory)?;
    for entry in entries {
        writer.entry(entry)?;
    }
    writer.finish()
}

/// Writes a membership by itself.
pub fn write_membership(database: &Database, membership: &StoredMembership) -> Result<(), StateError> {
    let mut batch = WriteBatch::default();
    batch.put_cf(&database.family(META)?, MEMBERSHIP, wire::stored_membership(membership).encode_to_vec());
    database.write(batch)
}

/// A batch in the making.
pub(super) struct Writer<'a> {
    pub(super) database: &'a Database,
    pub(super) memory: &'a mut Memory,
    pub(super) overlay: Overlay,
    /// What was read last of what the batch does not have: a transaction compares a key and then writes it.
    read_last: RefCell<Option<(Bytes, Option<KeyValue>)>>,
    families: Families<'a>,
    batch: WriteBatch,
    /// Bytes by which the keys grow.
    growth: i64,
    events: Vec<Event>,
    pub(super) applied: Applied,
}

struct Families<'a> {
    keys: std::sync::Arc<rocksdb::BoundColumnFamily<'a>>,
    revisions: std::sync::Arc<rocksdb::BoundColumnFamily<'a>>,
    leases: std::sync::Arc<rocksdb::BoundColumnFamily<'a>>,
    meta: std::sync::Arc<rocksdb::BoundColumnFamily<'a>>,
}

impl<'a> Writer<'a> {
    fn new(database: &'a Database, memory: &'a mut Memory) -> Result<Self, StateError> {
        let families = Families {
            keys: database.family(KEYS)?,
            revisions: database.family(REVISIONS)?,
            leases: database.family(LEASES)?,
            meta: database.family(META)?,
        };
        Ok(Self {
            database,
            memory,
            overlay: BTreeMap::new(),
            read_last: RefCell::new(None),
            families,
            batch: WriteBatch::default(),
            growth: 0,
            events: Vec::new(),
            applied: Applied::default(),
        })
    }

    fn entry(&mut self, entry: Entry) -> Result<(), StateError> {
        let log_id = entry.log_id;
        // After a snapshot that is newer than it says, entries may come that are in it already.
        if self.memory.applied.is_some_and(|applied| applied.index >= log_id.index) {
            return Ok(());
        }
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                self.note_removed(&membership);
                self.memory.membership = StoredMembership::new(Some(log_id), membership);
                let stored = wire::stored_membership(&self.memory.membership).encode_to_vec();
                self.put_meta(MEMBERSHIP, stored);
            }
            EntryPayload::Normal(batch) => {
                let batch = wire_pb::Batch::decode(batch.0).map_err(|_| StateError::Damaged("log entry"))?;
                for proposal in batch.proposals {
                    self.proposal(proposal, log_id.leader_id.term)?;
                }
            }
        }
        self.memory.applied = Some(log_id);
        Ok(())
    }

    fn proposal(&mut self, proposal: wire_pb::Proposal, term: u64) -> Result<(), StateError> {
        let caller = match &proposal.user {
            None => Caller::Trusted,
            Some(name) if name.is_empty() => Caller::Anonymous,
            Some(name) => Caller::User { name: name.as_str().into(), revision: proposal.auth_revision },
        };
        let result = match proposal.operation {
            Some(operation) => match self.allowed(&caller, &operation) {
                Ok(()) => self.operate(&caller, operation)?,
                Err(refused) => Err(refused),
            },
            // A member that is newer than this one knows more operations; skipping one would let
            // the states part, so this member must not go on.
            None => {
                return Err(StateError::Damaged("log entry: its operation is unknown to this version"));
            }
        };
        if !self.events.is_empty() {
            self.memory.revision += 1;
            let events = std::mem::take(&mut self.events);
            self.applied.changes.push(Change { revision: self.memory.revision, events });
        }
        self.applied.decided.push(Decided {
            proposer: proposal.proposer,
            number: proposal.number,
            term,
            revision: self.memory.revision,
            result,
        });
        Ok(())
    }

    fn operate(&mut self, caller: &Caller, operation: Operation) -> Result<Result<Outcome, Error>, StateError> {
        Ok(match operation {
            Operation::Put(request) => self.put(&request)?.map(Outcome::Put),
            Operation::DeleteRange(request) => Ok(Outcome::DeleteRange(self.delete_range(&request)?)),
            Operation::Txn(request) => self.txn(&request)?.map(Outcome::Txn),
            Operation::Compact(request) => self.compact(request.revision).map(|()| Outcome::Done),
            Operation::LeaseGrant(request) => self.lease_grant(request.id, request.ttl).map(Outcome::LeaseGrant),
            Operation::LeaseRevoke(request) => self.lease_revoke(request.id)?.map(|()| Outcome::Done),
            Operation::LeaseCheckpoint(request) => {
                self.lease_checkpoint(&request);
                Ok(Outcome::Done)
            }
            Operation::Attributes(attributes) => {
                self.attributes(attributes);
                Ok(Outcome::Done)
            }
            Operation::Alarm(request) => Ok(Outcome::Alarms(self.alarm(request))),
            Operation::Auth(request) => self.auth(caller, &request).map(|()| Outcome::Done),
            Operation::ClusterVersion(version) => {
                self.cluster_version(version);
                Ok(Outcome::Done)
            }
        })
    }

    /// Writes something about the cluster as a whole.
    pub(super) fn put_meta(&mut self, key: &[u8], value: Vec<u8>) {
        self.batch.put_cf(&self.families.meta, key, value);
    }

    /// The revision that the running proposal writes.
    pub(super) fn next_revision(&self) -> i64 {
        self.memory.revision + 1
    }

    /// The revision as the running proposal sees it.
    pub(super) fn current_revision(&self) -> i64 {
        self.memory.revision + i64::from(!self.events.is_empty())
    }

    /// The newest version of a key.
    pub(super) fn latest(&self, key: &Bytes) -> Result<Option<KeyValue>, StateError> {
        if let Some(found) = view::pending(&self.overlay, key, self.current_revision()) {
            return Ok(found);
        }
        if let Some((known, found)) = &*self.read_last.borrow()
            && known == key
        {
            return Ok(found.clone());
        }
        let found = view::newest_stored(self.database, key, self.current_revision())?;
        *self.read_last.borrow_mut() = Some((key.clone(), found.clone()));
        Ok(found)
    }

    /// Keys of an interval as the running proposal sees them. What is more than one key may take its time.
    pub(super) fn scan(&self, range: &KeyRange, wanted: Wanted) -> Result<Found, StateError> {
        if range.end == RangeEnd::Single && wanted.revision == self.current_revision() {
            return Ok(Found::of_one(self.latest(&range.start)?, wanted.limit));
        }
        crate::blocking::here(|| view::scan(self.database, &self.overlay, range, wanted))
    }

    /// Writes a version of a key; `version` 0 removes it.
    pub(super) fn write(&mut self, kv: KeyValue, previous: Option<KeyValue>) {
        let place = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        let record = keys::record(&kv);
        self.growth += keys::weight(&kv.key, &record);
        self.batch.put_cf(&self.families.keys, keys::version(&kv.key, kv.mod_revision), record);
        self.batch.put_cf(&self.families.revisions, keys::revision(kv.mod_revision, place), &kv.key);
        let lease_before = previous.as_ref().map_or(0, |previous| previous.lease);
        if lease_before != kv.lease {
            self.detach(lease_before, &kv.key);
            self.attach(kv.lease, &kv.key);
        }
        self.overlay.entry(kv.key.clone()).or_default().push(kv.clone());
        let kind = if kv.version == 0 { EventType::Delete } else { EventType::Put };
        self.events.push(Event { r#type: kind as i32, kv: Some(kv), prev_kv: previous });
    }

    fn attach(&mut self, id: i64, key: &Bytes) {
        if let Some(lease) = self.memory.leases.get_mut(&id) {
            lease.keys.insert(key.clone());
            self.batch.put_cf(&self.families.leases, keys::lease_key(id, key), []);
        }
    }

    fn detach(&mut self, id: i64, key: &Bytes) {
        if let Some(lease) = self.memory.leases.get_mut(&id) {
            lease.keys.remove(key);
            self.batch.delete_cf(&self.families.leases, keys::lease_key(id, key));
        }
    }

    /// Remembers a new lease.
    pub(super) fn insert_lease(&mut self, id: i64, ttl: i64) {
        self.memory.leases.insert(id, Lease { ttl, ..Lease::default() });
        self.batch.put_cf(&self.families.leases, keys::lease(id), ttl.to_be_bytes());
    }

    fn lease_checkpoint(&mut self, request: &wire_pb::LeaseCheckpoint) {
        for noted in &request.leases {
            if let Some(lease) = self.memory.leases.get_mut(&noted.id) {
                lease.remaining = noted.seconds;
                let value = [lease.ttl.to_be_bytes(), lease.remaining.to_be_bytes()].concat();
                self.batch.put_cf(&self.families.leases, keys::lease(noted.id), value);
            }
        }
    }

    /// Forgets a lease, whose keys are returned.
    pub(super) fn remove_lease(&mut self, id: i64) -> Option<Lease> {
        let lease = self.memory.leases.remove(&id)?;
        self.batch.delete_cf(&self.families.leases, keys::lease(id));
        for key in &lease.keys {
            self.batch.delete_cf(&self.families.leases, keys::lease_key(id, key));
        }
        Some(lease)
    }

    fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.memory.compacted {
            return Err(Error::Compacted);
        }
        if revision > self.memory.revision {
            return Err(Error::FutureRevision);
        }
        self.memory.compacted = revision;
        self.applied.compacted = true;
        self.batch.put_cf(&self.families.meta, COMPACTED, revision.to_be_bytes());
        Ok(())
    }

    /// Writes the batch. It is not synced: the log keeps the entries until they are flushed.
    fn finish(mut self) -> Result<Applied, StateError> {
        if let Some(applied) = &self.memory.applied {
            self.batch.put_cf(&self.families.meta, APPLIED, wire::log_id(applied).encode_to_vec());
        }
        if !self.applied.changes.is_empty() {
            self.batch.put_cf(&self.families.meta, REVISION, self.memory.revision.to_be_bytes());
        }
        self.database.write_counted(self.batch, self.growth)?;
        Ok(self.applied)
    }
}
