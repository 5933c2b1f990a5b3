//! Starts a member: opens its files, joins consensus, serves clients.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kontiki_proto::kontiki::store::v1 as wire_pb;
use openraft::async_runtime::WatchReceiver;
use openraft::{ServerState, SnapshotPolicy};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use wire_pb::peer_server::PeerServer;

use super::consensus::Consensus;
use super::core::{Confirmation, Core};
use super::handle::Handle;
use super::lessor::{self, Lessor};
use super::options::{Options, member_id};
use super::waiters::Waiters;
use super::{propose, read_index};
use crate::kv::Leadership;
use crate::limits::PEER_MESSAGE_BYTES_MAX;
use crate::metrics::Metrics;
use crate::raft::log::{LogStore, OpenError};
use crate::raft::machine::Machine;
use crate::raft::network::Network;
use crate::raft::server::PeerService;
use crate::raft::types::{Peer, Raft};
use crate::state::database::StateError;
use crate::state::rocks::Budget;
use crate::state::store::{Identity, State};
use crate::tls::{self, Connector, TlsError};

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
    /// A certificate or key is unusable.
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
    /// A file or port is unusable.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The log is unusable.
    #[error("cannot open the log")]
    Log(#[from] OpenError),
    /// The state is unusable.
    #[error("cannot open the state")]
    State(#[from] StateError),
    /// Consensus does not start.
    #[error("cannot start consensus: {0}")]
    Raft(String),
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> StartError {
    let what = what.into();
    move |source| StartError::Io { what, source }
}

/// The store as a service.
pub struct Service;

/// What is left over for the tasks once the shared part is made.
struct Queues {
    proposals: mpsc::Receiver<u64>,
    confirmations: mpsc::Receiver<Confirmation>,
}

impl Service {
    /// Starts a member. Its state is recovered to what was committed when it stopped.
    pub async fn start(options: Options) -> Result<Handle, StartError> {
        let (listeners, address) = bind(&options).await?;
        let connector = Connector::new(options.peer_tls.as_ref())?;
        let peer_tls = options.peer_tls.as_ref().map(|files| tls::server_config(files, true)).transpose()?;
        let client_tls = options.client_tls.as_ref().map(|files| tls::server_config(files, false)).transpose()?;
        let runtime = Consensus::start().map_err(io("cannot start the consensus runtime"))?;
        let budget = Arc::new(Budget::new(options.rocksdb_bytes));
        let opening = open(options, address, connector, budget.clone(), runtime.handle());
        let opened = tokio::task::spawn_blocking(opening).await;
        let (core, network, queues) = opened.map_err(|error| StartError::Raft(error.to_string()))??;
        let (peers, clients) = listeners;
        // Everything of consensus is made on its own runtime, so that it never runs on another.
        let consensus = runtime.handle().spawn(consensus(core.clone(), network, queues, peers, peer_tls, budget));
        let joined = consensus.await.map_err(|error| StartError::Raft(error.to_string()))?;
        if let Err(error) = joined {
            core.stop.cancel();
            return Err(error);
        }
        let handle = Handle::new(core.clone(), runtime);
        crate::etcd::serve(handle.clone(), clients, client_tls, core.stop.clone());
        Ok(handle)
    }
}

async fn bind(options: &Options) -> Result<((std::net::TcpListener, TcpListener), std::net::SocketAddr), StartError> {
    let peers = std::net::TcpListener::bind(options.listen_peer)
        .map_err(io(format!("cannot listen for peers on {}", options.listen_peer)))?;
    peers.set_nonblocking(true).map_err(io("cannot listen for peers"))?;
    let clients = TcpListener::bind(options.listen_client)
        .await
        .map_err(io(format!("cannot listen for clients on {}", options.listen_client)))?;
    let address = clients.local_addr().map_err(io("cannot listen for clients"))?;
    Ok(((peers, clients), address))
}

type Opened = Result<(Arc<Core>, Network, Queues), StartError>;

/// Opens files and puts the shared part together. Blocks on the disk.
fn open(
    options: Options,
    client_address: std::net::SocketAddr,
    connector: Connector,
    budget: Arc<Budget>,
    runtime: tokio::runtime::Handle,
) -> impl FnOnce() -> Opened + Send + 'static {
    move || {
        let members: BTreeMap<u64, Peer> = options
            .initial_cluster
            .iter()
            .map(|(name, url)| (member_id(name, url), Peer { name: name.clone(), url: url.clone() }))
            .collect();
        let me = members.iter().find(|(_, peer)| peer.name == options.name).map(|(id, _)| *id);
        let member_id =
            me.ok_or_else(|| StartError::Options(format!("member {:?} is not part of the initial cluster", options.name)))?;
        let metrics = Arc::new(Metrics::default());
        create(&options.data_dir)?;
        let log = once_free(|| LogStore::open(&options.data_dir.join("log"), &budget.options(), metrics.clone()))?;
        let identity = Identity { cluster_id: options.cluster_id(), member_id };
        let state = Arc::new(once_free(|| State::open(&options.data_dir.join("state"), identity, budget.clone()))?);
        let network = Network::new(connector, state.clone());
        let (waiters, proposals) = Waiters::new(member_id);
        let (sender, confirmations) = mpsc::channel(crate::limits::PROPOSALS_WAITING_MAX);
        // Lazy channels spawn tasks where they are made.
        let entered = runtime.enter();
        let peers = members.iter().map(|(id, peer)| (*id, network.client(&peer.url))).collect();
        drop(entered);
        let core = Core {
            options,
            client_address,
            member_id,
            members,
            state,
            log,
            waiters: Arc::new(waiters),
            metrics,
            raft: OnceLock::new(),
            peers,
            leader: watch::Sender::new(None),
            leadership: watch::Sender::new(Leadership { member_id, leader_id: None, term: 0 }),
            confirmations: sender,
            lessor: Lessor::default(),
            stop: CancellationToken::new(),
            runtime,
        };
        Ok((Arc::new(core), network, Queues { proposals, confirmations }))
    }
}

/// A member that just stopped may hold its files for a moment longer: readers finish what they began.
const FILES_FREE_WITHIN: Duration = Duration::from_secs(5);

/// Opens what an earlier member may not have let go of yet. Blocks.
fn once_free<T, E: std::error::Error>(open: impl Fn() -> Result<T, E>) -> Result<T, E> {
    let deadline = Instant::now() + FILES_FREE_WITHIN;
    loop {
        match open() {
            Err(error) if is_locked(&error) && Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            opened => return opened,
        }
    }
}

/// RocksDB tells a taken lock from other errors by its text alone.
fn is_locked(error: &dyn std::error::Error) -> bool {
    let lock = |text: String| text.contains("lock hold by current process") || text.contains("While lock file");
    std::iter::successors(Some(error), |error| error.source()).any(|error| lock(error.to_string()))
}

fn create(data_dir: &Path) -> Result<(), StartError> {
    std::fs::create_dir_all(data_dir).map_err(io(format!("cannot create {}", data_dir.display())))
}

fn config(options: &Options) -> Result<openraft::Config, StartError> {
    let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = openraft::Config {
        cluster_name: "kontiki".to_owned(),
        heartbeat_interval: milliseconds(options.heartbeat),
        election_timeout_min: milliseconds(options.election.0),
        election_timeout_max: milliseconds(options.election.1),
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.flush_entries),
        max_in_snapshot_log_to_keep: options.keep_entries,
        replication_lag_threshold: options.keep_entries,
        // A peer that comes back should be noticed well within a second.
        backoff: "50ms 100ms 200ms ...400ms".to_owned(),
        // Installing may take a while on a slow disk.
        install_snapshot_timeout: 60_000,
        ..openraft::Config::default()
    };
    config.validate().map_err(|error| StartError::Options(error.to_string()))
}

