//! When what goes wrong where: pure, from a scenario, a cluster's nodes and a seed.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::{
    faults::{Fault, Where},
    list::Scenario,
};
use crate::cluster::Records;

/// Shortest and longest calm before a fault, in milliseconds.
const CALM_MS: std::ops::Range<u64> = 500..2_500;

/// One fault at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Calm before it.
    pub calm: Duration,
    /// What.
    pub fault: Fault,
    /// On which node; empty for the cluster.
    pub node: String,
    /// For what is random within the fault.
    pub seed: u64,
}

fn places(at: Where, records: &Records, luck: &mut StdRng) -> Vec<String> {
    let one = |mut nodes: Vec<String>, luck: &mut StdRng| {
        let chosen = if nodes.is_empty() { 0 } else { luck.random_range(0..nodes.len()) };
        nodes.drain(..).skip(chosen).take(1).collect()
    };
    match at {
        Where::Servers => records.servers(),
        Where::Agents => records.agents(),
        Where::AServer => one(records.servers(), luck),
        Where::AnAgent => one(records.agents(), luck),
        Where::Cluster => vec![String::new()],
    }
}

/// The steps of a scenario.
#[must_use]
pub fn schedule(scenario: &Scenario, records: &Records, seed: u64) -> Vec<Step> {
    let mut luck = StdRng::seed_from_u64(seed);
    let mut steps = Vec::new();
    for _ in 0..scenario.rounds {
        let mut round: Vec<(Fault, String)> = Vec::new();
        for (fault, at) in scenario.faults {
            round.extend(places(*at, records, &mut luck).into_iter().map(|node| (*fault, node)));
        }
        round.shuffle(&mut luck);
        for (fault, node) in round {
            let calm = Duration::from_millis(luck.random_range(CALM_MS));
            steps.push(Step { calm, fault, node, seed: luck.random() });
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::Size, scenario::list::LONG};

    #[test]
    fn a_seed_replays_a_schedule_and_every_node_has_its_turn() {
        let records = Records { name: "x".into(), root: "/x".into(), size: Size { servers: 3, agents: 2 } };
        for scenario in LONG {
            let steps = schedule(&scenario, &records, 7);
            assert_eq!(steps, schedule(&scenario, &records, 7));
            let count = |at: &Where| match at {
                Where::Servers => 3,
                Where::Agents => 2,
                _ => 1,
            };
            let wanted: usize = scenario.faults.iter().map(|(_, at)| count(at)).sum();
            assert_eq!(steps.len(), wanted * scenario.rounds, "{}", scenario.name);
            assert!(steps.iter().all(|step| step.node.is_empty() || records.nodes().contains(&step.node)));
        }
        assert_ne!(schedule(&LONG[0], &records, 7), schedule(&LONG[0], &records, 8));
    }
}
