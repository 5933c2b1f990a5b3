//! Reads of keys at a revision, over what is stored and over what is about to be.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_proto::mvccpb::KeyValue;
use rocksdb::{ErrorKind, ReadOptions, ReadTier};

use super::database::{Database, KEYS, StateError};
use super::keys;
use crate::mvcc::range::{KeyRange, RangeEnd};

/// Versions that are not yet in the database, oldest first; `version` 0 is a removal.
pub type Overlay = BTreeMap<Bytes, Vec<KeyValue>>;

/// What a scan should bring.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The revision to read at.
    pub revision: i64,
    /// How many keys to return; the rest is only counted.
    pub limit: Option<usize>,
    /// Whether values are of interest.
    pub values: bool,
}

/// Keys found, and how many there are.
#[derive(Debug, Default)]
pub struct Found {
    /// In key order.
    pub kvs: Vec<KeyValue>,
    /// All keys of the interval, returned or not.
    pub count: usize,
}

impl Found {
    /// Of one key.
    #[must_use]
    pub fn of_one(found: Option<KeyValue>, limit: Option<usize>) -> Self {
        let count = usize::from(found.is_some());
        Self { kvs: found.into_iter().take(limit.unwrap_or(usize::MAX)).collect(), count }
    }
}

/// Older versions that are stepped over before it pays to jump.
const STEPS_BEFORE_SEEK: usize = 8;

/// The newest version of a key at a revision, unless it is removed.
pub fn latest(database: &Database, overlay: &Overlay, key: &Bytes, revision: i64) -> Result<Option<KeyValue>, StateError> {
    match pending(overlay, key, revision) {
        Some(found) => Ok(found),
        None => newest_stored(database, key, revision),
    }
}

/// The newest version of a key at a revision that is not yet in the database: `Some(None)` where that is a removal.
#[must_use]
pub fn pending(overlay: &Overlay, key: &Bytes, revision: i64) -> Option<Option<KeyValue>> {
    let kv = at(overlay.get(key)?, revision)?;
    Some((kv.version > 0).then(|| kv.clone()))
}

/// The newest version of a key in the database. What is in memory is read here; for the disk, other tasks move away.
pub fn newest_stored(database: &Database, key: &Bytes, revision: i64) -> Result<Option<KeyValue>, StateError> {
    match newest_within(database, key, revision, ReadTier::BlockCache) {
        Err(StateError::Rocks(error)) if error.kind() == ErrorKind::Incomplete => {
            crate::blocking::here(|| newest_within(database, key, revision, ReadTier::All))
        }
        found => found,
    }
}

fn newest_within(database: &Database, key: &Bytes, revision: i64, tier: ReadTier) -> Result<Option<KeyValue>, StateError> {
    let start = keys::version(key, revision);
    let mut options = ReadOptions::default();
    options.set_prefix_same_as_start(true);
    options.set_read_tier(tier);
    let mut end = keys::escaped(key);
    let prefix = end.len();
    end.extend_from_slice(&[0xff; 9]);
    options.set_iterate_upper_bound(end);
    let mut iterator = database.db.raw_iterator_cf_opt(&database.family(KEYS)?, options);
    iterator.seek(&start);
    let Some((stored, record)) = iterator.item() else {
        iterator.status()?;
        return Ok(None);
    };
    if keys::is_removal(record) || stored.get(..prefix) != start.get(..prefix) {
        return Ok(None);
    }
    let (_, found) = keys::split(stored).ok_or(StateError::Damaged("key"))?;
    keys::key_value(key.clone(), found, record, true).map(Some).ok_or(StateError::Damaged("version"))
}

