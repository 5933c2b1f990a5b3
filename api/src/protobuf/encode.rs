//! Objects as Kubernetes' protobuf, by the field numbers in the schema table.
//!
//! In: an object as JSON. Out: the bytes of its message, alone or in the envelope that clients expect. What JSON does
//! not have a value for is not written; a reader takes it for zero.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{MAGIC, alternatives::Alternative};
use crate::schema::{self, Field, Scalar, Shape, Type};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
pub(super) const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH: u8 = 2;

/// An object in its envelope.
#[must_use]
pub fn envelope(api_version: &str, kind: &str, message: &[u8]) -> Bytes {
    let mut type_meta = Vec::with_capacity(api_version.len() + kind.len() + 4);
    put_bytes(&mut type_meta, 1, api_version.as_bytes());
    put_bytes(&mut type_meta, 2, kind.as_bytes());
    let mut bytes = Vec::with_capacity(message.len() + type_meta.len() + 24);
    bytes.extend_from_slice(MAGIC);
    put_bytes(&mut bytes, 1, &type_meta);
    put_bytes(&mut bytes, 2, message);
    put_bytes(&mut bytes, 3, b"");
    put_bytes(&mut bytes, 4, b"");
    bytes.into()
}

/// A whole object with its kind, in its envelope; `None` where the type has no protobuf.
#[must_use]
pub fn encode(type_: &'static Type, object: &Value) -> Option<Bytes> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    Some(envelope(text("apiVersion"), text("kind"), &message(type_, object)?))
}

/// Any object that names its kind, in its envelope; `None` for a kind that has no protobuf, such as `Table`.
#[must_use]
pub fn encode_any(object: &Value) -> Option<Bytes> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let message = match kind {
        "PartialObjectMetadata" => partial(object),
        "PartialObjectMetadataList" => {
            let mut bytes = list_head(object["metadata"].as_object()?).to_vec();
            for item in object["items"].as_array().into_iter().flatten() {
                put_bytes(&mut bytes, 2, &partial(item));
            }
            bytes.into()
        }
        _ => message(super::type_of(version, kind)?, object)?,
    };
    Some(envelope(version, kind, &message))
}

fn partial(object: &Value) -> Bytes {
    let mut bytes = Vec::new();
    if let (Some(type_), Some(metadata)) = (schema::find(OBJECT_META), object["metadata"].as_object()) {
        put_message(&mut bytes, 1, |bytes| put_members(bytes, type_, metadata));
    }
    bytes.into()
}

/// The message of an object, without its kind.
#[must_use]
pub fn message(type_: &'static Type, object: &Value) -> Option<Bytes> {
    let mut bytes = Vec::with_capacity(512);
    put_members(&mut bytes, type_, object.as_object()?);
    Some(bytes.into())
}

/// Head of the message of a list: its metadata. Items follow, each as [`item`] frames it.
#[must_use]
pub fn list_head(metadata: &Map<String, Value>) -> Bytes {
    let mut meta = Vec::new();
    for (name, number) in [("resourceVersion", 2), ("continue", 3)] {
        if let Some(text) = metadata.get(name).and_then(Value::as_str) {
            put_bytes(&mut meta, number, text.as_bytes());
        }
    }
    if let Some(count) = metadata.get("remainingItemCount").and_then(Value::as_i64) {
        put_tag(&mut meta, 4, VARINT);
        put_varint(&mut meta, count.cast_unsigned());
    }
    let mut bytes = Vec::new();
    put_bytes(&mut bytes, 1, &meta);
    bytes.into()
}

/// What stands before the message of a list's item of that length.
#[must_use]
pub fn item_head(length: usize) -> Bytes {
    let mut bytes = Vec::new();
    put_tag(&mut bytes, 2, LENGTH);
    put_varint(&mut bytes, length as u64);
    bytes.into()
}

/// What stands before the items of a list whose items and their heads have that length together, and after them: the
/// envelope of a message that is sent in pieces.
#[must_use]
pub fn split_envelope(api_version: &str, kind: &str, head: &[u8], rest: usize) -> (Bytes, Bytes) {
    let mut type_meta = Vec::new();
    put_bytes(&mut type_meta, 1, api_version.as_bytes());
    put_bytes(&mut type_meta, 2, kind.as_bytes());
    let mut front = MAGIC.to_vec();
    put_bytes(&mut front, 1, &type_meta);
    put_tag(&mut front, 2, LENGTH);
    put_varint(&mut front, (head.len() + rest) as u64);
    front.extend_from_slice(head);
    let mut back = Vec::new();
    put_bytes(&mut back, 3, b"");
    put_bytes(&mut back, 4, b"");
    (front.into(), back.into())
}

