//! Starts a member: opens its files, joins consensus, serves clients.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::consensus::Consensus;
use super::core::{Confirmation, Core};
use super::handle::Handle;
use super::heard::Heard;
use super::identity::{self, Begin};
use super::lessor::Lessor;
use super::membership::Reachable;
use super::options::Options;
use super::run::{Entrance, consensus};
use super::waiters::Waiters;
use super::{alone, join};
use crate::auth::tokens::Tokens;
use crate::etcd::Serves;
use crate::kv::Leadership;
use crate::metrics::Metrics;
use crate::place::{Address, Place};
use crate::raft::log::device::Device;
use crate::raft::log::{LogStore, OpenError};
use crate::raft::network::Network;
use crate::socket::{BindError, Bound};
use crate::state::database::StateError;
use crate::state::rocks::Budget;
use crate::state::store::{Identity, State};
use crate::tls::{self, Connection, Connector, Dial, TlsError};

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
    /// A certificate or key is unusable.
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
    /// An address cannot be listened on.
    #[error("cannot listen for {whom} on {address}")]
    Listen {
        /// Who would come in there.
        whom: &'static str,
        /// The address.
        address: Address,
        /// The reason.
        source: BindError,
    },
    /// A file is unusable.
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
pub(super) struct Queues {
    pub(super) proposals: mpsc::Receiver<u64>,
    pub(super) confirmations: mpsc::Receiver<Confirmation>,
}

impl Service {
    /// Starts a member. Its state is recovered to what was committed when it stopped.
    pub async fn start(options: Options) -> Result<Handle, StartError> {
        let listeners = Listeners::bind(&options).await?;
        let peer_tls = options.peer_tls.as_ref().map(tls::server_config).transpose()?;
        let client_tls = options.client_tls.as_ref().map(tls::server_config).transpose()?;
        let entrance = |(bound, secure)| Entrance::Socket(bound, peer_tls.clone().filter(|_| secure));
        let world = World {
            log: None,
            connector: Connector::new(options.peer_tls.as_ref())?,
            peers: listeners.peers.into_iter().map(entrance).collect(),
            client_address: listeners.client_address,
        };
        let runtime = Consensus::start().map_err(io("cannot start the consensus runtime"))?;
        let handle = member(options, world, runtime).await?;
        crate::etcd::serve(&handle, listeners.clients, client_tls);
        Ok(handle)
    }

    /// Starts a member on the caller's runtime, with the caller's disk and network. It listens
    /// nowhere: whoever has the handle is its client.
    pub async fn start_within(options: Options, surroundings: Surroundings) -> Result<Handle, StartError> {
        let Surroundings { log, dial, peers } = surroundings;
        let world = World {
            log: Some(log),
            connector: Connector::over(dial),
            peers: vec![Entrance::Streams(peers)],
            client_address: Address::Port("0.0.0.0:0".to_owned()),
        };
        member(options, world, Consensus::of_caller()).await
    }
}

/// What stands in for the machine under a member.
pub struct Surroundings {
    /// The log's disk. The state machine's files are in the data directory all the same.
    pub log: Arc<dyn Device>,
    /// The way to peers.
    pub dial: Arc<dyn Dial>,
    /// Peers that come in.
    pub peers: mpsc::Receiver<std::io::Result<Connection>>,
}

/// What a member is made of beside its options.
struct World {
    log: Option<Arc<dyn Device>>,
    connector: Connector,
    peers: Vec<Entrance>,
    client_address: Address,
}

async fn member(options: Options, world: World, runtime: Consensus) -> Result<Handle, StartError> {
    create(&options.data_dir)?;
    let begin = match identity::read(&options.data_dir)? {
        Some(begin) => begin,
        None if identity::joins(&options) => join::identity(&options, world.connector.clone()).await?,
        None => identity::of_new(&options)?,
    };
    let budget = Arc::new(Budget::new(options.rocksdb_bytes));
    let (members, peers) = (begin.members.clone(), world.peers);
    let parts =
        Parts { log: world.log, connector: world.connector, client_address: world.client_address, budget: budget.clone() };
    let opening = open(options, begin, parts, runtime.handle());
    let opened = crate::blocking::run(opening).await;
    let (core, queues) = opened.map_err(|error| StartError::Raft(error.to_string()))??;
    // Everything of consensus is made on its own runtime, so that it never runs on another.
    let consensus = runtime.handle().spawn(consensus(core.clone(), members, queues, peers, budget));
    let joined = consensus.await.map_err(|error| StartError::Raft(error.to_string()))?;
    if let Err(error) = joined {
        core.stop.cancel();
        return Err(error);
    }
    if core.options.initial_corrupt_check {
        super::corruption::check_self(&core).await.map_err(|error| StartError::Raft(error.to_string()))?;
    }
    Ok(Handle::new(core, runtime))
}

