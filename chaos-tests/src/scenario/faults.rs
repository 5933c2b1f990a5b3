//! What can go wrong.

use std::{fmt, time::Duration};

/// A process of a cluster. One process holds several parts, so that they can only die together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Store, API server, controllers and scheduler of a server.
    Server,
    /// Kubelet, proxy and DNS of a node.
    Agent,
    /// A whole node, as if its power failed.
    Node,
    /// The forwarder and parent of all nodes.
    Supervisor,
}

/// Which packets are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// All.
    Both,
    /// Those that come in.
    Inbound,
    /// Those that go out.
    Outbound,
    /// All, every other half second.
    Flapping,
}

/// From whom a node is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum From {
    /// Everybody.
    All,
    /// The servers.
    Servers,
    /// The other agents and their pods.
    Peers,
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL.
    Kill(Part),
    /// SIGKILL on all nodes that have it at once.
    KillAll(Part),
    /// SIGSTOP for [`PAUSE`].
    Pause(Part),
    /// Packets dropped for [`CUT`].
    CutOff(From, Direction),
    /// Everything killed, namespaces and mounts gone; then `kontiki up`.
    Reboot,
    /// All servers' power fails at once, and their disks lose what was not synced.
    PowerCut,
    /// A server's disk answers nothing for [`PAUSE`].
    StalledDisk,
    /// A server's disk has no room for [`CUT`].
    FullDisk,
}

/// How long a process or disk stands still.
pub const PAUSE: Duration = Duration::from_secs(10);
/// How long a node is cut off or a disk full.
pub const CUT: Duration = Duration::from_secs(8);

/// Where a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Each server in turn.
    Servers,
    /// Each agent in turn.
    Agents,
    /// One of the servers, as the seed decides.
    AServer,
    /// One of the agents, as the seed decides.
    AnAgent,
    /// The cluster as a whole.
    Cluster,
}

impl Fault {
    /// Whether requests from agents may fail meanwhile: some endpoints cannot be reached.
    #[must_use]
    pub fn disturbs_services(self, node: &str) -> bool {
        match self {
            Self::Kill(Part::Node) => node.starts_with("agent"),
            Self::KillAll(Part::Node) | Self::Reboot => true,
            Self::CutOff(from, _) => from != From::Servers && node.starts_with("agent"),
            _ => false,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Server => "store, API server, controllers and scheduler",
            Self::Agent => "kubelet, proxy and DNS",
            Self::Node => "the whole node",
            Self::Supervisor => "forwarder",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(part) => write!(formatter, "kill -9: {part}"),
            Self::KillAll(part) => write!(formatter, "kill -9 everywhere at once: {part}"),
            Self::Pause(part) => write!(formatter, "stopped for {} s: {part}", PAUSE.as_secs()),
            Self::CutOff(from, direction) => {
                let from = match from {
                    From::All => "everybody",
                    From::Servers => "the servers",
                    From::Peers => "its peers",
                };
                write!(formatter, "cut off from {from} for {} s ({direction:?})", CUT.as_secs())
            }
            Self::Reboot => formatter.write_str("everything killed, namespaces and mounts gone"),
            Self::PowerCut => formatter.write_str("power cut of all servers: disks lose what was not synced"),
            Self::StalledDisk => write!(formatter, "disk stalled for {} s", PAUSE.as_secs()),
            Self::FullDisk => write!(formatter, "disk full for {} s", CUT.as_secs()),
        }
    }
}
