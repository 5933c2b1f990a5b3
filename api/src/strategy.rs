//! What is particular about one kind: the seam between the registry and `kinds/`.
//!
//! In: a decoded object (and the old one on update). Out: the object as it may be stored, or the
//! field errors that refuse it. Everything is a pure function of its arguments, time included.
//! Schema-driven work (unknown fields, list types, patches) is not done here but from the schema
//! table; a strategy says only what a table cannot.

use jiff::Timestamp;
use serde_json::Value;

use crate::field::FieldError;

/// One printer column of a `Table`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Heading, such as `Ready`.
    pub name: &'static str,
    /// OpenAPI type: `string`, `integer`, `boolean`, `date`.
    pub type_: &'static str,
    /// OpenAPI format; `name` marks the column with the object's name.
    pub format: &'static str,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
    /// One line that says what the column shows.
    pub description: &'static str,
}

/// Metadata that no writer of a status changes.
const SYSTEM_METADATA: [&str; 7] =
    ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];
/// What kinds keep whose status update changes no metadata at all.
pub const USERS_METADATA: &[&str] = &["labels", "annotations", "finalizers", "ownerReferences"];

/// Behaviour of one kind.
pub trait Strategy: Send + Sync + 'static {
    /// What a CustomResourceDefinition says of this kind now; `None` for built-in kinds.
    fn custom(&self) -> Option<std::sync::Arc<crate::custom::strategy::Served>> {
        None
    }

    /// Fills in the fields that a user may leave out, as v1.36 does on decoding.
    fn set_defaults(&self, _object: &mut Value) {}

    /// Clears what a client may not set at creation (status) and sets what creation begins with.
    fn prepare_for_create(&self, _object: &mut Value, _now: Timestamp) {}

    /// Errors that refuse a creation. Metadata common to all kinds is checked elsewhere.
    fn validate(&self, object: &Value) -> Vec<FieldError>;

    /// Restores what an update through the main resource may not touch (status).
    fn prepare_for_update(&self, _new: &mut Value, _old: &Value) {}

    /// Errors that refuse an update, immutability included.
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError>;

    /// Fields of metadata that an update through `/status` may not change. Most kinds let it change what any update may.
    fn metadata_kept_by_status(&self) -> &'static [&'static str] {
        &[]
    }

    /// Restores what an update through `/status` may not touch: everything but status and most metadata.
    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        let status = new.get("status").cloned();
        let metadata = new["metadata"].take();
        *new = old.clone();
        match status {
            Some(status) => new["status"] = status,
            None => {
                if let Some(map) = new.as_object_mut() {
                    map.remove("status");
                }
            }
        }
        let Value::Object(mut metadata) = metadata else { return };
        for field in SYSTEM_METADATA.iter().chain(self.metadata_kept_by_status()) {
            match old["metadata"].get(field) {
                Some(value) => metadata.insert((*field).to_owned(), value.clone()),
                None => metadata.remove(*field),
            };
        }
        new["metadata"] = Value::Object(metadata);
    }

    /// Errors that refuse a status update.
    fn validate_status_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Restores what an update through another subresource may not touch.
    fn prepare_for_part_update(&self, _part: &str, new: &mut Value, old: &Value) {
        *new = old.clone();
    }

    /// Errors that refuse an update through another subresource.
    fn validate_part_update(&self, _part: &str, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Whether `metadata.generation` counts changes of everything but metadata and status.
    fn has_generation(&self) -> bool {
        false
    }

    /// Whether a name is a valid name of this kind: a reason per violated rule.
    fn validate_name(&self, name: &str) -> Vec<String> {
        crate::names::dns_subdomain(name)
    }

    /// Seconds of grace that a deletion begins with, where the kind is deleted gracefully.
    /// `None`: objects of this kind go at once. `requested` is what DeleteOptions asked for.
    fn grace_period_seconds(&self, _object: &Value, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// Paths that a field selector may name beside `metadata.name` and `metadata.namespace`.
    fn selectable_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// Value of one of [`Strategy::selectable_fields`]; absent fields select as the empty string.
    fn field_value(&self, object: &Value, path: &str) -> String {
        let pointer = format!("/{}", path.replace('.', "/"));
        match object.pointer(&pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        }
    }

    /// Columns of this kind's `Table`.
    fn columns(&self) -> &'static [Column];

    /// One row: as many cells as there are [`Strategy::columns`].
    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value>;

    /// `Warning:` headers that a write of this object deserves.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }
}
