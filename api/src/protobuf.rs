//! Kubernetes' protobuf encoding of objects, read into JSON.
//!
//! In: bytes that begin with `k8s\0` and hold a `runtime.Unknown`, whose type meta names the kind and whose raw
//! bytes are the object. Out: the object as JSON, made by the schema table's field numbers.
//! What a writer of JSON would leave out (zero values of fields that are no pointers) is left out here too.
//! Nothing here is trusted: lengths are checked before they are used, and nesting has an end.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::schema::{self, Field, Scalar, Shape, Type};

mod alternatives;
pub mod encode;

/// Media type of the encoding.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";
/// Messages within messages.
const DEPTH_MAX: usize = 64;

/// Why bytes are no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// They do not begin as they should.
    #[error("provided data does not appear to be a protobuf message, expected prefix 6b 38 73 00")]
    Magic,
    /// They end in the middle, or a length leads out of them.
    #[error("unexpected end of the protobuf message")]
    Truncated,
    /// A part is not what its field holds.
    #[error("illegal protobuf value for {0}")]
    Illegal(String),
    /// The kind is not served.
    #[error("no kind {1:?} is registered for version {0:?}")]
    Kind(String, String),
}

/// One part of a message.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The parts of a message, with their field numbers.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (first, rest) = self.0.split_first().ok_or(ProtobufError::Truncated)?;
            self.0 = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Truncated)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, ProtobufError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| ProtobufError::Truncated)?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Number(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| ProtobufError::Truncated)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Truncated)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Number(u64::from(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| ProtobufError::Truncated)?))),
            _ => return Err(ProtobufError::Illegal("a field".to_owned())),
        };
        Ok(Some((number, wire)))
    }

    /// The last bytes of a field; empty where it is absent.
    fn bytes_of(message: &'a [u8], wanted: u32) -> Result<&'a [u8], ProtobufError> {
        let mut parts = Parts(message);
        let mut found: &[u8] = &[];
        while let Some((number, wire)) = parts.next()? {
            if let (true, Wire::Bytes(bytes)) = (number == wanted, wire) {
                found = bytes;
            }
        }
        Ok(found)
    }
}

fn text(bytes: &[u8]) -> Result<String, ProtobufError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::Illegal("text".to_owned()))
}

/// Reads an object.
pub fn decode(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let unknown = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?;
    let type_meta = Parts::bytes_of(unknown, 1)?;
    let (api_version, kind) = (text(Parts::bytes_of(type_meta, 1)?)?, text(Parts::bytes_of(type_meta, 2)?)?);
    let raw = Parts::bytes_of(unknown, 2)?;
    let of = type_of(&api_version, &kind).ok_or_else(|| ProtobufError::Kind(api_version.clone(), kind.clone()))?;
    let mut object = Map::new();
    object.insert("kind".to_owned(), json!(kind));
    object.insert("apiVersion".to_owned(), json!(api_version));
    message(of, &[], raw, &mut object, 0)?;
    Ok(Value::Object(object))
}

/// Type of a kind. Options of requests are the same in every group.
fn type_of(api_version: &str, kind: &str) -> Option<&'static Type> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let own = schema::find(&schema::type_name(group, version, kind));
    own.or_else(|| schema::find(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")))
}

/// Reads a message of a type into an object; `within` are the numbers of the messages that JSON does not have.
fn message(of: &Type, within: &[u32], bytes: &[u8], object: &mut Map<String, Value>, depth: usize) -> Result<(), ProtobufError> {
    if depth > DEPTH_MAX {
        return Err(ProtobufError::Illegal("nesting".to_owned()));
    }
    let mut parts = Parts(bytes);
    while let Some((number, wire)) = parts.next()? {
        let path = [within, &[number]].concat();
        if let Some(field) = of.fields.iter().find(|field| field.numbers == path) {
            field_value(field, &wire, object, depth)?;
        } else if let Wire::Bytes(inner) = wire
            && of.fields.iter().any(|field| field.numbers.len() > path.len() && field.numbers.starts_with(&path))
        {
            message(of, &path, inner, object, depth + 1)?;
        }
    }
    Ok(())
}

fn field_value(field: &Field, wire: &Wire<'_>, object: &mut Map<String, Value>, depth: usize) -> Result<(), ProtobufError> {
    let illegal = || ProtobufError::Illegal(field.name.to_owned());
    match &field.shape {
        Shape::List(item) => {
            let value = value_of(field, item, wire, depth)?.ok_or_else(illegal)?;
            let list = object.entry(field.name).or_insert_with(|| json!([]));
            list.as_array_mut().ok_or_else(illegal)?.push(value);
        }
        Shape::Map(item) => {
            let Wire::Bytes(entry) = wire else { return Err(illegal()) };
            let key = text(Parts::bytes_of(entry, 1)?)?;
            let bytes = Parts::bytes_of(entry, 2)?;
            let value = match item.as_ref() {
                // A list cannot be a map's value; a message holds it.
                Shape::List(inner) => list_in_message(inner, bytes, depth)?,
                other => value_of(field, other, &Wire::Bytes(bytes), depth)?.unwrap_or_else(|| json!("")),
            };
            let map = object.entry(field.name).or_insert_with(|| json!({}));
            map.as_object_mut().ok_or_else(illegal)?.insert(key, value);
        }
        shape => {
            if let Some(value) = value_of(field, shape, wire, depth)?
                && (field.pointer || field.always || field.shape == Shape::Any || !is_zero(&value))
            {
                object.insert(field.name.to_owned(), value);
            }
        }
    }
    Ok(())
}

fn list_in_message(item: &Shape, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let mut parts = Parts(bytes);
    let mut list = Vec::new();
    while let Some((number, wire)) = parts.next()? {
        if number == 1 {
            list.extend(value(item, &wire, depth)?);
        }
    }
    Ok(Value::Array(list))
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(value) => !value,
        _ => false,
    }
}