/// The live keys of an interval.
pub fn scan(database: &Database, overlay: &Overlay, range: &KeyRange, wanted: Wanted) -> Result<Found, StateError> {
    if range.end == RangeEnd::Single {
        return Ok(Found::of_one(latest(database, overlay, &range.start, wanted.revision)?, wanted.limit));
    }
    let pending = overlay
        .range::<Bytes, _>(&range.start..)
        .take_while(|(key, _)| !range.is_before(key))
        .filter_map(|(key, versions)| Some((key.clone(), at(versions, wanted.revision)?.clone())));
    let mut pending = pending.peekable();
    if pending.peek().is_none() {
        return stored(database, range, wanted);
    }
    let all = stored(database, range, Wanted { limit: None, ..wanted })?;
    let mut merged: BTreeMap<Bytes, KeyValue> = all.kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
    merged.extend(pending);
    merged.retain(|_, kv| kv.version > 0);
    let count = merged.len();
    let kvs = merged.into_values().take(wanted.limit.unwrap_or(usize::MAX)).collect();
    Ok(Found { kvs, count })
}

fn at(versions: &[KeyValue], revision: i64) -> Option<&KeyValue> {
    versions.iter().rev().find(|kv| kv.mod_revision <= revision)
}

fn stored(database: &Database, range: &KeyRange, wanted: Wanted) -> Result<Found, StateError> {
    let limit = wanted.limit.unwrap_or(usize::MAX);
    let mut found = Found::default();
    each(database, range, wanted.revision, |key, revision, record| {
        found.count += 1;
        if found.kvs.len() < limit {
            let kv = keys::key_value(keys::unescaped(key), revision, record, wanted.values);
            found.kvs.push(kv.ok_or(StateError::Damaged("version"))?);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Calls something for each live key of an interval at a revision: escaped key, its revision, its record.
fn each(
    database: &Database,
    range: &KeyRange,
    at: i64,
    mut call: impl FnMut(&[u8], i64, &[u8]) -> Result<(), StateError>,
) -> Result<(), StateError> {
    let mut options = ReadOptions::default();
    // Filters know single keys alone.
    options.set_total_order_seek(true);
    if let RangeEnd::Before(end) = &range.end {
        if end <= &range.start {
            return Ok(());
        }
        options.set_iterate_upper_bound(keys::escaped_open(end));
    }
    let mut iterator = database.db.raw_iterator_cf_opt(&database.family(KEYS)?, options);
    iterator.seek(keys::escaped_open(&range.start));
    // The key that was decided last, whose other versions are older; and steps taken over them.
    let mut decided: Vec<u8> = Vec::new();
    let mut steps = 0;
    while let Some((stored, record)) = iterator.item() {
        let (key, revision) = keys::split(stored).ok_or(StateError::Damaged("key"))?;
        if key == decided.as_slice() {
            steps += 1;
            if steps < STEPS_BEFORE_SEEK {
                iterator.next();
            } else {
                let mut behind = decided.clone();
                behind.extend_from_slice(&[0xff; 9]);
                iterator.seek(behind);
            }
            continue;
        }
        if revision > at {
            let mut older = key.to_vec();
            older.extend_from_slice(&(!at.cast_unsigned()).to_be_bytes());
            iterator.seek(older);
            continue;
        }
        decided.clear();
        decided.extend_from_slice(key);
        steps = 0;
        if !keys::is_removal(record) {
            call(key, revision, record)?;
        }
        iterator.next();
    }
    Ok(iterator.status()?)
}

/// A hash over everything that is readable at a revision, and how many keys that are.
pub fn digest(database: &Database, revision: i64) -> Result<(u32, u64), StateError> {
    let mut hasher = crc32fast::Hasher::new();
    let mut keys = 0;
    let everything = KeyRange { start: Bytes::from_static(b"\0"), end: RangeEnd::Unbounded };
    each(database, &everything, revision, |key, found, record| {
        let kv = keys::key_value(keys::unescaped(key), found, record, true).ok_or(StateError::Damaged("version"))?;
        hasher.update(&prost::Message::encode_to_vec(&kv));
        keys += 1;
        Ok(())
    })?;
    Ok((hasher.finalize(), keys))
}
