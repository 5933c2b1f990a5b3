//! Whether the leader that consensus names still leads, as far as can be told from here.
//!
//! Consensus keeps a leader until there is another one: a member that is cut off asks for votes before it begins a term,
//! gets none, and forgets nothing. What users are told is stricter. A member that has not heard of its leader for as long as
//! a follower waits before it asks for votes, and a leader that no quorum has answered for as long, know of none.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// When this member heard of its leader last.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Option<Instant>>);

impl Heard {
    /// The leader has sent something that was taken.
    pub fn note(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    /// How long ago that was.
    pub fn silence(&self) -> Option<Duration> {
        self.0.lock().map(|last| last.elapsed())
    }
}

/// Longest silence of a leader: a lease, and the longest that a follower waits after it before it asks for votes.
pub fn patience(election: (Duration, Duration)) -> Duration {
    election.1 * 2
}

/// The leader that users are told. It was learned of `since`; `silence` is how long ago it was heard of, or heard of by a
/// quorum where this member leads. Pure.
pub fn known(leader: Option<u64>, since: Duration, silence: Option<Duration>, patience: Duration) -> Option<u64> {
    leader.filter(|_| silence.map_or(since, |silence| silence.min(since)) <= patience)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_is_silent_for_too_long_is_none() {
        let milliseconds = Duration::from_millis;
        let patience = patience((milliseconds(150), milliseconds(300)));
        let known = |since: u64, silence: Option<u64>| known(Some(7), milliseconds(since), silence.map(milliseconds), patience);
        assert_eq!(known(5_000, Some(50)), Some(7));
        assert_eq!(known(5_000, Some(601)), None);
        assert_eq!(known(10, Some(9_000)), Some(7), "a new one has the time to say something");
        assert_eq!((known(600, None), known(601, None)), (Some(7), None));
        assert_eq!(super::known(None, milliseconds(0), None, patience), None);
    }
}
