//! What a member counts, under etcd's names, so that existing dashboards read it.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The counters of one member; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// 1 while a leader is known.
    pub has_leader: Gauge,
    /// 1 while this member leads.
    pub is_leader: Gauge,
    /// Changes of leader seen.
    pub leader_changes: Counter,
    /// The last entry known to be committed.
    pub proposals_committed: Gauge,
    /// The last applied entry.
    pub proposals_applied: Gauge,
    /// Proposals that wait.
    pub proposals_pending: Gauge,
    /// Proposals that failed.
    pub proposals_failed: Counter,
    /// Time of each fsync of the log.
    pub wal_fsync: Histogram,
    /// Time of applying a run of entries.
    pub apply: Histogram,
    /// Bytes of the state on disk.
    pub db_size: Gauge,
    /// Bytes of keys and values that are still there.
    pub db_size_in_use: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            has_leader: Gauge::default(),
            is_leader: Gauge::default(),
            leader_changes: Counter::default(),
            proposals_committed: Gauge::default(),
            proposals_applied: Gauge::default(),
            proposals_pending: Gauge::default(),
            proposals_failed: Counter::default(),
            wal_fsync: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            apply: Histogram::new(exponential_buckets(0.0001, 2.0, 20)),
            db_size: Gauge::default(),
            db_size_in_use: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let server = registry.sub_registry_with_prefix("etcd_server");
        server.register("has_leader", "Whether a leader is known", self.has_leader.clone());
        server.register("is_leader", "Whether this member leads", self.is_leader.clone());
        server.register("leader_changes_seen", "Changes of leader seen", self.leader_changes.clone());
        let committed = self.proposals_committed.clone();
        server.register("proposals_committed_total", "Last committed entry", committed);
        server.register("proposals_applied_total", "Last applied entry", self.proposals_applied.clone());
        server.register("proposals_pending", "Proposals that wait", self.proposals_pending.clone());
        server.register("proposals_failed", "Proposals that failed", self.proposals_failed.clone());
        server.register("apply_duration_seconds", "Time of applying entries", self.apply.clone());
        let disk = registry.sub_registry_with_prefix("etcd_disk");
        disk.register("wal_fsync_duration_seconds", "Time of fsyncs of the log", self.wal_fsync.clone());
        let mvcc = registry.sub_registry_with_prefix("etcd_mvcc");
        mvcc.register("db_total_size_in_bytes", "Bytes of the state on disk", self.db_size.clone());
        mvcc.register("db_total_size_in_use_in_bytes", "Bytes of keys and values", self.db_size_in_use.clone());
    }
}
