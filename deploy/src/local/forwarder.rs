//! Leads 127.0.0.1 into the cluster: the API's port to a server whose `/readyz` is 200, node ports to a node.
//!
//! The listeners belong to the host's network namespace; connections into the cluster are made on one
//! thread that has entered the link's. A socket stays in the namespace it was made in, so accepted
//! connections are simply handed over.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{egress, link, paths::Paths};
use crate::{
    local::forwarder::probe::Probe,
    shape::{API_PORT, Role, Shape},
};

pub mod node_ports;
pub mod probe;

/// How often each server is asked whether it is ready.
const PROBE_PERIOD: Duration = Duration::from_millis(250);
/// How long a connection to a server or node may take to come about.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);
/// How long a client waits while no server is ready before its connection is closed.
const READY_DEADLINE: Duration = Duration::from_secs(10);
/// How long a server may not be ready until its connections are ended, where another one is: whoever has one would wait for a
/// server that stands still or is cut off, and finds the other one with the next.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// Accepted connections that wait to be handed to the link's thread.
const PENDING_MAX: usize = 256;
/// Connections that the kernel keeps for us meanwhile, as many as it allows by itself.
const BACKLOG: u32 = 4096;

/// What a client of 127.0.0.1 wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Api,
    NodePort(u16),
    /// A port of one node.
    Node(SocketAddr),
}

/// A connection on its way into the cluster.
struct Accepted {
    stream: std::net::TcpStream,
    target: Target,
}

/// The forwarder's parts.
pub struct Forwarder {
    tasks: Vec<JoinHandle<()>>,
}

impl Forwarder {
    /// Waits until all parts have ended.
    pub async fn join(self) {
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!("forwarder: {error}");
            }
        }
    }
}

/// Listens with room for many connections that come at once: of Rust's 128 places, some of a few hundred clients would find none.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Starts forwarding. Fails if the API's port on 127.0.0.1 is taken.
pub async fn start(paths: &Paths, shape: &Shape, cancel: CancellationToken) -> Result<Forwarder> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, shape.port));
    let api = listen(address).with_context(|| format!("listen on {address}: choose another port with --port"))?;
    let mapped = mapped(shape)?;
    let (sender, receiver) = mpsc::channel(PENDING_MAX);
    let (egress_sender, egress_receiver) = mpsc::channel(PENDING_MAX);
    let (ports_sender, ports) = watch::channel(BTreeSet::new());
    let (path, shape, paths, stop) = (paths.link(), shape.clone(), paths.clone(), cancel.clone());
    let link = tokio::task::spawn_blocking(move || {
        let result = link::inside(&path, async move |_| {
            let client = node_ports::client(&paths, &shape)?;
            let follow = node_ports::follow(client, ports_sender, stop.clone());
            let egress = egress::accept(egress_sender, stop.clone());
            let follow = async {
                follow.await;
                anyhow::Ok(())
            };
            tokio::try_join!(connect_all(&paths, &shape, receiver, stop.clone()), follow, egress).map(|_| ())
        });
        if let Err(error) = result {
            tracing::error!("forwarder: {error:#}");
        }
    });
    let mut tasks: Vec<_> = mapped
        .into_iter()
        .map(|(listener, target)| tokio::spawn(accept(listener, target, sender.clone(), cancel.clone())))
        .collect();
    tasks.extend([
        link,
        tokio::spawn(accept(api, Target::Api, sender.clone(), cancel.clone())),
        tokio::spawn(listen_on_ports(ports, sender, cancel.clone())),
        tokio::spawn(egress::serve(egress_receiver, cancel)),
    ]);
    Ok(Forwarder { tasks })
}

/// Listeners on the ports that the shape leads to single nodes.
fn mapped(shape: &Shape) -> Result<Vec<(TcpListener, Target)>> {
    let mut listeners = Vec::new();
    for node in shape.nodes() {
        for port in shape.extras(&node.name).ports {
            let address = SocketAddr::from((port.listen, port.host));
            let listener = listen(address).with_context(|| format!("listen on {address} for {}", node.name))?;
            listeners.push((listener, Target::Node(SocketAddr::from((node.address, port.node)))));
        }
    }
    Ok(listeners)
}

/// Keeps a listener for each node port. A port that another program has is left to it.
async fn listen_on_ports(mut ports: watch::Receiver<BTreeSet<u16>>, sender: mpsc::Sender<Accepted>, cancel: CancellationToken) {
    let mut listening: BTreeMap<u16, CancellationToken> = BTreeMap::new();
    loop {
        let wanted = ports.borrow_and_update().clone();
        listening.retain(|port, stop| {
            let keep = wanted.contains(port);
            if !keep {
                stop.cancel();
            }
            keep
        });
        for port in wanted {
            if listening.contains_key(&port) {
                continue;
            }
            match listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
                Ok(listener) => {
                    let stop = cancel.child_token();
                    tokio::spawn(accept(listener, Target::NodePort(port), sender.clone(), stop.clone()));
                    listening.insert(port, stop);
                }
                Err(error) => tracing::warn!(port, %error, "cannot listen for a node port"),
            }
        }
        tokio::select! {
            changed = ports.changed() => if changed.is_err() { return },
            () = cancel.cancelled() => return,
        }
    }
}

