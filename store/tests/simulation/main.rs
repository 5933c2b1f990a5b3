//! Whole clusters of the production code under faults, with time, network and disk from one seed.
//!
//! `simulation --seeds N` runs seeds 1 to N, each in a process of its own, the first twenty twice;
//! `simulation --seed K` runs one, and `--trace` prints everything that happened in it;
//! `simulation --mutations` makes mistakes on purpose, and each must be found.

mod check;
mod clock;
mod disk;
mod entropy;
mod faults;
mod history;
mod leases;
mod member;
mod mutations;
mod network;
mod past;
mod reconfiguration;
mod runner;
mod trace;
mod workload;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| -> Option<u64> {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)?.parse().ok()
    };
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let mutation = arguments.iter().position(|argument| argument == "--mutation").and_then(|place| arguments.get(place + 1));
    match number("--seed") {
        Some(seed) => runner::one(seed, mutation.and_then(|name| mutations::named(name)), has("--trace")),
        None if has("--mutations") => runner::mutations(),
        None => runner::many(number("--seeds").unwrap_or(200)),
    }
}
