//! A pod as the checks see it, and what they say.

use std::collections::BTreeSet;

use kontiki_api::object::meta;
use serde_json::Value;

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// A pod or a template of one.
pub struct Pod<'a> {
    pub annotations: Vec<(&'a str, &'a str)>,
    pub spec: &'a Value,
    pub containers: Vec<&'a Value>,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub reason: String,
    pub detail: String,
}

/// A finding, if there is something to say.
pub fn finding(reason: &str, detail: String) -> Option<Finding> {
    Some(Finding { reason: reason.to_owned(), detail })
}

impl<'a> Pod<'a> {
    pub fn of(holder: &'a Value) -> Self {
        let spec = &holder["spec"];
        let annotations = meta::get(holder, "annotations").and_then(Value::as_object).into_iter().flatten();
        let containers = LISTS.iter().filter_map(|list| spec.get(*list)?.as_array()).flatten();
        Self {
            annotations: annotations.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect(),
            spec,
            containers: containers.collect(),
        }
    }

    pub fn is_windows(&self) -> bool {
        self.spec["os"]["name"] == "windows"
    }

    pub fn has_own_users(&self) -> bool {
        self.spec["hostUsers"] == false
    }

    /// Names of the containers that a condition holds for, in order.
    pub fn containers_where(&self, condition: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        let named = self.containers.iter().filter(|container| condition(container));
        named.map(|container| container["name"].as_str().unwrap_or_default()).collect()
    }

    /// `pod`, `container "a"` or both: who says something in its security context that a condition calls bad.
    pub fn setters(&self, field: &str, bad: impl Fn(&Value) -> bool) -> Option<String> {
        let says = |holder: &Value| holder["securityContext"].get(field).is_some_and(|value| !value.is_null() && bad(value));
        let containers = self.containers_where(says);
        let mut setters = Vec::new();
        if says(self.spec) {
            setters.push("pod".to_owned());
        }
        if !containers.is_empty() {
            setters.push(counted("container", &containers));
        }
        (!setters.is_empty()).then(|| setters.join(" and "))
    }

    /// What pod and containers say in that field of their security context.
    pub fn said(&self, field: &str) -> impl Iterator<Item = &'a Value> {
        let holders = std::iter::once(self.spec).chain(self.containers.clone());
        let field = field.to_owned();
        holders.filter_map(move |holder| holder["securityContext"].get(&field)).filter(|value| !value.is_null())
    }
}

/// `container "a"` or `containers "a", "b"`.
pub fn counted(noun: &str, names: &[&str]) -> String {
    format!("{} {}", plural(noun, names.len()), quoted(names))
}

/// A noun, in the plural unless it is one.
pub fn plural(noun: &str, count: usize) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

/// `"a", "b"`.
pub fn quoted<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    names.into_iter().map(|name| format!("\"{}\"", name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// Texts, sorted, each once.
pub fn sorted<'a>(values: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    values.collect()
}

/// Whether an update changes what is looked at: images do not count, containers and annotations do.
pub fn differs(new: &Value, old: &Value) -> bool {
    let relevant = |pod: &Value| {
        let annotations: Vec<(String, Value)> = meta::get(pod, "annotations")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter(|(key, _)| key.contains("apparmor.security") || key.contains("seccomp.security"))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let mut spec = pod["spec"].clone();
        for list in LISTS {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(container) = container.as_object_mut() {
                    container.remove("image");
                }
            }
        }
        if let Some(spec) = spec.as_object_mut() {
            for field in ["activeDeadlineSeconds", "tolerations"] {
                spec.remove(field);
            }
        }
        (annotations, spec)
    };
    relevant(new) != relevant(old)
}
