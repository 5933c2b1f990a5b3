//! The store as a user imagines it: one copy, one request after the other.

use std::collections::BTreeMap;

use crate::history::{Answer, Call, Entry, Key, Outcome, Step};

/// All keys, and the revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Model {
    /// The last revision.
    pub revision: i64,
    /// The keys that are there.
    pub entries: BTreeMap<Key, Entry>,
}

impl Default for Model {
    fn default() -> Self {
        // Like a new etcd, an empty store is at revision 1.
        Self { revision: 1, entries: BTreeMap::new() }
    }
}

impl Model {
    /// Does what is asked, at one revision.
    pub fn run(&mut self, call: &Call) -> Answer {
        let modified = |key: &Key| self.entries.get(key).map_or(0, |entry| entry.modified);
        let succeeded = call.compares.iter().all(|(key, revision)| modified(key) == *revision);
        let steps = if succeeded { &call.success } else { &call.failure };
        let next = self.revision + 1;
        let mut changed = false;
        let outcomes = steps.iter().map(|step| self.step(step, next, &mut changed)).collect();
        self.revision += i64::from(changed);
        Answer { revision: self.revision, succeeded, outcomes }
    }

    fn step(&mut self, step: &Step, next: i64, changed: &mut bool) -> Outcome {
        match step {
            Step::Put(key, value) => {
                *changed = true;
                let fresh = Entry { value: *value, created: next, modified: next, version: 1 };
                let renew = |entry: &mut Entry| *entry = Entry { created: entry.created, version: entry.version + 1, ..fresh };
                self.entries.entry(*key).and_modify(renew).or_insert(fresh);
                Outcome::Put
            }
            Step::Delete(key) => {
                let removed = self.entries.remove(key).is_some();
                *changed |= removed;
                Outcome::Deleted(i64::from(removed))
            }
            Step::Get(key) => Outcome::Got(self.entries.get(key).copied()),
        }
    }
}
