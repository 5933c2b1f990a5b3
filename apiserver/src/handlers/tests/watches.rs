//! Watches: what comes, in which form, and how they end.

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;

use super::*;
use crate::{auth::UserInfo, response::Body};

struct Watcher {
    body: Body,
    rest: Vec<u8>,
}

async fn watch(handle: &Handle, query: &str, accept: &str) -> Watcher {
    let path = format!("{MAPS}?watch=true&{query}");
    let request = Request::builder().uri(path).header("accept", accept).body(Bytes::new()).unwrap();
    let response = handle.call(UserInfo::apiserver(), request).await;
    assert_eq!(response.status(), StatusCode::OK);
    Watcher { body: response.into_body(), rest: Vec::new() }
}

impl Watcher {
    /// The next line; none at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.unwrap();
            self.rest.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// Type and name of the next event.
    async fn event(&mut self) -> (String, String) {
        let event = self.next().await.unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

fn event(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

async fn label(handle: &Handle, name: &str, value: Value) -> i64 {
    let media = ("content-type", "application/merge-patch+json");
    let patch = json!({"metadata": {"labels": {"l": value}}}).to_string();
    version(&testing::send(handle, Method::PATCH, &format!("{MAPS}/{name}"), &[media], patch).await.json())
}

#[tokio::test]
async fn a_watch_begins_with_the_state_and_marks_its_end() {
    let handle = with_maps(&["a", "b"]).await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watcher = watch(&handle, query, "application/json").await;
    assert_eq!((watcher.event().await, watcher.event().await), (event("ADDED", "a"), event("ADDED", "b")));
    let mark = watcher.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    post(&handle, MAPS, &config_map("c")).await;
    assert_eq!(watcher.event().await, event("ADDED", "c"));
    // Without the state only what comes is told.
    let mut silent = watch(&handle, "sendInitialEvents=false&resourceVersionMatch=NotOlderThan", "application/json").await;
    post(&handle, MAPS, &config_map("d")).await;
    assert_eq!(silent.event().await, event("ADDED", "d"));
}

#[tokio::test]
async fn selectors_turn_changes_into_arrivals_and_departures() {
    let handle = with_maps(&["a"]).await;
    let mut watcher = watch(&handle, "labelSelector=l%3D1", "application/json").await;
    label(&handle, "a", json!("1")).await;
    assert_eq!(watcher.event().await, event("ADDED", "a"));
    let left = label(&handle, "a", json!("2")).await;
    let gone = watcher.next().await.unwrap();
    assert_eq!((&gone["type"], version(&gone["object"])), (&json!("DELETED"), left));
    assert_eq!(gone["object"]["metadata"]["labels"]["l"], "1");
    let mut named = watch(&handle, "fieldSelector=metadata.name%3Db", "application/json").await;
    post(&handle, MAPS, &config_map("c")).await;
    post(&handle, MAPS, &config_map("b")).await;
    testing::send(&handle, Method::DELETE, &format!("{MAPS}/b"), &[], "").await;
    assert_eq!((named.event().await, named.event().await), (event("ADDED", "b"), event("DELETED", "b")));
}

/// Changes of a large object that fill the cache's window more than once.
const CHANGES: usize = 50;

#[tokio::test]
async fn the_past_comes_from_history_and_what_is_compacted_ends_the_watch() {
    let handle = testing::server().await;
    let mut large = config_map("a");
    large["data"]["k"] = "x".repeat(400_000).into();
    let then = version(&post(&handle, MAPS, &large).await.json());
    post(&handle, MAPS, &config_map("b")).await;
    // More than the cache's window holds.
    for number in 0..CHANGES {
        label(&handle, "a", json!(number.to_string())).await;
    }
    let mut watcher = watch(&handle, &format!("resourceVersion={then}"), "application/json").await;
    assert_eq!(watcher.event().await, event("ADDED", "b"));
    let mut last = then;
    for _ in 0..CHANGES {
        let next = watcher.next().await.unwrap();
        assert!(version(&next["object"]) > last);
        last = version(&next["object"]);
    }
    post(&handle, MAPS, &config_map("c")).await;
    assert_eq!(watcher.event().await, event("ADDED", "c"));
    let request = kontiki_proto::etcdserverpb::CompactionRequest { revision: last, ..Default::default() };
    handle.server().options.kv.compact(request).await.unwrap();
    let mut late = watch(&handle, &format!("resourceVersion={then}"), "application/json").await;
    let error = late.next().await.unwrap();
    assert_eq!(
        (&error["type"], &error["object"]["code"], &error["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    assert!(late.next().await.is_none());
}

#[tokio::test]
async fn frames_are_of_the_form_that_was_asked_for() {
    let handle = with_maps(&["a"]).await;
    let mut tables = watch(&handle, "", "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let first = tables.next().await.unwrap();
    assert!(first["object"]["columnDefinitions"].is_array());
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    post(&handle, MAPS, &config_map("b")).await;
    assert_eq!(tables.next().await.unwrap()["object"]["columnDefinitions"], Value::Null);
    let mut metadata = watch(&handle, "", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io").await;
    assert_eq!(metadata.next().await.unwrap()["object"]["kind"], "PartialObjectMetadata");
    let mut protobuf = watch(&handle, "", "application/vnd.kubernetes.protobuf").await;
    // Events that wait travel together, each with its length before it.
    let frames = protobuf.body.frame().await.unwrap().unwrap().into_data().unwrap();
    let mut rest = &frames[..];
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (event, next) = behind.split_at(u32::from_be_bytes(*length) as usize);
        assert!(event.starts_with(b"\x0a\x05ADDED"));
        rest = next;
    }
    assert!(rest.is_empty());
}

#[tokio::test]
async fn bookmarks_come_and_a_watch_ends_in_time() {
    let handle = with_maps(&["a"]).await;
    let mut watcher = watch(&handle, "allowWatchBookmarks=true&timeoutSeconds=3", "application/json").await;
    let began = tokio::time::Instant::now();
    assert_eq!(watcher.event().await, event("ADDED", "a"));
    assert_eq!(watcher.next().await.unwrap()["type"], "BOOKMARK");
    let last = watcher.next().await.unwrap();
    assert_eq!((&last["type"], &last["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
    assert!(watcher.next().await.is_none());
    let lasted = began.elapsed().as_secs();
    assert!((2..=4_u64).contains(&lasted), "{lasted}");
}
