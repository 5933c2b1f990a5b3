//! The scheduler: which pod runs on which node.
//!
//! In: a client with the scheduler's identity; pods without a node, nodes, and what surrounds them. Out: bindings,
//! conditions and events on pods that fit nowhere, evictions for pods of higher priority. A decision is a pure
//! function of a pod and the cluster ([`cycle`]); the plugins bear Kubernetes' names ([`plugins`]).
//! Invariant: only the holder of the `kube-scheduler` Lease binds, and no node gets more than it has.

pub mod cluster;
pub mod cycle;
mod driver;
pub mod hints;
pub mod metrics;
pub mod model;
pub mod plugins;
pub mod queue;

use kontiki_client::{Client, leader};
use tokio_util::sync::CancellationToken;

/// What the scheduler needs.
#[derive(Clone)]
pub struct Options {
    /// The API, as `system:kube-scheduler`.
    pub client: Client,
    /// Who asks for the Lease; unique.
    pub identity: String,
    /// Names that pods may ask for; not empty.
    pub scheduler_names: Vec<String>,
}

impl Options {
    /// The scheduler that pods get which ask for none.
    #[must_use]
    pub fn new(client: Client, identity: String) -> Self {
        Self { client, identity, scheduler_names: vec!["default-scheduler".to_owned()] }
    }
}

/// Campaigns for the Lease, and schedules while it holds it; ends with `cancel`.
pub async fn run(options: Options, cancel: CancellationToken) {
    let lease = leader::LeaderOptions::new("kube-scheduler", &options.identity);
    leader::run(options.client.clone(), lease, cancel, |leading| driver::lead(options.clone(), leading)).await;
}
