//! What each operation does to the keys: put, delete, transactions, leases.

use kontiki_proto::etcdserverpb::{self as pb, request_op::Request, response_op::Response};
use kontiki_proto::mvccpb::KeyValue;

use super::apply::Writer;
use super::database::StateError;
use super::view::{self, Wanted};
use crate::error::Error;
use crate::limits::{LEASE_TTL_SECONDS_MAX, LEASE_TTL_SECONDS_MIN};
use crate::mvcc::range::KeyRange;
use crate::mvcc::{compare, select};

/// A disk's failure stops the member; a refusal is an answer.
type Answer<T> = Result<Result<T, Error>, StateError>;

/// Which revision a read means, or why it cannot be had.
pub fn readable(wanted: i64, current: i64, compacted: i64) -> Result<i64, Error> {
    match wanted {
        wanted if wanted > current => Err(Error::FutureRevision),
        wanted if wanted <= 0 => Ok(current),
        wanted if wanted < compacted => Err(Error::Compacted),
        wanted => Ok(wanted),
    }
}

/// What a read has to bring from the database.
#[must_use]
pub fn wanted(request: &pb::RangeRequest, revision: i64) -> Wanted {
    let by_value = request.sort_target == pb::range_request::SortTarget::Value as i32;
    Wanted { revision, limit: select::scan_limit(request), values: !request.keys_only || by_value }
}

impl Writer<'_> {
    pub(super) fn put(&mut self, request: &pb::PutRequest) -> Answer<pb::PutResponse> {
        if let Err(refused) = self.check_put(request)? {
            return Ok(Err(refused));
        }
        Ok(Ok(self.write_put(request)?))
    }

    pub(super) fn delete_range(&mut self, request: &pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, StateError> {
        let range = KeyRange::new(&request.key, &request.range_end);
        let everything = Wanted { revision: self.current_revision(), limit: None, values: true };
        let found = self.scan(&range, everything)?;
        let prev_kvs = if request.prev_kv { found.kvs.clone() } else { vec![] };
        for previous in found.kvs {
            self.remove(previous);
        }
        Ok(pb::DeleteRangeResponse { header: None, deleted: i64::try_from(found.count).unwrap_or(i64::MAX), prev_kvs })
    }

    /// Compares, then acts. All conditions, nested ones too, look at the state before the transaction.
    pub(super) fn txn(&mut self, request: &pb::TxnRequest) -> Answer<pb::TxnResponse> {
        let mut path = Vec::new();
        self.choose(request, &mut path)?;
        if let Err(refused) = self.check(request, &mut path.iter())? {
            return Ok(Err(refused));
        }
        Ok(Ok(self.run(request, &mut path.iter())?))
    }

    pub(super) fn lease_grant(&mut self, id: i64, ttl: i64) -> Result<i64, Error> {
        if ttl > LEASE_TTL_SECONDS_MAX {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.memory.leases.contains_key(&id) {
            return Err(Error::LeaseExists);
        }
        let ttl = ttl.max(LEASE_TTL_SECONDS_MIN);
        self.insert_lease(id, ttl);
        Ok(ttl)
    }

    pub(super) fn lease_revoke(&mut self, id: i64) -> Answer<()> {
        let Some(lease) = self.remove_lease(id) else {
            return Ok(Err(Error::LeaseNotFound));
        };
        for key in lease.keys {
            if let Some(previous) = self.latest(&key)? {
                self.remove(previous);
            }
        }
        Ok(Ok(()))
    }

    fn remove(&mut self, previous: KeyValue) {
        let mod_revision = self.next_revision();
        let gone = KeyValue { key: previous.key.clone(), mod_revision, ..Default::default() };
        self.write(gone, Some(previous));
    }

    fn check_put(&self, request: &pb::PutRequest) -> Answer<()> {
        if (request.ignore_value || request.ignore_lease) && self.latest(&request.key)?.is_none() {
            return Ok(Err(Error::KeyNotFound));
        }
        if request.lease != 0 && !self.memory.leases.contains_key(&request.lease) {
            return Ok(Err(Error::LeaseNotFound));
        }
        Ok(Ok(()))
    }

    fn write_put(&mut self, request: &pb::PutRequest) -> Result<pb::PutResponse, StateError> {
        let previous = self.latest(&request.key)?;
        let revision = self.next_revision();
        let before = previous.as_ref();
        let kept_value = before.filter(|_| request.ignore_value).map(|previous| previous.value.clone());
        let kept_lease = before.filter(|_| request.ignore_lease).map(|previous| previous.lease);
        let kv = KeyValue {
            key: request.key.clone(),
            create_revision: before.map_or(revision, |previous| previous.create_revision),
            mod_revision: revision,
            version: before.map_or(0, |previous| previous.version) + 1,
            value: kept_value.unwrap_or_else(|| request.value.clone()),
            lease: kept_lease.unwrap_or(request.lease),
        };
        let prev_kv = previous.clone().filter(|_| request.prev_kv);
        self.write(kv, previous);
        Ok(pb::PutResponse { header: None, prev_kv })
    }

    fn choose(&self, request: &pb::TxnRequest, path: &mut Vec<bool>) -> Result<(), StateError> {
        let mut succeeded = true;
        for condition in &request.compare {
            let range = KeyRange::new(&condition.key, &condition.range_end);
            let everything = Wanted { revision: self.current_revision(), limit: None, values: true };
            let found = self.scan(&range, everything)?;
            if !compare::holds(condition, &found.kvs) {
                succeeded = false;
                break;
            }
        }
        path.push(succeeded);
        for operation in branch(request, succeeded) {
            if let Some(Request::RequestTxn(nested)) = &operation.request {
                self.choose(nested, path)?;
            }
        }
        Ok(())
    }

    fn check<'a>(&self, request: &pb::TxnRequest, path: &mut impl Iterator<Item = &'a bool>) -> Answer<()> {
        let succeeded = path.next().copied().unwrap_or(false);
        for operation in branch(request, succeeded) {
            let checked = match &operation.request {
                Some(Request::RequestRange(nested)) => {
                    readable(nested.revision, self.memory.revision, self.memory.compacted).map(drop)
                }
                Some(Request::RequestPut(nested)) => self.check_put(nested)?,
                Some(Request::RequestTxn(nested)) => self.check(nested, path)?,
                Some(Request::RequestDeleteRange(_)) | None => Ok(()),
            };
            if checked.is_err() {
                return Ok(checked);
            }
        }
        Ok(Ok(()))
    }

    fn run<'a>(
        &mut self,
        request: &pb::TxnRequest,
        path: &mut impl Iterator<Item = &'a bool>,
    ) -> Result<pb::TxnResponse, StateError> {
        let succeeded = path.next().copied().unwrap_or(false);
        let mut responses = Vec::new();
        for operation in branch(request, succeeded) {
            let response = match &operation.request {
                Some(Request::RequestRange(nested)) => {
                    let mut response = self.read(nested)?;
                    response.header = self.header();
                    Response::ResponseRange(response)
                }
                Some(Request::RequestPut(nested)) => {
                    let mut response = self.write_put(nested)?;
                    response.header = self.header();
                    Response::ResponsePut(response)
                }
                Some(Request::RequestDeleteRange(nested)) => {
                    let mut response = self.delete_range(nested)?;
                    response.header = self.header();
                    Response::ResponseDeleteRange(response)
                }
                Some(Request::RequestTxn(nested)) => Response::ResponseTxn(self.run(nested, path)?),
                None => continue,
            };
            responses.push(pb::ResponseOp { response: Some(response) });
        }
        Ok(pb::TxnResponse { header: self.header(), succeeded, responses })
    }

    /// A read inside a transaction sees what the transaction wrote before it.
    fn read(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, StateError> {
        let current = self.current_revision();
        let revision = if request.revision <= 0 { current } else { request.revision };
        let range = KeyRange::new(&request.key, &request.range_end);
        let found = self.scan(&range, wanted(request, revision))?;
        Ok(select::finish(request, found.kvs, i64::try_from(found.count).unwrap_or(i64::MAX)))
    }

    /// Inside a transaction a header says nothing but the revision.
    #[allow(clippy::unnecessary_wraps)]
    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader { revision: self.current_revision(), ..Default::default() })
    }
}

