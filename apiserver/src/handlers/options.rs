//! What the query of a write asks for beside the object: dry run, field validation, manager, force.

use http::header;
use kontiki_api::{
    decode::FieldValidation,
    field::FieldError,
    managed::{default_manager, validate_manager},
    status::Status,
};

use crate::service::Call;

/// Options of a create, update or patch.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Nothing is to be stored.
    pub dry_run: bool,
    /// What is done about fields that the kind does not have.
    pub validation: FieldValidation,
    /// Who owns the fields that are set.
    pub manager: String,
    /// Whether an apply takes fields of others.
    pub force: bool,
}

/// Options of a call. `kind` is `CreateOptions`, `UpdateOptions` or `PatchOptions`; `is_apply` for an apply patch.
///
/// # Errors
/// 422, with every mistake.
pub fn of_write(call: &Call, kind: &str, is_apply: bool) -> Result<WriteOptions, Status> {
    let info = &call.info;
    let mut errors = Vec::new();
    let named = info.parameter("fieldManager");
    match (is_apply, named.is_empty(), info.query.contains_key("force")) {
        (true, true, _) => errors.push(FieldError::required("fieldManager", "is required for apply patch")),
        (false, _, true) => errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch")),
        _ => {}
    }
    errors.extend(validate_manager(named, "fieldManager"));
    let dry_run = dry_run(call).unwrap_or_else(|error| {
        errors.push(error);
        false
    });
    let text = info.parameter("fieldValidation");
    let validation = FieldValidation::parse(text).unwrap_or_else(|| {
        errors.push(FieldError::not_supported("fieldValidation", &text.into(), &["", "Ignore", "Strict", "Warn"]));
        FieldValidation::Ignore
    });
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", kind, "", &errors));
    }
    let agent = call.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(WriteOptions { dry_run, validation, manager: default_manager(named, agent), force: info.flag("force") })
}

/// Whether nothing is to be stored.
///
/// # Errors
/// Another word than `All`.
pub fn dry_run(call: &Call) -> Result<bool, FieldError> {
    let given: Vec<&str> = call.info.every("dryRun").filter(|word| !word.is_empty()).collect();
    check_dry_run(&given).map(|()| !given.is_empty())
}

/// Refuses words that ask for another kind of dry run than there is.
///
/// # Errors
/// Another word than `All`.
pub fn check_dry_run(given: &[&str]) -> Result<(), FieldError> {
    if given.iter().all(|word| *word == "All") {
        return Ok(());
    }
    let list: Vec<String> = given.iter().map(|word| format!("{word:?}")).collect();
    let mut error = FieldError::not_supported("dryRun", &serde_json::Value::Null, &["All"]);
    error.value = format!("[]string{{{}}}", list.join(", "));
    Err(error)
}
