//! Members whose clients and peers come in through sockets' files instead of ports.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use kontiki_proto::etcdserverpb as pb;
use kontiki_store::kv::Kv;
use kontiki_store::{Address, Options, Place, Service, StartError, TlsFiles, backup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

mod common;
use common::{Running, own_address};

const DEADLINE: Duration = Duration::from_secs(20);

fn file(path: &Path, tls: bool) -> Place {
    Place { address: Address::File(path.to_owned()), tls }
}

/// A member alone whose peers would come in on a port.
fn alone(folder: &Path, client: Place) -> Options {
    let peer = std::net::SocketAddr::new(own_address(), 2380);
    let mut options = Options::new("a", folder.join("a"), client, peer);
    options.initial_cluster = vec![("a".to_owned(), format!("http://{peer}"))];
    options
}

async fn start(options: Options) -> Running {
    let handle = Running(Service::start(options).await.unwrap());
    tokio::time::timeout(DEADLINE, handle.ready()).await.unwrap().unwrap();
    handle
}

fn put(key: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: "here".into(), ..Default::default() }
}

fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

/// A client that calls the other side by a name, as gRPC's clients do in their several ways.
async fn connect(path: &Path, authority: &str) -> Channel {
    let path = path.to_owned();
    let endpoint = Endpoint::from_shared(format!("http://{authority}")).unwrap();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await.unwrap()
}

async fn page(path: &Path, page: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(format!("GET {page} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

/// What the process' umask leaves of all permissions.
fn allowed() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
    0o777 & !u32::from_str_radix(umask.trim(), 8).unwrap()
}

async fn until_gone(paths: &[&Path]) {
    let gone = async {
        while paths.iter().any(|path| path.exists()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_served_through_files_beside_ports() {
    let folder = tempfile::tempdir().unwrap();
    let (first, http, metrics) =
        (folder.path().join("localhost:2379"), folder.path().join("http"), folder.path().join("metrics"));
    // A member that was killed left its socket behind.
    drop(std::os::unix::net::UnixListener::bind(&first).unwrap());
    let port = std::net::SocketAddr::new(own_address(), 2379);
    let mut options = alone(folder.path(), file(&first, false));
    options.listen_client.push(port.into());
    options.listen_client_http = vec![file(&http, false)];
    options.listen_metrics = vec![file(&metrics, false)];
    options.advertise_client_urls = vec![format!("unix://{}", first.display())];
    let member = start(options.clone()).await;
    assert_eq!(*member.client_address(), Address::File(first.clone()));
    let kind = first.symlink_metadata().unwrap();
    assert!(kind.file_type().is_socket());
    assert_eq!(kind.mode() & 0o777, allowed());

    for authority in ["localhost", "localhost:2379", "etcd.sock", "localhost:m10"] {
        let mut client = pb::kv_client::KvClient::new(connect(&first, authority).await);
        client.put(put(authority)).await.unwrap();
        let mut over_port = pb::kv_client::KvClient::connect(format!("http://{port}")).await.unwrap();
        assert_eq!(over_port.range(get(authority)).await.unwrap().into_inner().count, 1, "{authority}");
    }
    let mut cluster = pb::cluster_client::ClusterClient::new(connect(&first, "localhost").await);
    let members = cluster.member_list(pb::MemberListRequest::default()).await.unwrap().into_inner().members;
    assert_eq!(members[0].client_ur_ls, options.advertise_client_urls);
    assert!(page(&http, "/version").await.contains(r#""etcdserver":"3.6"#));
    assert!(page(&metrics, "/metrics").await.contains("etcd_server_has_leader 1"));

    member.shutdown().await;
    until_gone(&[&first, &http, &metrics]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_in_use_or_no_socket_refuses_the_start_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let refusal = |path: PathBuf| {
        let options = alone(folder.path(), file(&path, false));
        async {
            let refused: Result<_, StartError> = Service::start(options).await;
            format!("{:#}", anyhow::Error::from(refused.err().unwrap()))
        }
    };
    std::fs::write(&path, "precious").unwrap();
    let expected = "cannot listen for clients on";
    let told = refusal(path.clone()).await;
    assert!(told.starts_with(expected) && told.contains("no socket: move it away"), "{told}");
    std::fs::remove_file(&path).unwrap();
    let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let told = refusal(path.clone()).await;
    assert!(told.contains("another process listens there: end it"), "{told}");
    drop(other);
    let told = refusal(folder.path().join("none/s")).await;
    assert!(told.contains("its folder must be there"), "{told}");
    let told = refusal(folder.path().join("s".repeat(108))).await;
    assert!(told.contains("at most 107 bytes"), "{told}");
}

/// An identity for hosts and sockets of these names, in PEM.
fn certificates(folder: &Path, names: &[&str]) -> TlsFiles {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(vec![]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_cert = authority.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(authority, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let cert = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let write = |name: &str, pem: String| -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let (cert, key) = (write("cert.pem", cert.pem()), write("key.pem", key.serialize_pem()));
    TlsFiles::mutual(cert, key, write("ca.pem", authority_cert.pem()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_talk_through_files_with_tls_and_without() {
    for tls in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let scheme = if tls { "unixs" } else { "unix" };
        let files = certificates(folder.path(), &["peer", "client"]);
        let names = ["a", "b", "c"];
        let place = |name: &str, socket: &str| folder.path().join(name).join(socket);
        let mut members = Vec::new();
        for name in names {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            let (client, peer) = (file(&place(name, "client"), false), file(&place(name, "peer:2380"), false));
            let mut options = Options::new(name, folder.path().join(name).join("data"), client, peer);
            let url = |name: &str| (name.to_owned(), format!("{scheme}://{}", place(name, "peer:2380").display()));
            options.initial_cluster = names.map(url).to_vec();
            if tls {
                options = options.with_client_tls(files.clone()).with_peer_tls(files.clone());
            }
            members.push(Running(Service::start(options).await.unwrap()));
        }
        for member in &members {
            tokio::time::timeout(DEADLINE, member.ready()).await.unwrap().unwrap();
            let key = format!("from-{}", member.member_id());
            member.put(put(&key)).await.unwrap();
            for reader in &members {
                assert_eq!(reader.range(get(&key)).await.unwrap().count, 1);
            }
        }
        let saver = |scheme: &str, cacert: bool| backup::Client {
            endpoint: format!("{scheme}://{}", place("a", "client").display()),
            cacert: cacert.then(|| files.ca.clone()).flatten(),
            identity: cacert.then(|| (files.cert.clone(), files.key.clone())),
        };
        let saved = folder.path().join("saved");
        saver(scheme, tls).save(&saved).await.unwrap();
        assert!(backup::status(&saved, &folder.path().join("scratch")).unwrap().total_keys >= 3);
        if tls {
            assert!(saver("unix", true).save(&saved).await.is_err(), "what is encrypted is not served in the clear");
        }
        for (name, member) in names.iter().zip(&members) {
            member.shutdown().await;
            until_gone(&[&place(name, "client"), &place(name, "peer:2380")]).await;
        }
    }
}
