//! Who may do what by which role.
use super::*;
use serde_json::json;

fn index(objects: &[(&str, &str, &str, Value)]) -> Index {
    let mut index = Index::default();
    for (kind, namespace, name, object) in objects {
        let bytes = object.to_string();
        if *kind == "role" {
            index.set_role(namespace, name, Some(bytes.as_bytes()));
        } else {
            index.set_binding(namespace, name, Some(bytes.as_bytes()));
        }
    }
    index
}

fn get(namespace: &str, resource: &str) -> Attributes {
    Attributes { verb: "get".into(), resource: resource.into(), namespace: namespace.into(), ..Attributes::default() }
}

fn reader(resource: &str) -> Value {
    json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]})
}

fn binding(role_kind: &str, role: &str, subject: &Value) -> Value {
    json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role}, "subjects": [subject]})
}

fn sample() -> Index {
    index(&[
        ("role", "", "pods", reader("pods")),
        ("role", "a", "secrets", reader("secrets")),
        ("binding", "", "everyone", binding("ClusterRole", "pods", &json!({"kind": "Group", "name": "readers"}))),
        ("binding", "a", "one", binding("Role", "secrets", &json!({"kind": "User", "name": "alice"}))),
        ("binding", "a", "builder", binding("ClusterRole", "pods", &json!({"kind": "ServiceAccount", "name": "builder"}))),
        ("binding", "a", "broken", binding("Role", "gone", &json!({"kind": "User", "name": "bob"}))),
    ])
}

#[test]
fn bindings_reach_their_subjects_in_their_namespace() {
    let index = sample();
    let alice = UserInfo::authenticated("alice", ["readers"]);
    let bob = UserInfo::authenticated("bob", [""; 0]);
    let builder = UserInfo::service_account("a", "builder", "1");
    let root = UserInfo::authenticated("root", ["system:masters"]);
    let allowed = |text: &str| Decision::Allowed(text.to_owned());
    let denied = |text: &str| Decision::Denied(text.to_owned());
    let everyone = allowed(r#"RBAC: allowed by ClusterRoleBinding "everyone" of ClusterRole "pods" to Group "readers""#);
    let cases = [
        (&alice, get("b", "pods"), everyone.clone()),
        (&alice, get("", "pods"), everyone),
        (&alice, get("a", "secrets"), allowed(r#"RBAC: allowed by RoleBinding "one/a" of Role "secrets" to User "alice""#)),
        (&alice, get("b", "secrets"), denied("")),
        (
            &builder,
            get("a", "pods"),
            allowed(r#"RBAC: allowed by RoleBinding "builder/a" of ClusterRole "pods" to ServiceAccount "builder/a""#),
        ),
        (&builder, get("b", "pods"), denied("")),
        (&bob, get("a", "pods"), denied(r#"RBAC: role.rbac.authorization.k8s.io "gone" not found"#)),
        (&root, get("kube-system", "secrets"), allowed("")),
    ];
    for (user, request, expected) in cases {
        assert_eq!(index.authorize(user, &request), expected, "{} {request:?}", user.name);
    }
}

#[test]
fn a_change_replaces_what_a_binding_granted() {
    let mut index = sample();
    let alice = UserInfo::authenticated("alice", [""; 0]);
    let carol = UserInfo::authenticated("carol", [""; 0]);
    assert!(index.authorize(&alice, &get("a", "secrets")).is_allowed());
    let changed = binding("Role", "secrets", &json!({"kind": "User", "name": "carol"})).to_string();
    index.set_binding("a", "one", Some(changed.as_bytes()));
    assert!(!index.authorize(&alice, &get("a", "secrets")).is_allowed());
    assert!(index.authorize(&carol, &get("a", "secrets")).is_allowed());
    index.set_binding("a", "one", None);
    assert!(!index.authorize(&carol, &get("a", "secrets")).is_allowed());
    for name in ["builder", "broken"] {
        index.set_binding("a", name, None);
    }
    assert!(!index.by_subject.contains_key("a"));
}

#[test]
fn aggregation_follows_labels() {
    let mut index = index(&[
        (
            "role",
            "",
            "view",
            json!({"rules": [], "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}]}}),
        ),
        ("binding", "", "view", binding("ClusterRole", "view", &json!({"kind": "User", "name": "alice"}))),
    ]);
    let alice = UserInfo::authenticated("alice", [""; 0]);
    assert!(!index.authorize(&alice, &get("a", "pods")).is_allowed());
    let mut part = reader("pods");
    part["metadata"] = json!({"labels": {"to": "view"}});
    index.set_role("", "part", Some(part.to_string().as_bytes()));
    assert!(index.authorize(&alice, &get("a", "pods")).is_allowed());
    assert_eq!(index.rules_for(&alice, "a").len(), 1);
}
