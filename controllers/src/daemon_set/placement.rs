//! On which nodes a DaemonSet's pods belong. Pure.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    model::{Labels, Requirement, Toleration},
    node_lifecycle::Node,
    taints::{NO_EXECUTE, NO_SCHEDULE, untolerated},
};

/// What of a template decides about nodes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Placement {
    node_name: String,
    node_selector: Labels,
    affinity: Option<Affinity>,
    tolerations: Vec<Toleration>,
    host_network: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Affinity {
    node_affinity: Option<NodeAffinity>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeAffinity {
    required_during_scheduling_ignored_during_execution: Option<Terms>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Terms {
    node_selector_terms: Vec<Term>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Term {
    match_expressions: Vec<Requirement>,
    match_fields: Vec<Requirement>,
}

impl Term {
    fn holds(&self, node: &Node) -> bool {
        let label = |key: &str| node.metadata.labels.get(key).map(String::as_str);
        let field = |key: &str| (key == "metadata.name").then_some(node.metadata.name.as_str());
        let something = !self.match_expressions.is_empty() || !self.match_fields.is_empty();
        something
            && self.match_expressions.iter().all(|one| one.holds(label(&one.key)))
            && self.match_fields.iter().all(|one| one.holds(field(&one.key)))
    }
}

/// What every pod of a DaemonSet tolerates: key and effect.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", NO_EXECUTE),
    ("node.kubernetes.io/unreachable", NO_EXECUTE),
    ("node.kubernetes.io/disk-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/memory-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/pid-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/unschedulable", NO_SCHEDULE),
];
/// What those in the node's own network tolerate besides.
const TOLERATED_BY_HOST_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", NO_SCHEDULE);

fn tolerated(host_network: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    TOLERATED.into_iter().chain(host_network.then_some(TOLERATED_BY_HOST_NETWORK))
}

/// Whether a node gets a pod, and whether one that is there may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suits {
    /// A pod is started there.
    pub start: bool,
    /// A pod that is there stays.
    pub stay: bool,
}

impl Placement {
    /// That of a template.
    pub fn of(template: &Value) -> Self {
        let mut placement = Self::deserialize(&template["spec"]).unwrap_or_default();
        let own = tolerated(placement.host_network).map(|(key, effect)| Toleration::exists(key, effect));
        placement.tolerations.extend(own);
        placement
    }

    /// Whether a node suits.
    pub fn suits(&self, node: &Node) -> Suits {
        let named = self.node_name.is_empty() || self.node_name == node.metadata.name;
        let labels = &node.metadata.labels;
        let selected = self.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        let affinity = self.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        let wanted = required.is_none_or(|required| required.node_selector_terms.iter().any(|term| term.holds(node)));
        if !(named && selected && wanted) {
            return Suits { start: false, stay: false };
        }
        let taints = &node.spec.taints;
        let start = untolerated(taints, &self.tolerations, &[NO_SCHEDULE, NO_EXECUTE]).is_none();
        Suits { start, stay: start || untolerated(taints, &self.tolerations, &[NO_EXECUTE]).is_none() }
    }
}

/// Makes a pod one for that node alone: by affinity to the node's name, so that the scheduler still decides.
pub fn aim(pod: &mut Value, node: &str) {
    let host_network = pod["spec"]["hostNetwork"] == true;
    let mut tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    for (key, effect) in tolerated(host_network) {
        let toleration = json!({ "key": key, "operator": "Exists", "effect": effect });
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    pod["spec"]["tolerations"] = json!(tolerations);
    let term = json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [node] }] });
    pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
        json!({ "nodeSelectorTerms": [term] });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node(name: &str, taints: Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"disk": "ssd"}}, "spec": {"taints": taints}}))
            .unwrap()
    }

    #[test]
    fn nodes_suit_by_name_labels_affinity_and_taints() {
        let term = |key: &str, value: &str| {
            let terms = json!([{"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}]);
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
        };
        let taint = |key: &str, effect: &str| json!([{"key": key, "effect": effect}]);
        let cases = [
            (json!({}), json!([]), (true, true)),
            (json!({"nodeName": "other"}), json!([]), (false, false)),
            (json!({"nodeSelector": {"disk": "ssd"}}), json!([]), (true, true)),
            (json!({"nodeSelector": {"disk": "hdd"}}), json!([]), (false, false)),
            (term("disk", "ssd"), json!([]), (true, true)),
            (term("disk", "hdd"), json!([]), (false, false)),
            (json!({}), taint("x", "NoSchedule"), (false, true)),
            (json!({}), taint("x", "NoExecute"), (false, false)),
            (json!({}), taint("x", "PreferNoSchedule"), (true, true)),
            (json!({}), taint("node.kubernetes.io/not-ready", "NoExecute"), (true, true)),
            (json!({}), taint("node.kubernetes.io/unschedulable", "NoSchedule"), (true, true)),
            (json!({}), taint("node.kubernetes.io/network-unavailable", "NoSchedule"), (false, true)),
            (json!({"hostNetwork": true}), taint("node.kubernetes.io/network-unavailable", "NoSchedule"), (true, true)),
        ];
        for (spec, taints, (start, stay)) in cases {
            let found = Placement::of(&json!({ "spec": spec })).suits(&node("n", taints.clone()));
            assert_eq!(found, Suits { start, stay }, "{spec} {taints}");
        }
    }

    #[test]
    fn a_pod_is_aimed_at_its_node_alone() {
        let mut pod = json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}}}});
        aim(&mut pod, "n");
        let aimed: crate::model::Pod = serde_json::from_value(pod.clone()).unwrap();
        assert_eq!(aimed.target_node(), "n");
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), TOLERATED.len());
        let again = pod.clone();
        aim(&mut pod, "n");
        assert_eq!(pod, again);
    }
}
