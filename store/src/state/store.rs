//! The state machine as the rest of the store sees it: apply, read, follow, replace.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use kontiki_proto::etcdserverpb as pb;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::apply::{self, Decided};
use super::database::{Database, Lease, Memory, StateError};
use super::history::{self, Recent};
use super::operations;
use super::rocks::Budget;
use super::view::{self, Overlay};
use crate::auth::Auth;
use crate::auth::tokens::Tokens;
use crate::error::Error;
use crate::mvcc::range::{KeyRange, RangeEnd};
use crate::mvcc::select;
use crate::raft::types::{Entry, LogId, Membership, StoredMembership};
use crate::watch::{Batch, History};

/// Name of the file that names the directory in use.
const CURRENT: &str = "CURRENT";

/// Who answers: goes into every response's header.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: u64,
    /// This member.
    pub member_id: u64,
}

/// The state of one member.
pub struct State {
    identity: Identity,
    root: PathBuf,
    budget: Arc<Budget>,
    /// Replaced as a whole when a snapshot is installed.
    database: RwLock<Arc<Database>>,
    memory: RwLock<Memory>,
    recent: RwLock<Recent>,
    revision: watch::Sender<i64>,
    applied: watch::Sender<u64>,
    term: AtomicU64,
    /// What stands for users.
    tokens: Arc<Tokens>,
    /// One cleaner at a time.
    cleaning: Mutex<()>,
}

