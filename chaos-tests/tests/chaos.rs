//! Clusters under fire: a cluster that is killed, stopped, cut off and rebooted under load keeps its word.
//!
//! `make test` runs the short scenarios; `make chaos` all of them, or the one that `SCENARIO` names, each as `SEED` says.
//! A scenario that fails prints its seed: the same one replays it.

#[path = "chaos/for_the_hand.rs"]
mod for_the_hand;
#[path = "chaos/node_loss.rs"]
mod node_loss;
#[path = "chaos/one_member.rs"]
mod one_member;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use kontiki_chaos_tests::{
    cluster::{Cluster, Place, Size, binary},
    disk::{self, Disk},
    kubectl::programs,
    registry::{self, Registry},
    scenario::{
        list::{LONG, SHORT, SHORT_POWER, Scenario},
        run::run,
    },
};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::unistd::geteuid;

const SIZE: Size = Size { servers: 3, agents: 2 };
/// Of a scenario with disks in memory.
const ALONE: Size = Size { servers: 1, agents: 0 };
const SERVERS: Size = Size { servers: 3, agents: 0 };

/// Why this machine cannot run them.
fn lacking(needs_disks: bool) -> Option<&'static str> {
    if binary().is_none() {
        return Some("KONTIKI_BINARY names no file: run `make end-to-end`");
    }
    if !geteuid().is_root() {
        return Some("needs root for namespaces");
    }
    if registry::test_files().is_none() {
        return Some("KONTIKI_TEST_FILES names no folder with test files: run `make end-to-end`");
    }
    if programs().is_empty() {
        return Some("needs kubectl on the PATH");
    }
    if needs_disks { disk::lacking() } else { None }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let is_long = std::env::var_os("KONTIKI_CHAOS").is_some();
    let chosen = std::env::var("SCENARIO").unwrap_or_default();
    // One that is named is run, short or long.
    let short = [SHORT_POWER, SHORT].into_iter().filter(|_| !is_long || !chosen.is_empty());
    let all = short.chain(LONG.into_iter().filter(|_| is_long));
    let mut trials: Vec<Trial> = all
        .filter(|scenario| chosen.is_empty() || scenario.name == chosen)
        .map(|scenario| trial(scenario.name, lacking(scenario.disks), move || try_one(&scenario)))
        .collect();
    if !is_long && chosen.is_empty() {
        trials.push(trial(
            "what_was_flushed_survives_a_power_cut",
            lacking(true),
            one_member::what_was_flushed_survives_a_power_cut,
        ));
        trials.push(trial("a_lost_node_is_replaced_and_cleans_up", lacking(false), lose_a_node));
        trials.push(trial("a_configuration_of_kind_is_honoured_and_the_status_tells", lacking(false), for_the_hand));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test that is skipped with its reason where the machine lacks something, which in CI is a failure.
fn trial(name: &str, lacking: Option<&'static str>, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    if let Some(reason) = lacking {
        eprintln!("{name} is skipped: {reason}");
    }
    let run = move || test().map_err(|error| Failed::from(format!("{error:#}")));
    Trial::test(name, run).with_ignored_flag(lacking.is_some() && std::env::var_os("CI").is_none())
}

fn place() -> Result<Place> {
    Place::from_environment("chaos-tests", 26_444)
}

fn lose_a_node() -> Result<()> {
    let cluster = Cluster::prepare(&binary().context("no binary")?, &place()?, node_loss::SIZE, &registry::mirrors())?;
    let cluster = cluster.with(&node_loss::SETTINGS);
    cluster.up()?;
    let _registry = start_registry(&cluster)?;
    node_loss::a_lost_node_is_replaced_and_cleans_up(&cluster)
}

fn for_the_hand() -> Result<()> {
    let cluster = Cluster::prepare(&binary().context("no binary")?, &place()?, for_the_hand::SIZE, &registry::mirrors())?;
    for_the_hand::a_configuration_of_kind_is_honoured_and_the_status_tells(&cluster)
}

fn start_registry(cluster: &Cluster) -> Result<Registry> {
    let files = registry::test_files().context("no test files")?;
    Registry::start(&files, &cluster.name, cluster.folder()).context("start the registry")
}

fn seed() -> Result<u64> {
    std::env::var("SEED")
        .ok()
        .filter(|text| !text.is_empty())
        .map_or_else(|| Ok(rand::random()), |text| text.parse().context("SEED"))
}

/// Every scenario has a cluster of its own: what one leaves behind is no excuse for the next.
fn try_one(scenario: &Scenario) -> Result<()> {
    let seed = seed()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let size = match (scenario.disks, scenario.name.starts_with("short")) {
        (true, true) => ALONE,
        (true, false) => SERVERS,
        _ => SIZE,
    };
    let cluster = Cluster::prepare(&binary().context("no binary")?, &place()?, size, &registry::mirrors())?;
    let mut disks = Vec::new();
    if scenario.disks {
        for server in cluster.records().servers() {
            let folder = cluster.node(&server).join("store");
            disks.push((server, Disk::mount(&folder)?));
        }
    }
    let ran = run_on(&runtime, &cluster, &disks, scenario, seed);
    // The servers' namespaces hold the disks, and the cluster's folder cannot go with one mounted in it.
    let stopped = cluster.stop();
    drop(disks);
    let outcome = ran.with_context(|| format!("SEED={seed}"))?;
    ensure!(outcome.findings.is_empty(), "SEED={seed}\n{}", outcome.timeline.join("\n"));
    stopped.map(drop)
}

fn run_on(
    runtime: &tokio::runtime::Runtime,
    cluster: &Cluster,
    disks: &[(String, Disk)],
    scenario: &Scenario,
    seed: u64,
) -> Result<kontiki_chaos_tests::scenario::run::Outcome> {
    cluster.up()?;
    let _registry = start_registry(cluster)?;
    run(runtime.handle(), cluster, disks, scenario, seed)
}
