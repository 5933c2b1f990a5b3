//! Encryption at rest as users see it: what lies in the store, what is read, how keys rotate.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, StatusCode};
use jiff::Timestamp;
use kontiki_proto::etcdserverpb as pb;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Encryption, Rules, metrics, metrics::Metrics, reload::Reload};
use crate::{
    service::{Handle, Options},
    testing::{self, Answer, eventually},
};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const KEY: &str = "/registry/secrets/default/s";

/// A key of 32 bytes, all of them that one.
fn secret(byte: u8) -> String {
    BASE64_STANDARD.encode([byte; 32])
}

/// One rule for some resources.
fn rule(resources: &[&str], providers: &[Value]) -> Value {
    json!({ "resources": resources, "providers": providers })
}

fn keys(provider: &str, keys: &[(&str, u8)]) -> Value {
    let keys: Vec<Value> = keys.iter().map(|(name, byte)| json!({ "name": name, "secret": secret(*byte) })).collect();
    json!({ provider: { "keys": keys } })
}

fn configuration(rules: &[Value]) -> String {
    json!({ "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": rules }).to_string()
}

fn rules(rules: &[Value]) -> Arc<Rules> {
    Arc::new(Rules::parse(configuration(rules).as_bytes()).unwrap())
}

/// A server with a configuration that the test can change.
async fn server(rules: Arc<Rules>) -> (Handle, watch::Sender<Arc<Rules>>) {
    let (sender, receiver) = watch::channel(rules);
    let encryption = Encryption::of(receiver, Metrics::new("a"), true);
    let handle = testing::server_of(Options { encryption, ..testing::options() }).await;
    (handle, sender)
}

async fn stored(handle: &Handle, key: &str) -> Bytes {
    let request = pb::RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() };
    handle.server().options.kv.range(request).await.unwrap().kvs[0].value.clone()
}

async fn ask(handle: &Handle, method: Method, path: &str, body: &Value) -> Answer {
    let media = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    testing::send(handle, method, path, &[("content-type", media)], body).await
}

async fn create(handle: &Handle, name: &str) -> Value {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"a": "hidden"}});
    let answer = ask(handle, Method::POST, SECRETS, &secret).await;
    assert_eq!(answer.code, StatusCode::CREATED);
    answer.json()
}

async fn read(handle: &Handle, name: &str) -> Answer {
    ask(handle, Method::GET, &format!("{SECRETS}/{name}"), &Value::Null).await
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_secret_lies_encrypted_and_is_read_in_plain() {
    for (provider, prefix) in
        [("aescbc", "k8s:enc:aescbc:v1:one:"), ("aesgcm", "k8s:enc:aesgcm:v1:one:"), ("secretbox", "k8s:enc:secretbox:v1:one:")]
    {
        let only = rules(&[rule(&["secrets"], &[keys(provider, &[("one", 1)]), json!({"identity": {}})])]);
        let (handle, _sender) = server(only).await;
        let created = create(&handle, "s").await;
        let bytes = stored(&handle, KEY).await;
        assert!(bytes.starts_with(prefix.as_bytes()), "{provider}");
        assert!(!contains(&bytes, "Secret") && !contains(&bytes, "aGlkZGVu"), "{provider}");
        assert_eq!(read(&handle, "s").await.json(), created);
        // Of other resources it says nothing.
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "seen"}});
        ask(&handle, Method::POST, "/api/v1/namespaces/default/configmaps", &map).await;
        assert!(contains(&stored(&handle, "/registry/configmaps/default/m").await, "seen"));
    }
}

