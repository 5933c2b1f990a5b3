//! Runs a scenario: load, faults, checkers; prints a timeline.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::{
    inject::inject,
    list::Scenario,
    schedule::{Step, schedule},
};
use crate::{
    api::{Api, version},
    check::{
        acknowledged, availability,
        converged::{self, Observed},
        leadership,
        leaks::{self, Footprint},
        once, watched,
    },
    cluster::{Cluster, eventually},
    disk::Disk,
    footprint::{self, footprint},
    history::Disturbance,
    workload::{
        Clock,
        jobs::{self, Jobs},
        requests::Requests,
        watches::{self, Follower},
        writers::{self, Writers},
    },
};

/// How long a cluster may take until it is as declared again.
const SETTLED: Duration = Duration::from_secs(90);
/// A namespace with thousands of objects, each a transaction of its own, on disks that are slow.
const EMPTIED: Duration = Duration::from_secs(300);
/// After that, endpoints may take a moment to reach every node.
const MARGIN: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_millis(100);
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";

/// What came of a scenario.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What is wrong; nothing, if the cluster kept its word.
    pub findings: Vec<String>,
    /// What happened, a line each.
    pub timeline: Vec<String>,
}

/// A scenario that runs.
struct Run<'a> {
    runtime: Handle,
    api: Api,
    cluster: &'a Cluster,
    scenario: &'a Scenario,
    clock: Clock,
    outcome: Outcome,
}

/// The load.
struct Load {
    writers: Writers,
    configmaps: Follower,
    pods: Follower,
    leases: Follower,
    requests: Requests,
    jobs: Option<Jobs>,
}

/// Runs a scenario on a cluster that is well. `disks` are those of the servers, if they can fail.
pub fn run(runtime: &Handle, cluster: &Cluster, disks: &[(String, Disk)], scenario: &Scenario, seed: u64) -> Result<Outcome> {
    let (api, outcome) = (Api::new(cluster)?, Outcome::default());
    let mut run = Run { runtime: runtime.clone(), api, cluster, scenario, clock: Clock::start(), outcome };
    run.note(&format!("scenario {}, SEED={seed}", scenario.name));
    let before = steady(cluster)?;
    let mut load = run.start().context("start the load")?;
    let mut disturbances = Vec::new();
    let began = run.clock.now();
    for step in schedule(scenario, &cluster.records(), seed) {
        run.step(disks, &step, &load, &mut disturbances).with_context(|| format!("{} {}", step.fault, step.node))?;
    }
    let ended = run.clock.now();
    load.jobs = None;
    load.writers.stop();
    run.settle().context("after the last fault")?;
    load.requests.stop();
    run.judge(&load, &disturbances, (began, ended))?;
    drop(load);
    run.clean_up(&before)?;
    Ok(run.outcome)
}

