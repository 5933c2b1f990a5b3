//! Roles and bindings, kept by subject: the state that decisions are made from.
//!
//! In: one change of a role or a binding at a time, as the watch cache reports it. Out: the rules
//! that a user holds in a namespace, found without looking at anybody else's bindings.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kontiki_api::selector::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

use super::{Attributes, Decision, rules::PolicyRule};
use crate::auth::{UserInfo, user};

/// Namespace (empty: the cluster) and name.
type ObjectName = (String, String);

/// Roles and bindings of one cluster.
#[derive(Clone, Debug, Default)]
pub struct Index {
    roles: HashMap<ObjectName, Role>,
    bindings: HashMap<ObjectName, Binding>,
    /// Namespace, then subject, then the names of the bindings that name it.
    by_subject: HashMap<String, HashMap<Holder, BTreeSet<String>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Role {
    metadata: RoleMetadata,
    rules: Option<Vec<PolicyRule>>,
    aggregation_rule: Option<AggregationRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RoleMetadata {
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AggregationRule {
    cluster_role_selectors: Vec<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Binding {
    subjects: Option<Vec<Subject>>,
    role_ref: RoleRef,
}

/// Which role a binding grants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RoleRef {
    /// `Role` or `ClusterRole`.
    pub kind: String,
    /// Name of the role.
    pub name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    User(String),
    Group(String),
}

impl Subject {
    fn holder(&self, namespace: &str) -> Option<Holder> {
        match self.kind.as_str() {
            "User" => Some(Holder::User(self.name.clone())),
            "Group" => Some(Holder::Group(self.name.clone())),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { namespace } else { &self.namespace };
                let complete = !namespace.is_empty();
                complete.then(|| Holder::User(user::service_account_name(namespace, &self.name)))
            }
            _ => None,
        }
    }

    fn describe(&self, namespace: &str) -> String {
        let namespace = if self.namespace.is_empty() { namespace } else { &self.namespace };
        let name = if self.kind == "ServiceAccount" { format!("{}/{namespace}", self.name) } else { self.name.clone() };
        format!("{} {name:?}", self.kind)
    }
}

impl RoleRef {
    /// The role's key, as seen from a binding in a namespace.
    fn key(&self, namespace: &str) -> ObjectName {
        let namespace = if self.kind == "ClusterRole" { "" } else { namespace };
        (namespace.to_owned(), self.name.clone())
    }
}

/// What stands behind one rule that a user holds.
struct Grant<'a> {
    namespace: &'a str,
    binding_name: &'a str,
    binding: &'a Binding,
}

impl Grant<'_> {
    fn describe(&self, holders: &[Holder]) -> String {
        let subjects = self.binding.subjects.iter().flatten();
        let subject = subjects
            .filter(|subject| subject.holder(self.namespace).is_some_and(|holder| holders.contains(&holder)))
            .map(|subject| subject.describe(self.namespace))
            .next()
            .unwrap_or_default();
        let (kind, name) = if self.namespace.is_empty() {
            ("ClusterRoleBinding", self.binding_name.to_owned())
        } else {
            ("RoleBinding", format!("{}/{}", self.binding_name, self.namespace))
        };
        let role = &self.binding.role_ref;
        format!("{kind} {name:?} of {} {:?} to {subject}", role.kind, role.name)
    }
}

impl Index {
    /// Takes in one change of a Role or ClusterRole (namespace empty); `None` means deleted.
    pub fn set_role(&mut self, namespace: &str, name: &str, object: Option<&[u8]>) {
        let key = (namespace.to_owned(), name.to_owned());
        match decode::<Role>(object, "role", name) {
            Some(role) => self.roles.insert(key, role),
            None => self.roles.remove(&key),
        };
    }

    /// Takes in one change of a RoleBinding or ClusterRoleBinding; `None` means deleted.
    pub fn set_binding(&mut self, namespace: &str, name: &str, object: Option<&[u8]>) {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(old) = self.bindings.remove(&key) {
            self.unlink(namespace, name, &old);
        }
        let Some(binding) = decode::<Binding>(object, "binding", name) else { return };
        let of_namespace = self.by_subject.entry(namespace.to_owned()).or_default();
        for holder in binding.subjects.iter().flatten().filter_map(|subject| subject.holder(namespace)) {
            of_namespace.entry(holder).or_default().insert(name.to_owned());
        }
        self.bindings.insert(key, binding);
    }

