//! Runs seeds: one in this process, or many, each in a process of its own. Counters and threads that
//! live as long as a process would otherwise tell one run of another.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::{entropy, world};

/// Seeds that are run twice, to see that the second run is the first.
const TWICE: u64 = 20;
/// A run that takes longer has got stuck.
const STUCK: Duration = Duration::from_secs(300);

static PANICKED: AtomicBool = AtomicBool::new(false);

/// Runs one seed here.
pub fn one(seed: u64, with_trace: bool) -> ExitCode {
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
    let report = world::run(seed, &root);
    drop(std::fs::remove_dir_all(&root));
    if with_trace {
        print!("{}", report.trace);
    }
    let error = report.error.or_else(|| PANICKED.load(Ordering::SeqCst).then(|| "panic: see above".to_owned()));
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

/// Runs seeds 1 to `seeds`, as many at a time as there are processors.
pub fn many(seeds: u64) -> ExitCode {
    let begin = Instant::now();
    let next = AtomicU64::new(1);
    let failed: Mutex<Vec<u64>> = Mutex::default();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed > seeds {
                return;
            }
            if let Err(said) = run(seed) {
                println!("{said}\nagain, with all that happened: make simulate SEED={seed}\n");
                failed.lock().push(seed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner();
    println!("simulation: {seeds} seeds in {:.0} s, {} failed {failed:?}", begin.elapsed().as_secs_f64(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(seed: u64) -> Result<(), String> {
    let first = child(seed)?;
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).lines().rev().take(8).collect::<Vec<_>>().join("\n");
    if !first.status.success() {
        return Err(format!("{}\n{}", said(&first), String::from_utf8_lossy(&first.stderr)));
    }
    if seed <= TWICE && child(seed)?.stdout != first.stdout {
        return Err(format!("seed {seed} fails: determinism: its second run differs from its first"));
    }
    Ok(())
}

fn child(seed: u64) -> Result<Output, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let run = Command::new(program).args(["--seed", &seed.to_string(), "--trace"]).output();
    run.map_err(|error| error.to_string())
}
