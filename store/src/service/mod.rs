//! A running member: what is started, in which order, and how to talk to it.
//!
//! In come [`Options`]; out comes a [`Handle`], which is the whole store as [`crate::kv::Kv`] and
//! whose etcd services listen on the client port. Consensus runs on a runtime of its own.
//! Invariant: a write is answered after a quorum's fsync and this member's own apply; a read is
//! answered after a quorum confirmed what it has to see.

mod alone;
mod compactor;
mod consensus;
pub mod core;
mod corruption;
pub mod handle;
pub mod heard;
pub mod identity;
mod join;
mod kv;
pub mod lessor;
pub mod members;
pub mod membership;
pub mod options;
pub mod propose;
pub mod quota;
pub mod read_index;
mod run;
pub mod start;
pub mod waiters;

pub use self::handle::Handle;
pub use self::options::Options;
pub use self::start::{Service, StartError, Surroundings};
