//! `kontiki chaos`: trouble by plan for a cluster on this machine.

use std::process::ExitCode;

use anyhow::Result;
use http::Uri;
use kontiki_deploy::local::{
    chaos::{
        load::check_address,
        run::{self, Options},
        scenario::SCENARIOS,
    },
    preflight,
};

/// Subcommands of `kontiki chaos`.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Print the scenarios
    List,
    /// Run a scenario, print what happens, and fail if the cluster does not recover or loses what it acknowledged
    Run(Arguments),
}

/// Flags of `kontiki chaos run`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Name of the scenario
    scenario: String,
    /// Decides the order of the faults and their places; the same one repeats them
    #[arg(long)]
    seed: Option<u64>,
    /// URL that is asked ten times a second meanwhile, such as a node port of your own software; may be given again
    #[arg(long, value_name = "URL", value_parser = |text: &str| check_address(text).map_err(|error| format!("{error:#}")))]
    probe: Vec<Uri>,
    /// Name of the cluster
    #[arg(long, default_value = "kontiki", env = "KONTIKI_NAME")]
    name: String,
}

/// Does it.
pub fn run(command: Command) -> Result<ExitCode> {
    let arguments = match command {
        Command::List => {
            SCENARIOS.iter().for_each(|scenario| println!("{:<12} {}", scenario.name, scenario.about));
            return Ok(ExitCode::SUCCESS);
        }
        Command::Run(arguments) => arguments,
    };
    preflight::check()?;
    let runtime = super::runtime()?;
    let cancel = runtime.block_on(async { super::until_signal() })?;
    let seed = arguments.seed.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
    let options = Options { cluster: arguments.name, scenario: arguments.scenario, seed, addresses: arguments.probe };
    let is_kept = run::run(runtime.handle(), &options, &cancel)?;
    Ok(if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
