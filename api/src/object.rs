//! An object as bytes: how it is stored, and how the same bytes are sent to clients.
//!
//! Stored bytes are JSON with `kind`, `apiVersion` and `metadata` first and no resource version,
//! because the version is the store's revision and not known before the write. [`Encoded`] splices
//! it in once; GET, LIST and WATCH then send slices of those bytes without touching them.

use std::{collections::BTreeMap, io::Write, ops::Range};

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::Value;

/// Why stored bytes cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// They are no JSON object with metadata.
    #[error("not an object: {0}")]
    Malformed(String),
}

/// Bytes of an object as they are stored: canonical, without `metadata.resourceVersion`.
#[must_use]
pub fn stored_bytes(object: &Value) -> Bytes {
    let empty = serde_json::Map::new();
    let fields = object.as_object().unwrap_or(&empty);
    let mut bytes = BytesMut::with_capacity(1024).writer();
    // Writing to memory cannot fail, and every Value can be written.
    let _ = bytes.write_all(b"{");
    for name in ["kind", "apiVersion"] {
        let _ = write!(bytes, "\"{name}\":{},", fields.get(name).unwrap_or(&Value::Null));
    }
    let _ = bytes.write_all(b"\"metadata\":");
    match fields.get("metadata") {
        Some(Value::Object(metadata)) => {
            let mut kept = metadata.clone();
            kept.remove("resourceVersion");
            let _ = serde_json::to_writer(&mut bytes, &kept);
        }
        _ => {
            let _ = bytes.write_all(b"{}");
        }
    }
    for (name, value) in fields {
        if !matches!(name.as_str(), "kind" | "apiVersion" | "metadata") {
            let _ = write!(bytes, ",{}:{value}", Value::String(name.clone()));
        }
    }
    let _ = bytes.write_all(b"}");
    bytes.into_inner().freeze()
}

/// An object as clients get it. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    bytes: Bytes,
    item_start: u32,
    version: Range<u32>,
}

impl Encoded {
    /// Splices a resource version into stored bytes.
    pub fn from_stored(stored: &[u8], resource_version: i64) -> Result<Self, ObjectError> {
        const METADATA: &[u8] = b"\"metadata\":{";
        let at = find_metadata(stored).filter(|at| stored[*at..].starts_with(METADATA));
        let Some(item_start) = at else {
            // Written by somebody else in another order: bring it into ours.
            let value: Value = serde_json::from_slice(stored).map_err(|error| ObjectError::Malformed(error.to_string()))?;
            if !value.is_object() {
                return Err(ObjectError::Malformed("no JSON object".into()));
            }
            return Self::from_stored(&stored_bytes(&value), resource_version);
        };
        let splice = item_start + METADATA.len();
        let mut bytes = BytesMut::with_capacity(stored.len() + 44);
        bytes.put_slice(&stored[..splice]);
        bytes.put_slice(b"\"resourceVersion\":\"");
        let start = bytes.len();
        bytes.put_slice(resource_version.to_string().as_bytes());
        let end = bytes.len();
        bytes.put_slice(if stored.get(splice) == Some(&b'}') { b"\"" } else { b"\"," });
        bytes.put_slice(&stored[splice..]);
        let offset = |at: usize| u32::try_from(at).map_err(|_| ObjectError::Malformed("larger than 4 GiB".into()));
        Ok(Self { item_start: offset(item_start)?, version: offset(start)?..offset(end)?, bytes: bytes.freeze() })
    }

    /// The whole object.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The object without kind and apiVersion and without its opening brace, as a list holds it.
    #[must_use]
    pub fn item_tail(&self) -> Bytes {
        self.bytes.slice(self.item_start as usize..)
    }

    /// The same object under another version: what a deletion sends.
    #[must_use]
    pub fn with_resource_version(&self, resource_version: i64) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.bytes.len() + 8);
        bytes.put_slice(&self.bytes[..self.version.start as usize]);
        bytes.put_slice(resource_version.to_string().as_bytes());
        bytes.put_slice(&self.bytes[self.version.end as usize..]);
        bytes.freeze()
    }

    /// Decodes the object.
    #[must_use]
    pub fn value(&self) -> Value {
        // The bytes were JSON when they were spliced.
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never true; an object has at least its metadata.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Offset of `"metadata"` where only kind and apiVersion, plain strings, come before it.
fn find_metadata(stored: &[u8]) -> Option<usize> {
    let mut at = stored.strip_prefix(b"{").map(|_| 1)?;
    for name in [&b"\"kind\":\""[..], b"\"apiVersion\":\""] {
        let rest = stored.get(at..)?.strip_prefix(name)?;
        let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        rest.get(end..)?.strip_prefix(b"\",")?;
        at += name.len() + end + 2;
    }
    Some(at)
}

/// What selectors and dispatch need of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Header {
    /// Namespace; empty where there is none.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct HeaderRoot {
    #[serde(default)]
    metadata: Header,
}

impl Header {
    /// Decodes the header alone.
    pub fn decode(object: &[u8]) -> Result<Self, ObjectError> {
        match serde_json::from_slice::<HeaderRoot>(object) {
            Ok(root) => Ok(root.metadata),
            Err(error) => Err(ObjectError::Malformed(error.to_string())),
        }
    }
}

/// Text at a JSON pointer; empty where there is none.
#[must_use]
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_version_is_spliced_in_and_items_have_no_kind() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "\"metadata\":{"},
            "metadata": {"name": "x", "resourceVersion": "7"}});
        let encoded = Encoded::from_stored(&stored_bytes(&object), 42).unwrap();
        let mut expected = object.clone();
        expected["metadata"]["resourceVersion"] = json!("42");
        assert_eq!(encoded.value(), expected);
        let item: Value = serde_json::from_slice(&[b"{", encoded.item_tail().as_ref()].concat()).unwrap();
        expected.as_object_mut().unwrap().retain(|name, _| name != "kind" && name != "apiVersion");
        assert_eq!(item, expected);
        let deleted: Value = serde_json::from_slice(&encoded.with_resource_version(1_000)).unwrap();
        assert_eq!(deleted["metadata"]["resourceVersion"], "1000");
    }

    #[test]
    fn bytes_in_a_foreign_order_are_brought_into_ours() {
        let stored = br#"{"data":{},"metadata":{},"apiVersion":"v1","kind":"ConfigMap"}"#;
        let encoded = Encoded::from_stored(stored, 3).unwrap();
        assert!(encoded.bytes().starts_with(br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"3"}"#));
        assert!(Encoded::from_stored(b"[]", 1).is_err());
    }
}
