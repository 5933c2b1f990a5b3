//! Brings a local cluster up, and waits until it can be used.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use kontiki_api::resources::NODES;
use kontiki_client::ListParams;
use serde::Deserialize;

use super::{
    forwarder::{node_ports, probe::Probe},
    link, mounts,
    paths::Paths,
    provision, supervisor, trouble,
};
use crate::{
    kubeconfig::{self, Access},
    shape::{API_PORT, Shape},
};

/// How long a cluster may take until every server is ready.
const DEADLINE: Duration = Duration::from_secs(60);
/// Wait between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Starts the cluster, or finds it running; returns when every server is ready and every node Ready.
/// `registries` names a file with mirrors for the nodes.
pub fn run(shape: &Shape, registries: Option<&Path>) -> Result<()> {
    shape.validate()?;
    mounts::check(shape)?;
    let began = Instant::now();
    let progress = ProgressBar::new(u64::from(shape.servers));
    progress.set_style(ProgressStyle::with_template("{msg} {pos}/{len}")?);
    progress.set_message("keys and settings");
    let paths = Paths::new(&shape.name);
    let (administrator, authority) = provision::provision(&paths, shape, registries)?;
    for node in shape.nodes() {
        trouble::start(&paths, &node)?;
    }
    if supervisor::running(&paths)?.is_none() {
        supervisor::start(&paths, &shape.name)?;
    }
    progress.set_message("servers ready");
    wait_ready(&paths, shape, &authority, &progress)?;
    let servers_after = began.elapsed();
    progress.set_length(shape.nodes().len() as u64);
    progress.set_position(0);
    progress.set_message("nodes Ready");
    wait_nodes(&paths, shape, &progress)?;
    progress.finish_and_clear();
    let config = kubeconfig::default_path()?;
    let context = shape.context();
    let server = format!("https://127.0.0.1:{}", shape.port);
    kubeconfig::merge_into(&config, &Access { context: &context, server: &server, authority: &authority, user: &administrator })?;
    println!("cluster {}: {} servers ready after {:.1} s", shape.name, shape.servers, servers_after.as_secs_f32());
    println!("cluster {}: {} nodes Ready after {:.1} s", shape.name, shape.nodes().len(), began.elapsed().as_secs_f32());
    println!("kubectl's current context is {context} in {}", config.display());
    Ok(())
}

fn wait_ready(paths: &Paths, shape: &Shape, authority: &str, progress: &ProgressBar) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    // The file is there a moment before the namespace is bound to it.
    while !link::is_pinned(&paths.link()) {
        if Instant::now() > end {
            bail!("the supervisor does not start; see {}", paths.supervisor_log().display());
        }
        std::thread::sleep(POLL);
    }
    let probe = Probe::new(authority)?;
    let servers: Vec<_> = shape.server_nodes();
    let (count, progress) = (servers.len(), progress.clone());
    let ready = link::inside(&paths.link(), async move |_| {
        loop {
            let asks = servers.iter().map(|node| probe.is_ready(SocketAddr::from((node.address, API_PORT))));
            let ready = futures::future::join_all(asks).await.into_iter().filter(|ready| *ready).count();
            progress.set_position(ready as u64);
            if ready == count || Instant::now() > end {
                return Ok(ready);
            }
            tokio::time::sleep(POLL).await;
        }
    })
    .context("ask the servers")?;
    if ready < count {
        let nodes = paths.root().join("nodes");
        bail!("{ready} of {count} servers were ready after {DEADLINE:?}; their logs lie below {}", nodes.display());
    }
    Ok(())
}

/// What matters of a node.
#[derive(Deserialize)]
struct NodeStatus {
    #[serde(default)]
    status: Conditions,
}

#[derive(Default, Deserialize)]
struct Conditions {
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

impl NodeStatus {
    fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.r#type == "Ready" && condition.status == "True")
    }
}

fn wait_nodes(paths: &Paths, shape: &Shape, progress: &ProgressBar) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    let client = node_ports::client(paths, shape)?;
    let (count, progress) = (shape.nodes().len(), progress.clone());
    let ready = link::inside(&paths.link(), async move |_| {
        let mut ready = 0;
        while ready < count && Instant::now() < end {
            // A server that is being started may refuse; the deadline ends it.
            if let Ok(nodes) = client.list::<NodeStatus>(NODES, "", &ListParams::default()).await {
                ready = nodes.items.iter().filter(|node| node.is_ready()).count();
                progress.set_position(ready as u64);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(ready)
    })
    .context("ask for the nodes")?;
    if ready < count {
        let nodes = paths.root().join("nodes");
        bail!("{ready} of {count} nodes were Ready after {DEADLINE:?}; their logs lie below {}", nodes.display());
    }
    Ok(())
}
