//! The authorizers together: the Node authorizer speaks first of nodes, then the roles of everybody.
//!
//! In: what the watch cache reports, by [`super::follow`]. Out: decisions of the state of that moment, and the revision up
//! to which that state is complete, so that a refusal can be checked against what was written a moment ago.

use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::watch;

use super::{
    Attributes, Decision,
    index::{Index, RoleRef},
    node::{self, Graph},
};
use crate::auth::{UserInfo, user};

/// How long a refusal waits for what was written before it.
const CATCH_UP: Duration = Duration::from_secs(1);
/// Whose rules nodes have beside what the graph gives them.
const NODE_ROLE: &str = "system:node";

/// What users may do.
#[derive(Debug)]
pub struct Authorizer {
    pub(super) roles: RwLock<Index>,
    pub(super) graph: RwLock<Graph>,
    pub(super) revision: watch::Sender<i64>,
}

impl Default for Authorizer {
    fn default() -> Self {
        Self { roles: RwLock::default(), graph: RwLock::default(), revision: watch::channel(0).0 }
    }
}

impl Authorizer {
    /// One with these roles, which follows nothing.
    #[must_use]
    pub fn with_roles(roles: Index) -> Self {
        Self { roles: RwLock::new(roles), ..Self::default() }
    }

    /// Whether a user may do what a request wants.
    #[must_use]
    pub fn authorize(&self, user: &UserInfo, request: &Attributes) -> Decision {
        let roles = self.roles.read();
        let Some(node) = user::node_name(user).filter(|_| !user.is_in(user::GROUP_MASTERS)) else {
            return roles.authorize(user, request);
        };
        let reference = RoleRef { kind: "ClusterRole".to_owned(), name: NODE_ROLE.to_owned() };
        let rules = roles.rules_of(&reference, "").unwrap_or_default();
        let Decision::Denied(first) = node::authorize(&self.graph.read(), &rules, node, request) else {
            return Decision::Allowed(String::new());
        };
        match roles.authorize(user, request) {
            Decision::Denied(second) => {
                let reasons: Vec<String> = [first, second].into_iter().filter(|reason| !reason.is_empty()).collect();
                Decision::Denied(reasons.join("\n"))
            }
            allowed @ Decision::Allowed(_) => allowed,
        }
    }

    /// The roles as they are now.
    pub fn roles(&self) -> parking_lot::RwLockReadGuard<'_, Index> {
        self.roles.read()
    }

    /// Waits until decisions are made of everything up to a revision, but not for long.
    pub async fn settled(&self, revision: i64) {
        let mut seen = self.revision.subscribe();
        // A decision of older state is still a decision.
        let _ = tokio::time::timeout(CATCH_UP, seen.wait_for(|seen| *seen >= revision)).await;
    }
}
