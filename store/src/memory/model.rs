//! A model of etcd: every version of every key in a sorted map, nothing clever.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kontiki_proto::etcdserverpb::{self as pb, request_op::Request, response_op::Response};
use kontiki_proto::mvccpb::{Event, KeyValue, event::EventType};

use crate::error::Error;
use crate::limits::{LEASE_TTL_SECONDS_MAX, LEASE_TTL_SECONDS_MIN};
use crate::mvcc::range::KeyRange;
use crate::mvcc::{compare, select};

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Granted seconds.
    pub ttl: i64,
    /// Keys that go with it.
    pub keys: BTreeSet<Bytes>,
}

/// The whole state of a store.
#[derive(Clone, Debug)]
pub struct Model {
    revision: i64,
    compacted: i64,
    /// Versions of a key, oldest first; `version` 0 marks a removal.
    keys: BTreeMap<Bytes, Vec<KeyValue>>,
    leases: BTreeMap<i64, Lease>,
    events: Vec<Event>,
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

impl Model {
    /// An empty store at revision 1.
    #[must_use]
    pub fn new() -> Self {
        Self { revision: 1, compacted: 0, keys: BTreeMap::new(), leases: BTreeMap::new(), events: vec![] }
    }

    /// The last revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision before which history is gone.
    #[must_use]
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// A lease.
    #[must_use]
    pub fn lease(&self, id: i64) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// All leases.
    #[must_use]
    pub fn leases(&self) -> Vec<i64> {
        self.leases.keys().copied().collect()
    }

    /// The events of some keys between two revisions, both included.
    #[must_use]
    pub fn events(&self, range: &KeyRange, from: i64, to: i64) -> Vec<Event> {
        let wanted = |event: &&Event| {
            event.kv.as_ref().is_some_and(|kv| kv.mod_revision >= from && kv.mod_revision <= to && range.contains(&kv.key))
        };
        self.events.iter().filter(wanted).cloned().collect()
    }

    /// Answers a read.
    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        self.range_at(request, self.revision)
    }

    /// Writes one key.
    pub fn put(&mut self, request: &pb::PutRequest) -> Result<pb::PutResponse, Error> {
        self.check_put(request)?;
        let response = self.put_at(request, self.revision + 1);
        self.revision += 1;
        Ok(response)
    }

