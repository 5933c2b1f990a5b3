//! How keys, revisions and versions are laid out in RocksDB.
//!
//! `keys`: escaped key, then the inverted revision, so that an ascending scan meets the newest
//! version of a key first. `revisions`: revision and place in it, then nothing else in the key.

use bytes::Bytes;
use kontiki_proto::mvccpb::KeyValue;

/// Ends an escaped key: sorts before every continuation of it.
const END: [u8; 2] = [0, 1];
/// Stands for a zero byte inside a key.
const ZERO: [u8; 2] = [0, 0xff];
/// The only layout of a version so far, written and removed.
const WRITTEN: u8 = 1;
const REMOVED: u8 = 2;
/// Bytes before the value.
const HEAD: usize = 25;

/// The escaped key: prefix of all its versions.
#[must_use]
pub fn escaped(key: &[u8]) -> Vec<u8> {
    let mut escaped = escaped_open(key);
    escaped.extend_from_slice(&END);
    escaped
}

/// The escaped key without its end: where keys that are not smaller begin.
#[must_use]
pub fn escaped_open(key: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(key.len() + 12);
    for byte in key {
        if *byte == 0 {
            escaped.extend_from_slice(&ZERO);
        } else {
            escaped.push(*byte);
        }
    }
    escaped
}

/// Where the versions of a key begin that are not newer than a revision.
#[must_use]
pub fn version(key: &[u8], revision: i64) -> Vec<u8> {
    let mut version = escaped(key);
    version.extend_from_slice(&(!revision.cast_unsigned()).to_be_bytes());
    version
}

/// Splits a stored key into the escaped key (with its end) and the revision.
#[must_use]
pub fn split(stored: &[u8]) -> Option<(&[u8], i64)> {
    let (key, revision) = stored.split_last_chunk::<8>()?;
    Some((key, (!u64::from_be_bytes(*revision)).cast_signed()))
}

/// The escaped key of a stored version: what filters know.
#[must_use]
pub fn of_version(stored: &[u8]) -> &[u8] {
    stored.split_last_chunk::<8>().map_or(stored, |(key, _)| key)
}

/// Whether these bytes are a version of a key, and not a bound between keys.
#[must_use]
pub fn is_version(stored: &[u8]) -> bool {
    of_version(stored).ends_with(&END)
}

/// The key that was escaped.
#[must_use]
pub fn unescaped(escaped: &[u8]) -> Bytes {
    let inner = escaped.strip_suffix(&END).unwrap_or(escaped);
    if !inner.contains(&0) {
        return Bytes::copy_from_slice(inner);
    }
    let mut key = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        key.push(*byte);
        if *byte == 0 {
            bytes.next();
        }
    }
    key.into()
}

/// The record of a version; `version` 0 is a removal.
#[must_use]
pub fn record(kv: &KeyValue) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD + kv.value.len());
    record.push(if kv.version == 0 { REMOVED } else { WRITTEN });
    record.extend_from_slice(&kv.create_revision.to_be_bytes());
    record.extend_from_slice(&kv.version.to_be_bytes());
    record.extend_from_slice(&kv.lease.to_be_bytes());
    record.extend_from_slice(&kv.value);
    record
}

/// Bytes that a version of a key counts.
#[must_use]
pub fn weight(key: &[u8], record: &[u8]) -> i64 {
    // The key stands in both families, each time with a revision.
    i64::try_from(2 * key.len() + 2 * 12 + record.len()).unwrap_or(i64::MAX)
}

/// Whether a record is a removal.
#[must_use]
pub fn is_removal(record: &[u8]) -> bool {
    record.first() == Some(&REMOVED)
}

/// The key and value of a record; without the value if it is not wanted.
#[must_use]
pub fn key_value(key: Bytes, mod_revision: i64, record: &[u8], with_value: bool) -> Option<KeyValue> {
    let (head, value) = record.split_at_checked(HEAD)?;
    let number = |at: usize| Some(i64::from_be_bytes(*head.get(at..at + 8)?.first_chunk::<8>()?));
    Some(KeyValue {
        key,
        create_revision: number(1)?,
        mod_revision,
        version: number(9)?,
        value: if with_value { Bytes::copy_from_slice(value) } else { Bytes::new() },
        lease: number(17)?,
    })
}

/// Key in `revisions`: a revision, and the place of a change in it.
#[must_use]
pub fn revision(main: i64, sub: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&main.to_be_bytes());
    key[8..].copy_from_slice(&sub.to_be_bytes());
    key
}

/// The revision of a key in `revisions`.
#[must_use]
pub fn to_revision(stored: &[u8]) -> Option<i64> {
    stored.first_chunk::<8>().map(|main| i64::from_be_bytes(*main))
}

/// Key in `leases` of a lease itself, and prefix of the keys attached to it.
#[must_use]
pub fn lease(id: i64) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

/// Key in `leases` of a key attached to a lease.
#[must_use]
pub fn lease_key(id: i64, key: &[u8]) -> Vec<u8> {
    let mut stored = lease(id);
    stored.extend_from_slice(key);
    stored
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn escaping_keeps_order_and_content(
            left in proptest::collection::vec(0_u8..4, 0..6),
            right in proptest::collection::vec(0_u8..4, 0..6),
        ) {
            prop_assert_eq!(escaped(&left).cmp(&escaped(&right)), left.cmp(&right));
            prop_assert_eq!(unescaped(&escaped(&left)), left);
        }

        #[test]
        fn newer_versions_come_first(older in 1_i64..100, newer in 100_i64..200) {
            prop_assert!(version(b"key", newer) < version(b"key", older));
            let stored = version(b"key", older);
            let escaped = escaped(b"key");
            prop_assert_eq!(split(&stored).unwrap(), (escaped.as_slice(), older));
        }
    }
}
