//! `/openapi/v2`, and `/openapi/v3` with its index and a document per group version, made on request.

use http::Response;
use kontiki_api::{openapi, status::Status};

use crate::{
    aggregation,
    handlers::paths,
    response::Body,
    service::{ApiServer, Call},
};

/// Whether a client names the protobuf of the document before JSON.
fn asks_for_protobuf(call: &Call) -> bool {
    let lines = call.headers.get_all(http::header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let mut entries = lines.flat_map(|line| line.split(',')).map(|entry| entry.split(';').next().unwrap_or_default().trim());
    let known = [openapi::protobuf::MEDIA_TYPE, openapi::protobuf::ANSWER_MEDIA_TYPE];
    entries.find(|entry| known.contains(entry) || *entry == "application/json").is_some_and(|entry| known.contains(&entry))
}

/// Answers a path below `/openapi`.
pub async fn answer(server: &ApiServer, call: &Call, rest: &[&str]) -> Result<Response<Body>, Status> {
    let table = server.storage.caches.custom.table();
    let custom = table.resources.as_slice();
    let others = server.aggregator.table();
    if let ["v3", path @ ..] = rest
        && let Some(extension) = others.of_path(&path.join("/"))
    {
        return aggregation::openapi::document(server, call, extension).await;
    }
    let document = match rest {
        ["v2"] => aggregation::openapi::merged_v2(openapi::document_v2(custom), &others),
        ["v3"] => aggregation::openapi::index(openapi::index(custom), &others),
        ["v3", "api", version] => openapi::document(custom, "", version).ok_or_else(Status::no_such_path)?,
        ["v3", "apis", group, version] => openapi::document(custom, group, version).ok_or_else(Status::no_such_path)?,
        _ => return Err(Status::no_such_path()),
    };
    if rest == ["v2"] && asks_for_protobuf(call) {
        return Ok(paths::tagged(call, openapi::protobuf::ANSWER_MEDIA_TYPE, openapi::protobuf::encode(&document)));
    }
    Ok(paths::tagged(call, "application/json", document.to_string()))
}
