//! What clients see of locks and elections, and of progress told on a stream of watches, on one running member.
#![allow(clippy::unwrap_used)]

use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::v3electionpb::election_client::ElectionClient;
use kontiki_proto::v3electionpb::{CampaignRequest, LeaderRequest, ProclaimRequest, ResignRequest};
use kontiki_proto::v3lockpb::lock_client::LockClient;
use kontiki_proto::v3lockpb::{LockRequest, UnlockRequest};
use kontiki_store::Handle;
use kontiki_store::kv::Kv;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;

mod common;
use common::Running;
#[path = "common/alone.rs"]
mod alone;
use alone::within;

/// A member and a way to it.
async fn member(folder: &tempfile::TempDir) -> (Running, Channel) {
    let handle = alone::member(folder).await;
    let channel = alone::channel(&handle).await;
    (handle, channel)
}

async fn lease(handle: &Handle) -> i64 {
    handle.lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 0 }).await.unwrap().id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_passes_to_the_next_in_its_queue() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, channel) = member(&folder).await;
    let (first, second) = (lease(&handle).await, lease(&handle).await);
    let lock = |lease| {
        let mut client = LockClient::new(channel.clone());
        async move { client.lock(LockRequest { name: "jobs".into(), lease }).await }
    };
    let held = within(lock(first)).await.unwrap().into_inner();
    assert_eq!(held.key, format!("jobs/{first:x}"), "the key is that of etcd's client library");
    assert_eq!(within(lock(first)).await.unwrap().into_inner().key, held.key, "whoever holds it has it again");
    let next = tokio::spawn(lock(second));
    // The second stands in the queue before the first goes.
    let waiting = format!("jobs/{second:x}");
    let request = || pb::RangeRequest { key: waiting.clone().into(), ..Default::default() };
    within(async {
        while handle.range(request()).await.unwrap().kvs.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!next.is_finished());
    LockClient::new(channel.clone()).unlock(UnlockRequest { key: held.key }).await.unwrap();
    assert_eq!(within(next).await.unwrap().unwrap().into_inner().key, waiting);
    // A lease that ends takes its place along: a third has it at once.
    handle.lease_revoke(pb::LeaseRevokeRequest { id: second }).await.unwrap();
    within(lock(0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leads_proclaims_and_resigns() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, channel) = member(&folder).await;
    let mut client = ElectionClient::new(channel.clone());
    let about = || LeaderRequest { name: "chair".into() };
    let none = client.leader(about()).await.unwrap_err();
    assert_eq!((none.code(), none.message()), (Code::Unknown, "election: no leader"));
    let mut observed = client.observe(about()).await.unwrap().into_inner();
    let lease = lease(&handle).await;
    let campaign = CampaignRequest { name: "chair".into(), lease, value: "one".into() };
    let leader = within(client.campaign(campaign)).await.unwrap().into_inner().leader;
    assert_eq!(within(observed.message()).await.unwrap().unwrap().kv.unwrap().value, "one");
    client.proclaim(ProclaimRequest { leader: leader.clone(), value: "two".into() }).await.unwrap();
    assert_eq!(within(observed.message()).await.unwrap().unwrap().kv.unwrap().value, "two");
    assert_eq!(client.leader(about()).await.unwrap().into_inner().kv.unwrap().value, "two");
    client.resign(ResignRequest { leader: leader.clone() }).await.unwrap();
    let refused = client.proclaim(ProclaimRequest { leader, value: "three".into() }).await.unwrap_err();
    assert_eq!(refused.message(), "election: not leader");
    let refused = client.resign(ResignRequest { leader: None }).await.unwrap_err();
    assert_eq!(refused.message(), "\"leader\" field must be provided");
}

/// A watch that begins in the past must not make a stream say less than it said before: a client tells every watch of
/// the stream the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_on_a_stream_never_turns_back() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, channel) = member(&folder).await;
    let (requests, stream) = mpsc::channel(16);
    let ask = |request| {
        let requests = requests.clone();
        async move { requests.send(pb::WatchRequest { request_union: Some(request) }).await.unwrap() }
    };
    let create = |start_revision| {
        let request = pb::WatchCreateRequest { key: "k".into(), start_revision, ..Default::default() };
        RequestUnion::CreateRequest(request)
    };
    let progress = || RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
    ask(create(1)).await;
    let mut answers = WatchClient::new(channel).watch(ReceiverStream::new(stream)).await.unwrap().into_inner();
    let mut last = 0;
    for round in 0..50 {
        let put = pb::PutRequest { key: "k".into(), value: format!("{round}").into(), ..Default::default() };
        let written = handle.put(put).await.unwrap().header.unwrap().revision;
        // The whole history once more, beside watches that have come further.
        ask(create(1)).await;
        ask(progress()).await;
        loop {
            let answer = within(answers.message()).await.unwrap().unwrap();
            let revision = answer.header.as_ref().unwrap().revision;
            if answer.watch_id == -1 {
                assert!(revision >= last, "{revision} was told after {last}");
                last = revision;
                break;
            }
            if !answer.events.is_empty() {
                // Each watch of the stream has heard of all that was told as progress, the new ones of less.
                last = last.max(answer.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision).max().unwrap());
            }
        }
        assert!(last >= written);
    }
}
