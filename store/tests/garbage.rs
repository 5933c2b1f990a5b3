//! What a member does with what makes no sense: it refuses it and goes on answering others.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::{join_all, poll_fn};
use kontiki_proto::etcdserverpb as pb;
use pb::request_op::Request as Operation;
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Channel;
use tower::Service;

mod common;
use common::Running;
#[path = "common/alone.rs"]
mod alone;
use alone::{channel, member, within};

/// How long garbage waits for an answer that need not come.
const PATIENCE: Duration = Duration::from_millis(200);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Counts the panics of all threads so far.
fn panics() -> usize {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            COUNT.fetch_add(1, Ordering::SeqCst);
            before(panic);
        }));
    });
    COUNT.load(Ordering::SeqCst)
}

/// Writes and reads in one transaction, so that no garbage comes between.
async fn works(handle: &Running, round: u64) {
    let value = Bytes::from(round.to_string());
    let put = pb::PutRequest { key: "well".into(), value: value.clone(), ..Default::default() };
    let get = pb::RangeRequest { key: "well".into(), ..Default::default() };
    let txn = pb::TxnRequest { success: vec![put.into_op(), get.into_op()], ..Default::default() };
    let mut client = pb::kv_client::KvClient::new(channel(handle).await);
    let answer = within(client.txn(txn)).await.unwrap().into_inner();
    let Some(pb::response_op::Response::ResponseRange(found)) = &answer.responses[1].response else { panic!("{answer:?}") };
    assert_eq!(found.kvs[0].value, value);
}

trait IntoOp {
    fn into_op(self) -> pb::RequestOp;
}

impl IntoOp for pb::PutRequest {
    fn into_op(self) -> pb::RequestOp {
        pb::RequestOp { request: Some(Operation::RequestPut(self)) }
    }
}

impl IntoOp for pb::RangeRequest {
    fn into_op(self) -> pb::RequestOp {
        pb::RequestOp { request: Some(Operation::RequestRange(self)) }
    }
}

fn random(random: &mut StdRng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(0..=most)];
    random.fill_bytes(&mut bytes);
    bytes
}

/// A frame of HTTP/2 with whatever in it, most of a kind that exists.
fn frame(chance: &mut StdRng) -> Vec<u8> {
    let body = random(chance, 200);
    let length = if chance.random_bool(0.1) { chance.random_range(0..1 << 24) } else { u32::try_from(body.len()).unwrap() };
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([chance.random_range(0..12), chance.random()]);
    frame.extend(chance.random_range(0..6_u32).to_be_bytes());
    frame.extend(body);
    frame
}

/// What somebody writes to a port who does not speak its language, or only almost.
fn noise(seed: u64) -> Vec<u8> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut bytes = PREFACE.to_vec();
    match seed % 4 {
        0 => return random(&mut chance, 4096),
        // Headers without an end.
        1 => {
            let mut bytes = b"GET /health HTTP/1.1\r\n".to_vec();
            (0..5000).for_each(|number| bytes.extend(format!("x-{number}: {number}\r\n").bytes()));
            return bytes;
        }
        // A block of headers that goes on and on in frames of its own: HEADERS, then CONTINUATION.
        2 => {
            bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
            for number in 0..20 {
                bytes.extend([0, 64, 0, if number == 0 { 1 } else { 9 }, 0, 0, 0, 0, 1]);
                // Each is the shortest indexed field, so that the list is much larger than what is sent.
                bytes.extend([0x82; 64 << 8]);
            }
        }
        _ => {
            bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
            (0..chance.random_range(1..40)).for_each(|_| bytes.extend(frame(&mut chance)));
        }
    }
    bytes
}

/// Sends it and hears what comes, for a while. That the other side hangs up is fine.
async fn shout(address: SocketAddr, bytes: Vec<u8>) {
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&bytes).await?;
        stream.read_to_end(&mut vec![]).await
    };
    drop(tokio::time::timeout(PATIENCE, talk).await);
}

/// A request with a body of its own; what is answered, if anything is.
async fn call(mut channel: Channel, path: &str, message: &[u8], claimed: usize) -> Option<Code> {
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(claimed).unwrap());
    body.put_slice(message);
    let body = tonic::body::Body::new(http_body_util::Full::new(body.freeze()));
    let request = http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    let request = request.body(body).unwrap();
    let answering = async {
        poll_fn(|context| channel.poll_ready(context)).await.ok()?;
        let answer = channel.call(request).await.ok()?;
        let code = answer.headers().get("grpc-status")?;
        Some(Code::from_bytes(code.as_bytes()))
    };
    tokio::time::timeout(PATIENCE, answering).await.ok().flatten()
}

