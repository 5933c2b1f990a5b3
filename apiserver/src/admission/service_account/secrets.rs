//! Which secrets a pod may use, where its account's annotation limits it to those that the account lists.

use kontiki_api::object::{meta, text};
use serde_json::Value;

const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// Where a pod refers to a secret, and to which.
fn references(pod: &Value, list: &str, what: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for container in items(pod, &format!("/spec/{list}")) {
        let name = text(container, "/name");
        for variable in items(container, "/env") {
            let secret = text(variable, "/valueFrom/secretKeyRef/name");
            found.push((format!("{what} {name} with envVar {}", text(variable, "/name")), secret.to_owned()));
        }
        for source in items(container, "/envFrom") {
            found.push((format!("{what} {name} with envFrom"), text(source, "/secretRef/name").to_owned()));
        }
    }
    found.retain(|(_, secret)| !secret.is_empty());
    found
}

const LISTS: [(&str, &str); 2] = [("initContainers", "init container"), ("containers", "container")];

/// Whether a pod names any secret.
pub fn named(pod: &Value) -> bool {
    let in_containers = LISTS.iter().any(|(list, what)| !references(pod, list, what).is_empty());
    let in_volumes = items(pod, "/spec/volumes").any(|volume| volume.get("secret").is_some_and(Value::is_object));
    in_containers || in_volumes || items(pod, "/spec/imagePullSecrets").next().is_some()
}

/// Refuses a secret that the account does not list, if the account limits its pods.
pub fn check(pod: &Value, account: &Value, ephemeral: bool) -> Result<(), String> {
    let limited = matches!(meta::annotation(account, ENFORCE), Some("1" | "t" | "T" | "true" | "TRUE" | "True"));
    if !limited {
        return Ok(());
    }
    let account_name = meta::name(account);
    let mountable = |secret: &str| items(account, "/secrets").any(|own| text(own, "/name") == secret);
    let unlisted = |place: &str, field: &str, secret: &str| {
        let why = format!("is not allowed because service account {account_name} does not reference that secret");
        Err(format!("{place} {field}=\"{secret}\" {why}"))
    };
    let lists: &[(&str, &str)] = if ephemeral { &[("ephemeralContainers", "ephemeral container")] } else { &LISTS };
    if !ephemeral {
        for volume in items(pod, "/spec/volumes").filter(|volume| volume.get("secret").is_some_and(Value::is_object)) {
            let secret = text(volume, "/secret/secretName");
            if !mountable(secret) {
                return unlisted("volume with", "secret.secretName", secret);
            }
        }
    }
    for (list, what) in lists {
        for (place, secret) in references(pod, list, what) {
            if !mountable(&secret) {
                return unlisted(&format!("{place} referencing"), "secret.secretName", &secret);
            }
        }
    }
    if ephemeral {
        return Ok(());
    }
    for (index, reference) in items(pod, "/spec/imagePullSecrets").enumerate() {
        let name = text(reference, "/name");
        if !items(account, "/imagePullSecrets").any(|own| text(own, "/name") == name) {
            let why = format!("is not allowed because service account {account_name} does not reference that imagePullSecret");
            return Err(format!("imagePullSecrets[{index}].name=\"{name}\" {why}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_limited_account_lets_its_pods_use_what_it_lists() {
        let account = |value: &str| json!({"metadata": {"name": "a", "annotations": {(ENFORCE): value}}, "secrets": [{"name": "mine"}], "imagePullSecrets": [{"name": "pull"}]});
        let volume = |name: &str| json!({"spec": {"volumes": [{"name": "v", "secret": {"secretName": name}}]}});
        let variable = json!({"spec": {"containers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "other"}}}]}]}});
        let pull = json!({"spec": {"imagePullSecrets": [{"name": "other"}]}});
        assert_eq!(check(&volume("other"), &account("false"), false), Ok(()));
        assert_eq!(check(&volume("mine"), &account("true"), false), Ok(()));
        for (pod, why) in [
            (
                volume("other"),
                "volume with secret.secretName=\"other\" is not allowed because service account a does not reference that secret",
            ),
            (
                variable,
                "container c with envVar E referencing secret.secretName=\"other\" is not allowed because service account a does not reference that secret",
            ),
            (
                pull,
                "imagePullSecrets[0].name=\"other\" is not allowed because service account a does not reference that imagePullSecret",
            ),
        ] {
            assert_eq!(check(&pod, &account("true"), false), Err(why.to_owned()));
        }
    }
}
