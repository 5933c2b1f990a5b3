//! History that goes by itself: etcd's automatic compaction, on the leader.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::kontiki::store::v1::proposal::Operation;
use tokio::time::Instant;

use super::core::Core;
use super::options::AutoCompaction;
use super::propose;
use crate::auth::Caller;

/// How often the number of revisions is looked at: etcd's interval.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Revisions are noted this often within a period.
const NOTES: u32 = 10;

/// Which revisions there were when.
#[derive(Debug, Default)]
struct Notes {
    seen: VecDeque<(Instant, i64)>,
}

impl Notes {
    /// Notes the revision of now; returns the one up to which everything is older than the period.
    fn note(&mut self, now: Instant, revision: i64, period: Duration) -> Option<i64> {
        self.seen.push_back((now, revision));
        let mut old = None;
        while let Some((then, seen)) = self.seen.front()
            && now.saturating_duration_since(*then) >= period
        {
            old = Some(*seen);
            self.seen.pop_front();
        }
        old
    }
}

/// How long between two looks.
fn interval(mode: AutoCompaction) -> Duration {
    match mode {
        // An hour at most, as etcd does.
        AutoCompaction::Periodic(period) => (period.min(Duration::from_secs(3600)) / NOTES).max(Duration::from_millis(10)),
        AutoCompaction::Revision(_) => REVISION_INTERVAL,
    }
}

/// Compacts while this member leads.
pub async fn run(core: Arc<Core>, mode: AutoCompaction) {
    let mut interval = tokio::time::interval(interval(mode));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut notes = Notes::default();
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = core.stop.cancelled() => return,
        }
        let current = core.state.current_revision();
        let upto = match mode {
            AutoCompaction::Periodic(period) => notes.note(Instant::now(), current, period),
            AutoCompaction::Revision(keep) => current.checked_sub(keep),
        };
        let Some(revision) = upto.filter(|upto| core.leads() && *upto > core.state.compacted()) else { continue };
        let operation = Operation::Compact(pb::CompactionRequest { revision, physical: false });
        match propose::submit(&core, &Caller::Trusted, operation).await.and_then(|decided| decided.result.map(drop)) {
            Ok(()) => tracing::info!(revision, "completed auto compaction"),
            Err(error) => tracing::warn!(%error, revision, "failed auto compaction"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_period_goes() {
        let mut notes = Notes::default();
        let begin = Instant::now();
        let period = Duration::from_secs(100);
        let mut at = |second: u64, revision| notes.note(begin + Duration::from_secs(second), revision, period);
        assert_eq!(at(0, 10), None);
        assert_eq!(at(50, 20), None);
        assert_eq!(at(100, 30), Some(10));
        assert_eq!(at(149, 40), None);
        assert_eq!(at(260, 50), Some(40));
    }

    #[test]
    fn short_periods_are_looked_at_often() {
        assert_eq!(interval(AutoCompaction::Periodic(Duration::from_secs(10))), Duration::from_secs(1));
        assert_eq!(interval(AutoCompaction::Periodic(Duration::from_secs(36_000))), Duration::from_secs(360));
        assert_eq!(interval(AutoCompaction::Revision(5)), REVISION_INTERVAL);
    }
}
