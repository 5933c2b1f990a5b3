//! Ownership as a v1.36 server keeps it: entries after each kind of write, merges, removals, conflicts.
#![allow(clippy::unwrap_used)]
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::status::Status;

const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";
const CONFIG_MAP: &str = "io.k8s.api.core.v1.ConfigMap";

fn owned(type_: &str) -> Owned<'static> {
    Owned::of(schema::find(type_).unwrap())
}

fn update_of(type_: &str, live: &Value, new: &mut Value, writer: &Writer<'_>) {
    let owned = owned(type_);
    update(&owned, &OneVersion(&owned), live, new, writer);
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn writer(manager: &str, now: i64) -> Writer<'_> {
    Writer { manager, api_version: "apps/v1", subresource: "", now: at(now) }
}

fn applied(live: Option<&Value>, config: &Value, manager: &str, now: i64, force: bool) -> Result<Value, Status> {
    let status = FieldSet::of(&[&["status"]]);
    let application = Application { config, writer: writer(manager, now), kind: "Deployment", force, ignored: &status };
    let owned = owned(DEPLOYMENT);
    apply(&owned, &OneVersion(&owned), live, &application)
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "a"}, "spec": spec})
}

fn containers(list: Value) -> Value {
    deployment(json!({"template": {"spec": {"containers": list}}}))
}

/// `manager operation`: fields, for each entry.
fn owners(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let name = |entry: &Value| format!("{} {}", entry["manager"].as_str().unwrap(), entry["operation"].as_str().unwrap());
    entries.iter().map(|entry| (name(entry), entry["fieldsV1"].clone())).collect()
}

#[test]
fn a_creation_is_owned_as_on_a_real_server() {
    let mut object = deployment(json!({
        "replicas": 3,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]},
        },
    }));
    object["metadata"]["labels"] = json!({"app": "web"});
    object["status"] = json!({"replicas": 1});
    created(&owned(DEPLOYMENT), &mut object, &FieldSet::of(&[&["status"]]), &writer("kubectl-create", 5));
    let port = json!({".": {}, "f:containerPort": {}, "f:protocol": {}});
    let ports = json!({".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": port});
    let container = json!({".": {}, "f:image": {}, "f:name": {}, "f:ports": ports});
    let expected = json!([{
        "apiVersion": "apps/v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:selector": {},
                "f:template": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": container}},
                },
            },
        },
        "manager": "kubectl-create",
        "operation": "Update",
        "time": "1970-01-01T00:00:05Z",
    }]);
    assert_eq!(object["metadata"]["managedFields"], expected);
}

#[test]
fn an_update_takes_what_it_changes_and_nothing_else() {
    let mut first = deployment(json!({"replicas": 1, "paused": true}));
    created(&owned(DEPLOYMENT), &mut first, &FieldSet::default(), &writer("one", 1));
    let mut second = first.clone();
    second["spec"]["replicas"] = json!(2);
    update_of(DEPLOYMENT, &first, &mut second, &writer("two", 2));
    let expected = [("one Update", json!({"f:spec": {"f:paused": {}}})), ("two Update", json!({"f:spec": {"f:replicas": {}}}))];
    assert_eq!(owners(&second), expected.map(|(name, fields)| (name.to_owned(), fields)));
    let mut same = second.clone();
    update_of(DEPLOYMENT, &second, &mut same, &writer("three", 3));
    assert_eq!(same, second);
    // A client that does not know of owners takes none away; an empty list takes all.
    for (sent, count) in [(None, 2), (Some(json!([])), 0), (Some(json!([{}])), 0), (Some(json!([{"operation": "?"}])), 2)] {
        let mut new = second.clone();
        crate::object::meta::remove(&mut new, "managedFields");
        if let Some(sent) = sent {
            new["metadata"]["managedFields"] = sent;
        }
        update_of(DEPLOYMENT, &second, &mut new, &writer("three", 3));
        assert_eq!(owners(&new).len(), count);
    }
}

#[test]
fn the_oldest_of_many_updaters_are_put_together() {
    let owned = owned(CONFIG_MAP);
    let mut object = json!({"metadata": {"name": "x"}, "data": {"k0": ""}});
    created(&owned, &mut object, &FieldSet::default(), &writer("m0", 0));
    for number in 1..14 {
        let mut next = object.clone();
        next["data"][format!("k{number}")] = json!("");
        update(&owned, &OneVersion(&owned), &object, &mut next, &writer(&format!("m{number}"), number));
        object = next;
    }
    let owners = owners(&object);
    assert_eq!(owners.len(), 10);
    assert_eq!(owners[0].0, "ancient-changes Update");
    assert_eq!(owners[0].1, json!({"f:data": {".": {}, "f:k0": {}, "f:k1": {}, "f:k2": {}, "f:k3": {}, "f:k4": {}}}));
}

