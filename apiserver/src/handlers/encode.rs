//! Objects in the form and encoding that the client asked for.
//!
//! What is asked for most, an object's own JSON, is the cache's own bytes; its protobuf is made on first use and kept
//! beside them. Everything else is made for the one answer.

use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::Timestamp;
use kontiki_api::{
    object::{Encoded, list_chunks},
    protobuf::encode as protobuf,
    registry::Resource,
    status::Status,
    table::{self, IncludeObject},
};
use serde_json::{Map, Value, json};

use crate::{
    cache::CachedObject,
    negotiate::{Accepted, Encoding, Form},
    request::RequestInfo,
    response::{self, Body},
    storage::Page,
};

/// How much of each object a table's row carries.
pub fn include_object(info: &RequestInfo) -> Result<IncludeObject, Status> {
    let text = info.parameter("includeObject");
    IncludeObject::parse(text).ok_or_else(|| {
        let message = format!("includeObject: Invalid value: {text:?}: must be 'Metadata', 'Object', 'None', or empty");
        Status::bad_request(message)
    })
}

/// One object that was written or made now.
pub fn object(
    code: StatusCode,
    resource: &Resource,
    encoded: &Encoded,
    accepted: &Accepted,
    include: IncludeObject,
) -> Result<Response<Body>, Status> {
    if accepted.is_plain() && resource.conversion.is_none() {
        return Ok(response::json_bytes(code, encoded.bytes()));
    }
    value_in(code, &shown(resource, encoded.value(), accepted, include), accepted)
}

/// One object of the cache.
pub fn cached(
    code: StatusCode,
    resource: &Resource,
    object: &CachedObject,
    accepted: &Accepted,
    include: IncludeObject,
) -> Result<Response<Body>, Status> {
    if accepted.form == Form::Object
        && accepted.encoding == Encoding::Protobuf
        && resource.conversion.is_none()
        && let Some(message) = object.protobuf(resource)
    {
        let body = protobuf::envelope(&resource.key.api_version(), resource.key.kind, &message);
        return Ok(response::with_body(code, accepted.encoding.media_type(), response::full(body)));
    }
    self::object(code, resource, &object.encoded, accepted, include)
}

fn shown(resource: &Resource, value: Value, accepted: &Accepted, include: IncludeObject) -> Value {
    match &accepted.form {
        Form::Object => resource.to_served(value),
        Form::Partial(version) => table::partial_object_metadata(&value, &meta_version(version)),
        Form::Table(version) => {
            let metadata = list_metadata(&value["metadata"]["resourceVersion"], "", None);
            table::table(resource, &meta_version(version), metadata, std::iter::once(&value), Timestamp::now(), include)
        }
    }
}

/// Any value in the encoding that was asked for.
pub fn value_in(code: StatusCode, value: &Value, accepted: &Accepted) -> Result<Response<Body>, Status> {
    let failed = |error: &dyn std::fmt::Display| Status::internal_error(error.to_string());
    let body = match accepted.encoding {
        Encoding::Json if accepted.pretty => Bytes::from(serde_json::to_vec_pretty(value).map_err(|error| failed(&error))?),
        Encoding::Json => Bytes::from(value.to_string()),
        Encoding::Yaml => Bytes::from(serde_norway::to_string(value).map_err(|error| failed(&error))?),
        Encoding::Protobuf => match protobuf::encode_any(value) {
            Some(body) => body,
            // A kind without protobuf is answered in JSON, and says so.
            None => return Ok(response::json(code, value)),
        },
    };
    Ok(response::with_body(code, accepted.encoding.media_type(), response::full(body)))
}

/// A failure in the encoding that was asked for.
#[must_use]
pub fn status(status: &Status, accepted: &Accepted) -> Response<Body> {
    let plain = response::status(status);
    if accepted.is_plain() {
        return plain;
    }
    let value = serde_json::to_value(status).unwrap_or_default();
    match value_in(plain.status(), &value, accepted) {
        Ok(mut answer) => {
            for (name, value) in plain.headers().iter().filter(|(name, _)| *name != http::header::CONTENT_TYPE) {
                answer.headers_mut().insert(name, value.clone());
            }
            answer
        }
        Err(_) => plain,
    }
}

