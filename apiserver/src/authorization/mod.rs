//! What a user may do: role-based access control over an index that follows the watch cache.
//!
//! In: a [`UserInfo`](crate::auth::UserInfo) and the [`Attributes`] of a request. Out: a
//! [`Decision`]. Deciding is a pure function of the index; the index takes one change of a role or a
//! binding at a time. Invariant: what no rule allows is denied, and nobody grants what they lack
//! unless they hold `escalate` or `bind`.
//!
//! Nodes are authorized by the ClusterRole `system:node`, bound to the group `system:nodes`: a node
//! may read what any kubelet may need, not only what its own pods name.

mod attributes;
pub mod escalation;
pub mod follow;
pub mod index;
pub mod reviews;
pub mod rules;

pub use attributes::{Attributes, Decision};
pub use index::Index;
