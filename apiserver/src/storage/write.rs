//! Writes: one optimistic transaction each, repeated from a fresh read while somebody was faster.

use std::time::Duration;

use bytes::Bytes;
use kontiki_api::{
    object::{Encoded, stored_bytes},
    registry::Resource,
    status::Status,
};
use kontiki_proto::{etcdserverpb as pb, mvccpb};
use serde_json::Value;

use super::{Storage, keys, store_failure};

/// How often a change is computed again before the caller is told.
const ATTEMPTS_MAX: usize = 16;
/// Wait between two attempts, times the attempt's number, with jitter.
const ATTEMPT_DELAY: Duration = Duration::from_millis(2);

/// A further key that a write takes or gives back in the same transaction, such as an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Keys that must be free, and are taken.
    pub take: Vec<Claim>,
    /// Keys that are given back.
    pub release: Vec<String>,
}

/// A key that is taken, and what stands there from then on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
}

/// What a write has left.
#[derive(Debug)]
pub enum Written {
    /// The object under its new version.
    Stored(Encoded),
    /// The object as it was last; it is gone.
    Removed(Encoded),
    /// Nothing had to be written.
    Unchanged(Encoded),
    /// A key of the guard was taken by somebody else.
    Taken,
}

/// What is to become of an object.
pub enum Outcome {
    /// It is stored so.
    Store(Value, Guard),
    /// It is removed.
    Remove(Guard),
}

impl Storage {
    /// Creates an object, which must have no stored one; `lease` is a store lease or 0.
    pub async fn create(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        object: &Value,
        guard: &Guard,
        lease: i64,
    ) -> Result<Written, Status> {
        let key = keys::object(resource, namespace, name);
        let (served, stored) = (stored_bytes(object), stored_bytes(&self.to_stored(resource, object).await?));
        let mut request = pb::TxnRequest { compare: vec![is_absent(&key)], ..pb::TxnRequest::default() };
        request.success.push(put(&key, stored.clone(), lease));
        add_guard(&mut request, guard);
        request.failure.push(get(&key));
        let answer = self.kv.txn(request).await.map_err(|error| store_failure(&error))?;
        if answer.succeeded {
            return encode(&served, revision_of(&answer)).map(Written::Stored);
        }
        match first_pair(&answer) {
            // The same object is there: an earlier attempt of ours had succeeded after all.
            Some(pair) if pair.value == stored => encode(&served, pair.mod_revision).map(Written::Stored),
            Some(_) => Err(Status::already_exists(resource.key.group, resource.key.plural, name)),
            None => Ok(Written::Taken),
        }
    }

    /// Begins to change or remove an object.
    pub async fn begin<'a>(&'a self, resource: &'a Resource, namespace: &str, name: &str) -> Result<Transaction<'a>, Status> {
        let key = keys::object(resource, namespace, name);
        let missing = Status::not_found(resource.key.group, resource.key.plural, name);
        let cached = self.caches.of(resource).and_then(|cache| cache.get(&key));
        // A change from a stale object fails its compare and is computed again from the answer;
        // but an error computed from one must not be told before a fresh read.
        let fresh = cached.is_none();
        let current = match cached {
            Some(object) => object.encoded.clone(),
            None => self.read(&key).await?.ok_or_else(|| missing.clone())?,
        };
        let modified = Status::modified(resource.key.group, resource.key.plural, name);
        let keeps_lease = resource.key.plural == "events";
        Ok(Transaction {
            storage: self,
            resource,
            key,
            before: self.to_served(resource, current.value()).await?,
            current,
            fresh,
            attempt: 0,
            keeps_lease,
            missing,
            modified,
        })
    }

    /// Changes or removes an object. `change` sees the current object, with its resource version,
    /// and may be called several times.
    pub async fn change(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        mut change: impl FnMut(Value) -> Result<Outcome, Status>,
    ) -> Result<Written, Status> {
        let mut transaction = self.begin(resource, namespace, name).await?;
        loop {
            let outcome = change(transaction.object().clone());
            if let Some(written) = transaction.commit(outcome).await? {
                return Ok(written);
            }
        }
    }

    async fn read(&self, key: &str) -> Result<Option<Encoded>, Status> {
        let request = pb::RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..pb::RangeRequest::default() };
        let answer = self.kv.range(request).await.map_err(|error| store_failure(&error))?;
        answer.kvs.first().map(|pair| encode(&pair.value, pair.mod_revision)).transpose()
    }
}

/// An object on its way to another state: decide from [`Transaction::object`], then [`Transaction::commit`], and again
/// while that says that the object was another by then.
pub struct Transaction<'a> {
    storage: &'a Storage,
    resource: &'a Resource,
    key: String,
    /// The object as it is stored.
    current: Encoded,
    before: Value,
    /// Whether `current` was read after the transaction began.
    fresh: bool,
    attempt: usize,
    keeps_lease: bool,
    missing: Status,
    modified: Status,
}

