//! Patches of each kind: results and refusals as a v1.36 server has them.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::registry;
use proptest::prelude::*;
use serde_json::json;

fn type_of(kind: &str) -> &'static Type {
    registry::all().iter().find(|resource| resource.key.kind == kind).unwrap().type_().unwrap()
}

fn patched(patch_type: PatchType, object: &Value, patch: &Value) -> Result<Value, Status> {
    let kind = object["kind"].as_str().unwrap();
    apply(patch_type, object, patch.to_string().as_bytes(), type_of(kind), FieldValidation::Strict).map(|patched| patched.object)
}

fn pod(containers: Value) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "spec": {"containers": containers}})
}

/// Applies a strategic patch to the containers of a pod.
fn containers(server: Value, patch: Value) -> Value {
    patched(PatchType::Strategic, &pod(server), &json!({"spec": patch})).unwrap()["spec"]["containers"].take()
}

fn names(list: &Value) -> String {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

fn named(names: &str) -> Value {
    names.chars().map(|name| json!({"name": name.to_string(), "image": "old"})).collect()
}

#[test]
fn lists_of_maps_merge_by_key() {
    let merged = containers(
        json!([{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "1"}]),
        json!({"containers": [{"name": "a", "image": "2"}]}),
    );
    assert_eq!(merged, json!([{"name": "a", "image": "2", "args": ["x"]}, {"name": "b", "image": "1"}]));
}

#[test]
fn new_items_stand_where_kubernetes_puts_them() {
    for (server, patch, expected) in [
        // Items new to the server come before what it alone has, unless an order says otherwise.
        ("ab", json!({"containers": named("c")}), "cab"),
        ("ab", json!({"containers": named("bc")}), "abc"),
        ("ab", json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}), "ba"),
        ("abc", json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]}), "bca"),
        (
            "ab",
            json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "x"}, {"name": "b"}], "containers": named("x")}),
            "axb",
        ),
        ("", json!({"$setElementOrder/containers": [{"name": "a"}], "containers": named("a")}), "a"),
    ] {
        assert_eq!(names(&containers(named(server), patch.clone())), expected, "{server} {patch}");
    }
}

#[test]
fn directives_delete_and_replace() {
    for (patch, expected) in [
        (json!({"containers": [{"$patch": "delete", "name": "a"}]}), named("b")),
        (json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}), json!([{"name": "z"}])),
        (json!({"containers": [{"name": "a", "$patch": "delete"}, {"name": "c", "image": "old"}]}), named("cb")),
        (json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a", "$patch": "delete"}]}), named("b")),
        (json!({"$patch": "replace", "containers": [{"name": "z"}]}), json!([{"name": "z"}])),
    ] {
        assert_eq!(containers(named("ab"), patch.clone()), expected, "{patch}");
    }
    let gone = patched(PatchType::Strategic, &pod(named("a")), &json!({"spec": {"$patch": "delete"}})).unwrap();
    assert_eq!(gone["spec"], json!({}));
}

#[test]
fn lists_without_a_key_are_replaced_and_sets_merge() {
    let server = pod(json!([{"name": "a", "args": ["x", "y"], "command": ["c"]}]));
    let patch = json!({"spec": {"containers": [{"name": "a", "args": ["z"], "command": null}], "tolerations": [{"key": "k"}]}});
    let merged = patched(PatchType::Strategic, &server, &patch).unwrap();
    assert_eq!(merged["spec"], json!({"containers": [{"name": "a", "args": ["z"]}], "tolerations": [{"key": "k"}]}));
    let server = json!({"kind": "Pod", "metadata": {"finalizers": ["a/a", "b/b", "c/c"]}});
    for (patch, expected) in [
        (json!({"finalizers": ["d/d"]}), json!(["d/d", "a/a", "b/b", "c/c"])),
        (json!({"$deleteFromPrimitiveList/finalizers": ["b/b"]}), json!(["a/a", "c/c"])),
        (
            json!({"$setElementOrder/finalizers": ["c/c", "a/a"], "$deleteFromPrimitiveList/finalizers": ["b/b"]}),
            json!(["c/c", "a/a"]),
        ),
        (json!({"finalizers": null}), Value::Null),
    ] {
        let merged = patched(PatchType::Strategic, &server, &json!({"metadata": patch})).unwrap();
        assert_eq!(merged["metadata"]["finalizers"], expected, "{patch}");
    }
}

