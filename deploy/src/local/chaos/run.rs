//! Runs a scenario on a cluster that is well, and prints what happens as it happens.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use http::Uri;
use kontiki_api::resources::{CONFIG_MAPS, NAMESPACES};
use kontiki_client::{Client, DeleteOptions, ListParams, https::HttpsConfig};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    load::Load,
    scenario::{SCENARIOS, Scenario, Step, schedule},
    story,
};
use crate::{
    local::{
        diagnosis::{self, Observed},
        paths::Paths,
        provision, status,
        trouble::{self, Action},
    },
    pki::Pair,
    shape::Shape,
};

/// Where the objects that are written lie; it is made before and deleted after.
const NAMESPACE: &str = "kontiki-chaos";
/// How often the cluster is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long a cluster must have been as before: its nodes tell of what ended a moment later.
const STEADY: Duration = Duration::from_secs(3);
/// How long it may take until then.
const RECOVERED: Duration = Duration::from_secs(180);
/// How long without an acknowledged write is worth a line.
const SILENCE: Duration = Duration::from_secs(1);
/// How long the namespace may take to be gone.
const EMPTIED: Duration = Duration::from_secs(120);

/// What to do.
pub struct Options {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the scenario.
    pub scenario: String,
    /// Decides the order and the places: the same one repeats them.
    pub seed: u64,
    /// What is asked besides the API.
    pub addresses: Vec<Uri>,
}

/// A scenario that runs.
struct Run<'a> {
    cluster: &'a str,
    load: Load,
    before: Observed,
    last: Observed,
    is_silent: bool,
    is_kept: bool,
    cancel: &'a CancellationToken,
}

/// Runs it until `cancel`, which ends the fault of the moment first. Returns whether the cluster kept its word: it was as
/// before after each fault, and nothing that was acknowledged is lost.
pub fn run(runtime: &Handle, options: &Options, cancel: &CancellationToken) -> Result<bool> {
    let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == options.scenario) else {
        bail!("there is no scenario {}; `kontiki chaos list` tells which there are", options.scenario);
    };
    let paths = Paths::new(&options.cluster);
    let before = status::observe(&options.cluster)?;
    let shape = provision::read_shape(&paths)?;
    ensure!(
        diagnosis::diagnose(&before).healthy,
        "cluster {} is not well, so that nothing could be learnt: see `kontiki status --name {}`",
        options.cluster,
        options.cluster
    );
    let client = client(&paths, &shape)?;
    runtime.block_on(make_namespace(&client))?;
    let load = Load::start(runtime, client.clone(), NAMESPACE, &options.addresses);
    let last = before.clone();
    let mut run = Run { cluster: &options.cluster, load, before, last, is_silent: false, is_kept: true, cancel };
    run.note(&format!("cluster {}, scenario {}, seed {}", options.cluster, scenario.name, options.seed));
    let done = run.steps(scenario, &shape, options.seed).and_then(|()| run.judge(runtime, &client));
    let is_kept = run.is_kept;
    drop(run);
    let cleaned = runtime.block_on(remove_namespace(&client));
    done.and(cleaned).map(|()| is_kept)
}

/// Over the port of the host, as everybody reaches the cluster.
fn client(paths: &Paths, shape: &Shape) -> Result<Client> {
    let administrator = Pair::read(&paths.pki(), "admin")?;
    let authority_pem = std::fs::read_to_string(paths.pki().join("ca.crt")).context("read the cluster's authority")?;
    let identity_pem = Some((administrator.certificate, administrator.key));
    let servers = vec![format!("https://127.0.0.1:{}", shape.port)];
    let config = HttpsConfig { servers, authority_pem, identity_pem, token_file: None };
    Client::https(config, "kontiki-chaos").context("set up a client of the cluster")
}

async fn make_namespace(client: &Client) -> Result<()> {
    // One that was interrupted at the wrong moment leaves its own.
    remove_namespace(client).await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    client.create::<Value>(NAMESPACES, "", &namespace).await.with_context(|| format!("make namespace {NAMESPACE}")).map(drop)
}

async fn remove_namespace(client: &Client) -> Result<()> {
    let end = Instant::now() + EMPTIED;
    loop {
        let deleted = client.delete(NAMESPACES, "", NAMESPACE, &DeleteOptions::default()).await;
        match deleted {
            Err(error) if error.status().is_some_and(|status| status.code == 404) => return Ok(()),
            _ if Instant::now() < end => tokio::time::sleep(LOOK).await,
            Ok(()) => bail!("namespace {NAMESPACE} is not gone after {EMPTIED:?}: `kubectl describe namespace {NAMESPACE}`"),
            Err(error) => return Err(error).with_context(|| format!("delete namespace {NAMESPACE}")),
        }
    }
}

