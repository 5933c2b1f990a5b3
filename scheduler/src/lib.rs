//! The scheduler: which pod runs on which node.
//!
//! In: a client with the scheduler's identity; pods without a node, and nodes. Out: bindings, and
//! conditions and events on pods that fit nowhere. A decision is a pure function of a pod and a
//! snapshot of the cluster ([`cycle`]).
//! Invariant: only the holder of the `kube-scheduler` Lease binds, and no node gets more than it has.

pub mod cycle;
mod driver;
pub mod filters;
pub mod model;
pub mod scores;
pub mod snapshot;

use kontiki_client::{Client, leader};
use tokio_util::sync::CancellationToken;

/// What the scheduler needs.
#[derive(Clone)]
pub struct Options {
    /// The API, as `system:kube-scheduler`.
    pub client: Client,
    /// Who asks for the Lease; unique.
    pub identity: String,
}

/// Campaigns for the Lease, and schedules while it holds it; ends with `cancel`.
pub async fn run(options: Options, cancel: CancellationToken) {
    let lease = leader::LeaderOptions::new("kube-scheduler", &options.identity);
    leader::run(options.client.clone(), lease, cancel, |leading| driver::lead(options.clone(), leading)).await;
}
