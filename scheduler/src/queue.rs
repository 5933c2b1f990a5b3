//! Pods that wait: the most important first, then who has waited longest. Time is an argument.
//!
//! A pod is active, backing off after a failure, unschedulable until news come that may help, gated until its gates
//! are gone, or in flight while it is decided on and bound. Invariant: a pod is in exactly one of these places.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    hints::{self, Event},
    metrics,
    model::Pod,
};

/// First and longest wait after a failure.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// After this time a pod is tried again even without news.
const UNSCHEDULABLE_FOR: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    BackingOff,
    Unschedulable,
    Gated,
    InFlight,
}

struct Entry {
    pod: Arc<Pod>,
    place: Place,
    /// Which of its places in the heaps is true.
    ticket: u64,
    since: Instant,
    first: Instant,
    attempts: u32,
    backs_off_until: Instant,
    plugins: BTreeSet<&'static str>,
}

type Turn = (i64, Reverse<Instant>, Reverse<u64>);

/// The queue.
#[derive(Default)]
pub struct Queue {
    entries: HashMap<String, Entry>,
    active: BinaryHeap<(Turn, String)>,
    backing_off: BinaryHeap<Reverse<(Instant, u64, String)>>,
    tickets: u64,
    /// Pods that wait for news: the only ones that an event is weighed for.
    unschedulable: HashSet<String>,
}

/// A pod whose turn it is.
pub struct Next {
    /// The pod.
    pub pod: Arc<Pod>,
    /// When it came first.
    pub first: Instant,
    /// How often it was tried, this time included.
    pub attempts: u32,
}

impl Queue {
    fn put(&mut self, uid: &str, place: Place, now: Instant) {
        self.tickets += 1;
        let ticket = self.tickets;
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.place = place;
        entry.ticket = ticket;
        entry.since = now;
        if place == Place::Unschedulable {
            self.unschedulable.insert(uid.to_owned());
        } else {
            self.unschedulable.remove(uid);
        }
        match place {
            Place::Active => {
                self.active.push(((entry.pod.spec.priority, Reverse(now), Reverse(ticket)), uid.to_owned()));
            }
            Place::BackingOff => self.backing_off.push(Reverse((entry.backs_off_until, ticket, uid.to_owned()))),
            Place::Unschedulable | Place::Gated | Place::InFlight => {}
        }
    }

    /// Active, or first backing off, whichever is due.
    fn wake(&mut self, uid: &str, now: Instant, event: &'static str) {
        let Some(entry) = self.entries.get(uid) else { return };
        let place = if entry.backs_off_until > now { Place::BackingOff } else { Place::Active };
        metrics::count_incoming(if place == Place::Active { "active" } else { "backoff" }, event);
        self.put(uid, place, now);
    }

    /// A pod that waits, as it is now.
    pub fn set(&mut self, pod: &Arc<Pod>, now: Instant) {
        let uid = pod.metadata.uid.clone();
        let Some(entry) = self.entries.get_mut(&uid) else {
            let entry = Entry {
                pod: Arc::clone(pod),
                place: Place::Gated,
                ticket: 0,
                since: now,
                first: now,
                attempts: 0,
                backs_off_until: now,
                plugins: BTreeSet::new(),
            };
            self.entries.insert(uid.clone(), entry);
            if pod.spec.gated {
                metrics::count_incoming("gated", "UnscheduledPodAdd");
                self.put(&uid, Place::Gated, now);
            } else {
                self.wake(&uid, now, "UnscheduledPodAdd");
            }
            return;
        };
        let before = std::mem::replace(&mut entry.pod, Arc::clone(pod));
        let changed = before.shape != pod.shape || before.spec.gated != pod.spec.gated;
        match entry.place {
            Place::InFlight => {}
            _ if pod.spec.gated => self.put(&uid, Place::Gated, now),
            Place::Gated => self.wake(&uid, now, "UnscheduledPodUpdate"),
            Place::Unschedulable if changed => self.wake(&uid, now, "UnscheduledPodUpdate"),
            Place::Active if before.spec.priority != pod.spec.priority => self.put(&uid, Place::Active, now),
            Place::Active | Place::BackingOff | Place::Unschedulable => {}
        }
    }

    /// A pod that waits no more.
    pub fn remove(&mut self, uid: &str) {
        self.entries.remove(uid);
        self.unschedulable.remove(uid);
    }

    /// Whether a pod is being decided on or bound.
    #[must_use]
    pub fn is_in_flight(&self, uid: &str) -> bool {
        self.entries.get(uid).is_some_and(|entry| entry.place == Place::InFlight)
    }

    /// The pod whose turn it is.
    pub fn pop(&mut self, now: Instant) -> Option<Next> {
        self.end_back_offs(now);
        while let Some(((_, _, Reverse(ticket)), uid)) = self.active.pop() {
            let Some(entry) = self.entries.get_mut(&uid).filter(|entry| entry.ticket == ticket) else { continue };
            entry.attempts += 1;
            let next = Next { pod: Arc::clone(&entry.pod), first: entry.first, attempts: entry.attempts };
            self.put(&uid, Place::InFlight, now);
            return Some(next);
        }
        None
    }

