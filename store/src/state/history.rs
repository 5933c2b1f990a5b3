//! Events for watches: the newest from memory, older ones from the database.

use std::collections::VecDeque;
use std::sync::Arc;

use kontiki_proto::mvccpb::{Event, KeyValue, event::EventType};
use rocksdb::ReadOptions;

use super::apply::Change;
use super::database::{Database, KEYS, REVISIONS, StateError};
use super::keys;
use crate::limits::{RECENT_EVENTS_BYTES_MAX, WATCH_BATCH_BYTES_MAX, WATCH_BATCH_EVENTS_MAX};
use crate::mvcc::range::KeyRange;
use crate::watch::Batch;

/// The newest changes, without a gap, bounded in bytes.
#[derive(Debug, Default)]
pub struct Recent {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
}

impl Recent {
    /// Adds changes in order.
    pub fn extend(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.bytes += weight(&change);
            self.changes.push_back(Arc::new(change));
        }
        while self.bytes > RECENT_EVENTS_BYTES_MAX
            && let Some(oldest) = self.changes.pop_front()
        {
            self.bytes -= weight(&oldest);
        }
    }

    /// Forgets everything: the state was replaced.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The events of an interval of keys and revisions, if the first revision is still in memory.
    #[must_use]
    pub fn events(&self, range: &KeyRange, from: i64, to: i64) -> Option<Batch> {
        let first = self.changes.front()?.revision;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        let mut batch = Batch { events: vec![], next: to + 1 };
        let mut bytes = 0;
        for change in self.changes.iter().skip(skip) {
            if change.revision > to || is_full(&batch, bytes) {
                batch.next = change.revision;
                break;
            }
            let wanted = |event: &&Event| event.kv.as_ref().is_some_and(|kv| range.contains(&kv.key));
            for event in change.events.iter().filter(wanted) {
                bytes += size(event);
                batch.events.push(event.clone());
            }
        }
        Some(batch)
    }
}

fn weight(change: &Change) -> usize {
    change.events.iter().map(size).sum::<usize>() + 64
}

/// Bytes that an event takes.
fn size(event: &Event) -> usize {
    let of = |kv: &Option<KeyValue>| kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len() + 64);
    of(&event.kv) + of(&event.prev_kv) + 64
}

/// Whether a batch, of so many bytes, takes no further revision.
fn is_full(batch: &Batch, bytes: usize) -> bool {
    batch.events.len() >= WATCH_BATCH_EVENTS_MAX || bytes >= WATCH_BATCH_BYTES_MAX
}

/// Reads events from the database: rows of `revisions`, then the versions they speak of.
pub fn read(database: &Database, range: &KeyRange, from: i64, to: i64) -> Result<Batch, StateError> {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(keys::revision(to + 1, 0));
    let mut rows = database.db.raw_iterator_cf_opt(&database.family(REVISIONS)?, options);
    rows.seek(keys::revision(from, 0));
    let mut batch = Batch { events: vec![], next: to + 1 };
    let mut bytes = 0;
    while let Some((stored, key)) = rows.item() {
        let revision = keys::to_revision(stored).ok_or(StateError::Damaged("revision"))?;
        // Whole revisions only, so look at the size just where one begins.
        if is_full(&batch, bytes) && stored.ends_with(&[0; 4]) {
            batch.next = revision;
            break;
        }
        if range.contains(key)
            && let Some(event) = event(database, key, revision)?
        {
            bytes += size(&event);
            batch.events.push(event);
        }
        rows.next();
    }
    rows.status()?;
    Ok(batch)
}

/// The event of one version. None where compaction took the version meanwhile.
fn event(database: &Database, key: &[u8], revision: i64) -> Result<Option<Event>, StateError> {
    let mut options = ReadOptions::default();
    options.set_prefix_same_as_start(true);
    let mut versions = database.db.raw_iterator_cf_opt(&database.family(KEYS)?, options);
    versions.seek(keys::version(key, revision));
    let prefix = keys::escaped(key);
    let read = |item: Option<(&[u8], &[u8])>| -> Result<Option<KeyValue>, StateError> {
        let Some((stored, record)) = item else {
            return Ok(None);
        };
        let (escaped, found) = keys::split(stored).ok_or(StateError::Damaged("key"))?;
        if escaped != prefix {
            return Ok(None);
        }
        let key = bytes::Bytes::copy_from_slice(key);
        keys::key_value(key, found, record, true).map(Some).ok_or(StateError::Damaged("version"))
    };
    let Some(kv) = read(versions.item())?.filter(|kv| kv.mod_revision == revision) else {
        versions.status()?;
        return Ok(None);
    };
    versions.next();
    let prev_kv = read(versions.item())?.filter(|previous| previous.version > 0);
    versions.status()?;
    let kind = if kv.version == 0 { EventType::Delete } else { EventType::Put };
    Ok(Some(Event { r#type: kind as i32, kv: Some(kv), prev_kv }))
}
