//! The default roles and who has them: a table of v1.36's, and Kontiki's own few.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings>

use kontiki_api::resources::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, ResourceKey};
use serde_json::{Map, Value, json};

const TABLE: &str = include_str!("roles-1.36.txt");
/// What this binary does differently: all controllers share one identity, a node is its own proxy, and
/// figures are served to whoever may look, with nothing installed.
const OWN: &str = "\
role kontiki:controller-manager
  * | * | create delete deletecollection get list patch update watch
  rbac.authorization.k8s.io | clusterroles | escalate
  certificates.k8s.io | signers | approve sign | kubernetes.io/*
role system:aggregated-metrics-reader part-of:admin part-of:edit part-of:view
  metrics.k8s.io | nodes pods | get list watch
bind kontiki:controller-manager kontiki:controller-manager user=system:kube-controller-manager
bind kontiki:node-proxier system:node-proxier group=system:nodes
";
const GROUP: &str = "rbac.authorization.k8s.io";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// Every role and binding, roles first.
pub fn all() -> Vec<(ResourceKey, Value)> {
    let mut objects: Vec<(ResourceKey, Value)> = Vec::new();
    let lines = TABLE.lines().chain(OWN.lines()).filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        if let Some(role) = line.strip_prefix("role ") {
            objects.push(parse_role(role));
        } else if let Some(binding) = line.strip_prefix("bind ") {
            objects.push(parse_binding(binding));
        } else if let Some((_, role)) = objects.last_mut() {
            let mut rules = role["rules"].as_array().cloned().unwrap_or_default();
            rules.push(parse_rule(line));
            role["rules"] = Value::Array(rules);
        }
    }
    objects.sort_by_key(|(key, _)| matches!(*key, CLUSTER_ROLE_BINDINGS | ROLE_BINDINGS));
    objects
}

fn metadata(path: &str) -> Map<String, Value> {
    let (namespace, name) = path.split_once('/').unwrap_or(("", path));
    let mut metadata = Map::new();
    metadata.insert("name".into(), json!(name));
    if !namespace.is_empty() {
        metadata.insert("namespace".into(), json!(namespace));
    }
    metadata.insert("labels".into(), json!({ "kubernetes.io/bootstrapping": "rbac-defaults" }));
    metadata.insert("annotations".into(), json!({ "rbac.authorization.kubernetes.io/autoupdate": "true" }));
    metadata
}

fn object(kind: &str, metadata: Map<String, Value>) -> Value {
    json!({ "apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata })
}

fn parse_role(line: &str) -> (ResourceKey, Value) {
    let mut words = line.split_whitespace();
    let mut metadata = metadata(words.next().unwrap_or_default());
    let mut selectors = Vec::new();
    for word in words {
        if let Some(role) = word.strip_prefix("part-of:") {
            metadata["labels"][format!("{AGGREGATE}{role}")] = json!("true");
        } else if let Some(role) = word.strip_prefix("sum-of:") {
            selectors.push(json!({ "matchLabels": { (format!("{AGGREGATE}{role}")): "true" } }));
        }
    }
    let key = if metadata.contains_key("namespace") { ROLES } else { CLUSTER_ROLES };
    let mut role = object(key.kind, metadata);
    if selectors.is_empty() {
        role["rules"] = json!([]);
    } else {
        role["aggregationRule"] = json!({ "clusterRoleSelectors": selectors });
    }
    (key, role)
}

fn parse_rule(line: &str) -> Value {
    let parts: Vec<Vec<&str>> = line.split('|').map(|part| part.split_whitespace().collect()).collect();
    let part = |index: usize| parts.get(index).cloned().unwrap_or_default();
    if part(0) == ["path"] {
        return json!({ "verbs": part(2), "nonResourceURLs": part(1) });
    }
    let groups: Vec<&str> = part(0).into_iter().map(|group| if group == "core" { "" } else { group }).collect();
    let mut rule = json!({ "verbs": part(2), "apiGroups": groups, "resources": part(1) });
    if parts.len() > 3 {
        rule["resourceNames"] = json!(part(3));
    }
    rule
}

fn parse_binding(line: &str) -> (ResourceKey, Value) {
    let mut words = line.split_whitespace();
    let metadata = metadata(words.next().unwrap_or_default());
    let role = words.next().unwrap_or_default();
    let (kind, role) = role.strip_prefix("Role:").map_or(("ClusterRole", role), |role| ("Role", role));
    let subjects: Vec<Value> = words.filter_map(parse_subject).collect();
    let key = if metadata.contains_key("namespace") { ROLE_BINDINGS } else { CLUSTER_ROLE_BINDINGS };
    let mut binding = object(key.kind, metadata);
    binding["roleRef"] = json!({ "apiGroup": GROUP, "kind": kind, "name": role });
    if !subjects.is_empty() {
        binding["subjects"] = Value::Array(subjects);
    }
    (key, binding)
}

fn parse_subject(word: &str) -> Option<Value> {
    let (kind, name) = word.split_once('=')?;
    Some(match kind {
        "user" => json!({ "kind": "User", "apiGroup": GROUP, "name": name }),
        "group" => json!({ "kind": "Group", "apiGroup": GROUP, "name": name }),
        _ => {
            let (namespace, name) = name.split_once('/')?;
            json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace })
        }
    })
}

/// What a role or binding that is there must become, `None` if nothing: rules, labels and subjects that are missing
/// come back; what an administrator has added stays, and one that is marked as theirs is left alone.
pub fn reconciled(found: &Value, wanted: &Value) -> Option<Value> {
    let annotation = "/metadata/annotations/rbac.authorization.kubernetes.io~1autoupdate";
    if found.pointer(annotation).and_then(Value::as_str) == Some("false") {
        return None;
    }
    let mut object = found.clone();
    for field in ["labels", "annotations"] {
        let mut entries = found["metadata"][field].as_object().cloned().unwrap_or_default();
        for (name, value) in wanted["metadata"][field].as_object().into_iter().flatten() {
            entries.entry(name.clone()).or_insert_with(|| value.clone());
        }
        object["metadata"][field] = Value::Object(entries);
    }
    for field in ["rules", "subjects"] {
        let Some(wanted) = wanted[field].as_array() else { continue };
        let mut list = found[field].as_array().cloned().unwrap_or_default();
        let missing: Vec<Value> = wanted.iter().filter(|item| !list.contains(item)).cloned().collect();
        if !missing.is_empty() {
            list.extend(missing);
            object[field] = Value::Array(list);
        }
    }
    if wanted.get("aggregationRule").is_some() && found.get("aggregationRule") != wanted.get("aggregationRule") {
        object["aggregationRule"] = wanted["aggregationRule"].clone();
    }
    (object != *found).then_some(object)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn find(key: &ResourceKey, name: &str) -> Value {
        all().into_iter().find(|(own, object)| own == key && object["metadata"]["name"] == name).unwrap().1
    }

    #[test]
    fn roles_are_kubernetes() {
        assert_eq!(all().iter().filter(|(key, _)| *key == CLUSTER_ROLES).count(), 69 + 2);
        let view = find(&CLUSTER_ROLES, "view");
        assert_eq!(view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"], "true");
        let selector = json!([{"matchLabels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}]);
        assert_eq!(view["aggregationRule"]["clusterRoleSelectors"], selector);
        let user = find(&CLUSTER_ROLES, "system:basic-user");
        let reviews = json!({"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]});
        assert!(user["rules"].as_array().unwrap().contains(&reviews));
        assert!(find(&CLUSTER_ROLE_BINDINGS, "system:node").get("subjects").is_none());
        let locking = find(&ROLE_BINDINGS, "system::leader-locking-kube-scheduler");
        assert_eq!(locking["metadata"]["namespace"], "kube-system");
        assert_eq!(locking["roleRef"]["kind"], "Role");
    }

    #[test]
    fn what_was_taken_away_comes_back_and_what_was_added_stays() {
        let wanted = find(&CLUSTER_ROLES, "system:basic-user");
        assert_eq!(reconciled(&wanted, &wanted), None);
        let mut found = wanted.clone();
        let own = json!({"verbs": ["get"], "apiGroups": ["x"], "resources": ["y"]});
        let kept = found["rules"][0].clone();
        found["rules"] = json!([own, kept]);
        found["metadata"]["labels"] = json!({"mine": "yes"});
        let object = reconciled(&found, &wanted).unwrap();
        assert_eq!(object["rules"].as_array().unwrap().len(), wanted["rules"].as_array().unwrap().len() + 1);
        assert_eq!(object["metadata"]["labels"]["mine"], "yes");
        found["metadata"]["annotations"] = json!({"rbac.authorization.kubernetes.io/autoupdate": "false"});
        assert_eq!(reconciled(&found, &wanted), None);
    }
}
