//! What a request may cost.

use std::time::Duration;

/// Largest body: what kube-apiserver takes.
pub const BODY_BYTES_MAX: usize = 3 << 20;
/// How long a request that is no watch may take.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
/// Requests that are worked on at once; watches do not count.
pub const REQUESTS_MAX: usize = 600;
/// Events that a watch takes from the window at a time.
pub const WATCH_BATCH: usize = 256;
/// Pieces of a watch's body that wait for the connection.
pub const WATCH_QUEUE: usize = 64;
/// Wait between two bookmarks.
pub const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// Shortest life of a watch that names none; the longest is twice this.
pub const WATCH_SECONDS: u64 = 1800;
/// Seconds that an Event lives.
pub const EVENT_SECONDS: i64 = 3600;

const _: () = assert!(WATCH_QUEUE < WATCH_BATCH * 3, "a batch waits for the connection, not the other way round");
