//! Creates, updates and deletions: names, versions, dry runs.

use super::*;

async fn put(handle: &Handle, path: &str, body: &Value) -> Answer {
    testing::send(handle, Method::PUT, path, &[], body.to_string()).await
}

#[tokio::test]
async fn an_update_may_leave_out_what_its_kind_allows() {
    let handle = with_maps(&["a"]).await;
    let mut map = config_map("a");
    map["data"]["k"] = json!("w");
    // Without a version, whatever is there is changed.
    assert_eq!(put(&handle, &format!("{MAPS}/a"), &map).await.json()["data"]["k"], "w");
    map["metadata"]["resourceVersion"] = json!("1");
    let stale = put(&handle, &format!("{MAPS}/a"), &map).await.json();
    assert_eq!(stale["reason"], "Conflict");
    assert_eq!(put(&handle, &format!("{MAPS}/b"), &config_map("b")).await.code, StatusCode::NOT_FOUND);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {}});
    assert_eq!(put(&handle, &format!("{leases}/l"), &lease).await.code, StatusCode::CREATED);
    let refused = put(&handle, &format!("{leases}/l"), &lease).await.json();
    assert_eq!(
        refused["message"],
        "Lease.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"
    );
    map["metadata"] = json!({"name": "x", "resourceVersion": "5"});
    assert_eq!(post(&handle, MAPS, &map).await.json()["message"], "resourceVersion should not be set on objects to be created");
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let handle = with_maps(&["a"]).await;
    let before = get(&handle, MAPS).await.json();
    assert_eq!(post(&handle, &format!("{MAPS}?dryRun=All"), &config_map("b")).await.code, StatusCode::CREATED);
    assert_eq!(put(&handle, &format!("{MAPS}/a?dryRun=All"), &config_map("a")).await.code, StatusCode::OK);
    assert_eq!(testing::send(&handle, Method::DELETE, &format!("{MAPS}/a?dryRun=All"), &[], "").await.code, StatusCode::OK);
    assert_eq!(testing::send(&handle, Method::DELETE, &format!("{MAPS}?dryRun=All"), &[], "").await.code, StatusCode::OK);
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]});
    assert_eq!(testing::send(&handle, Method::DELETE, &format!("{MAPS}/a"), &[], options.to_string()).await.code, StatusCode::OK);
    assert_eq!(get(&handle, MAPS).await.json()["items"], before["items"]);
}

#[tokio::test]
async fn deletions_ask_for_what_goes_together() {
    let handle = with_maps(&["a", "b"]).await;
    let delete =
        async |path: &str, options: Value| testing::send(&handle, Method::DELETE, path, &[], options.to_string()).await.json();
    let one = format!("{MAPS}/a");
    for (options, message) in [
        (
            json!({"propagationPolicy": "Some"}),
            "propagationPolicy: Unsupported value: \"Some\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        ),
        (
            json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
            "propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set",
        ),
        (json!({"dryRun": ["x"]}), "dryRun: Unsupported value: []string{\"x\"}: supported values: \"All\""),
    ] {
        let refused = delete(&one, options).await;
        assert_eq!(refused["message"], format!("DeleteOptions.meta.k8s.io \"\" is invalid: {message}"));
    }
    let conflict = delete(&one, json!({"preconditions": {"resourceVersion": "1"}})).await;
    assert_eq!(conflict["reason"], "Conflict");
    let kept = delete(&one, json!({"propagationPolicy": "Foreground"})).await;
    assert_eq!(kept["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let gone = delete(&format!("{MAPS}?fieldSelector=metadata.name%3Db"), json!({})).await;
    assert_eq!(names(&gone), ["b"]);
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused_in_kubernetes_words() {
    let handle = with_maps(&["a"]).await;
    let text = [("content-type", "text/plain")];
    let refused = testing::send(&handle, Method::POST, MAPS, &text, "x").await;
    assert_eq!(refused.code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(
        refused.json()["message"],
        "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
    );
    let deep = format!("{}1{}", r#"{"data":"#.repeat(10_000), "}".repeat(10_000));
    assert_eq!(testing::send(&handle, Method::POST, MAPS, &[], deep).await.code, StatusCode::BAD_REQUEST);
    let merge = [("content-type", "application/merge-patch+json")];
    assert_eq!(testing::send(&handle, Method::PATCH, &format!("{MAPS}/a"), &merge, "{").await.code, StatusCode::BAD_REQUEST);
    assert_eq!(testing::send(&handle, Method::POST, &format!("{MAPS}/a"), &[], "{}").await.code, StatusCode::METHOD_NOT_ALLOWED);
}
