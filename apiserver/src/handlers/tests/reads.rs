//! Lists and gets: versions, pages, waits.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::*;

#[tokio::test]
async fn pages_are_of_one_revision() {
    let handle = with_maps(&["a", "b", "c", "d"]).await;
    let first = get(&handle, &format!("{MAPS}?limit=2")).await.json();
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a", "b"], &json!(2)));
    testing::send(&handle, Method::DELETE, &format!("{MAPS}/c"), &[], "").await;
    post(&handle, MAPS, &config_map("bb")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = get(&handle, &format!("{MAPS}?limit=2&continue={token}")).await.json();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!((version(&second), second["metadata"].get("continue")), (version(&first), None));
    // With a selector nobody knows how many remain.
    let selected = get(&handle, &format!("{MAPS}?limit=1&fieldSelector=metadata.name!%3Da")).await.json();
    assert_eq!((names(&selected), selected["metadata"].get("remainingItemCount")), (vec!["b"], None));
}

#[tokio::test]
async fn the_past_is_listed_until_it_is_compacted() {
    let handle = with_maps(&["a", "b"]).await;
    let then = version(&get(&handle, MAPS).await.json());
    post(&handle, MAPS, &config_map("c")).await;
    let now = version(&get(&handle, MAPS).await.json());
    let exact = format!("{MAPS}?resourceVersion={then}&resourceVersionMatch=Exact");
    let past = get(&handle, &exact).await.json();
    assert_eq!((names(&past), version(&past)), (vec!["a", "b"], then));
    let page = get(&handle, &format!("{MAPS}?resourceVersion={then}&limit=1")).await.json();
    assert_eq!((names(&page), &page["metadata"]["remainingItemCount"]), (vec!["a"], &json!(1)));
    let request = kontiki_proto::etcdserverpb::CompactionRequest { revision: now, ..Default::default() };
    handle.server().options.kv.compact(request).await.unwrap();
    let gone = get(&handle, &exact).await.json();
    assert_eq!((&gone["code"], &gone["reason"]), (&json!(410), &json!("Expired")));
    assert_eq!(gone["message"], "The resourceVersion for the provided list is too old.");
    let token = BASE64_URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": then, "start": "a\0"}).to_string());
    let gone = get(&handle, &format!("{MAPS}?limit=1&continue={token}")).await.json();
    assert_eq!((&gone["code"], &gone["reason"]), (&json!(410), &json!("Expired")));
    let token = gone["metadata"]["continue"].as_str().unwrap();
    let rest = get(&handle, &format!("{MAPS}?continue={token}")).await.json();
    assert_eq!(names(&rest), ["b", "c"]);
}

#[tokio::test]
async fn a_version_ahead_is_waited_for_and_then_refused() {
    let handle = with_maps(&["a"]).await;
    let ahead = version(&get(&handle, MAPS).await.json()) + 1;
    let paths = [format!("{MAPS}/a?resourceVersion={ahead}"), format!("{MAPS}?resourceVersion={ahead}")];
    let (one, all) = tokio::join!(get(&handle, &paths[0]), get(&handle, &paths[1]));
    for late in [one, all] {
        let status = late.json();
        assert_eq!((late.code, &status["reason"]), (StatusCode::GATEWAY_TIMEOUT, &json!("Timeout")));
        assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
        assert_eq!(
            (&status["details"]["retryAfterSeconds"], &late.headers["retry-after"]),
            (&json!(1), &http::HeaderValue::from(1))
        );
    }
    let list = format!("{MAPS}?resourceVersion={ahead}&resourceVersionMatch=NotOlderThan");
    let newer = config_map("b");
    let (list, _) = tokio::join!(get(&handle, &list), post(&handle, MAPS, &newer));
    assert_eq!(names(&list.json()), ["a", "b"]);
}
