//! What several kinds share: columns, ages, setting defaults.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{duration, object::text, strategy::Column};

/// Column with the object's name.
pub const NAME: Column = Column {
    name: "Name",
    type_: "string",
    format: "name",
    priority: 0,
    description: "Name of the object, unique within its namespace and kind.",
};
/// Column with the object's age.
pub const AGE: Column = column("Age", "string", 0, "Time since the object was created.");

/// A column.
pub const fn column(name: &'static str, type_: &'static str, priority: i32, description: &'static str) -> Column {
    Column { name, type_, format: "", priority, description }
}

/// The object's name.
pub fn name(object: &Value) -> Value {
    Value::from(text(object, "/metadata/name"))
}

/// Time since the object was created.
pub fn age(object: &Value, now: Timestamp) -> Value {
    Value::from(duration::since(text(object, "/metadata/creationTimestamp"), now))
}

/// Sets a field that is absent.
pub fn default(object: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    object.entry(field).or_insert_with(|| value.into());
}

/// The map in a field, made if it is absent.
pub fn map_of<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    let object = object.as_object_mut()?;
    object.entry(field).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

/// Items of a list in a field.
pub fn items<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// Items of a list in a field, to change.
pub fn items_mut<'a>(object: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    object.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Replaces a field of `new` by the one of `old`: what an update may not touch.
pub fn keep(new: &mut Value, old: &Value, field: &str) {
    let Some(object) = new.as_object_mut() else { return };
    match old.get(field) {
        Some(value) => object.insert(field.to_owned(), value.clone()),
        None => object.remove(field),
    };
}

/// A list joined with commas; `<none>` where it is empty.
pub fn joined(parts: impl IntoIterator<Item = String>) -> String {
    let text = parts.into_iter().collect::<Vec<_>>().join(",");
    if text.is_empty() { "<none>".into() } else { text }
}

/// `a=b,c=d` of a map; `<none>` where it is empty.
pub fn map_text(value: Option<&Value>) -> String {
    let pair = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
    joined(value.and_then(Value::as_object).into_iter().flatten().map(pair))
}
