//! What leads to a node, and what does not.
use kontiki_api::selector::FieldSelector;
use serde_json::json;

use super::*;

fn graph() -> Graph {
    let mut graph = Graph::default();
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {
            "nodeName": "n", "serviceAccountName": "account",
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "key"}}}], "envFrom": [{"configMapRef": {"name": "all"}}]}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "file"}},
                {"name": "b", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "d", "ephemeral": {}},
            ],
        },
    });
    let volume = json!({"spec": {"claimRef": {"namespace": "a", "name": "claim"}, "csi": {"nodeStageSecretRef": {"namespace": "s", "name": "stage"}}}});
    graph.set("pods", "a", "p", Some(&pod));
    graph.set("persistentvolumes", "", "volume", Some(&volume));
    graph.set("volumeattachments", "", "attachment", Some(&json!({"spec": {"nodeName": "n"}})));
    graph
}

fn ask(graph: &Graph, path: &str, verb: &str, namespace: &str, name: &str, fields: &str) -> Result<(), String> {
    let (group, resource) = path.split_once('/').unwrap_or(("", path));
    let (resource, subresource) = resource.split_once('.').unwrap_or((resource, ""));
    let request = Attributes {
        verb: verb.into(),
        group: group.into(),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: namespace.into(),
        name: name.into(),
        fields: FieldSelector::parse(fields).unwrap_or_default(),
        ..Attributes::default()
    };
    let rule = PolicyRule::resources(&["get", "list", "watch"], &[""], &["services"]);
    judge(graph, &[&rule], "n", &request)
}

#[test]
fn a_node_reads_what_its_pods_name() {
    let graph = graph();
    for (path, verb, namespace, name, fields) in [
        ("secrets", "get", "a", "key", ""),
        ("secrets", "watch", "a", "file", ""),
        ("secrets", "get", "s", "stage", ""),
        ("configmaps", "get", "a", "all", ""),
        ("configmaps", "list", "a", "kube-root-ca.crt", ""),
        ("persistentvolumeclaims", "get", "a", "claim", ""),
        ("persistentvolumeclaims", "get", "a", "p-d", ""),
        ("persistentvolumeclaims.status", "patch", "a", "claim", ""),
        ("persistentvolumes", "get", "", "volume", ""),
        ("storage.k8s.io/volumeattachments", "get", "", "attachment", ""),
        ("serviceaccounts", "get", "a", "account", ""),
        ("serviceaccounts.token", "create", "a", "account", ""),
        ("pods", "get", "a", "p", ""),
        ("pods", "watch", "", "", "spec.nodeName=n"),
        ("nodes", "get", "", "n", ""),
        ("coordination.k8s.io/leases", "update", "kube-node-lease", "n", ""),
        ("services", "list", "", "", ""),
    ] {
        assert_eq!(ask(&graph, path, verb, namespace, name, fields), Ok(()), "{verb} {path} {namespace}/{name}");
    }
}

#[test]
fn a_node_reads_nothing_of_others() {
    let graph = graph();
    let stranger = "no relationship found between node 'n' and this object";
    for (path, verb, namespace, name, why) in [
        ("secrets", "get", "b", "key", stranger),
        ("secrets", "list", "a", "", "No Object name found"),
        ("secrets", "list", "", "", "can only read namespaced object of this type"),
        ("secrets", "delete", "a", "key", "can only read resources of this type"),
        ("persistentvolumes", "get", "", "other", stranger),
        ("persistentvolumes", "list", "", "", "can only get individual resources of this type"),
        ("serviceaccounts.token", "create", "a", "other", stranger),
        ("pods", "list", "", "", "can only list/watch pods with spec.nodeName field selector"),
        ("pods", "get", "a", "q", stranger),
        ("nodes", "list", "", "", "node 'n' cannot read all nodes, only its own Node object"),
        ("nodes", "get", "", "m", "node 'n' cannot read 'm', only its own Node object"),
        (
            "coordination.k8s.io/leases",
            "get",
            "kube-node-lease",
            "m",
            "can only access node lease with the same name as the requesting node",
        ),
        ("namespaces", "list", "", "", ""),
    ] {
        assert_eq!(ask(&graph, path, verb, namespace, name, ""), Err(why.to_owned()), "{verb} {path} {namespace}/{name}");
    }
}

#[test]
fn what_a_pod_named_goes_with_its_last_pod() {
    let mut graph = graph();
    let second = json!({"metadata": {"name": "q"}, "spec": {"nodeName": "n", "imagePullSecrets": [{"name": "key"}]}});
    graph.set("pods", "a", "q", Some(&second));
    graph.set("pods", "a", "p", None);
    assert!(graph.leads_to("n", Kind::Secret, "a", "key"));
    assert!(!graph.leads_to("n", Kind::Secret, "a", "file"));
    assert!(!graph.leads_to("n", Kind::PersistentVolume, "", "volume"));
    graph.set("pods", "a", "q", None);
    assert!(!graph.leads_to("n", Kind::Secret, "a", "key"));
    let mirror = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {"nodeName": "n", "serviceAccountName": "s"}});
    graph.set("pods", "a", "mirror", Some(&mirror));
    assert!(!graph.leads_to("n", Kind::ServiceAccount, "a", "s"));
    assert!(graph.leads_to("n", Kind::Pod, "a", "mirror"));
}
