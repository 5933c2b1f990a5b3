//! Cluster addresses and node ports of Services.
//!
//! Each one that is given out is a key of its own in the store, taken in the same transaction as
//! the Service: two API servers can never give out the same, and nothing leaks when one dies. The key of an address is
//! that of its IPAddress.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr};

use jiff::Timestamp;
use kontiki_api::{
    field::FieldError,
    object::{meta, stored_bytes, text},
    registry,
    resources::IP_ADDRESSES,
};
use serde_json::{Value, json};

use crate::storage::{Claim, Guard, keys};

mod ports;
pub mod repair;

pub use ports::{NODE_PORTS, PREFIX as NODE_PORTS_PREFIX};

const PREFIX: &str = "/registry/kontiki.io/allocations/";
/// Addresses that are left at least to those who ask for one by name.
const RESERVED_MIN: u32 = 16;

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

    /// Addresses below this are left to those who ask for one by name; a network that is too small for it has none.
    /// <https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/>
    fn reserved(self) -> u32 {
        if self.size() <= RESERVED_MIN { 0 } else { (self.size() / 16).clamp(RESERVED_MIN, 256) }
    }

    /// An address that nobody has; one of those that are asked for by name only when no other is left.
    fn choose(self, random: u32, is_taken: &dyn Fn(Ipv4Addr) -> bool) -> Option<String> {
        let (reserved, all) = (self.reserved(), self.size() - 2);
        let at = |offset: u32| Ipv4Addr::from(self.base + 1 + offset);
        let upper = all - reserved;
        let others = (0..upper).map(|step| at(reserved + (random % upper + step) % upper));
        let mut free = others.chain((0..reserved).map(at)).filter(|address| !is_taken(*address));
        free.next().map(|address| address.to_string())
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

/// What addresses and ports are chosen from, and what an IPAddress is made with.
pub struct Choice<'a> {
    /// The network of Services.
    pub network: ServiceNetwork,
    /// Chooses.
    pub random: u32,
    /// Keys that somebody has, as far as is known: a caller whose choice was taken knows more and calls again.
    pub taken: &'a dyn Fn(&str) -> bool,
    /// Of the IPAddress.
    pub uid: &'a str,
    /// When it is made.
    pub now: Timestamp,
}

/// Why a Service gets no address or port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What was asked for cannot be had.
    Field(FieldError),
    /// Nothing is left, or it is no field that is wrong.
    Internal(String),
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

    /// A key with what stands there from then on; `asked` is what the Service was before anything was chosen for it.
    fn claim(&self, key: String, service: &Value, asked: &Value) -> Claim {
        let is_address = key == address_key(text(service, "/spec/clusterIP"));
        let owner = || format!("{}/{}", meta::namespace(service), meta::name(service)).into();
        let value = if is_address { stored_bytes(&self.ip_address(service)) } else { owner() };
        let refusal = if is_address { address_refusal(asked) } else { ports::refusal(&key, asked) };
        Claim { key, value, refusal }
    }
}

/// What somebody is told who has asked for an address that another has; nothing, if any would do.
fn address_refusal(asked: &Value) -> Option<Refusal> {
    let address = text(asked, "/spec/clusterIP");
    let detail = || format!("failed to allocate IP {address}: provided IP is already allocated");
    (!address.is_empty()).then(|| Refusal::Field(FieldError::invalid("spec.clusterIPs", &json!([address]), detail())))
}

/// What a Service holds: keys of its addresses and ports.
fn held(service: &Value) -> BTreeSet<String> {
    let address = text(service, "/spec/clusterIP");
    let address = (!address.is_empty() && address != "None").then(|| address_key(address));
    address.into_iter().chain(ports::held(service).into_iter().map(ports::key)).collect()
}

/// Fills in what a Service lacks and says which keys its write takes and gives back.
pub fn allocate(service: &mut Value, old: Option<&Value>, choice: &Choice<'_>) -> Result<Guard, Refusal> {
    let asked = service.clone();
    if text(service, "/spec/type") == "ExternalName" {
        if let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
    } else {
        let address = address(service, choice)?;
        service["spec"]["clusterIP"] = json!(address);
        service["spec"]["clusterIPs"] = json!([address]);
    }
    ports::allocate(service, old, choice)?;
    let (before, after) = (old.map(held).unwrap_or_default(), held(service));
    let take = after.difference(&before).map(|key| choice.claim(key.clone(), service, &asked)).collect();
    Ok(Guard { take, release: before.difference(&after).cloned().collect() })
}

/// The address that a Service asks for, or a free one.
fn address(service: &Value, choice: &Choice<'_>) -> Result<String, Refusal> {
    let network = choice.network;
    match text(service, "/spec/clusterIP") {
        "" => network.choose(choice.random, &|address| (choice.taken)(&address_key(&address.to_string()))).ok_or_else(|| {
            Refusal::Internal(format!("failed to allocate a serviceIP for Service {:?}: range is full", meta::name(service)))
        }),
        "None" => Ok("None".to_owned()),
        asked if asked.parse().is_ok_and(|address| network.contains(address)) => Ok(asked.to_owned()),
        asked => {
            let detail = format!("failed to allocate IP {asked}: the provided network does not match the current range");
            Err(Refusal::Field(FieldError::invalid("spec.clusterIPs", &json!([asked]), detail)))
        }
    }
}

/// What a Service gives back when it goes.
#[must_use]
pub fn release(service: &Value) -> Guard {
    Guard { take: Vec::new(), release: held(service).into_iter().collect() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn choice() -> Choice<'static> {
        let network = ServiceNetwork::parse("10.96.0.0/16").unwrap();
        Choice { network, random: 0, taken: &|_| false, uid: "u", now: Timestamp::UNIX_EPOCH }
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
        assert_eq!(guard, Guard { take: vec![], release: vec![ports::key(30001)] });
    }

    #[test]
    fn addresses_outside_the_network_are_refused() {
        let mut service = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1"}});
        assert!(matches!(allocate(&mut service, None, &choice()), Err(Refusal::Field(_))));
    }

    #[test]
    fn the_last_free_address_is_found_and_then_no_other() {
        let network = ServiceNetwork::parse("10.0.0.0/28").unwrap();
        for (free, expected) in [("10.0.0.3", Ok("10.0.0.3")), ("10.0.0.14", Ok("10.0.0.14")), ("", Err("range is full"))] {
            let taken = |key: &str| key != address_key(free);
            let mut service = json!({"metadata": {"name": "s"}, "spec": {"type": "ClusterIP"}});
            let found = allocate(&mut service, None, &Choice { network, taken: &taken, random: 7, ..choice() });
            match (found, expected) {
                (Ok(_), Ok(address)) => assert_eq!(service["spec"]["clusterIP"], address),
                (Err(Refusal::Internal(why)), Err(words)) => assert!(why.ends_with(words), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn only_who_has_asked_is_told_that_it_is_taken() {
        let mut chosen = json!({"spec": {"type": "ClusterIP"}});
        let guard = allocate(&mut chosen, None, &choice()).unwrap();
        assert_eq!(guard.take[0].refusal, None);
        let mut asked = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.7.7"}});
        let guard = allocate(&mut asked, None, &choice()).unwrap();
        let Some(Refusal::Field(error)) = &guard.take[0].refusal else { panic!("it is not told") };
        assert_eq!(error.detail, "failed to allocate IP 10.96.7.7: provided IP is already allocated");
    }
}
