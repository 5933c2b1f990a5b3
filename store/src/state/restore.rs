//! Turns the state in a snapshot into that of a new cluster.

use std::collections::BTreeSet;

use prost::Message;
use rocksdb::{IteratorMode, WriteBatch};

use super::database::{ALARMS, APPLIED, ATTRIBUTES, Database, META, REMOVED, StateError};
use crate::raft::types::{LeaderId, LogId, Membership, StoredMembership};
use crate::service::identity::Begin;

/// Gives the state the new cluster's members; what it knew of the old ones goes, and so do alarms.
pub fn prepare(database: &Database, begin: &Begin) -> Result<(), StateError> {
    let voters: BTreeSet<u64> = begin.members.keys().copied().collect();
    let membership = Membership::new(vec![voters], begin.members.clone()).map_err(|_| StateError::Damaged("new membership"))?;
    // The old cluster's terms mean nothing to the new one's members, whose first vote is of term 1:
    // it must lie behind everything that they begin with.
    let before_all = LeaderId { term: 0, node_id: 0 };
    let applied = database.load()?.applied.map(|applied| LogId { leader_id: before_all, index: applied.index });
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
    if let Some(applied) = &applied {
        batch.put_cf(&meta, APPLIED, crate::raft::wire::log_id(applied).encode_to_vec());
    }
    let stored = StoredMembership::new(applied, membership);
    batch.put_cf(&meta, super::database::MEMBERSHIP, crate::raft::wire::stored_membership(&stored).encode_to_vec());
    database.write(batch)?;
    database.flush()
}
