//! Services on the node: load balancing in the kernel and the cluster's DNS server.
//!
//! In: Services and EndpointSlices from reflectors. Out: nftables maps that lead to ready endpoints,
//! and answers to DNS queries. The ruleset and the answers are pure functions of what was observed.
//! Invariant: a change touches only the elements that changed, in one transaction.

pub mod conntrack;
pub mod dns;
pub mod endpoints;
pub mod health;
mod http;
pub mod index;
mod keep;
pub mod model;
mod nft;
pub mod rules;
pub mod ruleset;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use kontiki_client::Client;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

/// What the proxy needs.
#[derive(Clone)]
pub struct Options {
    /// The API.
    pub client: Client,
    /// Name of the node.
    pub node_name: String,
    /// Addresses of the node.
    pub node_addresses: Vec<IpAddr>,
    /// Network of pods, such as `10.244.0.0/16`.
    pub pod_cidr: String,
    /// Address of the DNS server.
    pub dns_address: Ipv4Addr,
    /// Domain of the cluster's names.
    pub cluster_domain: String,
    /// Resolvers for other names.
    pub upstream: Vec<SocketAddr>,
}

/// Why the proxy does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refuses the rules.
    #[error("cannot set up the rules: {0}")]
    Rules(String),
    /// The DNS server cannot listen.
    #[error("cannot serve DNS on {address}: {message}")]
    Dns {
        /// The address.
        address: Ipv4Addr,
        /// The reason.
        message: String,
    },
}

/// Runs rules and DNS until `cancel`. Rules stay when the proxy ends: connections go on.
pub async fn run(options: Options, cancel: CancellationToken) -> Result<(), Error> {
    let index = Arc::new(RwLock::new(index::Index::default()));
    let keeper = keep::Keeper::follow(&options, Arc::clone(&index), &cancel);
    let server = dns::server::Server::bind(&options, index).await?;
    tokio::join!(keeper.run(&cancel), server.serve(cancel.clone()));
    Ok(())
}
