//! The reconcilers: they make what is what was asked for.
//!
//! In: a client with the controller manager's identity, and changes from its reflectors. Out: objects
//! created, updated and deleted through the API, and events that say so. Each reconciler is a pure
//! plan over what it observes and a loop that acts.
//! Invariant: only the holder of the `kube-controller-manager` Lease acts.

mod context;
pub mod deployment;
pub mod endpoint_slice;
pub mod garbage;
pub mod model;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod replica_set;
mod run;
pub mod service_account;

use kontiki_client::{Client, leader};
use tokio_util::sync::CancellationToken;

/// What the controllers need.
#[derive(Clone)]
pub struct Options {
    /// The API, as `system:kube-controller-manager`.
    pub client: Client,
    /// Who asks for the Lease; unique.
    pub identity: String,
    /// Certificate of the API's authority, PEM.
    pub root_ca: String,
    /// Network of pods, such as `10.244.0.0/16`.
    pub pod_cidr: String,
    /// Length of the prefix of each node's part.
    pub node_cidr_mask: u8,
}

/// Campaigns for the Lease, and runs every controller while it holds it; ends with `cancel`.
pub async fn run(options: Options, cancel: CancellationToken) {
    let lease = leader::LeaderOptions::new("kube-controller-manager", &options.identity);
    leader::run(options.client.clone(), lease, cancel, |leading| context::lead(options.clone(), leading)).await;
}
