//! One file a kind of request: from a [`Call`](crate::service::Call) to an answer.
//!
//! In: who asks, for what, with which body. Out: an answer or a Status. Everything that reads or
//! writes goes through [`crate::storage`]; what may be written is decided by pure functions.

mod allocation;
pub mod apply;
pub mod component_status;
pub mod delete;
pub mod encode;
pub mod health;
mod options;
mod ownership;
pub mod paths;
pub mod read;
pub mod scale;
pub mod subresource;
pub mod watch;
pub mod write;
mod yaml;

#[cfg(test)]
mod tests;
