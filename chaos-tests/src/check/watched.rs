//! A watch tells each change once, in order, and leaves none out.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::Event;

/// Events out of order or repeated, and watches that had to begin anew.
#[must_use]
pub fn disorder(events: &[Event]) -> Vec<String> {
    let mut findings: Vec<String> = events
        .windows(2)
        .filter(|pair| pair[1].change != "ERROR" && pair[0].version >= pair[1].version)
        .map(|pair| format!("{} at {} was told after {}", pair[1].name, pair[1].version, pair[0].version))
        .collect();
    findings
        .extend(events.iter().filter(|event| event.change == "ERROR").map(|event| format!("a watch failed: {}", event.object)));
    findings
}

/// Objects that are there at a version no event told of, and creations told of twice.
#[must_use]
pub fn missed(events: &[Event], there: &BTreeMap<String, u64>) -> Vec<String> {
    let told: BTreeSet<(&str, u64)> = events.iter().map(|event| (event.name.as_str(), event.version)).collect();
    let missing = there.iter().filter(|(name, version)| !told.contains(&(name.as_str(), **version)));
    let mut findings: Vec<String> = missing.map(|(name, version)| format!("nobody told of {name} at {version}")).collect();
    let mut added = BTreeSet::new();
    for event in events.iter().filter(|event| event.change == "ADDED") {
        let uid = event.object["metadata"]["uid"].as_str().unwrap_or_default();
        if !added.insert((event.name.as_str(), uid)) {
            findings.push(format!("{} was told as new twice", event.name));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(change: &str, name: &str, version: u64) -> Event {
        Event { change: change.into(), name: name.into(), version, object: json!({"metadata": {"uid": name}}) }
    }

    #[test]
    fn swapped_repeated_and_broken_watches_are_found() {
        let good = [event("ADDED", "a", 1), event("ADDED", "b", 3), event("MODIFIED", "a", 4)];
        assert_eq!(disorder(&good), [""; 0]);
        let [a, b, c] = good;
        assert_eq!(disorder(&[b.clone(), a.clone(), c.clone()]), ["a at 1 was told after 3"]);
        assert_eq!(disorder(&[a.clone(), a.clone(), c.clone()]), ["a at 1 was told after 1"]);
        assert_eq!(disorder(&[a, event("ERROR", "", 0), b, c]).len(), 1);
    }

    #[test]
    fn a_change_that_was_left_out_is_found() {
        let there = BTreeMap::from([("a".into(), 4), ("b".into(), 3)]);
        let events = [event("ADDED", "a", 1), event("ADDED", "b", 3), event("MODIFIED", "a", 4)];
        assert_eq!(missed(&events, &there), [""; 0]);
        assert_eq!(missed(&events[..2], &there), ["nobody told of a at 4"]);
        let twice = [&events[..], &[event("ADDED", "b", 3)]].concat();
        assert_eq!(missed(&twice, &there), ["b was told as new twice"]);
    }
}
