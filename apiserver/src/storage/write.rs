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
use crate::addresses::Refusal;

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
    /// What is told if somebody else has it; nothing, if another key would do as well.
    pub refusal: Option<Refusal>,
}

/// What must be so for a key to be put or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is no such key.
    Absent(String),
    /// The key was changed last at this revision.
    At(String, i64),
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
    /// Keys of the guard were taken by somebody else: what is to be told of each for which no other would do.
    Taken(Vec<Refusal>),
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
        let stored = self.seal(resource, &key, stored)?;
        let mut request = pb::TxnRequest { compare: vec![is_absent(&key)], ..pb::TxnRequest::default() };
        request.success.push(put(&key, stored.clone(), lease));
        self.add_guard(&mut request, guard)?;
        ask_for_taken(&mut request, &key, guard);
        let answer = self.kv.txn(request).await.map_err(|error| store_failure(&error))?;
        if answer.succeeded {
            return encode(&served, revision_of(&answer)).map(Written::Stored);
        }
        match first_pair(&answer) {
            // The same object is there: an earlier attempt of ours had succeeded after all.
            Some(pair) if pair.value == stored => encode(&served, pair.mod_revision).map(Written::Stored),
            Some(_) => Err(Status::already_exists(resource.key.group, resource.key.plural, name)),
            None => Ok(Written::Taken(refusals(&answer, guard))),
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
            // How it lies in the store is asked when nothing else is a reason to write it.
            Some(object) => Current { object: object.encoded.clone(), stale: false },
            None => self.read(resource, &key).await?.ok_or_else(|| missing.clone())?,
        };
        let modified = Status::modified(resource.key.group, resource.key.plural, name);
        let keeps_lease = resource.key.plural == "events";
        Ok(Transaction {
            storage: self,
            resource,
            key,
            before: self.to_served(resource, current.object.value()).await?,
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

    /// Puts a value that is no object under a key, if everything holds; whether it did.
    pub async fn put_if(&self, holds: &[Condition], key: &str, value: Bytes) -> Result<bool, Status> {
        self.act_if(holds, put(key, value, 0)).await
    }

    /// Removes a key that is no object's, if everything holds; whether it did.
    pub async fn delete_if(&self, holds: &[Condition], key: &str) -> Result<bool, Status> {
        self.act_if(holds, delete(key)).await
    }

    async fn act_if(&self, holds: &[Condition], act: pb::RequestOp) -> Result<bool, Status> {
        let compare = |condition: &Condition| match condition {
            Condition::Absent(key) => is_absent(key),
            Condition::At(key, revision) => is_at(key, *revision),
        };
        let compare = holds.iter().map(compare).collect();
        let request = pb::TxnRequest { compare, success: vec![act], failure: Vec::new() };
        self.kv.txn(request).await.map(|answer| answer.succeeded).map_err(|error| store_failure(&error))
    }

    async fn read(&self, resource: &Resource, key: &str) -> Result<Option<Current>, Status> {
        let request = pb::RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..pb::RangeRequest::default() };
        let answer = self.kv.range(request).await.map_err(|error| store_failure(&error))?;
        answer.kvs.first().map(|pair| self.current(resource, key, pair)).transpose()
    }

    fn current(&self, resource: &Resource, key: &str, pair: &mvccpb::KeyValue) -> Result<Current, Status> {
        let opened = self.open(resource, key, &pair.value)?;
        Ok(Current { object: encode(&opened.value, pair.mod_revision)?, stale: opened.stale })
    }

    /// A claim that is an object is stored as objects of its resource are.
    fn add_guard(&self, request: &mut pb::TxnRequest, guard: &Guard) -> Result<(), Status> {
        for claim in &guard.take {
            let value = match self.caches.resource_of(&claim.key) {
                Some(resource) => self.seal(resource, &claim.key, claim.value.clone())?,
                None => claim.value.clone(),
            };
            request.compare.push(is_absent(&claim.key));
            request.success.push(put(&claim.key, value, 0));
        }
        request.success.extend(guard.release.iter().map(|key| delete(key)));
        Ok(())
    }
}

/// An object as the store has it.
struct Current {
    object: Encoded,
    /// Whether it lies there in a way in which it shall no longer.
    stale: bool,
}

/// An object on its way to another state: decide from [`Transaction::object`], then [`Transaction::commit`], and again
/// while that says that the object was another by then.
pub struct Transaction<'a> {
    storage: &'a Storage,
    resource: &'a Resource,
    key: String,
    /// The object as it is stored.
    current: Current,
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
        self.current.object.resource_version()
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
                if stored == self.current.object.stored() && *guard == Guard::default() && !self.current.stale {
                    if self.fresh {
                        return encode(&stored_bytes(&self.before), revision).map(Written::Unchanged).map(Some);
                    }
                    return self.refresh().await;
                }
                let stored = self.storage.seal(self.resource, &self.key, stored)?;
                request.success.push(put_again(&self.key, stored, self.keeps_lease));
                guard
            }
            Outcome::Remove(guard) => {
                request.success.push(delete(&self.key));
                guard
            }
        };
        self.storage.add_guard(&mut request, guard)?;
        ask_for_taken(&mut request, &self.key, guard);
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
            return Ok(Some(Written::Taken(refusals(&answer, guard))));
        }
        self.attempt += 1;
        if self.attempt == ATTEMPTS_MAX {
            return Err(self.modified.clone());
        }
        self.decide_from(self.storage.current(self.resource, &self.key, &pair)?).await?;
        tokio::time::sleep(ATTEMPT_DELAY.mul_f64(self.attempt as f64 * rand::random_range(0.5..1.5))).await;
        Ok(None)
    }

    async fn refresh(&mut self) -> Result<Option<Written>, Status> {
        let current = self.storage.read(self.resource, &self.key).await?.ok_or_else(|| self.missing.clone())?;
        self.decide_from(current).await?;
        Ok(None)
    }

    async fn decide_from(&mut self, current: Current) -> Result<(), Status> {
        self.before = self.storage.to_served(self.resource, current.object.value()).await?;
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

/// Asks a transaction that fails for the object, and for each key that it would have taken.
fn ask_for_taken(request: &mut pb::TxnRequest, key: &str, guard: &Guard) {
    request.failure.push(get(key));
    request.failure.extend(guard.take.iter().map(|claim| get(&claim.key)));
}

fn pair(response: &pb::ResponseOp) -> Option<&mvccpb::KeyValue> {
    match &response.response {
        Some(pb::response_op::Response::ResponseRange(range)) => range.kvs.first(),
        _ => None,
    }
}

/// The object that [`ask_for_taken`] has asked for.
fn first_pair(answer: &pb::TxnResponse) -> Option<mvccpb::KeyValue> {
    answer.responses.first().and_then(pair).cloned()
}

/// What is to be told of the keys that are taken.
fn refusals(answer: &pb::TxnResponse, guard: &Guard) -> Vec<Refusal> {
    let answers = answer.responses.iter().skip(1);
    let taken = guard.take.iter().zip(answers).filter(|(_, response)| pair(response).is_some());
    taken.filter_map(|(claim, _)| claim.refusal.clone()).collect()
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
