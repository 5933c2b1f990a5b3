//! What the programs that make load share.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use kontiki_client::https::HttpsConfig;
use serde_json::Value;

/// One line about a piece of work: how many a second, and the median and 99th percentile of the time that one took.
pub fn print(name: &str, times: &mut [Duration], elapsed: Duration) {
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    let rate = times.len() as f64 / elapsed.as_secs_f64();
    println!("{name}: {rate:.0}/s, p50 {:?}, p99 {:?}, {} in {elapsed:?}", at(0.5), at(0.99), times.len());
}

/// Server, authority and identity of a kubeconfig's current context.
pub fn configuration(path: &str) -> Result<HttpsConfig> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let config: Value = serde_norway::from_str(&text).context("the kubeconfig is not YAML")?;
    let entry = |list: &str, name: &Value| -> Result<Value> {
        let found = config[list].as_array().into_iter().flatten().find(|entry| entry["name"] == *name);
        found.cloned().with_context(|| format!("no {name} in {list}"))
    };
    let pem = |value: &Value| -> Result<String> {
        let bytes = BASE64_STANDARD.decode(value.as_str().context("credentials have to stand in the file itself")?)?;
        Ok(String::from_utf8(bytes)?)
    };
    let context = entry("contexts", &config["current-context"])?;
    let cluster = entry("clusters", &context["context"]["cluster"])?;
    let user = entry("users", &context["context"]["user"])?;
    Ok(HttpsConfig {
        servers: vec![cluster["cluster"]["server"].as_str().context("the cluster has no server")?.to_owned()],
        authority_pem: pem(&cluster["cluster"]["certificate-authority-data"])?,
        identity_pem: Some((pem(&user["user"]["client-certificate-data"])?, pem(&user["user"]["client-key-data"])?)),
        token_file: None,
    })
}
