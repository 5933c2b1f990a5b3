//! etcd's guarantees for watches: ordered, unique, atomic, reliable, resumable, bookmarkable, and the
//! right previous values.

use std::collections::BTreeMap;

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

/// Checks one watcher by itself; returns what it says happened.
pub fn check(watched: &Watched) -> Result<Truth, String> {
    let wrong = |what: &str, at: i64| Err(format!("watch: {} {what} at revision {at}", watched.name));
    let mut truth = Truth::new();
    let mut last = watched.from - 1;
    let mut told = watched.from - 1;
    for message in &watched.messages {
        for event in &message.events {
            if event.revision <= told {
                return wrong("was told of something that a bookmark or message before it covered", event.revision);
            }
            if event.revision < last {
                return wrong("was told out of order", event.revision);
            }
            last = event.revision;
            let same: &mut Vec<Event> = truth.entry(event.revision).or_default();
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
    Ok(truth)
}

/// Checks that a watcher was told everything that is true up to where it came, and nothing else.
pub fn check_against(watched: &Watched, told: &Truth, truth: &Truth) -> Result<(), String> {
    let upto = watched.messages.iter().map(|message| message.revision).max().unwrap_or(0);
    for (revision, events) in truth.range(watched.from..=upto.max(watched.from)).filter(|(revision, _)| **revision <= upto) {
        match told.get(revision) {
            None => return Err(format!("watch: {} missed revision {revision}: {events:?}", watched.name)),
            Some(known) if known != events => {
                return Err(format!("watch: {} was told of {known:?} where there is {events:?}", watched.name));
            }
            Some(_) => {}
        }
    }
    match told.keys().find(|revision| !truth.contains_key(revision)) {
        Some(revision) => Err(format!("watch: {} was told of revision {revision}, which nobody else knows", watched.name)),
        None => Ok(()),
    }
}

/// Replays a whole history from its beginning: no revision is skipped, and each previous value is right.
pub fn check_history(truth: &Truth) -> Result<(), String> {
    let mut entries: BTreeMap<Key, Entry> = BTreeMap::new();
    for (expected, (revision, events)) in (2..).zip(truth) {
        if *revision != expected {
            return Err(format!("watch: revision {expected} is missing from history"));
        }
        for event in events {
            if entries.get(&event.key) != event.previous.as_ref() {
                let before = entries.get(&event.key);
                return Err(format!("watch: at revision {revision} the previous value should be {before:?}: {event:?}"));
            }
            match event.entry {
                Some(entry) => drop(entries.insert(event.key, entry)),
                None => drop(entries.remove(&event.key)),
            }
        }
    }
    Ok(())
}
