//! Keeps the ConfigMap that says since when the use of tokens in Secrets is written down: who cleans up may trust no day
//! before it.
//!
//! Every server does; the first one wins. One that somebody takes away is not made again at once, as a server of another
//! kind may be of the opinion that it must not be there.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use jiff::{Timestamp, civil::Date};
use kontiki_api::resources::CONFIG_MAPS;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{UserInfo, legacy};
use crate::{
    cache::Interest,
    service::Handle,
    storage::{Storage, keys},
};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// Least time between two creations.
const CREATION_PERIOD: Duration = Duration::from_secs(30 * 60);
/// Wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What is to be done about the ConfigMap.
#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    Create(Value),
    Repair(Value),
    Wait(Duration),
}

/// What is to be done about the ConfigMap as it is; `created` is how long ago this server made it last.
fn plan(found: Option<&Value>, created: Option<Duration>, now: Timestamp) -> Step {
    let since = legacy::day(now);
    match found {
        Some(map) if map["data"]["since"].as_str().is_some_and(|day| day.parse::<Date>().is_ok()) => Step::Nothing,
        Some(map) => {
            let mut map = map.clone();
            if !map["data"].is_object() {
                map["data"] = json!({});
            }
            map["data"]["since"] = json!(since);
            Step::Repair(map)
        }
        None => match created.and_then(|ago| CREATION_PERIOD.checked_sub(ago)) {
            Some(wait) => Step::Wait(wait),
            None => Step::Create(json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": { "name": NAME, "namespace": NAMESPACE },
                "data": { "since": since },
            })),
        },
    }
}

/// Keeps it until `cancel`.
pub async fn run(handle: Handle, cancel: CancellationToken) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = keep(&handle) => {}
    }
}

async fn keep(handle: &Handle) {
    let storage = &handle.server().storage;
    let Some(resource) = kontiki_api::registry::of(&CONFIG_MAPS) else { return };
    let Some(cache) = storage.caches.of(resource) else { return };
    let key = keys::object(resource, NAMESPACE, NAME);
    let (_, _, subscription) = cache.snapshot_and_subscribe(Interest::Object(key.clone()));
    let mut created: Option<Instant> = None;
    loop {
        let wait = match look(handle, storage, &key, created).await {
            Ok(Looked::Good) => None,
            Ok(Looked::Created) => {
                created = Some(Instant::now());
                None
            }
            Ok(Looked::Later(wait)) => Some(wait),
            Err(message) => {
                tracing::debug!(message, "cannot keep the ConfigMap of token tracking");
                Some(RETRY)
            }
        };
        tokio::select! {
            () = subscription.filled() => {
                // What has happened is not asked, only how it is now.
                let _ = subscription.take(usize::MAX);
            }
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
        }
    }
}

enum Looked {
    Good,
    Created,
    Later(Duration),
}

async fn look(handle: &Handle, storage: &Storage, key: &str, created: Option<Instant>) -> Result<Looked, String> {
    storage.catch_up().await.map_err(|status| status.message)?;
    let resource = storage.caches.resource_of(key).ok_or("ConfigMaps are not served")?;
    let found = storage.caches.of(resource).and_then(|cache| cache.get(key)).map(|object| object.encoded.value());
    let path = |name: &str| CONFIG_MAPS.path(NAMESPACE, name);
    match plan(found.as_ref(), created.map(|created| created.elapsed()), Timestamp::now()) {
        Step::Nothing => Ok(Looked::Good),
        Step::Wait(wait) => Ok(Looked::Later(wait)),
        Step::Create(map) => match write(handle, Method::POST, &path(""), &map).await? {
            StatusCode::CREATED => Ok(Looked::Created),
            StatusCode::CONFLICT => Ok(Looked::Good),
            code => Err(code.to_string()),
        },
        Step::Repair(map) => match write(handle, Method::PUT, &path(NAME), &map).await? {
            StatusCode::OK | StatusCode::CONFLICT | StatusCode::NOT_FOUND => Ok(Looked::Good),
            code => Err(code.to_string()),
        },
    }
}