impl Transaction<'_> {
    /// The object to decide from, with its resource version.
    #[must_use]
    pub fn object(&self) -> &Value {
        &self.before
    }

    /// Revision of the object's last change.
    #[must_use]
    pub fn resource_version(&self) -> i64 {
        self.current.resource_version()
    }

    /// Commits what was decided. `None`: the object has changed, or the decision was an error made from an old one;
    /// decide again.
    pub async fn commit(&mut self, outcome: Result<Outcome, Status>) -> Result<Option<Written>, Status> {
        let outcome = match outcome {
            Err(_) if !self.fresh => return self.refresh().await,
            outcome => outcome?,
        };
        let revision = resource_version(&self.before);
        let mut request = pb::TxnRequest { compare: vec![is_at(&self.key, revision)], ..pb::TxnRequest::default() };
        let guard = match &outcome {
            Outcome::Store(object, guard) => {
                let stored = stored_bytes(&self.storage.to_stored(self.resource, object).await?);
                if stored == self.current.stored() && *guard == Guard::default() {
                    if self.fresh {
                        return encode(&stored_bytes(&self.before), revision).map(Written::Unchanged).map(Some);
                    }
                    return self.refresh().await;
                }
                request.success.push(put_again(&self.key, stored, self.keeps_lease));
                guard
            }
            Outcome::Remove(guard) => {
                request.success.push(delete(&self.key));
                guard
            }
        };
        add_guard(&mut request, guard);
        request.failure.push(get(&self.key));
        let answer = self.storage.kv.txn(request).await.map_err(|error| store_failure(&error))?;
        if answer.succeeded {
            let revision = revision_of(&answer);
            return match &outcome {
                Outcome::Store(object, _) => encode(&stored_bytes(object), revision).map(Written::Stored).map(Some),
                Outcome::Remove(_) => encode(&stored_bytes(&self.before), revision).map(Written::Removed).map(Some),
            };
        }
        let Some(pair) = first_pair(&answer) else { return Err(self.missing.clone()) };
        if pair.mod_revision == revision {
            return Ok(Some(Written::Taken));
        }
        self.attempt += 1;
        if self.attempt == ATTEMPTS_MAX {
            return Err(self.modified.clone());
        }
        self.decide_from(encode(&pair.value, pair.mod_revision)?).await?;
        tokio::time::sleep(ATTEMPT_DELAY.mul_f64(self.attempt as f64 * rand::random_range(0.5..1.5))).await;
        Ok(None)
    }

    async fn refresh(&mut self) -> Result<Option<Written>, Status> {
        let current = self.storage.read(&self.key).await?.ok_or_else(|| self.missing.clone())?;
        self.decide_from(current).await?;
        Ok(None)
    }

    async fn decide_from(&mut self, current: Encoded) -> Result<(), Status> {
        self.before = self.storage.to_served(self.resource, current.value()).await?;
        self.current = current;
        self.fresh = true;
        Ok(())
    }
}

fn put_again(key: &str, value: Bytes, ignore_lease: bool) -> pb::RequestOp {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let put = pb::PutRequest { key, value, ignore_lease, ..pb::PutRequest::default() };
    pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
}

fn encode(stored: &[u8], revision: i64) -> Result<Encoded, Status> {
    Encoded::from_stored(stored, revision).map_err(|error| Status::internal_error(error.to_string()))
}

fn resource_version(object: &Value) -> i64 {
    kontiki_api::object::text(object, "/metadata/resourceVersion").parse().unwrap_or(0)
}

fn revision_of(answer: &pb::TxnResponse) -> i64 {
    answer.header.as_ref().map_or(0, |header| header.revision)
}

fn first_pair(answer: &pb::TxnResponse) -> Option<mvccpb::KeyValue> {
    answer.responses.iter().find_map(|response| match &response.response {
        Some(pb::response_op::Response::ResponseRange(range)) => range.kvs.first().cloned(),
        _ => None,
    })
}

fn add_guard(request: &mut pb::TxnRequest, guard: &Guard) {
    for claim in &guard.take {
        request.compare.push(is_absent(&claim.key));
        request.success.push(put(&claim.key, claim.value.clone(), 0));
    }
    request.success.extend(guard.release.iter().map(|key| delete(key)));
}

fn compare(key: &str, target: pb::compare::CompareTarget, union: pb::compare::TargetUnion) -> pb::Compare {
    pb::Compare {
        result: pb::compare::CompareResult::Equal as i32,
        target: target as i32,
        key: Bytes::copy_from_slice(key.as_bytes()),
        target_union: Some(union),
        ..pb::Compare::default()
    }
}

fn is_absent(key: &str) -> pb::Compare {
    compare(key, pb::compare::CompareTarget::Create, pb::compare::TargetUnion::CreateRevision(0))
}

fn is_at(key: &str, revision: i64) -> pb::Compare {
    compare(key, pb::compare::CompareTarget::Mod, pb::compare::TargetUnion::ModRevision(revision))
}

fn put(key: &str, value: Bytes, lease: i64) -> pb::RequestOp {
    let put = pb::PutRequest { key: Bytes::copy_from_slice(key.as_bytes()), value, lease, ..pb::PutRequest::default() };
    pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
}

fn get(key: &str) -> pb::RequestOp {
    let range = pb::RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..pb::RangeRequest::default() };
    pb::RequestOp { request: Some(pb::request_op::Request::RequestRange(range)) }
}

fn delete(key: &str) -> pb::RequestOp {
    let delete = pb::DeleteRangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..pb::DeleteRangeRequest::default() };
    pb::RequestOp { request: Some(pb::request_op::Request::RequestDeleteRange(delete)) }
}
