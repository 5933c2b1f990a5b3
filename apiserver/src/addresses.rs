//! Cluster addresses and node ports of Services.
//!
//! Each one that is given out is a key of its own in the store, taken in the same transaction as
//! the Service: two API servers can never give out the same, and nothing leaks when one dies. The key of an address is
//! that of its IPAddress.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr, ops::RangeInclusive};

use jiff::Timestamp;
use kontiki_api::{
    field::FieldError,
    object::{meta, stored_bytes, text},
    registry,
    resources::IP_ADDRESSES,
};
use serde_json::{Value, json};

use crate::storage::{Claim, Guard, keys};

/// Ports of nodes that lead to Services.
pub const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;
const PREFIX: &str = "/registry/kontiki.io/allocations/";

/// A network of Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceNetwork {
    base: u32,
    prefix_length: u8,
}

impl ServiceNetwork {
    /// Parses `10.96.0.0/16`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no IPv4 network such as 10.96.0.0/16");
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let base: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix_length: u8 = length.parse().map_err(|_| wrong())?;
        if !(8..=28).contains(&prefix_length) {
            return Err(format!("{text:?}: the prefix must be 8 to 28 bits long"));
        }
        let mask = u32::MAX << (32 - prefix_length);
        Ok(Self { base: u32::from(base) & mask, prefix_length })
    }

    fn size(self) -> u32 {
        1 << (32 - self.prefix_length)
    }

    /// An address by its number: the first is that of the `kubernetes` Service, the tenth that of DNS.
    #[must_use]
    pub fn address(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base + number)
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) > self.base && u32::from(address) < self.base + self.size() - 1
    }

    /// Addresses below this are left to those who ask for one by name.
    /// <https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/>
    fn reserved(self) -> u32 {
        (self.size() / 16).clamp(16, 256)
    }

    fn choose(self, random: u32, attempt: u32) -> Ipv4Addr {
        let reserved = self.reserved();
        let free = self.size() - reserved - 2;
        Ipv4Addr::from(self.base + 1 + reserved + (random % free + attempt) % free)
    }
}

impl fmt::Display for ServiceNetwork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", Ipv4Addr::from(self.base), self.prefix_length)
    }
}

fn address_key(address: &str) -> String {
    let resource = registry::of(&IP_ADDRESSES);
    resource.map_or_else(|| format!("{PREFIX}addresses/{address}"), |resource| keys::object(resource, "", address))
}

/// What an address is chosen from, and what its IPAddress is made with.
pub struct Choice<'a> {
    /// The network of Services.
    pub network: ServiceNetwork,
    /// Chooses.
    pub random: u32,
    /// Chooses another one: a caller whose choice was taken calls again with the next attempt.
    pub attempt: u32,
    /// Of the IPAddress.
    pub uid: &'a str,
    /// When it is made.
    pub now: Timestamp,
}

impl Choice<'_> {
    /// The IPAddress of a Service.
    fn ip_address(&self, service: &Value) -> Value {
        json!({
            "kind": IP_ADDRESSES.kind,
            "apiVersion": IP_ADDRESSES.api_version(),
            "metadata": {
                "name": service["spec"]["clusterIP"],
                "uid": self.uid,
                "creationTimestamp": meta::time(self.now),
                "labels": {
                    "ipaddress.kubernetes.io/ip-family": "IPv4",
                    "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
                },
            },
            "spec": { "parentRef": { "resource": "services", "namespace": meta::namespace(service), "name": meta::name(service) } },
        })
    }

    fn claim(&self, key: String, service: &Value) -> Claim {
        let is_address = key == address_key(text(service, "/spec/clusterIP"));
        let owner = || format!("{}/{}", meta::namespace(service), meta::name(service)).into();
        Claim { value: if is_address { stored_bytes(&self.ip_address(service)) } else { owner() }, key }
    }
}

fn port_key(port: u64) -> String {
    format!("{PREFIX}nodeports/{port}")
}

/// What a Service holds: keys of its addresses and ports.
fn held(service: &Value) -> BTreeSet<String> {
    let address = text(service, "/spec/clusterIP");
    let address = (!address.is_empty() && address != "None").then(|| address_key(address));
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
    let ports = ports.filter_map(|port| port["nodePort"].as_u64()).filter(|port| *port > 0).map(port_key);
    address.into_iter().chain(ports).collect()
}

