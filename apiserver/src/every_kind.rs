//! Every stored resource through its whole life, as a client sees it.
//!
//! Aim: a kind that is in the registry works. Method: for each stored resource create, read, list, table, watch list,
//! update, patch, status and delete through the one request path, over a store in memory.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;

use http::{Method, StatusCode};
use kontiki_api::{
    registry::{self, Resource, Subresource},
    resources::{self, ResourceKey},
};
use serde_json::{Value, json};

use crate::{
    auth::UserInfo,
    service::Handle,
    testing::{call, server},
};

/// What a kind cannot be without.
fn body(resource: &Resource) -> Value {
    let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}});
    let selector = json!({"matchLabels": {"app": "x"}});
    let workload = json!({"selector": selector, "template": template});
    let mut job = json!({"template": template});
    job["template"]["spec"]["restartPolicy"] = json!("Never");
    let rules = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]);
    let webhook = json!({"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://example.com"}, "rules": []});
    let request = json!({"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}});
    let spec = |spec: Value| json!({ "spec": spec });
    match resource.key.kind {
        "Pod" => spec(template["spec"].clone()),
        "PodTemplate" => json!({ "template": template }),
        "Service" => spec(json!({"ports": [{"port": 80}], "selector": {"app": "x"}})),
        "Endpoints" => json!({"subsets": [{"addresses": [{"ip": "10.0.0.9"}], "ports": [{"port": 80}]}]}),
        "EndpointSlice" => json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.9"]}]}),
        "Event" if resource.key.group.is_empty() => json!({"involvedObject": {"namespace": "default"}, "message": "m"}),
        "Event" => json!({"regarding": {"namespace": "default"}, "note": "m", "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "a/b", "reportingInstance": "i", "action": "Act", "reason": "Because", "type": "Normal"}),
        "LimitRange" => spec(json!({"limits": [{"type": "Pod", "max": {"cpu": "1"}}]})),
        "PersistentVolume" => {
            spec(json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}))
        }
        "PersistentVolumeClaim" => spec(json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}})),
        "ReplicationController" => spec(json!({"selector": {"app": "x"}, "template": template})),
        "ResourceQuota" => spec(json!({"hard": {"pods": "5"}})),
        "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet" => spec(workload),
        "ControllerRevision" => json!({"data": {"spec": {}}, "revision": 1}),
        "Job" => spec(job),
        "CronJob" => spec(json!({"schedule": "* * * * *", "jobTemplate": {"spec": job}})),
        "HorizontalPodAutoscaler" => spec(json!({"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}})),
        "CertificateSigningRequest" => spec(json!({"request": "eA==", "signerName": "example.com/x", "usages": ["client auth"]})),
        "Ingress" => spec(json!({"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}})),
        "IngressClass" => spec(json!({"controller": "example.com/x"})),
        "IPAddress" => spec(json!({"parentRef": {"resource": "services", "namespace": "default", "name": "s"}})),
        "NetworkPolicy" => spec(json!({"podSelector": {}})),
        "ServiceCIDR" => spec(json!({"cidrs": ["10.200.0.0/16"]})),
        "RoleBinding" | "ClusterRoleBinding" => {
            json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "x"}})
        }
        "Role" | "ClusterRole" => json!({ "rules": [] }),
        "CSINode" => spec(json!({"drivers": []})),
        "CSIStorageCapacity" => json!({"storageClassName": "fast"}),
        "StorageClass" => json!({"provisioner": "example.com/disk"}),
        "VolumeAttachment" => spec(json!({"attacher": "example.com", "nodeName": "n", "source": {"persistentVolumeName": "pv"}})),
        "VolumeAttributesClass" => json!({"driverName": "example.com", "parameters": {"a": "b"}}),
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => json!({ "webhooks": [webhook] }),
        "ValidatingAdmissionPolicy" => {
            spec(json!({"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": "true"}]}))
        }
        "MutatingAdmissionPolicy" => spec(json!({"matchConstraints": {"resourceRules": rules}, "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]})),
        "ValidatingAdmissionPolicyBinding" => spec(json!({"policyName": "p", "validationActions": ["Deny"]})),
        "MutatingAdmissionPolicyBinding" => spec(json!({"policyName": "p"})),
        "CustomResourceDefinition" => spec(json!({"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]})),
        "APIService" => {
            spec(json!({"group": "example.org", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10}))
        }
        "PriorityClass" => json!({ "value": 100 }),
        "RuntimeClass" => json!({ "handler": "fast" }),
        "DeviceClass" => spec(json!({})),
        "ResourceClaim" => spec(json!({"devices": {"requests": [request]}})),
        "ResourceClaimTemplate" => spec(json!({"spec": {"devices": {"requests": [request]}}})),
        "ResourceSlice" => spec(json!({"driver": "example.com", "nodeName": "n",
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}})),
        "FlowSchema" => spec(json!({"priorityLevelConfiguration": {"name": "exempt"}})),
        "PriorityLevelConfiguration" => spec(json!({"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}})),
        _ => json!({}),
    }
}

fn name(resource: &Resource) -> &'static str {
    match resource.key.kind {
        "IPAddress" => "10.96.77.7",
        "CustomResourceDefinition" => "widgets.example.com",
        "APIService" => "v1.example.org",
        _ => "life",
    }
}

struct Life<'a> {
    handle: &'a Handle,
    resource: &'static Resource,
    /// What was not as it should be: one line each, so that one run shows all.
    problems: RefCell<Vec<String>>,
}

impl Life<'_> {
    fn of<'a>(handle: &'a Handle, key: &ResourceKey) -> Life<'a> {
        Life { handle, resource: registry::of(key).unwrap(), problems: RefCell::default() }
    }

    fn expect(&self, good: bool, what: impl FnOnce() -> String) {
        if !good {
            self.problems.borrow_mut().push(format!("{:?} {}", self.resource, what()));
        }
    }

    async fn ask(&self, method: Method, path: &str, body: &Value, wanted: StatusCode) -> Value {
        let (code, answer) = call(self.handle, &UserInfo::apiserver(), method.clone(), path, body).await;
        self.expect(code == wanted, || format!("{method} {path}: {code} {}", answer["message"]));
        answer
    }

    async fn live(&self) {
        let key = self.resource.key;
        let namespace = if key.namespaced { "default" } else { "" };
        let (collection, object) = (key.path(namespace, ""), key.path(namespace, name(self.resource)));
        let mut sent = body(self.resource);
        sent["kind"] = json!(key.kind);
        sent["apiVersion"] = json!(key.api_version());
        sent["metadata"] = json!({ "name": name(self.resource), "labels": { "stage": "created" } });
        let created = self.ask(Method::POST, &collection, &sent, StatusCode::CREATED).await;
        if created["kind"] == "Status" {
            return;
        }
        self.expect(created["kind"] == key.kind && created["apiVersion"] == key.api_version(), || "another kind".to_owned());
        let read = self.ask(Method::GET, &object, &Value::Null, StatusCode::OK).await;
        self.expect(read == created, || format!("created {created} but reads {read}"));
        let selected = format!("{collection}?labelSelector=stage%3Dcreated");
        let list = self.ask(Method::GET, &selected, &Value::Null, StatusCode::OK).await;
        let count = list["items"].as_array().map_or(0, Vec::len);
        self.expect(list["kind"] == format!("{}List", key.kind) && count == 1, || format!("listed {list}"));
        let mut changed = read.clone();
        changed["metadata"]["labels"]["stage"] = json!("updated");
        let updated = self.ask(Method::PUT, &object, &changed, StatusCode::OK).await;
        for (field, same) in [("resourceVersion", false), ("generation", true), ("uid", true)] {
            let (before, after) = (&read["metadata"][field], &updated["metadata"][field]);
            self.expect((before == after) == same, || format!("update: {field} {before} {after}"));
        }
        let patch = json!({"metadata": {"annotations": {"a": "b"}}});
        let patched = self.ask(Method::PATCH, &object, &patch, StatusCode::OK).await;
        self.expect(patched["metadata"]["annotations"]["a"] == "b", || "is not patched".to_owned());
        let is_object = |part: &&Subresource| part.kind == key.kind && part.verbs.contains(&"patch");
        for part in self.resource.subresources.iter().filter(is_object) {
            let path = format!("{object}/{}", part.name);
            let part = self.ask(Method::GET, &path, &Value::Null, StatusCode::OK).await;
            self.ask(Method::PUT, &path, &part, StatusCode::OK).await;
        }
        self.ask(Method::DELETE, &object, &json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"}), StatusCode::OK)
            .await;
        // These wait for a controller, which is not here.
        if ![resources::NAMESPACES, resources::PERSISTENT_VOLUMES, resources::PERSISTENT_VOLUME_CLAIMS].contains(&key) {
            self.ask(Method::GET, &object, &Value::Null, StatusCode::NOT_FOUND).await;
        }
    }
}

#[tokio::test]
async fn every_kind_is_created_read_changed_and_deleted() {
    let handle = server().await;
    let accounts = Life::of(&handle, &resources::SERVICE_ACCOUNTS);
    let default = json!({ "metadata": { "name": "default" } });
    accounts.ask(Method::POST, "/api/v1/namespaces/default/serviceaccounts", &default, StatusCode::CREATED).await;
    let mut problems = accounts.problems.into_inner();
    // These are changed from their first moment on; custom::tests and policy::status take them through their lives.
    let changed = [resources::CUSTOM_RESOURCE_DEFINITIONS, resources::VALIDATING_ADMISSION_POLICIES];
    let own = |resource: &&Resource| resource.is_stored() && !changed.contains(&resource.key);
    for resource in registry::all().iter().filter(own) {
        let life = Life::of(&handle, &resource.key);
        life.live().await;
        problems.extend(life.problems.into_inner());
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[tokio::test]
async fn two_versions_show_one_object() {
    let handle = server().await;
    let life = Life::of(&handle, &resources::EVENTS_V1);
    let mut event = body(life.resource);
    event["metadata"] = json!({ "name": "e" });
    life.ask(Method::POST, "/apis/events.k8s.io/v1/namespaces/default/events", &event, StatusCode::CREATED).await;
    let core = life.ask(Method::GET, "/api/v1/namespaces/default/events/e", &Value::Null, StatusCode::OK).await;
    assert_eq!((&core["message"], &core["reportingComponent"]), (&json!("m"), &json!("a/b")));
    for (path, count) in [
        ("/apis/events.k8s.io/v1/events?fieldSelector=reportingController%3Da/b", 1),
        ("/apis/events.k8s.io/v1/events?fieldSelector=reportingController%3Dother", 0),
        ("/api/v1/events?fieldSelector=reportingComponent%3Da/b", 1),
    ] {
        let list = life.ask(Method::GET, path, &Value::Null, StatusCode::OK).await;
        assert_eq!(list["items"].as_array().unwrap().len(), count, "{path}");
    }
    let list = life.ask(Method::GET, "/apis/events.k8s.io/v1/events", &Value::Null, StatusCode::OK).await;
    assert_eq!(list["items"][0]["note"], "m");
    let patched = life
        .ask(
            Method::PATCH,
            "/apis/events.k8s.io/v1/namespaces/default/events/e",
            &json!({"series": {"count": 2,
            "lastObservedTime": "2026-01-01T00:00:01.000000Z"}}),
            StatusCode::OK,
        )
        .await;
    assert_eq!((&patched["series"]["count"], &patched["note"]), (&json!(2), &json!("m")));
    life.ask(Method::GET, "/api/v1/events?fieldSelector=regarding.kind%3DPod", &Value::Null, StatusCode::BAD_REQUEST).await;
    assert_eq!(life.problems.into_inner(), Vec::<String>::new());
}
