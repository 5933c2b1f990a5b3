//! What was used between two readings. Pure.

use std::collections::{BTreeMap, HashMap};

use super::readings::{Counters, Reading};

/// What something used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Billionths of a processor.
    pub cpu_nanocores: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// Usage at a time, over a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured<T> {
    /// End of the span, in milliseconds since the epoch.
    pub at: i64,
    /// Its length.
    pub window_ms: i64,
    /// The usage.
    pub usage: T,
}

/// Containers of a pod by name.
pub type Containers = BTreeMap<String, Usage>;

/// What a node and its pods used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeUsage {
    /// The node; `None` before two readings told of it.
    pub node: Option<Measured<Usage>>,
    /// Its pods, by namespace and name.
    pub pods: HashMap<(String, String), Measured<Containers>>,
}

/// The usage between an older reading and a newer one. A container that began in between counts from its start.
#[must_use]
pub fn between(older: &Reading, newer: &Reading) -> NodeUsage {
    let node = newer.node.as_ref().and_then(|after| of(older.node.as_ref(), after));
    let mut pods: HashMap<(String, String), Measured<Containers>> = HashMap::new();
    for ((namespace, pod, container), after) in &newer.containers {
        let before = older.containers.get(&(namespace.clone(), pod.clone(), container.clone()));
        let Some(measured) = of(before, after) else { continue };
        let entry = pods.entry((namespace.clone(), pod.clone())).or_default();
        // A pod's figures are as old as its oldest container's, and of the longest span.
        entry.at = if entry.at == 0 { measured.at } else { entry.at.min(measured.at) };
        entry.window_ms = entry.window_ms.max(measured.window_ms);
        entry.usage.insert(container.clone(), measured.usage);
    }
    NodeUsage { node, pods }
}

fn of(before: Option<&Counters>, after: &Counters) -> Option<Measured<Usage>> {
    // The counter of one that has begun anew since has begun at zero.
    let same = before.filter(|before| before.started_at == after.started_at && before.cpu_seconds <= after.cpu_seconds);
    let (cpu, since) = match same {
        Some(before) => (before.cpu_seconds, before.at),
        #[allow(clippy::cast_possible_truncation, reason = "milliseconds of this age fit")]
        None if after.started_at > 0.0 => (0.0, (after.started_at * 1e3) as i64),
        None => return None,
    };
    let window_ms = after.at - since;
    if window_ms <= 0 {
        return None;
    }
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "figures are not negative"
    )]
    let usage = Usage {
        cpu_nanocores: ((after.cpu_seconds - cpu) / (window_ms as f64 / 1e3) * 1e9) as u64,
        memory_bytes: after.memory_bytes as u64,
    };
    Some(Measured { at: after.at, window_ms, usage })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(cpu_seconds: f64, started_at: f64, at: i64) -> Counters {
        Counters { cpu_seconds, memory_bytes: 4096.0, started_at, at }
    }

    fn reading(node: Counters, containers: &[(&str, Counters)]) -> Reading {
        let key = |name: &str| ("n".to_owned(), "p".to_owned(), name.to_owned());
        Reading { node: Some(node), containers: containers.iter().map(|(name, one)| (key(name), *one)).collect() }
    }

    #[test]
    fn rates_are_of_the_time_between() {
        let older = reading(counters(10.0, 0.0, 20_000), &[("a", counters(1.0, 5.0, 20_000)), ("b", counters(9.0, 5.0, 20_000))]);
        let newer = reading(
            counters(15.0, 0.0, 30_000),
            // `b` has begun anew at 28 s, `c` for the first time at 25 s, `d` tells no start.
            &[
                ("a", counters(6.0, 5.0, 30_000)),
                ("b", counters(1.0, 28.0, 30_000)),
                ("c", counters(1.0, 25.0, 30_000)),
                ("d", counters(1.0, 0.0, 30_000)),
            ],
        );
        let found = between(&older, &newer);
        let usage = |cpu_nanocores| Usage { cpu_nanocores, memory_bytes: 4096 };
        assert_eq!(found.node, Some(Measured { at: 30_000, window_ms: 10_000, usage: usage(500_000_000) }));
        let pod = &found.pods[&("n".to_owned(), "p".to_owned())];
        assert_eq!((pod.at, pod.window_ms), (30_000, 10_000));
        let wanted = [("a", 500_000_000), ("b", 500_000_000), ("c", 200_000_000)];
        assert_eq!(pod.usage, wanted.into_iter().map(|(name, cpu)| (name.to_owned(), usage(cpu))).collect());
        assert_eq!(between(&newer, &newer).node, None, "no time has passed");
    }
}
