//! Services on the node: load balancing in the kernel and the cluster's DNS server.
//!
//! In: Services and EndpointSlices from reflectors. Out: nftables maps that lead to ready endpoints,
//! and answers to DNS queries. The ruleset and the answers are pure functions of what was observed.
//! Invariant: a change touches only the elements that changed, in one transaction.

pub mod dns;
pub mod model;
mod nft;
pub mod rules;
pub mod ruleset;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use kontiki_api::resources::{ENDPOINT_SLICES, SERVICES};
use kontiki_client::{
    Client,
    reflector::{Reflector, ReflectorOptions},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::model::{Service, Slice};

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

/// Changes that come within this time go into one transaction.
const GATHER: Duration = Duration::from_millis(5);
/// Pause before rules that were refused are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What both halves look at.
#[derive(Clone)]
pub struct Picture {
    /// Services.
    pub services: Reflector<Service>,
    /// Their endpoints.
    pub slices: Reflector<Slice>,
}

/// Runs rules and DNS until `cancel`. Rules stay when the proxy ends: connections go on.
pub async fn run(options: Options, cancel: CancellationToken) -> Result<(), Error> {
    let changed = Arc::new(Notify::new());
    let (first, second) = (Arc::clone(&changed), Arc::clone(&changed));
    let all = ReflectorOptions::default();
    let picture = Picture {
        services: Reflector::start(options.client.clone(), SERVICES, all.clone(), move |_| first.notify_one(), cancel.clone()),
        slices: Reflector::start(options.client.clone(), ENDPOINT_SLICES, all, move |_| second.notify_one(), cancel.clone()),
    };
    let server = dns::server::Server::bind(&options, picture.clone()).await?;
    tokio::join!(keep_rules(&options, &picture, &changed, &cancel), server.serve(cancel.clone()));
    Ok(())
}

async fn keep_rules(options: &Options, picture: &Picture, changed: &Notify, cancel: &CancellationToken) {
    let work = async {
        tokio::join!(picture.services.synced(), picture.slices.synced());
        // Nothing is known of what an earlier proxy left: the first transaction replaces it.
        let mut applied: Option<ruleset::Ruleset> = None;
        loop {
            let services = picture.services.list();
            let slices = picture.slices.list();
            let wanted = rules::ruleset(&services, &slices, options.dns_address);
            let script = match &applied {
                Some(before) => ruleset::difference(before, &wanted),
                None => ruleset::whole(&wanted, &options.pod_cidr),
            };
            let mut failed = false;
            if !script.is_empty() {
                match nft::apply(&script).await {
                    Ok(()) => applied = Some(wanted),
                    Err(error) => {
                        tracing::warn!(%error, "the kernel refuses rules; all are set anew");
                        // Once more from nothing; then not at once.
                        failed = applied.take().is_none();
                    }
                }
            }
            if failed {
                tokio::time::sleep(RETRY).await;
            } else if applied.is_some() {
                changed.notified().await;
                tokio::time::sleep(GATHER).await;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = cancel.cancelled() => {}
    }
}
