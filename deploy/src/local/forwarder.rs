//! Leads a listener on 127.0.0.1 to a server whose `/readyz` is 200.
//!
//! The listener belongs to the host's network namespace; connections into the cluster are made on one
//! thread that has entered the link's. A socket stays in the namespace it was made in, so accepted
//! connections are simply handed over.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{link, paths::Paths};
use crate::{
    local::forwarder::probe::Probe,
    shape::{API_PORT, Shape},
};

pub mod probe;

/// How often each server is asked whether it is ready.
const PROBE_PERIOD: Duration = Duration::from_millis(250);
/// How long a connection to a server or node may take to come about.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);
/// How long a client waits while no server is ready before its connection is closed.
const READY_DEADLINE: Duration = Duration::from_secs(10);
/// Accepted connections that wait to be handed to the link's thread.
const PENDING_MAX: usize = 256;

/// The forwarder's two halves.
pub struct Forwarder {
    listeners: JoinHandle<()>,
    link: JoinHandle<()>,
}

impl Forwarder {
    /// Waits until both halves have ended.
    pub async fn join(self) {
        for half in [self.listeners, self.link] {
            if let Err(error) = half.await {
                tracing::error!("forwarder: {error}");
            }
        }
    }
}

/// Starts forwarding. Fails if the API's port on 127.0.0.1 is taken.
pub async fn start(paths: &Paths, shape: &Shape, cancel: CancellationToken) -> Result<Forwarder> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, shape.port));
    let api =
        TcpListener::bind(address).await.with_context(|| format!("listen on {address}: choose another port with --port"))?;
    let (sender, receiver) = mpsc::channel(PENDING_MAX);
    let listeners = tokio::spawn(accept(api, sender, cancel.clone()));
    let (path, shape, paths) = (paths.link(), shape.clone(), paths.clone());
    let link = tokio::task::spawn_blocking(move || {
        let result = link::inside(&path, async move |_| connect_all(&paths, &shape, receiver, cancel).await);
        if let Err(error) = result {
            tracing::error!("forwarder: {error:#}");
        }
    });
    Ok(Forwarder { listeners, link })
}

/// Accepts in the host's namespace.
async fn accept(listener: TcpListener, sender: mpsc::Sender<std::net::TcpStream>, cancel: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!("accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if sender.send(stream).await.is_err() {
            return;
        }
    }
}

/// Servers that are ready, in the order in which connections are spread over them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ready(Vec<Ipv4Addr>);

async fn connect_all(
    paths: &Paths,
    shape: &Shape,
    mut receiver: mpsc::Receiver<std::net::TcpStream>,
    cancel: CancellationToken,
) -> Result<()> {
    let authority = std::fs::read_to_string(paths.pki().join("ca.crt")).context("read the cluster's authority")?;
    let (ready_sender, ready) = watch::channel(Ready::default());
    let servers: Vec<Ipv4Addr> = shape.server_nodes().iter().map(|node| node.address).collect();
    let probes = probe_all(Probe::new(&authority)?, servers, ready_sender, cancel.clone());
    let connections = async {
        let mut turn = 0_usize;
        while let Some(accepted) = tokio::select! { next = receiver.recv() => next, () = cancel.cancelled() => None } {
            turn = turn.wrapping_add(1);
            tokio::spawn(forward(accepted, ready.clone(), turn));
        }
    };
    tokio::join!(probes, connections);
    Ok(())
}

/// Keeps asking every server, all at once, so that one that hangs delays no news of the others.
async fn probe_all(probe: Probe, servers: Vec<Ipv4Addr>, ready: watch::Sender<Ready>, cancel: CancellationToken) {
    loop {
        let answers = servers.iter().map(|server| probe.is_ready(SocketAddr::from((*server, API_PORT))));
        let answers = futures::future::join_all(answers).await;
        let now: Vec<_> = servers.iter().zip(answers).filter(|(_, is_ready)| *is_ready).map(|(server, _)| *server).collect();
        ready.send_if_modified(|before| {
            let changed = before.0 != now;
            if changed {
                tracing::info!(?now, "servers that are ready");
                before.0.clone_from(&now);
            }
            changed
        });
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(PROBE_PERIOD) => {}
        }
    }
}

async fn forward(accepted: std::net::TcpStream, mut ready: watch::Receiver<Ready>, turn: usize) {
    let wait = ready.wait_for(|ready| !ready.0.is_empty());
    let candidates = match tokio::time::timeout(READY_DEADLINE, wait).await {
        Ok(Ok(ready)) => ready.0.clone(),
        _ => return,
    };
    let Ok(mut near) = TcpStream::from_std(accepted) else { return };
    for step in 0..candidates.len() {
        let server = candidates[(turn + step) % candidates.len()];
        let connect = TcpStream::connect(SocketAddr::from((server, API_PORT)));
        if let Ok(Ok(mut far)) = tokio::time::timeout(CONNECT_DEADLINE, connect).await {
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            // Either side may end the connection as it likes; there is nobody to tell.
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            return;
        }
    }
}
