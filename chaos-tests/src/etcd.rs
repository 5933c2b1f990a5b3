//! etcdctl against the store's members, from the cluster's link.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster::{Cluster, text};

/// Addresses of the three servers of a cluster.
const MEMBERS: [&str; 3] = ["10.89.0.11", "10.89.0.12", "10.89.0.13"];

/// etcdctl with the certificate of the store's own client.
pub struct Etcdctl {
    program: PathBuf,
    namespace: String,
    pki: PathBuf,
}

impl Etcdctl {
    /// For a cluster that runs; `files` are the test files.
    #[must_use]
    pub fn new(files: &Path, cluster: &Cluster) -> Self {
        let pki = cluster.state().join(&cluster.name).join("pki");
        Self { program: files.join("tools/usr/bin/etcdctl"), namespace: format!("kontiki-{}", cluster.name), pki }
    }

    fn command(&self, members: &[&str], arguments: &[&str]) -> Command {
        let endpoints: Vec<_> = members.iter().map(|member| format!("https://{member}:2379")).collect();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(&self.program).env("ETCDCTL_API", "3");
        command.arg(format!("--endpoints={}", endpoints.join(",")));
        for (flag, file) in [("cacert", "store-ca.crt"), ("cert", "store-client.crt"), ("key", "store-client.key")] {
            command.arg(format!("--{flag}={}", self.pki.join(file).display()));
        }
        command.args(arguments);
        command
    }

    /// Runs etcdctl against one member, by its number.
    pub fn run(&self, member: usize, arguments: &[&str]) -> Result<String> {
        text(&self.command(&[MEMBERS[member]], arguments).output().context("run etcdctl")?)
    }

    /// Number of the member that leads.
    pub fn leader(&self) -> Result<usize> {
        let output = text(&self.command(&MEMBERS, &["endpoint", "status", "-w", "json"]).output().context("run etcdctl")?)?;
        let all: Value = serde_json::from_str(&output).context("parse etcdctl's answer")?;
        let leads = |one: &&Value| one["Status"]["leader"] == one["Status"]["header"]["member_id"];
        let leader = all.as_array().into_iter().flatten().find(leads).context("no member leads")?;
        let endpoint = leader["Endpoint"].as_str().unwrap_or_default();
        MEMBERS.iter().position(|member| endpoint.contains(&format!("//{member}:"))).context("an unknown member leads")
    }

    /// Watches a prefix from the first revision; each response is a line of JSON in `log`.
    pub fn watch(&self, prefix: &str, log: &Path) -> Result<Watcher> {
        let output = File::create(log)?;
        let mut command = self.command(&MEMBERS, &["watch", "--prefix", "--rev=1", "-w", "json", prefix]);
        let process = command.stdin(Stdio::null()).stdout(output).spawn().context("start etcdctl")?;
        Ok(Watcher { process, log: log.to_owned() })
    }
}

/// A watch that runs.
pub struct Watcher {
    process: Child,
    log: PathBuf,
}

impl Watcher {
    /// Keys and revisions of the events so far, in the order in which they came.
    pub fn seen(&self) -> Result<Vec<(String, i64)>> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let log = std::fs::read_to_string(&self.log)?;
        let mut seen = Vec::new();
        for line in log.lines() {
            // The last line may not be whole yet.
            let Ok(response) = serde_json::from_str::<Value>(line) else { continue };
            for event in response["Events"].as_array().into_iter().flatten() {
                let key = event["kv"]["key"].as_str().and_then(|key| STANDARD.decode(key).ok()).unwrap_or_default();
                seen.push((String::from_utf8_lossy(&key).into_owned(), event["kv"]["mod_revision"].as_i64().unwrap_or(0)));
            }
        }
        Ok(seen)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It is this test's own process; one that has ended needs no killing.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
