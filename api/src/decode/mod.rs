//! Request bodies become objects.
//!
//! In: JSON bytes and the type that the endpoint expects. Out: the object, cleaned of what its type
//! does not know, with the warnings that the request deserves; or the Status that refuses it, in the
//! words of Kubernetes' decoder, because people search for them.
//! Invariant: a decoded object has only fields of its type, each of the type's shape.

mod syntax;
mod walk;

use serde_json::Value;

use crate::registry::{Resource, Subresource};
use crate::schema::{self, Type};
use crate::status::Status;

pub use syntax::go_syntax_error;
pub use walk::Dialect;
pub(crate) use walk::{walk_text, walk_value};

/// What a request wants done about fields that its kind does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and send a warning for each: what happens unless asked otherwise.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

impl FieldValidation {
    /// Reads the query parameter `fieldValidation`; `None` for a word it does not know.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Warn" => Some(Self::Warn),
            "Ignore" => Some(Self::Ignore),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// The type of object that an endpoint takes.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Group; empty for the core group.
    pub group: &'a str,
    /// Version within the group.
    pub version: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// Type in the schema table.
    pub type_: &'static Type,
}

impl Expected<'static> {
    /// What a resource's own paths take.
    #[must_use]
    pub fn of(resource: &Resource) -> Option<Self> {
        let key = resource.key;
        Some(Self { group: key.group, version: key.version, kind: key.kind, type_: resource.type_()? })
    }

    /// What a subresource's path takes.
    #[must_use]
    pub fn of_subresource(resource: &Resource, part: &Subresource) -> Option<Self> {
        let (group, version) = part.group_version.unwrap_or((resource.key.group, resource.key.version));
        Some(Self { group, version, kind: part.kind, type_: part.type_(&resource.key)? })
    }
}

impl Expected<'_> {
    fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// A decoded request body.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object, kind and apiVersion filled in.
    pub object: Value,
    /// Texts of `Warning:` headers.
    pub warnings: Vec<String>,
}

/// Decodes the body of a create or update.
///
/// # Errors
/// 400 BadRequest: no JSON, another kind, a field of the wrong type, or, if that is asked for, a
/// field that is unknown or given twice.
pub fn decode(body: &[u8], expected: Expected<'_>, validation: FieldValidation) -> Result<Decoded, Status> {
    let (value, findings) = walk_text(body, expected.type_).map_err(|message| {
        let summary = summarize(body);
        let message = format!("couldn't get version/kind; json parse error: {message}");
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {message} ({summary})",
            expected.kind
        ))
    })?;
    let mut object = value;
    check_kind(&mut object, expected)?;
    if let Some(error) = findings.error {
        return Err(cannot_be_handled(&object, expected, &error));
    }
    let warnings = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn => findings.strict,
        FieldValidation::Strict if findings.strict.is_empty() => Vec::new(),
        FieldValidation::Strict => {
            return Err(cannot_be_handled(&object, expected, &strict_error(&findings.strict)));
        }
    };
    Ok(Decoded { object, warnings })
}

/// Decodes the body of a delete; an empty body asks for nothing in particular.
///
/// # Errors
/// 400 BadRequest, as [`decode`].
pub fn decode_delete_options(body: &[u8]) -> Result<Value, Status> {
    let Some(type_) = schema::find("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions") else {
        return Err(Status::internal_error("no type for DeleteOptions"));
    };
    if body.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let refuse = |error: &str| {
        Status::bad_request(format!("DeleteOptions in version \"v1\" cannot be handled as a DeleteOptions: {error}"))
    };
    let (object, findings) = walk_text(body, type_).map_err(|error| refuse(&error))?;
    match findings.error {
        Some(error) => Err(refuse(&error)),
        None => Ok(object),
    }
}

/// The words for a list of strict findings.
#[must_use]
pub fn strict_error(findings: &[String]) -> String {
    format!("strict decoding error: {}", findings.join(", "))
}

fn cannot_be_handled(object: &Value, expected: Expected<'_>, error: &str) -> Status {
    let kind = object["kind"].as_str().unwrap_or(expected.kind);
    let version = object["apiVersion"].as_str().unwrap_or(expected.version);
    let version = version.rsplit('/').next().unwrap_or(version);
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {}: {error}", expected.kind))
}

/// Fills in kind and apiVersion where they are left out, and refuses others than the endpoint's.
fn check_kind(object: &mut Value, expected: Expected<'_>) -> Result<(), Status> {
    let wanted = expected.api_version();
    for (field, value) in [("kind", expected.kind), ("apiVersion", wanted.as_str())] {
        if object[field].as_str().unwrap_or_default().is_empty() {
            object[field] = value.into();
        }
    }
    let kind = object["kind"].as_str().unwrap_or_default();
    let version = object["apiVersion"].as_str().unwrap_or_default();
    if kind == expected.kind && version == wanted {
        return Ok(());
    }
    if crate::registry::find_kind(version, kind).is_none() {
        let error =
            format!("no kind {kind:?} is registered for version {version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\"");
        return Err(cannot_be_handled(object, expected, &error));
    }
    if kind == expected.kind {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({wanted})"
        )));
    }
    let short = version.rsplit('/').next().unwrap_or(version);
    let package = expected.group.split('.').next().filter(|group| !group.is_empty()).unwrap_or("core");
    let error = format!("converting ({short}.{kind}) to ({package}.{}): unknown conversion", expected.kind);
    Err(cannot_be_handled(object, expected, &error))
}

/// The beginning of a body, as messages quote it: text if it may be an object, else hexadecimal.
fn summarize(body: &[u8]) -> String {
    const LENGTH_MAX: usize = 30;
    let start = &body[..body.len().min(LENGTH_MAX)];
    let more = if body.len() > LENGTH_MAX { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(start)),
        Some(_) => {
            let digits: String = start.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{digits}{more}")
        }
    }
}

#[cfg(test)]
mod tests;