async fn consensus(
    core: Arc<Core>,
    network: Network,
    queues: Queues,
    listener: std::net::TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    budget: Arc<Budget>,
) -> Result<(), StartError> {
    let machine = Machine::new(core.state.clone(), core.waiters.clone(), core.metrics.clone());
    let config = Arc::new(config(&core.options)?);
    let failed = |error: &dyn std::fmt::Display| StartError::Raft(error.to_string());
    let raft = Raft::new(core.member_id, config, network, core.log.clone(), machine).await;
    let raft = raft.map_err(|error| failed(&error))?;
    core.raft.get_or_init(|| raft.clone());
    let listener = TcpListener::from_std(listener).map_err(io("cannot listen for peers"))?;
    let incoming = ReceiverStream::new(tls::accept(listener, tls, core.stop.clone()));
    let service = PeerServer::new(PeerService::new(raft.clone(), core.clone(), budget))
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
    let stop = core.stop.clone();
    tokio::spawn(async move {
        let server = tonic::transport::Server::builder()
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(8 << 20)
            .add_service(service);
        if let Err(error) = server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await {
            tracing::error!(%error, "peers are no longer served");
        }
    });
    tokio::spawn(follow_leader(core.clone(), raft.clone()));
    tokio::spawn(propose::run(core.clone(), queues.proposals));
    tokio::spawn(read_index::run(core.clone(), queues.confirmations));
    tokio::spawn(lessor::run(core.clone()));
    tokio::spawn(introduce(core.clone()));
    if !raft.is_initialized().await.map_err(|error| failed(&error))? {
        // Every member begins with the same membership; one that the others reached first is told so.
        if let Err(error) = raft.initialize(core.members.clone()).await {
            tracing::debug!(%error, "the cluster exists already");
        }
    }
    Ok(())
}

