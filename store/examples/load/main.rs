//! Load on any etcd v3 cluster: `load ENDPOINT,... CLIENTS SECONDS [VALUE_BYTES [WORK [KEYS]]]`.
//!
//! Every client has a connection of its own, asks one thing after the other, and moves to the next endpoint when one fails.
//! One line says how many a second were answered, and how long they took. TLS as in the example `member`. Works:
//!
//! - `put` numbered keys. At the end each answered key must be there with the answered revision. Without a WORK the same
//!   without a warm-up: for whoever breaks the cluster meanwhile.
//! - `slow`: `put` with a pause after each, to see gaps rather than rates.
//! - `read` one of KEYS keys; `range` over all KEYS keys; `txn`: compare the own key's revision, put, else get.
//! - `fanout`: CLIENTS watchers on few connections, and 200 puts past them. SECONDS says nothing here.
//! - `fill`: KEYS keys, the same in every run, as fast as possible. SECONDS is how long that may take.
//! - `wait`: until each client has read from its own endpoint, for at most SECONDS.
//! - `echo`: puts to `load serve-echo ADDRESS`, which does nothing: the ceiling of what a client can measure.

mod echo;
mod fanout;
mod measure;
mod puts;
mod target;
mod works;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use measure::Plan;
use target::Target;

const USAGE: &str = "usage: load ENDPOINT,... CLIENTS SECONDS [VALUE_BYTES [WORK [KEYS]]], or load serve-echo ADDRESS";
/// Answers of so long before the count begins do not count: connections are made and caches filled.
const WARM_UP: Duration = Duration::from_secs(1);
/// Pause of a slow writer.
const PAUSE: Duration = Duration::from_millis(10);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let first = arguments.first().context(USAGE)?;
    if first == "serve-echo" {
        return echo::serve(arguments.get(1).context(USAGE)?.parse().context("ADDRESS")?).await;
    }
    let clients: usize = arguments.get(1).context(USAGE)?.parse().context("CLIENTS")?;
    let counted = Duration::from_secs(arguments.get(2).context(USAGE)?.parse().context("SECONDS")?);
    let bytes: usize = arguments.get(3).map_or(Ok(256), |bytes| bytes.parse()).context("VALUE_BYTES")?;
    let work = arguments.get(4).map(String::as_str);
    let keys: usize = arguments.get(5).map_or(Ok(10_000), |keys| keys.parse()).context("KEYS")?;
    let target = Arc::new(Target::new(first, bytes)?);
    let plan = Plan { warm_up: WARM_UP, counted, pause: Duration::ZERO };
    let cold = Plan { warm_up: Duration::ZERO, ..plan };
    match work {
        None => puts::run(&target, clients, cold).await,
        Some("put") => puts::run(&target, clients, plan).await,
        Some("slow") => puts::run(&target, clients, Plan { pause: PAUSE, ..cold }).await,
        Some("read") => works::read(&target, clients, plan, keys).await,
        Some("range") => works::range(&target, clients, plan, keys).await,
        Some("txn") => works::transactions(&target, clients, plan).await,
        Some("fanout") => fanout::run(&target, clients).await,
        Some("fill") => works::fill(&target, clients, cold, keys).await,
        Some("wait") => works::wait(&target, clients, cold).await,
        Some("echo") => echo::run(&target, clients, plan).await,
        Some(other) => anyhow::bail!("no work {other}; {USAGE}"),
    }
}