/// What `kubectl apply` sends when a manifest changes from RollingUpdate to Recreate.
#[test]
fn retain_keys_clears_the_rest() {
    let server = json!({"kind": "Deployment", "spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let merged = patched(PatchType::Strategic, &server, &patch).unwrap();
    assert_eq!(merged["spec"]["strategy"], json!({"type": "Recreate"}));
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}});
    let refused = patched(PatchType::Strategic, &server, &patch).unwrap_err();
    assert_eq!((refused.code, refused.message.as_str()), (400, "invalid patch format of retainKeys"));
}

#[test]
fn maps_merge_and_null_removes() {
    let server = json!({"kind": "Pod", "metadata": {"labels": {"a": "1", "b": "2"}}});
    for patch_type in [PatchType::Strategic, PatchType::Merge] {
        let merged = patched(patch_type, &server, &json!({"metadata": {"labels": {"a": null, "c": "3"}}})).unwrap();
        assert_eq!(merged["metadata"]["labels"], json!({"b": "2", "c": "3"}));
    }
    let merged = patched(PatchType::Merge, &pod(named("ab")), &json!({"spec": {"containers": [{"name": "c"}]}})).unwrap();
    assert_eq!(merged["spec"]["containers"], json!([{"name": "c"}]));
}

#[test]
fn json_patches_follow_the_rfc() {
    let server = pod(named("ab"));
    for (patch, expected) in [
        (json!([{"op": "remove", "path": "/spec/containers/0"}]), "b"),
        (json!([{"op": "add", "path": "/spec/containers/-", "value": {"name": "c"}}]), "abc"),
        (json!([{"op": "test", "path": "/spec/nodeName", "value": null}]), "ab"),
        (json!([{"op": "move", "from": "/spec/containers/1", "path": "/spec/containers/0"}]), "ba"),
        (json!([{"op": "replace", "path": "/spec/containers/0/name", "value": "x"}]), "xb"),
    ] {
        assert_eq!(names(&patched(PatchType::Json, &server, &patch).unwrap()["spec"]["containers"]), expected, "{patch}");
    }
    for patch in [
        json!([{"op": "test", "path": "/spec/nodeName", "value": "n"}]),
        json!([{"op": "remove", "path": "/spec/nodeName"}]),
        json!([{"op": "fly", "path": "/spec"}]),
    ] {
        let refused = patched(PatchType::Json, &server, &patch).unwrap_err();
        assert_eq!(
            (refused.code, refused.reason.as_str(), refused.message.as_str()),
            (422, "Invalid", "the server rejected our request due to an error in our request"),
        );
    }
    assert_eq!(patched(PatchType::Json, &server, &json!({"op": "add"})).unwrap_err().code, 400);
}

#[test]
fn a_result_of_the_wrong_shape_is_refused_in_kubernetes_words() {
    for (patch_type, patch, message) in [
        (
            PatchType::Strategic,
            json!({"spec": {"foo": [1, null, {"b": true, "a": "x"}]}}),
            " \"\" is invalid: patch: Invalid value: \"map[spec:map[foo:[1 <nil> map[a:x b:true]]]]\": strict decoding error: unknown field \"spec.foo\"",
        ),
        (
            PatchType::Strategic,
            json!({"spec": {"nodeName": 5}}),
            " \"\" is invalid: patch: Invalid value: \"map[spec:map[nodeName:5]]\": cannot convert int64 to string",
        ),
        (
            PatchType::Merge,
            json!({"spec": {"nodeName": 5}}),
            " \"\" is invalid: patch: Invalid value: \"{\\\"apiVersion\\\":\\\"v1\\\",\\\"kind\\\":\\\"Pod\\\",\\\"spec\\\":{\\\"containers\\\":[],\\\"nodeName\\\":5}}\": \
             json: cannot unmarshal number into Go struct field PodSpec.spec.nodeName of type string",
        ),
    ] {
        let refused = patched(patch_type, &pod(json!([])), &patch).unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
        assert_eq!(refused.message, message);
    }
}

