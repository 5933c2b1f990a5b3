//! Rules of roles: what one allows, and whether some rules cover others.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>

use serde::{Deserialize, Serialize};

use super::Attributes;

/// One rule of a Role or ClusterRole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    /// Verbs, or `*`.
    #[serde(deserialize_with = "nullable")]
    pub verbs: Vec<String>,
    /// API groups, or `*`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Resources, `resource/subresource`, `*/subresource` or `*`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names of objects; empty means all.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths that are no resources; a last `*` stands for any rest.
    #[serde(rename = "nonResourceURLs", deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

/// Lists that somebody wrote as `null` are empty.
fn nullable<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn has(list: &[String], item: &str) -> bool {
    list.iter().any(|own| own == item)
}

fn has_or_star(list: &[String], item: &str) -> bool {
    list.iter().any(|own| own == item || own == "*")
}

fn has_all(list: &[String], items: &[String]) -> bool {
    items.iter().all(|item| has(list, item))
}

impl PolicyRule {
    /// A rule about resources of one or more groups.
    #[must_use]
    pub fn resources(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Self {
        Self { verbs: owned(verbs), api_groups: owned(groups), resources: owned(resources), ..Self::default() }
    }

    /// A rule about paths.
    #[must_use]
    pub fn paths(verbs: &[&str], paths: &[&str]) -> Self {
        Self { verbs: owned(verbs), non_resource_urls: owned(paths), ..Self::default() }
    }

    /// The rule for these names alone.
    #[must_use]
    pub fn named(mut self, names: &[&str]) -> Self {
        self.resource_names = owned(names);
        self
    }

    /// Whether the rule allows a request.
    #[must_use]
    pub fn allows(&self, request: &Attributes) -> bool {
        if !has_or_star(&self.verbs, &request.verb) {
            return false;
        }
        if !request.is_resource() {
            return self.non_resource_urls.iter().any(|own| path_matches(own, &request.path));
        }
        has_or_star(&self.api_groups, &request.group)
            && self.resources.iter().any(|own| resource_matches(own, &request.resource, &request.subresource))
            && (self.resource_names.is_empty() || has(&self.resource_names, &request.name))
    }

    /// Whether everything that `other` allows is allowed by this one rule.
    fn covers(&self, other: &Self) -> bool {
        let all = |own: &[String], others: &[String]| has(own, "*") || has_all(own, others);
        let names = if other.resource_names.is_empty() {
            self.resource_names.is_empty()
        } else {
            self.resource_names.is_empty() || has_all(&self.resource_names, &other.resource_names)
        };
        names
            && all(&self.verbs, &other.verbs)
            && all(&self.api_groups, &other.api_groups)
            && other.resources.iter().all(|resource| {
                let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                self.resources.iter().any(|own| resource_matches(own, resource, subresource))
            })
            && other.non_resource_urls.iter().all(|path| self.non_resource_urls.iter().any(|own| path_matches(own, path)))
    }

    /// The same permissions as rules with one group, resource, name, path and verb each.
    fn atoms(&self) -> Vec<Self> {
        let one = |text: &String| vec![text.clone()];
        let names: Vec<Vec<String>> =
            if self.resource_names.is_empty() { vec![Vec::new()] } else { self.resource_names.iter().map(one).collect() };
        let mut atoms = Vec::new();
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    atoms.extend(names.iter().map(|names| Self {
                        verbs: one(verb),
                        api_groups: one(group),
                        resources: one(resource),
                        resource_names: names.clone(),
                        non_resource_urls: Vec::new(),
                    }));
                }
            }
        }
        for path in &self.non_resource_urls {
            atoms.extend(self.verbs.iter().map(|verb| Self {
                verbs: one(verb),
                non_resource_urls: one(path),
                ..Self::default()
            }));
        }
        atoms
    }

    /// The rule on one line, as refusals show it.
    #[must_use]
    pub fn compact(&self) -> String {
        let parts = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| format!("{name}:{}", quoted(list)))
            .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

/// A list as Go prints one with `%q`.
pub(super) fn quoted(list: &[String]) -> String {
    format!("[{}]", list.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" "))
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    match rule.split_once('/') {
        None => rule == resource && subresource.is_empty(),
        Some((own, part)) => part == subresource && (own == "*" || own == resource),
    }
}

