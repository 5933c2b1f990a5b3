//! The way to the kernel: the `nft` program, one transaction a call.

use std::{process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command};

use crate::Error;

/// A transaction that takes longer has met a kernel that is stuck.
const DEADLINE: Duration = Duration::from_secs(20);

/// Applies a script; all of it or nothing.
pub async fn apply(script: &str) -> Result<(), Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Rules(error.to_string());
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&format!("start nft (Debian and Ubuntu: apt-get install nftables): {error}")))?;
    let input = child.stdin.take();
    let run = async {
        if let Some(mut input) = input {
            input.write_all(script.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(DEADLINE, run).await.map_err(|_| failed(&"nft does not end"))?;
    let output = output.map_err(|error| failed(&error))?;
    if output.status.success() { Ok(()) } else { Err(failed(&String::from_utf8_lossy(&output.stderr).trim())) }
}