#[test]
fn malformed_patches_are_refused() {
    for (patch, code, message) in [
        (json!({"spec": {"containers": [{"image": "x"}]}}), 500, "map: map[image:x] does not contain declared merge key: name"),
        (json!({"spec": {"$patch": "fly"}}), 500, "unknown patch type: fly in map: map[$patch:fly]"),
        (
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}}),
            500,
            "The order in patch list:\n[map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n",
        ),
        (json!([]), 400, "json: cannot unmarshal array into Go value of type map[string]interface {}"),
    ] {
        let refused = patched(PatchType::Strategic, &pod(named("a")), &patch).unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (code, message), "{patch}");
    }
}

fn container_list() -> impl Strategy<Value = Vec<Value>> {
    let item = ("[a-f]", "[0-9]", proptest::option::of("[xy]"));
    proptest::collection::vec(item, 0..5).prop_map(|items| {
        let mut list: Vec<Value> = Vec::new();
        for (name, image, term) in items {
            if list.iter().all(|other| other["name"] != json!(name)) {
                let mut item = json!({"name": name, "image": image});
                if let Some(term) = term {
                    item["workingDir"] = term.into();
                }
                list.push(item);
            }
        }
        list
    })
}

proptest! {
    /// Applying the same patch twice is applying it once.
    #[test]
    fn strategic_patches_are_idempotent(server in container_list(), patch in container_list()) {
        let patch = json!({"spec": {"containers": patch}});
        let once = strategic_merge(pod(server.into()), patch.clone(), type_of("Pod")).unwrap();
        let twice = strategic_merge(once.clone(), patch, type_of("Pod")).unwrap();
        prop_assert_eq!(once, twice);
    }

    /// What kubectl sends (changed items, deletions, order) leads exactly to the wanted list.
    #[test]
    fn a_diff_with_order_leads_to_the_target(server in container_list(), target in container_list()) {
        let mut items: Vec<Value> = target.clone();
        for old in &server {
            match target.iter().position(|item| item["name"] == old["name"]) {
                None => items.push(json!({"$patch": "delete", "name": old["name"]})),
                Some(index) if target[index].get("workingDir").is_none() => items[index]["workingDir"] = Value::Null,
                Some(_) => {}
            }
        }
        let order: Vec<Value> = target.iter().map(|item| json!({"name": item["name"]})).collect();
        let patch = json!({"spec": {"$setElementOrder/containers": order, "containers": items}});
        prop_assume!(!server.is_empty() || !target.is_empty());
        let merged = strategic_merge(pod(server.into()), patch, type_of("Pod")).unwrap();
        prop_assert_eq!(&merged["spec"]["containers"], &Value::from(target));
    }

    /// A strategic patch that only sets scalars and maps is a merge patch.
    #[test]
    fn without_lists_strategic_and_merge_agree(a in "[a-z]{0,3}", b in proptest::option::of("[a-z]{0,3}")) {
        let server = json!({"kind": "Pod", "metadata": {"labels": {"a": "1", "b": "1"}}});
        let patch = json!({"metadata": {"labels": {"a": a, "b": b}, "name": "n"}});
        prop_assert_eq!(patched(PatchType::Strategic, &server, &patch).unwrap(), patched(PatchType::Merge, &server, &patch).unwrap());
    }
}