#[tokio::test]
async fn a_stale_key_is_replaced_by_a_write_that_changes_nothing() {
    let plain = rules(&[rule(&["secrets"], &[json!({"identity": {}}), keys("aescbc", &[("one", 1)])])]);
    let (handle, sender) = server(plain).await;
    let first = create(&handle, "s").await;
    assert!(contains(&stored(&handle, KEY).await, "aGlkZGVu"));
    let unchanged = async |handle: &Handle| {
        let path = format!("{SECRETS}/s");
        let object = read(handle, "s").await.json();
        let answer = ask(handle, Method::PUT, &path, &object).await;
        assert_eq!(answer.code, StatusCode::OK);
        answer.json()["metadata"]["resourceVersion"].clone()
    };
    // What lies as it shall is left alone.
    assert_eq!(unchanged(&handle).await, first["metadata"]["resourceVersion"]);
    let mut last = first["metadata"]["resourceVersion"].clone();
    for (providers, prefix) in [
        (vec![keys("aescbc", &[("one", 1)]), json!({"identity": {}})], "k8s:enc:aescbc:v1:one:"),
        // A second key that is known comes first, and the first one goes.
        (vec![keys("aescbc", &[("two", 2), ("one", 1)])], "k8s:enc:aescbc:v1:two:"),
        // Another provider.
        (vec![keys("secretbox", &[("three", 3)]), keys("aescbc", &[("two", 2)])], "k8s:enc:secretbox:v1:three:"),
        // And back to plain.
        (vec![json!({"identity": {}}), keys("secretbox", &[("three", 3)])], "{\"kind\":\"Secret\""),
    ] {
        sender.send_replace(rules(&[rule(&["secrets"], &providers)]));
        assert_eq!(read(&handle, "s").await.json()["data"]["a"], "aGlkZGVu");
        let version = unchanged(&handle).await;
        assert_ne!(version, last, "{prefix}");
        assert!(stored(&handle, KEY).await.starts_with(prefix.as_bytes()), "{prefix}");
        assert_eq!(unchanged(&handle).await, version, "{prefix}: once is enough");
        last = version;
    }
}

