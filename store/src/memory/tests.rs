//! What a user of the store sees, on the model: watches, leases, transactions, compaction.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::etcdserverpb::compare::{CompareTarget, TargetUnion};
use kontiki_proto::etcdserverpb::request_op::Request;

use super::MemoryStore;
use crate::error::Error;
use crate::kv::Kv;

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

fn create(key: &str) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: vec![pb::Compare {
            key: key.to_owned().into(),
            target: CompareTarget::Mod as i32,
            target_union: Some(TargetUnion::ModRevision(0)),
            ..Default::default()
        }],
        success: vec![pb::RequestOp { request: Some(Request::RequestPut(put(key, "new"))) }],
        failure: vec![pb::RequestOp { request: Some(Request::RequestRange(get(key))) }],
    }
}

#[tokio::test]
async fn a_second_create_fails_and_reads() {
    let store = MemoryStore::new();
    assert!(store.txn(create("a")).await.unwrap().succeeded);
    let second = store.txn(create("a")).await.unwrap();
    assert!(!second.succeeded);
    assert_eq!(second.header.unwrap().revision, 2);
    assert_eq!(second.responses.len(), 1);
}

#[tokio::test]
async fn a_watch_sees_history_then_what_comes() {
    let store = MemoryStore::new();
    store.put(put("p/a", "1")).await.unwrap();
    let request = pb::WatchCreateRequest {
        key: "p/".into(),
        range_end: "p0".into(),
        start_revision: 2,
        prev_kv: true,
        ..Default::default()
    };
    let mut watch = store.watch(request).await.unwrap();
    assert_eq!(watch.recv().await.unwrap().events.len(), 1);
    store.put(put("q", "other")).await.unwrap();
    store.put(put("p/a", "2")).await.unwrap();
    let response = watch.recv().await.unwrap();
    assert_eq!(response.header.unwrap().revision, 4);
    assert_eq!(response.events[0].prev_kv.as_ref().unwrap().value, "1");
}

#[tokio::test]
async fn a_compacted_start_ends_the_watch() {
    let store = MemoryStore::new();
    for value in ["1", "2", "3"] {
        store.put(put("a", value)).await.unwrap();
    }
    store.compact(pb::CompactionRequest { revision: 3, physical: false }).await.unwrap();
    let request = pb::WatchCreateRequest { key: "a".into(), start_revision: 2, ..Default::default() };
    let response = store.watch(request).await.unwrap().recv().await.unwrap();
    assert!(response.canceled);
    assert_eq!(response.compact_revision, 3);
    let old = pb::RangeRequest { revision: 2, ..get("a") };
    assert_eq!(store.range(old).await, Err(Error::Compacted));
}

#[tokio::test]
async fn a_lease_takes_its_keys_along() {
    let store = MemoryStore::new();
    let granted = store.lease_grant(pb::LeaseGrantRequest { id: 7, ttl: 1 }).await.unwrap();
    assert_eq!(granted.ttl, 2, "shorter than a lease may be");
    store.put(pb::PutRequest { lease: 7, ..put("a", "1") }).await.unwrap();
    assert_eq!(store.lease_keep_alive(7).await.unwrap().ttl, 2);
    let mut watch = store.watch(pb::WatchCreateRequest { key: "a".into(), ..Default::default() }).await.unwrap();
    let response = tokio::time::timeout(Duration::from_secs(20), watch.recv()).await.unwrap().unwrap();
    assert_eq!(response.events.len(), 1);
    assert_eq!(store.range(get("a")).await.unwrap().count, 0);
    assert_eq!(store.lease_keep_alive(7).await.unwrap().ttl, 0);
}
