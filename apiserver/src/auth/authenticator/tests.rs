//! Users by certificate, by token and by nothing.
#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use async_trait::async_trait;
use kontiki_api::resources::{self, ResourceKey};
use serde_json::{Value, json};

use super::*;
use crate::auth::{reviews, token_request};

/// Objects by plural and name; the cache knows none, so that the store is always asked.
struct Fixed(BTreeMap<(&'static str, &'static str), Value>);

#[async_trait]
impl Objects for Fixed {
    fn cached(&self, _key: &ResourceKey, _namespace: &str, _name: &str) -> Option<Value> {
        None
    }

    async fn fresh(&self, key: &ResourceKey, _namespace: &str, name: &str) -> Result<Option<Value>, Status> {
        Ok(self.0.get(&(key.plural, name)).cloned())
    }

    async fn label(&self, _key: &ResourceKey, _object: &Value, _label: (&str, &str)) -> Result<(), Status> {
        Ok(())
    }
}

fn authenticator(objects: &[(&'static str, &'static str, Value)]) -> Authenticator {
    let keys = Keys::from_pem(rcgen::KeyPair::generate().unwrap().serialize_pem().as_bytes()).unwrap();
    let objects = Fixed(objects.iter().map(|(plural, name, object)| ((*plural, *name), object.clone())).collect());
    Authenticator::new(Arc::new(keys), "https://issuer".into(), Vec::new(), Arc::new(objects))
}

fn account() -> (&'static str, &'static str, Value) {
    ("serviceaccounts", "builder", json!({"metadata": {"namespace": "a", "name": "builder", "uid": "1"}}))
}

fn pod(uid: &str, account: &str) -> (&'static str, &'static str, Value) {
    let spec = json!({"serviceAccountName": account, "nodeName": "n"});
    ("pods", "web", json!({"metadata": {"namespace": "a", "name": "web", "uid": uid}, "spec": spec}))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn request(authenticator: &Authenticator, spec: Value) -> Result<Value, Status> {
    token_request::answer(authenticator, "a", "builder", json!({"spec": spec}), at("2026-01-01T00:00:00Z")).await
}

fn bearer(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())])
}

#[tokio::test]
async fn a_requested_token_is_good_until_it_expires() {
    let authenticator = authenticator(&[account(), pod("2", "builder"), ("nodes", "n", json!({"metadata": {"uid": "3"}}))]);
    let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "2"});
    let answer = request(&authenticator, json!({"expirationSeconds": 3607, "boundObjectRef": reference})).await.unwrap();
    assert_eq!(answer["status"]["expirationTimestamp"], "2026-01-01T01:00:07Z");
    let headers = bearer(answer["status"]["token"].as_str().unwrap());
    let user = authenticator.authenticate(&Peer::default(), &headers, at("2026-01-01T01:00:06Z")).await.unwrap().user;
    assert_eq!(user.name, "system:serviceaccount:a:builder");
    assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["n"]);
    assert_eq!(user.extra["authentication.kubernetes.io/node-uid"], ["3"]);
    let late = authenticator.authenticate(&Peer::default(), &headers, at("2026-01-01T01:00:07Z")).await;
    assert_eq!(late, Err(Status::unauthorized()));
}

#[tokio::test]
async fn a_token_falls_with_its_pod() {
    let mut authenticator = authenticator(&[account(), pod("2", "builder")]);
    let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": "web"});
    let answer = request(&authenticator, json!({"boundObjectRef": reference})).await.unwrap();
    let headers = bearer(answer["status"]["token"].as_str().unwrap());
    let now = at("2026-01-01T00:00:10Z");
    assert!(authenticator.authenticate(&Peer::default(), &headers, now).await.is_ok());
    for objects in [vec![account()], vec![account(), pod("4", "builder")], vec![pod("2", "builder")]] {
        authenticator.objects =
            Arc::new(Fixed(objects.into_iter().map(|(plural, name, object)| ((plural, name), object)).collect()));
        assert_eq!(authenticator.authenticate(&Peer::default(), &headers, now).await, Err(Status::unauthorized()));
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let authenticator = authenticator(&[account(), pod("2", "other")]);
    let pod = |uid: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": uid});
    let cases = [
        (
            json!({"expirationSeconds": 5}),
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
        ),
        (
            json!({"boundObjectRef": pod("2")}),
            "cannot bind token for serviceaccount \"builder\" to pod running with different serviceaccount name.",
        ),
        (json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "gone"}}), "pods \"gone\" not found"),
        (
            json!({"boundObjectRef": {"kind": "Event", "apiVersion": "v1", "name": "x"}}),
            "cannot bind token to object of type /v1, Kind=Event",
        ),
    ];
    for (spec, message) in cases {
        assert_eq!(request(&authenticator, spec).await.unwrap_err().message, message);
    }
}

