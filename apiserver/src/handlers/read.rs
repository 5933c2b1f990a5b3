//! get and list.

use http::{Response, StatusCode};
use kontiki_api::{
    registry::Resource,
    selector::{FieldSelector, LabelSelector},
    status::Status,
};

use super::encode;
use crate::{
    negotiate,
    request::RequestInfo,
    response::Body,
    service::{ApiServer, Call},
    storage::{ListOptions, VersionMatch},
};

/// get.
pub async fn get(server: &ApiServer, call: &Call, resource: &'static Resource) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accept(&call.headers)?;
    let info = &call.info;
    let object = match info.parameter("resourceVersion") {
        "" => server.storage.get(resource, &info.namespace, &info.name).await?,
        version => {
            server.storage.wait_for(parse_version(version)?).await?;
            server.storage.get_cached(resource, &info.namespace, &info.name)?
        }
    };
    encode::cached(StatusCode::OK, resource, &object, &accepted, encode::include_object(info)?)
}

/// list.
pub async fn list(server: &ApiServer, call: &Call, resource: &'static Resource) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accept(&call.headers)?;
    let page = server.storage.list(resource, &options(resource, &call.info)?).await?;
    encode::list(resource, &page, &accepted, encode::include_object(&call.info)?)
}

/// A resource version of a request.
pub fn parse_version(text: &str) -> Result<i64, Status> {
    if text.is_empty() {
        return Ok(0);
    }
    let wrong = |_| Status::bad_request(format!("Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"));
    text.parse::<u32>().map(i64::from).or_else(|_| text.parse::<i64>()).map_err(wrong)
}

/// Selectors of a request.
pub fn selectors(resource: &Resource, info: &RequestInfo) -> Result<(LabelSelector, FieldSelector), Status> {
    let labels = LabelSelector::parse(info.parameter("labelSelector")).map_err(Status::bad_request)?;
    let mut fields = FieldSelector::parse(info.parameter("fieldSelector")).map_err(Status::bad_request)?;
    for term in &mut fields.terms {
        if matches!(term.path.as_str(), "metadata.name" | "metadata.namespace") {
            continue;
        }
        let unknown = || Status::bad_request(format!("field label not supported: {}", term.path));
        term.path = resource.selectable_field(&term.path).ok_or_else(unknown)?.to_owned();
    }
    if !info.name.is_empty() {
        // A watch of one object by its path.
        let term = FieldSelector::parse(&format!("metadata.name={}", info.name)).map_err(Status::bad_request)?;
        fields.terms.extend(term.terms);
    }
    Ok((labels, fields))
}

/// Everything that a list asks for.
pub fn options(resource: &Resource, info: &RequestInfo) -> Result<ListOptions, Status> {
    let (labels, fields) = selectors(resource, info)?;
    let version = parse_version(info.parameter("resourceVersion"))?;
    let version = match (info.parameter("resourceVersionMatch"), info.parameter("resourceVersion")) {
        ("Exact", "" | "0") => {
            return Err(Status::bad_request("resourceVersionMatch \"Exact\" is forbidden for an unset or zero resourceVersion"));
        }
        ("Exact", _) => VersionMatch::Exact(version),
        (_, "") => VersionMatch::Newest,
        (_, _) => VersionMatch::NotOlderThan(version),
    };
    let limit = info.parameter("limit");
    let limit =
        if limit.is_empty() { 0 } else { limit.parse().map_err(|_| Status::bad_request(format!("invalid limit {limit:?}")))? };
    Ok(ListOptions {
        namespace: info.namespace.clone(),
        labels,
        fields,
        limit,
        continue_token: info.parameter("continue").to_owned(),
        version,
    })
}
