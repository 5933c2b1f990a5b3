//! `ServiceAccount`: a pod runs as an account of its namespace and finds its token in a well-known place.
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#serviceaccount-admission-controller>

mod secrets;

use std::time::Duration;

use async_trait::async_trait;
use kontiki_api::{
    object::{meta, text},
    resources::{PODS, SERVICE_ACCOUNTS},
    status::Status,
};
use serde_json::{Value, json};

use super::{Operation, Plugin, Request, lookup};
use crate::service::ApiServer;

/// Account of pods that name none.
const DEFAULT: &str = "default";
/// How often the default account is looked for, and the shortest wait in between.
const ATTEMPTS: u32 = 10;
const ATTEMPT_DELAY: Duration = Duration::from_millis(100);
const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Seconds that a token is good for; the odd seven tell it from tokens that users ask for.
const EXPIRATION: i64 = 3607;
/// Letters of a volume's name: no vowels, as names are made elsewhere.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The plugin.
pub struct ServiceAccount;

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        match request.operation {
            Operation::Create => request.is(&PODS),
            Operation::Update => request.is_part(&PODS, "ephemeralcontainers"),
            Operation::Delete | Operation::Connect => false,
        }
    }

    async fn mutate(&self, server: &ApiServer, request: &Request<'_>, pod: &mut Value, _: &Value) -> Result<(), Status> {
        if request.operation != Operation::Create || is_mirror(pod) {
            return Ok(());
        }
        if text(pod, "/spec/serviceAccountName").is_empty() {
            pod["spec"]["serviceAccountName"] = json!(DEFAULT);
        }
        let name = text(pod, "/spec/serviceAccountName").to_owned();
        pod["spec"]["serviceAccount"] = json!(name);
        let account = find(server, request, &name).await?;
        let suffix: String = (0..5).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect();
        mount(pod, &account, &suffix);
        Ok(())
    }

    async fn validate(&self, server: &ApiServer, request: &Request<'_>, pod: &Value, _: &Value) -> Result<(), Status> {
        if is_mirror(pod) {
            return check_mirror(pod).map_err(|why| request.forbidden(why));
        }
        let name = text(pod, "/spec/serviceAccountName");
        if name.is_empty() {
            let why = format!("no service account specified for pod {}/{}", request.namespace, request.name);
            return Err(request.forbidden(why));
        }
        let account = find(server, request, name).await?;
        let ephemeral = request.operation == Operation::Update;
        secrets::check(pod, &account, ephemeral).map_err(|why| request.forbidden(why))
    }
}

/// The account, which in a new namespace may take a moment to come.
async fn find(server: &ApiServer, request: &Request<'_>, name: &str) -> Result<Value, Status> {
    let attempts = if name == DEFAULT { ATTEMPTS } else { 1 };
    for attempt in 1..=attempts {
        if let Some(account) = lookup::find(server, &SERVICE_ACCOUNTS, request.namespace, name).await? {
            return Ok(account);
        }
        if attempt < attempts {
            tokio::time::sleep(ATTEMPT_DELAY.mul_f64(rand::random_range(1.0..2.0))).await;
        }
    }
    let namespace = request.namespace;
    let why = format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
    Err(request.forbidden(why))
}

fn is_mirror(pod: &Value) -> bool {
    meta::annotation(pod, "kubernetes.io/config.mirror").is_some()
}

fn check_mirror(pod: &Value) -> Result<(), &'static str> {
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    if secrets::named(pod) {
        return Err("a mirror pod may not reference secrets");
    }
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten();
    let mut sources = volumes.filter_map(|volume| volume.pointer("/projected/sources")?.as_array()).flatten();
    if sources.any(|source| source.get("serviceAccountToken").is_some_and(Value::is_object)) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

/// Adds the token's volume and the account's pull secrets.
fn mount(pod: &mut Value, account: &Value, suffix: &str) {
    if pod.pointer("/spec/imagePullSecrets").and_then(Value::as_array).is_none_or(Vec::is_empty)
        && let Some(secrets) = account.get("imagePullSecrets").filter(|secrets| secrets.is_array())
    {
        pod["spec"]["imagePullSecrets"] = secrets.clone();
    }
    let wanted = pod.pointer("/spec/automountServiceAccountToken").or(account.get("automountServiceAccountToken"));
    if wanted == Some(&json!(false)) {
        return;
    }
    let volume = format!("kube-api-access-{suffix}");
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let mut mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
            if mounts.iter().any(|mount| mount["mountPath"] == FOLDER) {
                continue;
            }
            mounts.push(json!({ "name": volume, "readOnly": true, "mountPath": FOLDER }));
            container["volumeMounts"] = Value::Array(mounts);
            needed = true;
        }
    }
    // Asking for a list that is not there made an empty place for it.
    if let Some(spec) = pod["spec"].as_object_mut() {
        spec.retain(|name, value| name != "initContainers" || !value.is_null());
    }
    if !needed {
        return;
    }
    let mut volumes = pod.pointer("/spec/volumes").and_then(Value::as_array).cloned().unwrap_or_default();
    volumes.push(json!({
        "name": volume,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                { "serviceAccountToken": { "expirationSeconds": EXPIRATION, "path": "token" } },
                { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
                { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } }] } },
            ],
        },
    }));
    pod["spec"]["volumes"] = Value::Array(volumes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_finds_the_token() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "own", "mountPath": FOLDER}]}]}});
        mount(&mut pod, &json!({}), "xxxxx");
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["mountPath"], FOLDER);
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"].as_array().map(Vec::len), Some(1));
        assert_eq!(pod["spec"]["volumes"][0]["name"], "kube-api-access-xxxxx");
        assert!(pod["spec"].get("initContainers").is_none());
    }

    #[test]
    fn who_wants_no_token_gets_none() {
        let mut pod = json!({"spec": {"automountServiceAccountToken": false, "containers": [{"name": "a"}]}});
        mount(&mut pod, &json!({"imagePullSecrets": [{"name": "s"}]}), "x");
        assert!(pod["spec"].get("volumes").is_none());
        assert_eq!(pod["spec"]["imagePullSecrets"][0]["name"], "s");
    }
}