/// Every method that clients use, with a message that makes sense.
fn methods() -> Vec<(&'static str, Vec<u8>)> {
    let put = || pb::PutRequest { key: "k".into(), value: "v".into(), lease: 1, ..Default::default() };
    let range = || pb::RangeRequest { key: "k".into(), range_end: "l".into(), limit: 3, revision: 1, ..Default::default() };
    let compare = pb::Compare { key: "k".into(), ..Default::default() };
    let txn = pb::TxnRequest { compare: vec![compare], success: vec![put().into_op()], failure: vec![range().into_op()] };
    let create = pb::WatchCreateRequest { key: "k".into(), start_revision: 1, filters: vec![1], ..Default::default() };
    let watch = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
    vec![
        ("KV/Range", range().encode_to_vec()),
        ("KV/RangeStream", range().encode_to_vec()),
        ("KV/Put", put().encode_to_vec()),
        ("KV/DeleteRange", pb::DeleteRangeRequest { key: "k".into(), prev_kv: true, ..Default::default() }.encode_to_vec()),
        ("KV/Txn", txn.encode_to_vec()),
        ("KV/Compact", pb::CompactionRequest { revision: 1 << 40, physical: true }.encode_to_vec()),
        ("Watch/Watch", watch.encode_to_vec()),
        ("Lease/LeaseGrant", pb::LeaseGrantRequest { ttl: 60, id: 1 }.encode_to_vec()),
        ("Lease/LeaseRevoke", pb::LeaseRevokeRequest { id: 1 }.encode_to_vec()),
        ("Lease/LeaseKeepAlive", pb::LeaseKeepAliveRequest { id: 1 }.encode_to_vec()),
        ("Lease/LeaseTimeToLive", pb::LeaseTimeToLiveRequest { id: 1, keys: true }.encode_to_vec()),
        ("Lease/LeaseLeases", pb::LeaseLeasesRequest {}.encode_to_vec()),
    ]
}

/// A message as it is, cut off, with some bytes changed, or another altogether; and how long it says that it is.
fn mangled(chance: &mut StdRng, message: &[u8]) -> (Vec<u8>, usize) {
    let mut bytes = message.to_vec();
    match chance.random_range(0..5) {
        0 => bytes.truncate(chance.random_range(0..=message.len())),
        1 => bytes = random(chance, 100),
        _ => {
            for _ in 0..chance.random_range(0..4) {
                let place = chance.random_range(0..=bytes.len());
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = chance.random();
                }
            }
        }
    }
    let claimed = match chance.random_range(0..8) {
        0 => chance.random_range(0..200),
        1 => usize::try_from(u32::MAX).unwrap(),
        _ => bytes.len(),
    };
    (bytes, claimed)
}

fn client_port(handle: &Running) -> SocketAddr {
    handle.client_address().to_string().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_on_either_port_disturbs_nobody() {
    let before = panics();
    let folder = tempfile::tempdir().unwrap();
    let handle = member(&folder).await;
    let clients = client_port(&handle);
    let peers = SocketAddr::new(clients.ip(), 2380);
    // Begins a request and never ends it.
    let mut slow = TcpStream::connect(clients).await.unwrap();
    for (round, part) in (0..).zip(PREFACE.chunks(2)) {
        slow.write_all(part).await.unwrap();
        let shouts = (0..8).map(|number| shout(if number < 4 { clients } else { peers }, noise(round * 8 + number)));
        tokio::join!(join_all(shouts), works(&handle, round));
    }
    assert_eq!(panics(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mangled_requests_disturb_nobody() {
    let before = panics();
    let folder = tempfile::tempdir().unwrap();
    let handle = member(&folder).await;
    let peers = format!("http://{}:2380", client_port(&handle).ip());
    let peers = Channel::from_shared(peers).unwrap().connect_lazy();
    let clients = channel(&handle).await;
    let mut chance = StdRng::seed_from_u64(1);
    let methods = methods();
    for round in 0..20 {
        let calls = methods.iter().flat_map(|(path, message)| {
            let path = format!("/etcdserverpb.{path}");
            let mangled: Vec<_> = (0..4).map(|_| mangled(&mut chance, message)).collect();
            let calls = mangled.into_iter().zip([&clients, &clients, &clients, &peers]);
            let call = move |((bytes, claimed), to): ((Vec<u8>, usize), &Channel)| {
                let (path, to) = (path.clone(), to.clone());
                async move { call(to, &path, &bytes, claimed).await }
            };
            calls.map(call).collect::<Vec<_>>()
        });
        let calls: Vec<_> = calls.collect();
        tokio::join!(join_all(calls), works(&handle, round));
    }
    assert_eq!(panics(), before);
}

/// What is accepted must be readable inside of what the members wrap it in, or nobody could ever apply it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_in_a_transaction_in_a_transaction_is_done_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let handle = member(&folder).await;
    let mut client = pb::kv_client::KvClient::new(channel(&handle).await);
    let mut nested = pb::PutRequest { key: "deep".into(), ..Default::default() }.into_op();
    for depth in 1..64 {
        let txn = pb::TxnRequest { success: vec![nested], ..Default::default() };
        let answer = within(client.txn(txn.clone())).await;
        assert!(answer.is_ok() || depth > 40, "{depth} levels: {answer:?}");
        assert!(handle.revision() > depth.min(40));
        nested = pb::RequestOp { request: Some(Operation::RequestTxn(txn)) };
    }
    works(&handle, 1).await;
}

/// Whoever invents names of methods must not make the member remember each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_that_nobody_serves_are_counted_together() {
    let folder = tempfile::tempdir().unwrap();
    let handle = member(&folder).await;
    let channel = channel(&handle).await;
    for number in 0..100 {
        for path in ["etcdserverpb.Invented{}/Put", "etcdserverpb.KV/Invented{}", "grpc.invented{}/Check", "Invented{}/Put"] {
            let path = format!("/{}", path.replace("{}", &number.to_string()));
            assert_eq!(call(channel.clone(), &path, b"", 0).await, Some(Code::Unimplemented));
        }
    }
    let mut stream = TcpStream::connect(client_port(&handle)).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut page = String::new();
    within(stream.read_to_string(&mut page)).await.unwrap();
    assert!(page.contains(r#"grpc_service="unknown""#));
    assert!(!page.to_lowercase().contains("invented"));
}
