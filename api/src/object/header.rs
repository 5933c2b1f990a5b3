//! The few fields of an object that selectors, lists and the garbage collector look at.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::ObjectError;

/// Decoded metadata, kept beside the bytes in caches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Header {
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Unique identifier.
    pub uid: String,
    /// Counts changes of the specification.
    pub generation: i64,
    /// Labels.
    pub labels: Labels,
    /// When a deletion was asked for, as RFC 3339.
    pub deletion_timestamp: Option<Box<str>>,
    /// Grace that the deletion began with.
    pub deletion_grace_period_seconds: Option<i64>,
    /// Who must act before the object may go.
    pub finalizers: Vec<Box<str>>,
    /// Objects this one depends on.
    pub owner_references: Vec<OwnerReference>,
}

/// An object that another depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// Group and version of the owner.
    pub api_version: Box<str>,
    /// Kind of the owner.
    pub kind: Box<str>,
    /// Name of the owner.
    pub name: Box<str>,
    /// Unique identifier of the owner.
    pub uid: Box<str>,
    /// Whether the owner manages this object.
    pub controller: bool,
    /// Whether the owner's deletion waits for this object.
    pub block_owner_deletion: bool,
}

/// Labels, sorted by key; one allocation for the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// Value of a label.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let index = self.0.binary_search_by(|(name, _)| name.as_ref().cmp(key)).ok()?;
        Some(&self.0[index].1)
    }

    /// All labels in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Labels;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map of strings")
            }

            fn visit_unit<E>(self) -> Result<Labels, E> {
                Ok(Labels::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut labels: Vec<(Box<str>, Box<str>)> = Vec::with_capacity(map.size_hint().unwrap_or(4));
                while let Some(entry) = map.next_entry()? {
                    labels.push(entry);
                }
                labels.sort();
                Ok(Labels(labels.into()))
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

impl Header {
    /// Reads the header out of a whole object's bytes.
    ///
    /// # Errors
    /// Not JSON, or metadata of another shape than every object's.
    pub fn decode(object: &[u8]) -> Result<Self, ObjectError> {
        #[derive(Deserialize)]
        struct Object {
            #[serde(default)]
            metadata: Header,
        }
        match serde_json::from_slice::<Object>(object) {
            Ok(object) => Ok(object.metadata),
            Err(error) => Err(ObjectError::Malformed(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_metadata_and_skips_the_rest() {
        let header = Header::decode(
            br#"{"kind":"Pod","spec":{"x":[1,{"y":null}]},"metadata":{"name":"a","namespace":"b","labels":{"z":"1","a":"2"},
                "finalizers":["x/y"],"generation":4,"deletionTimestamp":"2026-01-01T00:00:00Z","unknown":{},
                "ownerReferences":[{"kind":"Node","name":"n","uid":"u","controller":true}]}}"#,
        )
        .unwrap();
        assert_eq!((&*header.name, &*header.namespace, header.generation), ("a", "b", 4));
        assert_eq!(header.labels.get("z"), Some("1"));
        assert_eq!(header.labels.get("x"), None);
        assert_eq!(header.labels.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "z"]);
        assert!(header.owner_references[0].controller);
        assert!(header.deletion_timestamp.is_some());
    }
}
