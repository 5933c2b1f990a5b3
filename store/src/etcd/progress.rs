//! How far the watches of one stream have come, and when that may be told to all of them at once.
//!
//! In come positions, as events and notifications enter the stream; out comes the revision that answers a
//! client's request for progress, or nothing yet.
//! Invariant: what is told lies before nothing that any watch of the stream was told already, and after
//! everything that any of them has still to hear.

use std::collections::BTreeMap;

/// How far one watch has come.
#[derive(Debug)]
struct Reach {
    /// Everything up to this revision has entered the stream.
    position: i64,
    /// The last revision that the watch was told, by an event or by a notification.
    told: i64,
}

/// How far the watches of one stream have come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    watches: BTreeMap<i64, Reach>,
    /// The store's revision when the client asked, while it waits for an answer.
    asked: Option<i64>,
}

impl Progress {
    /// A watch begins that has nothing to hear up to `position`.
    pub(super) fn begin(&mut self, id: i64, position: i64) {
        self.watches.insert(id, Reach { position, told: 0 });
    }

    /// A watch has ended.
    pub(super) fn end(&mut self, id: i64) {
        self.watches.remove(&id);
    }

    /// A watch is about to hear of revisions up to this one.
    pub(super) fn tell(&mut self, id: i64, revision: i64) {
        if let Some(reach) = self.watches.get_mut(&id) {
            reach.told = reach.told.max(revision);
        }
    }

    /// A watch has nothing more to hear up to this revision.
    pub(super) fn reach(&mut self, id: i64, revision: i64) {
        if let Some(reach) = self.watches.get_mut(&id) {
            reach.position = reach.position.max(revision);
        }
    }

    /// The client asks how far all of its watches have come, and means what is there now: `current`.
    pub(super) fn ask(&mut self, current: i64) {
        self.asked.get_or_insert(current);
    }

    /// Whether the client waits for an answer.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// The answer, once there is one. `current` is the store's revision: a watch that begins later has nothing to
    /// hear until then.
    pub(super) fn answer(&mut self, current: i64) -> Option<i64> {
        let asked = self.asked?;
        let slowest = self.watches.values().map(|reach| reach.position).min().map_or(current, |slowest| slowest.min(current));
        let told = self.watches.values().map(|reach| reach.told).max().unwrap_or_default();
        if slowest < told.max(asked) {
            return None;
        }
        self.asked = None;
        for reach in self.watches.values_mut() {
            reach.told = reach.told.max(slowest);
        }
        Some(slowest)
    }
}

#[cfg(test)]
mod tests {
    use super::Progress;

    fn asked(current: i64) -> Progress {
        let mut progress = Progress::default();
        progress.ask(current);
        progress
    }

    #[test]
    fn progress_is_that_of_the_slowest_watch() {
        let mut progress = asked(20);
        progress.begin(1, 10);
        progress.begin(2, 30);
        assert_eq!(progress.answer(30), None, "one watch has still to hear of what was there when the client asked");
        progress.reach(1, 25);
        assert_eq!(progress.answer(30), Some(25));
        assert_eq!(progress.answer(30), None, "one answer to one request");
    }

    #[test]
    fn progress_never_lies_before_an_event_already_sent() {
        let mut progress = asked(10);
        progress.begin(1, 10);
        progress.begin(2, 10);
        progress.tell(1, 12);
        progress.reach(1, 12);
        assert_eq!(progress.answer(12), None, "the second watch may still have something to hear of 11 and 12");
        progress.reach(2, 12);
        assert_eq!(progress.answer(12), Some(12), "and is answered when it has caught up");
    }

    #[test]
    fn a_watch_that_begins_in_the_past_does_not_turn_progress_back() {
        let mut progress = asked(50);
        progress.begin(1, 50);
        assert_eq!(progress.answer(50), Some(50));
        progress.begin(2, 5);
        progress.ask(50);
        assert_eq!(progress.answer(50), None);
        progress.end(2);
        assert_eq!(progress.answer(50), Some(50));
    }

    #[test]
    fn progress_waits_for_the_rest_of_a_response_in_parts() {
        let mut progress = asked(7);
        progress.begin(1, 7);
        progress.tell(1, 9);
        assert_eq!(progress.answer(9), None);
        progress.reach(1, 9);
        assert_eq!(progress.answer(9), Some(9));
    }

    #[test]
    fn a_watch_of_the_future_holds_nothing_up() {
        let mut progress = asked(50);
        progress.begin(1, 99);
        assert_eq!(progress.answer(50), Some(50));
    }
}
