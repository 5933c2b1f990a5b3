//! From Services and their endpoints to a ruleset. Pure.
//!
//! A port of a Service is a chain that picks one of its endpoints at random; its address, its external addresses
//! and its node port lead there. One without endpoints is refused.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use crate::{
    model::{Meta, Service, ServicePort, Slice},
    ruleset::{Ruleset, mark},
};

/// Where a port leads: ready endpoints, else those that end and still answer.
pub fn endpoints(service: &Meta, port: &ServicePort, slices: &[Arc<Slice>]) -> Vec<(Ipv4Addr, u16)> {
    let (mut ready, mut last) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices.iter().filter(|slice| slice.is_of(service) && slice.address_type == "IPv4") {
        let number = slice.ports.iter().find(|own| own.name == port.name && own.protocol == port.protocol).map(|own| own.port);
        let Some(number) = number else { continue };
        for endpoint in &slice.endpoints {
            let Some(address) = endpoint.address() else { continue };
            if endpoint.is_ready() {
                ready.insert((address, number));
            } else if endpoint.is_last_resort() {
                last.insert((address, number));
            }
        }
    }
    if ready.is_empty() { last.into_iter().collect() } else { ready.into_iter().collect() }
}

/// Name of a port's chain: the kernel's names are short, so it is a digest.
fn chain(service: &Meta, port: &ServicePort) -> String {
    let text = format!("{}/{}:{}/{}", service.namespace, service.name, port.name, port.protocol);
    // FNV-1a: the same on every node and in every version.
    let digest =
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("svc-{digest:016x}")
}

/// The whole ruleset. The DNS server's Service is left out: every node answers at its address itself.
pub fn ruleset(services: &[Arc<Service>], slices: &[Arc<Slice>], dns_address: Ipv4Addr) -> Ruleset {
    let mut ruleset = Ruleset::default();
    for service in services {
        let Some(address) = service.address().filter(|address| *address != dns_address) else { continue };
        for port in &service.spec.ports {
            let found = endpoints(&service.metadata, port, slices);
            add(&mut ruleset, service, port, address, &found);
        }
    }
    ruleset
}

fn add(ruleset: &mut Ruleset, service: &Service, port: &ServicePort, address: Ipv4Addr, endpoints: &[(Ipv4Addr, u16)]) {
    let protocol = port.protocol.to_lowercase();
    let external = service.spec.external_ips.iter().filter_map(|text| text.parse::<Ipv4Addr>().ok());
    let addresses: Vec<Ipv4Addr> = [address].into_iter().chain(external).collect();
    let key = |address: &Ipv4Addr| format!("{address} . {protocol} . {}", port.port);
    if endpoints.is_empty() {
        for address in &addresses {
            ruleset.elements.insert(("unanswered", key(address)), None);
        }
        return;
    }
    let name = chain(&service.metadata, port);
    let choices = endpoints.iter().enumerate().map(|(index, (address, number))| format!("{index} : {address} . {number}"));
    let choices = choices.collect::<Vec<_>>().join(", ");
    let pick = format!("meta l4proto {protocol} dnat ip to numgen random mod {} map {{ {choices} }}", endpoints.len());
    ruleset.chains.insert(name.clone(), vec![pick]);
    for address in &addresses {
        ruleset.elements.insert(("services", key(address)), Some(format!("goto {name}")));
    }
    if port.node_port != 0 {
        let outside = format!("{name}-x");
        // Who comes from outside must get its answer from the node that it asked.
        ruleset.chains.insert(outside.clone(), vec![mark(), format!("goto {name}")]);
        ruleset.elements.insert(("node_ports", format!("{protocol} . {}", port.node_port)), Some(format!("goto {outside}")));
    }
    for (address, _) in endpoints {
        ruleset.elements.insert(("hairpins", format!("{address} . {address}")), None);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    pub(crate) fn service(node_port: u16) -> Arc<Service> {
        let port = json!({"name": "http", "protocol": "TCP", "port": 80, "nodePort": node_port});
        let spec = json!({"clusterIP": "10.96.0.7", "ports": [port]});
        Arc::new(serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n"}, "spec": spec})).unwrap())
    }

    pub(crate) fn slice(endpoints: serde_json::Value) -> Arc<Slice> {
        let labels = json!({"kubernetes.io/service-name": "web"});
        let ports = json!([{"name": "http", "protocol": "TCP", "port": 8080}]);
        let metadata = json!({"name": "web-1", "namespace": "n", "labels": labels});
        let slice = json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": ports});
        Arc::new(serde_json::from_value(slice).unwrap())
    }

    fn dns() -> Ipv4Addr {
        Ipv4Addr::new(10, 96, 0, 10)
    }

    #[test]
    fn traffic_goes_to_ready_endpoints_alone() {
        let found = slice(json!([
            {"addresses": ["10.244.0.2"], "conditions": {"ready": true}},
            {"addresses": ["10.244.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
        ]));
        let port = &service(0).spec.ports[0];
        assert_eq!(endpoints(&service(0).metadata, port, &[found]), [(Ipv4Addr::new(10, 244, 0, 2), 8080)]);
    }

    #[test]
    fn an_ending_endpoint_is_better_than_none() {
        let ending = json!([{"addresses": ["10.244.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}}]);
        let found = ruleset(&[service(30080)], &[slice(ending)], dns());
        assert!(found.elements.contains_key(&("node_ports", "tcp . 30080".to_owned())));
        assert_eq!(found.chains.len(), 2);
    }

    #[test]
    fn a_service_without_endpoints_is_refused() {
        let found = ruleset(&[service(0)], &[slice(json!([]))], dns());
        assert_eq!(found.elements.keys().collect::<Vec<_>>(), [&("unanswered", "10.96.0.7 . tcp . 80".to_owned())]);
        assert!(ruleset(&[service(0)], &[], Ipv4Addr::new(10, 96, 0, 7)).elements.is_empty(), "the DNS server's own");
    }

    #[test]
    fn the_kernels_program_takes_the_rules() {
        use std::{
            io::Write,
            process::{Command, Stdio},
        };
        let endpoints = json!([{"addresses": ["10.244.0.2"]}, {"addresses": ["10.244.0.3"]}]);
        let wanted = ruleset(&[service(30080)], &[slice(endpoints)], dns());
        let script = crate::ruleset::whole(&wanted, "10.244.0.0/16");
        // In a namespace of its own, which ends with the program.
        let started =
            Command::new("unshare").args(["--net", "nft", "-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        if !nix::unistd::geteuid().is_root() {
            // Only root may make namespaces; the end-to-end tests run as root.
            return;
        }
        let mut child = started.unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}\n{script}", String::from_utf8_lossy(&output.stderr));
    }
}