#[tokio::test]
async fn who_shows_nothing_is_anonymous_and_a_certificate_speaks_first() {
    let authenticator = authenticator(&[account()]);
    let now = at("2026-01-01T00:00:00Z");
    let nothing = authenticator.authenticate(&Peer::default(), &HeaderMap::new(), now).await.unwrap().user;
    assert_eq!(nothing, UserInfo::anonymous());
    assert_eq!(authenticator.authenticate(&Peer::default(), &bearer("x"), now).await, Err(Status::unauthorized()));
    let admin = UserInfo::authenticated("admin", [""; 0]);
    assert_eq!(
        authenticator.authenticate(&Peer { user: Some(admin.clone()), ..Peer::default() }, &bearer("x"), now).await,
        Ok(admin.into())
    );
}

#[tokio::test]
async fn a_token_review_tells_whose_a_token_is() {
    let authenticator = authenticator(&[account()]);
    let now = at("2026-01-01T00:00:00Z");
    let token = request(&authenticator, json!({"audiences": ["vault"]})).await.unwrap()["status"]["token"].clone();
    let cases = [
        (json!({"token": token, "audiences": ["vault", "other"]}), true, json!(["vault"])),
        (json!({"token": token}), false, Value::Null),
        (json!({"token": "x"}), false, Value::Null),
    ];
    for (spec, authenticated, audiences) in cases {
        let key = kontiki_api::registry::reviews::TOKEN_REVIEWS;
        let user = UserInfo::anonymous();
        let answer = reviews::answer(&authenticator, &key, &user, json!({"spec": spec}), now).await.unwrap();
        assert_eq!(answer["status"]["authenticated"].as_bool().unwrap_or(false), authenticated);
        assert_eq!(answer["status"]["audiences"], audiences);
    }
    assert_eq!(resources::SERVICE_ACCOUNTS.plural, "serviceaccounts");
}

#[tokio::test]
async fn a_front_proxy_names_users_and_nobody_else_does() {
    let front_proxy = Some(Arc::new(FrontProxy::default()));
    let authenticator = authenticator(&[account()]).with_front_proxy(front_proxy);
    let now = at("2026-01-01T00:00:00Z");
    let named = HeaderMap::from_iter([(http::HeaderName::from_static("x-remote-user"), http::HeaderValue::from_static("ann"))]);
    let proxy = Peer { is_front_proxy: true, is_stranger: true, ..Peer::default() };
    let user = async |peer: &Peer, headers: &HeaderMap| {
        authenticator.authenticate(peer, headers, now).await.map(|found| found.user.name)
    };
    assert_eq!(user(&proxy, &named).await.unwrap(), "ann");
    assert_eq!(user(&proxy, &HeaderMap::new()).await, Err(Status::unauthorized()));
    let admin = Peer { user: Some(UserInfo::authenticated("admin", [""; 0])), ..Peer::default() };
    assert_eq!(user(&admin, &named).await.unwrap(), "admin");
    assert_eq!(user(&Peer::default(), &named).await.unwrap(), "system:anonymous");
    let both = Peer { is_front_proxy: true, ..admin };
    assert_eq!(user(&both, &named).await.unwrap(), "ann", "one authority for both");
    let mut headers = named;
    authenticator.clear_headers(&mut headers);
    assert!(headers.is_empty());
}