impl State {
    /// Opens the state below a directory.
    pub fn open(root: &Path, identity: Identity, budget: Arc<Budget>, tokens: Arc<Tokens>) -> Result<Self, StateError> {
        crate::folder::make(root)?;
        let name = match std::fs::read_to_string(root.join(CURRENT)) {
            Ok(name) => name.trim().to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let name = "state-0".to_owned();
                switch(root, &name)?;
                name
            }
            Err(error) => return Err(error.into()),
        };
        remove_others(root, &[&name])?;
        let database = Database::open(&root.join(&name), &budget)?;
        // RocksDB syncs its own folder, not that the folder is there: a power cut would take a new one with all that was flushed.
        std::fs::File::open(root)?.sync_all()?;
        let memory = database.load()?;
        let applied = memory.applied.map_or(0, |applied| applied.index);
        Ok(Self {
            identity,
            root: root.to_owned(),
            budget,
            revision: watch::Sender::new(memory.revision),
            applied: watch::Sender::new(applied),
            term: AtomicU64::new(0),
            tokens,
            database: RwLock::new(Arc::new(database)),
            memory: RwLock::new(memory),
            recent: RwLock::default(),
            cleaning: Mutex::new(()),
        })
    }

    /// Applies entries; returns the results and whether something was compacted.
    pub fn apply(&self, entries: Vec<Entry>) -> Result<(Vec<Decided>, bool), StateError> {
        let database = self.database();
        let (applied, revision, index) = {
            let mut memory = self.memory.write();
            let applied = apply::apply(&database, &mut memory, entries)?;
            (applied, memory.revision, memory.applied.map_or(0, |applied| applied.index))
        };
        for user in &applied.tokens_over {
            self.tokens.forget(user.as_deref());
        }
        for (user, token) in &applied.tokens {
            self.tokens.remember(user, token, std::time::Instant::now());
        }
        self.recent.write().extend(applied.changes);
        self.revision.send_if_modified(|current| std::mem::replace(current, revision) != revision);
        self.applied.send_replace(index);
        Ok((applied.decided, applied.compacted))
    }

    /// The database in use.
    #[must_use]
    pub fn database(&self) -> Arc<Database> {
        self.database.read().clone()
    }

    /// The last applied position and membership.
    #[must_use]
    pub fn applied(&self) -> (Option<LogId>, StoredMembership) {
        let memory = self.memory.read();
        (memory.applied, memory.membership.clone())
    }

    /// Follows the applied index.
    #[must_use]
    pub fn applied_index(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// The last revision.
    #[must_use]
    pub fn current_revision(&self) -> i64 {
        *self.revision.borrow()
    }

    /// The compacted revision.
    #[must_use]
    pub fn compacted(&self) -> i64 {
        self.memory.read().compacted
    }

    /// A lease.
    #[must_use]
    pub fn lease(&self, id: i64) -> Option<Lease> {
        self.memory.read().leases.get(&id).cloned()
    }

    /// All leases with the seconds that were granted, and those that were left when last noted.
    #[must_use]
    pub fn leases(&self) -> Vec<(i64, i64, i64)> {
        let left = |lease: &Lease| if lease.remaining > 0 { lease.remaining } else { lease.ttl };
        self.memory.read().leases.iter().map(|(id, lease)| (*id, lease.ttl, left(lease))).collect()
    }

    /// The alarms that are raised: kind and member.
    #[must_use]
    pub fn alarms(&self) -> BTreeSet<(i32, u64)> {
        self.memory.read().alarms.clone()
    }

    /// Whether an alarm of a kind is raised.
    #[must_use]
    pub fn alarmed(&self, kind: pb::AlarmType) -> bool {
        self.memory.read().alarmed(kind)
    }

    /// Users, roles and permissions.
    #[must_use]
    pub fn auth(&self) -> Arc<Auth> {
        self.memory.read().auth.clone()
    }

    /// What stands for users.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Whether a member was removed, for ever.
    #[must_use]
    pub fn is_removed(&self, member: u64) -> bool {
        self.memory.read().removed.contains(&member)
    }

    /// Which API all members serve.
    #[must_use]
    pub fn cluster_version(&self) -> kontiki_proto::kontiki::store::v1::ClusterVersion {
        self.memory.read().cluster_version.clone()
    }

    /// What members say about themselves.
    #[must_use]
    pub fn attributes(&self, member: u64) -> Option<kontiki_proto::kontiki::store::v1::Attributes> {
        self.memory.read().attributes.get(&member).cloned()
    }

    /// Answers a read from local state.
    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        let current = self.current_revision();
        let revision = operations::readable(request.revision, current, self.compacted())?;
        let range = KeyRange::new(&request.key, &request.range_end);
        let wanted = operations::wanted(request, revision);
        let found = view::scan(&self.database(), &Overlay::new(), &range, wanted).map_err(|error| internal(&error))?;
        // Compaction may have overtaken the scan; then what it found is no longer whole.
        operations::readable(request.revision, current, self.compacted())?;
        let count = i64::try_from(found.count).unwrap_or(i64::MAX);
        let mut response = select::finish(request, found.kvs, count);
        response.header = Some(self.header(current));
        Ok(response)
    }

    /// Whether a read is small enough for the thread that asks.
    #[must_use]
    pub fn is_small(request: &pb::RangeRequest) -> bool {
        KeyRange::new(&request.key, &request.range_end).end == RangeEnd::Single
    }

    /// Answers a transaction that writes nothing.
    pub fn read_only_txn(&self, request: &pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        let current = self.current_revision();
        let mut response =
            operations::read_only(&self.database(), request, current, self.compacted()).map_err(|error| internal(&error))??;
        response.header = Some(self.header(current));
        Ok(response)
    }

    /// A hash over what is readable at a revision; zero is the last one.
    pub fn hash(&self, revision: i64) -> Result<kontiki_proto::kontiki::store::v1::HashResponse, Error> {
        let current = self.current_revision();
        let at = operations::readable(revision, current, self.compacted())?;
        let compact_revision = self.compacted();
        let (hash, _) = view::digest(&self.database(), at).map_err(|error| internal(&error))?;
        operations::readable(revision, current, self.compacted())?;
        Ok(kontiki_proto::kontiki::store::v1::HashResponse { hash, compact_revision, revision: at })
    }

    /// Notes the term for headers.
    pub fn set_term(&self, term: u64) {
        self.term.store(term, Ordering::Relaxed);
    }

    /// Cleans up after compaction. Blocks; returns at once where another thread is at it.
    pub fn clean(&self) {
        let Some(_alone) = self.cleaning.try_lock() else {
            return;
        };
        let result = super::compact::clean(&self.database(), self.compacted(), || true);
        if let Err(error) = result {
            tracing::warn!(%error, "cannot clean up after compaction");
        }
    }

    /// Puts a membership in the place of the one that the log says, at the last applied position.
    pub fn replace_membership(&self, membership: Membership) -> Result<(), StateError> {
        let mut memory = self.memory.write();
        memory.membership = StoredMembership::new(memory.applied, membership);
        super::apply::write_membership(&self.database(), &memory.membership)
    }

    /// Writes everything applied so far to disk; returns up to where.
    pub fn flush(&self) -> Result<(Option<LogId>, StoredMembership), StateError> {
        let applied = self.applied();
        self.database().flush()?;
        Ok(applied)
    }

    /// A directory into which a snapshot may be received.
    pub fn incoming(&self) -> Result<PathBuf, StateError> {
        let number = rand::random::<u64>();
        let path = self.root.join(format!("incoming-{number:016x}"));
        std::fs::create_dir(&path)?;
        Ok(path)
    }

    /// A path for a checkpoint that is being sent.
    #[must_use]
    pub fn outgoing(&self) -> PathBuf {
        self.root.join(format!("outgoing-{:016x}", rand::random::<u64>()))
    }

    /// Replaces the state by a received directory, in one step.
    pub fn install(&self, received: &Path) -> Result<(), StateError> {
        let name = format!("state-{:016x}", rand::random::<u64>());
        let path = self.root.join(&name);
        std::fs::rename(received, &path)?;
        let database = Database::open(&path, &self.budget)?;
        let memory = database.load()?;
        switch(&self.root, &name)?;
        let index = memory.applied.map_or(0, |applied| applied.index);
        let revision = memory.revision;
        {
            let mut current = self.memory.write();
            *self.database.write() = Arc::new(database);
            *current = memory;
            self.recent.write().clear();
        }
        self.revision.send_replace(revision);
        self.applied.send_replace(index);
        Ok(())
    }
}

