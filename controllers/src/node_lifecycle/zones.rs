//! How fast pods are driven away from nodes that are not ready: slower where much of a zone is, not at all where
//! everything is, for then it is rather the network that is broken. Pure.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::Node;

/// Between two nodes of a zone that works.
const PACE: SignedDuration = SignedDuration::from_secs(10);
/// Between two nodes of a large zone of which much is not ready.
const SLOW_PACE: SignedDuration = SignedDuration::from_secs(100);
/// A zone of more nodes is large.
const LARGE: usize = 50;
/// Part of a zone, in hundredths, from which much of it is not ready.
const MUCH: usize = 55;

/// A node's region and zone.
pub fn zone(node: &Node) -> String {
    let label = |name: &str| node.metadata.label(name).to_owned();
    format!("{}:{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
}

/// How a zone is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Zone {
    nodes: usize,
    unready: usize,
}

impl Zone {
    fn is_lost(self) -> bool {
        self.unready == self.nodes && self.nodes > 0
    }

    /// Least time between two nodes; `None` where none may be emptied.
    fn pace(self) -> Option<SignedDuration> {
        let much = self.unready > 2 && self.unready * 100 >= self.nodes * MUCH;
        match (self.is_lost(), much) {
            (true, _) | (false, false) => Some(PACE),
            (false, true) if self.nodes > LARGE => Some(SLOW_PACE),
            (false, true) => None,
        }
    }
}

/// When nodes were last given up, by zone.
#[derive(Debug, Default)]
pub struct Pacer {
    last: HashMap<String, Timestamp>,
}

impl Pacer {
    /// Whether pods may be driven away from another node of that zone now.
    pub fn permit<'a>(&mut self, node: &Node, all: impl Iterator<Item = &'a Node>, now: Timestamp) -> bool {
        let mut zones: HashMap<String, Zone> = HashMap::new();
        for node in all {
            let entry = zones.entry(zone(node)).or_default();
            entry.nodes += 1;
            entry.unready += usize::from(node.condition("Ready").is_none_or(|ready| ready.status != "True"));
        }
        if zones.values().all(|zone| zone.is_lost()) {
            return false;
        }
        let name = zone(node);
        let Some(pace) = zones.get(&name).copied().unwrap_or_default().pace() else { return false };
        if self.last.get(&name).is_some_and(|last| now.duration_since(*last) < pace) {
            return false;
        }
        self.last.insert(name, now);
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn nodes(zone: &str, ready: usize, unready: usize) -> Vec<Node> {
        let node = |ready: &str| {
            let labels = json!({"topology.kubernetes.io/zone": zone});
            serde_json::from_value(
                json!({"metadata": {"labels": labels}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
            )
            .unwrap()
        };
        let all = std::iter::repeat_n("True", ready).chain(std::iter::repeat_n("Unknown", unready));
        all.map(node).collect()
    }

    #[test]
    fn one_after_another_and_none_when_all_are_gone() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let permit = |pacer: &mut Pacer, nodes: &[Node], second| pacer.permit(nodes.last().unwrap(), nodes.iter(), at(second));
        let mut pacer = Pacer::default();
        let some = nodes("a", 3, 2);
        assert!(permit(&mut pacer, &some, 0) && !permit(&mut pacer, &some, 9) && permit(&mut pacer, &some, 10));
        assert!(!permit(&mut Pacer::default(), &nodes("a", 0, 1), 0), "everything is not ready");
        assert!(!permit(&mut Pacer::default(), &nodes("a", 2, 3), 0), "much of a small zone");
        let large = nodes("a", 20, 40);
        let mut pacer = Pacer::default();
        assert!(permit(&mut pacer, &large, 0) && !permit(&mut pacer, &large, 99) && permit(&mut pacer, &large, 100));
        let lost: Vec<_> = nodes("b", 1, 0).into_iter().chain(nodes("a", 0, 3)).collect();
        assert!(permit(&mut Pacer::default(), &lost, 0), "another zone works");
    }
}
