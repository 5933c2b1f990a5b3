//! Deadlines of leases. The leader alone keeps them, in memory; a new leader begins them anew, so
//! that no lease ends early because a leader did. That a lease ended goes through the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::kontiki::store::v1::proposal::Operation;
use parking_lot::Mutex;

use super::core::Core;

/// How often deadlines are looked at: etcd's 500 ms.
const INTERVAL: Duration = Duration::from_millis(500);
/// Leases that are ended together.
const EXPIRED_MAX: usize = 500;

/// The deadlines.
#[derive(Debug, Default)]
pub struct Lessor {
    deadlines: Mutex<BTreeMap<i64, Instant>>,
}

impl Lessor {
    /// Seconds that a lease has left, renewed if asked for.
    pub fn time(&self, id: i64, ttl: i64, renew: bool) -> i64 {
        let now = Instant::now();
        let full = now + seconds(ttl);
        let mut deadlines = self.deadlines.lock();
        let deadline = deadlines.entry(id).or_insert(full);
        if renew {
            *deadline = full;
        }
        i64::try_from(deadline.saturating_duration_since(now).as_secs()).unwrap_or(i64::MAX)
    }

    /// Brings the deadlines up to date with the leases there are; returns those that are over.
    pub fn expired(&self, leases: &[(i64, i64)], now: Instant) -> Vec<i64> {
        let mut deadlines = self.deadlines.lock();
        let known: BTreeSet<i64> = leases.iter().map(|(id, _)| *id).collect();
        deadlines.retain(|id, _| known.contains(id));
        for (id, ttl) in leases {
            deadlines.entry(*id).or_insert_with(|| now + seconds(*ttl));
        }
        deadlines.iter().filter(|(_, deadline)| **deadline <= now).map(|(id, _)| *id).take(EXPIRED_MAX).collect()
    }

    /// Forgets all deadlines: they begin anew with the next look.
    pub fn clear(&self) {
        self.deadlines.lock().clear();
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

/// Ends leases whose time is over, while this member leads.
pub async fn run(core: Arc<Core>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut term = None;
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = core.stop.cancelled() => return,
        }
        let leading = core.leader().filter(|leader| leader.node_id == core.member_id);
        if leading != term {
            core.lessor.clear();
            term = leading;
        }
        if leading.is_none() {
            continue;
        }
        for id in core.lessor.expired(&core.state.leases(), Instant::now()) {
            let core = core.clone();
            tokio::spawn(async move {
                let operation = Operation::LeaseRevoke(pb::LeaseRevokeRequest { id });
                if let Err(error) = super::propose::submit(&core, operation).await {
                    tracing::debug!(%error, id, "a lease is over but could not be ended yet");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_begin_when_a_lease_is_seen_and_end_once() {
        let lessor = Lessor::default();
        let now = Instant::now();
        assert!(lessor.expired(&[(1, 5), (2, 60)], now).is_empty());
        assert_eq!(lessor.expired(&[(1, 5), (2, 60)], now + Duration::from_secs(6)), vec![1]);
        assert!((58..=60).contains(&lessor.time(2, 60, true)));
        lessor.clear();
        assert!(lessor.expired(&[(1, 5)], now + Duration::from_secs(6)).is_empty(), "a new leader begins anew");
    }
}