async fn write(handle: &Handle, method: Method, path: &str, object: &Value) -> Result<StatusCode, String> {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = request.body(Bytes::from(object.to_string())).map_err(|error| error.to_string())?;
    Ok(handle.call(UserInfo::apiserver(), request).await.status())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::{Engine, prelude::BASE64_STANDARD};
    use http::{HeaderMap, header};

    use super::*;
    use crate::auth::Peer;
    use crate::testing::{self, eventually};

    #[test]
    fn what_is_no_day_is_repaired_and_a_creation_is_not_hurried() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let map = |data: Value| json!({"metadata": {"name": NAME}, "data": data});
        assert_eq!(plan(Some(&map(json!({"since": "2020-01-31"}))), None, now), Step::Nothing);
        for data in [Value::Null, json!({"since": "soon"}), json!({"since": "2020-02-31"})] {
            let Step::Repair(repaired) = plan(Some(&map(data)), None, now) else { panic!("it is not repaired") };
            assert_eq!(repaired["data"]["since"], "2026-03-01");
        }
        assert!(matches!(plan(None, None, now), Step::Create(_)));
        let minutes = |minutes: u64| Some(Duration::from_secs(minutes * 60));
        assert_eq!(plan(None, minutes(20), now), Step::Wait(Duration::from_secs(600)));
        assert!(matches!(plan(None, minutes(31), now), Step::Create(_)));
    }

    /// The token of a Secret, once it has one.
    async fn token(handle: &Handle, secret: &str) -> String {
        let (name, path) = (json!({"name": secret}), "/api/v1/namespaces/default/secrets");
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "builder"}});
        testing::send(handle, Method::POST, "/api/v1/namespaces/default/serviceaccounts", &[], account.to_string()).await;
        let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": name, "type": legacy::SECRET_TYPE});
        object["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "builder"});
        testing::send(handle, Method::POST, path, &[], object.to_string()).await;
        let encoded = eventually(async || {
            let secret = testing::send(handle, Method::GET, &format!("{path}/{secret}"), &[], "").await.json();
            secret["data"]["token"].as_str().map(str::to_owned)
        });
        String::from_utf8(BASE64_STANDARD.decode(encoded.await).unwrap()).unwrap()
    }

    async fn merge(handle: &Handle, path: &str, patch: Value) {
        let media = [("content-type", "application/merge-patch+json")];
        assert_eq!(testing::send(handle, Method::PATCH, path, &media, patch.to_string()).await.code, StatusCode::OK);
        // Tokens are judged by what the watch cache has heard.
        handle.server().storage.catch_up().await.unwrap();
    }

    #[tokio::test]
    async fn a_used_token_is_dated_and_one_that_is_marked_is_refused() {
        let handle = testing::server().await;
        let token = token(&handle, "s").await;
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let authenticator = &handle.server().authenticator;
        let found = authenticator.authenticate(&Peer::default(), &headers, now).await.unwrap();
        assert_eq!((found.user.name.as_str(), found.warning), ("system:serviceaccount:default:builder", None));
        let path = "/api/v1/namespaces/default/secrets/s";
        let label =
            testing::send(&handle, Method::GET, path, &[], "").await.json()["metadata"]["labels"][legacy::LAST_USED].clone();
        assert_eq!(label, "2026-03-01");
        // One that the account names is from the time when every account got one.
        merge(&handle, "/api/v1/namespaces/default/serviceaccounts/builder", json!({"secrets": [{"name": "s"}]})).await;
        let found = authenticator.authenticate(&Peer::default(), &headers, now).await.unwrap();
        assert_eq!(found.warning, Some(legacy::GENERATED));
        let mark = |value: Value| json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": value}}});
        merge(&handle, path, mark(json!("2026-02-01"))).await;
        assert!(authenticator.authenticate(&Peer::default(), &headers, now).await.is_err());
        merge(&handle, path, mark(Value::Null)).await;
        assert!(authenticator.authenticate(&Peer::default(), &headers, now).await.is_ok());
        let counts = &authenticator.metrics;
        assert_eq!((counts.manual.get(), counts.generated.get(), counts.invalid.get(), counts.legacy.get()), (1, 2, 1, 3));
    }

    #[tokio::test]
    async fn the_day_is_there_and_comes_back_when_it_is_spoilt() {
        let handle = testing::server().await;
        tokio::spawn(run(handle.clone(), CancellationToken::new()));
        let path = CONFIG_MAPS.path(NAMESPACE, NAME);
        let since = async || {
            let map = testing::send(&handle, Method::GET, &path, &[], "").await.json();
            map["data"]["since"].as_str().filter(|day| day.parse::<Date>().is_ok()).map(str::to_owned)
        };
        let day = eventually(since).await;
        merge(&handle, &path, json!({"data": {"since": "never"}})).await;
        assert!(eventually(since).await >= day);
    }
}
