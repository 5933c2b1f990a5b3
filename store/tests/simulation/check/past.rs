//! Reads of the past tell what was true then, and only what was compacted is refused.

use std::collections::BTreeMap;

use super::watch::States;
use crate::history::{Entry, Key};

/// What one read of all keys at a revision of the past got; none if it was refused as compacted.
#[derive(Clone, Debug)]
pub struct Look {
    /// The revision that it asked for.
    pub revision: i64,
    /// The keys that it found.
    pub found: Option<BTreeMap<Key, Entry>>,
}

/// What clients did with the past.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// All reads.
    pub looks: Vec<Look>,
    /// The highest revision up to which anyone asked for compaction, answered or not.
    pub compacted: i64,
}

/// Checks all reads against what is known of each revision.
pub fn check(past: &Past, states: &States) -> Result<(), String> {
    for look in &past.looks {
        let revision = look.revision;
        match &look.found {
            None if revision >= past.compacted => {
                return Err(format!("past: revision {revision} was refused, compacted is nothing from {} on", past.compacted));
            }
            None => {}
            Some(found) => match states.get(&revision) {
                Some(Some(state)) if state != found => {
                    return Err(format!("past: a read at revision {revision} found {found:?} where there was {state:?}"));
                }
                _ => {}
            },
        }
    }
    Ok(())
}
