//! Removes from disk what compaction made unreachable, after the fact and in small steps.
//!
//! Not part of the replicated state: members do it when they like. A version goes once a newer one
//! exists at or before the compacted revision, a removal once it lies before it.

use rocksdb::{ReadOptions, WriteBatch};

use super::database::{Database, KEYS, META, REVISIONS, StateError};
use super::keys;
use crate::fault::{self, Mistake};

/// Key in `meta`: up to where this member has cleaned up.
const CLEANED: &[u8] = b"cleaned";
/// Deletions that are written together.
const STEP: usize = 500;

/// Cleans up to a compacted revision. `pause` is called between steps and may end it.
pub fn clean(database: &Database, compacted: i64, mut pause: impl FnMut() -> bool) -> Result<(), StateError> {
    let meta = database.family(META)?;
    let cleaned = database.db.get_cf(&meta, CLEANED)?;
    let cleaned = cleaned.and_then(|stored| stored.first_chunk::<8>().map(|number| i64::from_be_bytes(*number)));
    let revisions = database.family(REVISIONS)?;
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(keys::revision(compacted + 1, 0));
    let mut rows = database.db.raw_iterator_cf_opt(&revisions, options);
    rows.seek(keys::revision(cleaned.unwrap_or(0), 0));
    let mut batch = WriteBatch::default();
    let mut freed = 0;
    while let Some((stored, key)) = rows.item() {
        let revision = keys::to_revision(stored).ok_or(StateError::Damaged("revision"))?;
        freed += versions(database, key, compacted, &mut batch)?;
        if revision < compacted {
            batch.delete_cf(&revisions, stored);
        }
        if batch.len() >= STEP {
            database.write_counted(std::mem::take(&mut batch), -std::mem::take(&mut freed))?;
            if !pause() {
                return Ok(());
            }
        }
        rows.next();
    }
    rows.status()?;
    batch.put_cf(&meta, CLEANED, compacted.to_be_bytes());
    database.write_counted(batch, -freed)
}

fn versions(database: &Database, key: &[u8], compacted: i64, batch: &mut WriteBatch) -> Result<i64, StateError> {
    let mut freed = 0;
    let family = database.family(KEYS)?;
    let prefix = keys::escaped(key);
    let mut options = ReadOptions::default();
    options.set_prefix_same_as_start(true);
    let mut iterator = database.db.raw_iterator_cf_opt(&family, options);
    iterator.seek(keys::version(key, compacted));
    let mut newest = !fault::makes(Mistake::CleansTooMuch);
    while let Some((stored, record)) = iterator.item() {
        let (escaped, revision) = keys::split(stored).ok_or(StateError::Damaged("key"))?;
        if escaped != prefix {
            break;
        }
        if !newest || (keys::is_removal(record) && revision < compacted) {
            batch.delete_cf(&family, stored);
            freed += keys::weight(key, record);
        }
        newest = false;
        iterator.next();
    }
    iterator.status()?;
    Ok(freed)
}
