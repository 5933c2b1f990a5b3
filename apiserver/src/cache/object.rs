//! One object as the cache holds it: the bytes that clients get, and what selectors look at.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use kontiki_api::{
    custom::strategy::Served,
    object::{Encoded, Header, ObjectError},
    protobuf::encode as protobuf,
    registry::Resource,
    selector::{FieldSelector, LabelSelector},
};

use crate::encryption::Encryption;

/// An object as the cache holds it.
#[derive(Debug)]
pub struct CachedObject {
    /// Key in the store.
    pub key: Arc<str>,
    /// The bytes that clients get.
    pub encoded: Encoded,
    /// What selectors look at.
    pub header: Header,
    /// Values of the kind's selectable fields, in the strategy's order.
    pub fields: Vec<String>,
    /// Revision of its last change.
    pub revision: i64,
    protobuf: OnceLock<Option<Bytes>>,
}

impl CachedObject {
    /// Its protobuf message, without the envelope; made on first use. `None` for a kind that has none.
    #[must_use]
    pub fn protobuf(&self, resource: &Resource) -> Option<Bytes> {
        let encode = || protobuf::message(resource.type_()?, &self.encoded.value());
        self.protobuf.get_or_init(encode).clone()
    }

    /// The same object with other bytes: as another version of its kind.
    #[must_use]
    pub fn with_encoded(&self, encoded: Encoded) -> Self {
        let (key, header, fields) = (Arc::clone(&self.key), self.header.clone(), self.fields.clone());
        Self { key, encoded, header, fields, revision: self.revision, protobuf: OnceLock::new() }
    }

    /// Fields of custom resources change with their definition: they are read when they are asked for.
    fn selected_custom(&self, served: &Served, labels: &LabelSelector, fields: &FieldSelector) -> bool {
        if !labels.matches(&self.header.labels) {
            return false;
        }
        let object = self.encoded.value();
        let values: Vec<(&str, String)> = fields
            .terms
            .iter()
            .map(|term| {
                let value = match term.path.as_str() {
                    "metadata.name" => self.header.name.clone(),
                    "metadata.namespace" => self.header.namespace.clone(),
                    path => served.selectable_value(&object, path).unwrap_or_default(),
                };
                (term.path.as_str(), value)
            })
            .collect();
        fields.matches(|path| values.iter().find(|(known, _)| *known == path).map_or("", |(_, value)| value.as_str()))
    }

    /// Whether selectors select it.
    #[must_use]
    pub fn selected(&self, resource: &Resource, labels: &LabelSelector, fields: &FieldSelector) -> bool {
        if let Some(served) = resource.strategy.custom().filter(|_| !fields.terms.is_empty()) {
            return self.selected_custom(&served, labels, fields);
        }
        let value_of = |path: &str| match path {
            "metadata.name" => self.header.name.as_str(),
            "metadata.namespace" => self.header.namespace.as_str(),
            other => {
                let position = resource.stored().strategy.selectable_fields().iter().position(|field| *field == other);
                position.and_then(|index| self.fields.get(index)).map_or("", String::as_str)
            }
        };
        labels.matches(&self.header.labels) && fields.matches(value_of)
    }
}

/// Why a stored object cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is encrypted, and this server cannot decrypt it.
    #[error("{0}")]
    Sealed(String),
    /// It is none.
    #[error(transparent)]
    Malformed(#[from] ObjectError),
}

/// Decodes stored bytes into what the cache holds.
pub fn decode_object(
    encryption: &Encryption,
    resource: &Resource,
    key: &str,
    stored: &Bytes,
    revision: i64,
) -> Result<CachedObject, ReadError> {
    let opened = encryption.open(resource, key, stored).map_err(ReadError::Sealed)?;
    let encoded = Encoded::from_stored(&opened.value, revision)?;
    let header = Header::decode(&encoded.bytes())?;
    let paths = resource.strategy.selectable_fields();
    let fields = if paths.is_empty() {
        Vec::new()
    } else {
        let value = encoded.value();
        paths.iter().map(|path| resource.strategy.field_value(&value, path)).collect()
    };
    Ok(CachedObject { key: key.into(), encoded, header, fields, revision, protobuf: OnceLock::new() })
}