    /// Removes keys.
    pub fn delete_range(&mut self, request: &pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, Error> {
        let response = self.delete_at(request, self.revision + 1);
        self.revision += i64::from(response.deleted > 0);
        Ok(response)
    }

    /// Compares, then acts. All conditions, nested ones too, look at the state before the transaction.
    pub fn txn(&mut self, request: &pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        let path = self.path(request);
        self.check_path(request, &mut path.iter())?;
        let mut writer = Writer { begin: self.revision, changed: false };
        let response = self.run(request, &mut path.iter(), &mut writer)?;
        self.revision = writer.revision();
        Ok(response)
    }

    /// Forgets history before a revision.
    pub fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted);
        }
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        self.compacted = revision;
        Ok(())
    }

    /// Grants a lease; returns the seconds it really gets.
    pub fn lease_grant(&mut self, id: i64, ttl: i64) -> Result<i64, Error> {
        if ttl > LEASE_TTL_SECONDS_MAX {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(Error::LeaseExists);
        }
        let ttl = ttl.max(LEASE_TTL_SECONDS_MIN);
        self.leases.insert(id, Lease { ttl, keys: BTreeSet::new() });
        Ok(ttl)
    }

    /// Takes a lease back, and its keys with it, at one revision.
    pub fn lease_revoke(&mut self, id: i64) -> Result<(), Error> {
        let lease = self.leases.remove(&id).ok_or(Error::LeaseNotFound)?;
        for key in &lease.keys {
            let request = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
            self.delete_at(&request, self.revision + 1);
        }
        self.revision += i64::from(!lease.keys.is_empty());
        Ok(())
    }

    /// The live keys of an interval at a revision.
    fn live(&self, range: &KeyRange, revision: i64) -> Vec<KeyValue> {
        let at = |versions: &Vec<KeyValue>| {
            let newest = versions.iter().rev().find(|kv| kv.mod_revision <= revision)?;
            (newest.version > 0).then(|| newest.clone())
        };
        self.keys.iter().filter(|(key, _)| range.contains(key)).filter_map(|(_, versions)| at(versions)).collect()
    }

    fn range_at(&self, request: &pb::RangeRequest, current: i64) -> Result<pb::RangeResponse, Error> {
        let revision = self.readable(request.revision, current)?;
        let found = self.live(&KeyRange::new(&request.key, &request.range_end), revision);
        let count = i64::try_from(found.len()).unwrap_or(i64::MAX);
        let found = if request.count_only { vec![] } else { found };
        Ok(select::finish(request, found, count))
    }

    fn readable(&self, wanted: i64, current: i64) -> Result<i64, Error> {
        match wanted {
            wanted if wanted > current => Err(Error::FutureRevision),
            wanted if wanted <= 0 => Ok(current),
            wanted if wanted < self.compacted => Err(Error::Compacted),
            wanted => Ok(wanted),
        }
    }

    fn check_put(&self, request: &pb::PutRequest) -> Result<(), Error> {
        let exists = || !self.live(&KeyRange::new(&request.key, &Bytes::new()), self.revision).is_empty();
        if (request.ignore_value || request.ignore_lease) && !exists() {
            return Err(Error::KeyNotFound);
        }
        if request.lease != 0 && !self.leases.contains_key(&request.lease) {
            return Err(Error::LeaseNotFound);
        }
        Ok(())
    }

    fn put_at(&mut self, request: &pb::PutRequest, revision: i64) -> pb::PutResponse {
        let previous = self.live(&KeyRange::new(&request.key, &Bytes::new()), revision).pop();
        let mut kv = KeyValue {
            key: request.key.clone(),
            create_revision: previous.as_ref().map_or(revision, |previous| previous.create_revision),
            mod_revision: revision,
            version: previous.as_ref().map_or(0, |previous| previous.version) + 1,
            value: request.value.clone(),
            lease: request.lease,
        };
        if let Some(previous) = &previous {
            if request.ignore_value {
                kv.value = previous.value.clone();
            }
            if request.ignore_lease {
                kv.lease = previous.lease;
            }
            self.detach(previous);
        }
        if let Some(lease) = self.leases.get_mut(&kv.lease) {
            lease.keys.insert(kv.key.clone());
        }
        self.keys.entry(kv.key.clone()).or_default().push(kv.clone());
        self.events.push(Event { r#type: EventType::Put as i32, kv: Some(kv), prev_kv: previous.clone() });
        pb::PutResponse { header: None, prev_kv: previous.filter(|_| request.prev_kv) }
    }

    fn delete_at(&mut self, request: &pb::DeleteRangeRequest, revision: i64) -> pb::DeleteRangeResponse {
        let found = self.live(&KeyRange::new(&request.key, &request.range_end), revision);
        for previous in &found {
            self.detach(previous);
            let gone = KeyValue { key: previous.key.clone(), mod_revision: revision, ..Default::default() };
            self.keys.entry(gone.key.clone()).or_default().push(gone.clone());
            let event = Event { r#type: EventType::Delete as i32, kv: Some(gone), prev_kv: Some(previous.clone()) };
            self.events.push(event);
        }
        let deleted = i64::try_from(found.len()).unwrap_or(i64::MAX);
        let prev_kvs = if request.prev_kv { found } else { vec![] };
        pb::DeleteRangeResponse { header: None, deleted, prev_kvs }
    }

    fn detach(&mut self, kv: &KeyValue) {
        if let Some(lease) = self.leases.get_mut(&kv.lease) {
            lease.keys.remove(&kv.key);
        }
    }

    /// Which branch each transaction takes, in the order in which they run.
    fn path(&self, request: &pb::TxnRequest) -> Vec<bool> {
        let succeeded = request.compare.iter().all(|condition| {
            let range = KeyRange::new(&condition.key, &condition.range_end);
            compare::holds(condition, &self.live(&range, self.revision))
        });
        let mut path = vec![succeeded];
        for operation in branch(request, succeeded) {
            if let Some(Request::RequestTxn(nested)) = &operation.request {
                path.extend(self.path(nested));
            }
        }
        path
    }

    fn check_path<'a>(&self, request: &pb::TxnRequest, path: &mut impl Iterator<Item = &'a bool>) -> Result<(), Error> {
        let succeeded = path.next().copied().unwrap_or(false);
        for operation in branch(request, succeeded) {
            match &operation.request {
                Some(Request::RequestRange(nested)) => {
                    self.readable(nested.revision, self.revision)?;
                }
                Some(Request::RequestPut(nested)) => self.check_put(nested)?,
                Some(Request::RequestTxn(nested)) => self.check_path(nested, path)?,
                Some(Request::RequestDeleteRange(_)) | None => {}
            }
        }
        Ok(())
    }

    fn run<'a>(
        &mut self,
        request: &pb::TxnRequest,
        path: &mut impl Iterator<Item = &'a bool>,
        writer: &mut Writer,
    ) -> Result<pb::TxnResponse, Error> {
        let succeeded = path.next().copied().unwrap_or(false);
        let mut responses = Vec::new();
        for operation in branch(request, succeeded) {
            let response = match &operation.request {
                Some(Request::RequestRange(nested)) => {
                    let mut response = self.range_at(nested, writer.revision())?;
                    response.header = writer.header();
                    Response::ResponseRange(response)
                }
                Some(Request::RequestPut(nested)) => {
                    let mut response = self.put_at(nested, writer.begin + 1);
                    writer.changed = true;
                    response.header = writer.header();
                    Response::ResponsePut(response)
                }
                Some(Request::RequestDeleteRange(nested)) => {
                    let mut response = self.delete_at(nested, writer.begin + 1);
                    writer.changed |= response.deleted > 0;
                    response.header = writer.header();
                    Response::ResponseDeleteRange(response)
                }
                Some(Request::RequestTxn(nested)) => Response::ResponseTxn(self.run(nested, path, writer)?),
                None => continue,
            };
            responses.push(pb::ResponseOp { response: Some(response) });
        }
        Ok(pb::TxnResponse { header: writer.header(), succeeded, responses })
    }
}

/// Where a transaction writes.
struct Writer {
    begin: i64,
    changed: bool,
}

impl Writer {
    fn revision(&self) -> i64 {
        self.begin + i64::from(self.changed)
    }

    /// Inside a transaction a header says nothing but the revision.
    #[allow(clippy::unnecessary_wraps)]
    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader { revision: self.revision(), ..Default::default() })
    }
}

fn branch(request: &pb::TxnRequest, succeeded: bool) -> &[pb::RequestOp] {
    if succeeded { &request.success } else { &request.failure }
}
