//! The one path that REST and gRPC share: consistent reads from the cache, writes as optimistic
//! transactions in the store.
//!
//! In: a resource, a name, a change as a function of the current object. Out: the object's bytes
//! under its new version, or a Status. A change that was computed from an object that has changed
//! since is computed again from a fresh read; the caller never sees that.

mod continue_token;
pub mod cut_off;
pub mod keys;
mod read;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use kontiki_api::{registry::Resource, status::Status};
use kontiki_store::{error::Error as StoreError, kv::Kv};
use tokio::sync::watch;

use crate::{
    cache::Caches,
    encryption::{Encryption, Opened},
};

pub use read::{ListOptions, Page, VersionMatch};
pub use write::{Claim, Condition, Guard, Outcome, Transaction, Written};

/// Objects in the store and in the cache beside it. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    /// The store.
    pub kv: Arc<dyn Kv>,
    /// The caches that it feeds.
    pub caches: Arc<Caches>,
    /// How values lie in the store.
    pub encryption: Encryption,
    /// Whether this member has been without a leader for too long: what it has may be old, and it may not say so.
    pub cut_off: watch::Receiver<bool>,
}

impl Storage {
    /// A value as it is put under a key.
    fn seal(&self, resource: &Resource, key: &str, value: Bytes) -> Result<Bytes, Status> {
        self.encryption.seal(resource, key, value).map_err(Status::internal_error)
    }

    /// A value that was found under a key.
    fn open(&self, resource: &Resource, key: &str, stored: &Bytes) -> Result<Opened, Status> {
        self.encryption.open(resource, key, stored).map_err(Status::internal_error)
    }
}

/// What the API says when the store cannot do something.
#[must_use]
pub fn store_failure(error: &StoreError) -> Status {
    let message = error.to_string();
    if message.contains("required revision has been compacted") {
        return Status::expired("The resourceVersion for the provided list is too old.");
    }
    if message.contains("too large") {
        return Status::request_entity_too_large(crate::limits::BODY_BYTES_MAX);
    }
    if message.contains("no leader") || message.contains("unavailable") || message.contains("shut") {
        return Status::service_unavailable(message);
    }
    if message.contains("timed out") || message.contains("timeout") {
        return Status::timeout(message, 1);
    }
    Status::internal_error(message)
}
