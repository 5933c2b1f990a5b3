//! The default roles and who has them, as v1.36 has them.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings>

use serde_json::{Value, json};

/// A role, and the users and groups that have it.
pub struct Role {
    /// Name.
    pub name: &'static str,
    /// Rules.
    pub rules: Value,
    /// Groups.
    pub groups: &'static [&'static str],
    /// Users.
    pub users: &'static [&'static str],
}

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({ "apiGroups": groups, "resources": resources, "verbs": verbs })
}

/// Every role.
pub fn all() -> Vec<Role> {
    let mut roles = for_everybody();
    roles.extend(for_users());
    roles.extend(for_components());
    roles
}

fn for_everybody() -> Vec<Role> {
    let paths = |paths: &[&str]| json!([{ "nonResourceURLs": paths, "verbs": ["get"] }]);
    let versions = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    let discovery = [&versions[..], &["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"]].concat();
    vec![
        Role {
            name: "cluster-admin",
            rules: json!([rule(&["*"], &["*"], &["*"]), { "nonResourceURLs": ["*"], "verbs": ["*"] }]),
            groups: &["system:masters"],
            users: &[],
        },
        Role { name: "system:discovery", rules: paths(&discovery), groups: &["system:authenticated"], users: &[] },
        Role {
            name: "system:basic-user",
            rules: json!([
                rule(&["authorization.k8s.io"], &["selfsubjectaccessreviews", "selfsubjectrulesreviews"], &["create"]),
                rule(&["authentication.k8s.io"], &["selfsubjectreviews"], &["create"]),
            ]),
            groups: &["system:authenticated"],
            users: &[],
        },
        Role {
            name: "system:public-info-viewer",
            rules: paths(&versions),
            groups: &["system:authenticated", "system:unauthenticated"],
            users: &[],
        },
        Role {
            name: "system:monitoring",
            rules: paths(&["/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*"]),
            groups: &["system:monitoring"],
            users: &[],
        },
    ]
}

/// Roles that an administrator gives to people.
fn for_users() -> Vec<Role> {
    let core = ["configmaps", "pods", "serviceaccounts", "services"];
    let apps = ["deployments", "deployments/scale", "replicasets", "replicasets/scale"];
    let view = vec![
        rule(
            &[""],
            &[
                "configmaps",
                "events",
                "namespaces",
                "pods",
                "pods/log",
                "pods/status",
                "serviceaccounts",
                "services",
                "services/status",
            ],
            &READ,
        ),
        rule(&["apps"], &[&apps[..], &["deployments/status", "replicasets/status"]].concat(), &READ),
        rule(&["discovery.k8s.io"], &["endpointslices"], &READ),
    ];
    let mut edit = view.clone();
    edit.extend([
        rule(&[""], &["secrets"], &READ),
        rule(&[""], &[&core[..], &["events", "secrets"]].concat(), &WRITE),
        rule(&[""], &["pods/exec", "serviceaccounts/token"], &["create"]),
        rule(&[""], &["pods/exec"], &["get"]),
        rule(&["apps"], &apps, &WRITE),
        rule(&["coordination.k8s.io"], &["leases"], &[&READ[..], &WRITE[..]].concat()),
    ]);
    let mut admin = edit.clone();
    admin.push(rule(&["rbac.authorization.k8s.io"], &["rolebindings", "roles"], &[&READ[..], &WRITE[..]].concat()));
    admin.push(rule(&["authorization.k8s.io"], &["localsubjectaccessreviews"], &["create"]));
    let role = |name, rules: Vec<Value>| Role { name, rules: Value::Array(rules), groups: &[], users: &[] };
    vec![role("view", view), role("edit", edit), role("admin", admin)]
}

/// Roles of what runs the cluster.
fn for_components() -> Vec<Role> {
    let events = rule(&["", "events.k8s.io"], &["events"], &["create", "patch", "update"]);
    let leases = |verbs: &[&str]| rule(&["coordination.k8s.io"], &["leases"], verbs);
    vec![
        Role {
            name: "system:kube-controller-manager",
            // One identity stands for all controllers, so it has what all of theirs have together.
            rules: json!([rule(&["*"], &["*"], &[&READ[..], &WRITE[..]].concat()), events]),
            groups: &[],
            users: &["system:kube-controller-manager"],
        },
        Role {
            name: "system:kube-scheduler",
            rules: json!([
                events,
                leases(&["create", "get", "list", "update", "watch"]),
                rule(&[""], &["nodes"], &READ),
                rule(&[""], &["pods"], &["delete", "get", "list", "watch"]),
                rule(&[""], &["bindings", "pods/binding"], &["create"]),
                rule(&[""], &["pods/status"], &["patch", "update"]),
                rule(&[""], &["services", "namespaces"], &READ),
                rule(&["apps"], &["replicasets"], &READ),
            ]),
            groups: &[],
            users: &["system:kube-scheduler"],
        },
        Role {
            name: "system:node",
            rules: json!([
                rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
                rule(&["authorization.k8s.io"], &["localsubjectaccessreviews", "subjectaccessreviews"], &["create"]),
                rule(&[""], &["services"], &READ),
                rule(&["discovery.k8s.io"], &["endpointslices"], &READ),
                rule(&[""], &["nodes"], &["create", "get", "list", "patch", "update", "watch"]),
                rule(&[""], &["nodes/status"], &["patch", "update"]),
                events,
                rule(&[""], &["pods"], &["create", "delete", "get", "list", "watch"]),
                rule(&[""], &["pods/status"], &["patch", "update"]),
                rule(&[""], &["configmaps", "secrets", "serviceaccounts"], &READ),
                rule(&[""], &["serviceaccounts/token"], &["create"]),
                leases(&["create", "delete", "get", "patch", "update"]),
            ]),
            // Kubernetes binds this role to nobody and has the Node authorizer instead, which is not here yet.
            groups: &["system:nodes"],
            users: &[],
        },
        Role {
            name: "system:node-proxier",
            rules: json!([
                rule(&[""], &["nodes"], &READ),
                rule(&[""], &["services"], &["list", "watch"]),
                rule(&["discovery.k8s.io"], &["endpointslices"], &["list", "watch"]),
                events,
            ]),
            groups: &[],
            users: &["system:kube-proxy"],
        },
    ]
}
