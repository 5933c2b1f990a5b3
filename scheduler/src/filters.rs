//! Filters: why a pod cannot run on a node, in Kubernetes' words. Pure.
//!
//! <https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins>

use serde_json::Value;

use crate::{
    model::{Labels, Node, Pod},
    snapshot::NodeInfo,
};

/// Why not, and whether evicting other pods could help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The words; one node may have several.
    pub reasons: Vec<String>,
    /// Whether pods of lower priority stand in the way.
    pub resolvable: bool,
}

fn refuse(reason: &str, resolvable: bool) -> Option<Refusal> {
    Some(Refusal { reasons: vec![reason.to_owned()], resolvable })
}

/// A filter.
pub type Filter = fn(&Pod, &NodeInfo) -> Option<Refusal>;

/// All filters under Kubernetes' names, in the order in which they are asked; the first refusal counts.
pub const FILTERS: [(&str, Filter); 6] = [
    ("NodeUnschedulable", unschedulable),
    ("NodeName", node_name),
    ("TaintToleration", taints),
    ("NodeAffinity", affinity),
    ("NodePorts", ports),
    ("NodeResourcesFit", resources),
];

fn unschedulable(pod: &Pod, info: &NodeInfo) -> Option<Refusal> {
    let taint =
        crate::model::Taint { key: "node.kubernetes.io/unschedulable".into(), value: String::new(), effect: "NoSchedule".into() };
    let tolerated = pod.spec.tolerations.iter().any(|toleration| toleration.tolerates(&taint));
    if info.node.spec.unschedulable && !tolerated { refuse("node(s) were unschedulable", false) } else { None }
}

fn node_name(pod: &Pod, info: &NodeInfo) -> Option<Refusal> {
    let other = !pod.spec.node_name.is_empty() && pod.spec.node_name != info.node.metadata.name;
    if other { refuse("node(s) didn't match the requested node name", false) } else { None }
}

fn taints(pod: &Pod, info: &NodeInfo) -> Option<Refusal> {
    let hard = info.node.spec.taints.iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    let tolerated = |taint| pod.spec.tolerations.iter().any(|toleration| toleration.tolerates(taint));
    if hard.into_iter().all(tolerated) { None } else { refuse("node(s) had untolerated taint(s)", false) }
}

fn affinity(pod: &Pod, info: &NodeInfo) -> Option<Refusal> {
    let labels = &info.node.metadata.labels;
    let selected = pod.spec.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    let required = &pod.spec.affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    let fits = required.as_array().is_none_or(|terms| terms.iter().any(|term| term_matches(term, &info.node)));
    if selected && fits { None } else { refuse("node(s) didn't match Pod's node affinity/selector", false) }
}

/// Whether a node fits a term. A term without any expression fits none.
pub fn term_matches(term: &Value, node: &Node) -> bool {
    let list = |name: &str| term[name].as_array().cloned().unwrap_or_default();
    let (expressions, fields) = (list("matchExpressions"), list("matchFields"));
    let name = Labels::from([("metadata.name".to_owned(), node.metadata.name.clone())]);
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|expression| expression_matches(expression, &node.metadata.labels))
        && fields.iter().all(|field| expression_matches(field, &name))
}

fn expression_matches(expression: &Value, labels: &Labels) -> bool {
    let found = expression["key"].as_str().and_then(|key| labels.get(key));
    let values: Vec<&str> = expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let number = |text: &str| text.parse::<i64>().ok();
    let bound = values.first().and_then(|value| number(value));
    let own = found.and_then(|value| number(value));
    match expression["operator"].as_str() {
        Some("In") => found.is_some_and(|found| values.contains(&found.as_str())),
        Some("NotIn") => found.is_none_or(|found| !values.contains(&found.as_str())),
        Some("Exists") => found.is_some(),
        Some("DoesNotExist") => found.is_none(),
        Some("Gt") => own.zip(bound).is_some_and(|(own, bound)| own > bound),
        Some("Lt") => own.zip(bound).is_some_and(|(own, bound)| own < bound),
        _ => false,
    }
}

fn ports(pod: &Pod, info: &NodeInfo) -> Option<Refusal> {
    let taken = info.pods.iter().flat_map(|other| &other.spec.host_ports);
    let meets = |(protocol, address, number): &(String, String, u64)| {
        taken.clone().any(|(other_protocol, other_address, other)| {
            let everywhere = address == "0.0.0.0" || other_address == "0.0.0.0";
            number == other && protocol == other_protocol && (everywhere || address == other_address)
        })
    };
    if pod.spec.host_ports.iter().any(meets) {
        refuse("node(s) didn't have free ports for the requested pod ports", true)
    } else {
        None
    }
}

fn resources(pod: &Pod, info: &NodeInfo) -> Option<Refusal> {
    let mut reasons = Vec::new();
    let mut resolvable = true;
    let (pods, _) = info.amounts("pods");
    if i64::try_from(info.pods.len()).unwrap_or(i64::MAX) >= pods.whole() {
        reasons.push("Too many pods".to_owned());
    }
    for (name, wanted) in pod.spec.requests.iter().filter(|(_, wanted)| !wanted.is_zero()) {
        let (all, taken) = info.amounts(name);
        if taken + *wanted > all {
            reasons.push(format!("Insufficient {name}"));
            // More than the whole node has helps no eviction.
            resolvable &= *wanted <= all;
        }
    }
    (!reasons.is_empty()).then_some(Refusal { reasons, resolvable })
}