#[test]
fn an_apply_creates_merges_and_removes_what_it_omits() {
    let config = containers(json!([{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]));
    let live = applied(None, &config, "me", 1, false).unwrap();
    assert_eq!(live["spec"], config["spec"]);
    let mut changed = live.clone();
    changed["spec"]["template"]["spec"]["containers"][0]["tty"] = json!(true);
    changed["spec"]["replicas"] = json!(4);
    update_of(DEPLOYMENT, &live, &mut changed, &writer("other", 2));
    let less = containers(json!([{"name": "a", "image": "1"}]));
    let object = applied(Some(&changed), &less, "me", 3, false).unwrap();
    assert_eq!(object["spec"]["template"]["spec"]["containers"], json!([{"name": "a", "image": "1", "tty": true}]));
    assert_eq!(object["spec"]["replicas"], 4);
    // Applying the same again changes nothing, not even the time.
    assert_eq!(applied(Some(&object), &less, "me", 9, false).unwrap(), object);
    // An item goes with all below it unless somebody else owns the item itself.
    let none = deployment(json!({"template": {"spec": {"containers": []}}}));
    let object = applied(Some(&object), &none, "me", 4, false).unwrap();
    assert_eq!(object["spec"], json!({"replicas": 4}));
}

#[test]
fn a_conflict_names_the_owner_and_force_takes_the_field() {
    let live = applied(None, &deployment(json!({"replicas": 1})), "first", 1, false).unwrap();
    let config = deployment(json!({"replicas": 2}));
    let refused = applied(Some(&live), &config, "second", 2, false).unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"first\": .spec.replicas");
    let cause = &refused.details.unwrap().causes[0];
    assert_eq!(
        (cause.reason.as_str(), cause.message.as_str(), cause.field.as_str()),
        ("FieldManagerConflict", "conflict with \"first\"", ".spec.replicas")
    );
    let forced = applied(Some(&live), &config, "second", 2, true).unwrap();
    assert_eq!(owners(&forced), [("second Apply".to_owned(), json!({"f:spec": {"f:replicas": {}}}))]);
    // The same value is shared, not fought over.
    let shared = applied(Some(&live), &deployment(json!({"replicas": 1})), "second", 2, false).unwrap();
    assert_eq!(owners(&shared).len(), 2);
    // Several conflicts are listed by manager.
    let mut updated = live.clone();
    updated["spec"]["paused"] = json!(true);
    update_of(DEPLOYMENT, &live, &mut updated, &writer("tool", 3));
    let refused = applied(Some(&updated), &deployment(json!({"replicas": 5, "paused": false})), "x", 4, false).unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 2 conflicts: conflicts with \"first\":\n- .spec.replicas\nconflicts with \"tool\" using apps/v1:\n- .spec.paused"
    );
}

#[test]
fn kubectl_takes_over_from_its_client_side_apply() {
    let mut live = deployment(json!({"replicas": 1, "paused": true}));
    let text = deployment(json!({"replicas": 1})).to_string();
    live["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": text});
    created(&owned(DEPLOYMENT), &mut live, &FieldSet::default(), &writer("kubectl-client-side-apply", 1));
    let config = deployment(json!({"replicas": 2}));
    assert_eq!(applied(Some(&live), &config, "another", 2, false).unwrap_err().code, 409);
    let taken = applied(Some(&live), &config, "kubectl", 2, false).unwrap();
    assert_eq!(taken["spec"]["replicas"], 2);
    let annotation = taken["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(annotation).unwrap(), config);
    // What the annotation does not name stays the other manager's.
    assert_eq!(applied(Some(&live), &deployment(json!({"paused": false})), "kubectl", 2, false).unwrap_err().code, 409);
}