fn internal(error: &StateError) -> Error {
    tracing::error!(%error, "cannot read the state");
    Error::Internal(error.to_string())
}

/// Names the directory in use, so that a crash leaves the old name or the new one.
fn switch(root: &Path, name: &str) -> Result<(), StateError> {
    let temporary = root.join("CURRENT.new");
    std::fs::write(&temporary, name)?;
    std::fs::File::open(&temporary)?.sync_all()?;
    std::fs::rename(&temporary, root.join(CURRENT))?;
    std::fs::File::open(root)?.sync_all()?;
    Ok(())
}

/// Removes what a crash or an installed snapshot left behind.
fn remove_others(root: &Path, keep: &[&str]) -> Result<(), StateError> {
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_ours = ["state-", "incoming-", "outgoing-"].iter().any(|ours| name.to_string_lossy().starts_with(ours));
        if is_ours && !keep.iter().any(|kept| **kept == name) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[async_trait]
impl History for State {
    fn revision(&self) -> watch::Receiver<i64> {
        self.revision.subscribe()
    }

    async fn events(&self, range: &KeyRange, from: i64, to: i64) -> Result<Batch, i64> {
        let compacted = self.compacted();
        if from < compacted {
            return Err(compacted);
        }
        if let Some(batch) = self.recent.read().events(range, from, to) {
            return Ok(batch);
        }
        let database = self.database();
        let range = range.clone();
        let read = crate::blocking::run(move || history::read(&database, &range, from, to)).await;
        let compacted = self.compacted();
        if from < compacted {
            return Err(compacted);
        }
        match read {
            Ok(Ok(batch)) => Ok(batch),
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot read history; the watch ends");
                Err(compacted)
            }
            Err(_) => Err(compacted),
        }
    }

    fn header(&self, revision: i64) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: self.identity.cluster_id,
            member_id: self.identity.member_id,
            revision,
            raft_term: self.term.load(Ordering::Relaxed),
        }
    }
}
