//! What a user may do: the Node authorizer and role-based access control, over state that follows the watch cache.
//!
//! In: a [`UserInfo`](crate::auth::UserInfo) and the [`Attributes`] of a request. Out: a
//! [`Decision`]. Deciding is a pure function of the index of roles and the graph of nodes; each takes one change at a
//! time. Invariant: what no rule allows is denied, and nobody grants what they lack unless they hold `escalate` or
//! `bind`.

mod attributes;
mod authorizer;
pub mod escalation;
pub mod follow;
pub mod index;
pub mod node;
pub mod reviews;
pub mod rules;

pub use attributes::{Attributes, Decision};
pub use authorizer::Authorizer;
pub use index::Index;
