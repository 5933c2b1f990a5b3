//! Three members in one process, over mutual TLS on loopback: replication, loss of the leader,
//! restart, and a member so far behind that it needs a snapshot.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kontiki_proto::etcdserverpb as pb;
use kontiki_store::kv::Kv;
use kontiki_store::{Handle, Options, Service, TlsFiles};

mod common;
use common::{Running, own_address};

/// Ten times what a failover should take.
const DEADLINE: Duration = Duration::from_secs(10);

struct Cluster {
    tls: TlsFiles,
    addresses: Vec<(SocketAddr, SocketAddr)>,
    members: Vec<Option<Running>>,
    folder: tempfile::TempDir,
}

fn certificates(folder: &Path, addresses: &[IpAddr]) -> TlsFiles {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(vec![]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_cert = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let member = rcgen::CertificateParams::new(addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>()).unwrap();
    let cert = member.signed_by(&key, &issuer).unwrap();
    let write = |name: &str, pem: String| -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let (cert, key) = (write("cert.pem", cert.pem()), write("key.pem", key.serialize_pem()));
    TlsFiles::mutual(cert, key, write("ca.pem", authority_cert.pem()))
}

/// A member that was stopped lets go of its clients' port a moment later.
async fn free(address: SocketAddr) {
    let waiting = async {
        while tokio::net::TcpListener::bind(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap();
}

impl Cluster {
    async fn start(size: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let addresses: Vec<_> = (0..size).map(|_| own_address()).collect();
        let tls = certificates(folder.path(), &addresses);
        let addresses = addresses.into_iter().map(|ip| (SocketAddr::new(ip, 2379), SocketAddr::new(ip, 2380))).collect();
        let mut cluster = Self { folder, tls, addresses, members: (0..size).map(|_| None).collect() };
        for member in 0..size {
            cluster.start_member(member).await;
        }
        cluster
    }

    async fn start_member(&mut self, member: usize) {
        let name = |member: usize| format!("m{member}");
        let (client, peer) = self.addresses[member];
        let mut options = Options::new(&name(member), self.folder.path().join(name(member)), client, peer);
        let all = self.addresses.iter().enumerate();
        options.initial_cluster = all.map(|(member, (_, peer))| (name(member), format!("https://{peer}"))).collect();
        options.advertise_client_urls = vec![format!("https://{client}")];
        options = options.with_client_tls(self.tls.clone()).with_peer_tls(self.tls.clone());
        options.flush_entries = 50;
        options.keep_entries = 50;
        free(client).await;
        self.members[member] = Some(Running(Service::start(options).await.unwrap()));
    }

    async fn stop_member(&mut self, member: usize) {
        self.members[member].take().unwrap().shutdown().await;
    }

    fn member(&self, member: usize) -> &Handle {
        self.members[member].as_ref().unwrap()
    }

    fn any(&self) -> &Handle {
        self.members.iter().flatten().next().unwrap()
    }

    /// The member that leads, as the others see it.
    async fn leader(&self, not: Option<u64>) -> usize {
        let mut leadership = self.any().leadership();
        let settled = leadership.wait_for(|seen| seen.leader_id.is_some() && seen.leader_id != not);
        let leader = tokio::time::timeout(DEADLINE, settled).await.unwrap().unwrap().leader_id;
        let found = |member: &Option<Running>| member.as_ref().map(|member| member.member_id()) == leader;
        self.members.iter().position(found).unwrap()
    }
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

async fn get(handle: &Handle, key: &str) -> Option<String> {
    let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
    let found = tokio::time::timeout(DEADLINE, handle.range(request)).await.unwrap().unwrap();
    found.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
}

async fn wait_for_revision(handle: &Handle, revision: i64) {
    let request = pb::WatchCreateRequest {
        key: "wait".into(),
        range_end: "\0".into(),
        start_revision: handle.revision() + 1,
        progress_notify: true,
        ..Default::default()
    };
    let mut progress = handle.watch(request).await.unwrap();
    let waiting = async {
        while handle.revision() < revision {
            progress.recv().await.unwrap();
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_on_any_member_is_read_on_every_member() {
    let cluster = Cluster::start(3).await;
    for member in 0..3 {
        let key = format!("from-{member}");
        cluster.member(member).put(put(&key, "here")).await.unwrap();
        for reader in 0..3 {
            assert_eq!(get(cluster.member(reader), &key).await.as_deref(), Some("here"));
        }
    }
    let members = cluster.member(1).member_list().await.unwrap().members;
    assert_eq!(members.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_and_a_write_go_on_when_the_leader_is_lost() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader(None).await;
    let other = (leader + 1) % 3;
    let request = pb::WatchCreateRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    let mut watch = cluster.member(other).watch(pb::WatchCreateRequest { start_revision: 2, ..request }).await.unwrap();
    for number in 0..20 {
        cluster.member(number % 3).put(put(&format!("k{number:02}"), "1")).await.unwrap();
    }
    let lost = cluster.member(leader).member_id();
    cluster.stop_member(leader).await;
    for number in 20..40 {
        // The first of them waits for the next leader instead of failing.
        cluster.member(other).put(put(&format!("k{number:02}"), "1")).await.unwrap();
    }
    assert_ne!(cluster.leader(Some(lost)).await, leader);
    let mut seen = Vec::new();
    while seen.len() < 40 {
        let response = tokio::time::timeout(DEADLINE, watch.recv()).await.unwrap().unwrap();
        seen.extend(response.events.into_iter().map(|event| event.kv.unwrap().key));
    }
    let wanted: Vec<bytes::Bytes> = (0..40).map(|number| format!("k{number:02}").into()).collect();
    assert_eq!(seen, wanted, "each event once and in order");
    cluster.start_member(leader).await;
    assert_eq!(get(cluster.member(leader), "k39").await.as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader(None).await;
    let behind = (leader + 1) % 3;
    cluster.member(leader).put(put("before", "1")).await.unwrap();
    cluster.stop_member(behind).await;
    let applied = cluster.member(leader).status().await.unwrap().raft_applied_index;
    // One entry each, until the log has moved on beyond what the member has.
    let writing = async {
        let mut number = 0;
        while cluster.member(leader).log_begin().unwrap() <= applied + 1 {
            cluster.member(leader).put(put(&format!("n{number}"), "1")).await.unwrap();
            number += 1;
        }
    };
    tokio::time::timeout(6 * DEADLINE, writing).await.unwrap();
    let revision = cluster.member(leader).revision();
    let wanted = cluster.member(leader).hash_kv(revision).await.unwrap();
    cluster.start_member(behind).await;
    wait_for_revision(cluster.member(behind), revision).await;
    let found = cluster.member(behind).hash_kv(revision).await.unwrap();
    assert_eq!(found.hash, wanted.hash);
    let name = format!("m{behind}/state/CURRENT");
    let current = std::fs::read_to_string(cluster.folder.path().join(name)).unwrap();
    assert_ne!(current, "state-0", "the state was replaced by the snapshot's");
    cluster.member(behind).put(put("after", "1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_member_works_and_comes_back() {
    let mut cluster = Cluster::start(1).await;
    cluster.member(0).put(put("a", "1")).await.unwrap();
    cluster.member(0).lease_grant(pb::LeaseGrantRequest { id: 5, ttl: 60 }).await.unwrap();
    cluster.member(0).put(pb::PutRequest { lease: 5, ..put("b", "2") }).await.unwrap();
    cluster.stop_member(0).await;
    cluster.start_member(0).await;
    assert_eq!(get(cluster.member(0), "a").await.as_deref(), Some("1"));
    let time = cluster.member(0).lease_time_to_live(pb::LeaseTimeToLiveRequest { id: 5, keys: true }).await.unwrap();
    assert_eq!(time.keys, vec![bytes::Bytes::from_static(b"b")]);
    cluster.member(0).lease_revoke(pb::LeaseRevokeRequest { id: 5 }).await.unwrap();
    assert_eq!(get(cluster.member(0), "b").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_waits_for_the_files_of_the_one_before_it() {
    let mut cluster = Cluster::start(1).await;
    cluster.member(0).put(put("a", "1")).await.unwrap();
    let reader = cluster.member(0).clone();
    cluster.stop_member(0).await;
    // A reader of the stopped member still holds its files, and lets go while the next one starts.
    let letting_go = std::thread::spawn(move || {
        std::thread::park_timeout(Duration::from_millis(200));
        drop(reader);
    });
    cluster.start_member(0).await;
    letting_go.join().unwrap();
    assert_eq!(get(cluster.member(0), "a").await.as_deref(), Some("1"));
}

/// Where a member was, somebody counts who comes.
async fn count_visits(address: SocketAddr, visits: Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    while let Ok((visitor, _)) = listener.accept().await {
        visits.fetch_add(1, Ordering::Relaxed);
        drop(visitor);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_gone_is_looked_for_now_and_then() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader(None).await;
    let gone = (leader + 1) % 3;
    cluster.stop_member(gone).await;
    let visits = Arc::new(AtomicUsize::new(0));
    let counting = tokio::spawn(count_visits(cluster.addresses[gone].1, visits.clone()));
    let begin = std::time::Instant::now();
    for number in 0..100 {
        cluster.member(leader).put(put("k", &number.to_string())).await.unwrap();
    }
    counting.abort();
    // Heartbeats look ten times a second, and so do streams at most at first. Without a pause there are thousands.
    let visits = visits.load(Ordering::Relaxed);
    let bound = 60 + 40 * usize::try_from(begin.elapsed().as_secs()).unwrap();
    assert!(visits > 0 && visits < bound, "{visits} visits, {bound} are many");
}
