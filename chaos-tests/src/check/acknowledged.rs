//! What was acknowledged is there.

use std::collections::BTreeMap;

use crate::history::Write;

/// Objects that were created and are missing or changed. `there` has the version of each object.
#[must_use]
pub fn lost(created: &[Write], there: &BTreeMap<String, u64>) -> Vec<String> {
    let missing = created.iter().filter(|write| there.get(&write.name) != Some(&write.version));
    missing
        .map(|write| format!("{} was acknowledged at {}, there is {:?}", write.name, write.version, there.get(&write.name)))
        .collect()
}

/// Numbers that were written over and over into the same objects: each must be at least the last acknowledged one.
#[must_use]
pub fn gone_back(updated: &[Write], there: &BTreeMap<String, u64>) -> Vec<String> {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for write in updated {
        let number = last.entry(&write.name).or_default();
        *number = write.number.max(*number);
    }
    let back = last.into_iter().filter(|(name, number)| there.get(*name).is_none_or(|now| now < number));
    back.map(|(name, number)| format!("{name} was acknowledged with {number}, it has {:?}", there.get(name))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn write(name: &str, version: u64, number: u64) -> Write {
        Write { name: name.into(), version, number, at: Duration::ZERO }
    }

    #[test]
    fn a_lost_write_is_found() {
        let created = [write("a", 1, 0), write("b", 2, 0), write("c", 3, 0)];
        let whole = BTreeMap::from([("a".into(), 1), ("b".into(), 2), ("c".into(), 3), ("unanswered".into(), 4)]);
        assert_eq!(lost(&created, &whole), [""; 0]);
        let planted = BTreeMap::from([("a".into(), 1), ("c".into(), 7)]);
        assert_eq!(
            lost(&created, &planted),
            ["b was acknowledged at 2, there is None", "c was acknowledged at 3, there is Some(7)"]
        );
    }

    #[test]
    fn an_update_that_was_undone_is_found() {
        let updated = [write("r", 1, 1), write("r", 2, 2)];
        assert_eq!(gone_back(&updated, &BTreeMap::from([("r".into(), 3)])), [""; 0]);
        assert_eq!(gone_back(&updated, &BTreeMap::from([("r".into(), 1)])), ["r was acknowledged with 2, it has Some(1)"]);
        assert_eq!(gone_back(&updated, &BTreeMap::new()).len(), 1);
    }
}
