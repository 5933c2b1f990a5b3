//! Node ports: which a Service holds, which it asks for, and which it is given.
//!
//! Ports at the lower end are left to those who ask for one by number.
//! <https://kubernetes.io/docs/concepts/services-networking/service/#avoid-nodeport-collisions>

use std::{collections::BTreeSet, ops::RangeInclusive};

use kontiki_api::{field::FieldError, object::text};
use serde_json::{Value, json};

use super::{Choice, Refusal};

/// Ports of nodes that lead to Services.
pub const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;
/// What the keys of ports begin with.
pub const PREFIX: &str = "/registry/kontiki.io/allocations/nodeports/";
const TAKEN: &str = "provided port is already allocated";

/// Key of a port.
pub fn key(port: u16) -> String {
    format!("{PREFIX}{port}")
}

/// Port of a key.
pub fn of_key(key: &str) -> Option<u16> {
    key.strip_prefix(PREFIX)?.parse().ok()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn entries(service: &Value) -> impl Iterator<Item = &Value> {
    service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten()
}

/// Whether nodes tell a balancer if they have endpoints.
pub fn needs_health_check(service: &Value) -> bool {
    text(service, "/spec/type") == "LoadBalancer" && text(service, "/spec/externalTrafficPolicy") == "Local"
}

/// The ports of a Service, as they stand in it; those that are no ports are left out.
pub fn held(service: &Value) -> BTreeSet<u16> {
    let health = needs_health_check(service).then(|| number(&service["spec"]["healthCheckNodePort"]));
    let all = entries(service).map(|port| number(&port["nodePort"])).chain(health);
    all.filter_map(|port| u16::try_from(port).ok()).filter(|port| *port > 0).collect()
}

/// What somebody is told who has asked for a port that another has; nothing, if any would do.
pub fn refusal(key: &str, asked: &Value) -> Option<Refusal> {
    let port = u64::from(of_key(key)?);
    if let Some(index) = entries(asked).position(|entry| number(&entry["nodePort"]) == port) {
        let field = format!("spec.ports[{index}].nodePort");
        return Some(Refusal::Field(FieldError::invalid(field, &json!(port), TAKEN)));
    }
    let is_health = number(&asked["spec"]["healthCheckNodePort"]) == port;
    is_health.then(|| Refusal::Internal(format!("failed to allocate requested HealthCheck NodePort {port}: {TAKEN}")))
}

/// Whether ports are given to those that ask for none.
fn gives(service: &Value) -> bool {
    match text(service, "/spec/type") {
        "NodePort" => true,
        "LoadBalancer" => service.pointer("/spec/allocateLoadBalancerNodePorts") != Some(&Value::Bool(false)),
        _ => false,
    }
}

/// Gives a Service the ports that it lacks, and takes those that its type has not.
pub fn allocate(service: &mut Value, old: Option<&Value>, choice: &Choice<'_>) -> Result<(), Refusal> {
    let reachable = matches!(text(service, "/spec/type"), "NodePort" | "LoadBalancer");
    let gives = gives(service);
    let mut chosen = Chosen { choice, own: held(service), before: old.map(held).unwrap_or_default() };
    let mut entries = service.pointer_mut("/spec/ports").map(Value::take).unwrap_or_default();
    for index in 0..entries.as_array().map_or(0, Vec::len) {
        let wanted = number(&entries[index]["nodePort"]);
        if !reachable {
            entries[index].as_object_mut().into_iter().for_each(|port| drop(port.remove("nodePort")));
        } else if wanted > 0 {
            check_range(index, wanted)?;
        } else if gives {
            let port = match shared(&entries, index).filter(|_| old.is_none()) {
                Some(port) => port,
                None => u64::from(chosen.next("failed to allocate a nodePort: range is full")?),
            };
            entries[index]["nodePort"] = json!(port);
        }
    }
    if let Some(place) = service.pointer_mut("/spec/ports") {
        *place = entries;
    }
    if needs_health_check(service) {
        let asked = number(&service["spec"]["healthCheckNodePort"]);
        let failed = "failed to allocate a HealthCheck NodePort 0: range is full";
        let port = if asked > 0 { asked } else { u64::from(chosen.next(failed)?) };
        if u16::try_from(port).is_ok_and(|port| NODE_PORTS.contains(&port)) {
            service["spec"]["healthCheckNodePort"] = json!(port);
        } else {
            let why = out_of_range();
            return Err(Refusal::Internal(format!("failed to allocate requested HealthCheck NodePort {port}: {why}")));
        }
    }
    Ok(())
}

/// The node port of another entry for the same port of the Service: one number for TCP and UDP.
fn shared(entries: &Value, index: usize) -> Option<u64> {
    let list = entries.as_array()?;
    let same = |entry: &&Value| entry["port"] == list[index]["port"];
    list.iter().filter(same).map(|entry| number(&entry["nodePort"])).find(|port| *port > 0)
}

fn out_of_range() -> String {
    let (first, last) = (NODE_PORTS.start(), NODE_PORTS.end());
    format!("provided port is not in the valid range. The range of valid ports is {first}-{last}")
}

fn check_range(index: usize, port: u64) -> Result<(), Refusal> {
    if u16::try_from(port).is_ok_and(|port| NODE_PORTS.contains(&port)) {
        return Ok(());
    }
    let field = format!("spec.ports[{index}].nodePort");
    Err(Refusal::Field(FieldError::invalid(field, &json!(port), out_of_range())))
}

/// Ports that a Service is given one after the other.
struct Chosen<'a> {
    choice: &'a Choice<'a>,
    own: BTreeSet<u16>,
    /// Those that it had before: their keys are its own.
    before: BTreeSet<u16>,
}

