//! openraft's type parameters, filled with ours.

use std::fmt;

use bytes::Bytes;

/// An encoded `kontiki.store.v1.Batch`: many proposals in one log entry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Batch(pub Bytes);

impl fmt::Debug for Batch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "batch of {} bytes", self.0.len())
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// Where a member is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The name it was configured with; empty where it was added later.
    pub name: String,
    /// Its peer URLs; the first one is used.
    pub urls: Vec<String>,
    /// Only a promotion makes it a voter.
    pub learner: bool,
}

impl Peer {
    /// The URL at which it is reached.
    #[must_use]
    pub fn url(&self) -> &str {
        self.urls.first().map_or("", String::as_str)
    }
}

openraft::declare_raft_types!(
    /// The types of our Raft. Results do not travel through it: see `service::propose`.
    pub Config:
        D = Batch,
        R = (),
        NodeId = u64,
        Node = Peer,
);

/// The consensus engine over our state machine.
pub type Raft = openraft::Raft<Config, super::machine::Machine>;
/// Position in the log.
pub type LogId = openraft::type_config::alias::LogIdOf<Config>;
/// Term and member of a leader; totally ordered along the log.
pub type LeaderId = openraft::type_config::alias::CommittedLeaderIdOf<Config>;
/// A vote.
pub type Vote = openraft::type_config::alias::VoteOf<Config>;
/// A log entry.
pub type Entry = openraft::type_config::alias::EntryOf<Config>;
/// Members and voters.
pub type Membership = openraft::Membership<u64, Peer>;
/// Members and voters, with where that stands in the log.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Config>;
/// What a snapshot stands for.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Config>;
/// A snapshot with its handle.
pub type Snapshot = openraft::type_config::alias::SnapshotOf<Config, super::snapshot::SnapshotHandle>;