    fn end_back_offs(&mut self, now: Instant) {
        while let Some(Reverse((until, ticket, uid))) = self.backing_off.peek().cloned() {
            if until > now {
                return;
            }
            self.backing_off.pop();
            if self.entries.get(&uid).is_some_and(|entry| entry.ticket == ticket) {
                metrics::count_incoming("active", "BackoffComplete");
                self.put(&uid, Place::Active, now);
            }
        }
    }

    fn back_off(&mut self, uid: &str, now: Instant) {
        if let Some(entry) = self.entries.get_mut(uid) {
            let doublings = entry.attempts.saturating_sub(1).min(8);
            entry.backs_off_until = now + (BACK_OFF.0 * 2_u32.pow(doublings)).min(BACK_OFF.1);
        }
    }

    /// A pod that these plugins refused.
    pub fn refused(&mut self, uid: &str, plugins: BTreeSet<&'static str>, now: Instant) {
        self.back_off(uid, now);
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.plugins = plugins;
        }
        metrics::count_incoming("unschedulable", "ScheduleAttemptFailure");
        self.put(uid, Place::Unschedulable, now);
    }

    /// A pod whose binding failed.
    pub fn failed(&mut self, uid: &str, now: Instant) {
        self.back_off(uid, now);
        metrics::count_incoming("backoff", "ScheduleAttemptFailure");
        self.put(uid, Place::BackingOff, now);
    }

    /// Wakes the pods that an event may help.
    pub fn event(&mut self, event: &Event, now: Instant) {
        let helped = |entry: &Entry| hints::helps(event, &entry.pod, entry.plugins.iter());
        self.wake_all(helped, now, event.name());
    }

    /// Wakes the pods that have waited for news for too long.
    pub fn tire(&mut self, now: Instant) {
        let tired = |entry: &Entry| now >= entry.since + UNSCHEDULABLE_FOR;
        self.wake_all(tired, now, "UnschedulableTimeout");
    }

    fn wake_all(&mut self, which: impl Fn(&Entry) -> bool, now: Instant, event: &'static str) {
        let waiting = self.unschedulable.iter().filter(|uid| self.entries.get(*uid).is_some_and(&which));
        let mut woken: Vec<String> = waiting.cloned().collect();
        woken.sort_by_key(|uid| self.entries.get(uid).map(|entry| entry.first));
        woken.iter().for_each(|uid| self.wake(uid, now, event));
    }

    /// When a back-off ends next.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.backing_off.peek().map(|Reverse((until, _, _))| *until)
    }

    /// Number of pods that are active, backing off, unschedulable and gated.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, i64); 4] {
        let count = |place| {
            let number = self.entries.values().filter(|entry| entry.place == place).count();
            i64::try_from(number).unwrap_or(i64::MAX)
        };
        [
            ("active", count(Place::Active)),
            ("backoff", count(Place::BackingOff)),
            ("unschedulable", count(Place::Unschedulable)),
            ("gated", count(Place::Gated)),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::{
        cycle::tests::{node, pod},
        plugins::node_resources_fit,
    };

    fn names(queue: &mut Queue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| queue.pop(now)).map(|next| next.pod.metadata.name.clone()).collect()
    }

    #[test]
    fn the_most_important_come_first_then_the_oldest() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (name, priority) in [("a", 0), ("b", 10), ("c", 0), ("d", 10)] {
            queue.set(&pod(name, json!({}), json!({"priority": priority})), now);
        }
        assert_eq!(names(&mut queue, now), ["b", "d", "a", "c"]);
    }

    #[test]
    fn a_refused_pod_waits_for_news_and_backs_off() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let waiting = pod("a", json!({"cpu": "1"}), json!({}));
        queue.set(&waiting, now);
        assert!(queue.pop(now).is_some());
        queue.refused("a", BTreeSet::from([node_resources_fit::NAME]), now);
        queue.event(&Event::Storage, now);
        assert_eq!(queue.counts()[2], ("unschedulable", 1));
        queue.event(&Event::Node(node("n", json!({"cpu": "4"}), json!({}))), now);
        assert!(queue.pop(now).is_none(), "it backs off first");
        let due = queue.due().unwrap();
        assert_eq!(due, now + Duration::from_secs(1));
        assert_eq!(queue.pop(due).unwrap().attempts, 2);
        queue.failed("a", due);
        assert_eq!(queue.due().unwrap(), due + Duration::from_secs(2));
        queue.remove("a");
        assert!(queue.pop(due + Duration::from_secs(60)).is_none());
    }

    #[test]
    fn gates_hold_a_pod_and_time_wakes_one() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.set(&pod("a", json!({}), json!({"schedulingGates": [{"name": "x/y"}]})), now);
        assert!(queue.pop(now).is_none());
        queue.set(&pod("a", json!({}), json!({})), now);
        assert!(queue.pop(now).is_some());
        queue.refused("a", BTreeSet::new(), now);
        queue.tire(now + Duration::from_secs(299));
        assert!(queue.pop(now + Duration::from_secs(299)).is_none());
        queue.tire(now + Duration::from_secs(300));
        assert!(queue.pop(now + Duration::from_secs(300)).is_some());
    }
}