/// Everything that listens.
struct Listeners {
    peers: Vec<(Bound, bool)>,
    clients: Vec<crate::etcd::Listener>,
    client_address: Address,
}

impl Listeners {
    async fn bind(options: &Options) -> Result<Self, StartError> {
        let mut peers = Vec::new();
        for place in &options.listen_peer {
            peers.push((bind("peers", &place.address).await?, place.tls));
        }
        let serves =
            |places: &[Place], serves: Serves| places.iter().map(move |place| (place.clone(), serves)).collect::<Vec<_>>();
        let first = if options.listen_client_http.is_empty() { Serves::Everything } else { Serves::Grpc };
        let wanted = [
            serves(&options.listen_client, first),
            serves(&options.listen_client_http, Serves::Http),
            serves(&options.listen_metrics, Serves::Metrics),
        ];
        let mut clients = Vec::new();
        for (place, serves) in wanted.into_iter().flatten() {
            let bound = bind("clients", &place.address).await?;
            let socket = bound.listen().map_err(io("cannot listen for clients"))?;
            clients.push(crate::etcd::Listener { socket, tls: place.tls, serves });
        }
        let first = clients.first().ok_or_else(|| StartError::Options("no address for clients is given".to_owned()))?;
        let client_address = first.socket.address().map_err(io("cannot listen for clients"))?;
        Ok(Self { peers, clients, client_address })
    }
}

async fn bind(whom: &'static str, address: &Address) -> Result<Bound, StartError> {
    Bound::to(address).await.map_err(|source| StartError::Listen { whom, address: address.clone(), source })
}

type Opened = Result<(Arc<Core>, Queues), StartError>;

/// What the shared part is put together from.
struct Parts {
    log: Option<Arc<dyn Device>>,
    connector: Connector,
    client_address: Address,
    budget: Arc<Budget>,
}

/// Opens files and puts the shared part together. Blocks on the disk.
fn open(
    options: Options,
    begin: Begin,
    parts: Parts,
    runtime: tokio::runtime::Handle,
) -> impl FnOnce() -> Opened + Send + 'static {
    move || {
        let Parts { log, connector, client_address, budget } = parts;
        // The log's writer belongs to consensus, whatever runtime the caller has.
        let entered = runtime.enter();
        let Begin { cluster_id, member_id, .. } = begin;
        let metrics = Arc::new(Metrics::default());
        let tokens = Tokens::new(&options.auth_token, options.auth_token_ttl);
        let tokens = Arc::new(tokens.map_err(|error| StartError::Options(error.to_string()))?);
        let log = match log {
            Some(device) => LogStore::over(device, metrics.clone())?,
            None => {
                let log_dir = options.log_dir.clone().unwrap_or_else(|| options.data_dir.join("log"));
                create(&log_dir)?;
                once_free(|| LogStore::open(&log_dir, metrics.clone()))?
            }
        };
        let identity = Identity { cluster_id, member_id };
        let state_dir = options.data_dir.join("state");
        let state = Arc::new(once_free(|| State::open(&state_dir, identity, budget.clone(), tokens.clone()))?);
        if identity::read(&options.data_dir)?.is_none() {
            identity::write(&options.data_dir, &begin)?;
        }
        if options.force_new_cluster {
            alone::go_on_alone(&options, member_id, &log, &state)?;
        }
        drop(entered);
        let removed = CancellationToken::new();
        let network = Network::new(connector, state.clone(), removed.clone());
        let (waiters, proposals) = Waiters::new(member_id);
        let (sender, confirmations) = mpsc::channel(crate::limits::PROPOSALS_WAITING_MAX);
        let core = Core {
            options,
            client_address,
            cluster_id,
            member_id,
            state,
            log,
            waiters: Arc::new(waiters),
            metrics,
            raft: OnceLock::new(),
            network,
            peers: Mutex::default(),
            reachable: Reachable::default(),
            heard: Heard::default(),
            leader: watch::Sender::new(None),
            leadership: watch::Sender::new(Leadership { member_id, leader_id: None, term: 0 }),
            confirmations: sender,
            lessor: Lessor::default(),
            ready: watch::Sender::new(false),
            removed,
            failed: CancellationToken::new(),
            stop: CancellationToken::new(),
            runtime,
        };
        Ok((Arc::new(core), Queues { proposals, confirmations }))
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
    let lock = |text: String| {
        ["lock hold by current process", "While lock file", "in use by another process"].iter().any(|part| text.contains(part))
    };
    std::iter::successors(Some(error), |error| error.source()).any(|error| lock(error.to_string()))
}

fn create(data_dir: &Path) -> Result<(), StartError> {
    crate::folder::make(data_dir).map_err(io(format!("cannot create {}", data_dir.display())))
}
