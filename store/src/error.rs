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
    /// Another member has one of these peer URLs.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    /// Peer URLs that make no sense.
    #[error("etcdserver: given member URLs are invalid")]
    MemberBadUrls,
    /// A change of membership would leave too few members that ever started.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    MemberNotEnoughStarted,
    /// A promotion of a member that votes already.
    #[error("etcdserver: can only promote a learner member")]
    MemberNotLearner,
    /// A promotion of a learner that lacks too much of the log.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// As many learners as there may be.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// A change of membership while members are missing.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    /// Leadership can only go to a voter.
    #[error("etcdserver: bad leader transferee")]
    BadLeaderTransferee,
    /// Learners answer little.
    #[error("etcdserver: rpc not supported for learner")]
    NotSupportedForLearner,
    /// This member is no longer part of the cluster.
    #[error("the member has been permanently removed from the cluster")]
    MemberRemoved,
    /// Keys and values take all the room that they may.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// A version that is no MAJOR.MINOR.
    #[error("etcdserver: wrong downgrade target version format")]
    WrongDowngradeVersionFormat,
    /// A version to which this one cannot go back.
    #[error("etcdserver: invalid downgrade target version")]
    InvalidDowngradeTargetVersion,
    /// Nothing to cancel.
    #[error("etcdserver: no inflight downgrade job")]
    NoInflightDowngrade,
    /// Users and permissions are not switched on.
    #[error("etcdserver: authentication is not enabled")]
    AuthNotEnabled,
    /// There must be a user `root` first.
    #[error("etcdserver: root user does not exist")]
    RootUserNotExist,
    /// The user `root` must have the role `root` first.
    #[error("etcdserver: root user does not have root role")]
    RootRoleNotExist,
    /// A user of this name exists.
    #[error("etcdserver: user name already exists")]
    UserAlreadyExist,
    /// A user needs a name.
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    /// No such user.
    #[error("etcdserver: user name not found")]
    UserNotFound,
    /// A role of this name exists.
    #[error("etcdserver: role name already exists")]
    RoleAlreadyExist,
    /// No such role.
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    /// A role needs a name.
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    /// A wrong name or password.
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    AuthFailed,
    /// A permission is missing from the request.
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    /// The user may not.
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    /// The user does not have this role.
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    /// The role does not have this permission.
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    /// A token that is unknown or too old.
    #[error("etcdserver: invalid auth token")]
    InvalidAuthToken,
    /// What keeps users switched on cannot be taken away.
    #[error("etcdserver: invalid auth management")]
    InvalidAuthManagement,
    /// Permissions changed since the token was made.
    #[error("etcdserver: revision of auth store is old")]
    AuthOldRevision,
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
            | Self::RequestTooLarge
            | Self::MemberBadUrls
            | Self::WrongDowngradeVersionFormat
            | Self::InvalidDowngradeTargetVersion
            | Self::UserEmpty
            | Self::RoleEmpty
            | Self::AuthFailed
            | Self::PermissionNotGiven
            | Self::InvalidAuthManagement
            | Self::AuthOldRevision => Code::InvalidArgument,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::InvalidAuthToken => Code::Unauthenticated,
            Self::Compacted | Self::FutureRevision | Self::LeaseTtlTooLarge => Code::OutOfRange,
            Self::LeaseNotFound | Self::MemberNotFound => Code::NotFound,
            Self::LeaseExists
            | Self::NotLeader
            | Self::AuthNotEnabled
            | Self::PeerUrlExists
            | Self::MemberNotEnoughStarted
            | Self::MemberNotLearner
            | Self::LearnerNotReady
            | Self::TooManyLearners
            | Self::BadLeaderTransferee
            | Self::NotSupportedForLearner
            | Self::MemberRemoved
            | Self::NoInflightDowngrade
            | Self::RootUserNotExist
            | Self::RootRoleNotExist
            | Self::UserAlreadyExist
            | Self::UserNotFound
            | Self::RoleAlreadyExist
            | Self::RoleNotFound
            | Self::RoleNotGranted
            | Self::PermissionNotGranted => Code::FailedPrecondition,
            Self::TooManyRequests | Self::NoSpace => Code::ResourceExhausted,
            Self::NoLeader
            | Self::LeaderChanged
            | Self::Timeout
            | Self::TimeoutLeaderFailure
            | Self::TimeoutConnectionLost
            | Self::TimeoutWaitAppliedIndex
            | Self::Unhealthy
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
    pub(crate) const NAMED: [Self; 55] = [
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
        Self::PeerUrlExists,
        Self::MemberBadUrls,
        Self::MemberNotEnoughStarted,
        Self::MemberNotLearner,
        Self::LearnerNotReady,
        Self::TooManyLearners,
        Self::Unhealthy,
        Self::BadLeaderTransferee,
        Self::NotSupportedForLearner,
        Self::MemberRemoved,
        Self::NoSpace,
        Self::WrongDowngradeVersionFormat,
        Self::InvalidDowngradeTargetVersion,
        Self::NoInflightDowngrade,
        Self::AuthNotEnabled,
        Self::RootUserNotExist,
        Self::RootRoleNotExist,
        Self::UserAlreadyExist,
        Self::UserEmpty,
        Self::UserNotFound,
        Self::RoleAlreadyExist,
        Self::RoleNotFound,
        Self::RoleEmpty,
        Self::AuthFailed,
        Self::PermissionNotGiven,
        Self::PermissionDenied,
        Self::RoleNotGranted,
        Self::PermissionNotGranted,
        Self::InvalidAuthToken,
        Self::InvalidAuthManagement,
        Self::AuthOldRevision,
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
