//! Compaction: history that no watch can want any more is given up, every five minutes.
//!
//! All API servers try; a key in the store decides who does it, the same that kube-apiserver uses, so that both may
//! share a store. In: the revision of the last round. Out: the store compacted up to it: what is kept is between
//! five and ten minutes of history.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use kontiki_proto::etcdserverpb as pb;
use kontiki_store::kv::Kv;
use tokio_util::sync::CancellationToken;

/// Key that counts the rounds and holds the last revision.
const KEY: &[u8] = b"compact_rev_key";
/// Time between two rounds.
const PERIOD: Duration = Duration::from_secs(300);

/// What a server knows of the rounds: how many there were, and the revision at the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Round {
    count: i64,
    revision: i64,
}

/// Compacts until `cancel`.
pub async fn run(kv: Arc<dyn Kv>, cancel: CancellationToken) {
    let mut last = Round::default();
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = cancel.cancelled() => return,
        }
        match compact(kv.as_ref(), last).await {
            Ok(next) => last = next,
            // The next round comes; history waits.
            Err(error) => tracing::warn!(error, "cannot compact the store"),
        }
    }
}

/// One round. Only whoever still knows the last one wins; the others learn of it.
async fn compact(kv: &dyn Kv, last: Round) -> Result<Round, String> {
    let key = Bytes::from_static(KEY);
    let value = Bytes::from(last.revision.to_string());
    let put = pb::PutRequest { key: key.clone(), value, ..pb::PutRequest::default() };
    let get = pb::RangeRequest { key: key.clone(), ..pb::RangeRequest::default() };
    let request = pb::TxnRequest {
        compare: vec![pb::Compare {
            result: pb::compare::CompareResult::Equal as i32,
            target: pb::compare::CompareTarget::Version as i32,
            key,
            target_union: Some(pb::compare::TargetUnion::Version(last.count)),
            ..pb::Compare::default()
        }],
        success: vec![pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }],
        failure: vec![pb::RequestOp { request: Some(pb::request_op::Request::RequestRange(get)) }],
    };
    let answer = kv.txn(request).await.map_err(|error| error.to_string())?;
    let revision = answer.header.map_or(0, |header| header.revision);
    if !answer.succeeded {
        let found = answer.responses.into_iter().find_map(|response| match response.response {
            Some(pb::response_op::Response::ResponseRange(range)) => range.kvs.into_iter().next(),
            _ => None,
        });
        return Ok(Round { count: found.map_or(0, |kv| kv.version), revision });
    }
    if last.revision > 0 {
        let request = pb::CompactionRequest { revision: last.revision, physical: false };
        kv.compact(request).await.map_err(|error| error.to_string())?;
        tracing::info!(revision = last.revision, "compacted the store");
    }
    Ok(Round { count: last.count + 1, revision })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use kontiki_store::memory::MemoryStore;

    use super::*;

    async fn put(store: &MemoryStore, value: &'static str) -> i64 {
        let request = pb::PutRequest { key: "k".into(), value: value.into(), ..pb::PutRequest::default() };
        store.put(request).await.unwrap().header.unwrap().revision
    }

    async fn is_readable(store: &MemoryStore, revision: i64) -> bool {
        store.range(pb::RangeRequest { key: "k".into(), revision, ..pb::RangeRequest::default() }).await.is_ok()
    }

    #[tokio::test]
    async fn history_goes_a_round_later_and_one_server_does_it() {
        let store = MemoryStore::new();
        let old = put(&store, "1").await;
        let first = compact(&store, Round::default()).await.unwrap();
        assert!(is_readable(&store, old).await, "the first round only takes note");
        // Another server that knows of no round learns of it and compacts nothing.
        let other = compact(&store, Round::default()).await.unwrap();
        assert_eq!(other.count, first.count);
        let kept = put(&store, "2").await;
        let second = compact(&store, first).await.unwrap();
        assert_eq!(second.count, 2);
        assert!(!is_readable(&store, old).await && is_readable(&store, kept).await);
        assert_eq!(compact(&store, first).await.unwrap().count, 2, "who is late learns of it");
    }
}
