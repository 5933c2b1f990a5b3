//! What a node may write.
#![allow(clippy::unwrap_used)]
use kontiki_api::registry;
use serde_json::json;

use super::*;
use crate::auth::UserInfo;

fn check(path: (&str, &str, &str), operation: Operation, name: &str, object: &Value, old: &Value) -> Result<(), String> {
    let user = UserInfo::authenticated("system:node:n", ["system:nodes"]);
    let (group, plural, part) = path;
    let resource = registry::find(group, "v1", plural).unwrap();
    let namespace = if plural == "leases" { "kube-node-lease" } else { "a" };
    let mut request = Request::new(&user, resource, operation, namespace, name);
    request.subresource = part;
    let pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"nodeName": "n"}});
    let itself = json!({"metadata": {"name": "n", "uid": "1"}});
    let facts = Facts { node: "n", pod: Some(&pod), itself: Some(&itself) };
    facts.check(&request, object, old).map_err(|refusal| match refusal {
        Refusal::Forbidden(why) => why,
        Refusal::NotFound(resource, name) => format!("{resource} {name} not found"),
    })
}

#[test]
fn a_node_writes_its_own_node_lease_and_pods() {
    use Operation::{Create, Delete, Update};
    let (none, mine, others) = (Value::Null, json!({"spec": {"nodeName": "n"}}), json!({"spec": {"nodeName": "m"}}));
    let token = |uid: &str| json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}}});
    let tainted = json!({"spec": {"taints": [{"key": "a"}]}});
    let cases = [
        (("", "nodes", ""), Create, "n", json!({}), none.clone(), Ok(())),
        (("", "nodes", ""), Create, "m", json!({}), none.clone(), Err("node \"n\" is not allowed to modify node \"m\"")),
        (("", "nodes", ""), Update, "n", json!({}), tainted, Err("node \"n\" is not allowed to modify taints")),
        (("coordination.k8s.io", "leases", ""), Update, "n", json!({}), json!({}), Ok(())),
        (
            ("coordination.k8s.io", "leases", ""),
            Update,
            "m",
            json!({}),
            json!({}),
            Err("can only access node lease with the same name as the requesting node"),
        ),
        (("", "pods", ""), Delete, "p", none.clone(), mine.clone(), Ok(())),
        (
            ("", "pods", ""),
            Delete,
            "p",
            none.clone(),
            others.clone(),
            Err("node \"n\" can only delete pods with spec.nodeName set to itself"),
        ),
        (("", "pods", "status"), Update, "p", mine.clone(), mine.clone(), Ok(())),
        (
            ("", "pods", "status"),
            Update,
            "p",
            others.clone(),
            others,
            Err("node \"n\" can only update pod status for pods with spec.nodeName set to itself"),
        ),
        (
            ("", "pods", ""),
            Create,
            "p",
            mine,
            none.clone(),
            Err("pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n\" can only create mirror pods"),
        ),
        (("", "serviceaccounts", "token"), Create, "s", token("u"), none.clone(), Ok(())),
        (("", "serviceaccounts", "token"), Create, "s", json!({}), none.clone(), Err("node requested token not bound to a pod")),
        (
            ("", "serviceaccounts", "token"),
            Create,
            "s",
            token(""),
            none,
            Err("node requested token with a pod binding without a uid"),
        ),
    ];
    for (path, operation, name, object, old, expected) in cases {
        let found = check(path, operation, name, &object, &old);
        assert_eq!(found, expected.map_err(str::to_owned), "{path:?} {operation:?} {name}");
    }
}

#[test]
fn a_node_sets_the_labels_of_kubelets_and_of_users() {
    let create = |label: &str| {
        check(("", "nodes", ""), Operation::Create, "n", &json!({"metadata": {"labels": {label: "x"}}}), &Value::Null)
    };
    for allowed in ["kubernetes.io/hostname", "a.kubelet.kubernetes.io/b", "example.com/a", "disk", "topology.kubernetes.io/zone"]
    {
        assert_eq!(create(allowed), Ok(()), "{allowed}");
    }
    for refused in
        ["node-restriction.kubernetes.io/a", "x.node-restriction.kubernetes.io/a", "k8s.io/a", "node-role.kubernetes.io/x"]
    {
        assert!(create(refused).unwrap_err().ends_with(&format!("set the following labels: {refused}")), "{refused}");
    }
}

#[test]
fn a_mirror_pod_refers_to_nothing() {
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "1", "controller": true});
    let pod = |volumes: Value, owner: &Value| {
        json!({
            "metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [owner]},
            "spec": {"nodeName": "n", "containers": [{"name": "a"}], "volumes": volumes},
        })
    };
    let create = |pod: &Value| check(("", "pods", ""), Operation::Create, "p", pod, &Value::Null);
    assert_eq!(create(&pod(json!([{"hostPath": {"path": "/"}}]), &owner)), Ok(()));
    let refused = create(&pod(json!([{"projected": {"sources": [{"secret": {"name": "s"}}]}}]), &owner)).unwrap_err();
    assert_eq!(refused, "node \"n\" can not create pods that reference secrets (via projected volumes)");
    let mut stranger = owner;
    stranger["uid"] = json!("2");
    assert_eq!(create(&pod(json!([]), &stranger)).unwrap_err(), "node n UID mismatch: expected 2 got 1");
}
