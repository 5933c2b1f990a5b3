//! The `kontiki` binary: subcommands and nothing else.

mod commands;
mod in_process;
mod settings;
mod shim;

use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};

/// Kubernetes on Raft: one binary that is a whole highly available cluster.
#[derive(Parser)]
#[command(name = "kontiki", version, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a highly available cluster on this machine and make it kubectl's current context
    Up(commands::up::Arguments),
    /// Stop a cluster on this machine and remove everything that it left
    Down(commands::down::Arguments),
    /// Say what is wrong with a cluster on this machine, and what to do
    Status(commands::status::Arguments),
    /// Print what the processes of a node of a cluster on this machine say
    Logs(commands::logs::Arguments),
    /// Run one control-plane node: store, API server, controllers and scheduler
    #[command(args_override_self = true)]
    Server(Box<commands::server::Arguments>),
    /// Run one node: kubelet, service proxy and DNS
    #[command(args_override_self = true)]
    Agent(Box<commands::agent::Arguments>),
    /// Run one member of a store that speaks etcd's API, with etcd's flags
    Store(commands::store::Arguments),
    /// Save, look into and restore snapshots of a store
    Snapshot(commands::snapshot::Arguments),
    /// Images on the nodes
    Image(commands::image::Arguments),
    /// Stop, kill, crash, pause or isolate a node of a cluster on this machine, and the way back
    Node(commands::node::Trouble),
    /// Make trouble for a cluster on this machine by plan, and see whether it keeps its word
    #[command(subcommand)]
    Chaos(commands::chaos::Command),
    /// Print a script with which a shell completes these commands
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Watch over the nodes of a cluster on this machine
    #[command(hide = true)]
    Supervise(commands::supervise::Arguments),
    /// Make a node's namespaces and start its init
    #[command(hide = true)]
    NodeLaunch(commands::node::Arguments),
    /// Run as the init of a node
    #[command(hide = true)]
    NodeInit(commands::node::Arguments),
}

fn main() -> ExitCode {
    // One crypto provider everywhere, also in libraries that ask for the process's own.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail(&anyhow::anyhow!("a crypto provider is installed already"));
    }
    if commands::store::is_called_etcd(std::env::args_os().next().as_deref()) {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        return commands::store::start(&arguments).unwrap_or_else(|error| fail(&error));
    }
    let arguments = match settings::expand(std::env::args_os().collect()) {
        Ok(arguments) => arguments,
        Err(error) => return fail(&error),
    };
    let result = match Cli::parse_from(arguments).command {
        Command::Up(arguments) => commands::up::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Down(arguments) => commands::down::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Status(arguments) => commands::status::run(&arguments),
        Command::Logs(arguments) => commands::logs::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "kontiki", &mut script);
            std::io::Write::write_all(&mut std::io::stdout(), &script).map(|()| ExitCode::SUCCESS).context("print the script")
        }
        Command::Server(arguments) => commands::server::run(*arguments).map(|()| ExitCode::SUCCESS),
        Command::Agent(arguments) => commands::agent::run(*arguments).map(|()| ExitCode::SUCCESS),
        Command::Store(arguments) => commands::store::run(&arguments),
        Command::Snapshot(arguments) => commands::snapshot::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Image(arguments) => commands::image::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Node(arguments) => commands::node::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Chaos(command) => commands::chaos::run(command),
        Command::Supervise(arguments) => commands::supervise::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::NodeLaunch(arguments) => kontiki_deploy::local::launch::run(&arguments.cluster, &arguments.node),
        Command::NodeInit(arguments) => kontiki_deploy::local::node_init::run(&arguments.cluster, &arguments.node),
    };
    result.unwrap_or_else(|error| fail(&error))
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("kontiki: {error:#}");
    ExitCode::FAILURE
}
