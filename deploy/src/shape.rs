//! What a local cluster consists of: pure arithmetic from a name and two numbers to nodes,
//! addresses and the settings of each process.

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// Most servers a local cluster may have: more slow every write and survive nothing more.
pub const SERVERS_MAX: u8 = 7;
/// Most agents a local cluster may have; their addresses begin at 101.
pub const AGENTS_MAX: u8 = 100;
/// Port of the API on every server.
pub const API_PORT: u16 = 6443;
/// Port of the store for clients.
pub const STORE_CLIENT_PORT: u16 = 2379;
/// Port of the store for its peers.
pub const STORE_PEER_PORT: u16 = 2380;
/// First three numbers of the addresses on the link between the nodes. The link lies in a
/// namespace of its own, so that nothing of it meets the host's addresses.
pub const LINK_PREFIX: [u8; 3] = [10, 89, 0];
/// Length of the link's network prefix.
pub const LINK_PREFIX_LENGTH: u8 = 24;
/// Address of the link namespace itself, where the forwarder connects from.
pub const LINK_ADDRESS: Ipv4Addr = Ipv4Addr::new(LINK_PREFIX[0], LINK_PREFIX[1], LINK_PREFIX[2], 1);
/// First address of the service network: the `kubernetes` Service.
pub const KUBERNETES_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Network of Services.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// Network of pods, cut into one range for each node.
pub const POD_CIDR: &str = "10.244.0.0/16";
/// Address of the cluster's DNS server.
pub const CLUSTER_DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Port of the kubelet on every node.
pub const KUBELET_PORT: u16 = 10250;
/// Port on the link where nodes find the way to registries outside.
pub const EGRESS_PORT: u16 = 3128;
/// Domain of the cluster's names.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Store, API server, controllers, scheduler, and a node with the control-plane taint.
    Server,
    /// A node for work.
    Agent,
}

impl Role {
    /// What runs on such a node.
    #[must_use]
    pub const fn processes(self) -> &'static [&'static str] {
        match self {
            Self::Server => &["server", "agent"],
            Self::Agent => &["agent"],
        }
    }
}

/// One node of a local cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Name, such as `server-1`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Address on the link.
    pub address: Ipv4Addr,
}

impl Node {
    /// Where its API server is, if it is a server.
    #[must_use]
    pub fn api_server(&self) -> String {
        format!("https://{}:{API_PORT}", self.address)
    }
}

/// A folder or file of the host that a node sees at a place of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it lies on the host.
    pub from: PathBuf,
    /// Where the node sees it.
    pub to: PathBuf,
    /// Whether the node may only read it.
    pub read_only: bool,
}

/// A TCP port of the host that leads to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// Address of the host that is listened on.
    pub listen: Ipv4Addr,
    /// Port of the host.
    pub host: u16,
    /// Port of the node.
    pub node: u16,
}

/// What a node has beside what its role gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extras {
    /// Labels that it registers with.
    pub labels: BTreeMap<String, String>,
    /// What it sees of the host at other places.
    pub mounts: Vec<Mount>,
    /// Ports of the host that lead to it.
    pub ports: Vec<PortMapping>,
}

/// A local cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Name of the cluster; part of everything that it leaves on the host.
    pub name: String,
    /// Number of servers.
    pub servers: u8,
    /// Number of agents.
    pub agents: u8,
    /// Port on 127.0.0.1 that leads to a ready API server.
    pub port: u16,
    /// What single nodes have beside their role, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extras: BTreeMap<String, Extras>,
}

/// Name of a role's node; numbers begin at 1.
#[must_use]
pub fn node_name(role: Role, number: u8) -> String {
    match role {
        Role::Server => format!("server-{number}"),
        Role::Agent => format!("agent-{number}"),
    }
}

impl Shape {
    /// Checks a shape, all mistakes at once.
    pub fn validate(&self) -> Result<()> {
        let mut mistakes = Vec::new();
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > 20 || !self.name.chars().all(legal) || self.name.starts_with('-') {
            mistakes.push(format!("--name {:?}: 1 to 20 lower-case letters, digits and dashes, no dash first", self.name));
        }
        if !(1..=SERVERS_MAX).contains(&self.servers) {
            mistakes.push(format!("--servers {}: 1 to {SERVERS_MAX}", self.servers));
        }
        if self.agents > AGENTS_MAX {
            mistakes.push(format!("--agents {}: at most {AGENTS_MAX}", self.agents));
        }
        if mistakes.is_empty() { Ok(()) } else { bail!(mistakes.join("; ")) }
    }

    /// All nodes, servers first.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        let [a, b, c] = LINK_PREFIX;
        let servers = (1..=self.servers).map(|number| Node {
            name: node_name(Role::Server, number),
            role: Role::Server,
            address: Ipv4Addr::new(a, b, c, 10 + number),
        });
        let agents = (1..=self.agents).map(|number| Node {
            name: node_name(Role::Agent, number),
            role: Role::Agent,
            address: Ipv4Addr::new(a, b, c, 100 + number),
        });
        servers.chain(agents).collect()
    }

    /// What a node has beside its role.
    #[must_use]
    pub fn extras(&self, node: &str) -> Extras {
        self.extras.get(node).cloned().unwrap_or_default()
    }

    /// The servers alone.
    #[must_use]
    pub fn server_nodes(&self) -> Vec<Node> {
        self.nodes().into_iter().filter(|node| node.role == Role::Server).collect()
    }

    /// Node of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<Node> {
        self.nodes().into_iter().find(|node| node.name == name)
    }

    /// `name=https://address:2380` of every member, as etcd's `--initial-cluster` has it.
    #[must_use]
    pub fn initial_cluster(&self) -> String {
        let member = |node: Node| format!("{}=https://{}:{STORE_PEER_PORT}", node.name, node.address);
        self.server_nodes().into_iter().map(member).collect::<Vec<_>>().join(",")
    }

    /// Addresses of every API server.
    #[must_use]
    pub fn api_servers(&self) -> Vec<String> {
        self.server_nodes().iter().map(Node::api_server).collect()
    }

    /// Name of the context, cluster and user in a kubeconfig.
    #[must_use]
    pub fn context(&self) -> String {
        format!("kontiki-{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(servers: u8, agents: u8) -> Shape {
        Shape { name: "dev".into(), servers, agents, port: 6443, extras: BTreeMap::new() }
    }

    #[test]
    fn addresses_of_servers_and_agents_never_meet() {
        let nodes = shape(SERVERS_MAX, AGENTS_MAX).nodes();
        let mut addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), usize::from(SERVERS_MAX + AGENTS_MAX));
        assert!(!addresses.contains(&LINK_ADDRESS));
    }

    #[test]
    fn initial_cluster_names_every_server() {
        assert_eq!(shape(2, 1).initial_cluster(), "server-1=https://10.89.0.11:2380,server-2=https://10.89.0.12:2380");
    }

    #[test]
    fn mistakes_are_told_together() {
        let wrong = Shape { name: "-X".into(), servers: 0, ..shape(0, 0) };
        let text = wrong.validate().unwrap_err().to_string();
        assert!(text.contains("--name") && text.contains("--servers"), "{text}");
    }
}
