//! What a member is started with, and the identities that follow from it.

use std::path::PathBuf;
use std::time::Duration;

use crate::limits;
use crate::place::Place;
use crate::tls::TlsFiles;

/// What a new member's cluster is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClusterState {
    /// It begins with this member.
    #[default]
    New,
    /// It runs, and was told of this member.
    Existing,
}

/// How history goes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// What is older than this.
    Periodic(Duration),
    /// All but this many revisions.
    Revision(i64),
}

/// Plain data; the defaults of [`Options::new`] work.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of this member; one of `initial_cluster`.
    pub name: String,
    /// Where log and state live.
    pub data_dir: PathBuf,
    /// Where the log lives, if not in `data_dir`.
    pub log_dir: Option<PathBuf>,
    /// Where clients are served.
    pub listen_client: Vec<Place>,
    /// Where clients are served HTTP alone; if anywhere, the others serve gRPC alone.
    pub listen_client_http: Vec<Place>,
    /// Where metrics and health are served, beside the client ports.
    pub listen_metrics: Vec<Place>,
    /// What clients are told.
    pub advertise_client_urls: Vec<String>,
    /// Where peers are served.
    pub listen_peer: Vec<Place>,
    /// What peers are told; empty means the URLs in `initial_cluster`.
    pub advertise_peer_urls: Vec<String>,
    /// All members: name and peer URL; a name may come more than once. The same list on every member.
    pub initial_cluster: Vec<(String, String)>,
    /// Whether the cluster begins now.
    pub initial_cluster_state: ClusterState,
    /// Tells clusters with the same URLs apart.
    pub initial_cluster_token: String,
    /// Goes on alone, with what this member has.
    pub force_new_cluster: bool,
    /// Identity towards clients.
    pub client_tls: Option<TlsFiles>,
    /// Identity towards peers; without it they talk in the clear.
    pub peer_tls: Option<TlsFiles>,
    /// Bytes that RocksDB may use for all caches and buffers together.
    pub rocksdb_bytes: usize,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Bounds of the election timeout.
    pub election: (Duration, Duration),
    /// Whether a member asks before it campaigns.
    pub pre_vote: bool,
    /// Entries after which the state is flushed and the log before that may go.
    pub flush_entries: u64,
    /// Entries kept for followers that are behind; beyond them they get a snapshot.
    pub keep_entries: u64,
    /// Bytes of keys and values beyond which writes are refused; 0 is no bound.
    pub quota_bytes: u64,
    /// Bytes of one request.
    pub request_bytes_max: usize,
    /// Operations in one branch of a transaction.
    pub txn_operations_max: usize,
    /// Streams on one connection of a client.
    pub concurrent_streams_max: u32,
    /// Whether changes of membership that endanger the quorum are refused.
    pub strict_reconfig_check: bool,
    /// Learners at a time.
    pub learners_max: usize,
    /// How history goes by itself.
    pub auto_compaction: Option<AutoCompaction>,
    /// An idle watch that asked for progress hears of it this often.
    pub watch_progress_interval: Duration,
    /// Time between checks that all members hold the same; zero is never.
    pub corrupt_check_interval: Duration,
    /// Whether what the others hold is compared before clients are served.
    pub initial_corrupt_check: bool,
    /// Whether HTTP and JSON are served under `/v3/`.
    pub gateway: bool,
    /// How often a silent client is asked whether it is there, and how long it may take; zero is never.
    pub client_keep_alive: (Duration, Duration),
    /// How tokens of users are made: etcd's `--auth-token`.
    pub auth_token: String,
    /// How long a simple token lives unused.
    pub auth_token_ttl: Duration,
    /// Rounds of bcrypt, as a power of two.
    pub bcrypt_cost: u32,
}

impl Options {
    /// With defaults for everything but the identity and the addresses.
    #[must_use]
    pub fn new(name: &str, data_dir: PathBuf, listen_client: impl Into<Place>, listen_peer: impl Into<Place>) -> Self {
        Self {
            name: name.to_owned(),
            data_dir,
            log_dir: None,
            listen_client: vec![listen_client.into()],
            listen_client_http: vec![],
            listen_metrics: vec![],
            advertise_client_urls: vec![],
            listen_peer: vec![listen_peer.into()],
            advertise_peer_urls: vec![],
            initial_cluster: vec![],
            initial_cluster_state: ClusterState::New,
            initial_cluster_token: String::new(),
            force_new_cluster: false,
            client_tls: None,
            peer_tls: None,
            rocksdb_bytes: 24 << 20,
            heartbeat: Duration::from_millis(50),
            election: (Duration::from_millis(150), Duration::from_millis(300)),
            pre_vote: true,
            flush_entries: 5_000,
            keep_entries: 5_000,
            quota_bytes: 0,
            request_bytes_max: limits::REQUEST_BYTES_MAX,
            txn_operations_max: limits::TXN_OPERATIONS_MAX,
            concurrent_streams_max: u32::MAX,
            strict_reconfig_check: true,
            learners_max: 1,
            auto_compaction: None,
            watch_progress_interval: Duration::from_secs(10 * 60),
            corrupt_check_interval: Duration::ZERO,
            initial_corrupt_check: false,
            gateway: true,
            client_keep_alive: (Duration::from_secs(2 * 60 * 60), Duration::from_secs(20)),
            auth_token: "simple".to_owned(),
            auth_token_ttl: Duration::from_secs(300),
            bcrypt_cost: 10,
        }
    }

    /// Serves clients with TLS under an identity.
    #[must_use]
    pub fn with_client_tls(mut self, files: TlsFiles) -> Self {
        for listen in &mut self.listen_client {
            listen.tls = true;
        }
        self.client_tls = Some(files);
        self
    }

    /// Talks to peers with TLS under an identity.
    #[must_use]
    pub fn with_peer_tls(mut self, files: TlsFiles) -> Self {
        for listen in &mut self.listen_peer {
            listen.tls = true;
        }
        self.peer_tls = Some(files);
        self
    }
}
