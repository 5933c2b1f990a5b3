//! A cluster's entry in a kubeconfig file: merged in by `up`, taken out by `down`.
//!
//! The file belongs to the user: what is not ours stays as it is.
//! <https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/>

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    files::{SECRET, write_atomically},
    pki::Pair,
};

/// What a client needs to reach a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// Name of the context, the cluster and the user.
    pub context: &'a str,
    /// Address of the API.
    pub server: &'a str,
    /// Certificate of the cluster's authority, PEM.
    pub authority: &'a str,
    /// The user's certificate and key.
    pub user: &'a Pair,
}

/// The file that kubectl would write to: the first of `$KUBECONFIG`, else `~/.kube/config`.
pub fn default_path() -> Result<PathBuf> {
    let listed = std::env::var_os("KUBECONFIG").unwrap_or_default();
    if let Some(first) = std::env::split_paths(&listed).find(|path| !path.as_os_str().is_empty()) {
        return Ok(first);
    }
    let home = std::env::var_os("HOME").context("neither KUBECONFIG nor HOME is set: name a file with KUBECONFIG")?;
    Ok(PathBuf::from(home).join(".kube").join("config"))
}

/// Adds or replaces a cluster's entries and makes its context the current one.
pub fn merge_into(path: &Path, access: &Access<'_>) -> Result<()> {
    let merged = merge(read(path)?, access)?;
    write(path, &merged)
}

/// Takes a cluster's entries out; a file that does not exist stays so.
pub fn remove_from(path: &Path, context: &str) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let before = read(path)?;
    let after = remove(before.clone(), context);
    if before == after { Ok(()) } else { write(path, &after) }
}

fn read(path: &Path) -> Result<Value> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    if text.trim().is_empty() {
        return Ok(json!({}));
    }
    serde_norway::from_str(&text).with_context(|| format!("{} is not a kubeconfig", path.display()))
}

fn write(path: &Path, value: &Value) -> Result<()> {
    let text = serde_norway::to_string(value).context("write a kubeconfig as YAML")?;
    write_atomically(path, text.as_bytes(), SECRET)
}

fn merge(mut config: Value, access: &Access<'_>) -> Result<Value> {
    if !config.is_object() {
        bail!("the kubeconfig is not a map; move it away or name another with KUBECONFIG");
    }
    let encode = |text: &str| BASE64_STANDARD.encode(text);
    config = remove(config, access.context);
    config["apiVersion"] = json!("v1");
    config["kind"] = json!("Config");
    for (list, key, value) in [
        (
            "clusters",
            "cluster",
            json!({
                "server": access.server,
                "certificate-authority-data": encode(access.authority),
            }),
        ),
        (
            "users",
            "user",
            json!({
                "client-certificate-data": encode(&access.user.certificate),
                "client-key-data": encode(&access.user.key),
            }),
        ),
        ("contexts", "context", json!({ "cluster": access.context, "user": access.context })),
    ] {
        if !config[list].is_array() {
            config[list] = json!([]);
        }
        if let Some(entries) = config[list].as_array_mut() {
            entries.push(json!({ "name": access.context, key: value }));
        }
    }
    config["current-context"] = json!(access.context);
    Ok(config)
}

fn remove(mut config: Value, context: &str) -> Value {
    for list in ["clusters", "users", "contexts"] {
        if let Some(entries) = config.get_mut(list).and_then(Value::as_array_mut) {
            entries.retain(|entry| entry["name"] != context);
        }
    }
    if config["current-context"] == context {
        config["current-context"] = json!("");
    }
    config
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn access(pair: &Pair) -> Access<'_> {
        Access { context: "kontiki-dev", server: "https://127.0.0.1:6443", authority: "ca", user: pair }
    }

    #[test]
    fn merging_keeps_what_is_the_users_and_down_takes_only_ours() {
        let pair = Pair { certificate: "crt".into(), key: "key".into() };
        let theirs = json!({"clusters": [{"name": "work", "cluster": {"server": "https://work"}}],
            "contexts": [{"name": "work", "context": {}}], "users": [{"name": "work"}], "current-context": "work"});
        let once = merge(theirs.clone(), &access(&pair)).unwrap();
        let twice = merge(once.clone(), &access(&pair)).unwrap();
        assert_eq!(once, twice);
        assert_eq!(once["current-context"], "kontiki-dev");
        assert_eq!(once["clusters"][0], theirs["clusters"][0]);
        let gone = remove(once, "kontiki-dev");
        assert_eq!(gone["clusters"], theirs["clusters"]);
        assert_eq!(gone["users"], theirs["users"]);
        assert_eq!(gone["current-context"], "");
    }

    #[test]
    fn a_file_that_is_no_map_is_left_alone() {
        let pair = Pair { certificate: String::new(), key: String::new() };
        assert!(merge(json!("text"), &access(&pair)).is_err());
    }
}
