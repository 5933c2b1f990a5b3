//! `kontiki up`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use kontiki_deploy::{
    kind_config::{self, Wanted},
    local::{preflight, up},
    shape::Shape,
};

/// Flags.
#[derive(clap::Args)]
pub struct Arguments {
    /// Name of the cluster: kontiki, if nothing says otherwise
    #[arg(long, env = "KONTIKI_NAME")]
    name: Option<String>,
    /// Number of servers, 3 by default; an odd one survives the most
    #[arg(long, env = "KONTIKI_SERVERS")]
    servers: Option<u8>,
    /// Number of agents, 2 by default
    #[arg(long, env = "KONTIKI_AGENTS")]
    agents: Option<u8>,
    /// Cluster configuration of kind (kind.x-k8s.io/v1alpha4): nodes, their labels, mounts and ports
    #[arg(long = "config", conflicts_with_all = ["servers", "agents"])]
    kind_config: Option<PathBuf>,
    /// File with mirrors of registries for the nodes
    #[arg(long, env = "KONTIKI_REGISTRIES")]
    registries: Option<PathBuf>,
    /// Port on 127.0.0.1 that leads to a ready API server, 6443 by default
    #[arg(long, env = "KONTIKI_PORT")]
    port: Option<u16>,
}

/// Starts the cluster, or finds it running, and returns when every node is Ready.
pub fn run(arguments: &Arguments) -> Result<()> {
    preflight::check()?;
    up::run(&shape(arguments)?, arguments.registries.as_deref())
}

/// A flag wins over the file, and the file over the defaults.
fn shape(arguments: &Arguments) -> Result<Shape> {
    let wanted = match &arguments.kind_config {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            kind_config::parse(&text).with_context(|| path.display().to_string())?
        }
        None => Wanted { servers: arguments.servers.unwrap_or(3), agents: arguments.agents.unwrap_or(2), ..Wanted::default() },
    };
    Ok(Shape {
        name: arguments.name.clone().or(wanted.name).unwrap_or_else(|| "kontiki".to_owned()),
        servers: wanted.servers,
        agents: wanted.agents,
        port: arguments.port.or(wanted.port).unwrap_or(6443),
        extras: wanted.extras,
    })
}
