//! What an operator does to running members, without TLS: joins and removals, snapshots, quotas,
//! users, and going on alone; and what the pages over HTTP say.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::kontiki::store::v1 as wire_pb;
use kontiki_store::error::Error;
use kontiki_store::kv::Kv;
use kontiki_store::service::identity;
use kontiki_store::{ClusterState, Handle, Options, Service, backup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use wire_pb::change_membership_request::Change;

mod common;
use common::{Running, own_address};

const DEADLINE: Duration = Duration::from_secs(20);

/// Addresses of a member for clients and peers.
fn addresses() -> (SocketAddr, SocketAddr) {
    let ip = own_address();
    (SocketAddr::new(ip, 2379), SocketAddr::new(ip, 2380))
}

fn options(name: &str, folder: &Path, at: (SocketAddr, SocketAddr), cluster: &[(&str, SocketAddr)]) -> Options {
    let mut options = Options::new(name, folder.join(name), at.0, at.1);
    options.initial_cluster = cluster.iter().map(|(name, peer)| ((*name).to_owned(), format!("http://{peer}"))).collect();
    options.advertise_client_urls = vec![format!("http://{}", at.0)];
    options.bcrypt_cost = 4;
    options
}

async fn start(options: Options) -> Running {
    let handle = Running(Service::start(options).await.unwrap());
    tokio::time::timeout(DEADLINE, handle.ready()).await.unwrap().unwrap();
    handle
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

async fn get(handle: &Handle, key: &str) -> Option<String> {
    let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
    let found = handle.range(request).await.unwrap();
    found.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
}

/// Tries until something holds.
async fn until<T, F: Future<Output = Option<T>>>(mut look: impl FnMut() -> F) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, looking).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_joins_votes_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (addresses(), addresses());
    let a = start(options("a", folder.path(), first, &[("a", first.1)])).await;
    a.put(put("k", "1")).await.unwrap();
    let url = format!("http://{}", second.1);
    let added = a.member_add(vec![url.clone()], false, 1).await.unwrap();
    // Adding a voter that is not there yet does not cost the quorum.
    a.put(put("k", "2")).await.unwrap();
    assert_eq!(a.member_add(vec![url.clone()], false, 2).await, Err(Error::MemberNotEnoughStarted));
    let mut joining = options("b", folder.path(), second, &[("a", first.1), ("b", second.1)]);
    joining.initial_cluster_state = ClusterState::Existing;
    let b = start(joining.clone()).await;
    assert_eq!(b.member_id(), added.id);
    assert_eq!(get(&b, "k").await.as_deref(), Some("2"));
    let listed = b.member_list().await.unwrap().members;
    assert_eq!(listed.iter().map(|member| member.name.as_str()).collect::<std::collections::BTreeSet<_>>(), ["a", "b"].into());
    // With two voters one alone is no quorum: the leader moves to the new one only if it votes.
    until(|| async { a.move_leader(b.member_id()).await.ok() }).await;
    b.put(put("k", "3")).await.unwrap();
    let gone = until(|| async { b.member_change(Change::Remove(a.member_id())).await.err().is_none().then_some(()) });
    gone.await;
    tokio::time::timeout(DEADLINE, a.removed()).await.unwrap();
    a.shutdown().await;
    b.put(put("k", "4")).await.unwrap();
    assert_eq!(b.member_list().await.unwrap().members.len(), 1);
    // A restart ignores how the member once began.
    b.shutdown().await;
    drop(b);
    joining.initial_cluster_state = ClusterState::New;
    joining.initial_cluster.clear();
    let b = start(joining).await;
    assert_eq!(get(&b, "k").await.as_deref(), Some("4"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_is_promoted_once_it_has_caught_up() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (addresses(), addresses());
    let a = start(options("a", folder.path(), first, &[("a", first.1)])).await;
    let learner = a.member_add(vec![format!("http://{}", second.1)], true, 1).await.unwrap();
    assert_eq!(a.member_change(Change::Promote(learner.id)).await, Err(Error::LearnerNotReady));
    assert_eq!(a.member_change(Change::Promote(a.member_id())).await, Err(Error::MemberNotLearner));
    let mut joining = options("b", folder.path(), second, &[("a", first.1), ("b", second.1)]);
    joining.initial_cluster_state = ClusterState::Existing;
    let b = start(joining).await;
    assert!(b.is_learner());
    let request = pb::RangeRequest { key: "k".into(), ..Default::default() };
    assert_eq!(b.range(request.clone()).await, Err(Error::NotSupportedForLearner));
    assert!(b.range(pb::RangeRequest { serializable: true, ..request.clone() }).await.is_ok());
    until(|| async { a.member_change(Change::Promote(learner.id)).await.ok() }).await;
    until(|| async { b.range(request.clone()).await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_becomes_a_new_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let first = addresses();
    let a = start(options("a", folder.path(), first, &[("a", first.1)])).await;
    a.put(put("k", "1")).await.unwrap();
    a.put(put("l", "2")).await.unwrap();
    let file = folder.path().join("snapshot");
    let client = backup::Client { endpoint: format!("http://{}", first.0), ..Default::default() };
    client.save(&file).await.unwrap();
    let wanted = a.hash_kv(0).await.unwrap();
    let found = backup::status(&file, &folder.path().join("scratch")).unwrap();
    assert_eq!((found.hash, found.revision, found.total_keys), (wanted.hash, 3, 2));
    let length = std::fs::metadata(&file).unwrap().len();
    assert_eq!(length % 512, 32, "etcdctl looks for a checksum of 32 bytes behind whole blocks");
    // A member of a smaller identity, whose first vote is less than what the old leader wrote in the same term.
    let second = addresses();
    let id = |name: &str| identity::member_id(name, &format!("http://{}", second.1));
    let name = (0..).map(|number| format!("n{number}")).find(|name| id(name) < a.member_id()).unwrap();
    let restored = options(&name, folder.path(), second, &[(&name, second.1)]);
    backup::restore(&file, &restored).unwrap();
    assert!(backup::restore(&file, &restored).is_err(), "there is data already");
    let n = start(restored).await;
    assert_eq!(get(&n, "l").await.as_deref(), Some("2"));
    assert_eq!(n.member_list().await.unwrap().members.len(), 1);
    n.put(put("k", "3")).await.unwrap();
    let mut damaged = std::fs::read(&file).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    assert!(matches!(backup::status(&file, &folder.path().join("scratch")), Err(backup::BackupError::Checksum { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_writes_are_refused_until_there_is_some() {
    let folder = tempfile::tempdir().unwrap();
    let first = addresses();
    let mut small = options("a", folder.path(), first, &[("a", first.1)]);
    small.quota_bytes = 10_000;
    let a = start(small).await;
    let value = "v".repeat(1000);
    let refused = loop {
        if let Err(error) = a.put(put("k", &value)).await {
            break error;
        }
    };
    assert_eq!(refused, Error::NoSpace);
    assert_eq!(a.put(put("k", "")).await, Err(Error::NoSpace), "the alarm refuses small ones too");
    assert!(page(first.0, "/health").await.contains("ALARM NOSPACE"));
    assert!(page(first.0, "/health?exclude=NOSPACE").await.contains(r#""health":"true""#));
    a.delete_range(pb::DeleteRangeRequest { key: "k".into(), ..Default::default() }).await.unwrap();
    a.compact(pb::CompactionRequest { revision: a.revision(), physical: true }).await.unwrap();
    // Nobody clears the alarm by hand.
    until(|| async { a.put(put("k", "1")).await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_do_what_their_roles_allow() {
    let folder = tempfile::tempdir().unwrap();
    let first = addresses();
    let a = start(options("a", folder.path(), first, &[("a", first.1)])).await;
    let channel = Channel::from_shared(format!("http://{}", first.0)).unwrap().connect().await.unwrap();
    let mut auth = pb::auth_client::AuthClient::new(channel.clone());
    for name in ["root", "u"] {
        let request = pb::AuthUserAddRequest { name: name.into(), password: "secret".into(), ..Default::default() };
        auth.user_add(request).await.unwrap();
    }
    auth.user_grant_role(pb::AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() }).await.unwrap();
    auth.role_add(pb::AuthRoleAddRequest { name: "r".into() }).await.unwrap();
    let perm = kontiki_proto::authpb::Permission { perm_type: 2, key: "mine".into(), range_end: "minf".into() };
    auth.role_grant_permission(pb::AuthRoleGrantPermissionRequest { name: "r".into(), perm: Some(perm) }).await.unwrap();
    auth.user_grant_role(pb::AuthUserGrantRoleRequest { user: "u".into(), role: "r".into() }).await.unwrap();
    auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    let wrong = pb::AuthenticateRequest { name: "u".into(), password: "wrong".into() };
    assert_eq!(auth.authenticate(wrong).await.unwrap_err().message(), Error::AuthFailed.to_string());
    let right = pb::AuthenticateRequest { name: "u".into(), password: "secret".into() };
    let token = auth.authenticate(right).await.unwrap().into_inner().token;
    let mut kv = pb::kv_client::KvClient::new(channel);
    let by_user = |request: pb::PutRequest| {
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("token", MetadataValue::try_from(token.as_str()).unwrap());
        request
    };
    kv.put(by_user(put("mine/1", "x"))).await.unwrap();
    assert_eq!(kv.put(by_user(put("other", "x"))).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(kv.put(put("mine/1", "x")).await.unwrap_err().message(), Error::UserEmpty.to_string());
    // The process itself is never asked.
    a.put(put("other", "x")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_goes_on_alone_with_all_that_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (addresses(), addresses());
    let cluster = [("a", first.1), ("b", second.1)];
    let other = Running(Service::start(options("b", folder.path(), second, &cluster)).await.unwrap());
    let a = start(options("a", folder.path(), first, &cluster)).await;
    a.put(put("k", "1")).await.unwrap();
    a.shutdown().await;
    other.shutdown().await;
    // Whoever holds a handle holds the files.
    drop(a);
    let mut alone = options("a", folder.path(), first, &cluster);
    alone.force_new_cluster = true;
    let a = start(alone).await;
    assert_eq!(get(&a, "k").await.as_deref(), Some("1"));
    assert_eq!(a.member_list().await.unwrap().members.len(), 1);
    a.put(put("k", "2")).await.unwrap();
}

/// A member that was away answers nobody before it has caught up, not even those who do not mind old answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_back_serves_once_it_has_caught_up() {
    let folder = tempfile::tempdir().unwrap();
    let ports = [addresses(), addresses(), addresses()];
    let cluster = [("a", ports[0].1), ("b", ports[1].1), ("c", ports[2].1)];
    let member = |at: usize| options(cluster[at].0, folder.path(), ports[at], &cluster);
    let (a, b, c) = tokio::join!(start(member(0)), start(member(1)), start(member(2)));
    c.put(put("k", "old")).await.unwrap();
    c.shutdown().await;
    drop(c);
    a.put(put("k", "new")).await.unwrap();
    b.shutdown().await;
    drop(b);
    // Alone with what it has, the third cannot know what was committed without it: it has no quorum.
    a.shutdown().await;
    drop(a);
    let back = Running(Service::start(member(2)).await.unwrap());
    let channel = Channel::from_shared(format!("http://{}", ports[2].0)).unwrap().connect().await.unwrap();
    let mut reader = pb::kv_client::KvClient::new(channel);
    let read = pb::RangeRequest { key: "k".into(), serializable: true, ..Default::default() };
    let reading = tokio::spawn(async move { reader.range(read).await });
    let a = start(member(0)).await;
    let found = tokio::time::timeout(DEADLINE, reading).await.unwrap().unwrap().unwrap().into_inner();
    assert_eq!(found.kvs[0].value, "new");
    back.shutdown().await;
    a.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_and_json_are_served_beside_grpc() {
    let folder = tempfile::tempdir().unwrap();
    let first = addresses();
    let a = start(options("a", folder.path(), first, &[("a", first.1)])).await;
    a.put(put("k", "v")).await.unwrap();
    assert!(page(first.0, "/version").await.contains(r#""etcdserver":"3.6"#));
    assert!(page(first.0, "/health").await.ends_with(r#"{"health":"true","reason":""}"#));
    assert!(page(first.0, "/readyz?verbose").await.contains("[+]linearizable_read ok\n"));
    let metrics = page(first.0, "/metrics").await;
    for name in ["etcd_server_has_leader 1", "etcd_disk_wal_fsync_duration_seconds_bucket", "etcd_mvcc_db_total_size_in_bytes"] {
        assert!(metrics.contains(name), "{name} is missing");
    }
    assert!(page(first.0, "/nothing").await.starts_with("HTTP/1.1 404"));
    let body = r#"{"key":"aw=="}"#;
    let head =
        format!("POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert!(talk(first.0, &head).await.contains(r#""value":"dg==""#));
}

async fn page(address: SocketAddr, path: &str) -> String {
    talk(address, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await
}

async fn talk(address: SocketAddr, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}
