//! The strategy of custom resources: what a definition says, behind the seam that built-in kinds have too.
//!
//! A strategy lives as long as the process; what it knows is swapped when the definition changes. A request takes
//! [`CustomStrategy::current`] once and sees one definition from beginning to end of each decision.

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    columns, decode, defaults,
    definition::{Definition, Version},
    field_versions,
    rules::{self, Rules},
    validate,
};
use crate::{
    decode::{Decoded, FieldValidation},
    field::{ErrorType, FieldError},
    kinds,
    managed::{FieldSet, Owned},
    patch::{self, PatchType, Patched},
    status::Status,
    strategy::{Column, Strategy, USERS_METADATA},
};

/// One served version of a definition.
#[derive(Debug)]
pub struct Served {
    /// The definition.
    pub definition: Arc<Definition>,
    index: usize,
    rules: Option<Rules>,
}

impl Served {
    /// A version of a definition by its place in the specification; `None` where there is no such place.
    #[must_use]
    pub fn new(definition: &Arc<Definition>, index: usize) -> Option<Self> {
        let version = definition.versions.get(index)?;
        let rules = version.schema.as_ref().and_then(|schema| rules::compile(schema, "").0);
        Some(Self { definition: Arc::clone(definition), index, rules })
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> &Version {
        // `new` has looked.
        &self.definition.versions[self.index]
    }

    /// `GROUP/VERSION`.
    #[must_use]
    pub fn api_version(&self) -> String {
        self.definition.api_version(&self.version().name)
    }

    /// Decodes the body of a create or update.
    ///
    /// # Errors
    /// See [`decode::decode`].
    pub fn decode(&self, body: &[u8], validation: FieldValidation) -> Result<Decoded, Status> {
        decode::decode(body, &self.api_version(), &self.definition.names.kind, self.version(), validation)
    }

    /// Applies a patch.
    ///
    /// # Errors
    /// 415 for a strategic one, which needs a schema that a definition does not have; else as for built-in kinds.
    pub fn patch(
        &self,
        patch_type: PatchType,
        object: &Value,
        body: &[u8],
        validation: FieldValidation,
    ) -> Result<Patched, Status> {
        let mut patched = patch::apply_untyped(patch_type, object, body)?;
        let strict = decode::clean(&mut patched, self.version(), Vec::new())?;
        match validation {
            FieldValidation::Strict if !strict.is_empty() => {
                Err(patch::refuse(&patched.to_string(), crate::decode::strict_error(&strict)))
            }
            FieldValidation::Warn => Ok(Patched { object: patched, warnings: strict }),
            FieldValidation::Strict | FieldValidation::Ignore => Ok(Patched { object: patched, warnings: Vec::new() }),
        }
    }

    /// Calls with the schema as ownership of fields sees it.
    pub fn owned<R>(&self, call: impl FnOnce(&Owned<'_>) -> R) -> R {
        field_versions::with_schema(self.version(), call)
    }

    /// Top-level fields but status: what a write of the status does not set.
    #[must_use]
    pub fn fields_beside_status(&self) -> FieldSet {
        let known = self.version().schema.iter().flat_map(|schema| schema.properties.keys());
        let others: Vec<[&str; 1]> =
            known.map(String::as_str).chain(["metadata", "spec"]).filter(|name| *name != "status").map(|name| [name]).collect();
        FieldSet::of(&others.iter().map(<[&str; 1]>::as_slice).collect::<Vec<_>>())
    }

    /// Takes out of an object what the schema does not know; notes on each field that it does not.
    ///
    /// # Errors
    /// Its metadata is none.
    pub fn prune(&self, object: &mut Value) -> Result<Vec<String>, Status> {
        decode::clean(object, self.version(), Vec::new())
    }

    /// What an object is after something has changed it: pruned and defaulted.
    ///
    /// # Errors
    /// Its metadata is none.
    pub fn clean(&self, object: &mut Value) -> Result<Vec<String>, Status> {
        let notes = decode::clean(object, self.version(), Vec::new())?;
        self.set_defaults(object);
        Ok(notes)
    }

    fn set_defaults(&self, object: &mut Value) {
        if let Some(schema) = &self.version().schema {
            defaults::apply(object, schema);
        }
    }

    /// Mistakes of an object; those of values that it already had are let through.
    fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let Some(schema) = &self.version().schema else { return Vec::new() };
        let mut errors = validate::validate(object, schema);
        errors.extend(validate::validate_lists(object, schema));
        if let Some(old) = old {
            errors.retain(|error| !is_unchanged(object, old, &error.field));
        }
        if let Some(rules) = &self.rules {
            if !errors.iter().any(|error| error.type_ != ErrorType::Invalid && error.type_ != ErrorType::Duplicate) {
                let broken = rules.validate(object, old);
                errors.extend(broken.into_iter().filter(|error| {
                    let is_rule_of_state = !error.detail.contains("oldSelf");
                    !(is_rule_of_state && old.is_some_and(|old| is_unchanged(object, old, &error.field)))
                }));
            } else {
                let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
                errors.push(FieldError::invalid("<nil>", &"null".into(), detail));
            }
        }
        errors
    }

    /// Value of a field that a selector names; `None` for one that it may not name.
    #[must_use]
    pub fn selectable_value(&self, object: &Value, path: &str) -> Option<String> {
        let (_, selectable) = self.version().selectable_fields.iter().find(|(known, _)| known == path)?;
        Some(match selectable.find(object).first() {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        })
    }

    /// Columns of a table.
    #[must_use]
    pub fn column_definitions(&self) -> Value {
        columns::definitions(self.version())
    }
}

/// Whether the value that an error speaks of is what it was; lists are compared as a whole.
fn is_unchanged(new: &Value, old: &Value, path: &str) -> bool {
    let path = path.split('[').next().unwrap_or(path);
    if path.is_empty() || path == "<nil>" {
        return false;
    }
    let at = |object: &Value| path.split('.').try_fold(object.clone(), |value, step| value.get(step).cloned());
    match (at(new), at(old)) {
        (Some(new), Some(old)) => new == old,
        // A field that is required and missing was missing before.
        (None, None) => path.rsplit_once('.').is_some_and(|(parent, _)| is_unchanged(new, old, parent)),
        _ => false,
    }
}

/// The strategy of one resource in one version.
#[derive(Debug)]
pub struct CustomStrategy {
    current: RwLock<Arc<Served>>,
}

impl CustomStrategy {
    /// A strategy that knows a definition.
    #[must_use]
    pub fn new(served: Arc<Served>) -> Self {
        Self { current: RwLock::new(served) }
    }