fn branch(request: &pb::TxnRequest, succeeded: bool) -> &[pb::RequestOp] {
    if succeeded { &request.success } else { &request.failure }
}

/// Answers a transaction that only reads, without the log.
pub fn read_only(
    database: &super::database::Database,
    request: &pb::TxnRequest,
    current: i64,
    compacted: i64,
) -> Answer<pb::TxnResponse> {
    let overlay = view::Overlay::new();
    let mut succeeded = true;
    for condition in &request.compare {
        let range = KeyRange::new(&condition.key, &condition.range_end);
        let everything = Wanted { revision: current, limit: None, values: true };
        succeeded = succeeded && compare::holds(condition, &view::scan(database, &overlay, &range, everything)?.kvs);
    }
    let header = Some(pb::ResponseHeader { revision: current, ..Default::default() });
    let mut responses = Vec::new();
    for operation in branch(request, succeeded) {
        let response = match &operation.request {
            Some(Request::RequestRange(nested)) => {
                let revision = match readable(nested.revision, current, compacted) {
                    Ok(revision) => revision,
                    Err(refused) => return Ok(Err(refused)),
                };
                let range = KeyRange::new(&nested.key, &nested.range_end);
                let found = view::scan(database, &overlay, &range, wanted(nested, revision))?;
                let count = i64::try_from(found.count).unwrap_or(i64::MAX);
                let mut response = select::finish(nested, found.kvs, count);
                response.header = header;
                Response::ResponseRange(response)
            }
            Some(Request::RequestTxn(nested)) => match read_only(database, nested, current, compacted)? {
                Ok(response) => Response::ResponseTxn(response),
                Err(refused) => return Ok(Err(refused)),
            },
            _ => continue,
        };
        responses.push(pb::ResponseOp { response: Some(response) });
    }
    Ok(Ok(pb::TxnResponse { header, succeeded, responses }))
}
