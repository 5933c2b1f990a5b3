//! The state machine as openraft sees it.

use std::io::Error as IoError;
use std::sync::Arc;
use std::time::Instant;

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;

use super::snapshot::SnapshotHandle;
use super::types::{Config, Entry, LeaderId, LogId, Snapshot, SnapshotMeta, StoredMembership};
use crate::fault::{self, Mistake};
use crate::metrics::Metrics;
use crate::service::waiters::Waiters;
use crate::state::store::State;

/// Entries that are applied in one write, if that many are ready.
const RUN_MAX: usize = 256;

/// Bytes of entries that are applied in place: more would keep consensus from its heartbeats for a while.
const IN_PLACE_BYTES_MAX: usize = 256 * 1024;

fn payload_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        openraft::EntryPayload::Normal(batch) => batch.0.len(),
        _ => 0,
    }
}

/// Applies committed entries and tells those who wait for them.
#[derive(Clone)]
pub struct Machine {
    state: Arc<State>,
    waiters: Arc<Waiters>,
    metrics: Arc<Metrics>,
    /// What is known to be on disk: the log may be purged up to there.
    flushed: Arc<Mutex<Option<SnapshotMeta>>>,
}

impl Machine {
    /// Over a state.
    #[must_use]
    pub fn new(state: Arc<State>, waiters: Arc<Waiters>, metrics: Arc<Metrics>) -> Self {
        Self { state, waiters, metrics, flushed: Arc::default() }
    }
}

/// Runs something that blocks, away from the consensus tasks.
async fn blocking<T: Send + 'static, E: std::error::Error + Send + Sync + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, IoError> {
    crate::blocking::run(work).await.map_err(IoError::other)?.map_err(IoError::other)
}

impl RaftStateMachine<Config> for Machine {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), IoError> {
        Ok(self.state.applied())
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), IoError>
    where
        Strm: Stream<Item = Result<EntryResponder<Config>, IoError>> + Unpin + OptionalSend,
    {
        let mut runs = entries.ready_chunks(RUN_MAX);
        while let Some(run) = runs.next().await {
            let mut entries = Vec::with_capacity(run.len());
            let mut responders = Vec::new();
            let mut leader: Option<LeaderId> = None;
            for item in run {
                let (entry, responder) = item?;
                leader = Some(entry.log_id.leader_id);
                entries.push(entry);
                responders.extend(responder);
            }
            let begin = Instant::now();
            // Every write waits for it, and two changes of thread cost more than most of them: what is small is done in place, and
            // looks out for the disk itself.
            let bytes = entries.iter().map(payload_bytes).sum::<usize>();
            let apply = || self.state.apply(entries);
            let applied = if bytes > IN_PLACE_BYTES_MAX { crate::blocking::here(apply) } else { apply() };
            let (decided, compacted) = applied.map_err(IoError::other)?;
            self.metrics.apply.observe(begin.elapsed().as_secs_f64());
            self.waiters.decided(decided);
            if let Some(leader) = leader {
                self.waiters.passed(leader);
            }
            for responder in responders {
                responder.send(());
            }
            if compacted {
                let state = self.state.clone();
                tokio::spawn(crate::blocking::run(move || state.clean()));
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotHandle) -> Result<(), IoError> {
        let state = self.state.clone();
        match snapshot {
            // It has all of that already.
            SnapshotHandle::Local(own) if Arc::ptr_eq(&own, &state) => {}
            SnapshotHandle::Local(other) => {
                let install = move || {
                    let path = state.outgoing();
                    other.database().checkpoint(&path)?;
                    state.install(&path)
                };
                blocking(install).await?;
            }
            SnapshotHandle::Received(path) => blocking(move || state.install(&path)).await?,
        }
        // Results of what the snapshot skipped are lost.
        self.waiters.lost();
        *self.flushed.lock() = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, IoError> {
        let meta = self.flushed.lock().clone();
        Ok(meta.map(|meta| Snapshot { meta, snapshot: SnapshotHandle::Local(self.state.clone()) }))
    }
}

impl RaftSnapshotBuilder<Config> for Machine {
    type SnapshotData = SnapshotHandle;

    /// Not a copy: a flush, after which the log is no longer needed up to there. Files are copied
    /// only when a follower asks.
    async fn build_snapshot(&mut self) -> Result<Snapshot, IoError> {
        let state = self.state.clone();
        let flush = move || if fault::makes(Mistake::PurgeUnflushed) { Ok(state.applied()) } else { state.flush() };
        let (last_log_id, last_membership) = blocking(flush).await?;
        let meta = SnapshotMeta { last_log_id, last_membership };
        *self.flushed.lock() = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: SnapshotHandle::Local(self.state.clone()) })
    }
}
