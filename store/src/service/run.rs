//! What runs once a member's files are open: consensus, and the tasks around it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kontiki_proto::kontiki::store::v1 as wire_pb;
use openraft::async_runtime::WatchReceiver;
use openraft::{Instant as _, ServerState, SnapshotPolicy};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use wire_pb::peer_server::PeerServer;

use super::core::Core;
use super::options::Options;
use super::start::{Queues, StartError};
use super::{compactor, corruption, heard, lessor, membership, propose, quota, read_index};
use crate::auth::Caller;
use crate::fault::{self, Mistake};
use crate::kv::Leadership;
use crate::limits::PEER_MESSAGE_BYTES_MAX;
use crate::raft::machine::Machine;
use crate::raft::server::PeerService;
use crate::raft::types::{Peer, Raft};
use crate::socket::Bound;
use crate::state::rocks::Budget;
use crate::tls::{self, Connection};

/// How often counters of the log are brought up to date while nobody reads them.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

fn config(options: &Options) -> Result<openraft::Config, StartError> {
    let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = openraft::Config {
        cluster_name: "kontiki".to_owned(),
        heartbeat_interval: milliseconds(options.heartbeat),
        election_timeout_min: milliseconds(options.election.0),
        election_timeout_max: milliseconds(options.election.1),
        enable_pre_vote: Some(options.pre_vote),
        // A leader that went on in its old term would not know what it committed before, and answer
        // reads from the past; and if its disk failed, it would give indexes out a second time that
        // the others hold already.
        enable_leader_restore: Some(fault::makes(Mistake::LeaderRestored)),
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

/// Where peers come in.
pub(super) enum Entrance {
    /// A socket, and the TLS that is spoken there.
    Socket(Bound, Option<Arc<rustls::ServerConfig>>),
    /// Whoever hands over connections.
    Streams(mpsc::Receiver<std::io::Result<Connection>>),
}

/// Starts consensus; a new cluster begins with these members.
pub(super) async fn consensus(
    core: Arc<Core>,
    members: BTreeMap<u64, Peer>,
    queues: Queues,
    peers: Vec<Entrance>,
    budget: Arc<Budget>,
) -> Result<(), StartError> {
    let machine = Machine::new(core.state.clone(), core.waiters.clone(), core.metrics.clone());
    let config = Arc::new(config(&core.options)?);
    let failed = |error: &dyn std::fmt::Display| StartError::Raft(error.to_string());
    let raft = Raft::new(core.member_id, config, core.network.clone(), core.log.clone(), machine).await;
    let raft = raft.map_err(|error| failed(&error))?;
    core.raft.get_or_init(|| raft.clone());
    serve_peers(&core, &raft, peers, &budget)?;
    tokio::spawn(follow_leader(core.clone(), raft.clone()));
    tokio::spawn(propose::run(core.clone(), queues.proposals));
    tokio::spawn(read_index::run(core.clone(), queues.confirmations));
    tokio::spawn(lessor::run(core.clone()));
    tokio::spawn(membership::run(core.clone()));
    tokio::spawn(quota::run(core.clone()));
    if let Some(mode) = core.options.auto_compaction {
        tokio::spawn(compactor::run(core.clone(), mode));
    }
    if !core.options.corrupt_check_interval.is_zero() {
        tokio::spawn(corruption::run(core.clone()));
    }
    tokio::spawn(introduce(core.clone()));
    if core.is_alone() {
        // Nobody else could lead, so there is nothing to wait for.
        raft.trigger().elect(true).await.map_err(|error| failed(&error))?;
    }
    if !members.is_empty() && !raft.is_initialized().await.map_err(|error| failed(&error))? {
        // Every member begins with the same membership; one that the others reached first is told so.
        if let Err(error) = raft.initialize(members).await {
            tracing::debug!(%error, "the cluster exists already");
        }
    }
    Ok(())
}

fn serve_peers(core: &Arc<Core>, raft: &Raft, peers: Vec<Entrance>, budget: &Arc<Budget>) -> Result<(), StartError> {
    for entrance in peers {
        let failed = |source| StartError::Io { what: "cannot listen for peers".to_owned(), source };
        let incoming = match entrance {
            Entrance::Socket(bound, config) => tls::accept(bound.listen().map_err(failed)?, config, core.stop.clone()),
            Entrance::Streams(streams) => streams,
        };
        let incoming = ReceiverStream::new(incoming);
        let service = PeerServer::new(PeerService::new(raft.clone(), core.clone(), budget.clone()))
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
    }
    Ok(())
}

/// How long ago a quorum answered this member as its leader.
fn quorum_silence(raft: &Raft) -> Option<Duration> {
    raft.data_metrics().borrow_watched().last_quorum_acked.map(|acked| acked.elapsed())
}

/// Keeps what the rest of the member knows of the leader up to date.
async fn follow_leader(core: Arc<Core>, raft: Raft) {
    let mut metrics = raft.server_metrics();
    let patience = heard::patience(core.options.election);
    let mut since = Instant::now();
    loop {
        {
            let now = metrics.borrow_and_update();
            core.network.learn(now.membership_config.membership());
            let leader_id = now.current_leader;
            let term = now.vote.leader_id.term;
            let leader = leader_id.map(|_| now.vote.leader_id);
            core.state.set_term(term);
            let changed = core.leader.send_if_modified(|current| std::mem::replace(current, leader) != leader);
            if changed {
                since = Instant::now();
            }
            if changed && leader.is_some() {
                core.metrics.leader_changes.inc();
            }
            let leader_id = if now.membership_config.membership().voter_ids().eq([core.member_id]) {
                // Nobody has to be heard.
                leader_id
            } else {
                let leads = now.state == ServerState::Leader;
                let silence = if leads { quorum_silence(&raft) } else { core.heard.silence() };
                heard::known(leader_id, since.elapsed(), silence, patience)
            };
            core.metrics.has_leader.set(i64::from(leader_id.is_some()));
            core.metrics.is_leader.set(i64::from(now.state == ServerState::Leader));
            let seen = Leadership { member_id: core.member_id, leader_id, term };
            core.leadership.send_if_modified(|current| std::mem::replace(current, seen) != seen);
        }
        core.note_progress();
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { break },
            // What each commit changes is worth a look now and then, not a wake-up each time.
            () = tokio::time::sleep(PROGRESS_PERIOD.min(patience / 2)) => {}
            () = core.stop.cancelled() => break,
        }
    }
    if !core.stop.is_cancelled() {
        let why = raft.metrics().borrow_watched().running_state.clone();
        tracing::error!(?why, "consensus has ended; this member has to be started again");
        core.failed.cancel();
    }
    // Without consensus nobody is known to lead.
    core.leader.send_replace(None);
    core.leadership.send_modify(|leadership| leadership.leader_id = None);
}

/// Tells the cluster this member's name and client URLs, if it does not know them. Ready is who has also caught up with
/// what was committed meanwhile.
async fn introduce(core: Arc<Core>) {
    let attributes = wire_pb::Attributes {
        member_id: core.member_id,
        name: core.options.name.clone(),
        client_urls: core.options.advertise_client_urls.clone(),
    };
    while core.state.attributes(core.member_id).as_ref() != Some(&attributes) {
        let operation = wire_pb::proposal::Operation::Attributes(attributes.clone());
        if let Err(error) = propose::submit(&core, &Caller::Trusted, operation).await {
            tracing::debug!(%error, "this member is not introduced yet");
        }
        if core.stop.is_cancelled() {
            return;
        }
    }
    tracing::info!(
        local_member_id = format!("{:x}", core.member_id),
        cluster_id = format!("{:x}", core.cluster_id),
        "published local member to cluster through raft"
    );
    if core.state.cluster_version().version.is_empty() {
        let version = wire_pb::ClusterVersion { version: format!("{}.0", crate::API_VERSION) };
        let operation = wire_pb::proposal::Operation::ClusterVersion(version);
        if let Err(error) = propose::submit(&core, &Caller::Trusted, operation).await {
            tracing::debug!(%error, "the cluster's version is not set yet");
        }
    }
    // Whoever was introduced long ago comes back with what it knew then.
    while let Err(error) = read_index::wait(&core).await {
        tracing::debug!(%error, "this member has not caught up yet");
        if core.stop.is_cancelled() {
            return;
        }
    }
    core.ready.send_replace(true);
}
