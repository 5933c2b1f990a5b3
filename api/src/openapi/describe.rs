//! What fields are for, in sentences of our own, for `kubectl explain`.
//!
//! The texts lie beside this file, one a line: `Type` or `Type.field`, then the sentence. Fields that
//! are not listed have no description.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::schema::{Field, Type};

/// Description of `apiVersion` wherever it occurs.
pub(crate) const API_VERSION: &str = "APIVersion defines group and version of the kind, such as v1 or apps/v1.";
/// Description of `kind` wherever it occurs.
pub(crate) const KIND: &str = "What the object is, such as Pod.";

/// Description of the metadata of custom resources.
pub(crate) const METADATA: &str = "Standard object's metadata: name, labels and whatever else all objects have.";

static TEXTS: LazyLock<HashMap<&'static str, &'static str>> =
    LazyLock::new(|| include_str!("descriptions.txt").lines().filter_map(|line| line.split_once(' ')).collect());

pub(super) fn type_(type_: &Type) -> Option<&'static str> {
    TEXTS.get(type_.short_name()).copied()
}

pub(super) fn field(type_: &Type, field: &Field) -> Option<&'static str> {
    let known = TEXTS.get(format!("{}.{}", type_.short_name(), field.name).as_str()).copied();
    known.or(match field.name {
        "apiVersion" => Some(API_VERSION),
        "kind" => Some(KIND),
        "metadata" => Some(METADATA),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn every_text_describes_something_that_exists() {
        for name in TEXTS.keys() {
            let (type_, field) = name.split_once('.').unwrap_or((name, ""));
            let found =
                schema::all().any(|known| known.short_name() == type_ && (field.is_empty() || known.field(field).is_some()));
            assert!(found, "{name}");
        }
    }
}
