//! Translates between openraft's types and our versioned protobuf.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_proto::kontiki::store::v1 as pb;
use openraft::EntryPayload;

use super::types::{Batch, Entry, LeaderId, LogId, Membership, Peer, StoredMembership, Vote};

/// A message that says something impossible.
#[derive(Debug, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub &'static str);

/// To the wire.
#[must_use]
pub fn log_id(id: &LogId) -> pb::LogId {
    pb::LogId { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
}

/// From the wire.
#[must_use]
pub fn to_log_id(id: &pb::LogId) -> LogId {
    LogId { leader_id: LeaderId { term: id.term, node_id: id.leader }, index: id.index }
}

/// To the wire.
#[must_use]
pub fn vote(vote: &Vote) -> pb::Vote {
    pb::Vote { term: vote.leader_id.term, candidate: vote.leader_id.node_id, committed: vote.committed }
}

/// From the wire.
pub fn to_vote(vote: Option<&pb::Vote>) -> Result<Vote, Malformed> {
    let vote = vote.ok_or(Malformed("no vote"))?;
    let leader_id = LeaderId { term: vote.term, node_id: vote.candidate };
    Ok(Vote { leader_id, committed: vote.committed })
}

/// To the wire.
#[must_use]
pub fn member(id: u64, peer: &Peer) -> pb::Member {
    pb::Member { id, name: peer.name.clone(), peer_urls: peer.urls.clone(), learner: peer.learner }
}

/// From the wire.
#[must_use]
pub fn to_peer(member: &pb::Member) -> Peer {
    Peer { name: member.name.clone(), urls: member.peer_urls.clone(), learner: member.learner }
}

/// To the wire.
#[must_use]
pub fn membership(membership: &Membership) -> pb::Membership {
    let configurations = membership.get_joint_config().iter();
    pb::Membership {
        configurations: configurations.map(|ids| pb::Voters { ids: ids.iter().copied().collect() }).collect(),
        members: membership.nodes().map(|(id, peer)| member(*id, peer)).collect(),
    }
}

/// From the wire.
pub fn to_membership(membership: &pb::Membership) -> Result<Membership, Malformed> {
    let configurations: Vec<BTreeSet<u64>> =
        membership.configurations.iter().map(|voters| voters.ids.iter().copied().collect()).collect();
    if configurations.is_empty() {
        return Ok(Membership::default());
    }
    let members: BTreeMap<u64, Peer> = membership.members.iter().map(|member| (member.id, to_peer(member))).collect();
    Membership::new(configurations, members).map_err(|_| Malformed("membership"))
}

/// To the wire.
#[must_use]
pub fn stored_membership(stored: &StoredMembership) -> pb::StoredMembership {
    pb::StoredMembership { log_id: stored.log_id().as_ref().map(log_id), membership: Some(membership(stored.membership())) }
}

/// From the wire.
pub fn to_stored_membership(stored: &pb::StoredMembership) -> Result<StoredMembership, Malformed> {
    let membership = stored.membership.as_ref().map(to_membership).transpose()?.unwrap_or_default();
    Ok(StoredMembership::new(stored.log_id.as_ref().map(to_log_id), membership))
}

/// To the wire.
#[must_use]
pub fn entry(entry: &Entry) -> pb::Entry {
    let payload = match &entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(batch) => Some(pb::entry::Payload::Batch(batch.0.clone())),
        EntryPayload::Membership(next) => Some(pb::entry::Payload::Membership(membership(next))),
    };
    pb::Entry { id: Some(log_id(&entry.log_id)), payload }
}

/// From the wire.
pub fn to_entry(entry: pb::Entry) -> Result<Entry, Malformed> {
    let log_id = to_log_id(entry.id.as_ref().ok_or(Malformed("entry without position"))?);
    let payload = match entry.payload {
        None => EntryPayload::Blank,
        Some(pb::entry::Payload::Batch(batch)) => EntryPayload::Normal(Batch(batch)),
        Some(pb::entry::Payload::Membership(next)) => EntryPayload::Membership(to_membership(&next)?),
    };
    Ok(Entry { log_id, payload })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn entries_survive_the_wire() {
        let id = LogId { leader_id: LeaderId { term: 3, node_id: 9 }, index: 7 };
        let peers = BTreeMap::from([(1, Peer { name: "a".into(), urls: vec!["https://a:2380".into()], learner: true })]);
        let membership = Membership::new(vec![BTreeSet::from([1])], peers).unwrap();
        let payloads = [EntryPayload::Blank, EntryPayload::Normal(Batch("x".into())), EntryPayload::Membership(membership)];
        for payload in payloads {
            let original = Entry { log_id: id, payload };
            assert_eq!(to_entry(entry(&original)).unwrap(), original);
        }
    }
}