/// A value of a field, or of an item of it.
fn value_of(field: &Field, shape: &Shape, wire: &Wire<'_>, depth: usize) -> Result<Option<Value>, ProtobufError> {
    match (alternatives::Alternative::of(field.any), shape, wire) {
        (Some(alternative), Shape::Any, Wire::Bytes(bytes)) => alternative.decode(bytes, depth).map(Some),
        _ => value(shape, wire, depth),
    }
}

/// One value; none for a time that is not set.
fn value(shape: &Shape, wire: &Wire<'_>, depth: usize) -> Result<Option<Value>, ProtobufError> {
    let illegal = |what: &str| ProtobufError::Illegal(what.to_owned());
    Ok(Some(match (shape, wire) {
        (Shape::Object(name), Wire::Bytes(bytes)) => {
            let of = schema::find(name).ok_or_else(|| illegal(name))?;
            let mut object = Map::new();
            message(of, &[], bytes, &mut object, depth + 1)?;
            Value::Object(object)
        }
        // An extension: the first field holds JSON.
        (Shape::Any, Wire::Bytes(bytes)) => {
            let raw = Parts::bytes_of(bytes, 1)?;
            if raw.is_empty() {
                return Ok(None);
            }
            serde_json::from_slice(raw).map_err(|_| illegal("an extension"))?
        }
        (Shape::Scalar(Scalar::String), Wire::Bytes(bytes)) => json!(text(bytes)?),
        (Shape::Scalar(Scalar::Bytes), Wire::Bytes(bytes)) => json!(STANDARD.encode(bytes)),
        (Shape::Scalar(Scalar::Quantity), Wire::Bytes(bytes)) => json!(text(Parts::bytes_of(bytes, 1)?)?),
        (Shape::Scalar(Scalar::IntOrString), Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Shape::Scalar(scalar @ (Scalar::Time | Scalar::MicroTime)), Wire::Bytes(bytes)) => return time(*scalar, bytes),
        // Negative numbers of 32 bits are written with 64.
        (Shape::Scalar(Scalar::Int32 | Scalar::Int64), Wire::Number(number)) => json!(number.cast_signed()),
        (Shape::Scalar(Scalar::Boolean), Wire::Number(number)) => json!(*number != 0),
        (Shape::Scalar(Scalar::Double), Wire::Number(number)) => json!(f64::from_bits(*number)),
        _ => return Err(illegal("a field")),
    }))
}

fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut parts = Parts(bytes);
    let (mut is_text, mut number, mut words) = (false, 0_i64, String::new());
    while let Some((field, wire)) = parts.next()? {
        match (field, wire) {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(bytes)) => words = text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { json!(words) } else { json!(number) })
}

fn time(scalar: Scalar, bytes: &[u8]) -> Result<Option<Value>, ProtobufError> {
    let mut parts = Parts(bytes);
    let (mut seconds, mut nanoseconds) = (0_i64, 0_i32);
    while let Some((field, wire)) = parts.next()? {
        match (field, wire) {
            (1, Wire::Number(value)) => seconds = value.cast_signed(),
            (2, Wire::Number(value)) => nanoseconds = i32::try_from(value.cast_signed()).unwrap_or(0),
            _ => {}
        }
    }
    // No time at all, or Go's zero time: the first second of year 1.
    if (seconds, nanoseconds) == (0, 0) || seconds <= -62_135_596_800 {
        return Ok(None);
    }
    let at = Timestamp::new(seconds, nanoseconds).map_err(|_| ProtobufError::Illegal("a time".to_owned()))?;
    let format = if scalar == Scalar::MicroTime { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(Some(json!(at.strftime(format).to_string())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn bytes(number: u8, contents: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(contents.len()).unwrap()], contents].concat()
    }

    fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let type_meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &type_meta), bytes(2, raw)].concat()
    }

    #[test]
    fn a_config_map() {
        let metadata = bytes(1, &[bytes(1, b"settings"), bytes(8, b"")].concat());
        let entry = bytes(2, &[bytes(1, b"color"), bytes(2, b"blue")].concat());
        let object = decode(&envelope("v1", "ConfigMap", &[metadata, entry].concat())).unwrap();
        let wanted =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"color": "blue"}});
        assert_eq!(object, wanted);
    }

    #[test]
    fn messages_that_json_does_not_have_vanish() {
        // A volume's source lies in a message of its own: field 2, of which 2 is emptyDir.
        let volume = [bytes(1, b"tmp"), bytes(2, &bytes(2, b""))].concat();
        let object = decode(&envelope("v1", "Pod", &bytes(2, &bytes(1, &volume)))).unwrap();
        assert_eq!(object["spec"]["volumes"], json!([{"name": "tmp", "emptyDir": {}}]));
    }

    #[test]
    fn zero_counts_only_where_it_means_something() {
        // Deployment.spec is field 2; replicas is 1, paused is 7.
        let object = decode(&envelope("apps/v1", "Deployment", &bytes(2, &[1 << 3, 0, 7 << 3, 0]))).unwrap();
        assert_eq!(object["spec"], json!({"replicas": 0}));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(decode(b"{}"), Err(ProtobufError::Magic));
        assert_eq!(decode(&envelope("v1", "Nothing", b"")), Err(ProtobufError::Kind("v1".into(), "Nothing".into())));
        assert_eq!(decode(b"k8s\0\x0a\xff"), Err(ProtobufError::Truncated));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let short = &raw[..raw.len().min(100)];
            let _ = decode(&envelope("v1", "Pod", short));
            let _ = decode(&raw);
        }
    }
}
