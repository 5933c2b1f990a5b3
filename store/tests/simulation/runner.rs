//! Runs seeds: one in this process, or many, each in a process of its own. Counters and threads that
//! live as long as a process would otherwise tell one run of another.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::mutations::{MUTATIONS, Mutation};
use crate::{entropy, world};

/// Seeds that are run twice, to see that the second run is the first.
const TWICE: u64 = 20;
/// Seeds in which a mistake must be found.
const MUTATION_SEEDS: u64 = 200;
/// A run that takes longer has got stuck.
const STUCK: Duration = Duration::from_secs(300);

static PANICKED: AtomicBool = AtomicBool::new(false);

/// Runs one seed here.
pub fn one(seed: u64, mutation: Option<&Mutation>, with_trace: bool) -> ExitCode {
    entropy::begin(seed);
    let report_panic = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICKED.store(true, Ordering::SeqCst);
        report_panic(panic);
    }));
    std::thread::spawn(|| {
        std::thread::sleep(STUCK);
        eprintln!("stuck for {STUCK:?}");
        std::process::exit(2);
    });
    let root = folder();
    let report = world::run(seed, mutation.map(|mutation| mutation.made), &root);
    drop(std::fs::remove_dir_all(&root));
    if with_trace {
        print!("{}", report.trace);
    }
    let panicked = PANICKED.load(Ordering::SeqCst).then(|| "panic: a member's code gave up".to_owned());
    let error = match report.error {
        // A member that panics stands still, which is why there is no agreement.
        Some(silence) if silence.starts_with("agreement") => panicked.or(Some(silence)),
        error => error.or(panicked),
    };
    match error {
        None => {
            println!("seed {seed}: {}", report.summary);
            ExitCode::SUCCESS
        }
        Some(error) => {
            println!("seed {seed} fails: {error}\n{}", report.summary);
            ExitCode::FAILURE
        }
    }
}

/// A folder in memory if there is one, for what RocksDB writes.
fn folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
    base.join(format!("kontiki-simulation-{}", std::process::id()))
}

/// Runs seeds 1 to `seeds`.
pub fn many(seeds: u64) -> ExitCode {
    let begin = Instant::now();
    let failed: Mutex<Vec<u64>> = Mutex::default();
    side_by_side(seeds, |seed| {
        if let Err(said) = run(seed) {
            println!("{said}\nagain, with all that happened: make simulate SEED={seed}\n");
            failed.lock().push(seed);
        }
    });
    let failed = failed.into_inner();
    println!("simulation: {seeds} seeds in {:.0} s, {} failed {failed:?}", begin.elapsed().as_secs_f64(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Makes each mistake in one seed after the other until the right check finds it.
pub fn mutations() -> ExitCode {
    let missed: Mutex<Vec<&str>> = Mutex::default();
    side_by_side(u64::try_from(MUTATIONS.len()).unwrap_or(0), |number| {
        let Some(mutation) = usize::try_from(number - 1).ok().and_then(|place| MUTATIONS.get(place)) else { return };
        match find(mutation) {
            Some((seed, check)) => println!("mutation {}: found by {check} in seed {seed}", mutation.name),
            None => {
                println!("mutation {}: not found by {:?} in {MUTATION_SEEDS} seeds", mutation.name, mutation.found_by);
                missed.lock().push(mutation.name);
            }
        }
    });
    if missed.into_inner().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn find(mutation: &Mutation) -> Option<(u64, &'static str)> {
    (1..=MUTATION_SEEDS).find_map(|seed| {
        let output = child(seed, &["--mutation", mutation.name]).ok()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let named = |check: &&&str| said.lines().any(|line| line.starts_with(&format!("seed {seed} fails: {check}:")));
        mutation.found_by.iter().find(named).map(|check| (seed, *check))
    })
}

/// Does something for the numbers from 1 on, as many at a time as there are processors.
fn side_by_side(upto: u64, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(1);
    let worker = || {
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if number > upto {
                return;
            }
            work(number);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(worker);
        }
    });
}

fn run(seed: u64) -> Result<(), String> {
    let first = child(seed, &["--trace"])?;
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).lines().rev().take(8).collect::<Vec<_>>().join("\n");
    if !first.status.success() {
        return Err(format!("{}\n{}", said(&first), String::from_utf8_lossy(&first.stderr)));
    }
    if seed <= TWICE && child(seed, &["--trace"])?.stdout != first.stdout {
        return Err(format!("seed {seed} fails: determinism: its second run differs from its first"));
    }
    Ok(())
}

fn child(seed: u64, more: &[&str]) -> Result<Output, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let run = Command::new(program).args(["--seed", &seed.to_string()]).args(more).output();
    run.map_err(|error| error.to_string())
}
