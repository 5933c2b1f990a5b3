//! `/openapi/v3`: the index and a document per group version, made on request.

use http::Response;
use kontiki_api::{discovery, openapi, status::Status};
use serde_json::{Map, Value, json};

use crate::{handlers::paths, response::Body, service::Call};

/// Answers a path below `/openapi`.
pub fn answer(call: &Call, rest: &[&str]) -> Result<Response<Body>, Status> {
    let document = match rest {
        ["v3"] => index(),
        ["v3", "api", version] => openapi::document("", version).ok_or_else(Status::no_such_path)?,
        ["v3", "apis", group, version] => openapi::document(group, version).ok_or_else(Status::no_such_path)?,
        _ => return Err(Status::no_such_path()),
    };
    Ok(paths::tagged(call, "application/json", document.to_string()))
}

fn index() -> Value {
    let mut paths = Map::new();
    for (group, version) in kontiki_api::registry::group_versions() {
        let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
        let document = openapi::document(group, version).unwrap_or_default().to_string();
        let hash = discovery::etag(document.as_bytes());
        let address = format!("/openapi/v3/{path}?hash={}", hash.trim_matches('"'));
        paths.insert(path, json!({ "serverRelativeURL": address }));
    }
    json!({ "paths": paths })
}