#[test]
fn items_are_told_apart_by_their_keys_with_defaults() {
    let port = |list: Value| containers(json!([{"name": "a", "ports": list}]));
    let live = applied(None, &port(json!([{"containerPort": 80, "protocol": "TCP"}])), "one", 1, false).unwrap();
    let both =
        applied(Some(&live), &port(json!([{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}])), "two", 2, false);
    let both = both.unwrap();
    assert_eq!(
        both["spec"]["template"]["spec"]["containers"][0]["ports"],
        json!([{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP"}])
    );
    let twice = applied(None, &containers(json!([{"name": "a"}, {"name": "a"}])), "one", 1, false).unwrap_err();
    assert_eq!(
        twice.message,
        "failed to create typed patch object (a/web; apps/v1, Kind=Deployment): .spec.template.spec.containers: duplicate entries for key [name=\"a\"]"
    );
}

#[test]
fn what_is_no_configuration_is_refused() {
    let mut other = deployment(json!({}));
    other["kind"] = json!("Pod");
    let mut managed = deployment(json!({}));
    managed["metadata"]["managedFields"] = json!([{}]);
    for (config, code, message) in [
        (other, 400, "invalid object type: apps/v1, Kind=Pod"),
        (managed, 400, "metadata.managedFields must be nil"),
        (
            deployment(json!({"foo": 1})),
            500,
            "failed to create typed patch object (a/web; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema",
        ),
        (
            deployment(json!({"replicas": "1"})),
            500,
            "failed to create typed patch object (a/web; apps/v1, Kind=Deployment): .spec.replicas: expected numeric (int or float), got string",
        ),
    ] {
        let refused = applied(None, &config, "me", 1, false).unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (code, message));
    }
}

#[test]
fn shared_items_follow_the_configuration_and_others_keep_their_place() {
    let list = |names: &str| -> Value { names.chars().map(|name| json!({"name": name.to_string()})).collect() };
    for (live, config, expected) in [
        ("ab", "c", "abc"),
        ("abc", "ca", "bca"),
        ("axb", "ba", "xba"),
        ("ab", "xb", "axb"),
        ("", "ab", "ab"),
        ("abc", "abc", "abc"),
    ] {
        let base = applied(None, &containers(list(live)), "one", 1, false).unwrap();
        let merged = applied(Some(&base), &containers(list(config)), "two", 2, false).unwrap();
        let found = merged["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        let names: String = found.iter().map(|item| item["name"].as_str().unwrap()).collect();
        assert_eq!(names, expected, "{live} {config}");
    }
}

#[test]
fn a_scale_has_the_owners_of_the_replicas() {
    let live = applied(None, &deployment(json!({"replicas": 1, "paused": true})), "me", 1, false).unwrap();
    let mut scale =
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": "web"}, "spec": {"replicas": 1}});
    to_scale(&live, "spec.replicas", &mut scale);
    assert_eq!(owners(&scale), [("me Apply".to_owned(), json!({"f:spec": {"f:replicas": {}}}))]);
    let before = scale.clone();
    scale["spec"]["replicas"] = json!(3);
    let by_scale = Writer { manager: "hpa", api_version: "autoscaling/v1", subresource: "scale", now: at(2) };
    update_of("io.k8s.api.autoscaling.v1.Scale", &before, &mut scale, &by_scale);
    let mut object = live.clone();
    from_scale(&scale, &mut object, "spec.replicas", "apps/v1");
    let expected = [("me Apply", json!({"f:spec": {"f:paused": {}}})), ("hpa Update", json!({"f:spec": {"f:replicas": {}}}))];
    assert_eq!(owners(&object), expected.map(|(name, fields)| (name.to_owned(), fields)));
}

fn any_data() -> impl proptest::strategy::Strategy<Value = Value> {
    proptest::collection::btree_map("[a-d]", "[xy]", 0..4).prop_map(|data| json!(data))
}

fn config_map(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data})
}

proptest! {
    /// After a forced apply the object has what the configuration says, and lost only what its manager had applied.
    #[test]
    fn a_forced_apply_always_holds(before in any_data(), mine in any_data(), then in any_data()) {
        let owned = owned(CONFIG_MAP);
        let none = FieldSet::default();
        let run = |live: Option<&Value>, data: &Value, manager: &'static str| {
            let config = config_map(data);
            let writer = Writer { manager, api_version: "v1", subresource: "", now: at(1) };
            let application = Application { config: &config, writer, kind: "ConfigMap", force: true, ignored: &none };
            apply(&owned, &OneVersion(&owned), live, &application).unwrap()
        };
        let live = run(None, &before, "other");
        let live = run(Some(&live), &mine, "me");
        let object = run(Some(&live), &then, "me");
        for (key, value) in then.as_object().unwrap() {
            prop_assert_eq!(&object["data"][key], value);
        }
        for (key, value) in before.as_object().unwrap() {
            if mine.get(key).is_none_or(|other| other == value) && then.get(key).is_none() {
                prop_assert_eq!(&object["data"][key], value, "{}", key);
            }
        }
        for key in object["data"].as_object().into_iter().flatten().map(|(key, _)| key) {
            prop_assert!(then.get(key).is_some() || before.get(key).is_some());
        }
    }
}

