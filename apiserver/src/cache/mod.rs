//! The watch cache: every object in memory, as the bytes that clients get, fresh from the store.
//!
//! In: one watch on all of the store's keys. Out: consistent snapshots of each resource and, for
//! watchers, a window of its recent events. A watcher holds a position in the window, not a queue:
//! a slow one costs nothing and, once it has fallen out of the window, reads the store's history.
//!
//! Invariant: an event is in the window if and only if the snapshot contains its effect, and
//! [`Caches::revision`] is announced after both.

mod feed;
mod resource;

pub use feed::{Caches, start};
pub use resource::{CachedObject, Change, Event, ResourceCache, Window, WindowError, decode_object};
