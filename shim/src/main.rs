//! The shim: one per pod, parent of its containers.
//!
//! In: a sandbox's folder with its settings, then requests over `shim.sock` in it. Out: containers, their
//! logs in CRI format, and for each a status file that is on disk once the container has ended.
//! Invariants: one thread only, because libcontainer clones and goes on in Rust; only this process reaps;
//! the pod's network, IPC and UTS namespaces are its own, so that they live exactly as long as it does.
//! It outlives the kubelet, which finds it again by the socket.

mod console;
mod containers;
mod exec;
mod executor;
mod launch;
mod logs;
mod pause;
mod report;
mod sandbox;
mod seccomp;
mod server;
mod status;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the sandbox's `shim.log`.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let directory = PathBuf::from(std::env::args_os().nth(1).context("usage: kontiki-shim SANDBOX_FOLDER")?);
    std::env::set_current_dir(&directory).with_context(|| format!("cannot enter {}", directory.display()))?;
    report::install();
    let pause = sandbox::enter()?;
    let mut server = server::Server::bind(pause)?;
    sandbox::announce()?;
    server.serve()
}
