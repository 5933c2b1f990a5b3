//! The reconcilers: they make what is what was asked for.
//!
//! In: a client with the controller manager's identity, and changes from its reflectors. Out: objects
//! created, updated and deleted through the API, and events that say so. Each reconciler is a pure
//! plan over what it observes and a loop that acts.
//! Invariant: only the holder of the `kube-controller-manager` Lease acts.

pub mod model;
pub mod taints;

mod context;
mod discovery;
mod disruption_target;
mod pod_control;
mod run;
mod shared;
mod written;

pub mod autoscaler;
pub mod certificates;
pub mod cluster_role_aggregation;
pub mod cron_job;
pub mod daemon_set;
pub mod deployment;
pub mod disruption;
pub mod endpoint_slice;
pub mod endpoint_slice_mirroring;
pub mod endpoints;
pub mod garbage;
pub mod job;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod node_role;
pub mod node_ttl;
pub mod pod_gc;
pub mod replica_set;
pub mod resource_quota;
pub mod revisions;
pub mod service_account;
pub mod service_cidrs;
pub mod stateful_set;
pub mod taint_eviction;
pub mod token_cleaner;
pub mod ttl_after_finished;
pub mod volume;

use std::time::Duration;

use kontiki_client::{Client, leader};
use tokio_util::sync::CancellationToken;

/// Every controller.
const CONTROLLERS: &[run::Start] = &[
    replica_set::start,
    replica_set::start_replication,
    deployment::start,
    daemon_set::start,
    stateful_set::start,
    job::start,
    job::start_orphans,
    cron_job::start,
    ttl_after_finished::start,
    disruption::start,
    autoscaler::start,
    volume::binder::start,
    volume::binder::start_volumes,
    volume::protection::start_claims,
    volume::protection::start_volumes,
    volume::protection::start_ephemeral,
    endpoint_slice::start,
    endpoint_slice_mirroring::start,
    endpoints::start,
    namespace::start,
    service_account::start,
    service_cidrs::start,
    token_cleaner::start,
    node_ipam::start,
    node_lifecycle::start,
    node_role::start,
    node_ttl::start,
    taint_eviction::start,
    pod_gc::start,
    garbage::start,
    certificates::start,
    cluster_role_aggregation::start,
    resource_quota::start,
];

/// What the controllers need.
#[derive(Clone)]
pub struct Options {
    /// The API, as `system:kube-controller-manager`.
    pub client: Client,
    /// Who asks for the Lease; unique.
    pub identity: String,
    /// Certificate of the API's authority, PEM.
    pub root_ca: String,
    /// Signs certificates; without it requests for them wait.
    pub signer: Option<std::sync::Arc<certificates::Signer>>,
    /// Network of pods, such as `10.244.0.0/16`.
    pub pod_cidr: String,
    /// Length of the prefix of each node's part.
    pub node_cidr_mask: u8,
    /// How long a token in a Secret that nobody has asked for may lie unused.
    pub legacy_token_clean_up_period: Duration,
    /// How long a node may be silent before it counts as not ready.
    pub node_monitor_grace_period: Duration,
}

/// Campaigns for the Lease, and runs every controller while it holds it; ends with `cancel`.
pub async fn run(options: Options, cancel: CancellationToken) {
    let lease = leader::LeaderOptions::new("kube-controller-manager", &options.identity);
    leader::run(options.client.clone(), lease, cancel, |leading| context::lead(options.clone(), leading)).await;
}