impl Chosen<'_> {
    fn next(&mut self, full: &str) -> Result<u16, Refusal> {
        let (first, count) = (u32::from(*NODE_PORTS.start()), NODE_PORTS.len() as u32);
        let reserved = (count / 32).clamp(16, 128);
        let upper = count - reserved;
        let at = |offset: u32| u16::try_from(first + offset).unwrap_or(*NODE_PORTS.start());
        let others = (0..upper).map(|step| at(reserved + (self.choice.random / 7 % upper + step) % upper));
        let mut all = others.chain((0..reserved).map(at));
        let free = |port: &u16| !self.own.contains(port) && !self.before.contains(port) && !(self.choice.taken)(&key(*port));
        let port = all.find(free).ok_or_else(|| Refusal::Internal(full.to_owned()))?;
        self.own.insert(port);
        Ok(port)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::Timestamp;

    use super::*;
    use crate::addresses::{ServiceNetwork, allocate};

    fn choice(taken: &dyn Fn(&str) -> bool) -> Choice<'_> {
        let network = ServiceNetwork::parse("10.96.0.0/16").unwrap();
        Choice { network, random: 0, taken, uid: "u", now: Timestamp::UNIX_EPOCH }
    }

    fn given(mut service: Value, old: Option<&Value>) -> Result<Vec<u64>, Refusal> {
        service["spec"]["clusterIP"] = json!("None");
        allocate(&mut service, old, &choice(&|_| false))?;
        Ok(entries(&service)
            .map(|port| number(&port["nodePort"]))
            .chain([number(&service["spec"]["healthCheckNodePort"])])
            .collect())
    }

    #[test]
    fn ports_are_given_as_kubernetes_gives_them() {
        for (spec, expected) in [
            (json!({"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}), vec![30_086, 30_087, 0]),
            // One port for both protocols, asked for or not.
            (
                json!({"type": "NodePort", "ports": [{"port": 1, "protocol": "TCP"}, {"port": 1, "protocol": "UDP"}]}),
                vec![30_086, 30_086, 0],
            ),
            (json!({"type": "NodePort", "ports": [{"port": 1}, {"port": 1, "nodePort": 30_005}]}), vec![30_005, 30_005, 0]),
            // A balancer that wants none gets those that it asks for.
            (
                json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 1}, {"port": 2, "nodePort": 30_006}]}),
                vec![0, 30_006, 0],
            ),
            (json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 1}]}), vec![30_086, 30_087]),
            (
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30_099, "ports": [{"port": 1}]}),
                vec![30_086, 30_099],
            ),
            (json!({"type": "ClusterIP", "ports": [{"port": 1, "nodePort": 30_001}]}), vec![0, 0]),
        ] {
            assert_eq!(given(json!({ "spec": spec }), None).unwrap(), expected, "{spec}");
        }
    }

    #[test]
    fn a_port_outside_the_range_is_refused_by_its_field() {
        let service = json!({"spec": {"type": "NodePort", "ports": [{"port": 1}, {"port": 2, "nodePort": 80}]}});
        let Err(Refusal::Field(error)) = given(service, None) else { panic!("it was given") };
        let words = "provided port is not in the valid range. The range of valid ports is 30000-32767";
        assert_eq!((error.field.as_str(), error.detail.as_str()), ("spec.ports[1].nodePort", words));
    }

    #[test]
    fn a_taken_port_is_told_to_who_has_asked_for_it() {
        let mut service =
            json!({"spec": {"type": "NodePort", "clusterIP": "None", "ports": [{"port": 1}, {"port": 2, "nodePort": 30_007}]}});
        let guard = allocate(&mut service, None, &choice(&|_| false)).unwrap();
        let told: Vec<_> = guard.take.iter().map(|claim| (claim.key.as_str(), claim.refusal.is_some())).collect();
        assert_eq!(told, [(key(30_007).as_str(), true), (key(30_086).as_str(), false)]);
    }

    #[test]
    fn the_last_free_port_is_found() {
        let last = |port: u16| move |taken: &str| taken != key(port);
        for port in [30_003, 32_767] {
            let mut service = json!({"spec": {"type": "NodePort", "clusterIP": "None", "ports": [{"port": 1}]}});
            allocate(&mut service, None, &choice(&last(port))).unwrap();
            assert_eq!(service["spec"]["ports"][0]["nodePort"], port);
        }
        let mut service = json!({"spec": {"type": "NodePort", "clusterIP": "None", "ports": [{"port": 1}]}});
        let full = Err(Refusal::Internal("failed to allocate a nodePort: range is full".to_owned()));
        assert_eq!(allocate(&mut service, None, &choice(&|_| true)), full);
    }
}
