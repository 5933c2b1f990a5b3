//! Canonical bytes and the splice that turns stored bytes into served ones without parsing them.

use bytes::Bytes;
use serde_json::{Map, Value};
use thiserror::Error;

use super::Header;

const KIND: &[u8] = b"{\"kind\":\"";
const API_VERSION: &[u8] = b",\"apiVersion\":\"";
const METADATA: &[u8] = b",\"metadata\":{";
const VERSION: &[u8] = b"\"resourceVersion\":\"";

/// Why stored bytes cannot be read.
#[derive(Debug, Error)]
pub enum ObjectError {
    /// They are no JSON object with metadata.
    #[error("not an object: {0}")]
    Malformed(String),
    /// They are larger than offsets reach; far beyond every limit on requests.
    #[error("object of {0} bytes is too large")]
    TooLarge(usize),
}

/// One object at one resource version, as clients receive it.
///
/// Clones share the bytes. Two offsets are remembered, so that a list item (without kind and
/// apiVersion) is a slice, and another resource version is one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    bytes: Bytes,
    /// Where `"metadata"` begins.
    metadata: u32,
    /// Where the digits of the resource version begin, and how many there are.
    version: u32,
    digits: u8,
    resource_version: i64,
}

/// Bytes for the store: kind, apiVersion and metadata first, no resource version.
#[must_use]
pub fn stored_bytes(object: &Value) -> Bytes {
    let empty = Map::new();
    let object = object.as_object().unwrap_or(&empty);
    let mut bytes = Vec::with_capacity(1024);
    bytes.extend_from_slice(b"{\"kind\":");
    write(&mut bytes, object.get("kind").unwrap_or(&Value::String(String::new())));
    bytes.extend_from_slice(b",\"apiVersion\":");
    write(&mut bytes, object.get("apiVersion").unwrap_or(&Value::String(String::new())));
    bytes.extend_from_slice(METADATA);
    let metadata = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let mut first = true;
    for (name, value) in metadata.iter().filter(|(name, _)| *name != "resourceVersion") {
        if !first {
            bytes.push(b',');
        }
        first = false;
        write_member(&mut bytes, name, value);
    }
    bytes.push(b'}');
    for (name, value) in object {
        if !matches!(name.as_str(), "kind" | "apiVersion" | "metadata") {
            bytes.push(b',');
            write_member(&mut bytes, name, value);
        }
    }
    bytes.push(b'}');
    bytes.into()
}

fn write_member(bytes: &mut Vec<u8>, name: &str, value: &Value) {
    // A Value has text keys and finite numbers, and memory takes every byte: this cannot fail.
    let _ = serde_json::to_writer(&mut *bytes, name);
    bytes.push(b':');
    write(bytes, value);
}

fn write(bytes: &mut Vec<u8>, value: &Value) {
    let _ = serde_json::to_writer(bytes, value);
}

/// Length of `,"metadata":{`'s start in canonical bytes; `None` for another layout.
fn metadata_offset(stored: &[u8]) -> Option<usize> {
    let after_kind = skip_text(stored, 0, KIND)?;
    let after_version = skip_text(stored, after_kind, API_VERSION)?;
    stored.get(after_version..)?.starts_with(METADATA).then_some(after_version)
}

/// Skips `prefix`, then text without escapes, then its closing quote.
fn skip_text(bytes: &[u8], at: usize, prefix: &[u8]) -> Option<usize> {
    let rest = bytes.get(at..)?.strip_prefix(prefix)?;
    let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    (rest[end] == b'"').then_some(at + prefix.len() + end + 1)
}

impl Encoded {
    /// Encodes an object that was just written at this revision.
    ///
    /// # Errors
    /// See [`Encoded::from_stored`]; cannot happen to an object within the limits on requests.
    pub fn from_value(object: &Value, resource_version: i64) -> Result<Self, ObjectError> {
        Self::from_stored(&stored_bytes(object), resource_version)
    }