/// An autoscaler's owners in two versions, which call the same wish by different names.
mod versions {
    use super::*;
    use crate::registry::{self, Resource, versions::BuiltIn};

    fn resource(version: &str) -> &'static Resource {
        registry::find("autoscaling", version, "horizontalpodautoscalers").unwrap()
    }

    fn apply_in(version: &str, live: Option<&Value>, manager: &str, spec: &Value, force: bool) -> Result<Value, Status> {
        let (resource, api_version) = (resource(version), format!("autoscaling/{version}"));
        let mut config =
            json!({"apiVersion": api_version, "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a", "namespace": "b"}});
        config["spec"] = spec.clone();
        let writer = Writer { manager, api_version: &api_version, subresource: "", now: at(1) };
        let ignored = FieldSet::of(&[&["status"]]);
        let application = Application { config: &config, writer, kind: "HorizontalPodAutoscaler", force, ignored: &ignored };
        let live = live.map(|live| resource.to_served(live.clone()));
        let owned = Owned::of(resource.type_().unwrap());
        let applied = apply(&owned, &BuiltIn(resource), live.as_ref(), &application)?;
        Ok(resource.to_stored(applied))
    }

    fn v1(utilization: i64) -> Value {
        json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": utilization, "scaleTargetRef": {"kind": "Deployment", "name": "web"}})
    }

    fn v2(utilization: i64) -> Value {
        let target = json!({"type": "Utilization", "averageUtilization": utilization});
        json!({"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]})
    }

    fn utilization(stored: &Value) -> &Value {
        &stored["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"]
    }

    #[test]
    fn who_owns_a_wish_in_one_version_is_in_the_way_of_another() {
        let live = apply_in("v1", None, "one", &v1(50), false).unwrap();
        assert_eq!(utilization(&live), 50);
        let refused = apply_in("v2", Some(&live), "two", &v2(60), false).unwrap_err();
        assert_eq!(refused.code, 409);
        assert!(refused.message.contains(".spec.targetCPUUtilizationPercentage"), "{}", refused.message);
        let same = apply_in("v2", Some(&live), "two", &v2(50), false).unwrap();
        assert_eq!(owners(&same).len(), 2, "what is wished for twice has two owners");
        let forced = apply_in("v2", Some(&live), "two", &v2(60), true).unwrap();
        assert_eq!(utilization(&forced), 60);
        let owners = owners(&forced);
        assert_eq!(owners[0].1, json!({"f:spec": {"f:maxReplicas": {}, "f:scaleTargetRef": {}}}), "one has lost it");
        assert_eq!(owners[1].1, json!({"f:spec": {"f:metrics": {}}}));
    }

    #[test]
    fn an_update_takes_from_owners_in_another_version() {
        let live = apply_in("v1", None, "one", &v1(50), false).unwrap();
        let mut new = live.clone();
        new["spec"]["metrics"] = v2(70)["metrics"].clone();
        let writer = Writer { manager: "tool", api_version: "autoscaling/v2", subresource: "", now: at(2) };
        let owned = Owned::of(resource("v2").type_().unwrap());
        update(&owned, &BuiltIn(resource("v2")), &live, &mut new, &writer);
        let owners = owners(&new);
        assert_eq!(owners[0], ("one Apply".to_owned(), json!({"f:spec": {"f:maxReplicas": {}, "f:scaleTargetRef": {}}})));
        assert_eq!(owners[1], ("tool Update".to_owned(), json!({"f:spec": {"f:metrics": {}}})));
    }

    #[test]
    fn what_was_applied_in_another_version_goes_when_it_is_wished_for_no_longer() {
        let mut spec = v1(50);
        spec["minReplicas"] = json!(2);
        let live = apply_in("v1", None, "one", &spec, false).unwrap();
        assert_eq!(live["spec"]["minReplicas"], 2);
        let mut wish = v2(50);
        wish["maxReplicas"] = json!(3);
        wish["scaleTargetRef"] = json!({"kind": "Deployment", "name": "web"});
        let next = apply_in("v2", Some(&live), "one", &wish, false).unwrap();
        assert_eq!((next["spec"].get("minReplicas"), utilization(&next)), (None, &json!(50)));
        assert_eq!(next["metadata"]["managedFields"][0]["apiVersion"], "autoscaling/v2");
        assert_eq!(owners(&next).len(), 1);
    }
}
