//! Where a port of a Service leads on this node: which endpoints take traffic, and which of them are near. Pure.
//!
//! <https://kubernetes.io/docs/reference/networking/virtual-ips/>

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use crate::model::{Endpoint, Node, ServicePort, Slice};

/// Address and port of an endpoint.
pub type Target = (IpAddr, u16);

/// Address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Family of an address.
    #[must_use]
    pub fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn address_type(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// Endpoints of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Those that traffic goes to from everywhere.
    pub cluster: Vec<Target>,
    /// Those on this node.
    pub local: Vec<Target>,
}

/// Endpoints of a port: ready ones, else those that end and still answer; of the ready ones, rather those that are
/// meant for this node or zone.
pub fn of<'a>(slices: impl Iterator<Item = &'a Arc<Slice>>, port: &ServicePort, family: Family, node: &Node) -> Endpoints {
    let mut all: Vec<(&Endpoint, Target)> = Vec::new();
    for slice in slices.filter(|slice| slice.address_type == family.address_type() && !slice.is_headless()) {
        let protocol = |own: &str| own == port.protocol || (own.is_empty() && port.protocol == "TCP");
        let number = slice.ports.iter().find(|own| own.name == port.name && protocol(&own.protocol));
        let Some(number) = number.and_then(|own| own.port) else { continue };
        let targets = slice.endpoints.iter().filter_map(|endpoint| Some((endpoint, (endpoint.address()?, number))));
        all.extend(targets.filter(|(_, (address, _))| Family::of(address) == family));
    }
    let is_local = |endpoint: &Endpoint| !endpoint.node_name.is_empty() && endpoint.node_name == node.metadata.name;
    let ready: Vec<_> = all.iter().filter(|(endpoint, _)| endpoint.is_ready()).copied().collect();
    let ending: Vec<_> = all.iter().filter(|(endpoint, _)| endpoint.is_last_resort()).copied().collect();
    let cluster = if ready.is_empty() { ending.clone() } else { near(&ready, node) };
    let local = |list: &[(&Endpoint, Target)]| sorted(list.iter().filter(|(endpoint, _)| is_local(endpoint)));
    let ready_here = local(&ready);
    Endpoints { cluster: sorted(cluster.iter()), local: if ready_here.is_empty() { local(&ending) } else { ready_here } }
}

fn sorted<'a>(list: impl Iterator<Item = &'a (&'a Endpoint, Target)>) -> Vec<Target> {
    list.map(|(_, target)| *target).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Endpoints whose hints name the node, else the zone; all where some have no hints, or none names either.
fn near<'a>(ready: &[(&'a Endpoint, Target)], node: &Node) -> Vec<(&'a Endpoint, Target)> {
    let zone = node.zone();
    let names = |endpoint: &Endpoint, nodes: bool| -> Option<bool> {
        let hints = endpoint.hints.as_ref()?;
        let (list, own) = if nodes { (&hints.for_nodes, node.metadata.name.as_str()) } else { (&hints.for_zones, zone) };
        (!list.is_empty()).then(|| list.iter().any(|named| named.name == own))
    };
    for nodes in [true, false] {
        let named: Option<Vec<bool>> = ready.iter().map(|(endpoint, _)| names(endpoint, nodes)).collect();
        if let Some(named) = named.filter(|named| named.contains(&true)) {
            return ready.iter().zip(named).filter(|(_, named)| *named).map(|(one, _)| *one).collect();
        }
    }
    ready.to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;
    use crate::index::tests::slice;

    /// The last numbers of the addresses that traffic goes to on node `a` in zone `z`, from everywhere and locally.
    fn check(endpoints: Value, cluster: &[u8], local: &[u8]) {
        let port = ServicePort { name: "http".into(), protocol: "TCP".into(), port: 80, node_port: 0 };
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "a", "labels": {"topology.kubernetes.io/zone": "z"}},
        }))
        .unwrap();
        let ports = json!([{"name": "http", "protocol": "TCP", "port": 8080}]);
        let slices = [Arc::new(slice("web", json!({"endpoints": endpoints, "ports": ports})))];
        let found = of(slices.iter(), &port, Family::V4, &node);
        let last = |list: &[Target]| -> Vec<u8> {
            let last = |address: &IpAddr| address.to_string().rsplit('.').next().unwrap().parse().unwrap();
            list.iter().map(|(address, _)| last(address)).collect()
        };
        assert_eq!((last(&found.cluster).as_slice(), last(&found.local).as_slice()), (cluster, local), "{endpoints}");
        assert!(of(slices.iter(), &port, Family::V6, &node).cluster.is_empty());
    }

    #[test]
    fn traffic_goes_to_ready_endpoints_and_to_ending_ones_at_the_last() {
        let ending = json!({"ready": false, "serving": true, "terminating": true});
        let gone = json!({"ready": false, "serving": false, "terminating": true});
        check(json!([{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": ending}]), &[1], &[]);
        check(
            json!([{"addresses": ["10.0.0.1"], "conditions": gone}, {"addresses": ["10.0.0.2"], "conditions": ending}]),
            &[2],
            &[],
        );
        check(json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": false}}]), &[], &[]);
        check(
            json!([{"addresses": ["10.0.0.1"], "nodeName": "b"}, {"addresses": ["10.0.0.2"], "nodeName": "a", "conditions": ending}]),
            &[1],
            &[2],
        );
        check(json!([{"addresses": ["10.0.0.1"], "nodeName": "b"}, {"addresses": ["10.0.0.2"], "nodeName": "a"}]), &[1, 2], &[2]);
    }

    #[test]
    fn hints_keep_traffic_near() {
        let zone = |name: &str| json!({"forZones": [{"name": name}]});
        let node = |name: &str| json!({"forNodes": [{"name": name}], "forZones": [{"name": "z"}]});
        check(
            json!([{"addresses": ["10.0.0.1"], "hints": zone("z")}, {"addresses": ["10.0.0.2"], "hints": zone("y")}]),
            &[1],
            &[],
        );
        check(json!([{"addresses": ["10.0.0.1"], "hints": zone("z")}, {"addresses": ["10.0.0.2"]}]), &[1, 2], &[]);
        check(
            json!([{"addresses": ["10.0.0.1"], "hints": zone("x")}, {"addresses": ["10.0.0.2"], "hints": zone("y")}]),
            &[1, 2],
            &[],
        );
        check(
            json!([{"addresses": ["10.0.0.1"], "hints": node("a")}, {"addresses": ["10.0.0.2"], "hints": node("b")}]),
            &[1],
            &[],
        );
        check(
            json!([{"addresses": ["10.0.0.1"], "hints": node("c")}, {"addresses": ["10.0.0.2"], "hints": node("b")}]),
            &[1, 2],
            &[],
        );
    }
}
