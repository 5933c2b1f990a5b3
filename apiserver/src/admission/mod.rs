//! What a write must satisfy beyond its kind's own rules, and what the server adds to it.

use kontiki_api::{registry::Resource, status::Status};
use serde_json::Value;

use crate::service::{ApiServer, Call};

/// What is being done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is created.
    Create,
    /// It is changed.
    Update,
    /// Its deletion is asked for.
    Delete,
}

/// Admits a write, changing the object where a plugin adds something.
pub async fn admit(
    _server: &ApiServer,
    _call: &Call,
    _resource: &'static Resource,
    _operation: Operation,
    _object: &mut Value,
    _old: Option<&Value>,
) -> Result<(), Status> {
    Ok(())
}
