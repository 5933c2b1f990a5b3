//! The FlowSchemas and PriorityLevelConfigurations that every cluster begins with, as v1.36 has them.

use kontiki_api::resources::{FLOW_SCHEMAS, PRIORITY_LEVEL_CONFIGURATIONS, ResourceKey};
use serde_json::{Value, json};

/// Name, shares, lendable percent, queues and hand size; no queues: refuse.
type LimitedLevel = (&'static str, u32, u32, Option<(u32, u32)>);
const LEVELS: [LimitedLevel; 7] = [
    ("catch-all", 5, 0, None),
    ("system", 30, 33, Some((64, 6))),
    ("node-high", 40, 25, Some((64, 6))),
    ("leader-election", 10, 0, Some((16, 4))),
    ("workload-high", 40, 50, Some((128, 6))),
    ("workload-low", 100, 90, Some((128, 6))),
    ("global-default", 20, 50, Some((128, 6))),
];
const QUEUE_LENGTH: u32 = 50;
/// What a server cannot be without.
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// Both kinds, levels first.
pub fn objects() -> Vec<(ResourceKey, Value)> {
    let levels = std::iter::once(exempt_level()).chain(LEVELS.iter().map(limited_level));
    let levels = levels.map(|level| (PRIORITY_LEVEL_CONFIGURATIONS, level));
    levels.chain(schemas().into_iter().map(|schema| (FLOW_SCHEMAS, schema))).collect()
}

/// Those that are in force even where they are not stored.
pub fn mandatory() -> Vec<Value> {
    let named = |object: &Value| MANDATORY.iter().any(|name| object["metadata"]["name"] == *name);
    objects().into_iter().map(|(_, object)| object).filter(named).collect()
}

fn object(key: &ResourceKey, name: &str, spec: Value) -> Value {
    let annotations = json!({ "apf.kubernetes.io/autoupdate-spec": "true" });
    json!({
        "apiVersion": key.api_version(),
        "kind": key.kind,
        "metadata": { "name": name, "annotations": annotations },
        "spec": spec,
    })
}

fn exempt_level() -> Value {
    let spec = json!({ "type": "Exempt", "exempt": { "nominalConcurrencyShares": 0, "lendablePercent": 0 } });
    object(&PRIORITY_LEVEL_CONFIGURATIONS, "exempt", spec)
}

fn limited_level((name, shares, lendable, queuing): &LimitedLevel) -> Value {
    let response = match queuing {
        Some((queues, hand)) => {
            let queuing = json!({ "queues": queues, "handSize": hand, "queueLengthLimit": QUEUE_LENGTH });
            json!({ "type": "Queue", "queuing": queuing })
        }
        None => json!({ "type": "Reject" }),
    };
    let limited = json!({ "nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response });
    object(&PRIORITY_LEVEL_CONFIGURATIONS, name, json!({ "type": "Limited", "limited": limited }))
}

fn groups(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({ "kind": "Group", "group": { "name": name } })).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({ "kind": "User", "user": { "name": name } })).collect()
}

fn system_accounts() -> Value {
    json!({ "kind": "ServiceAccount", "serviceAccount": { "namespace": "kube-system", "name": "*" } })
}

fn resource(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({ "verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"] });
    if cluster {
        rule["clusterScope"] = json!(true);
    }
    rule
}

/// Rules for everything that some subjects do.
fn everything(subjects: Vec<Value>) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [resource(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
    })
}

fn schema(name: &str, level: &str, precedence: u32, by: &str, rules: &Value) -> Value {
    let mut spec = json!({
        "priorityLevelConfiguration": { "name": level },
        "matchingPrecedence": precedence,
        "rules": [rules],
    });
    if !by.is_empty() {
        spec["distinguisherMethod"] = json!({ "type": by });
    }
    object(&FLOW_SCHEMAS, name, spec)
}

fn schemas() -> Vec<Value> {
    const CONTROLLERS: &str = "system:kube-controller-manager";
    const SCHEDULER: &str = "system:kube-scheduler";
    let everybody = || groups(&["system:unauthenticated", "system:authenticated"]);
    let probes = json!({
        "subjects": everybody(),
        "nonResourceRules": [{ "verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"] }],
    });
    let mut leaders = users(&[CONTROLLERS, SCHEDULER]);
    leaders.push(system_accounts());
    let leases = |verbs: &[&str]| resource(verbs, "coordination.k8s.io", &["leases"], false);
    let election = json!({ "subjects": leaders, "resourceRules": [leases(&["get", "create", "update"])] });
    let nodes = json!({
        "subjects": groups(&["system:nodes"]),
        "resourceRules": [resource(&["*"], "", &["nodes", "nodes/status"], true), leases(&["*"])],
    });
    vec![
        schema("exempt", "exempt", 1, "", &everything(groups(&["system:masters"]))),
        schema("probes", "exempt", 2, "", &probes),
        schema("system-leader-election", "leader-election", 100, "ByUser", &election),
        schema("system-node-high", "node-high", 400, "ByUser", &nodes),
        schema("system-nodes", "system", 500, "ByUser", &everything(groups(&["system:nodes"]))),
        schema("kube-controller-manager", "workload-high", 800, "ByNamespace", &everything(users(&[CONTROLLERS]))),
        schema("kube-scheduler", "workload-high", 800, "ByNamespace", &everything(users(&[SCHEDULER]))),
        schema("kube-system-service-accounts", "workload-high", 900, "ByNamespace", &everything(vec![system_accounts()])),
        schema("service-accounts", "workload-low", 9000, "ByUser", &everything(groups(&["system:serviceaccounts"]))),
        schema("global-default", "global-default", 9900, "ByUser", &everything(everybody())),
        schema("catch-all", "catch-all", 10000, "ByUser", &everything(everybody())),
    ]
}
