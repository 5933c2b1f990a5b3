//! `Status`: how the API says that a request failed, and why, in Kubernetes' words.
//!
//! Clients switch on `reason` and `code` and show `message`; tests compare all three.
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::field::FieldError;

/// A `v1` `Status` object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Always `Status`.
    pub kind: String,
    /// Always `v1`.
    pub api_version: String,
    /// List metadata; empty.
    pub metadata: Value,
    /// `Success` or `Failure`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// What happened, for a person.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What happened, for a program.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Which object, and what about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<StatusDetails>,
    /// HTTP status code.
    pub code: u16,
}

/// Which object a [`Status`] speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusDetails {
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group of the resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Resource, or the kind where the request was about an object's content.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// `metadata.uid` of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Single mistakes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    /// Seconds after which a retry is worth while.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

/// One mistake in a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusCause {
    /// Kind of mistake, such as `FieldValueInvalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The mistake, for a person.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Path of the field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// `pods` or `deployments.apps`, as messages name a resource.
fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn details(group: &str, kind: &str, name: &str) -> Option<StatusDetails> {
    Some(StatusDetails { group: group.to_owned(), kind: kind.to_owned(), name: name.to_owned(), ..StatusDetails::default() })
}

impl Status {
    /// A failure with any code and reason.
    #[must_use]
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind: "Status".into(),
            api_version: "v1".into(),
            metadata: Value::Object(serde_json::Map::new()),
            status: "Failure".into(),
            message: message.into(),
            reason: reason.into(),
            details: None,
            code,
        }
    }

    /// The answer to a deletion that left nothing behind.
    #[must_use]
    pub fn success(group: &str, resource: &str, name: &str, uid: &str) -> Self {
        let mut details = details(group, resource, name);
        if let Some(details) = &mut details {
            uid.clone_into(&mut details.uid);
        }
        Self { status: "Success".into(), details, ..Self::failure(200, "", "") }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        self.details = details(group, kind, name);
        self
    }

    /// 404: no such object.
    #[must_use]
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(group, resource));
        Self::failure(404, "NotFound", message).about(group, resource, name)
    }

    /// 404: no such path.
    #[must_use]
    pub fn no_such_path() -> Self {
        let mut status = Self::failure(404, "NotFound", "the server could not find the requested resource");
        status.details = Some(StatusDetails::default());
        status
    }

    /// 409: the name is taken.
    #[must_use]
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(group, resource));
        Self::failure(409, "AlreadyExists", message).about(group, resource, name)
    }

    /// 409: the request conflicts with the object's state.
    #[must_use]
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(group, resource));
        Self::failure(409, "Conflict", message).about(group, resource, name)
    }

    /// 409: the object changed since it was read.
    #[must_use]
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, why)
    }

    /// 422: the object breaks rules.
    #[must_use]
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let list = match errors {
            [] => String::new(),
            [one] => format!(": {one}"),
            many => format!(": [{}]", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        };
        let message = format!("{} {name:?} is invalid{list}", qualified(group, kind));
        let mut status = Self::failure(422, "Invalid", message).about(group, kind, name);
        if let Some(details) = &mut status.details {
            details.causes = errors
                .iter()
                .map(|error| StatusCause {
                    reason: error.type_.reason().into(),
                    message: error.message(),
                    field: error.field.clone(),
                })
                .collect();
        }
        status
    }

    /// 403: what the user may not do. `why` follows the object's name.
    #[must_use]
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let object = qualified(group, resource);
        let message = match (object.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{object} is forbidden: {why}"),
            (false, false) => format!("{object} {name:?} is forbidden: {why}"),
        };
        Self::failure(403, "Forbidden", message).about(group, resource, name)
    }

    /// 401: who is asking is not known.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    /// 400: the request cannot be understood.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    /// 405: the resource does not know the verb.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let mut status =
            Self::failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
        status.details = Some(StatusDetails::default());
        status
    }

    /// 405: the resource is there and does not support the verb.
    #[must_use]
    pub fn method_not_supported(group: &str, resource: &str, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind {:?}", qualified(group, resource));
        Self::failure(405, "MethodNotAllowed", message).about(group, resource, "")
    }

    /// 406: no encoding that the client accepts.
    #[must_use]
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::failure(406, "NotAcceptable", message)
    }

    /// 415: an encoding that this server does not read.
    #[must_use]
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {}", accepted.join(", "));
        Self::failure(415, "UnsupportedMediaType", message)
    }

    /// 410: the resource version is too old.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// 413: the body is too large.
    #[must_use]
    pub fn request_entity_too_large(limit: usize) -> Self {
        Self::failure(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    /// 429: too many requests at once.
    #[must_use]
    pub fn too_many_requests(message: &str, retry_after_seconds: u32) -> Self {
        let mut status = Self::failure(429, "TooManyRequests", message);
        status.details = Some(StatusDetails { retry_after_seconds, ..StatusDetails::default() });
        status
    }

    /// 504: the server did not finish in time.
    #[must_use]
    pub fn timeout(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Self::failure(504, "Timeout", format!("Timeout: {}", message.into()));
        status.details = Some(StatusDetails { retry_after_seconds, ..StatusDetails::default() });
        status
    }

    /// 504: the server has not seen the resource version yet.
    #[must_use]
    pub fn resource_version_too_large(wanted: i64, current: i64) -> Self {
        let mut status = Self::timeout(format!("Too large resource version: {wanted}, current: {current}"), 1);
        if let Some(details) = &mut status.details {
            details.causes.push(StatusCause {
                reason: "ResourceVersionTooLarge".into(),
                message: "Too large resource version".into(),
                field: String::new(),
            });
        }
        status
    }

    /// 503: the server cannot answer now.
    #[must_use]
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    /// 500: the server's own mistake.
    #[must_use]
    pub fn internal_error(message: impl Into<String>) -> Self {
        let message = message.into();
        let mut status = Self::failure(500, "InternalError", format!("Internal error occurred: {message}"));
        let cause = StatusCause { message, ..StatusCause::default() };
        status.details = Some(StatusDetails { causes: vec![cause], ..StatusDetails::default() });
        status
    }

    /// Adds a cause, such as `NamespaceTerminating`.
    #[must_use]
    pub fn with_cause(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        let cause = StatusCause { reason: reason.into(), message: message.into(), field: field.into() };
        self.details.get_or_insert_default().causes.push(cause);
        self
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_are_kubernetes() {
        let replicas = FieldError::invalid("spec.replicas", &json!(-1), "must be greater than or equal to 0");
        let cases = [
            (Status::not_found("", "pods", "x"), "pods \"x\" not found"),
            (Status::not_found("apps", "deployments", "x"), "deployments.apps \"x\" not found"),
            (
                Status::invalid("apps", "Deployment", "x", std::slice::from_ref(&replicas)),
                "Deployment.apps \"x\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                Status::invalid("", "Pod", "x", &[FieldError::required("spec.containers", ""), replicas]),
                "Pod \"x\" is invalid: [spec.containers: Required value, spec.replicas: Invalid value: -1: must be greater than or equal to 0]",
            ),
            (
                Status::modified("", "pods", "x"),
                "Operation cannot be fulfilled on pods \"x\": the object has been modified; please apply your changes to the latest version and try again",
            ),
        ];
        for (status, message) in cases {
            assert_eq!(status.message, message);
        }
    }
}
