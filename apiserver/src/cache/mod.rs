//! The watch cache: every object in memory, as the bytes that clients get, fresh from the store.
//!
//! In: one watch on all of the store's keys. Out: consistent snapshots of each resource and, for
//! watchers, a window of its recent events. A watcher has a queue of positions in the window, filled by an index of who
//! watches what: a write costs what its watchers cost, a slow watcher a few bytes an event, and once it has fallen out of
//! the window it reads the store's history.
//!
//! Invariant: an event is in the window if and only if the snapshot contains its effect, and
//! [`Caches::revision`] is announced after both.

mod feed;
mod interest;
mod object;
mod resource;

pub use feed::{Caches, start};
pub use interest::Interest;
pub use object::{CachedObject, ReadError, decode_object};
pub use resource::{Change, Event, ResourceCache, Snapshot, Subscription, Window, WindowError};
