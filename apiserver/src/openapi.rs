//! `/openapi/v2` and `/openapi/v3`.

use http::Response;
use kontiki_api::status::Status;

use crate::{response::Body, service::Call};

/// Answers a path below `/openapi`.
pub fn answer(_call: &Call, _rest: &[&str]) -> Result<Response<Body>, Status> {
    Err(Status::no_such_path())
}
