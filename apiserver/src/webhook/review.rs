//! `AdmissionReview`: what a webhook is asked, and what its answer means.

use base64::{Engine, prelude::BASE64_STANDARD};
use kontiki_api::{registry::Resource, status::Status};
use serde_json::{Value, json};

use crate::{admission::Request, auth::UserInfo};

/// A user as reviews carry it.
#[must_use]
pub fn user_info(user: &UserInfo) -> Value {
    let mut info = json!({ "username": user.name });
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

/// The question. `matched` is the resource as the webhook wants to see it, objects are in its version.
#[must_use]
pub fn question(uid: &str, request: &Request<'_>, matched: &Resource, object: &Value, old: &Value) -> Value {
    let kind_of = |resource: &Resource| {
        let part = resource.subresource(request.subresource);
        let (group, version) = part.and_then(|part| part.group_version).unwrap_or((resource.key.group, resource.key.version));
        json!({ "group": group, "version": version, "kind": part.map_or(resource.key.kind, |part| part.kind) })
    };
    let resource_of = |resource: &Resource| json!({ "group": resource.key.group, "version": resource.key.version, "resource": resource.key.plural });
    let mut asked = json!({
        "uid": uid,
        "kind": kind_of(matched),
        "resource": resource_of(matched),
        "requestKind": kind_of(request.resource),
        "requestResource": resource_of(request.resource),
        "operation": request.operation.name(),
        "userInfo": user_info(request.user),
        "object": object,
        "oldObject": old,
        "dryRun": request.dry_run,
        "options": request.options,
    });
    for (field, text) in [("name", request.name), ("namespace", request.namespace)] {
        if !text.is_empty() {
            asked[field] = json!(text);
        }
    }
    if !request.subresource.is_empty() {
        asked["subResource"] = json!(request.subresource);
        asked["requestSubResource"] = json!(request.subresource);
    }
    json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": asked })
}

/// What a webhook said.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    /// Whether the request may go on.
    pub allowed: bool,
    /// JSON patch; empty for none.
    pub patch: Vec<u8>,
    /// Why not.
    pub result: Value,
    /// Texts of `Warning:` headers.
    pub warnings: Vec<String>,
    /// For the audit event.
    pub annotations: Vec<(String, String)>,
}

/// Reads an answer.
///
/// # Errors
/// It is none, in the words that follow `received invalid webhook response: `.
pub fn answer(uid: &str, review: &Value, mutating: bool) -> Result<Answer, String> {
    let Some(response) = review.get("response").filter(|response| response.is_object()) else {
        return Err("webhook response was absent".to_owned());
    };
    let found = response["uid"].as_str().unwrap_or_default();
    if found != uid {
        return Err(format!("expected response.uid={uid:?}, got {found:?}"));
    }
    let (version, kind) = (review["apiVersion"].as_str().unwrap_or_default(), review["kind"].as_str().unwrap_or_default());
    if version != "admission.k8s.io/v1" || kind != "AdmissionReview" {
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {version}, Kind={kind}"
        ));
    }
    let patch = response["patch"].as_str().unwrap_or_default();
    let patch_type = response.get("patchType").and_then(Value::as_str);
    match (mutating, patch.is_empty(), patch_type) {
        (false, false, _) => return Err("validating webhook may not return response.patch".to_owned()),
        (false, _, Some(_)) => return Err("validating webhook may not return response.patchType".to_owned()),
        (true, false, None) => return Err("webhook returned response.patch but not response.patchType".to_owned()),
        (true, true, Some(_)) => return Err("webhook returned response.patchType but not response.patch".to_owned()),
        (true, false, Some(other)) if other != "JSONPatch" => return Err(format!("unsupported patch type {other:?}")),
        _ => {}
    }
    let patch = BASE64_STANDARD.decode(patch).map_err(|_| "illegal base64 data in response.patch".to_owned())?;
    let warnings = response["warnings"].as_array().into_iter().flatten();
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    Ok(Answer {
        allowed: response["allowed"] == true,
        patch,
        result: response.get("status").cloned().unwrap_or(Value::Null),
        warnings: warnings.filter_map(|text| text.as_str().map(str::to_owned)).collect(),
        annotations: annotations.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect(),
    })
}

/// The Status of a refusal.
#[must_use]
pub fn refusal(webhook: &str, result: &Value) -> Status {
    let mut status: Status = serde_json::from_value(result.clone()).unwrap_or_default();
    status.kind = "Status".into();
    status.api_version = "v1".into();
    status.metadata = json!({});
    status.code = status.code.max(400);
    if status.status.is_empty() || status.status == "Success" {
        status.status = "Failure".into();
    }
    let denied = format!("admission webhook {webhook:?} denied the request");
    status.message = match (status.message.as_str(), status.reason.as_str()) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    status
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn reply(response: Value) -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }

    #[test]
    fn answers_are_taken_at_their_word_or_refused() {
        let good =
            answer("1", &reply(json!({"uid": "1", "allowed": true, "patch": "W10=", "patchType": "JSONPatch"})), true).unwrap();
        assert!(good.allowed && good.patch == b"[]");
        for (response, mutating, expected) in [
            (json!({"uid": "2"}), true, "expected response.uid=\"1\", got \"2\""),
            (json!(null), true, "webhook response was absent"),
            (json!({"uid": "1", "patch": "W10="}), true, "webhook returned response.patch but not response.patchType"),
            (json!({"uid": "1", "patch": "W10="}), false, "validating webhook may not return response.patch"),
        ] {
            assert_eq!(answer("1", &reply(response), mutating).unwrap_err(), expected);
        }
    }

    #[test]
    fn refusals_have_kubernetes_words() {
        let message = |result: Value| refusal("w", &result).message;
        assert_eq!(message(Value::Null), "admission webhook \"w\" denied the request without explanation");
        assert_eq!(message(json!({"reason": "Bad"})), "admission webhook \"w\" denied the request: Bad");
        let status = refusal("w", &json!({"message": "no", "code": 418}));
        assert_eq!((status.message.as_str(), status.code), ("admission webhook \"w\" denied the request: no", 418));
        assert_eq!(refusal("w", &json!({"code": 200})).code, 400);
    }
}
