//! kubectl, in every version that the machine has.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::cluster::text;

/// One kubectl with one kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    /// The program.
    pub program: PathBuf,
    kubeconfig: PathBuf,
}

/// Every kubectl on this machine: versioned ones beside the one on the PATH, else that one.
#[must_use]
pub fn programs() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(first) = std::env::split_paths(&path).map(|folder| folder.join("kubectl")).find(|program| program.is_file()) else {
        return Vec::new();
    };
    let real = first.canonicalize().unwrap_or_else(|_| first.clone());
    let folder = real.parent().unwrap_or_else(|| Path::new("/")).to_owned();
    let versioned = |minor: &u32| folder.join(format!("kubectl.1.{minor}"));
    let found: Vec<_> = (27..=40).map(|minor| versioned(&minor)).filter(|program| program.is_file()).collect();
    if found.is_empty() { vec![first] } else { found }
}

impl Kubectl {
    /// A kubectl for a cluster.
    #[must_use]
    pub fn new(program: &Path, kubeconfig: &Path) -> Self {
        Self { program: program.to_owned(), kubeconfig: kubeconfig.to_owned() }
    }

    /// The command, not started yet; it is ended after a minute.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        // Discovery is cached by kubectl; a folder per cluster keeps one test from another's.
        let cache = format!("--cache-dir={}", self.kubeconfig.with_extension("cache").display());
        command.arg("60").arg(&self.program).arg(cache).args(arguments).env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Runs kubectl and returns what it printed; an error holds what it said.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        text(&self.command(arguments).output().context("run kubectl")?)
    }

    /// Runs kubectl with a manifest on its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        use std::io::Write;
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl's standard input")?;
        stdin.write_all(input.as_bytes()).context("write to kubectl")?;
        drop(stdin);
        text(&child.wait_with_output().context("wait for kubectl")?)
    }
}
