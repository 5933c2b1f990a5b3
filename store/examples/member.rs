//! One member of a store, as a process: `member NAME DATA_DIR CLIENT_PORT PEER_PORT NAME=PEER_URL,...`.
//!
//! TLS is on where `TLS_DIR` names a folder with `cert.pem`, `key.pem` and `ca.pem`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use kontiki_store::{Options, Service, TlsFiles};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, data_dir, client, peer, cluster] = arguments.as_slice() else {
        anyhow::bail!("usage: member NAME DATA_DIR CLIENT_PORT PEER_PORT NAME=PEER_URL,...");
    };
    let address = |port: &str| -> anyhow::Result<SocketAddr> { Ok(SocketAddr::from(([127, 0, 0, 1], port.parse()?))) };
    let mut options = Options::new(name, PathBuf::from(data_dir), address(client)?, address(peer)?);
    for member in cluster.split(',') {
        let (name, url) = member.split_once('=').context("a member is NAME=PEER_URL")?;
        options.initial_cluster.push((name.to_owned(), url.to_owned()));
    }
    let tls = std::env::var("TLS_DIR").ok().map(PathBuf::from);
    let tls = tls.map(|folder| TlsFiles::mutual(folder.join("cert.pem"), folder.join("key.pem"), folder.join("ca.pem")));
    let scheme = if tls.is_some() { "https" } else { "http" };
    options.advertise_client_urls = vec![format!("{scheme}://127.0.0.1:{client}")];
    if let Some(tls) = tls {
        options = options.with_client_tls(tls.clone()).with_peer_tls(tls);
    }
    if let Ok(entries) = std::env::var("FLUSH_ENTRIES") {
        options.flush_entries = entries.parse()?;
        options.keep_entries = options.flush_entries;
    }
    let handle = Service::start(options).await?;
    println!("member {:x} serves on {}", handle.member_id(), handle.client_address());
    tokio::signal::ctrl_c().await?;
    handle.shutdown().await;
    Ok(())
}