impl Run<'_> {
    fn note(&self, what: &str) {
        println!("{:7.1} s  {what}", self.load.now().as_secs_f64());
    }

    fn find(&mut self, what: &str) {
        self.is_kept = false;
        self.note(&format!("WRONG: {what}"));
    }

    fn act(&self, step: &Step, action: Action) -> Result<()> {
        step.nodes.iter().try_for_each(|node| trouble::act(self.cluster, node, action))
    }

    fn steps(&mut self, scenario: &Scenario, shape: &Shape, seed: u64) -> Result<()> {
        for step in schedule(scenario, shape, seed) {
            let until = Instant::now() + step.calm;
            while Instant::now() < until && !self.cancel.is_cancelled() {
                std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
            }
            if self.cancel.is_cancelled() {
                bail!("interrupted");
            }
            self.step(&step)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        self.note(&format!("{}: {}", step.nodes.join(", "), step.fault.words()));
        let (began, failed) = (self.load.now(), self.failed());
        let begun = self.act(step, step.fault.beginning());
        if let Some((after, end)) = step.fault.end() {
            if begun.is_ok() {
                self.look_until(began + after);
            }
            // Whatever came in between, no node is left as the fault made it.
            let ended = step.nodes.iter().map(|node| trouble::act(self.cluster, node, end)).collect::<Result<Vec<()>>>();
            begun.and(ended.map(drop))?;
        } else {
            begun?;
        }
        let over = self.load.now();
        let Some(well) = self.look_until_well()? else {
            self.find(&format!("not as before {} s after the fault", RECOVERED.as_secs()));
            return Ok(());
        };
        let silence = story::longest_silence(&self.load.record().writes, began, self.load.now());
        let failed = self.failed() - failed;
        self.note(&format!(
            "as before {:.1} s after the fault; longest time without a write {:.1} s; {failed} requests failed",
            well.saturating_sub(over).as_secs_f64(),
            silence.as_secs_f64()
        ));
        Ok(())
    }

    fn failed(&self) -> usize {
        self.load.record().asked.iter().map(|asked| asked.failures.len()).sum()
    }

    /// Looks once and tells what is different. Whether the cluster is as before.
    fn look(&mut self) -> bool {
        // A node that is just being started may hide what is to be seen; the next look tells.
        let Ok(now) = status::observe(self.cluster) else { return false };
        for line in story::changes(&self.last, &now) {
            self.note(&format!("  {line}"));
        }
        let is_silent = self.load.now().saturating_sub(self.load.last_write()) > SILENCE;
        if is_silent != self.is_silent {
            self.note(if is_silent { "  no write is acknowledged" } else { "  writes are acknowledged again" });
            self.is_silent = is_silent;
        }
        self.last = now;
        !is_silent && story::is_as_before(&self.before, &self.last)
    }

    fn look_until(&mut self, end: Duration) {
        while self.load.now() < end && !self.cancel.is_cancelled() {
            self.look();
            std::thread::sleep(LOOK);
        }
    }

    /// When the cluster was as before, once it has stayed so.
    fn look_until_well(&mut self) -> Result<Option<Duration>> {
        let end = self.load.now() + RECOVERED;
        let mut since = None;
        while self.load.now() < end {
            if self.cancel.is_cancelled() {
                bail!("interrupted");
            }
            let is_well = self.look();
            since = is_well.then(|| since.unwrap_or_else(|| self.load.now()));
            match since {
                Some(since) if self.load.now() >= since + STEADY => return Ok(Some(since)),
                _ => std::thread::sleep(LOOK),
            }
        }
        Ok(None)
    }

    fn judge(&mut self, runtime: &Handle, client: &Client) -> Result<()> {
        let record = self.load.record();
        let list = runtime.block_on(client.list::<Named>(CONFIG_MAPS, NAMESPACE, &ListParams::default()));
        let there: BTreeSet<String> =
            list.context("read what was written")?.items.into_iter().map(|one| one.metadata.name).collect();
        let lost = story::lost(&record.writes, &there);
        let silence = story::longest_silence(&record.writes, Duration::ZERO, self.load.now()).as_secs_f64();
        if let Some(first) = lost.first() {
            self.find(&format!("{} acknowledged writes are lost, the first is {first}", lost.len()));
        }
        let (count, left) = (record.writes.len(), record.writes.len() - lost.len());
        self.note(&format!("{count} writes acknowledged, {left} of them there; longest time without one {silence:.1} s"));
        for asked in &record.asked {
            self.note(&story::answers(asked));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Named {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}
