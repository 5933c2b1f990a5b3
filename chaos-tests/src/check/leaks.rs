//! What a workload needed is gone after it: processes, mounts, interfaces, routes, rules, control groups.

use std::collections::BTreeMap;

/// What nodes have: a count for each node and kind of thing.
pub type Footprint = BTreeMap<(String, &'static str), usize>;

/// What there is more of than before.
#[must_use]
pub fn left(before: &Footprint, after: &Footprint) -> Vec<String> {
    let more = after.iter().filter_map(|(key, count)| {
        let was = before.get(key).copied().unwrap_or(0);
        (*count > was).then(|| format!("{} has {count} {}, it had {was}", key.0, key.1))
    });
    more.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_is_left_is_found() {
        let footprint = |mounts| Footprint::from([(("agent-1".into(), "mounts"), mounts), (("agent-1".into(), "processes"), 3)]);
        assert_eq!(left(&footprint(10), &footprint(10)), [""; 0]);
        assert_eq!(left(&footprint(10), &footprint(9)), [""; 0]);
        assert_eq!(left(&footprint(10), &footprint(11)), ["agent-1 has 11 mounts, it had 10"]);
        assert_eq!(left(&Footprint::new(), &footprint(1)).len(), 2);
    }
}
