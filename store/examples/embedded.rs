//! A store inside a program: one member, its operations as an async trait, no network between.

use std::net::SocketAddr;

use kontiki_proto::etcdserverpb as pb;
use kontiki_store::kv::Kv;
use kontiki_store::{Options, Service};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut options = Options::new("a", folder.path().to_owned(), any_port, any_port);
    options.initial_cluster = vec![("a".to_owned(), "http://127.0.0.1:1".to_owned())];
    let store = Service::start(options).await?;
    let mut watch = store.watch(pb::WatchCreateRequest { key: "greeting".into(), ..Default::default() }).await?;
    store.put(pb::PutRequest { key: "greeting".into(), value: "hello".into(), ..Default::default() }).await?;
    let found = store.range(pb::RangeRequest { key: "greeting".into(), ..Default::default() }).await?;
    println!("{:?}", found.kvs);
    println!("{:?}", watch.recv().await.map(|response| response.events));
    store.shutdown().await;
    Ok(())
}
