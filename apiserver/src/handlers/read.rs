//! get and list.

use http::{Response, StatusCode};
use kontiki_api::{
    field::FieldError,
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
            let object = server.storage.get_cached(resource, &info.namespace, &info.name)?;
            server.storage.serve_one(resource, object).await?
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

/// A resource version of a request; 0 where there is none.
///
/// # Errors
/// Kubernetes answers one that is no number with 500.
pub fn parse_version(text: &str) -> Result<i64, Status> {
    if text.is_empty() {
        return Ok(0);
    }
    let wrong = |why: &str| {
        let message = format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}");
        Status::failure(500, "", message)
    };
    if text.bytes().any(|byte| !byte.is_ascii_digit()) {
        return Err(wrong("invalid syntax"));
    }
    text.parse().map_err(|_| wrong("value out of range"))
}

/// An integer of a request.
///
/// # Errors
/// 400: it is none.
pub fn parse_integer(text: &str) -> Result<i64, Status> {
    text.parse().map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
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
        term.path = resource.selectable_field(&term.path).ok_or_else(unknown)?;
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
    check_words(info)?;
    let (labels, fields) = selectors(resource, info)?;
    let limit = info.parameter("limit");
    let limit = if limit.is_empty() { 0 } else { usize::try_from(parse_integer(limit)?).unwrap_or(0) };
    Ok(ListOptions {
        namespace: info.namespace.clone(),
        labels,
        fields,
        limit,
        continue_token: info.parameter("continue").to_owned(),
        version: version_match(info, limit)?,
    })
}

/// How the version of a list is meant.
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list>
fn version_match(info: &RequestInfo, limit: usize) -> Result<VersionMatch, Status> {
    let given = info.parameter("resourceVersion");
    let version = parse_version(given)?;
    if !info.parameter("continue").is_empty() && !matches!(given, "" | "0") {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    Ok(match (info.parameter("resourceVersionMatch"), given) {
        (_, "") => VersionMatch::Newest,
        ("Exact", _) => VersionMatch::Exact(version),
        // Without a word about it, pages are of that very version.
        ("", _) if limit > 0 && version > 0 => VersionMatch::Exact(version),
        _ => VersionMatch::NotOlderThan(version),
    })
}

/// Refuses words that do not go together.
fn check_words(info: &RequestInfo) -> Result<(), Status> {
    let (given, matched) = (info.parameter("resourceVersion"), info.parameter("resourceVersionMatch"));
    let mut errors = Vec::new();
    if !matched.is_empty() {
        let mut forbid = |detail: &str| errors.push(FieldError::forbidden("resourceVersionMatch", detail));
        if given.is_empty() {
            forbid("resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if !info.parameter("continue").is_empty() {
            forbid("resourceVersionMatch is forbidden when continue is provided");
        }
        if !matches!(matched, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported("resourceVersionMatch", &matched.into(), &["Exact", "NotOlderThan", ""]));
        }
        if (matched, given) == ("Exact", "0") {
            let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden("resourceVersionMatch", detail));
        }
    }
    if info.query.contains_key("sendInitialEvents") {
        errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;

    use super::*;

    fn asked(query: &str) -> Result<VersionMatch, Status> {
        let info = RequestInfo::parse(&Method::GET, &format!("/api/v1/pods?{query}").parse().unwrap());
        let resource = kontiki_api::registry::find("", "v1", "pods").unwrap();
        options(resource, &info).map(|options| options.version)
    }

    #[test]
    fn every_pair_of_version_and_match_has_its_meaning() {
        for (query, expected) in [
            ("", VersionMatch::Newest),
            ("resourceVersion=0", VersionMatch::NotOlderThan(0)),
            ("resourceVersion=5", VersionMatch::NotOlderThan(5)),
            ("resourceVersion=5&limit=2", VersionMatch::Exact(5)),
            ("resourceVersion=0&limit=2", VersionMatch::NotOlderThan(0)),
            ("resourceVersion=5&resourceVersionMatch=NotOlderThan&limit=2", VersionMatch::NotOlderThan(5)),
            ("resourceVersion=5&resourceVersionMatch=Exact", VersionMatch::Exact(5)),
            ("resourceVersion=0&resourceVersionMatch=NotOlderThan", VersionMatch::NotOlderThan(0)),
        ] {
            assert_eq!(asked(query).unwrap(), expected, "{query}");
        }
        for (query, code, message) in [
            ("resourceVersionMatch=Exact", 422, "resourceVersionMatch is forbidden unless resourceVersion is provided"),
            ("resourceVersionMatch=Exact&resourceVersion=0", 422, "\"exact\" is forbidden for resourceVersion \"0\""),
            ("resourceVersionMatch=Any&resourceVersion=1", 422, "supported values: \"Exact\", \"NotOlderThan\", \"\""),
            ("resourceVersionMatch=NotOlderThan&resourceVersion=1&continue=x", 422, "is forbidden when continue is provided"),
            ("sendInitialEvents=true", 422, "sendInitialEvents is forbidden for list"),
            ("resourceVersion=1&continue=x", 400, "specifying resource version is not allowed when using continue"),
            ("resourceVersion=x", 500, "strconv.ParseUint: parsing \"x\": invalid syntax"),
            ("limit=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ] {
            let refused = asked(query).unwrap_err();
            assert_eq!(refused.code, code, "{query}");
            assert!(refused.message.contains(message), "{query}: {}", refused.message);
        }
    }
}