#[tokio::test]
async fn what_cannot_be_decrypted_is_an_error_until_its_key_is_back() {
    let one = || rules(&[rule(&["secrets"], &[keys("aesgcm", &[("one", 1)])])]);
    let (handle, sender) = server(one()).await;
    create(&handle, "s").await;
    create(&handle, "t").await;
    let sealed = stored(&handle, KEY).await;
    // Somebody moves it to where it does not belong; the server reads what others write.
    let moved = pb::PutRequest { key: Bytes::from_static(b"/registry/secrets/default/u"), value: sealed, ..Default::default() };
    handle.server().options.kv.put(moved).await.unwrap();
    let failed = read(&handle, "u").await;
    let message = failed.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(failed.code, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(message, "Internal error occurred: cipher: message authentication failed");
    let list = ask(&handle, Method::GET, SECRETS, &Value::Null).await;
    assert_eq!(
        list.json()["message"],
        "Internal error occurred: unable to transform key \"/registry/secrets/default/u\": cipher: message authentication failed"
    );
    let watch = ask(&handle, Method::GET, &format!("{SECRETS}?watch=true"), &Value::Null).await;
    assert_eq!(watch.code, StatusCode::INTERNAL_SERVER_ERROR);
    for (method, body) in [(Method::DELETE, Value::Null), (Method::PATCH, json!({"data": {"a": null}}))] {
        let answer = ask(&handle, method, &format!("{SECRETS}/u"), &body).await;
        assert_eq!(answer.code, StatusCode::INTERNAL_SERVER_ERROR);
    }
    // Others are not harmed, in this namespace and elsewhere.
    assert_eq!(read(&handle, "t").await.code, StatusCode::OK);
    assert_eq!(ask(&handle, Method::GET, "/api/v1/namespaces/kube-system/secrets", &Value::Null).await.code, StatusCode::OK);
    let gone = pb::DeleteRangeRequest { key: Bytes::from_static(b"/registry/secrets/default/u"), ..Default::default() };
    handle.server().options.kv.delete_range(gone).await.unwrap();
    assert_eq!(ask(&handle, Method::GET, SECRETS, &Value::Null).await.code, StatusCode::OK);
    // Without the key, what it has written is lost to this server, and found again with it.
    sender.send_replace(rules(&[rule(&["secrets"], &[keys("aesgcm", &[("two", 2)])])]));
    let sealed = stored(&handle, "/registry/secrets/default/t").await;
    let again = pb::PutRequest { key: Bytes::from_static(b"/registry/secrets/default/t"), value: sealed, ..Default::default() };
    handle.server().options.kv.put(again).await.unwrap();
    let message = read(&handle, "t").await.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "Internal error occurred: no matching key was found for the provided AES transformer");
    sender.send_replace(one());
    eventually(async || (read(&handle, "t").await.code == StatusCode::OK).then_some(())).await;
    assert_eq!(ask(&handle, Method::GET, SECRETS, &Value::Null).await.json()["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_server_without_a_configuration_says_that_a_value_is_encrypted() {
    let handle = testing::server().await;
    let value = Bytes::from_static(b"k8s:enc:aescbc:v1:one:xyz");
    let put = pb::PutRequest { key: Bytes::from_static(KEY.as_bytes()), value, ..Default::default() };
    handle.server().options.kv.put(put).await.unwrap();
    let message = read(&handle, "s").await.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "Internal error occurred: identity transformer tried to read encrypted data");
}

#[tokio::test]
async fn wildcards_cover_what_no_rule_names() {
    let all = rules(&[
        rule(&["configmaps"], &[json!({"identity": {}})]),
        rule(&["*.apps"], &[keys("aescbc", &[("apps", 1)])]),
        rule(&["*.*"], &[keys("secretbox", &[("all", 2)])]),
    ]);
    let (handle, _sender) = server(all).await;
    create(&handle, "s").await;
    assert!(stored(&handle, KEY).await.starts_with(b"k8s:enc:secretbox:v1:all:"));
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    ask(&handle, Method::POST, "/api/v1/namespaces/default/configmaps", &map).await;
    assert!(stored(&handle, "/registry/configmaps/default/m").await.starts_with(b"{"));
    let revision =
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "r"}, "data": {}, "revision": 1});
    ask(&handle, Method::POST, "/apis/apps/v1/namespaces/default/controllerrevisions", &revision).await;
    assert!(stored(&handle, "/registry/controllerrevisions/default/r").await.starts_with(b"k8s:enc:aescbc:v1:apps:"));
    // An address is an object too, though a Service's transaction writes it.
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"clusterIP": "10.96.0.77", "ports": [{"port": 80}]}});
    ask(&handle, Method::POST, "/api/v1/namespaces/default/services", &service).await;
    assert!(stored(&handle, "/registry/ipaddresses/10.96.0.77").await.starts_with(b"k8s:enc:secretbox:v1:all:"));
    let address = ask(&handle, Method::GET, "/apis/networking.k8s.io/v1/ipaddresses/10.96.0.77", &Value::Null).await;
    assert_eq!(address.json()["spec"]["parentRef"]["name"], "s");
}

#[tokio::test]
async fn a_changed_file_is_read_again_and_a_wrong_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encryption.yaml");
    let write = |rules: &[Value]| std::fs::write(&path, configuration(rules)).unwrap();
    let one = || rule(&["secrets"], &[keys("aescbc", &[("one", 1)])]);
    write(&[one()]);
    let (sender, receiver) = watch::channel(rules(&[one()]));
    let metrics = Metrics::new("a");
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let hash = metrics::hash(&std::fs::read(&path).unwrap());
    let mut reload = Reload::new(path.clone(), hash, sender, metrics);
    let knows = |plural: &str| receiver.borrow().of("", plural).is_some();
    reload.look(Timestamp::UNIX_EPOCH).await.unwrap();
    assert!(!receiver.has_changed().unwrap(), "nothing has changed");
    write(&[one(), rule(&["configmaps"], &[json!({"identity": {}})])]);
    reload.look(Timestamp::UNIX_EPOCH).await.unwrap();
    assert!(knows("secrets") && knows("configmaps"));
    std::fs::write(&path, "kind: Other").unwrap();
    assert!(reload.look(Timestamp::UNIX_EPOCH).await.is_err());
    assert!(knows("secrets") && knows("configmaps"));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for status in ["success", "failure"] {
        let line = format!("apiserver_encryption_config_controller_automatic_reloads_total{{status=\"{status}\"");
        assert!(text.contains(&line), "{text}");
    }
}

