//! What one object uses of each resource that a quota can bound.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::list::{Amount, List};
use crate::{
    kinds::pod::resources::{Amounts, amounts, pod_limits, pod_requests},
    object::{meta, text},
};

const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
/// Resources that every container must speak of where a quota bounds them.
const SPOKEN_OF: [&str; 6] = ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
const POD_RESOURCES: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
const SERVICE_RESOURCES: [&str; 3] = ["services", "services.loadbalancers", "services.nodeports"];
const CLAIM_RESOURCES: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
/// Resources that are counted under their plural too.
const COUNTED_BY_PLURAL: [&str; 4] = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];

/// Counts objects of one resource.
#[derive(Clone, Copy, Debug)]
pub struct Evaluator<'a> {
    /// API group.
    pub group: &'a str,
    /// Plural.
    pub plural: &'a str,
}

impl Evaluator<'_> {
    /// `count/PLURAL.GROUP`.
    #[must_use]
    pub fn object_count(&self) -> String {
        if self.group.is_empty() { format!("count/{}", self.plural) } else { format!("count/{}.{}", self.plural, self.group) }
    }

    fn is(&self, plural: &str) -> bool {
        self.group.is_empty() && self.plural == plural
    }

    /// Whether objects of this resource use a resource of a quota.
    #[must_use]
    pub fn measures(&self, name: &str) -> bool {
        if name == self.object_count() {
            return true;
        }
        match (self.group, self.plural) {
            ("", "pods") => {
                POD_RESOURCES.contains(&name)
                    || name.starts_with("hugepages-")
                    || name.strip_prefix("requests.").is_some_and(|rest| rest.starts_with("hugepages-") || is_extended(rest))
            }
            ("", "services") => SERVICE_RESOURCES.contains(&name),
            ("", "persistentvolumeclaims") => {
                let own = name.split_once(STORAGE_CLASS).map_or(name, |(_, own)| own);
                CLAIM_RESOURCES.contains(&own)
            }
            ("resource.k8s.io", "resourceclaims") => name.ends_with(".deviceclass.resource.k8s.io/devices"),
            ("", plural) => COUNTED_BY_PLURAL.contains(&plural) && name == plural,
            _ => false,
        }
    }

    /// What an object uses.
    #[must_use]
    pub fn usage(&self, object: &Value, now: Timestamp) -> List {
        let mut list = List::default();
        list.add(&self.object_count(), Amount::of(1));
        if self.is("pods") && is_charged(object, now) {
            add_pod(&mut list, &object["spec"]);
        } else if self.is("services") {
            add_service(&mut list, object);
        } else if self.is("persistentvolumeclaims") {
            add_claim(&mut list, object);
        } else if self.group == "resource.k8s.io" && self.plural == "resourceclaims" {
            add_devices(&mut list, object);
        } else if self.group.is_empty() && COUNTED_BY_PLURAL.contains(&self.plural) {
            list.add(self.plural, Amount::of(1));
        }
        list
    }

    /// What containers must say and do not, where a quota bounds these resources.
    #[must_use]
    pub fn unspoken(&self, object: &Value, bounded: &List) -> Option<String> {
        if !self.is("pods") || object.pointer("/spec/resources").is_some_and(has_amounts) {
            return None;
        }
        let parts: Vec<String> =
            SPOKEN_OF.iter().filter(|name| bounded.0.contains_key(**name)).filter_map(|name| missing(object, name)).collect();
        (!parts.is_empty()).then(|| format!("must specify {}", parts.join("; ")))
    }
}

fn has_amounts(resources: &Value) -> bool {
    ["requests", "limits"].iter().any(|field| resources[*field].as_object().is_some_and(|amounts| !amounts.is_empty()))
}

fn missing(pod: &Value, name: &str) -> Option<String> {
    let (field, resource) = match name.split_once('.') {
        Some((field, resource)) => (field, resource),
        None => ("requests", name),
    };
    let lists = ["/spec/containers", "/spec/initContainers"].into_iter();
    let containers = lists.filter_map(|list| pod.pointer(list)?.as_array()).flatten();
    let mut names: Vec<&str> = containers
        .filter(|container| !amounts(container, field).contains_key(resource))
        .map(|container| container["name"].as_str().unwrap_or_default())
        .collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| format!("{name} for: {}", names.join(",")))
}

