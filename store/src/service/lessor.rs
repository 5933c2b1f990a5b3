//! Deadlines of leases. The leader alone keeps them, in memory; a new leader begins them anew, so
//! that no lease ends early because a leader did. That a lease ended goes through the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::kontiki::store::v1::LeaseCheckpoint;
use kontiki_proto::kontiki::store::v1::lease_checkpoint::Remaining;
use kontiki_proto::kontiki::store::v1::proposal::Operation;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::core::Core;
use crate::auth::Caller;
use crate::fault::{self, Mistake};

/// How often deadlines are looked at: etcd's 500 ms.
const INTERVAL: Duration = Duration::from_millis(500);
/// Leases that are ended together.
const EXPIRED_MAX: usize = 500;
/// How often what long leases have left is noted in the log: etcd's interval.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Leases in one note.
const CHECKPOINTS_MAX: usize = 1000;

/// The deadlines.
#[derive(Debug, Default)]
pub struct Lessor {
    deadlines: Mutex<BTreeMap<i64, Instant>>,
}

impl Lessor {
    /// Seconds that a lease has left, renewed if asked for.
    pub fn time(&self, id: i64, ttl: i64, left: i64, renew: bool) -> i64 {
        let now = Instant::now();
        let mut deadlines = self.deadlines.lock();
        let deadline = deadlines.entry(id).or_insert(now + seconds(left));
        if renew {
            *deadline = now + seconds(ttl);
        }
        i64::try_from(deadline.saturating_duration_since(now).as_secs()).unwrap_or(i64::MAX)
    }

    /// Brings the deadlines up to date with the leases there are; returns those that are over.
    pub fn expired(&self, leases: &[(i64, i64, i64)], now: Instant) -> Vec<i64> {
        let mut deadlines = self.deadlines.lock();
        let known: BTreeSet<i64> = leases.iter().map(|(id, ..)| *id).collect();
        deadlines.retain(|id, _| known.contains(id));
        for (id, _, left) in leases {
            let left = if fault::makes(Mistake::EarlyExpiry) { left / 2 } else { *left };
            deadlines.entry(*id).or_insert_with(|| now + seconds(left));
        }
        deadlines.iter().filter(|(_, deadline)| **deadline <= now).map(|(id, _)| *id).take(EXPIRED_MAX).collect()
    }

    /// What a new leader should know of long leases: those of which a part is over.
    pub fn checkpoints(&self, leases: &[(i64, i64, i64)], now: Instant) -> Vec<Remaining> {
        let deadlines = self.deadlines.lock();
        let note = |(id, ttl, noted): &(i64, i64, i64)| {
            let left = deadlines.get(id)?.saturating_duration_since(now);
            // Rounded up: never early.
            let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX).saturating_add(1).min(*ttl);
            let long = *ttl > i64::try_from(CHECKPOINT_INTERVAL.as_secs()).unwrap_or(i64::MAX);
            (long && seconds < *noted && !left.is_zero()).then_some(Remaining { id: *id, seconds })
        };
        leases.iter().filter_map(note).take(CHECKPOINTS_MAX).collect()
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
    let mut noted = Instant::now();
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = core.stop.cancelled() => return,
        }
        let leading = core.leader().filter(|leader| leader.node_id == core.member_id);
        if leading != term {
            core.lessor.clear();
            term = leading;
            noted = Instant::now();
        }
        if leading.is_none() {
            continue;
        }
        for id in core.lessor.expired(&core.state.leases(), Instant::now()) {
            let core = core.clone();
            tokio::spawn(async move {
                let operation = Operation::LeaseRevoke(pb::LeaseRevokeRequest { id });
                if let Err(error) = super::propose::submit(&core, &Caller::Trusted, operation).await {
                    tracing::debug!(%error, id, "a lease is over but could not be ended yet");
                }
            });
        }
        if noted.elapsed() >= CHECKPOINT_INTERVAL {
            noted = Instant::now();
            note(&core).await;
        }
    }
}

/// Notes in the log what long leases have left.
async fn note(core: &Core) {
    let leases = core.lessor.checkpoints(&core.state.leases(), Instant::now());
    if leases.is_empty() {
        return;
    }
    let operation = Operation::LeaseCheckpoint(LeaseCheckpoint { leases });
    if let Err(error) = super::propose::submit(core, &Caller::Trusted, operation).await {
        tracing::debug!(%error, "what leases have left is not noted yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_begin_when_a_lease_is_seen_and_end_once() {
        let lessor = Lessor::default();
        let now = Instant::now();
        let two = [(1, 5, 5), (2, 60, 60)];
        assert!(lessor.expired(&two, now).is_empty());
        assert_eq!(lessor.expired(&two, now + Duration::from_secs(6)), vec![1]);
        assert!((58..=60).contains(&lessor.time(2, 60, 60, true)));
        lessor.clear();
        assert!(lessor.expired(&[(1, 5, 5)], now + Duration::from_secs(6)).is_empty(), "a new leader begins anew");
    }

    #[test]
    fn a_new_leader_goes_on_where_long_leases_were_noted() {
        let lessor = Lessor::default();
        let now = Instant::now();
        let leases = [(1, 5, 5), (2, 1000, 1000)];
        lessor.expired(&leases, now);
        let noted = lessor.checkpoints(&leases, now + Duration::from_secs(300));
        assert_eq!(noted, [Remaining { id: 2, seconds: 701 }], "short ones begin anew");
        let next = Lessor::default();
        assert!(next.expired(&[(2, 1000, 701)], now).is_empty());
        assert!(next.expired(&[(2, 1000, 701)], now + Duration::from_secs(700)).is_empty(), "never early");
        assert_eq!(next.expired(&[(2, 1000, 701)], now + Duration::from_secs(702)), vec![2]);
        assert!(lessor.checkpoints(&[(2, 1000, 701)], now + Duration::from_secs(300)).is_empty(), "noted already");
    }
}
