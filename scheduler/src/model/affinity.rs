//! Affinities and spread constraints, parsed from a pod's spec.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/>

use std::collections::BTreeSet;

use kontiki_api::selector::{LabelSelector, Requirement};
use serde_json::Value;

use super::{HOSTNAME, Labels, Node, ZONE, pod::Pod};

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

/// A term about a node. One without any expression fits none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeTerm {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
    impossible: bool,
}

impl NodeTerm {
    /// Reads a `NodeSelectorTerm`.
    pub fn parse(term: &Value) -> Self {
        let mut parsed = Self::default();
        for expression in list(term, "/matchExpressions") {
            requirement(expression).map_or_else(|| parsed.impossible = true, |one| parsed.labels.push(one));
        }
        for expression in list(term, "/matchFields") {
            requirement(expression).map_or_else(|| parsed.impossible = true, |one| parsed.fields.push(one));
        }
        parsed.impossible |= parsed.labels.is_empty() && parsed.fields.is_empty();
        parsed
    }

    /// Whether a node fits.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        if self.impossible {
            return false;
        }
        let fields = Field { name };
        LabelSelector::matches_all(&self.labels, labels) && LabelSelector::matches_all(&self.fields, &fields)
    }

    /// Names that the term is bound to by `metadata.name`, if it is.
    pub fn names(&self) -> Option<BTreeSet<&str>> {
        self.fields.iter().find_map(|field| match field {
            Requirement::In(key, values) if key == "metadata.name" => Some(values.iter().map(String::as_str).collect()),
            _ => None,
        })
    }
}

struct Field<'a> {
    name: &'a str,
}

impl kontiki_api::selector::LabelSource for Field<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        (key == "metadata.name").then_some(self.name)
    }
}

fn requirement(expression: &Value) -> Option<Requirement> {
    let (key, values) = (text(&expression["key"]), texts(&expression["values"]));
    let bound = || values.first().and_then(|value| value.parse().ok());
    Some(match expression["operator"].as_str()? {
        "In" => Requirement::In(key, values),
        "NotIn" => Requirement::NotIn(key, values),
        "Exists" => Requirement::Exists(key),
        "DoesNotExist" => Requirement::DoesNotExist(key),
        "Gt" => Requirement::GreaterThan(key, bound()?),
        "Lt" => Requirement::LessThan(key, bound()?),
        _ => return None,
    })
}

/// Which nodes a pod must or would rather run on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeAffinity {
    /// One of these must fit; `None` where nothing is required.
    pub required: Option<Vec<NodeTerm>>,
    /// Weighted wishes.
    pub preferred: Vec<(i64, NodeTerm)>,
}

impl NodeAffinity {
    /// Reads a `NodeSelector` that is required.
    pub fn terms(selector: &Value) -> Option<Vec<NodeTerm>> {
        selector.get("nodeSelectorTerms").map(|_| list(selector, "/nodeSelectorTerms").map(NodeTerm::parse).collect())
    }

    /// Reads a pod's `affinity.nodeAffinity`.
    pub fn parse(affinity: &Value) -> Self {
        let preferred = list(affinity, "/preferredDuringSchedulingIgnoredDuringExecution");
        Self {
            required: Self::terms(&affinity["requiredDuringSchedulingIgnoredDuringExecution"]),
            preferred: preferred.map(|one| (one["weight"].as_i64().unwrap_or(0), NodeTerm::parse(&one["preference"]))).collect(),
        }
    }

    /// Whether a node fits what is required.
    pub fn allows(&self, name: &str, labels: &Labels) -> bool {
        self.required.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(name, labels)))
    }

    /// Names of the only nodes that can fit, where every term is bound to names.
    pub fn names(&self) -> Option<BTreeSet<&str>> {
        let terms = self.required.as_ref()?;
        let names: Option<Vec<_>> = terms.iter().map(NodeTerm::names).collect();
        names.filter(|names| !names.is_empty()).map(|names| names.into_iter().flatten().collect())
    }
}

/// A term about other pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodTerm {
    /// Labels of the other pods; `None` selects none.
    pub selector: Option<LabelSelector>,
    /// Their namespaces.
    pub namespaces: Vec<String>,
    /// Labels of further namespaces.
    pub namespace_selector: Option<LabelSelector>,
    /// Label that says which nodes are one domain.
    pub topology_key: String,
}

