//! `kontiki node`: trouble for single nodes of a local cluster; and the two steps of such a node's start.

use anyhow::Result;
use kontiki_deploy::local::{
    preflight,
    trouble::{self, Action},
};

/// Flags of `kontiki node-launch` and `kontiki node-init`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Name of the cluster
    #[arg(long)]
    pub cluster: String,
    /// Name of the node
    #[arg(long)]
    pub node: String,
}

/// Flags of `kontiki node`.
#[derive(clap::Args)]
pub struct Trouble {
    /// What happens to the node
    action: Word,
    /// Name of the node
    node: String,
    /// Name of the cluster
    #[arg(long, default_value = "kontiki", env = "KONTIKI_NAME")]
    name: String,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Word {
    /// End it in order; it stays down
    Stop,
    /// Start it again after a stop
    Start,
    /// Cut its power; it is switched on again at once
    Kill,
    /// Kill Kontiki's own processes with -9; containers go on
    Crash,
    /// Let every process stand still, containers included
    Pause,
    /// Let them go on
    Resume,
    /// Let no packet in or out
    Isolate,
    /// Let packets through again
    Rejoin,
}

/// Does to the node what was asked for.
pub fn run(arguments: &Trouble) -> Result<()> {
    preflight::check()?;
    let (action, done) = match arguments.action {
        Word::Stop => (Action::Stop, "is stopped; `kontiki node start` or `kontiki up` starts it"),
        Word::Start => (Action::Start, "is started"),
        Word::Kill => (Action::Kill, "is killed and starts again"),
        Word::Crash => (Action::Crash, "lost its processes, which start again; its containers go on"),
        Word::Pause => (Action::Pause, "stands still until `kontiki node resume`"),
        Word::Resume => (Action::Resume, "goes on"),
        Word::Isolate => (Action::Isolate, "is cut off until `kontiki node rejoin`"),
        Word::Rejoin => (Action::Rejoin, "is connected again"),
    };
    trouble::act(&arguments.name, &arguments.node, action)?;
    println!("{} {done}", arguments.node);
    Ok(())
}
