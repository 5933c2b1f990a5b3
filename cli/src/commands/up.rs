//! `kontiki up`.

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
    /// Port on 127.0.0.1 that leads to a ready API server
    #[arg(long, default_value_t = 6443, env = "KONTIKI_PORT")]
    port: u16,
}

/// Starts the cluster, or finds it running, and returns when every server is ready.
pub fn run(arguments: &Arguments) -> Result<()> {
    preflight::check()?;
    let shape = Shape { name: arguments.name.clone(), servers: arguments.servers, agents: 0, port: arguments.port };
    up::run(&shape)
}
