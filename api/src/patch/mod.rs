//! Patches: a stored object and a request body become the object that is to be stored.
//!
//! In: the object, the body of a PATCH and its media type, the type of the object. Out: the patched
//! object, cleaned of what its type does not know, with warnings; or the Status that refuses it.
//! Pure functions on values; the caller applies a patch again when the object changed under it.
//! JSON patch is RFC 6902, merge patch RFC 7386, strategic merge patch Kubernetes' own
//! (<https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/>).

mod go;
mod json;
mod strategic;

use serde_json::Value;

use crate::decode::{Dialect, FieldValidation, go_syntax_error, strict_error, walk_value};
use crate::field::FieldError;
use crate::schema::Type;
use crate::status::Status;

pub(crate) use go::print as print_go;
pub use strategic::strategic_merge;

/// How a patch is written; the media type says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// `application/json-patch+json`.
    Json,
    /// `application/merge-patch+json`.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
}

impl PatchType {
    /// Reads a media type, parameters ignored; `None` for another one.
    #[must_use]
    pub fn from_media_type(text: &str) -> Option<Self> {
        match text.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            _ => None,
        }
    }
}

/// A patched object.
#[derive(Clone, Debug, PartialEq)]
pub struct Patched {
    /// The object after the patch.
    pub object: Value,
    /// Texts of `Warning:` headers.
    pub warnings: Vec<String>,
}

/// Applies a patch.
///
/// # Errors
/// 400 for a patch that cannot be read, 422 for one that cannot be applied or whose result is no
/// object of the type.
pub fn apply(
    patch_type: PatchType,
    object: &Value,
    body: &[u8],
    type_: &'static Type,
    validation: FieldValidation,
) -> Result<Patched, Status> {
    let (patched, shown, dialect) = match patch_type {
        PatchType::Json | PatchType::Merge => (apply_untyped(patch_type, object, body)?, None, Dialect::Json),
        PatchType::Strategic => {
            let patch: Value =
                serde_json::from_slice(body).map_err(|error| Status::bad_request(go_syntax_error(&error, body)))?;
            require_object(&patch).map_err(Status::bad_request)?;
            let patched = strategic_merge(object.clone(), patch.clone(), type_)?;
            (patched, Some(patch), Dialect::Converter)
        }
    };
    // Messages quote what was decoded: the result, or the patch alone where it is strategic.
    let quote = |patched: &Value| match &shown {
        Some(patch) => go::print(patch),
        None => patched.to_string(),
    };
    let unclean = quote(&patched);
    let (object, findings) = walk_value(patched, type_, dialect);
    if let Some(error) = findings.error {
        return Err(refuse(&unclean, error));
    }
    match validation {
        FieldValidation::Strict if !findings.strict.is_empty() => Err(refuse(&unclean, strict_error(&findings.strict))),
        FieldValidation::Warn => Ok(Patched { object, warnings: findings.strict }),
        FieldValidation::Strict | FieldValidation::Ignore => Ok(Patched { object, warnings: Vec::new() }),
    }
}

/// An object that came out of an apply, cleaned of what its type does not keep.
///
/// # Errors
/// A value of the wrong form, such as a malformed quantity.
pub fn clean(object: Value, type_: &'static Type) -> Result<Value, Status> {
    let (object, findings) = walk_value(object, type_, Dialect::Converter);
    match findings.error {
        Some(error) => Err(Status::failure(500, "", format!("failed to convert new typed object to object: {error}"))),
        None => Ok(object),
    }
}

/// Applies a patch that needs no type; the result is not cleaned.
///
/// # Errors
/// 400 for a patch that cannot be read, 415 for a strategic one, 422 for one that cannot be applied.
pub fn apply_untyped(patch_type: PatchType, object: &Value, body: &[u8]) -> Result<Value, Status> {
    match patch_type {
        PatchType::Json => json::json_patch(object, body),
        PatchType::Merge => {
            let patch: Value = serde_json::from_slice(body)
                .map_err(|error| Status::bad_request(format!("error decoding patch: {}", go_syntax_error(&error, body))))?;
            require_object(&patch).map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
            let mut patched = object.clone();
            json_patch::merge(&mut patched, &patch);
            Ok(patched)
        }
        _ => Err(Status::unsupported_media_type(&["application/json-patch+json", "application/merge-patch+json"])),
    }
}

/// 422 for a patch whose result is no object of the kind.
pub(crate) fn refuse(shown: &str, error: String) -> Status {
    Status::invalid("", "", "", &[FieldError::invalid("patch", &shown.into(), error)])
}

fn require_object(patch: &Value) -> Result<(), String> {
    let kind = match patch {
        Value::Object(_) => return Ok(()),
        Value::Null => return Err("json: cannot unmarshal null into Go value of type map[string]interface {}".to_owned()),
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
    };
    Err(format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"))
}

#[cfg(test)]
mod tests;
