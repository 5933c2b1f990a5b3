//! etcd's guarantees for watches: ordered, unique, atomic, reliable, resumable, bookmarkable, and the
//! right previous values.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::history::{Entry, Key};

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Key,
    /// What it is now; none if it was removed.
    pub entry: Option<Entry>,
    /// The revision.
    pub revision: i64,
    /// What it was before.
    pub previous: Option<Entry>,
}

/// One message to a watcher.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// When it came, by the clock of the world.
    pub at_ms: u64,
    /// The revision that it speaks for: everything up to it has been told.
    pub revision: i64,
    /// Events; none is a bookmark.
    pub events: Vec<Event>,
    /// The watch ended because what it asked for was compacted, up to this revision.
    pub compacted: bool,
}

/// What one watcher of all keys was told, since a revision.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// Who it was.
    pub name: String,
    /// The first revision that it asked for.
    pub from: i64,
    /// All messages, over however many connections, members and restarts.
    pub messages: Vec<Message>,
}

/// All events of a history, revision by revision.
pub type Truth = BTreeMap<i64, Vec<Event>>;

/// What a watcher says happened.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Events.
    pub events: Truth,
    /// Revisions that it was never told of because they were compacted.
    pub lost: Vec<RangeInclusive<i64>>,
}

impl Told {
    fn has_lost(&self, revision: i64) -> bool {
        self.lost.iter().any(|lost| lost.contains(&revision))
    }
}

/// All keys at each revision; none where what was there before is not known.
pub type States = BTreeMap<i64, Option<BTreeMap<Key, Entry>>>;

/// Checks one watcher by itself; returns what it says happened.
pub fn check(watched: &Watched) -> Result<Told, String> {
    let wrong = |what: &str, at: i64| Err(format!("watch: {} {what} at revision {at}", watched.name));
    let mut result = Told::default();
    let mut last = watched.from - 1;
    let mut told = watched.from - 1;
    for message in &watched.messages {
        if message.compacted {
            if message.revision <= told {
                return wrong("was refused what was not compacted", told + 1);
            }
            result.lost.push(told + 1..=message.revision);
            last = last.max(message.revision);
        }
        for event in &message.events {
            if event.revision <= told {
                return wrong("was told of something that a bookmark or message before it covered", event.revision);
            }
            if event.revision < last {
                return wrong("was told out of order", event.revision);
            }
            last = event.revision;
            let same: &mut Vec<Event> = result.events.entry(event.revision).or_default();
            if same.iter().any(|known| known.key == event.key) {
                return wrong("was told twice", event.revision);
            }
            same.push(event.clone());
        }
        if message.revision < last {
            return wrong("got a message that speaks for less than it holds", message.revision);
        }
        told = told.max(message.revision);
    }
    Ok(result)
}

/// What all watchers together say; of two who differ in nothing but a previous value that one lacks, the other.
pub fn merge(told: &[Told]) -> Truth {
    let known = |events: &[Event]| events.iter().filter(|event| event.previous.is_some()).count();
    let mut truth = Truth::new();
    for (revision, events) in told.iter().flat_map(|told| &told.events) {
        let merged: &mut Vec<Event> = truth.entry(*revision).or_default();
        if merged.is_empty() || known(merged) < known(events) {
            merged.clone_from(events);
        }
    }
    truth
}

/// Whether two say the same. A previous value that was compacted may be missing.
fn agree(one: &[Event], truth: &[Event], compacted: i64) -> bool {
    let same = |(one, truth): (&Event, &Event)| {
        let without = one.previous.is_none() && one.revision <= compacted;
        one == truth || without && *one == Event { previous: None, ..truth.clone() }
    };
    one.len() == truth.len() && one.iter().zip(truth).all(same)
}

/// Checks that a watcher was told everything that is true up to where it came, and nothing else.
/// `compacted`: the highest revision up to which compaction was ever asked for.
pub fn check_against(watched: &Watched, told: &Told, truth: &Truth, compacted: i64) -> Result<(), String> {
    let upto = watched.messages.iter().map(|message| message.revision).max().unwrap_or(0);
    for (revision, events) in truth.range(watched.from..=upto.max(watched.from)).filter(|(revision, _)| **revision <= upto) {
        match told.events.get(revision) {
            None if told.has_lost(*revision) => {}
            None => return Err(format!("watch: {} missed revision {revision}: {events:?}", watched.name)),
            Some(known) if !agree(known, events, compacted) => {
                return Err(format!("watch: {} was told of {known:?} where there is {events:?}", watched.name));
            }
            Some(_) => {}
        }
    }
    match told.events.keys().find(|revision| !truth.contains_key(revision)) {
        Some(revision) => Err(format!("watch: {} was told of revision {revision}, which nobody else knows", watched.name)),
        None => Ok(()),
    }
}

/// Replays a whole history from its beginning: no revision is skipped but those that every watcher lost to compaction, and
/// each previous value is right. Returns what was there at each revision.
pub fn check_history(truth: &Truth, told: &[Told], compacted: i64) -> Result<States, String> {
    let mut entries: BTreeMap<Key, Entry> = BTreeMap::new();
    let mut states = States::from([(1, Some(entries.clone()))]);
    // After a gap, only of these keys is known what they are.
    let mut known: Option<BTreeSet<Key>> = None;
    let mut expected = 2;
    for (revision, events) in truth {
        if let Some(missing) = (expected..*revision).find(|missing| !told.iter().all(|told| told.has_lost(*missing))) {
            return Err(format!("watch: revision {missing} is missing from history"));
        }
        if *revision > expected {
            known = Some(BTreeSet::new());
        }
        expected = revision + 1;
        for event in events {
            let judged = known.as_ref().is_none_or(|known| known.contains(&event.key));
            let before = entries.get(&event.key);
            let without = event.previous.is_none() && *revision <= compacted;
            if judged && !without && before != event.previous.as_ref() {
                return Err(format!("watch: at revision {revision} the previous value should be {before:?}: {event:?}"));
            }
            if let Some(known) = &mut known {
                known.insert(event.key);
            }
            match event.entry {
                Some(entry) => drop(entries.insert(event.key, entry)),
                None => drop(entries.remove(&event.key)),
            }
        }
        states.insert(*revision, known.is_none().then(|| entries.clone()));
    }
    Ok(states)
}
