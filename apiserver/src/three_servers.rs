//! What servers of a cluster do while one of them lags, is cut off, or has no leader.
//!
//! Aim: none tells what may be old as if it were new, and none keeps anybody waiting for ever. Method: three members of a
//! real store in one process, one of which is cut off from the others and comes back.
#![allow(clippy::unwrap_used)]

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::{
    auth::UserInfo,
    response::Body,
    service::Handle,
    testing::{self, Answer, eventually, members::Servers},
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn get(handle: &Handle, path: &str) -> Answer {
    testing::send(handle, Method::GET, path, &[], "").await
}

async fn create(handle: &Handle, name: &str) -> i64 {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let created = testing::send(handle, Method::POST, MAPS, &[], map.to_string()).await;
    assert_eq!(created.code, StatusCode::CREATED, "{}", created.json());
    version(&created.json())
}

fn version(object: &Value) -> i64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

async fn watch(handle: &Handle, from: i64) -> Body {
    let path = format!("{MAPS}?watch=true&resourceVersion={from}");
    let response = handle.call(UserInfo::apiserver(), Request::get(path).body(bytes::Bytes::new()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body()
}

/// The names in the events of a watch, until there are as many.
async fn names(body: &mut Body, count: usize) -> Vec<String> {
    let (mut text, mut names) = (Vec::new(), Vec::new());
    while names.len() < count {
        text.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
        let lines: Vec<Value> = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        names = lines.iter().map(|line| line["object"]["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    }
    names
}

async fn with_namespace() -> (Servers, usize, usize) {
    let servers = Servers::start().await;
    let follower = servers.follower().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
    let other = (follower + 1) % 3;
    let created = testing::send(&servers.handles[other], Method::POST, "/api/v1/namespaces", &[], namespace.to_string()).await;
    assert_eq!(created.code, StatusCode::CREATED);
    (servers, follower, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_has_written_every_server_reads() {
    let (servers, follower, other) = with_namespace().await;
    for number in 0..5 {
        let name = format!("m{number}");
        let written = create(&servers.handles[other], &name).await;
        for handle in &servers.handles {
            assert_eq!(version(&get(handle, &format!("{MAPS}/{name}")).await.json()), written);
        }
    }
    // What is asked for of the past may be had from anybody who knows as much.
    let list = get(&servers.handles[follower], &format!("{MAPS}?resourceVersion=0")).await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_cut_off_says_so_and_comes_back_without_a_gap() {
    let (servers, cut, other) = with_namespace().await;
    let (alone, quorum) = (&servers.handles[cut], &servers.handles[other]);
    let first = create(quorum, "first").await;
    let mut before = watch(alone, first - 1).await;
    assert_eq!(names(&mut before, 1).await, ["first"]);
    servers.cut_off(cut);
    let second = create(quorum, "second").await;

    // A version that it has not heard of is waited for, and then refused; what it knows it tells who asks for no more.
    let (ahead, newest) = (format!("{MAPS}?resourceVersion={second}&resourceVersionMatch=NotOlderThan"), format!("{MAPS}/first"));
    let (ahead, newest) = tokio::join!(get(alone, &ahead), get(alone, &newest));
    assert_eq!(ahead.code, StatusCode::GATEWAY_TIMEOUT, "{}", ahead.json());
    assert_eq!(ahead.json()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!((newest.code, newest.json()["reason"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("ServiceUnavailable")));
    let known = get(alone, &format!("{MAPS}/first?resourceVersion=0")).await;
    assert_eq!(known.code, StatusCode::OK);

    // It writes nothing, is not ready, and its watches have ended: their clients go elsewhere.
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "unknown"}}).to_string();
    let written = testing::send(alone, Method::POST, "/api/v1/namespaces/default/secrets", &[], secret).await;
    assert!(written.code.is_server_error(), "{}", written.code);
    let ended = eventually(async || (get(alone, "/readyz").await.code == StatusCode::INTERNAL_SERVER_ERROR).then_some(()));
    ended.await;
    while let Some(frame) = before.frame().await {
        drop(frame);
    }
    assert_eq!(get(quorum, "/readyz").await.code, StatusCode::OK);
    assert_eq!(get(quorum, &format!("{MAPS}/second")).await.code, StatusCode::OK);

    servers.heal();
    eventually(async || (get(alone, "/readyz").await.code == StatusCode::OK).then_some(())).await;
    let after =
        eventually(async || Some(get(alone, &format!("{MAPS}/second")).await).filter(|found| found.code == StatusCode::OK));
    assert_eq!(version(&after.await.json()), second);
    let third = create(alone, "third").await;
    let mut resumed = watch(alone, first).await;
    assert_eq!(names(&mut resumed, 2).await, ["second", "third"], "nothing is left out");
    assert_eq!(version(&get(quorum, &format!("{MAPS}/third")).await.json()), third);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nobody_answers_as_if_there_were_one() {
    let (servers, ..) = with_namespace().await;
    create(&servers.handles[0], "first").await;
    for member in 0..3 {
        servers.cut_off(member);
    }
    let asked = servers.handles.iter().map(|handle| async move {
        let newest = get(handle, &format!("{MAPS}/first")).await;
        let known = get(handle, &format!("{MAPS}?resourceVersion=0")).await;
        eventually(async || (get(handle, "/readyz").await.code == StatusCode::INTERNAL_SERVER_ERROR).then_some(())).await;
        let watch = testing::send(handle, Method::GET, &format!("{MAPS}?watch=true"), &[], "").await;
        (newest.code.as_u16(), known.code.as_u16(), watch.code.as_u16())
    });
    for answers in futures::future::join_all(asked).await {
        assert_eq!(answers, (503, 200, 503));
    }
    servers.heal();
    let handle = &servers.handles[1];
    eventually(async || (get(handle, &format!("{MAPS}/first")).await.code == StatusCode::OK).then_some(())).await;
}
