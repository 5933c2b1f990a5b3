//! Server-side apply and the owners of fields.

use super::*;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(replicas: Option<i64>) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web" },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "i" }] },
            },
        },
    });
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = json!(replicas);
    }
    object
}

async fn apply(handle: &Handle, path: &str, query: &str, config: &Value) -> Answer {
    let media = ("content-type", "application/apply-patch+yaml");
    testing::send(handle, Method::PATCH, &format!("{path}?{query}"), &[media], config.to_string()).await
}

async fn merge(handle: &Handle, path: &str, patch: &Value) -> Answer {
    let headers = [("content-type", "application/merge-patch+json"), ("user-agent", "tool/v1 (linux)")];
    testing::send(handle, Method::PATCH, path, &headers, patch.to_string()).await
}

fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let part = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    entries.iter().map(|entry| ["manager", "operation", "subresource"].map(|name| part(entry, name)).join(" ")).collect()
}

#[tokio::test]
async fn an_object_is_applied_created_changed_and_shared() {
    let handle = testing::server().await;
    let path = &format!("{DEPLOYMENTS}/web");
    let created = apply(&handle, path, "fieldManager=one", &deployment(Some(1))).await;
    assert_eq!(created.code, StatusCode::CREATED, "{}", created.json());
    assert_eq!(managers(&created.json()), ["one Apply "]);
    let again = apply(&handle, path, "fieldManager=one", &deployment(Some(1))).await;
    assert_eq!((again.code, again.json()), (StatusCode::OK, created.json()));
    let refused = apply(&handle, path, "fieldManager=two", &deployment(Some(2))).await;
    assert_eq!(refused.code, StatusCode::CONFLICT);
    assert_eq!(refused.json()["message"], "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas");
    assert_eq!(refused.json()["details"]["causes"][0]["reason"], "FieldManagerConflict");
    let forced = apply(&handle, path, "fieldManager=two&force=true", &deployment(Some(2))).await.json();
    assert_eq!((&forced["spec"]["replicas"], &forced["metadata"]["generation"]), (&json!(2), &json!(2)));
    // An omitted field that nobody else owns gets its default again.
    let less = apply(&handle, path, "fieldManager=two", &deployment(None)).await.json();
    assert_eq!(less["spec"]["replicas"], 1);
    let changed = merge(&handle, path, &json!({"spec": {"paused": true}})).await.json();
    assert!(managers(&changed).contains(&"tool Update ".to_owned()), "{changed}");
    let yaml = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  paused: false\n  paused: true\n";
    let media = [("content-type", "application/apply-patch+yaml")];
    let strict = format!("{path}?fieldManager=x&fieldValidation=Strict");
    let refused = testing::send(&handle, Method::PATCH, &strict, &media, yaml).await;
    assert_eq!(refused.code, StatusCode::BAD_REQUEST);
    assert!(refused.json()["message"].as_str().unwrap().contains("line 7: key \"paused\" already set in map"));
}

#[tokio::test]
async fn parts_have_owners_of_their_own() {
    let handle = testing::server().await;
    let path = &format!("{DEPLOYMENTS}/web");
    assert_eq!(post(&handle, &format!("{DEPLOYMENTS}?fieldManager=maker"), &deployment(Some(1))).await.code, StatusCode::CREATED);
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "status": {"replicas": 1}});
    let answer = apply(&handle, &format!("{path}/status"), "fieldManager=controller", &status).await;
    assert_eq!(answer.json()["status"]["replicas"], 1, "{}", answer.json());
    assert_eq!(managers(&answer.json()), ["controller Apply status", "maker Update "]);
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 4}});
    let refused = apply(&handle, &format!("{path}/scale"), "fieldManager=hpa", &scale).await;
    assert_eq!(refused.code, StatusCode::CONFLICT, "{}", refused.json());
    let scaled = apply(&handle, &format!("{path}/scale"), "fieldManager=hpa&force=true", &scale).await;
    assert_eq!(scaled.json()["spec"]["replicas"], 4, "{}", scaled.json());
    let object = get(&handle, path).await.json();
    assert_eq!((object["spec"]["replicas"].as_i64(), managers(&object).len()), (Some(4), 3));
    assert!(managers(&object).contains(&"hpa Apply scale".to_owned()), "{:?}", managers(&object));
    // An empty list gives all fields free.
    let freed = merge(&handle, path, &json!({"metadata": {"managedFields": []}})).await.json();
    assert_eq!(managers(&freed), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_asked_of_an_apply_is_checked() {
    let handle = with_maps(&["a"]).await;
    let config = config_map("a");
    for (query, code, message) in [
        ("", 422, "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"),
        (
            "fieldManager=x&dryRun=Some",
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: []string{\"Some\"}: supported values: \"All\"",
        ),
    ] {
        let refused = apply(&handle, &format!("{MAPS}/a"), query, &config).await.json();
        assert_eq!((refused["code"].as_i64().unwrap(), refused["message"].as_str().unwrap()), (code, message));
    }
    let forced = merge(&handle, &format!("{MAPS}/a?force=true"), &json!({})).await;
    assert_eq!(forced.code, StatusCode::UNPROCESSABLE_ENTITY);
    let other = apply(&handle, &format!("{MAPS}/b"), "fieldManager=x", &config).await.json();
    assert_eq!(other["message"], "the name of the object (a) does not match the name on the URL (b)");
    let cbor =
        testing::send(&handle, Method::PATCH, &format!("{MAPS}/a"), &[("content-type", "application/apply-patch+cbor")], "")
            .await;
    assert_eq!(cbor.code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(cbor.json()["message"].as_str().unwrap().ends_with("application/apply-patch+yaml"));
}

#[tokio::test]
async fn owners_of_two_versions_see_each_other() {
    let handle = testing::server().await;
    let path = |version: &str| format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers/a");
    let scaler = |version: &str, spec: Value| {
        json!({
            "apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler",
            "metadata": { "name": "a" }, "spec": spec,
        })
    };
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let first = scaler("v1", json!({"maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 50}));
    let created = apply(&handle, &path("v1"), "fieldManager=one", &first).await;
    assert_eq!(created.code, StatusCode::CREATED, "{}", created.json());
    let entry = &get(&handle, &path("v2")).await.json()["metadata"]["managedFields"][0];
    assert_eq!((&entry["apiVersion"], entry["fieldsV1"]["f:spec"].get("f:metrics")), (&json!("autoscaling/v1"), None));
    let metric = |utilization: i64| {
        let target = json!({"type": "Utilization", "averageUtilization": utilization});
        json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}])
    };
    let other = scaler("v2", json!({"metrics": metric(60)}));
    let refused = apply(&handle, &path("v2"), "fieldManager=two", &other).await;
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "Apply failed with 1 conflict: conflict with \"one\": .spec.targetCPUUtilizationPercentage");
    let forced = apply(&handle, &path("v2"), "fieldManager=two&force=true", &other).await.json();
    assert_eq!(managers(&forced), ["one Apply ", "two Apply "]);
    // A change by v1 takes the wish from its owner in v2.
    let changed = merge(&handle, &path("v1"), &json!({"spec": {"targetCPUUtilizationPercentage": 70}})).await.json();
    assert_eq!(managers(&changed), ["one Apply ", "tool Update "], "{changed}");
    assert_eq!(get(&handle, &path("v2")).await.json()["spec"]["metrics"], metric(70));
}
