//! `kontiki supervise`: watches over the nodes of a cluster on this machine.

use anyhow::Result;
use kontiki_deploy::local::supervisor;

/// Flags.
#[derive(clap::Args)]
pub struct Arguments {
    /// Name of the cluster
    #[arg(long)]
    cluster: String,
}

/// Runs until it is told to end.
pub fn run(arguments: &Arguments) -> Result<()> {
    super::start_logging();
    super::runtime()?.block_on(async { supervisor::run(&arguments.cluster, super::until_signal()?).await })
}