impl PodTerm {
    /// Reads a `PodAffinityTerm` of a pod in `namespace`.
    pub fn parse(term: &Value, namespace: &str) -> Self {
        let selector = |value: &Value| value.is_object().then(|| LabelSelector::from_value(value));
        let mut namespaces = texts(&term["namespaces"]);
        let namespace_selector = selector(&term["namespaceSelector"]);
        if namespaces.is_empty() && namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        Self {
            selector: selector(&term["labelSelector"]),
            namespaces,
            namespace_selector,
            topology_key: text(&term["topologyKey"]),
        }
    }

    /// Whether a pod is meant; `labels_of` gives a namespace's labels.
    pub fn matches<'a>(&self, pod: &Pod, labels_of: impl Fn(&str) -> Option<&'a Labels>) -> bool {
        let namespace = &pod.metadata.namespace;
        let inside = self.namespaces.contains(namespace)
            || self.namespace_selector.as_ref().is_some_and(|selector| {
                selector.is_empty() || labels_of(namespace).is_some_and(|labels| selector.matches(labels))
            });
        inside && self.selector.as_ref().is_some_and(|selector| selector.matches(&pod.metadata.labels))
    }
}

/// Affinity to other pods, or the opposite.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodAffinity {
    /// All must hold.
    pub required: Vec<PodTerm>,
    /// Weighted wishes.
    pub preferred: Vec<(i64, PodTerm)>,
}

impl PodAffinity {
    /// Reads `affinity.podAffinity` or `affinity.podAntiAffinity` of a pod in `namespace`.
    pub fn parse(affinity: &Value, namespace: &str) -> Self {
        let preferred = list(affinity, "/preferredDuringSchedulingIgnoredDuringExecution");
        let required = list(affinity, "/requiredDuringSchedulingIgnoredDuringExecution");
        Self {
            required: required.map(|term| PodTerm::parse(term, namespace)).collect(),
            preferred: preferred
                .map(|one| (one["weight"].as_i64().unwrap_or(0), PodTerm::parse(&one["podAffinityTerm"], namespace)))
                .collect(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.required.is_empty() && self.preferred.is_empty()
    }
}

/// How evenly pods are spread.
#[derive(Clone, Debug, PartialEq)]
pub struct SpreadConstraint {
    /// Most pods that one domain may have above the emptiest.
    pub max_skew: i64,
    /// Label that says which nodes are one domain.
    pub topology_key: String,
    /// Whether it is a wish alone.
    pub soft: bool,
    /// Which pods count.
    pub selector: LabelSelector,
    /// Domains below which the emptiest counts as empty.
    pub min_domains: usize,
    /// Whether only nodes count that the pod's node affinity allows.
    pub honors_affinity: bool,
    /// Whether only nodes count whose taints the pod tolerates.
    pub honors_taints: bool,
}

impl SpreadConstraint {
    /// Reads a `TopologySpreadConstraint` of a pod with these labels.
    pub fn parse(constraint: &Value, labels: &Labels) -> Self {
        let mut requirements = Vec::new();
        for key in texts(&constraint["matchLabelKeys"]) {
            if let Some(value) = labels.get(&key) {
                requirements.push(Requirement::In(key, vec![value.clone()]));
            }
        }
        let selector = LabelSelector::from_value(&constraint["labelSelector"]);
        Self {
            max_skew: constraint["maxSkew"].as_i64().unwrap_or(1),
            topology_key: text(&constraint["topologyKey"]),
            soft: constraint["whenUnsatisfiable"] == "ScheduleAnyway",
            selector: selector.and(requirements),
            min_domains: constraint["minDomains"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(1),
            honors_affinity: constraint["nodeAffinityPolicy"] != "Ignore",
            honors_taints: constraint["nodeTaintsPolicy"] == "Honor",
        }
    }

    /// What holds for pods that say nothing: over hosts, and more loosely over zones.
    pub fn system_defaults(selector: &LabelSelector) -> Vec<Self> {
        let wish = |topology_key: &str, max_skew| Self {
            max_skew,
            topology_key: topology_key.to_owned(),
            soft: true,
            selector: selector.clone(),
            min_domains: 1,
            honors_affinity: true,
            honors_taints: false,
        };
        vec![wish(HOSTNAME, 3), wish(ZONE, 5)]
    }

    /// Whether a node counts for a pod.
    pub fn counts(&self, pod: &Pod, node: &Node) -> bool {
        (!self.honors_affinity || pod.selects(node)) && (!self.honors_taints || pod.untolerated(node).is_none())
    }
}
