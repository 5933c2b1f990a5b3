//! Pods on this node: one worker each, from the moment a pod is bound here until nothing of it is left.
//!
//! In: pods from the API, what the runtime has, results of probes. Out: sandboxes and containers, statuses,
//! events. A worker looks, plans ([`plan`], pure), acts, reports ([`status`], pure), and waits for news.
//! Invariant: a pod is deleted from the API only after all its containers are gone.

mod act;
mod admission;
mod all;
pub mod back_off;
pub mod config;
pub mod environment;
mod handle;
mod hooks;
mod manager;
pub mod model;
mod mounts;
mod names;
pub mod plan;
mod pull;
mod reporter;
mod resize;
mod room;
pub mod status;
mod worker;

pub use self::{all::Pods, handle::Handle, manager::Manager};