    /// What it knows now.
    #[must_use]
    pub fn current(&self) -> Arc<Served> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes it know another definition.
    pub fn swap(&self, served: Arc<Served>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = served;
    }
}

impl Strategy for CustomStrategy {
    fn custom(&self) -> Option<Arc<Served>> {
        Some(self.current())
    }

    fn set_defaults(&self, object: &mut Value) {
        self.current().set_defaults(object);
    }

    fn prepare_for_create(&self, object: &mut Value, _now: Timestamp) {
        if self.current().version().has_status
            && let Some(object) = object.as_object_mut()
        {
            object.remove("status");
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        self.current().validate(object, None)
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        if self.current().version().has_status {
            kinds::keep(new, old, "status");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        self.current().validate(new, Some(old))
    }

    fn metadata_kept_by_status(&self) -> &'static [&'static str] {
        USERS_METADATA
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        self.current().validate(new, Some(old))
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        &[]
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        columns::cells(self.current().version(), object, now)
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        self.current().version().deprecation_warning.clone().into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn served(version: Value) -> CustomStrategy {
        let definition = Definition::parse(
            &json!({"spec": {"group": "g", "scope": "Namespaced", "names": {"kind": "K"}, "versions": [version]}}),
        );
        CustomStrategy::new(Arc::new(Served::new(&Arc::new(definition), 0).unwrap()))
    }

    #[test]
    fn status_is_written_through_its_own_path_where_there_is_one() {
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let strategy = served(json!({"name": "v1", "schema": schema, "subresources": {"status": {}}}));
        let mut object = json!({"spec": {"a": 1}, "status": {"b": 1}});
        strategy.prepare_for_create(&mut object, Timestamp::UNIX_EPOCH);
        assert_eq!(object, json!({"spec": {"a": 1}}));
        let mut new = json!({"spec": {"a": 2}, "status": {"b": 2}});
        strategy.prepare_for_update(&mut new, &json!({"spec": {}, "status": {"b": 1}}));
        assert_eq!(new["status"], json!({"b": 1}));
        let without = served(json!({"name": "v1", "schema": schema}));
        let mut object = json!({"status": {"b": 1}});
        without.prepare_for_create(&mut object, Timestamp::UNIX_EPOCH);
        assert_eq!(object, json!({"status": {"b": 1}}));
    }

    #[test]
    fn a_value_that_was_wrong_before_may_stay() {
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"a": {"type": "string", "maxLength": 1}, "b": {"type": "string"}}}});
        let strategy = served(json!({"name": "v1", "schema": schema}));
        assert_eq!(strategy.validate_update(&json!({"a": "xx", "b": "2"}), &json!({"a": "xx", "b": "1"})), []);
        assert_eq!(strategy.validate_update(&json!({"a": "yy"}), &json!({"a": "xx"})).len(), 1);
        assert_eq!(strategy.validate(&json!({"a": "xx"})).len(), 1);
    }

    #[test]
    fn selectable_fields_have_values() {
        let strategy = served(json!({"name": "v1", "selectableFields": [{"jsonPath": ".spec.color"}]}));
        let object = json!({"spec": {"color": "red", "size": 1}});
        assert_eq!(strategy.current().selectable_value(&object, "spec.color").as_deref(), Some("red"));
        assert_eq!(strategy.current().selectable_value(&object, "spec.size"), None);
    }
}
