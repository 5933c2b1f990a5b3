//! Priority and fairness: who waits for whom when there is more to do than can be done at once.
//!
//! In: the user and the request. Out: a [`Permit`] that is held while the request is worked on, or 429. FlowSchemas sort
//! requests into priority levels and flows; each level has seats of its own and lends what it does not need; within a
//! level flows wait in queues dealt by shuffle sharding and take turns by the seat-seconds that they have used.
//! Invariant: a flow that asks for much delays itself, not others; nobody waits longer than a quarter of a deadline.
//! <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/>

mod config;
mod defaults;
mod follow;
mod gate;
mod level;
mod metrics;
mod width;

pub use config::{Class, Configuration};
pub use defaults::objects;
pub use follow::start;
pub use gate::{Gate, Permit};
pub use width::seats;
