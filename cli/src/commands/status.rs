//! `kontiki status`: what is wrong with a cluster on this machine, and what to do.

use std::process::ExitCode;

use anyhow::Result;
use kontiki_deploy::local::{diagnosis, preflight, status};

/// Flags.
#[derive(clap::Args)]
pub struct Arguments {
    /// Name of the cluster
    #[arg(long, default_value = "kontiki", env = "KONTIKI_NAME")]
    name: String,
}

/// Prints it; fails if something is wrong.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    preflight::check()?;
    let report = diagnosis::diagnose(&status::observe(&arguments.name)?);
    for line in &report.lines {
        println!("{line}");
    }
    for line in &report.advice {
        println!("  * {line}");
    }
    Ok(if report.healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
