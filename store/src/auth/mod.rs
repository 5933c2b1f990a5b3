//! Users, roles and permissions: etcd's, as a value that changes only through the log.
//!
//! In come changes and requests with the user who makes them; out come the next value, or etcd's
//! error. Passwords are hashed before they reach the log. Invariant: while it is enabled there is a
//! user `root` with the role `root`, who may do everything.

mod change;
pub mod permit;
pub mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kontiki_proto::authpb;
use kontiki_proto::kontiki::store::v1 as wire_pb;
use prost::Message;

use crate::error::Error;

/// The user, and the role, that may do everything.
pub const ROOT: &str = "root";

/// Who asks for something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// This process itself: nobody is asked for permission.
    #[default]
    Trusted,
    /// A client that did not say who it is.
    Anonymous,
    /// A user, known by a token that was made at a revision of the permissions.
    User {
        /// The name.
        name: Arc<str>,
        /// The revision; `None` where a certificate names the user.
        revision: Option<u64>,
    },
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// bcrypt's hash; empty for a user who is known by a certificate alone.
    pub password: String,
    /// No password is accepted.
    pub no_password: bool,
    /// Roles by name.
    pub roles: BTreeSet<String>,
}

/// Everything, as it is after an entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Whether anybody is asked for permission.
    pub enabled: bool,
    /// Counts changes.
    pub revision: u64,
    /// By name.
    pub users: BTreeMap<String, User>,
    /// By name; permissions in the order of their keys.
    pub roles: BTreeMap<String, Vec<authpb::Permission>>,
}

impl Default for Auth {
    fn default() -> Self {
        Self { enabled: false, revision: 1, users: BTreeMap::new(), roles: BTreeMap::new() }
    }
}

impl Auth {
    /// For the disk.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let user = |(name, user): (&String, &User)| authpb::User {
            name: name.clone().into(),
            password: user.password.clone().into(),
            roles: user.roles.iter().cloned().collect(),
            options: Some(authpb::UserAddOptions { no_password: user.no_password }),
        };
        let role = |(name, permissions): (&String, &Vec<authpb::Permission>)| authpb::Role {
            name: name.clone().into(),
            key_permission: permissions.clone(),
        };
        wire_pb::Auth {
            enabled: self.enabled,
            revision: self.revision,
            users: self.users.iter().map(user).collect(),
            roles: self.roles.iter().map(role).collect(),
        }
        .encode_to_vec()
    }

    /// From the disk.
    pub fn decode(stored: &[u8]) -> Result<Self, prost::DecodeError> {
        let stored = wire_pb::Auth::decode(stored)?;
        let text = |bytes: &bytes::Bytes| String::from_utf8_lossy(bytes).into_owned();
        let user = |user: authpb::User| {
            let no_password = user.options.is_some_and(|options| options.no_password);
            let roles = user.roles.into_iter().collect();
            (text(&user.name), User { password: text(&user.password), no_password, roles })
        };
        Ok(Self {
            enabled: stored.enabled,
            revision: stored.revision,
            users: stored.users.into_iter().map(user).collect(),
            roles: stored.roles.into_iter().map(|role| (text(&role.name), role.key_permission)).collect(),
        })
    }

    /// Whether a caller may do what only administrators may.
    pub fn admin(&self, caller: &Caller) -> Result<(), Error> {
        match self.user(caller)? {
            None => Ok(()),
            Some(user) if user.roles.contains(ROOT) => Ok(()),
            Some(_) => Err(Error::PermissionDenied),
        }
    }

    /// The user behind a caller; `None` where nobody is asked.
    pub fn user(&self, caller: &Caller) -> Result<Option<&User>, Error> {
        if !self.enabled {
            return Ok(None);
        }
        match caller {
            Caller::Trusted => Ok(None),
            Caller::Anonymous => Err(Error::UserEmpty),
            Caller::User { name, revision } => {
                if revision.is_some_and(|revision| revision < self.revision) {
                    return Err(Error::AuthOldRevision);
                }
                self.users.get(name.as_ref()).map(Some).ok_or(Error::PermissionDenied)
            }
        }
    }

    /// The hash to which a password must be held.
    pub fn password_of(&self, name: &str) -> Result<&str, Error> {
        if !self.enabled {
            return Err(Error::AuthNotEnabled);
        }
        let user = self.users.get(name).filter(|user| !user.no_password && !user.password.is_empty());
        user.map(|user| user.password.as_str()).ok_or(Error::AuthFailed)
    }
}
