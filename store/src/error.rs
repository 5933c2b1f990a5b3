//! What can go wrong in the store, in etcd's words.
//!
//! Clients tell errors apart by gRPC code and message, so both are etcd's to the letter.

use tonic::{Code, Status};

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The key of a request is empty.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// `ignore_value` together with a value.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// `ignore_lease` together with a lease.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// More operations than a transaction may hold.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// One transaction writes a key twice.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// An unknown sort order or target.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// The revision lies before the last compaction.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision does not exist yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// No such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// A lease with this identifier exists.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// The lease would live longer than etcd allows.
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// The request exceeds the size that fits into one proposal.
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// Too many proposals are waiting.
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    /// No leader is known.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// This member does not lead.
    #[error("etcdserver: not leader")]
    NotLeader,
    /// The leader changed while the request waited; whether it took effect is unknown.
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    /// The request took too long; whether it took effect is unknown.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// The leader went away with the request; whether it took effect is unknown.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFailure,
    /// The connection to the leader broke with the request; whether it took effect is unknown.
    #[error("etcdserver: request timed out, possibly due to connection lost")]
    TimeoutConnectionLost,
    /// This member could not catch up in time.
    #[error("etcdserver: request timed out, waiting for the applied index took too long")]
    TimeoutWaitAppliedIndex,
    /// The member shuts down.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// Stored data fails its checks.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// No such member.
    #[error("etcdserver: member not found")]
    MemberNotFound,
    /// Users and permissions are not switched on.
    #[error("etcdserver: authentication is not enabled")]
    AuthNotEnabled,
    /// Something of ours failed; the text is for the log.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// The gRPC code that etcd sends with this error.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::EmptyKey
            | Self::KeyNotFound
            | Self::ValueProvided
            | Self::LeaseProvided
            | Self::TooManyOps
            | Self::DuplicateKey
            | Self::InvalidSortOption
            | Self::RequestTooLarge => Code::InvalidArgument,
            Self::Compacted | Self::FutureRevision | Self::LeaseTtlTooLarge => Code::OutOfRange,
            Self::LeaseNotFound | Self::MemberNotFound => Code::NotFound,
            Self::LeaseExists | Self::NotLeader | Self::AuthNotEnabled => Code::FailedPrecondition,
            Self::TooManyRequests => Code::ResourceExhausted,
            Self::NoLeader
            | Self::LeaderChanged
            | Self::Timeout
            | Self::TimeoutLeaderFailure
            | Self::TimeoutConnectionLost
            | Self::TimeoutWaitAppliedIndex
            | Self::Stopped => Code::Unavailable,
            Self::Corrupt => Code::DataLoss,
            Self::Internal(_) => Code::Internal,
        }
    }

    /// True where the request certainly had no effect and may be sent again.
    #[must_use]
    pub fn certainly_not_applied(&self) -> bool {
        !matches!(
            self,
            Self::LeaderChanged
                | Self::Timeout
                | Self::TimeoutLeaderFailure
                | Self::TimeoutConnectionLost
                | Self::Stopped
                | Self::Internal(_)
        )
    }

    /// All errors without a payload: the table by which a message becomes an error again.
    pub(crate) const NAMED: [Self; 25] = [
        Self::EmptyKey,
        Self::KeyNotFound,
        Self::ValueProvided,
        Self::LeaseProvided,
        Self::TooManyOps,
        Self::DuplicateKey,
        Self::InvalidSortOption,
        Self::Compacted,
        Self::FutureRevision,
        Self::LeaseNotFound,
        Self::LeaseExists,
        Self::LeaseTtlTooLarge,
        Self::RequestTooLarge,
        Self::TooManyRequests,
        Self::NoLeader,
        Self::NotLeader,
        Self::LeaderChanged,
        Self::Timeout,
        Self::TimeoutLeaderFailure,
        Self::TimeoutConnectionLost,
        Self::TimeoutWaitAppliedIndex,
        Self::Stopped,
        Self::Corrupt,
        Self::MemberNotFound,
        Self::AuthNotEnabled,
    ];

    /// The error that another member named by its message.
    pub(crate) fn from_message(message: &str) -> Self {
        Self::NAMED
            .iter()
            .find(|named| named.to_string() == message)
            .cloned()
            .unwrap_or_else(|| Self::Internal(message.to_owned()))
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_error() {
        for error in Error::NAMED {
            assert_eq!(Error::from_message(&error.to_string()), error);
        }
        assert_eq!(Error::from_message("else"), Error::Internal("else".to_owned()));
    }

    #[test]
    fn codes_are_those_of_etcd() {
        assert_eq!(Error::Compacted.code(), Code::OutOfRange);
        assert_eq!(Error::LeaseNotFound.code(), Code::NotFound);
        assert_eq!(Error::EmptyKey.code(), Code::InvalidArgument);
        assert_eq!(Error::NoLeader.code(), Code::Unavailable);
    }
}