/// Fills in what a Service lacks and says which keys its write takes and gives back.
pub fn allocate(service: &mut Value, old: Option<&Value>, choice: &Choice<'_>) -> Result<Guard, Vec<FieldError>> {
    let Choice { network, random, attempt, .. } = *choice;
    let kind = text(service, "/spec/type").to_owned();
    if kind == "ExternalName" {
        if let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
    } else {
        let asked = text(service, "/spec/clusterIP").to_owned();
        let address = match asked.as_str() {
            "" => network.choose(random, attempt).to_string(),
            "None" => asked,
            text if text.parse().is_ok_and(|address| network.contains(address)) => asked,
            _ => {
                let detail =
                    "failed to allocate IP ".to_owned() + &asked + ": the provided network does not match the current range";
                return Err(vec![FieldError::invalid("spec.clusterIPs", &json!([asked]), detail)]);
            }
        };
        service["spec"]["clusterIP"] = json!(address);
        service["spec"]["clusterIPs"] = json!([address]);
    }
    let wants_ports = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    allocate_ports(service, wants_ports, random, attempt)?;
    let (before, after) = (old.map(held).unwrap_or_default(), held(service));
    let take = after.difference(&before).map(|key| choice.claim(key.clone(), service)).collect();
    Ok(Guard { take, release: before.difference(&after).cloned().collect() })
}

fn allocate_ports(service: &mut Value, wanted: bool, random: u32, attempt: u32) -> Result<(), Vec<FieldError>> {
    let (first, count) = (u32::from(*NODE_PORTS.start()), u32::from(NODE_PORTS.end() - NODE_PORTS.start()) + 1);
    let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    for (index, port) in ports.into_iter().flatten().enumerate() {
        if !wanted {
            if let Some(port) = port.as_object_mut() {
                port.remove("nodePort");
            }
            continue;
        }
        match port["nodePort"].as_u64() {
            None | Some(0) => {
                let index = u32::try_from(index).unwrap_or(0);
                port["nodePort"] = json!(first + (random / 7 + attempt + index) % count);
            }
            Some(number) if u16::try_from(number).is_ok_and(|number| NODE_PORTS.contains(&number)) => {}
            Some(_) => {
                let field = format!("spec.ports[{index}].nodePort");
                let detail = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                return Err(vec![FieldError::invalid(field, &port["nodePort"], detail)]);
            }
        }
    }
    Ok(())
}

/// What a Service gives back when it goes.
#[must_use]
pub fn release(service: &Value) -> Guard {
    Guard { take: Vec::new(), release: held(service).into_iter().collect() }
}

/// What the user is told whose chosen address or port somebody else has.
#[must_use]
pub fn taken(service: &Value) -> FieldError {
    let address = text(service, "/spec/clusterIP");
    FieldError::invalid(
        "spec.clusterIPs",
        &json!([address]),
        format!("failed to allocate IP {address}: provided IP is already allocated"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn choice() -> Choice<'static> {
        let network = ServiceNetwork::parse("10.96.0.0/16").unwrap();
        Choice { network, random: 0, attempt: 0, uid: "u", now: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn a_service_gets_an_address_above_the_reserved_ones() {
        let network = choice().network;
        let mut service = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"type": "ClusterIP"}});
        let guard = allocate(&mut service, None, &choice()).unwrap();
        assert_eq!(service["spec"]["clusterIP"], "10.96.1.1");
        assert_eq!(guard.take[0].key, "/registry/ipaddresses/10.96.1.1");
        let address: Value = serde_json::from_slice(&guard.take[0].value).unwrap();
        assert_eq!(address["spec"]["parentRef"], json!({"resource": "services", "namespace": "n", "name": "s"}));
        assert_eq!(address["metadata"]["labels"]["ipaddress.kubernetes.io/managed-by"], "ipallocator.k8s.io");
        assert_eq!(network.address(1), Ipv4Addr::new(10, 96, 0, 1));
        assert_eq!(network.to_string(), "10.96.0.0/16");
    }

    #[test]
    fn what_is_no_longer_held_is_given_back() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.3.3", "ports": [{"nodePort": 30001}]}});
        let mut new = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.3.3", "ports": [{"nodePort": 30001}]}});
        let guard = allocate(&mut new, Some(&old), &choice()).unwrap();
        assert_eq!(guard, Guard { take: vec![], release: vec![port_key(30001)] });
    }

    #[test]
    fn addresses_outside_the_network_are_refused() {
        let mut service = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1"}});
        assert!(allocate(&mut service, None, &choice()).is_err());
        let mut service = json!({"spec": {"type": "NodePort", "ports": [{"nodePort": 80}]}});
        assert!(allocate(&mut service, None, &choice()).is_err());
    }
}
