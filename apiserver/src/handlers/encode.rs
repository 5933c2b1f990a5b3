//! Objects in the form and encoding that the client asked for.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use jiff::Timestamp;
use kontiki_api::{
    object::{Encoded, list_chunks},
    registry::Resource,
    status::Status,
    table::{self, IncludeObject},
};
use serde_json::{Map, Value, json};

use crate::{
    cache::CachedObject,
    negotiate::{Accepted, Form},
    request::RequestInfo,
    response::{self, Body},
    storage::Page,
};

/// How much of each object a table's row carries.
pub fn include_object(info: &RequestInfo) -> Result<IncludeObject, Status> {
    let text = info.parameter("includeObject");
    IncludeObject::parse(text).ok_or_else(|| Status::bad_request(format!("unknown includeObject {text:?}")))
}

/// One object.
pub fn object(
    code: StatusCode,
    resource: &Resource,
    encoded: &Encoded,
    accepted: &Accepted,
    include: IncludeObject,
) -> Result<Response<Body>, Status> {
    if accepted.form == Form::Object && !accepted.yaml {
        return Ok(response::json_bytes(code, encoded.bytes()));
    }
    let value = encoded.value();
    let shown = match &accepted.form {
        Form::Object => value,
        Form::Partial(version) => table::partial_object_metadata(&value, &meta_version(version)),
        Form::Table(version) => {
            let metadata = list_metadata(&value["metadata"]["resourceVersion"], "", None);
            table::table(resource, &meta_version(version), metadata, std::iter::once(&value), Timestamp::now(), include)
        }
    };
    value_in(code, &shown, accepted)
}

/// Any value as JSON or YAML.
pub fn value_in(code: StatusCode, value: &Value, accepted: &Accepted) -> Result<Response<Body>, Status> {
    if !accepted.yaml {
        return Ok(response::json(code, value));
    }
    let text = serde_norway::to_string(value).map_err(|error| Status::internal_error(error.to_string()))?;
    Ok(response::with_body(code, HeaderValue::from_static("application/yaml"), response::full(Bytes::from(text))))
}

/// A page of a list. Objects themselves are sent as the cache's own bytes, piece by piece.
pub fn list(resource: &Resource, page: &Page, accepted: &Accepted, include: IncludeObject) -> Result<Response<Body>, Status> {
    let token = page.continue_token.as_str();
    if accepted.form == Form::Object && !accepted.yaml {
        let objects: Vec<Arc<CachedObject>> = page.objects.clone();
        let pieces: Vec<Bytes> = list_chunks(
            &resource.key.api_version(),
            &resource.list_kind(),
            page.revision,
            (!token.is_empty()).then_some(token),
            page.remaining.and_then(|count| i64::try_from(count).ok()),
            objects.iter().map(|object| &object.encoded),
        )
        .collect();
        let body = response::stream(futures::stream::iter(pieces));
        return Ok(response::with_body(StatusCode::OK, HeaderValue::from_static("application/json"), body));
    }
    let metadata = list_metadata(&json!(page.revision.to_string()), token, page.remaining);
    let values: Vec<Value> = page.objects.iter().map(|object| object.encoded.value()).collect();
    let shown = match &accepted.form {
        Form::Object => {
            json!({ "kind": resource.list_kind(), "apiVersion": resource.key.api_version(), "metadata": metadata, "items": values })
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
