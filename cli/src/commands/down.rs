//! `kontiki down`.

use anyhow::Result;
use kontiki_deploy::local::{down, preflight};

/// Flags.
#[derive(clap::Args)]
pub struct Arguments {
    /// Name of the cluster
    #[arg(long, default_value = "kontiki", env = "KONTIKI_NAME")]
    name: String,
    /// Leave the cluster's data for the next `kontiki up`
    #[arg(long)]
    keep_data: bool,
}

/// Stops and removes the cluster.
pub fn run(arguments: &Arguments) -> Result<()> {
    preflight::check()?;
    down::run(&arguments.name, arguments.keep_data)?;
    println!("cluster {} is gone", arguments.name);
    Ok(())
}
