//! `ServiceAccount`: a pod runs as an account of its namespace and finds its token in a well-known place.
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#serviceaccount-admission-controller>

use async_trait::async_trait;
use kontiki_api::{
    object::text,
    resources::{PODS, SERVICE_ACCOUNTS},
    status::Status,
};
use serde_json::{Value, json};

use super::{Operation, Plugin, Request, lookup};
use crate::service::ApiServer;

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
        request.operation == Operation::Create && request.is(&PODS)
    }

    async fn mutate(&self, server: &ApiServer, request: &Request<'_>, pod: &mut Value, _: &Value) -> Result<(), Status> {
        let namespace = request.namespace;
        if text(pod, "/spec/serviceAccountName").is_empty() {
            pod["spec"]["serviceAccountName"] = json!("default");
        }
        let name = text(pod, "/spec/serviceAccountName").to_owned();
        pod["spec"]["serviceAccount"] = json!(name);
        let Some(account) = lookup::find(server, &SERVICE_ACCOUNTS, namespace, &name).await? else {
            let why = format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
            return Err(request.forbidden(why));
        };
        let suffix: String = (0..5).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect();
        mount(pod, &account, &suffix);
        Ok(())
    }
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
