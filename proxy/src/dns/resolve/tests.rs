//! Answers as records, with a resolver of elsewhere that is a socket of this test.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use tokio::net::UdpSocket;

use super::*;
use crate::index::tests::index;

/// Answers every query with one address, and counts.
async fn elsewhere() -> (SocketAddr, Arc<Mutex<usize>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (socket.local_addr().unwrap(), Arc::new(Mutex::new(0)));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        let mut bytes = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
            *counted.lock() += 1;
            let query = Message::from_vec(&bytes[..length]).unwrap();
            let name = query.queries[0].name().clone();
            let mut answer = query.into_response();
            answer.add_answer(WireRecord::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    (address, count)
}

fn resolver(upstream: Vec<SocketAddr>) -> Resolver {
    let port = json!({"name": "http", "protocol": "TCP", "port": 80});
    let external = |name: &str, target: &str| json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"type": "ExternalName", "externalName": target}});
    let index = index(
        &[
            json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"clusterIP": "10.96.0.7", "ports": [port]}}),
            external("inside", "web.n.svc.cluster.local"),
            external("outside", "example.org"),
            external("round", "round.n.svc.cluster.local"),
        ],
        &[],
    );
    Resolver {
        index: Arc::new(RwLock::new(index)),
        domain: "cluster.local".into(),
        server: "10.96.0.10".parse().unwrap(),
        upstream,
        cache: Mutex::new(Cache::default()),
    }
}

async fn ask(resolver: &Resolver, name: &str, kind: RecordType) -> Reply {
    let name = whole(name).unwrap();
    let mut query = Message::query();
    query.add_query(Query::query(name.clone(), kind));
    resolver.reply(&name, kind, &query.to_vec().unwrap()).await
}

fn texts(records: &[WireRecord]) -> Vec<String> {
    records.iter().map(|record| format!("{} {}", record.name, record.data)).collect()
}

#[tokio::test]
async fn external_names_are_followed() {
    let (upstream, count) = elsewhere().await;
    let resolver = resolver(vec![upstream]);
    let inside = ask(&resolver, "inside.n.svc.cluster.local", RecordType::A).await;
    assert_eq!(
        texts(&inside.answers),
        ["inside.n.svc.cluster.local. web.n.svc.cluster.local.", "web.n.svc.cluster.local. 10.96.0.7"]
    );
    let outside = ask(&resolver, "outside.n.svc.cluster.local", RecordType::A).await;
    assert_eq!(texts(&outside.answers), ["outside.n.svc.cluster.local. example.org.", "example.org. 192.0.2.1"]);
    ask(&resolver, "EXAMPLE.org", RecordType::A).await;
    assert_eq!(*count.lock(), 1, "the second answer comes from memory");
    let round = ask(&resolver, "round.n.svc.cluster.local", RecordType::A).await;
    assert!(round.answers.len() <= 1 + CHASE_MAX);
    let alias = ask(&resolver, "outside.n.svc.cluster.local", RecordType::CNAME).await;
    assert_eq!(alias.answers.len(), 1);
}

#[tokio::test]
async fn ports_come_with_the_addresses_that_will_be_asked_next() {
    let resolver = resolver(Vec::new());
    let reply = ask(&resolver, "_http._tcp.web.n.svc.cluster.local", RecordType::SRV).await;
    assert_eq!(texts(&reply.additionals), ["web.n.svc.cluster.local. 10.96.0.7"]);
    let none = ask(&resolver, "nothing.n.svc.cluster.local", RecordType::A).await;
    assert_eq!((none.code, none.authorities.len()), (ResponseCode::NXDomain, 1));
    let empty = ask(&resolver, "web.n.svc.cluster.local", RecordType::AAAA).await;
    assert_eq!((empty.code, empty.authorities.len()), (ResponseCode::NoError, 1));
    let unreachable = ask(&resolver, "example.org", RecordType::A).await;
    assert_eq!(unreachable.code, ResponseCode::ServFail);
}