fn path_matches(rule: &str, path: &str) -> bool {
    rule == path || rule.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

/// What `wanted` allows beyond `held`, merged by resource; empty if nothing.
#[must_use]
pub fn missing(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let mut missing: Vec<PolicyRule> = Vec::new();
    for atom in wanted.iter().flat_map(PolicyRule::atoms) {
        if held.iter().any(|own| own.covers(&atom)) {
            continue;
        }
        let alike = |known: &&mut PolicyRule| {
            atom.non_resource_urls.is_empty()
                && known.api_groups == atom.api_groups
                && known.resources == atom.resources
                && known.resource_names == atom.resource_names
        };
        match missing.iter_mut().find(alike) {
            Some(known) => known.verbs.extend(atom.verbs),
            None => missing.push(atom),
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(verb: &str, group: &str, resource: &str, name: &str) -> Attributes {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn rules_allow_what_they_name() {
        let rule = PolicyRule::resources;
        let cases = [
            (rule(&["get"], &[""], &["pods"]), request("get", "", "pods", "x"), true),
            (rule(&["get"], &[""], &["pods"]), request("list", "", "pods", ""), false),
            (rule(&["get"], &[""], &["pods"]), request("get", "apps", "pods", "x"), false),
            (rule(&["get"], &[""], &["pods"]), request("get", "", "pods/log", "x"), false),
            (rule(&["get"], &[""], &["pods/log"]), request("get", "", "pods/log", "x"), true),
            (rule(&["get"], &[""], &["pods/log"]), request("get", "", "pods", "x"), false),
            (rule(&["get"], &[""], &["*/log"]), request("get", "", "pods/log", "x"), true),
            (rule(&["get"], &[""], &["*/log"]), request("get", "", "pods/exec", "x"), false),
            (rule(&["*"], &["*"], &["*"]), request("delete", "apps", "deployments/scale", "x"), true),
            (rule(&["get"], &[""], &["pods"]).named(&["x"]), request("get", "", "pods", "x"), true),
            (rule(&["get"], &[""], &["pods"]).named(&["x"]), request("get", "", "pods", "y"), false),
            (rule(&["create"], &[""], &["pods"]).named(&["x"]), request("create", "", "pods", ""), false),
            (rule(&["*"], &["*"], &["*"]), Attributes::of_path("get", "/healthz"), false),
            (PolicyRule::paths(&["get"], &["/healthz"]), Attributes::of_path("get", "/healthz"), true),
            (PolicyRule::paths(&["get"], &["/api/*"]), Attributes::of_path("get", "/api/v1"), true),
            (PolicyRule::paths(&["get"], &["/api/*"]), Attributes::of_path("get", "/api"), false),
            (PolicyRule::paths(&["*"], &["*"]), Attributes::of_path("post", "/x"), true),
        ];
        for (rule, request, allowed) in cases {
            assert_eq!(rule.allows(&request), allowed, "{} for {request:?}", rule.compact());
        }
    }

    #[test]
    fn what_is_missing_is_merged_by_resource() {
        let rule = PolicyRule::resources;
        let cases: [(Vec<PolicyRule>, Vec<PolicyRule>, &[&str]); 7] = [
            (vec![rule(&["get", "list"], &[""], &["pods"])], vec![rule(&["get"], &[""], &["pods"])], &[]),
            (vec![rule(&["*"], &["*"], &["*"])], vec![rule(&["get"], &["apps"], &["deployments/scale"])], &[]),
            // Two rules may cover together what neither covers alone.
            (
                vec![rule(&["get"], &[""], &["pods"]), rule(&["list"], &[""], &["pods"])],
                vec![rule(&["get", "list"], &[""], &["pods"])],
                &[],
            ),
            (
                vec![rule(&["get"], &[""], &["pods"])],
                vec![rule(&["get", "list", "watch"], &[""], &["pods"])],
                &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}"#],
            ),
            (
                vec![rule(&["get"], &[""], &["pods"]).named(&["x"])],
                vec![rule(&["get"], &[""], &["pods"])],
                &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#],
            ),
            (
                vec![rule(&["get"], &[""], &["*/log"])],
                vec![rule(&["get"], &[""], &["pods/log", "pods"])],
                &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#],
            ),
            (
                vec![PolicyRule::paths(&["get"], &["/api/*"])],
                vec![PolicyRule::paths(&["get"], &["/api/v1", "/metrics"])],
                &[r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#],
            ),
        ];
        for (held, wanted, expected) in cases {
            let found: Vec<String> = missing(&held, &wanted).iter().map(PolicyRule::compact).collect();
            assert_eq!(found, expected, "{wanted:?}");
        }
    }

    #[test]
    fn null_lists_are_empty() {
        let rule: PolicyRule = serde_json::from_str(r#"{"verbs":["get"],"resources":null}"#).unwrap_or_default();
        assert_eq!(rule, PolicyRule { verbs: owned(&["get"]), ..PolicyRule::default() });
    }
}
