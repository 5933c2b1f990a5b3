//! The queue behind locks and elections: keys under one prefix, first come first served.
//!
//! In comes a name and a lease; out comes a place in the queue of that name, and the wait until it is the first.
//! A place is a key that lives as long as its lease, so whoever dies leaves the queue. Keys are laid out as etcd's
//! client library lays them out, so that its users and this service's stand in the same queue.
//! Invariant: at one revision at most one place is the first.

use bytes::{BufMut, Bytes, BytesMut};
use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::mvccpb::KeyValue;
use kontiki_proto::mvccpb::event::EventType;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::watch_create_request::FilterType;

use crate::error::Error;
use crate::kv::Kv;
use crate::service::Handle;

/// Seconds that the lease of a client lives which brought none of its own: those of etcd's sessions.
const SESSION_SECONDS: i64 = 60;

/// A place in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: Bytes,
    /// The revision at which it was taken.
    pub(super) revision: i64,
    pub(super) lease: i64,
}

/// The prefix of a queue's keys.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    let mut prefix = BytesMut::from(name);
    prefix.put_u8(b'/');
    prefix.freeze()
}

/// The end of the keys that begin with `prefix`, which ends in a slash.
fn end(prefix: &Bytes) -> Bytes {
    let mut end = BytesMut::from(prefix.as_ref());
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.freeze()
}

/// The lease of a client, or a new one.
pub(super) async fn lease(store: &Handle, given: i64) -> Result<i64, Error> {
    if given != 0 {
        return Ok(given);
    }
    Ok(store.lease_grant(pb::LeaseGrantRequest { ttl: SESSION_SECONDS, id: 0 }).await?.id)
}

/// Takes the place of a lease in a queue, or finds the one that it has. The second value is what the key already
/// held, if it had a place.
pub(super) async fn take(
    store: &Handle,
    name: &[u8],
    lease: i64,
    value: Bytes,
) -> Result<(Place, Option<KeyValue>, Option<pb::ResponseHeader>), Error> {
    let mut key = BytesMut::from(prefix(name).as_ref());
    key.put_slice(format!("{lease:x}").as_bytes());
    let key = key.freeze();
    let put = pb::PutRequest { key: key.clone(), value, lease, ..Default::default() };
    let get = pb::RangeRequest { key: key.clone(), ..Default::default() };
    let answer = store
        .txn(pb::TxnRequest {
            compare: vec![taken_at(&key, 0)],
            success: vec![operation(pb::request_op::Request::RequestPut(put))],
            failure: vec![operation(pb::request_op::Request::RequestRange(get))],
        })
        .await?;
    let before = answer.responses.into_iter().find_map(|response| match response.response {
        Some(pb::response_op::Response::ResponseRange(found)) => found.kvs.into_iter().next(),
        _ => None,
    });
    let now = answer.header.as_ref().map_or(0, |header| header.revision);
    let revision = before.as_ref().map_or(now, |before| before.create_revision);
    Ok((Place { key, revision, lease }, before, answer.header))
}

/// Waits until nobody stands before a place.
pub(super) async fn wait(store: &Handle, name: &[u8], place: &Place) -> Result<(), Error> {
    let prefix = prefix(name);
    loop {
        let before = pb::RangeRequest {
            key: prefix.clone(),
            range_end: end(&prefix),
            limit: 1,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Create.into(),
            max_create_revision: place.revision - 1,
            keys_only: true,
            ..Default::default()
        };
        let found = store.range(before).await?;
        let Some(before) = found.kvs.into_iter().next() else { return Ok(()) };
        let now = found.header.map_or(0, |header| header.revision);
        gone(store, before.key, now + 1).await?;
    }
}

/// Waits until a key is deleted, from a revision on. It also ends when history was compacted meanwhile: look again.
async fn gone(store: &Handle, key: Bytes, from: i64) -> Result<(), Error> {
    let request =
        pb::WatchCreateRequest { key, start_revision: from, filters: vec![FilterType::Noput.into()], ..Default::default() };
    let mut events = store.watch(request).await?;
    loop {
        let response = events.recv().await.ok_or(Error::Stopped)?;
        if response.canceled || !response.events.is_empty() {
            return Ok(());
        }
    }
}

/// The first of a queue.
pub(super) async fn first(store: &Handle, name: &[u8]) -> Result<(Option<KeyValue>, Option<pb::ResponseHeader>), Error> {
    let prefix = prefix(name);
    let request = pb::RangeRequest {
        range_end: end(&prefix),
        key: prefix,
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..Default::default()
    };
    let found = store.range(request).await?;
    Ok((found.kvs.into_iter().next(), found.header))
}

/// Waits until somebody stands in a queue that was empty.
pub(super) async fn filled(store: &Handle, name: &[u8], from: i64) -> Result<(), Error> {
    let key = prefix(name);
    let request = pb::WatchCreateRequest { range_end: end(&key), key, start_revision: from, ..Default::default() };
    let mut events = store.watch(request).await?;
    loop {
        let response = events.recv().await.ok_or(Error::Stopped)?;
        let put = |event: &kontiki_proto::mvccpb::Event| event.r#type == EventType::Put as i32;
        if response.canceled || response.events.iter().any(put) {
            return Ok(());
        }
    }
}

/// Does something as long as a place is still held; tells whether it was.
pub(super) async fn while_held(
    store: &Handle,
    key: &Bytes,
    revision: i64,
    request: pb::request_op::Request,
) -> Result<(bool, Option<pb::ResponseHeader>), Error> {
    let txn = pb::TxnRequest { compare: vec![taken_at(key, revision)], success: vec![operation(request)], ..Default::default() };
    let answer = store.txn(txn).await?;
    Ok((answer.succeeded, answer.header))
}

/// Gives a place up.
pub(super) async fn leave(store: &Handle, key: &Bytes, revision: i64) -> Result<Option<pb::ResponseHeader>, Error> {
    let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
    let (_, header) = while_held(store, key, revision, pb::request_op::Request::RequestDeleteRange(delete)).await?;
    Ok(header)
}

fn taken_at(key: &Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

fn operation(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// Gives a place up if its owner goes away while it waits.
pub(super) struct Waiting {
    store: Handle,
    place: Option<Place>,
}

impl Waiting {
    pub(super) fn new(store: &Handle, place: &Place) -> Self {
        Self { store: store.clone(), place: Some(place.clone()) }
    }

    /// The place is the owner's now.
    pub(super) fn arrived(mut self) {
        self.place = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        // Where there is no runtime any more, and should this fail, the place ends with its lease.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let store = self.store.clone();
        runtime.spawn(async move { leave(&store, &place.key, place.revision).await.map(drop) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_the_keys_below_its_name() {
        let prefix = prefix(b"jobs");
        assert_eq!(prefix, "jobs/");
        assert_eq!(end(&prefix), "jobs0");
    }
}
