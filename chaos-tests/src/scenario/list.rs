//! The scenarios.

use std::time::Duration;

use super::faults::{
    Direction::{Both, Flapping, Inbound, Outbound},
    Fault::{self, CutOff, FullDisk, Kill, KillAll, Pause, PowerCut, Reboot, StalledDisk},
    From,
    Part::{Agent, Node, Server, Supervisor},
    Where::{self, AServer, Agents, AnAgent, Cluster, Servers},
};

/// A workload and faults.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Name, for `SCENARIO=`.
    pub name: &'static str,
    /// Clients that write.
    pub writers: usize,
    /// Pods behind the Service; without any, nothing is asked, and no Jobs are made.
    pub replicas: u32,
    /// What goes wrong and where.
    pub faults: &'static [(Fault, Where)],
    /// How often.
    pub rounds: usize,
    /// The longest time without an acknowledged write.
    pub silence_max: Duration,
    /// Whether the servers' data lies on a disk that can fail.
    pub disks: bool,
}

const BASE: Scenario =
    Scenario { name: "", writers: 4, replicas: 4, faults: &[], rounds: 1, silence_max: Duration::from_secs(12), disks: false };

/// In `make test`.
pub const SHORT: Scenario = Scenario {
    name: "short",
    faults: &[
        (Kill(Server), AServer),
        (Kill(Agent), AnAgent),
        (Pause(Server), AServer),
        (CutOff(From::All, Both), AServer),
        (CutOff(From::Servers, Both), AnAgent),
        (KillAll(Server), Cluster),
        (Kill(Supervisor), Cluster),
        (Reboot, Cluster),
    ],
    silence_max: Duration::from_secs(30),
    ..BASE
};

/// In `make test`, on one server alone.
pub const SHORT_POWER: Scenario = Scenario {
    name: "short-power",
    replicas: 0,
    faults: &[(PowerCut, Cluster), (FullDisk, AServer), (PowerCut, Cluster)],
    silence_max: Duration::from_secs(25),
    disks: true,
    ..BASE
};

/// In `make chaos`.
pub const LONG: [Scenario; 9] = [
    Scenario {
        name: "kills",
        faults: &[(Kill(Server), Servers), (Kill(Agent), Servers), (Kill(Agent), Agents)],
        rounds: 3,
        ..BASE
    },
    Scenario { name: "pauses", faults: &[(Pause(Server), Servers), (Pause(Agent), Agents)], rounds: 2, ..BASE },
    Scenario {
        name: "servers-cut-off",
        faults: &[
            (CutOff(From::All, Both), Servers),
            (CutOff(From::All, Inbound), Servers),
            (CutOff(From::All, Outbound), Servers),
            (CutOff(From::All, Flapping), Servers),
        ],
        ..BASE
    },
    Scenario {
        name: "agents-cut-off",
        faults: &[
            (CutOff(From::Servers, Both), Agents),
            (CutOff(From::Peers, Both), Agents),
            (CutOff(From::All, Flapping), Agents),
        ],
        ..BASE
    },
    Scenario { name: "all-servers", faults: &[(KillAll(Server), Cluster), (KillAll(Agent), Cluster)], rounds: 4, ..BASE },
    Scenario {
        name: "nodes",

        faults: &[(Kill(Node), Servers), (Kill(Node), Agents)],
        silence_max: Duration::from_secs(15),
        ..BASE
    },
    Scenario { name: "forwarder", faults: &[(Kill(Supervisor), Cluster)], rounds: 5, ..BASE },
    Scenario { name: "reboot", faults: &[(Reboot, Cluster)], rounds: 3, silence_max: Duration::from_secs(45), ..BASE },
    Scenario {
        name: "disks",
        replicas: 0,

        faults: &[(PowerCut, Cluster), (StalledDisk, Servers), (FullDisk, AServer), (PowerCut, Cluster)],
        rounds: 3,
        silence_max: Duration::from_secs(20),
        disks: true,
        ..BASE
    },
];