    /// Splices the revision into stored bytes. Bytes of another layout are decoded and encoded anew.
    ///
    /// # Errors
    /// The bytes are not a JSON object.
    pub fn from_stored(stored: &[u8], resource_version: i64) -> Result<Self, ObjectError> {
        if u32::try_from(stored.len()).is_err() {
            return Err(ObjectError::TooLarge(stored.len()));
        }
        if let Some(offset) = metadata_offset(stored) {
            return Ok(Self::splice(stored, offset, resource_version));
        }
        let object: Value = serde_json::from_slice(stored).map_err(|error| ObjectError::Malformed(error.to_string()))?;
        if !object.is_object() {
            return Err(ObjectError::Malformed("no JSON object".into()));
        }
        let plain = |name: &str| object.get(name).is_none_or(|value| value.as_str().is_some_and(is_plain));
        if !plain("kind") || !plain("apiVersion") {
            return Err(ObjectError::Malformed("kind or apiVersion is no name".into()));
        }
        let stored = stored_bytes(&object);
        let offset = metadata_offset(&stored).ok_or_else(|| ObjectError::Malformed("no metadata".into()))?;
        Ok(Self::splice(&stored, offset, resource_version))
    }

    /// `offset` is where `,"metadata":{` begins; the length was checked to fit 32 bits.
    fn splice(stored: &[u8], offset: usize, resource_version: i64) -> Self {
        let text = resource_version.to_string();
        let cut = offset + METADATA.len();
        let mut bytes = Vec::with_capacity(stored.len() + VERSION.len() + text.len() + 2);
        bytes.extend_from_slice(&stored[..cut]);
        bytes.extend_from_slice(VERSION);
        let version = bytes.len();
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(b'"');
        if stored.get(cut) != Some(&b'}') {
            bytes.push(b',');
        }
        bytes.extend_from_slice(&stored[cut..]);
        Self {
            bytes: bytes.into(),
            metadata: offset as u32 + 1,
            version: version as u32,
            digits: text.len() as u8,
            resource_version,
        }
    }

    /// The whole object, as GET and WATCH send it.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The object without kind and apiVersion, as LIST sends it, except for the `{` it begins with.
    #[must_use]
    pub fn item_tail(&self) -> Bytes {
        self.bytes.slice(self.metadata as usize..)
    }

    /// The bytes that the store holds: without the resource version.
    #[must_use]
    pub fn stored(&self) -> Bytes {
        let start = self.version as usize - VERSION.len();
        let mut end = self.version as usize + usize::from(self.digits) + 1;
        if self.bytes.get(end) == Some(&b',') {
            end += 1;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len());
        bytes.extend_from_slice(&self.bytes[..start]);
        bytes.extend_from_slice(&self.bytes[end..]);
        bytes.into()
    }

    /// The same object at another resource version: what a deletion sends.
    #[must_use]
    pub fn with_resource_version(&self, resource_version: i64) -> Bytes {
        let start = self.version as usize;
        let end = start + usize::from(self.digits);
        let text = resource_version.to_string();
        let mut bytes = Vec::with_capacity(self.bytes.len() + text.len());
        bytes.extend_from_slice(&self.bytes[..start]);
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(&self.bytes[end..]);
        bytes.into()
    }

    /// The revision of the store that wrote this object.
    #[must_use]
    pub fn resource_version(&self) -> i64 {
        self.resource_version
    }

    /// Decodes what selectors and the garbage collector need.
    ///
    /// # Errors
    /// Metadata of another shape than every object's.
    pub fn header(&self) -> Result<Header, ObjectError> {
        Header::decode(&self.bytes)
    }