#[tokio::test]
async fn what_is_encrypted_and_decrypted_is_counted() {
    let (_sender, receiver) = watch::channel(rules(&[rule(&["secrets"], &[keys("aescbc", &[("one", 1)])])]));
    let metrics = Metrics::new("a");
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let encryption = Encryption::of(receiver, metrics, false);
    let handle = testing::server_of(Options { encryption, ..testing::options() }).await;
    create(&handle, "s").await;
    assert_eq!(read(&handle, "s").await.code, StatusCode::OK);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for (direction, prefix) in
        [("to_storage", "k8s:enc:aescbc:v1:"), ("from_storage", "k8s:enc:aescbc:v1:"), ("to_storage", "one:")]
    {
        let line = format!(
            "apiserver_storage_transformation_operations_total{{resource=\"secrets\",transformation_type=\"{direction}\",transformer_prefix=\"{prefix}\",status=\"OK\"}}"
        );
        assert!(text.contains(&line), "{line}\n{text}");
    }
}

#[test]
fn mistakes_are_told_in_kubernetes_words_and_tell_no_secret() {
    let identity = || json!({"identity": {}});
    let short = || json!({"aescbc": {"keys": [{"name": "a", "secret": "c2hvcnQ="}]}});
    for (entries, expected) in [
        (vec![], "resources: Required value: at least one resources is required"),
        (
            vec![rule(&[], &[identity()])],
            "resources[0].resources: Required value: at least one resources[0].resources is required",
        ),
        (vec![rule(&["secrets"], &[])], "resources[0].providers: Required value"),
        (
            vec![rule(&["secrets"], &[short()])],
            "resources[0].providers[0].aescbc.keys[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 5, expected one of [16 24 32]",
        ),
        (
            vec![rule(&["secrets"], &[json!({"secretbox": {"keys": [{"name": "", "secret": "!"}]}})])],
            "resources[0].providers[0].secretbox.keys[0].name: Required value: name is a mandatory field for a key, resources[0].providers[0].secretbox.keys[0].secret: Invalid value: \"REDACTED\": secrets must be base64 encoded",
        ),
        (vec![rule(&["secrets"], &[json!({"aesgcm": {"keys": []}})])], "resources[0].providers[0].aesgcm.keys: Required value"),
        (vec![rule(&["secrets"], &[json!({"identity": {}, "aescbc": {"keys": []}})])], "more than one provider specified"),
        (vec![rule(&["secrets"], &[json!({})])], "provider does not contain any of the expected providers"),
        (
            vec![rule(&["secrets"], &[json!({"kms": {"apiVersion": "v2", "name": "x", "endpoint": "unix:///x"}})])],
            "resources[0].providers[0].kms: Forbidden: key management services are not supported by this server",
        ),
        (vec![rule(&["*"], &[identity()])], "use '*.' to encrypt all the resources from core API group"),
        (vec![rule(&["Secrets"], &[identity()])], "resource name should not contain capital letters"),
        (vec![rule(&["events.events.k8s.io"], &[identity()])], "Use 'events' instead in the config file"),
        (vec![rule(&["secrets.*"], &[identity()])], "encrypting the same resource across groups is not supported"),
        (vec![rule(&["secrets", "secrets"], &[identity()])], "the same resource cannot be specified multiple times"),
        (vec![rule(&["secrets", "*."], &[identity()])], "using overlapping resources such as 'secrets' and '*.'"),
        (
            vec![rule(&["*."], &[identity()]), rule(&["secrets"], &[identity()])],
            "resource \"secrets\" is masked by earlier rule \"*.\"",
        ),
        (
            vec![rule(&["*.*"], &[identity()]), rule(&["deployments.apps"], &[identity()])],
            "resource \"deployments.apps\" is masked by earlier rule \"*.*\"",
        ),
    ] {
        let error = Rules::parse(configuration(&entries).as_bytes()).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("c2hvcnQ"), "{error}");
    }
    for text in [
        "",
        "kind: EncryptionConfiguration",
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresorces: []",
    ] {
        assert!(Rules::parse(text.as_bytes()).is_err(), "{text}");
    }
}