impl Run<'_> {
    fn note(&mut self, what: &str) {
        let line = format!("{:7.1} s  {what}", self.clock.now().as_secs_f64());
        println!("{line}");
        self.outcome.timeline.push(line);
    }

    fn find(&mut self, findings: Vec<String>) {
        for finding in findings {
            self.note(&format!("FOUND: {finding}"));
            self.outcome.findings.push(finding);
        }
    }

    fn namespace(&self) -> String {
        format!("chaos-{}", self.scenario.name)
    }

    fn get(&self, path: &str) -> Result<Value> {
        self.runtime.block_on(self.api.get(path))
    }

    fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.runtime.block_on(self.api.call(Method::POST, path, Some(object)))
    }

    fn observe(&self) -> Result<Observed> {
        let namespace = self.namespace();
        let list = |group: &str, plural: &str| self.get(&format!("{group}/namespaces/{namespace}/{plural}"));
        Ok(Observed {
            nodes: self.get("/api/v1/nodes")?,
            deployments: list("/apis/apps/v1", "deployments")?,
            jobs: list("/apis/batch/v1", "jobs")?,
            pods: list("/api/v1", "pods")?,
            slices: list("/apis/discovery.k8s.io/v1", "endpointslices")?,
        })
    }

    /// Waits until the cluster is as declared.
    fn settle(&self) -> Result<()> {
        eventually(SETTLED, "the cluster is as declared", || {
            let differences = converged::differences(&self.observe()?);
            ensure!(differences.is_empty(), differences.join("; "));
            Ok(Some(()))
        })
    }

    fn start(&mut self) -> Result<Load> {
        let namespace = self.namespace();
        self.create("/api/v1/namespaces", &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))?;
        eventually(SETTLED, "a service account", || {
            self.get(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/default")).map(Some)
        })?;
        let paths = [
            format!("/api/v1/namespaces/{namespace}/configmaps"),
            format!("/api/v1/namespaces/{namespace}/pods"),
            LEASES.to_owned(),
        ];
        let mut followers = Vec::new();
        for path in &paths {
            let after = version(&self.get(path)?);
            followers.push(watches::follow(&self.runtime, &self.api, path, after));
        }
        let mut requests = Requests::new();
        if self.scenario.replicas > 0 {
            let service = self.serve()?;
            for node in self.cluster.records().agents() {
                requests.from_node(&self.cluster.records(), self.clock, &node, service, PERIOD);
            }
        }
        let [configmaps, pods, leases] = <[Follower; 3]>::try_from(followers).ok().context("three watches")?;
        let writers = writers::start(&self.runtime, &self.api, self.clock, &namespace, self.scenario.writers);
        let jobs = (self.scenario.replicas > 0).then(|| jobs::start(&self.runtime, &self.api, &namespace));
        self.note(&format!("{} writers, {} pods behind a Service", self.scenario.writers, self.scenario.replicas));
        Ok(Load { writers, configmaps, pods, leases, requests, jobs })
    }

    /// Makes a Deployment and a Service, and returns the address of the latter once every agent leads to it.
    fn serve(&self) -> Result<SocketAddr> {
        let namespace = self.namespace();
        let labels = json!({"app": "served"});
        let container = json!({"name": "main", "image": "nginx:1.21", "ports": [{"containerPort": 80}],
            "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1}});
        let pod =
            json!({"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 2, "containers": [container]}});
        let spec = json!({"replicas": self.scenario.replicas, "selector": {"matchLabels": labels}, "template": pod});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "served"}, "spec": spec});
        self.create(&format!("/apis/apps/v1/namespaces/{namespace}/deployments"), &deployment)?;
        let spec = json!({"selector": labels, "ports": [{"port": 80}]});
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "served"}, "spec": spec});
        let made = self.create(&format!("/api/v1/namespaces/{namespace}/services"), &service)?;
        self.settle().context("before the first fault")?;
        std::thread::sleep(MARGIN);
        let address = made["spec"]["clusterIP"].as_str().context("the Service has no address")?;
        Ok(SocketAddr::new(address.parse()?, 80))
    }

    fn step(&mut self, disks: &[(String, Disk)], step: &Step, load: &Load, disturbances: &mut Vec<Disturbance>) -> Result<()> {
        std::thread::sleep(step.calm);
        let (began, failed) = (self.clock.now(), failures(load));
        let place = if step.node.is_empty() { "the cluster" } else { &step.node };
        self.note(&format!("{place}: {}", step.fault));
        inject(self.cluster, disks, step)?;
        let over = self.clock.now();
        self.cluster.up().context("every server ready and every node Ready again")?;
        self.settle()?;
        let settled = self.clock.now();
        if step.fault.disturbs_services(&step.node) {
            let nodes: BTreeSet<String> = self.cluster.records().nodes().into_iter().collect();
            disturbances.push(Disturbance { nodes, began, ended: settled + MARGIN });
            std::thread::sleep(MARGIN);
        }
        let requests = failures(load) - failed;
        self.note(&format!(
            "as declared again {:.1} s after the fault; {requests} requests failed",
            (settled - over).as_secs_f64()
        ));
        Ok(())
    }

    fn judge(&mut self, load: &Load, disturbances: &[Disturbance], span: (Duration, Duration)) -> Result<()> {
        let list = self.get(&format!("/api/v1/namespaces/{}/configmaps", self.namespace()))?;
        let items = || list["items"].as_array().into_iter().flatten();
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let versions: BTreeMap<String, u64> = items().map(|item| (name(item), version(item))).collect();
        let number = |item: &Value| item["data"]["number"].as_str()?.parse().ok();
        let numbers: BTreeMap<String, u64> = items().filter_map(|item| Some((name(item), number(item)?))).collect();
        let (created, updated) = (load.writers.created.all(), load.writers.updated.all());
        self.find(acknowledged::lost(&created, &versions));
        self.find(acknowledged::gone_back(&updated, &numbers));
        let ours: BTreeMap<String, u64> = versions.into_iter().filter(|(name, _)| name != "kube-root-ca.crt").collect();
        // The last event may still be on its way.
        let _ = eventually(SETTLED / 3, "the watch has told everything", || {
            Ok(watched::missed(&load.configmaps.events.all(), &ours).is_empty().then_some(()))
        });
        let events = load.configmaps.events.all();
        self.find(watched::disorder(&events));
        self.find(watched::missed(&events, &ours));
        self.find(watched::disorder(&load.pods.events.all()));
        let leases = load.leases.events.all();
        let mut changes = 0;
        for lease in ["kube-controller-manager", "kube-scheduler"] {
            let of: Vec<_> = leases.iter().filter(|event| event.name == lease).cloned().collect();
            self.find(leadership::overlaps(&of));
            changes += leadership::changes(&of);
        }
        self.find(once::twice(&load.pods.events.all()));
        let requests = load.requests.record.all();
        self.find(availability::failures(&requests, disturbances));
        let silence = availability::longest_silence(&[created.as_slice(), &updated].concat(), span.0, span.1);
        if silence > self.scenario.silence_max {
            self.find(vec![format!("no write was acknowledged for {:.1} s", silence.as_secs_f64())]);
        }
        let failed = requests.iter().filter(|request| request.failure.is_some()).count();
        self.note(&format!(
            "{} creates and {} updates acknowledged, longest silence {:.1} s",
            created.len(),
            updated.len(),
            silence.as_secs_f64()
        ));
        self.note(&format!("{} events of {} objects, leadership changed {changes} times", events.len(), ours.len()));
        self.note(&format!(
            "{failed} of {} requests failed, all of them where a fault explains it or listed above",
            requests.len()
        ));
        Ok(())
    }

    /// Takes the load away; then the nodes must have what they had before.
    fn clean_up(&mut self, before: &Footprint) -> Result<()> {
        let path = format!("/api/v1/namespaces/{}", self.namespace());
        self.runtime.block_on(self.api.call(Method::DELETE, &path, None))?;
        eventually(EMPTIED, "the namespace is gone", || Ok(self.get(&path).is_err().then_some(())))?;
        let records = self.cluster.records();
        let clean = eventually(SETTLED / 3, "nothing is left", || {
            Ok(leaks::left(before, &footprint(&records)?).is_empty().then_some(()))
        });
        if clean.is_err() {
            self.find(leaks::left(before, &footprint(&records)?));
        }
        Ok(())
    }
}

/// What the nodes have once each of them has rules for what every cluster has, and nothing changes any more.
fn steady(cluster: &Cluster) -> Result<Footprint> {
    let mut last = Footprint::new();
    eventually(SETTLED, "the nodes are set up", || {
        let now = footprint(&cluster.records())?;
        let has_rules = now.iter().all(|((_, kind), count)| *kind != footprint::ELEMENTS || *count > 0);
        let is_steady = has_rules && now == last;
        last = now;
        Ok(is_steady.then(|| last.clone()))
    })
}

fn failures(load: &Load) -> usize {
    load.requests.record.all().iter().filter(|request| request.failure.is_some()).count()
}