/// Accepts in the host's namespace.
async fn accept(listener: TcpListener, target: Target, sender: mpsc::Sender<Accepted>, cancel: CancellationToken) {
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
        if sender.send(Accepted { stream, target }).await.is_err() {
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
    mut receiver: mpsc::Receiver<Accepted>,
    cancel: CancellationToken,
) -> Result<()> {
    let authority = std::fs::read_to_string(paths.pki().join("ca.crt")).context("read the cluster's authority")?;
    let (ready_sender, ready) = watch::channel(Ready::default());
    let servers: Vec<Ipv4Addr> = shape.server_nodes().iter().map(|node| node.address).collect();
    let probes = probe_all(Probe::new(&authority)?, servers, ready_sender, cancel.clone());
    // Agents first: they are there for work, and any node leads to any service.
    let mut nodes = shape.nodes();
    nodes.sort_by_key(|node| node.role == Role::Server);
    let nodes: Vec<Ipv4Addr> = nodes.iter().map(|node| node.address).collect();
    let connections = async {
        let mut turn = 0_usize;
        while let Some(accepted) = tokio::select! { next = receiver.recv() => next, () = cancel.cancelled() => None } {
            turn = turn.wrapping_add(1);
            tokio::spawn(forward(accepted, ready.clone(), nodes.clone(), turn));
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

async fn forward(accepted: Accepted, mut ready: watch::Receiver<Ready>, nodes: Vec<Ipv4Addr>, turn: usize) {
    let at = |nodes: Vec<Ipv4Addr>, port| nodes.into_iter().map(|node| SocketAddr::from((node, port))).collect();
    let (candidates, turn): (Vec<SocketAddr>, _) = match accepted.target {
        Target::Node(address) => (vec![address], 0),
        Target::NodePort(port) => (at(nodes, port), 0),
        Target::Api => {
            let wait = ready.wait_for(|ready| !ready.0.is_empty());
            match tokio::time::timeout(READY_DEADLINE, wait).await {
                Ok(Ok(ready)) => (at(ready.0.clone(), API_PORT), turn),
                _ => return,
            }
        }
    };
    let Ok(mut near) = TcpStream::from_std(accepted.stream) else { return };
    for step in 0..candidates.len() {
        let connect = TcpStream::connect(candidates[(turn + step) % candidates.len()]);
        if let Ok(Ok(mut far)) = tokio::time::timeout(CONNECT_DEADLINE, connect).await {
            // A connection that is slower than it could be still works.
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let server = far.peer_addr().map(|address| address.ip());
            tokio::select! {
                // Either side may end the connection as it likes; there is nobody to tell.
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                () = lost(server.ok(), ready), if accepted.target == Target::Api => {}
            }
            return;
        }
    }
}

/// Ends once a server has not been ready for [`LOST_AFTER`] while another one is.
async fn lost(server: Option<IpAddr>, mut ready: watch::Receiver<Ready>) {
    let is_elsewhere = |ready: &Ready| !ready.0.is_empty() && !ready.0.iter().any(|one| Some(IpAddr::from(*one)) == server);
    while ready.wait_for(is_elsewhere).await.is_ok() {
        let back = ready.wait_for(|ready| !is_elsewhere(ready));
        match tokio::time::timeout(LOST_AFTER, back).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => break,
            Err(_) => return,
        }
    }
    // Nobody asks the servers any more.
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 89, 0, 11), Ipv4Addr::new(10, 89, 0, 12)];

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_its_server_is_lost_and_another_is_there() {
        let (sender, ready) = watch::channel(Ready(SERVERS.to_vec()));
        let mut ending = tokio::spawn(lost(Some(SERVERS[0].into()), ready));
        let still = async |ending: &mut JoinHandle<()>| tokio::time::timeout(LOST_AFTER * 3 / 4, ending).await.is_err();
        assert!(still(&mut ending).await && still(&mut ending).await);
        sender.send_replace(Ready(vec![]));
        assert!(still(&mut ending).await && still(&mut ending).await, "nobody else is there");
        sender.send_replace(Ready(vec![SERVERS[1]]));
        assert!(still(&mut ending).await);
        sender.send_replace(Ready(SERVERS.to_vec()));
        assert!(still(&mut ending).await, "it came back");
        sender.send_replace(Ready(vec![SERVERS[1]]));
        assert!(still(&mut ending).await);
        tokio::time::timeout(LOST_AFTER, ending).await.unwrap().unwrap();
    }
}
