//! That the store stays in its bounds, whatever its clients do: watchers that never read, leases by the thousand,
//! values as large as they may be.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use futures::{StreamExt, stream};
use kontiki_proto::etcdserverpb as pb;
use kontiki_store::error::Error;
use kontiki_store::kv::Kv;
use kontiki_store::{Options, Service};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use prost::Message;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

mod common;
use common::{Running, own_address};
#[path = "common/alone.rs"]
mod alone;
use alone::{channel, member, within};

/// One measures the memory of the process, in which the others would work beside it.
static ALONE: Mutex<()> = Mutex::const_new(());
/// Requests under way at once.
const AT_ONCE: usize = 256;

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() }
}

fn everything() -> pb::RangeRequest {
    pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), keys_only: true, ..Default::default() }
}

/// Puts of a kilobyte.
async fn write(handle: &Running, many: usize) {
    let puts = (0..many).map(|number| handle.put(put(format!("k{}", number % 100), vec![b'v'; 1024])));
    stream::iter(puts).buffer_unordered(AT_ONCE).for_each(|answer| async { drop(answer.unwrap()) }).await;
}

/// Bytes of memory that the process has.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// A stream of watches on all keys, of which the client has read that they were created and nothing more.
async fn watches(
    channel: &Channel,
    many: usize,
    start_revision: i64,
) -> (mpsc::Sender<pb::WatchRequest>, Streaming<pb::WatchResponse>) {
    let (requests, stream) = mpsc::channel(many);
    for _ in 0..many {
        let create = pb::WatchCreateRequest { key: "\0".into(), range_end: "\0".into(), start_revision, ..Default::default() };
        requests.send(pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).await.unwrap();
    }
    let watching = WatchClient::new(channel.clone()).max_decoding_message_size(1 << 30).watch(ReceiverStream::new(stream)).await;
    let mut answers = watching.unwrap().into_inner();
    for _ in 0..many {
        assert!(within(answers.message()).await.unwrap().unwrap().created);
    }
    (requests, answers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_that_never_read_cost_little_and_hold_up_nobody() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let handle = member(&folder).await;
    // More than is kept in memory, so that whoever begins in the past is served from the disk.
    write(&handle, 6000).await;
    let last = handle.revision();
    let (_asks, mut reader) = watches(&channel(&handle).await, 1, 0).await;
    let before = resident();
    let mut idle = vec![];
    for _ in 0..4 {
        idle.push(watches(&channel(&handle).await, 500, 0).await);
    }
    // Each over its own connection, which has room for little: the client's part is this process's memory too.
    for _ in 0..40 {
        let endpoint = Channel::from_shared(format!("http://{}", handle.client_address())).unwrap();
        let narrow = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
        idle.push(watches(&within(narrow.connect()).await.unwrap(), 1, 1).await);
    }
    let read = async {
        let mut next = last + 1;
        while next <= last + 2000 {
            for event in within(reader.message()).await.unwrap().unwrap().events {
                assert_eq!(event.kv.unwrap().mod_revision, next);
                next += 1;
            }
        }
    };
    tokio::join!(read, write(&handle, 2000));
    // Nor do they keep others from what was.
    let (_asks, mut late) = watches(&channel(&handle).await, 1, 2).await;
    let mut next = 2;
    while next <= handle.revision() {
        for event in within(late.message()).await.unwrap().unwrap().events {
            assert_eq!(event.kv.unwrap().mod_revision, next);
            next += 1;
        }
    }
    let more = resident().saturating_sub(before);
    assert!(more < 150 << 20, "{} MiB more", more >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_leases_live_and_only_short_ones_end() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let handle = member(&folder).await;
    let channel = channel(&handle).await;
    let client = LeaseClient::new(channel.clone());
    // Every tenth is short.
    let grant = |id: i64| {
        let (mut client, mut kv) = (client.clone(), KvClient::new(channel.clone()));
        async move {
            let ttl = if id % 10 == 0 { 2 } else { 3600 };
            client.lease_grant(pb::LeaseGrantRequest { ttl, id }).await.unwrap();
            // One that was short may be over already.
            let bound = kv.put(pb::PutRequest { lease: id, ..put(format!("k{id}"), "") }).await;
            assert!(bound.is_ok() || id % 10 == 0, "{bound:?}");
        }
    };
    stream::iter((1..=10_000).map(grant)).buffer_unordered(AT_ONCE).for_each(|()| async {}).await;
    let long: BTreeSet<i64> = (1..=10_000).filter(|id| id % 10 != 0).collect();
    let listed = client.clone().lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner().leases;
    assert!(listed.iter().map(|lease| lease.id).collect::<BTreeSet<_>>().is_superset(&long));
    let asks = long.clone().into_iter().map(|id| pb::LeaseKeepAliveRequest { id });
    let mut answers = client.clone().lease_keep_alive(stream::iter(asks)).await.unwrap().into_inner();
    for id in &long {
        let answer = within(answers.message()).await.unwrap().unwrap();
        assert_eq!((answer.id, answer.ttl), (*id, 3600), "each is answered, in the order of the questions");
    }
    let revoked = [1, 77, 9999];
    for id in revoked {
        client.clone().lease_revoke(pb::LeaseRevokeRequest { id }).await.unwrap();
    }
    let left: BTreeSet<i64> = long.into_iter().filter(|id| !revoked.contains(id)).collect();
    let keys: BTreeSet<Bytes> = left.iter().map(|id| format!("k{id}").into()).collect();
    // The short ones end and take their keys along.
    within(async {
        while handle.lease_leases().await.unwrap().leases.len() > left.len() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let there = handle.lease_leases().await.unwrap().leases;
    assert_eq!(there.iter().map(|lease| lease.id).collect::<BTreeSet<_>>(), left);
    let found = handle.range(everything()).await.unwrap().kvs;
    assert_eq!(found.into_iter().map(|kv| kv.key).collect::<BTreeSet<_>>(), keys);
}

async fn three(folder: &tempfile::TempDir) -> Vec<Running> {
    let ports: Vec<_> = ["a", "b", "c"].into_iter().map(|name| (name, own_address())).collect();
    let cluster: Vec<_> = ports.iter().map(|(name, ip)| ((*name).to_owned(), format!("http://{ip}:2380"))).collect();
    let start = |(name, ip): &(&str, std::net::IpAddr)| {
        let (clients, peers) = (SocketAddr::new(*ip, 2379), SocketAddr::new(*ip, 2380));
        let mut options = Options::new(name, folder.path().join(name), clients, peers);
        options.initial_cluster = cluster.clone();
        async { Running(Service::start(options).await.unwrap()) }
    };
    let members = futures::future::join_all(ports.iter().map(start)).await;
    for member in &members {
        within(member.ready()).await.unwrap();
    }
    members
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_every_size_come_back_and_what_is_larger_is_refused() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let members = three(&folder).await;
    let mut clients = vec![];
    for member in &members {
        clients.push(KvClient::new(channel(member).await));
    }
    // With its key and the lengths of both, this value makes a request of 1.5 MiB exactly.
    let most = 1536 * 1024 - 8;
    let value = |size: usize| vec![u8::try_from(size % 251).unwrap(); size];
    assert_eq!(put("key", value(most)).encoded_len(), 1536 * 1024 + 1);
    for (round, size) in [8, 1024, 100_000, most - 1].into_iter().enumerate() {
        within(clients[round % 3].put(put("key", value(size)))).await.unwrap();
        for client in &mut clients {
            let found = within(client.range(pb::RangeRequest { key: "key".into(), ..Default::default() })).await.unwrap();
            assert!(found.into_inner().kvs[0].value == value(size), "{size} bytes");
        }
    }
    let before = members[0].revision();
    for client in &mut clients {
        for size in [most, 1_900_000] {
            let refused = within(client.put(put("large", value(size)))).await.unwrap_err();
            assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "etcdserver: request is too large"));
        }
        // What not even gRPC takes is refused with what clients in Go call it.
        let refused = within(client.put(put("large", value(3_000_000)))).await.unwrap_err();
        let known = "grpc: received message larger than max (3000012 vs. 2097152)";
        assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, known));
    }
    // Nor does a transaction carry more in parts.
    let part = |number: usize| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(put(format!("large{number}"), value(400_000)))),
    };
    let txn = pb::TxnRequest { success: (0..4).map(part).collect(), ..Default::default() };
    assert_eq!(members[1].txn(txn).await, Err(Error::RequestTooLarge));
    for member in &members {
        let found = member.range(everything()).await.unwrap();
        assert_eq!((found.kvs.len(), found.header.unwrap().revision), (1, before), "nothing of it is stored");
    }
}