    /// Decodes the whole object, resource version included.
    #[must_use]
    pub fn value(&self) -> Value {
        // The bytes were stored by a server that had decoded them; null stands for corrupt ones.
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

/// Whether text needs no escapes in JSON.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
}

/// The body of a LIST, in pieces that share the cache's bytes.
///
/// `continue_` and `remaining` stand in the list's metadata where given.
pub fn list_chunks<'a>(
    api_version: &str,
    list_kind: &str,
    resource_version: i64,
    continue_: Option<&str>,
    remaining: Option<i64>,
    items: impl Iterator<Item = &'a Encoded>,
) -> impl Iterator<Item = Bytes> {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), resource_version.to_string().into());
    if let Some(token) = continue_ {
        metadata.insert("continue".into(), token.into());
    }
    if let Some(count) = remaining {
        metadata.insert("remainingItemCount".into(), count.into());
    }
    let head = format!(
        "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[",
        Value::from(list_kind),
        Value::from(api_version),
        Value::Object(metadata)
    );
    let items = items.enumerate().flat_map(|(index, item)| {
        let open: &[u8] = if index == 0 { b"{" } else { b",{" };
        [Bytes::from_static(open), item.item_tail()]
    });
    std::iter::once(Bytes::from(head)).chain(items).chain(std::iter::once(Bytes::from_static(b"]}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn pod() -> Value {
        json!({"spec": {"nodeName": "a"}, "kind": "Pod", "apiVersion": "v1", "data": 1,
               "metadata": {"name": "web", "resourceVersion": "7", "labels": {"app": "web"}}})
    }

    #[test]
    fn stored_bytes_carry_no_resource_version() {
        let text = String::from_utf8(stored_bytes(&pod()).to_vec()).unwrap();
        assert!(text.starts_with(r#"{"kind":"Pod","apiVersion":"v1","metadata":{"#), "{text}");
        assert!(!text.contains("resourceVersion"));
    }

    #[test]
    fn splices_agree_with_parsing() {
        for object in [pod(), json!({"kind": "A", "apiVersion": "b/v1"}), json!({"kind": "A", "metadata": {}})] {
            let encoded = Encoded::from_value(&object, 12).unwrap();
            let mut expected: Value = serde_json::from_slice(&stored_bytes(&object)).unwrap();
            assert_eq!(encoded.stored(), stored_bytes(&object));
            expected["metadata"]["resourceVersion"] = "12".into();
            assert_eq!(encoded.value(), expected);
            let again = Encoded::from_stored(&encoded.stored(), 1234).unwrap();
            expected["metadata"]["resourceVersion"] = "1234".into();
            assert_eq!(again.value(), expected);
            let deleted = encoded.with_resource_version(1234);
            assert_eq!(deleted, again.bytes());
            let item: Value = serde_json::from_slice(&[b"{", &again.item_tail()[..]].concat()).unwrap();
            expected.as_object_mut().unwrap().retain(|name, _| name != "kind" && name != "apiVersion");
            assert_eq!(item, expected);
        }
    }

    #[test]
    fn foreign_layouts_are_decoded() {
        let stored = br#"{"metadata":{"name":"x"},"apiVersion":"v1","kind":"Pod"}"#;
        let encoded = Encoded::from_stored(stored, 3).unwrap();
        assert_eq!(encoded.value()["metadata"], json!({"name": "x", "resourceVersion": "3"}));
        assert!(Encoded::from_stored(b"[]", 1).is_err());
        assert!(Encoded::from_stored(b"k8s\0", 1).is_err());
    }

    #[test]
    fn lists_are_json() {
        let pods = [Encoded::from_value(&pod(), 1).unwrap(), Encoded::from_value(&pod(), 2).unwrap()];
        for count in 0..=2 {
            let body = list_chunks("v1", "PodList", 9, Some("token"), Some(4), pods[..count].iter());
            let list: Value = serde_json::from_slice(&body.collect::<Vec<_>>().concat()).unwrap();
            assert_eq!(list["items"].as_array().unwrap().len(), count);
            assert_eq!(list["metadata"], json!({"resourceVersion": "9", "continue": "token", "remainingItemCount": 4}));
        }
    }
}
