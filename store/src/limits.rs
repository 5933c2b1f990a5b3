//! Every limit of the store, in one place, each with its reason.

use std::time::Duration;

/// Operations in one branch of a transaction: etcd's default.
pub const TXN_OPERATIONS_MAX: usize = 128;

/// Transactions in one another. Each is two messages; inside of what members wrap them in, messages are read down to a
/// hundred in one another: an entry of the log beyond that could be applied by nobody.
pub const TXN_DEPTH_MAX: usize = 40;

/// Bytes of one request: etcd's default of 1.5 MiB, so that clients meet the limit they know.
pub const REQUEST_BYTES_MAX: usize = 1536 * 1024;

/// Seconds that a lease may live: etcd's bound.
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// Seconds that a lease lives at least, so that it outlasts an election: etcd's default.
pub const LEASE_TTL_SECONDS_MIN: i64 = 2;

/// Watch responses that wait for a consumer, of all watches on its stream; behind them watches read from history.
pub const WATCH_QUEUE_MAX: usize = 16;

/// Events in one watch response, unless one revision alone has more.
pub const WATCH_BATCH_EVENTS_MAX: usize = 1000;

/// Bytes of keys and values in one watch response, unless one revision alone has more: a consumer that never reads
/// costs a queue of them.
pub const WATCH_BATCH_BYTES_MAX: usize = 64 * 1024;

/// How long a proposal waits for its result: etcd's 5 s plus two elections.
pub const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(7);

/// Bytes of the log's newest entries that stay in memory for followers and for apply.
pub const LOG_CACHE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Writes that wait for the log's thread.
pub const LOG_COMMANDS_MAX: usize = 1024;

/// Bytes of one segment of the log: small beside what a member keeps, large beside a write.
pub const LOG_SEGMENT_BYTES: usize = 8 * 1024 * 1024;

/// Bytes that share one fsync of the log: more would only delay those who wait.
pub const LOG_GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of the proposals in one log entry; a single larger proposal travels alone.
pub const BATCH_BYTES_MAX: usize = 512 * 1024;

/// Proposals in one log entry.
pub const BATCH_PROPOSALS_MAX: usize = 1000;

/// Proposals that wait to be sent.
pub const PROPOSALS_WAITING_MAX: usize = 10_000;

/// Bytes of recent events in memory, from which watches that keep up are fed.
pub const RECENT_EVENTS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of one message between peers: a batch of large entries fits.
pub const PEER_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of one part of a snapshot's file.
pub const SNAPSHOT_PART_BYTES: usize = 256 * 1024;

/// Bytes of one answer to a client: lists may be long, as with etcd.
pub const CLIENT_ANSWER_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Watches on one stream.
pub const WATCHES_PER_STREAM_MAX: usize = 10_000;

/// Bytes of a watch response, where the client asked for fragments.
pub const WATCH_FRAGMENT_BYTES: usize = 1536 * 1024;
