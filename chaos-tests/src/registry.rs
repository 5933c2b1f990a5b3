//! A registry in a network namespace of its own, attached to a cluster's link: what the nodes pull from.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};

use crate::cluster::text;

/// Address on the link; no node has it.
const ADDRESS: &str = "10.89.0.250";
const PORT: u16 = 5000;

/// Folder that `tools/test-files.sh` has filled: `KONTIKI_TEST_FILES`, which `make end-to-end` sets.
#[must_use]
pub fn test_files() -> Option<PathBuf> {
    std::env::var_os("KONTIKI_TEST_FILES").map(PathBuf::from).filter(|path| path.join("complete").is_file())
}

/// A running registry.
pub struct Registry {
    namespace: String,
    process: Child,
    log: PathBuf,
}

fn ip(arguments: &[&str]) -> Result<String> {
    text(&Command::new("ip").args(arguments).output().context("run ip")?).with_context(|| format!("ip {arguments:?}"))
}

/// The file that makes nodes ask this registry for docker.io's images.
#[must_use]
pub fn mirrors() -> String {
    format!("mirrors:\n  docker.io:\n    endpoint: [\"http://{ADDRESS}:{PORT}\"]\n")
}

impl Registry {
    /// Starts a registry beside the nodes of a cluster that runs.
    pub fn start(files: &Path, cluster: &str, folder: &Path) -> Result<Self> {
        let namespace = format!("registry-{cluster}");
        let link = format!("kontiki-{cluster}");
        // Left by a run that was killed.
        let _ = ip(&["netns", "delete", &namespace]);
        ip(&["netns", "add", &namespace])?;
        ip(&["-n", &link, "link", "add", "registry", "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
        ip(&["-n", &link, "link", "set", "registry", "master", "nodes", "up"])?;
        ip(&["-n", &namespace, "address", "add", &format!("{ADDRESS}/24"), "dev", "eth0"])?;
        ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
        let config = folder.join("registry.yml");
        let settings = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{ADDRESS}:{PORT}\"}}\n",
            files.join("registry").display()
        );
        std::fs::write(&config, settings)?;
        let log = folder.join("registry.log");
        let output = File::create(&log)?;
        let process = Command::new("ip")
            .args(["netns", "exec", &namespace])
            .arg(files.join("tools/usr/bin/docker-registry"))
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("start the registry")?;
        Ok(Self { namespace, process, log })
    }

    /// Addresses that have asked for blobs.
    pub fn pulled_by(&self) -> Result<Vec<String>> {
        let log = std::fs::read_to_string(&self.log).context("read the registry's log")?;
        let pulls = log.lines().filter(|line| line.contains("/v2/library/nginx/blobs/"));
        let mut from: Vec<String> =
            pulls.filter_map(|line| line.split_whitespace().next()?.split(':').next().map(str::to_owned)).collect();
        from.sort();
        from.dedup();
        Ok(from)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It is this test's own process; one that has ended needs no killing.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Err(error) = ip(&["netns", "delete", &self.namespace]) {
            eprintln!("{} is left: {error:#}", self.namespace);
        }
    }
}
