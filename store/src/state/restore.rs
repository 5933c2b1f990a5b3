//! Turns the state in a snapshot into that of a new cluster.

use std::collections::BTreeSet;

use prost::Message;
use rocksdb::{IteratorMode, WriteBatch};

use super::database::{ALARMS, ATTRIBUTES, Database, META, REMOVED, StateError};
use crate::raft::types::{Membership, StoredMembership};
use crate::service::identity::Begin;

/// Gives the state the new cluster's members; what it knew of the old ones goes, and so do alarms.
pub fn prepare(database: &Database, begin: &Begin) -> Result<(), StateError> {
    let voters: BTreeSet<u64> = begin.members.keys().copied().collect();
    let membership = Membership::new(vec![voters], begin.members.clone()).map_err(|_| StateError::Damaged("new membership"))?;
    let applied = database.load()?.applied;
    let meta = database.family(META)?;
    let mut batch = WriteBatch::default();
    for prefix in [ATTRIBUTES, REMOVED] {
        for item in database.db.iterator_cf(&meta, IteratorMode::From(prefix, rocksdb::Direction::Forward)) {
            let (key, _) = item?;
            if !key.starts_with(prefix) {
                break;
            }
            batch.delete_cf(&meta, key);
        }
    }
    batch.delete_cf(&meta, ALARMS);
    let stored = StoredMembership::new(applied, membership);
    batch.put_cf(&meta, super::database::MEMBERSHIP, crate::raft::wire::stored_membership(&stored).encode_to_vec());
    database.write(batch)?;
    database.flush()
}