/// A page of a list. Objects themselves are sent as the cache's own bytes, piece by piece.
pub fn list(resource: &Resource, page: &Page, accepted: &Accepted, include: IncludeObject) -> Result<Response<Body>, Status> {
    if accepted.form == Form::Object && !accepted.pretty && resource.conversion.is_none() {
        match accepted.encoding {
            Encoding::Json => return Ok(pieces(json_pieces(resource, page), accepted.encoding)),
            Encoding::Protobuf => {
                if let Some(parts) = protobuf_pieces(resource, page) {
                    return Ok(pieces(parts, accepted.encoding));
                }
            }
            Encoding::Yaml => {}
        }
    }
    let metadata = list_metadata(&json!(page.revision.to_string()), &page.continue_token, page.remaining);
    let values: Vec<Value> = page.objects.iter().map(|object| object.encoded.value()).collect();
    let shown = match &accepted.form {
        Form::Object => {
            let items: Vec<Value> = values.into_iter().map(|value| item(resource.to_served(value))).collect();
            json!({ "kind": resource.list_kind(), "apiVersion": resource.key.api_version(), "metadata": metadata, "items": items })
        }
        Form::Partial(version) => {
            let version = meta_version(version);
            let items: Vec<_> = values.iter().map(|value| table::partial_object_metadata(value, &version)).collect();
            json!({ "kind": "PartialObjectMetadataList", "apiVersion": version, "metadata": metadata, "items": items })
        }
        Form::Table(version) => {
            table::table(resource, &meta_version(version), metadata, values.iter(), Timestamp::now(), include)
        }
    };
    value_in(StatusCode::OK, &shown, accepted)
}

fn pieces(pieces: Vec<Bytes>, encoding: Encoding) -> Response<Body> {
    response::with_body(StatusCode::OK, encoding.media_type(), response::pieces(pieces))
}

fn json_pieces(resource: &Resource, page: &Page) -> Vec<Bytes> {
    let token = page.continue_token.as_str();
    let (version, kind) = (resource.key.api_version(), resource.list_kind());
    let chunks = list_chunks(
        &version,
        &kind,
        page.revision,
        (!token.is_empty()).then_some(token),
        page.remaining.and_then(|count| i64::try_from(count).ok()),
        page.objects.iter().map(|object| &object.encoded),
    );
    chunks.collect()
}

fn protobuf_pieces(resource: &Resource, page: &Page) -> Option<Vec<Bytes>> {
    let metadata = list_metadata(&json!(page.revision.to_string()), &page.continue_token, page.remaining);
    let head = protobuf::list_head(&metadata);
    let mut parts = Vec::with_capacity(2 * page.objects.len() + 2);
    parts.push(Bytes::new());
    for object in &page.objects {
        let message = object.protobuf(resource)?;
        parts.push(protobuf::item_head(message.len()));
        parts.push(message);
    }
    let length = parts.iter().map(Bytes::len).sum();
    let (front, back) = protobuf::split_envelope(&resource.key.api_version(), &resource.list_kind(), &head, length);
    parts[0] = front;
    parts.push(back);
    Some(parts)
}

/// An object as it stands in a list: the list names kind and version.
fn item(mut object: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.retain(|name, _| name != "kind" && name != "apiVersion");
    }
    object
}

/// `meta.k8s.io/v1`.
pub fn meta_version(version: &str) -> String {
    format!("meta.k8s.io/{version}")
}

fn list_metadata(resource_version: &Value, token: &str, remaining: Option<usize>) -> Map<String, Value> {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), resource_version.clone());
    if !token.is_empty() {
        metadata.insert("continue".into(), token.into());
    }
    if let Some(count) = remaining {
        metadata.insert("remainingItemCount".into(), count.into());
    }
    metadata
}
