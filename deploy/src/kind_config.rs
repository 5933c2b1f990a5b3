//! kind's configuration (`kind.x-k8s.io/v1alpha4`) as the shape of a cluster of ours.
//!
//! In: the file's text. Out: numbers of nodes, and what single nodes have beside their role. What
//! cannot be honoured is refused with a sentence, all mistakes at once, and never passed over.

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::shape::{AGENTS_MAX, Extras, Mount, POD_CIDR, PortMapping, Role, SERVERS_MAX, SERVICE_CIDR, node_name};

/// What a file asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Name of the cluster, if the file has one.
    pub name: Option<String>,
    /// Number of servers.
    pub servers: u8,
    /// Number of agents.
    pub agents: u8,
    /// Port of the API on 127.0.0.1, if the file has one.
    pub port: Option<u16>,
    /// What single nodes have beside their role.
    pub extras: BTreeMap<String, Extras>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    name: Option<String>,
    #[serde(default)]
    nodes: Vec<Node>,
    #[serde(default)]
    networking: Networking,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    #[serde(default)]
    role: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    extra_mounts: Vec<ExtraMount>,
    #[serde(default)]
    extra_port_mappings: Vec<ExtraPort>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExtraMount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    selinux_relabel: bool,
    #[serde(default)]
    propagation: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExtraPort {
    container_port: u16,
    #[serde(default)]
    host_port: i32,
    #[serde(default)]
    listen_address: Option<Ipv4Addr>,
    #[serde(default)]
    protocol: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Networking {
    api_server_port: Option<i32>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Reads a file. Without nodes it is one server, as kind has it.
pub fn parse(text: &str) -> Result<Wanted> {
    let file: File = serde_norway::from_str(text).context("not a configuration of kind")?;
    let mut mistakes = Vec::new();
    if file.kind != "Cluster" || file.api_version != "kind.x-k8s.io/v1alpha4" {
        mistakes.push(format!(
            "kind {:?}, apiVersion {:?}: only Cluster of kind.x-k8s.io/v1alpha4 is understood",
            file.kind, file.api_version
        ));
    }
    for name in file.others.keys() {
        mistakes.push(format!("{name}: cannot be honoured, as there is no kubeadm and no containerd; take it out"));
    }
    networking(&file.networking, &mut mistakes);
    let mut wanted = Wanted { name: file.name, port: port(&file.networking, &mut mistakes), ..Wanted::default() };
    let default = || Node {
        role: "control-plane".to_owned(),
        labels: BTreeMap::new(),
        extra_mounts: vec![],
        extra_port_mappings: vec![],
        others: Map::new(),
    };
    let nodes = if file.nodes.is_empty() { vec![default()] } else { file.nodes };
    for (place, node) in nodes.into_iter().enumerate() {
        add(&mut wanted, node, &format!("nodes[{place}]"), &mut mistakes);
    }
    if wanted.servers == 0 {
        mistakes.push("nodes: at least one needs the role control-plane".to_owned());
    }
    if mistakes.is_empty() { Ok(wanted) } else { bail!(mistakes.join("; ")) }
}

fn port(networking: &Networking, mistakes: &mut Vec<String>) -> Option<u16> {
    let asked = networking.api_server_port.filter(|port| *port > 0)?;
    let port = u16::try_from(asked).ok();
    if port.is_none() {
        mistakes.push(format!("networking.apiServerPort {asked}: 1 to 65535"));
    }
    port
}

/// The networks are fixed: a file may only repeat what they are.
fn networking(networking: &Networking, mistakes: &mut Vec<String>) {
    let as_it_is: [(&str, &[&str]); 6] = [
        ("ipFamily", &["ipv4"]),
        ("apiServerAddress", &["127.0.0.1"]),
        ("podSubnet", &[POD_CIDR]),
        ("serviceSubnet", &[SERVICE_CIDR]),
        ("kubeProxyMode", &["nftables", "iptables", "ipvs"]),
        ("disableDefaultCNI", &["false"]),
    ];
    for (field, value) in &networking.others {
        let said = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match as_it_is.iter().find(|(known, _)| known == field) {
            Some((_, good)) if good.contains(&said.as_str()) || said.is_empty() => {}
            Some((_, good)) => {
                mistakes.push(format!("networking.{field} {said}: it is {} and cannot be changed", good.join(" or ")));
            }
            None => mistakes.push(format!("networking.{field}: cannot be honoured; take it out")),
        }
    }
}

fn add(wanted: &mut Wanted, node: Node, place: &str, mistakes: &mut Vec<String>) {
    let (role, count, most) = match node.role.as_str() {
        "control-plane" | "" => (Role::Server, &mut wanted.servers, SERVERS_MAX),
        "worker" => (Role::Agent, &mut wanted.agents, AGENTS_MAX),
        other => return mistakes.push(format!("{place}.role {other}: control-plane or worker")),
    };
    if *count == most {
        return mistakes.push(format!("{place}: at most {most} nodes of this role"));
    }
    *count += 1;
    let name = node_name(role, *count);
    for field in node.others.keys() {
        // An image is what kind's nodes are made of; ours are made of nothing.
        if field != "image" {
            mistakes.push(format!("{place}.{field}: cannot be honoured, as there is no kubeadm; take it out"));
        }
    }
    let mounts = node.extra_mounts.into_iter().filter_map(|one| mount(one, place, mistakes)).collect();
    let ports = node.extra_port_mappings.into_iter().filter_map(|one| mapping(&one, place, mistakes)).collect();
    let extras = Extras { labels: node.labels, mounts, ports };
    if extras != Extras::default() {
        wanted.extras.insert(name, extras);
    }
}

fn mount(mount: ExtraMount, place: &str, mistakes: &mut Vec<String>) -> Option<Mount> {
    let said = mount.container_path.display().to_string();
    let wrong = if !mount.container_path.is_absolute() || mount.container_path.parent().is_none() {
        "an absolute path below / is needed"
    } else if mount.selinux_relabel {
        "selinuxRelabel cannot be honoured"
    } else if !matches!(mount.propagation.as_str(), "" | "None") {
        "only the propagation None can be honoured"
    } else {
        return Some(Mount { from: mount.host_path, to: mount.container_path, read_only: mount.read_only });
    };
    mistakes.push(format!("{place}.extraMounts {said}: {wrong}"));
    None
}

fn mapping(port: &ExtraPort, place: &str, mistakes: &mut Vec<String>) -> Option<PortMapping> {
    let wrong = match u16::try_from(port.host_port) {
        Ok(host) if host > 0 && matches!(port.protocol.to_uppercase().as_str(), "" | "TCP") => {
            // kind listens everywhere if nothing is said, and so does this.
            let listen = port.listen_address.unwrap_or(Ipv4Addr::UNSPECIFIED);
            return Some(PortMapping { listen, host, node: port.container_port });
        }
        Ok(host) if host > 0 => format!("only TCP is forwarded, not {}", port.protocol),
        _ => "hostPort must be named: a port that nobody knows helps nobody".to_owned(),
    };
    mistakes.push(format!("{place}.extraPortMappings {}: {wrong}", port.container_port));
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HEAD: &str = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n";

    #[test]
    fn nodes_ports_mounts_and_labels_are_taken_over() {
        let text = "name: demo\nnetworking: {apiServerPort: 7443, ipFamily: ipv4}\nnodes:\n- role: control-plane\n- role: worker\n  image: x\n  labels: {tier: front}\n  \
            extraPortMappings: [{containerPort: 30080, hostPort: 8080, listenAddress: 127.0.0.1, protocol: TCP}]\n  \
            extraMounts: [{hostPath: /srv, containerPath: /data, readOnly: true}]\n- role: worker\n";
        let wanted = parse(&format!("{HEAD}{text}")).unwrap();
        let extras = Extras {
            labels: BTreeMap::from([("tier".to_owned(), "front".to_owned())]),
            mounts: vec![Mount { from: "/srv".into(), to: "/data".into(), read_only: true }],
            ports: vec![PortMapping { listen: Ipv4Addr::LOCALHOST, host: 8080, node: 30080 }],
        };
        assert_eq!(
            wanted,
            Wanted {
                name: Some("demo".into()),
                servers: 1,
                agents: 2,
                port: Some(7443),
                extras: BTreeMap::from([("agent-1".to_owned(), extras)]),
            }
        );
    }

    #[test]
    fn a_file_without_nodes_is_one_server() {
        assert_eq!(parse(HEAD).unwrap(), Wanted { servers: 1, ..Wanted::default() });
    }

    #[test]
    fn what_cannot_be_honoured_is_told_together() {
        let text = "featureGates: {A: true}\nnetworking: {podSubnet: 10.1.0.0/16}\nnodes:\n- role: worker\n  kubeadmConfigPatches: [x]\n  \
            extraPortMappings: [{containerPort: 53, hostPort: 53, protocol: UDP}, {containerPort: 80}]\n";
        let told = parse(&format!("{HEAD}{text}")).unwrap_err().to_string();
        for part in [
            "featureGates: cannot",
            "networking.podSubnet 10.1.0.0/16: it is 10.244.0.0/16",
            "nodes[0].kubeadmConfigPatches",
            "only TCP is forwarded, not UDP",
            "hostPort must be named",
            "needs the role control-plane",
        ] {
            assert!(told.contains(part), "{part} is not in: {told}");
        }
        assert!(parse("kind: Pod\napiVersion: v1\n").unwrap_err().to_string().contains("v1alpha4"));
    }
}
