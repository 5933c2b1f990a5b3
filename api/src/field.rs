//! A mistake in one field of an object, in the words that Kubernetes uses for it.

use std::fmt;

/// Kind of mistake; the name is the `reason` of a Status cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// A required value is missing.
    Required,
    /// The value is malformed or out of range.
    Invalid,
    /// The value is not one of the supported ones.
    NotSupported,
    /// The value may not be set here.
    Forbidden,
    /// The value occurs twice where it must be unique.
    Duplicate,
    /// What the value refers to does not exist.
    NotFound,
    /// The value is longer than allowed.
    TooLong,
    /// There are more items than allowed.
    TooMany,
    /// The value has the wrong type.
    TypeInvalid,
    /// The mistake is the server's.
    Internal,
}

impl ErrorType {
    /// `reason` of the cause in a Status.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotFound => "FieldValueNotFound",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::Duplicate => "Duplicate value",
            Self::NotFound => "Not found",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One mistake: which field, which value, what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Kind of mistake.
    pub type_: ErrorType,
    /// Path of the field, such as `spec.containers[0].name`.
    pub field: String,
    /// The value as Kubernetes prints it, quoted if it is text; empty where none is printed.
    pub value: String,
    /// What is wrong; may be empty.
    pub detail: String,
}

impl FieldError {
    /// A required value is missing.
    #[must_use]
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { type_: ErrorType::Required, field: field.into(), value: String::new(), detail: detail.into() }
    }

    /// A value that breaks a rule.
    #[must_use]
    pub fn invalid(field: impl Into<String>, value: &serde_json::Value, detail: impl Into<String>) -> Self {
        Self { type_: ErrorType::Invalid, field: field.into(), value: print(value), detail: detail.into() }
    }

    /// A value outside the list of supported ones.
    #[must_use]
    pub fn not_supported(field: impl Into<String>, value: &serde_json::Value, supported: &[&str]) -> Self {
        let list = supported.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ");
        Self {
            type_: ErrorType::NotSupported,
            field: field.into(),
            value: print(value),
            detail: format!("supported values: {list}"),
        }
    }

    /// A value that may not be set here.
    #[must_use]
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { type_: ErrorType::Forbidden, field: field.into(), value: String::new(), detail: detail.into() }
    }

    /// A value that occurs twice.
    #[must_use]
    pub fn duplicate(field: impl Into<String>, value: &serde_json::Value) -> Self {
        Self { type_: ErrorType::Duplicate, field: field.into(), value: print(value), detail: String::new() }
    }

    /// Text of more than `limit` bytes.
    #[must_use]
    pub fn too_long(field: impl Into<String>, limit: usize) -> Self {
        Self {
            type_: ErrorType::TooLong,
            field: field.into(),
            value: String::new(),
            detail: format!("may not be more than {limit} bytes"),
        }
    }

    /// What a Status cause carries: the message without the field.
    #[must_use]
    pub fn message(&self) -> String {
        let mut text = self.type_.text().to_owned();
        if !self.value.is_empty() {
            text.push_str(": ");
            text.push_str(&self.value);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.field, self.message())
    }
}

fn print(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}
