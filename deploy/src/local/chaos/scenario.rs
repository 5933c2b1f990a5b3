//! What goes wrong, and when: pure, from a scenario, the shape of a cluster and a seed.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::{
    local::trouble::Action,
    shape::{Role, Shape},
};

/// Shortest and longest calm before a fault, in milliseconds.
const CALM_MS: std::ops::Range<u64> = 1_000..4_000;
/// How long a node stands still.
const PAUSE: Duration = Duration::from_secs(10);
/// How long a node is cut off.
const CUT: Duration = Duration::from_secs(10);
/// How long a node that was stopped in order stays down.
const DOWN: Duration = Duration::from_secs(5);

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Kontiki's own processes die; containers go on.
    Crash,
    /// Its power fails for a moment.
    Kill,
    /// Every process of it stands still for a while.
    Pause,
    /// No packet reaches or leaves it for a while.
    Isolate,
    /// It is stopped in order, and started again after a while.
    Stop,
}

impl Fault {
    /// How it begins.
    #[must_use]
    pub const fn beginning(self) -> Action {
        match self {
            Self::Crash => Action::Crash,
            Self::Kill => Action::Kill,
            Self::Pause => Action::Pause,
            Self::Isolate => Action::Isolate,
            Self::Stop => Action::Stop,
        }
    }

    /// When and how it ends, if it does not end by itself.
    #[must_use]
    pub const fn end(self) -> Option<(Duration, Action)> {
        match self {
            Self::Crash | Self::Kill => None,
            Self::Pause => Some((PAUSE, Action::Resume)),
            Self::Isolate => Some((CUT, Action::Rejoin)),
            Self::Stop => Some((DOWN, Action::Start)),
        }
    }

    /// What a person reads.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Crash => "Kontiki's processes are killed with -9, containers go on",
            Self::Kill => "the power fails",
            Self::Pause => "every process stands still for 10 s",
            Self::Isolate => "cut off from everybody for 10 s",
            Self::Stop => "stopped in order, for 5 s",
        }
    }
}

/// Where a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// One server, as the seed decides.
    AServer,
    /// One agent, as the seed decides.
    AnAgent,
    /// Each server in turn.
    EachServer,
    /// Each agent in turn.
    EachAgent,
    /// All servers at once.
    AllServers,
    /// All nodes at once.
    AllNodes,
}

/// Faults by name.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// What goes wrong where; the seed decides in which order.
    pub faults: &'static [(Fault, Where)],
}

/// All of them.
pub const SCENARIOS: [Scenario; 7] = [
    Scenario {
        name: "short",
        about: "one of each: a crash, a power cut, a pause and a cut network, of a server and of an agent",
        faults: &[
            (Fault::Crash, Where::AServer),
            (Fault::Crash, Where::AnAgent),
            (Fault::Kill, Where::AServer),
            (Fault::Kill, Where::AnAgent),
            (Fault::Pause, Where::AServer),
            (Fault::Isolate, Where::AServer),
            (Fault::Isolate, Where::AnAgent),
        ],
    },
    Scenario {
        name: "crashes",
        about: "the processes of every node are killed, one node after the other: the leader is among them",
        faults: &[(Fault::Crash, Where::EachServer), (Fault::Crash, Where::EachAgent)],
    },
    Scenario {
        name: "power-cuts",
        about: "the power of every node fails, one after the other",
        faults: &[(Fault::Kill, Where::EachServer), (Fault::Kill, Where::EachAgent)],
    },
    Scenario {
        name: "pauses",
        about: "every node stands still for a while, one after the other",
        faults: &[(Fault::Pause, Where::EachServer), (Fault::Pause, Where::EachAgent)],
    },
    Scenario {
        name: "cuts",
        about: "every node is cut off from the network for a while, one after the other",
        faults: &[(Fault::Isolate, Where::EachServer), (Fault::Isolate, Where::EachAgent)],
    },
    Scenario {
        name: "restarts",
        about: "every node is stopped in order and started again, as maintenance does it",
        faults: &[(Fault::Stop, Where::EachServer), (Fault::Stop, Where::EachAgent)],
    },
    Scenario {
        name: "blackout",
        about: "the processes of all servers are killed at once, then the power of all nodes fails at once",
        faults: &[(Fault::Crash, Where::AllServers), (Fault::Kill, Where::AllNodes)],
    },
];

/// One fault at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Calm before it.
    pub calm: Duration,
    /// What.
    pub fault: Fault,
    /// To which nodes, at once.
    pub nodes: Vec<String>,
}

fn places(at: Where, shape: &Shape, luck: &mut StdRng) -> Vec<Vec<String>> {
    let names = |role: Option<Role>| -> Vec<String> {
        let nodes = shape.nodes().into_iter().filter(|node| role.is_none_or(|role| node.role == role));
        nodes.map(|node| node.name).collect()
    };
    let one = |nodes: Vec<String>, luck: &mut StdRng| {
        let chosen = luck.random_range(0..nodes.len().max(1));
        nodes.into_iter().skip(chosen).take(1).map(|node| vec![node]).collect()
    };
    let each = |nodes: Vec<String>| nodes.into_iter().map(|node| vec![node]).collect();
    match at {
        Where::AServer => one(names(Some(Role::Server)), luck),
        Where::AnAgent => one(names(Some(Role::Agent)), luck),
        Where::EachServer => each(names(Some(Role::Server))),
        Where::EachAgent => each(names(Some(Role::Agent))),
        Where::AllServers => vec![names(Some(Role::Server))],
        Where::AllNodes => vec![names(None)],
    }
}

/// The steps of a scenario: the same for the same seed. A fault with no place in this cluster is left out.
#[must_use]
pub fn schedule(scenario: &Scenario, shape: &Shape, seed: u64) -> Vec<Step> {
    let mut luck = StdRng::seed_from_u64(seed);
    let mut faults: Vec<(Fault, Vec<String>)> = Vec::new();
    for (fault, at) in scenario.faults {
        faults.extend(places(*at, shape, &mut luck).into_iter().map(|nodes| (*fault, nodes)));
    }
    faults.shuffle(&mut luck);
    let calm = |luck: &mut StdRng| Duration::from_millis(luck.random_range(CALM_MS));
    faults.into_iter().map(|(fault, nodes)| Step { calm: calm(&mut luck), fault, nodes }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(servers: u8, agents: u8) -> Shape {
        Shape { name: "dev".into(), servers, agents, port: 6443, extras: std::collections::BTreeMap::new() }
    }

    #[test]
    fn a_seed_repeats_a_schedule_and_each_node_has_its_turn() {
        let count = |at: &Where| match at {
            Where::EachServer => 3,
            Where::EachAgent => 2,
            _ => 1,
        };
        for scenario in SCENARIOS {
            let steps = schedule(&scenario, &shape(3, 2), 7);
            assert_eq!(steps, schedule(&scenario, &shape(3, 2), 7), "{}", scenario.name);
            assert_eq!(steps.len(), scenario.faults.iter().map(|(_, at)| count(at)).sum::<usize>(), "{}", scenario.name);
        }
        let orders: Vec<_> = (0..5).map(|seed| schedule(&SCENARIOS[0], &shape(3, 2), seed)).collect();
        assert!(orders.iter().any(|order| *order != orders[0]), "every seed gives the same");
    }

    #[test]
    fn what_has_no_place_is_left_out() {
        let steps = schedule(&SCENARIOS[0], &shape(1, 0), 1);
        assert_eq!(steps.len(), 4);
        assert!(steps.iter().all(|step| step.nodes == ["server-1"]), "{steps:?}");
    }
}
