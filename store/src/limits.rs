//! Every limit of the store, in one place, each with its reason.

use std::time::Duration;

/// Operations in one branch of a transaction: etcd's default.
pub const TXN_OPERATIONS_MAX: usize = 128;

/// Bytes of one request: etcd's default of 1.5 MiB, so that clients meet the limit they know.
pub const REQUEST_BYTES_MAX: usize = 1536 * 1024;

/// Seconds that a lease may live: etcd's bound.
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// Seconds that a lease lives at least, so that it outlasts an election: etcd's default.
pub const LEASE_TTL_SECONDS_MIN: i64 = 2;

/// Watch responses that wait for a consumer; behind them the watch reads from history.
pub const WATCH_QUEUE_MAX: usize = 32;

/// Events in one watch response, unless one revision alone has more.
pub const WATCH_BATCH_EVENTS_MAX: usize = 1000;

/// How long a proposal waits for its result: etcd's 5 s plus two elections.
pub const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(7);