    fn unlink(&mut self, namespace: &str, name: &str, binding: &Binding) {
        let Some(of_namespace) = self.by_subject.get_mut(namespace) else { return };
        for holder in binding.subjects.iter().flatten().filter_map(|subject| subject.holder(namespace)) {
            if let Some(names) = of_namespace.get_mut(&holder) {
                names.remove(name);
                if names.is_empty() {
                    of_namespace.remove(&holder);
                }
            }
        }
        if of_namespace.is_empty() {
            self.by_subject.remove(namespace);
        }
    }

    /// Whether a user may do what a request wants.
    #[must_use]
    pub fn authorize(&self, user: &UserInfo, request: &Attributes) -> Decision {
        if user.is_in(user::GROUP_MASTERS) {
            return Decision::Allowed(String::new());
        }
        let holders = holders(user);
        let mut errors: Vec<String> = Vec::new();
        for grant in self.grants(&holders, &request.namespace) {
            match self.rules_of(&grant.binding.role_ref, grant.namespace) {
                Some(rules) if rules.iter().any(|rule| rule.allows(request)) => {
                    return Decision::Allowed(format!("RBAC: allowed by {}", grant.describe(&holders)));
                }
                Some(_) => {}
                None => {
                    let role = &grant.binding.role_ref;
                    let kind = role.kind.to_lowercase();
                    errors.push(format!("{kind}.rbac.authorization.k8s.io {:?} not found", role.name));
                }
            }
        }
        errors.dedup();
        Decision::Denied(match errors.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }

    /// Every rule that a user holds in a namespace, the cluster's rules included.
    #[must_use]
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> Vec<PolicyRule> {
        let holders = holders(user);
        self.grants(&holders, namespace)
            .filter_map(|grant| self.rules_of(&grant.binding.role_ref, grant.namespace))
            .flatten()
            .cloned()
            .collect()
    }

    /// Rules of the role that a binding in a namespace names; `None` if there is no such role.
    #[must_use]
    pub fn rules_of(&self, reference: &RoleRef, namespace: &str) -> Option<Vec<&PolicyRule>> {
        let role = self.roles.get(&reference.key(namespace))?;
        let mut rules: Vec<&PolicyRule> = role.rules.iter().flatten().collect();
        for selected in self.aggregated(role) {
            for rule in selected.rules.iter().flatten() {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
        Some(rules)
    }

    /// ClusterRoles whose rules belong to an aggregating one, in the order of their names.
    fn aggregated(&self, role: &Role) -> Vec<&Role> {
        let Some(aggregation) = &role.aggregation_rule else { return Vec::new() };
        let selectors: Vec<LabelSelector> = aggregation.cluster_role_selectors.iter().map(LabelSelector::from_value).collect();
        let mut found: Vec<(&ObjectName, &Role)> = self
            .roles
            .iter()
            .filter(|((namespace, _), _)| namespace.is_empty())
            .filter(|(_, other)| !std::ptr::eq(*other, role))
            .filter(|(_, other)| selectors.iter().any(|selector| selector.matches(&other.metadata.labels)))
            .collect();
        found.sort_by_key(|(name, _)| *name);
        found.into_iter().map(|(_, role)| role).collect()
    }

    /// Bindings that name a holder: the cluster's first, then the namespace's.
    fn grants<'a>(&'a self, holders: &[Holder], namespace: &'a str) -> impl Iterator<Item = Grant<'a>> {
        let own = if namespace.is_empty() { None } else { Some(namespace) };
        let mut grants = Vec::new();
        for namespace in std::iter::once("").chain(own) {
            let Some(of_namespace) = self.by_subject.get(namespace) else { continue };
            let names: BTreeSet<&String> = holders.iter().filter_map(|holder| of_namespace.get(holder)).flatten().collect();
            for binding_name in names {
                if let Some(binding) = self.bindings.get(&(namespace.to_owned(), binding_name.clone())) {
                    grants.push(Grant { namespace, binding_name, binding });
                }
            }
        }
        grants.into_iter()
    }
}

fn holders(user: &UserInfo) -> Vec<Holder> {
    let groups = user.groups.iter().map(|group| Holder::Group(group.clone()));
    std::iter::once(Holder::User(user.name.clone())).chain(groups).collect()
}

fn decode<T: serde::de::DeserializeOwned>(object: Option<&[u8]>, kind: &str, name: &str) -> Option<T> {
    let object = object?;
    match serde_json::from_slice(object) {
        Ok(decoded) => Some(decoded),
        Err(error) => {
            // What cannot be read grants nothing.
            tracing::warn!(kind, name, %error, "ignoring an unreadable object");
            None
        }
    }
}

#[cfg(test)]
mod tests;