/// A frame of a watch: its length, then the event with the object in its envelope.
#[must_use]
pub fn watch_frame(event_type: &str, object: &[u8]) -> Bytes {
    let mut raw = Vec::with_capacity(object.len() + 8);
    put_bytes(&mut raw, 1, object);
    let mut event = vec![0; 4];
    put_bytes(&mut event, 1, event_type.as_bytes());
    put_bytes(&mut event, 2, &raw);
    let length = u32::try_from(event.len() - 4).unwrap_or(u32::MAX);
    event[..4].copy_from_slice(&length.to_be_bytes());
    event.into()
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

pub(super) fn put_tag(bytes: &mut Vec<u8>, number: u32, wire: u8) {
    put_varint(bytes, u64::from(number) << 3 | u64::from(wire));
}

pub(super) fn put_bytes(bytes: &mut Vec<u8>, number: u32, content: &[u8]) {
    put_tag(bytes, number, LENGTH);
    put_varint(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

/// Writes a message within another: its length is known only after it was written.
pub(super) fn put_message(bytes: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_tag(bytes, number, LENGTH);
    let at = bytes.len();
    write(bytes);
    let length = bytes.len() - at;
    let mut prefix = Vec::with_capacity(5);
    put_varint(&mut prefix, length as u64);
    bytes.splice(at..at, prefix);
}

pub(super) fn put_members(bytes: &mut Vec<u8>, type_: &'static Type, object: &Map<String, Value>) {
    // Fields that lie in messages of their own, which JSON does not have.
    let mut inner: Vec<(&[u32], &'static Field, &Value)> = Vec::new();
    for (name, value) in object {
        let Some(field) = type_.field(name) else { continue };
        match field.numbers.as_slice() {
            [] => {}
            [number] => put_field(bytes, *number, field, value),
            path => inner.push((path, field, value)),
        }
    }
    inner.sort_by_key(|(path, _, _)| *path);
    put_inner(bytes, &inner, 0);
}

fn put_inner(bytes: &mut Vec<u8>, fields: &[(&[u32], &'static Field, &Value)], level: usize) {
    for group in fields.chunk_by(|one, other| one.0[level] == other.0[level]) {
        let Some((path, field, value)) = group.first() else { continue };
        if path.len() == level + 1 {
            put_field(bytes, path[level], field, value);
        } else {
            put_message(bytes, path[level], |bytes| put_inner(bytes, group, level + 1));
        }
    }
}

fn put_field(bytes: &mut Vec<u8>, number: u32, field: &'static Field, value: &Value) {
    match (&field.shape, value) {
        (Shape::List(item), Value::Array(values)) => {
            values.iter().for_each(|value| put_value_of(bytes, number, field, item, value));
        }
        (Shape::Map(item), Value::Object(members)) => {
            for (name, value) in members {
                put_message(bytes, number, |bytes| {
                    put_bytes(bytes, 1, name.as_bytes());
                    put_map_value(bytes, field, item, value);
                });
            }
        }
        (shape, value) => put_value_of(bytes, number, field, shape, value),
    }
}

/// A value of a field, or of an item of it.
fn put_value_of(bytes: &mut Vec<u8>, number: u32, field: &'static Field, shape: &'static Shape, value: &Value) {
    match Alternative::of(field.any) {
        Some(alternative) if *shape == Shape::Any => put_message(bytes, number, |bytes| alternative.encode(bytes, value)),
        _ => put_value(bytes, number, shape, value),
    }
}

fn put_map_value(bytes: &mut Vec<u8>, field: &'static Field, shape: &'static Shape, value: &Value) {
    match (shape, value) {
        // A list cannot be a map's value; a message holds it.
        (Shape::List(item), Value::Array(values)) => {
            put_message(bytes, 2, |bytes| values.iter().for_each(|value| put_value(bytes, 1, item, value)));
        }
        _ => put_value_of(bytes, 2, field, shape, value),
    }
}

fn put_value(bytes: &mut Vec<u8>, number: u32, shape: &'static Shape, value: &Value) {
    match (shape, value) {
        (Shape::Object(name), Value::Object(members)) => {
            if let Some(type_) = schema::find(name) {
                put_message(bytes, number, |bytes| put_members(bytes, type_, members));
            }
        }
        (Shape::Any, value) if !value.is_null() => {
            put_message(bytes, number, |bytes| put_bytes(bytes, 1, value.to_string().as_bytes()));
        }
        (Shape::Scalar(scalar), value) => put_scalar(bytes, number, *scalar, value),
        _ => {}
    }
}

fn put_scalar(bytes: &mut Vec<u8>, number: u32, scalar: Scalar, value: &Value) {
    match (scalar, value) {
        (Scalar::String, Value::String(text)) => put_bytes(bytes, number, text.as_bytes()),
        (Scalar::Bytes, Value::String(text)) => put_bytes(bytes, number, &STANDARD.decode(text).unwrap_or_default()),
        (Scalar::Quantity, Value::String(text)) => put_message(bytes, number, |bytes| put_bytes(bytes, 1, text.as_bytes())),
        (Scalar::Quantity, Value::Number(amount)) => {
            put_message(bytes, number, |bytes| put_bytes(bytes, 1, amount.to_string().as_bytes()));
        }
        (Scalar::Time | Scalar::MicroTime, Value::String(text)) => {
            if let Ok(time) = text.parse::<Timestamp>() {
                put_message(bytes, number, |bytes| put_time(bytes, time));
            }
        }
        (Scalar::IntOrString, value) => put_message(bytes, number, |bytes| put_int_or_string(bytes, value)),
        (Scalar::Boolean, Value::Bool(flag)) => {
            put_tag(bytes, number, VARINT);
            bytes.push(u8::from(*flag));
        }
        (Scalar::Int32 | Scalar::Int64, Value::Number(amount)) => {
            put_tag(bytes, number, VARINT);
            put_varint(bytes, amount.as_i64().unwrap_or_default().cast_unsigned());
        }
        (Scalar::Double, Value::Number(amount)) => {
            put_tag(bytes, number, FIXED64);
            bytes.extend_from_slice(&amount.as_f64().unwrap_or_default().to_le_bytes());
        }
        _ => {}
    }
}

fn put_time(bytes: &mut Vec<u8>, time: Timestamp) {
    // Seconds are rounded down, so that the rest is never negative.
    let rest = i64::from(time.subsec_nanosecond()).rem_euclid(1_000_000_000);
    let seconds = time.as_second() - i64::from(time.subsec_nanosecond() < 0);
    put_tag(bytes, 1, VARINT);
    put_varint(bytes, seconds.cast_unsigned());
    if rest != 0 {
        put_tag(bytes, 2, VARINT);
        put_varint(bytes, rest.cast_unsigned());
    }
}

fn put_int_or_string(bytes: &mut Vec<u8>, value: &Value) {
    if let Some(text) = value.as_str() {
        put_tag(bytes, 1, VARINT);
        bytes.push(1);
        put_bytes(bytes, 3, text.as_bytes());
    } else {
        put_tag(bytes, 2, VARINT);
        put_varint(bytes, value.as_i64().unwrap_or_default().cast_unsigned());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::protobuf::decode;

    /// Any value of a shape, as canonical JSON has it; nothing below a depth.
    fn any_of(field: &'static Field, shape: &'static Shape, depth: usize) -> BoxedStrategy<Value> {
        match shape {
            Shape::Object(name) => any_object(schema::find(name).unwrap(), depth),
            Shape::List(item) => proptest::collection::vec(any_of(field, item, depth), 1..3).prop_map(Value::from).boxed(),
            Shape::Map(item) => {
                proptest::collection::btree_map("[a-z]{1,3}", any_of(field, item, depth), 1..3).prop_map(|map| json!(map)).boxed()
            }
            // Two things that protobuf tells apart: one of them is a schema.
            Shape::Any if Alternative::of(field.any).is_some() => Just(json!({"type": "string"})).boxed(),
            Shape::Any => prop_oneof![Just(json!({"a": [1, "x"]})), Just(json!({"b": true}))].boxed(),
            Shape::Scalar(scalar) => match scalar {
                Scalar::String => "[a-zäß]{1,5}".prop_map(Value::from).boxed(),
                Scalar::Bytes => proptest::collection::vec(any::<u8>(), 1..5).prop_map(|raw| json!(STANDARD.encode(raw))).boxed(),
                Scalar::Time => {
                    (1..4_000_000_000_i64).prop_map(|s| json!(Timestamp::from_second(s).unwrap().to_string())).boxed()
                }
                Scalar::MicroTime => (1..4_000_000_000_000_000_i64)
                    .prop_map(|us| json!(Timestamp::from_microsecond(us).unwrap().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()))
                    .boxed(),
                Scalar::Int32 => any::<i32>().prop_filter("not zero", |n| *n != 0).prop_map(Value::from).boxed(),
                Scalar::Int64 => any::<i64>().prop_filter("not zero", |n| *n != 0).prop_map(Value::from).boxed(),
                Scalar::Double => (1..1000_i32).prop_map(|n| json!(f64::from(n) + 0.5)).boxed(),
                Scalar::Boolean => Just(json!(true)).boxed(),
                Scalar::IntOrString => {
                    prop_oneof![any::<i32>().prop_map(Value::from), "[a-z%]{1,4}".prop_map(Value::from)].boxed()
                }
                Scalar::Quantity => (1..1000_u32).prop_map(|n| json!(format!("{n}m"))).boxed(),
            },
        }
    }

    fn any_object(type_: &'static Type, depth: usize) -> BoxedStrategy<Value> {
        if depth == 0 {
            return Just(json!({})).boxed();
        }
        // Only types whose every field has a number can travel as protobuf; kind and version stand in the envelope.
        let fields: Vec<&'static Field> = type_.fields.iter().filter(|field| !field.numbers.is_empty()).collect();
        let chosen = proptest::sample::subsequence(fields.clone(), 0..=fields.len().min(4));
        let members = chosen.prop_flat_map(move |fields| {
            fields
                .into_iter()
                .map(|field| (Just(field.name.to_owned()), any_of(field, &field.shape, depth - 1)))
                .collect::<Vec<_>>()
        });
        members.prop_map(|members| json!(members.into_iter().collect::<BTreeMap<_, _>>())).boxed()
    }

    /// What always stands in JSON, whatever was written.
    fn without_defaults(type_: &'static Type, value: &mut Value) {
        let Some(members) = value.as_object_mut() else { return };
        for (name, member) in members.iter_mut() {
            let Some(field) = type_.field(name) else { continue };
            let each = |shape: &'static Shape, member: &mut Value| {
                if let Shape::Object(name) = shape {
                    without_defaults(schema::find(name).unwrap(), member);
                }
            };
            match (&field.shape, member) {
                (Shape::List(item), Value::Array(items)) => items.iter_mut().for_each(|member| each(item, member)),
                (Shape::Map(item), Value::Object(items)) => items.values_mut().for_each(|member| each(item, member)),
                (shape, member) => each(shape, member),
            }
        }
    }

    fn resources() -> Vec<&'static crate::registry::Resource> {
        crate::registry::all().iter().filter(|resource| resource.is_stored()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn what_is_written_reads_the_same(
            (index, object) in (0..resources().len()).prop_flat_map(|index| (Just(index), any_object(resources()[index].type_().unwrap(), 6)))
        ) {
            let resource = resources()[index];
            let type_ = resource.type_().unwrap();
            let mut object = object;
            object["kind"] = json!(resource.key.kind);
            object["apiVersion"] = json!(resource.key.api_version());
            let mut read = decode(&encode(type_, &object).unwrap()).unwrap();
            without_defaults(type_, &mut read);
            prop_assert_eq!(read, object);
        }
    }

    #[test]
    fn a_list_is_sent_in_pieces() {
        let resource = crate::registry::find("", "v1", "configmaps").unwrap();
        let metadata = json!({"resourceVersion": "9", "continue": "t", "remainingItemCount": 3});
        let head = list_head(metadata.as_object().unwrap());
        let item = message(resource.type_().unwrap(), &json!({"metadata": {"name": "x"}})).unwrap();
        let item = [item_head(item.len()), item].concat();
        let (front, back) = split_envelope("v1", "ConfigMapList", &head, item.len());
        let whole = [&front[..], &item, &back[..]].concat();
        assert_eq!(whole, envelope("v1", "ConfigMapList", &[&head[..], &item].concat()));
    }

    #[test]
    fn a_frame_begins_with_its_length() {
        let frame = watch_frame("ADDED", b"object");
        assert_eq!(&frame[..4], [0, 0, 0, u8::try_from(frame.len() - 4).unwrap()]);
        assert_eq!(&frame[4..], b"\x0a\x05ADDED\x12\x08\x0a\x06object");
    }
}
