//! What every component uses to talk to an API server.
//!
//! In: resource keys, names, bodies, patches. Out: decoded objects or typed errors; watches that
//! resume by themselves; keys that want work; leadership; events. One [`transport::Transport`]
//! hides whether the server is across the network or in this process.
//!
//! Invariant: a [`reflector::Reflector`] never goes back in time and never misses a change for
//! good; what it calls back with is the change from what it said last.
//!
//! Start at [`client`], then [`reflector`] and [`queue`], which every controller joins.

pub mod client;
pub mod error;
pub mod events;
pub mod https;
pub mod leader;
pub mod metrics;
pub mod params;
pub mod queue;
pub mod reflector;
pub mod transport;
pub mod watch;

pub use client::Client;
pub use error::Error;
pub use params::{DeleteOptions, List, ListMeta, ListParams, Patch, PropagationPolicy};