/// Whether a pod still counts: not once it has ended, nor once its grace is over.
#[must_use]
pub fn is_charged(pod: &Value, now: Timestamp) -> bool {
    if matches!(text(pod, "/status/phase"), "Failed" | "Succeeded") {
        return false;
    }
    let deleted = meta::text(pod, "deletionTimestamp").parse::<Timestamp>();
    let grace = meta::get(pod, "deletionGracePeriodSeconds").and_then(Value::as_i64);
    match (deleted, grace) {
        (Ok(deleted), Some(grace)) => deleted.checked_add(SignedDuration::from_secs(grace)).is_ok_and(|end| now <= end),
        _ => true,
    }
}

/// Whether a resource is neither the machine's nor Kubernetes' own.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

fn add_pod(list: &mut List, spec: &Value) {
    list.add("pods", Amount::of(1));
    let (requests, limits) = (pod_requests(spec), pod_limits(spec));
    let amount = |amounts: &Amounts, field: &str, name: &str| {
        amounts.get(name).map(|quantity| Amount { quantity: *quantity, binary: is_binary(spec, field, name) })
    };
    for name in requests.keys() {
        let Some(request) = amount(&requests, "requests", name) else { continue };
        let native = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
        if native {
            list.add(name, request);
        }
        if native || is_extended(name) {
            list.add(&format!("requests.{name}"), request);
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(limit) = amount(&limits, "limits", name) {
            list.add(&format!("limits.{name}"), limit);
        }
    }
}

/// Whether the first container that says an amount says it with a binary suffix.
fn is_binary(spec: &Value, field: &str, name: &str) -> bool {
    let lists = ["containers", "initContainers"].into_iter();
    let mut containers = lists.filter_map(|list| spec.get(list)?.as_array()).flatten();
    containers.find_map(|container| container["resources"][field].get(name)?.as_str()).is_some_and(|text| text.ends_with('i'))
}

fn add_service(list: &mut List, service: &Value) {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let count = |number: usize| Amount::of(i64::try_from(number).unwrap_or(i64::MAX));
    let kind = text(service, "/spec/type");
    let allocates = service.pointer("/spec/allocateLoadBalancerNodePorts") != Some(&Value::Bool(false));
    let node_ports = match kind {
        "NodePort" => ports.len(),
        "LoadBalancer" if allocates => ports.len(),
        "LoadBalancer" => ports.iter().filter(|port| port["nodePort"].as_u64().is_some_and(|port| port != 0)).count(),
        _ => 0,
    };
    list.add("services", Amount::of(1));
    list.add("services.loadbalancers", Amount::of(i64::from(kind == "LoadBalancer")));
    list.add("services.nodeports", count(node_ports));
}

fn add_claim(list: &mut List, claim: &Value) {
    let annotated = meta::annotation(claim, "volume.beta.kubernetes.io/storage-class").unwrap_or_default();
    let class = if annotated.is_empty() { text(claim, "/spec/storageClassName") } else { annotated };
    let mut add = |name: &str, amount: Amount| {
        list.add(name, amount);
        if !class.is_empty() {
            list.add(&format!("{class}{STORAGE_CLASS}{name}"), amount);
        }
    };
    add("persistentvolumeclaims", Amount::of(1));
    let Some(asked) = claim.pointer("/spec/resources/requests/storage").map(Amount::parse) else { return };
    let allocated = claim.pointer("/status/allocatedResources/storage").map(Amount::parse).unwrap_or_default();
    let most = if allocated.quantity > asked.quantity { allocated } else { asked };
    // Whole bytes only.
    add("requests.storage", Amount { quantity: crate::quantity::Quantity::from_whole(most.quantity.whole()), ..most });
}

fn add_devices(list: &mut List, claim: &Value) {
    let requests = claim.pointer("/spec/devices/requests").and_then(Value::as_array).into_iter().flatten();
    for request in requests {
        let alternatives = request["firstAvailable"].as_array().into_iter().flatten();
        let options: Vec<&Value> = request.get("exactly").into_iter().chain(alternatives).collect();
        // Of alternatives the one that uses most of a class counts.
        let mut most = List::default();
        for option in options {
            let class = format!("{}.deviceclass.resource.k8s.io/devices", text(option, "/deviceClassName"));
            let number = if option["allocationMode"] == "All" { 32 } else { option["count"].as_i64().unwrap_or(1) };
            let known = most.0.entry(class).or_default();
            if Amount::of(number).quantity > known.quantity {
                *known = Amount::of(number);
            }
        }
        list.add_all(&most);
    }
}
