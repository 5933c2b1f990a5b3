//! `/openapi/v2`, and `/openapi/v3` with its index and a document per group version, made on request.

use http::Response;
use kontiki_api::{openapi, status::Status};

use crate::{handlers::paths, response::Body, service::Call};

/// Answers a path below `/openapi`.
pub fn answer(call: &Call, rest: &[&str]) -> Result<Response<Body>, Status> {
    let document = match rest {
        ["v2"] => openapi::document_v2(),
        ["v3"] => openapi::index().clone(),
        ["v3", "api", version] => openapi::document("", version).ok_or_else(Status::no_such_path)?,
        ["v3", "apis", group, version] => openapi::document(group, version).ok_or_else(Status::no_such_path)?,
        _ => return Err(Status::no_such_path()),
    };
    Ok(paths::tagged(call, "application/json", document.to_string()))
}
