//! A strategy as data: what most kinds need is a few flags, a few functions and a list of columns.
//!
//! A kind names what is particular about it and takes the rest from [`Kind::NEW`]. Functions push
//! errors into one list; everything stays a pure function of its arguments.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::common::{self, AGE, NAME, keep};
use crate::{
    field::FieldError,
    names,
    strategy::{Column, Strategy},
};

/// Errors that a check has found so far.
pub type Errors = Vec<FieldError>;

/// What is particular about one kind.
pub struct Kind {
    /// Whether the object has a status that only `/status` changes.
    pub status: bool,
    /// Metadata that a status update may not change.
    pub status_keeps: &'static [&'static str],
    /// Whether `metadata.generation` counts changes.
    pub generation: bool,
    /// Why a name is no valid name.
    pub name: fn(&str) -> Vec<String>,
    /// Fills in what a user may leave out.
    pub defaults: fn(&mut Value),
    /// What creation sets and clears beside status.
    pub create: fn(&mut Value, Timestamp),
    /// What an update may not touch beside status: new, old.
    pub update: fn(&mut Value, &Value),
    /// Checks of every write.
    pub validate: fn(&Value, &mut Errors),
    /// Further checks of an update: new, old.
    pub validate_update: fn(&Value, &Value, &mut Errors),
    /// Checks of a status update: new, old.
    pub validate_status: fn(&Value, &Value, &mut Errors),
    /// What an update through another subresource may not touch: its name, new, old.
    pub part: fn(&str, &mut Value, &Value),
    /// Checks of an update through another subresource: its name, new, old.
    pub validate_part: fn(&str, &Value, &Value, &mut Errors),
    /// Fields that selectors may name.
    pub fields: &'static [&'static str],
    /// Value of one of `fields`.
    pub field_value: fn(&Value, &str) -> String,
    /// Columns.
    pub columns: &'static [Column],
    /// One row.
    pub cells: fn(&Value, Timestamp) -> Vec<Value>,
    /// Warnings that a write deserves.
    pub warnings: fn(&Value) -> Vec<String>,
}

impl Kind {
    /// Nothing particular: name and age, no status.
    pub const NEW: Self = Self {
        status: false,
        status_keeps: &[],
        generation: false,
        name: names::dns_subdomain,
        defaults: |_| {},
        create: |_, _| {},
        update: |_, _| {},
        validate: |_, _| {},
        validate_update: |_, _, _| {},
        validate_status: |_, _, _| {},
        part: |_, new, old| new.clone_from(old),
        validate_part: |_, _, _, _| {},
        fields: &[],
        field_value: text_at,
        columns: &[NAME, AGE],
        cells: |object, now| vec![common::name(object), common::age(object, now)],
        warnings: |_| Vec::new(),
    };
    /// As [`Kind::NEW`], with a generation.
    pub const COUNTED: Self = Self { generation: true, ..Self::NEW };
    /// As [`Kind::NEW`], with a status.
    pub const WITH_STATUS: Self = Self { status: true, ..Self::NEW };
    /// As [`Kind::NEW`], with a status and a generation.
    pub const COUNTED_WITH_STATUS: Self = Self { status: true, ..Self::COUNTED };
}

/// The value at a path such as `spec.type`, as selectors compare it; an absent one is empty.
pub fn text_at(object: &Value, path: &str) -> String {
    match object.pointer(&format!("/{}", path.replace('.', "/"))) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

impl Strategy for Kind {
    fn set_defaults(&self, object: &mut Value) {
        (self.defaults)(object);
    }

    fn prepare_for_create(&self, object: &mut Value, now: Timestamp) {
        if self.status {
            object["status"] = json!({});
        }
        (self.create)(object, now);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        (self.validate)(object, &mut errors);
        errors
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        if self.status {
            keep(new, old, "status");
        }
        (self.update)(new, old);
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        (self.validate_update)(new, old, &mut errors);
        errors
    }

    fn metadata_kept_by_status(&self) -> &'static [&'static str] {
        self.status_keeps
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        (self.validate_status)(new, old, &mut errors);
        errors
    }

    fn prepare_for_part_update(&self, part: &str, new: &mut Value, old: &Value) {
        (self.part)(part, new, old);
    }

    fn validate_part_update(&self, part: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        (self.validate_part)(part, new, old, &mut errors);
        errors
    }

    fn has_generation(&self) -> bool {
        self.generation
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        (self.name)(name)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        self.fields
    }

    fn field_value(&self, object: &Value, path: &str) -> String {
        (self.field_value)(object, path)
    }

    fn columns(&self) -> &'static [Column] {
        self.columns
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        (self.cells)(object, now)
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        (self.warnings)(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_left_to_its_own_path() {
        let kind: &dyn Strategy = &Kind::COUNTED_WITH_STATUS;
        let mut object = json!({"metadata": {"name": "a"}, "status": {"phase": "Forged"}});
        kind.prepare_for_create(&mut object, Timestamp::UNIX_EPOCH);
        assert_eq!(object["status"], json!({}));
        let old = json!({"status": {"phase": "Bound"}});
        kind.prepare_for_update(&mut object, &old);
        assert_eq!(object["status"], old["status"]);
    }

    #[test]
    fn selectors_compare_text() {
        let object = json!({"spec": {"type": "x", "unschedulable": true, "count": 3}});
        for (path, value) in [("spec.type", "x"), ("spec.unschedulable", "true"), ("spec.count", "3"), ("spec.none", "")] {
            assert_eq!(text_at(&object, path), value);
        }
    }
}
