//! What requests are made of: selectors, patches, deletion options, lists.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What to list or watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListParams {
    /// Label selector in its text form; empty selects all.
    pub label_selector: String,
    /// Field selector; empty selects all.
    pub field_selector: String,
    /// Most objects of one page; 0 for all.
    pub limit: u32,
    /// Continues a list that was cut by `limit`.
    pub continue_token: String,
    /// Empty for the newest state, `0` for whatever the server has at hand, else at least this one.
    pub resource_version: String,
}

impl ListParams {
    /// The query string, without a question mark.
    #[must_use]
    pub fn query(&self) -> String {
        let mut query = String::new();
        let limit = if self.limit == 0 { String::new() } else { self.limit.to_string() };
        for (name, value) in [
            ("labelSelector", &self.label_selector),
            ("fieldSelector", &self.field_selector),
            ("limit", &limit),
            ("continue", &self.continue_token),
            ("resourceVersion", &self.resource_version),
        ] {
            push(&mut query, name, value);
        }
        query
    }
}

/// Appends `name=value` with the value escaped; nothing for an empty value.
pub(crate) fn push(query: &mut String, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    if !query.is_empty() {
        query.push('&');
    }
    let value = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
    // Writing to a String cannot fail.
    let _ = write!(query, "{name}={value}");
}

/// A list of objects.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "T: serde::de::DeserializeOwned")]
pub struct List<T> {
    /// Metadata of the list.
    #[serde(default)]
    pub metadata: ListMeta,
    /// The objects.
    #[serde(default = "Vec::new")]
    pub items: Vec<T>,
}

/// Metadata of a list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListMeta {
    /// Version at which the list is true.
    pub resource_version: String,
    /// Token for the next page; empty on the last.
    #[serde(rename = "continue")]
    pub continue_token: String,
}

/// A patch and its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// JSON merge patch, RFC 7386.
    Merge(Value),
    /// Strategic merge patch.
    Strategic(Value),
    /// JSON patch, RFC 6902: a list of operations.
    Json(Value),
}

impl Patch {
    /// Media type.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Merge(_) => "application/merge-patch+json",
            Self::Strategic(_) => "application/strategic-merge-patch+json",
            Self::Json(_) => "application/json-patch+json",
        }
    }

    /// The patch itself.
    #[must_use]
    pub fn body(&self) -> &Value {
        match self {
            Self::Merge(value) | Self::Strategic(value) | Self::Json(value) => value,
        }
    }
}

/// What becomes of an object's dependents when it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PropagationPolicy {
    /// They are left alone.
    Orphan,
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
}

/// How to delete.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteOptions {
    /// Seconds that the object may take to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// Conditions on the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
    /// What becomes of its dependents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<PropagationPolicy>,
}

impl DeleteOptions {
    /// Deletes only the object with that UID.
    #[must_use]
    pub fn with_uid(uid: impl Into<String>) -> Self {
        let preconditions = Some(Preconditions { uid: Some(uid.into()), resource_version: None });
        Self { preconditions, ..Self::default() }
    }
}

/// Conditions under which an object may be deleted.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preconditions {
    /// `metadata.uid` must be this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// `metadata.resourceVersion` must be this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped_and_leave_out_what_is_empty() {
        let params = ListParams { label_selector: "app in (a,b)".into(), limit: 5, ..ListParams::default() };
        assert_eq!(params.query(), "labelSelector=app%20in%20%28a%2Cb%29&limit=5");
        assert_eq!(ListParams::default().query(), "");
    }
}
