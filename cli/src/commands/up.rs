//! `kontiki up`.

use std::path::PathBuf;

use anyhow::Result;
use kontiki_deploy::{
    local::{preflight, up},
    shape::Shape,
};

/// Flags.
#[derive(clap::Args)]
pub struct Arguments {
    /// Name of the cluster
    #[arg(long, default_value = "kontiki", env = "KONTIKI_NAME")]
    name: String,
    /// Number of servers; an odd one survives the most
    #[arg(long, default_value_t = 3, env = "KONTIKI_SERVERS")]
    servers: u8,
    /// Number of agents
    #[arg(long, default_value_t = 2, env = "KONTIKI_AGENTS")]
    agents: u8,
    /// File with mirrors of registries for the nodes
    #[arg(long, env = "KONTIKI_REGISTRIES")]
    registries: Option<PathBuf>,
    /// Port on 127.0.0.1 that leads to a ready API server
    #[arg(long, default_value_t = 6443, env = "KONTIKI_PORT")]
    port: u16,
}

/// Starts the cluster, or finds it running, and returns when every node is Ready.
pub fn run(arguments: &Arguments) -> Result<()> {
    preflight::check()?;
    let shape =
        Shape { name: arguments.name.clone(), servers: arguments.servers, agents: arguments.agents, port: arguments.port };
    up::run(&shape, arguments.registries.as_deref())
}