/// Keeps what the rest of the member knows of the leader up to date.
async fn follow_leader(core: Arc<Core>, raft: Raft) {
    let mut metrics = raft.server_metrics();
    let mut data = raft.data_metrics();
    loop {
        {
            let now = metrics.borrow_and_update();
            let leader_id = now.current_leader;
            let term = now.vote.leader_id.term;
            let leader = leader_id.map(|_| now.vote.leader_id);
            core.state.set_term(term);
            let changed = core.leader.send_if_modified(|current| std::mem::replace(current, leader) != leader);
            if changed && leader.is_some() {
                core.metrics.leader_changes.inc();
            }
            core.metrics.has_leader.set(i64::from(leader.is_some()));
            core.metrics.is_leader.set(i64::from(now.state == ServerState::Leader));
            let seen = Leadership { member_id: core.member_id, leader_id, term };
            core.leadership.send_if_modified(|current| std::mem::replace(current, seen) != seen);
        }
        {
            let now = data.borrow_and_update();
            let index = |id: Option<crate::raft::types::LogId>| id.map_or(0, |id| id.index.cast_signed());
            core.metrics.proposals_committed.set(index(now.cluster_committed));
            core.metrics.proposals_applied.set(index(now.last_applied));
        }
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { break },
            changed = data.changed() => if changed.is_err() { break },
            () = core.stop.cancelled() => break,
        }
    }
    // Without consensus nobody is known to lead.
    core.leader.send_replace(None);
    core.leadership.send_modify(|leadership| leadership.leader_id = None);
}

/// Tells the cluster this member's name and client URLs, if it does not know them.
async fn introduce(core: Arc<Core>) {
    let attributes = wire_pb::Attributes {
        member_id: core.member_id,
        name: core.options.name.clone(),
        client_urls: core.options.advertise_client_urls.clone(),
    };
    while core.state.attributes(core.member_id).as_ref() != Some(&attributes) {
        let operation = wire_pb::proposal::Operation::Attributes(attributes.clone());
        if let Err(error) = propose::submit(&core, operation).await {
            tracing::debug!(%error, "this member is not introduced yet");
        }
        if core.stop.is_cancelled() {
            return;
        }
    }
}
