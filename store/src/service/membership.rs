//! Changes of membership: asked for on any member, made by the leader, under the rules of `members`.
//!
//! A voter is added as a learner and becomes a voter by itself once it has caught up, so that adding
//! one never costs the quorum. Invariant: one change at a time, and each is committed before the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kontiki_proto::kontiki::store::v1 as wire_pb;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, Instant as _};
use parking_lot::Mutex;
use tokio::time::Instant;
use wire_pb::change_membership_request::Change;

use super::core::Core;
use super::members::{self, Known};
use crate::error::Error;
use crate::limits::PROPOSAL_TIMEOUT;
use crate::raft::types::{Config, Membership, Peer};
use crate::raft::wire;

/// How often members are looked at.
const INTERVAL: Duration = Duration::from_millis(200);
/// A member that was silent for longer is not reachable.
const SILENCE_MAX: Duration = Duration::from_millis(1500);
/// Before a change is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Since when each member answers without a break.
#[derive(Debug, Default)]
pub struct Reachable {
    since: Mutex<BTreeMap<u64, Instant>>,
}

impl Reachable {
    /// Notes which members answered just now.
    fn note(&self, answering: &[u64], now: Instant) {
        let mut since = self.since.lock();
        since.retain(|id, _| answering.contains(id));
        for id in answering {
            since.entry(*id).or_insert(now);
        }
    }

    fn of(&self, id: u64, now: Instant) -> Option<Duration> {
        self.since.lock().get(&id).map(|since| now.saturating_duration_since(*since))
    }
}

/// Makes a change through whoever leads, and waits until it is applied here.
pub async fn change(core: &Core, change: Change) -> Result<(), Error> {
    let request = wire_pb::ChangeMembershipRequest {
        change: Some(change),
        strict: core.options.strict_reconfig_check,
        learners_max: u32::try_from(core.options.learners_max).unwrap_or(u32::MAX),
    };
    let changing = async {
        loop {
            match change_once(core, request.clone()).await {
                Err(Error::NotLeader | Error::NoLeader | Error::LeaderChanged) => tokio::time::sleep(RETRY_PAUSE).await,
                answer => return answer,
            }
        }
    };
    let index = tokio::time::timeout(PROPOSAL_TIMEOUT, changing).await.map_err(|_| Error::Timeout)??;
    core.wait_applied(index).await
}

async fn change_once(core: &Core, request: wire_pb::ChangeMembershipRequest) -> Result<u64, Error> {
    let leader = core.leader().ok_or(Error::NoLeader)?;
    if leader.node_id == core.member_id {
        return change_as_leader(core, request).await;
    }
    let answer = core.peer(leader)?.change_membership(request).await;
    answer.map(|answer| answer.into_inner().index).map_err(|status| Error::from_message(status.message()))
}

/// Makes a change on the leader; returns where it stands in the log.
pub async fn change_as_leader(core: &Core, request: wire_pb::ChangeMembershipRequest) -> Result<u64, Error> {
    if !core.leads() {
        return Err(Error::NotLeader);
    }
    let change = request.change.ok_or(Error::MemberBadUrls)?;
    let known = known(core)?;
    let learners_max = usize::try_from(request.learners_max).unwrap_or(usize::MAX);
    match change {
        Change::Add(member) => {
            members::may_add(&known, &member.peer_urls, member.learner, learners_max, request.strict)?;
            write(core, ChangeMembers::AddNodes([(member.id, wire::to_peer(&member))].into())).await
        }
        Change::Remove(id) => {
            members::may_remove(&known, id, request.strict)?;
            remove(core, id).await
        }
        Change::Update(member) => {
            members::may_update(&known, member.id, &member.peer_urls)?;
            let before = peer(core, member.id)?;
            write(core, ChangeMembers::SetNodes([(member.id, Peer { urls: member.peer_urls, ..before })].into())).await
        }
        Change::Promote(id) => {
            let (matched, last) = progress(core, id)?;
            members::may_promote(&known, id, matched, last, request.strict)?;
            promote(core, id).await
        }
    }
}

async fn promote(core: &Core, id: u64) -> Result<u64, Error> {
    let member = Peer { learner: false, ..peer(core, id)? };
    let voter = vec![ChangeMembers::SetNodes([(id, member)].into()), ChangeMembers::AddVoterIds([id].into())];
    write(core, ChangeMembers::Batch(voter)).await
}

async fn remove(core: &Core, id: u64) -> Result<u64, Error> {
    let membership = core.membership()?;
    let votes = membership.membership().voter_ids().any(|voter| voter == id);
    if votes && id == core.member_id {
        // Another one leads first, so that nobody waits for an election.
        let next = membership.membership().voter_ids().filter(|voter| *voter != id);
        let next = next.max_by_key(|voter| progress(core, *voter).map_or(0, |(matched, _)| matched));
        let next = next.ok_or(Error::MemberNotEnoughStarted)?;
        core.raft()?.trigger().transfer_leader(next).await.map_err(|_| Error::Stopped)?;
        return Err(Error::NotLeader);
    }
    if votes {
        return write(core, ChangeMembers::RemoveVoters([id].into())).await;
    }
    write(core, ChangeMembers::RemoveNodes([id].into())).await
}

async fn write(core: &Core, change: ChangeMembers<u64, Peer>) -> Result<u64, Error> {
    match core.raft()?.change_membership(change, false).await {
        Ok(written) => Ok(written.log_id.index),
        Err(RaftError::APIError(error)) => Err(refusal(&error)),
        Err(RaftError::Fatal(_)) => Err(Error::Stopped),
    }
}

fn refusal(error: &ClientWriteError<Config>) -> Error {
    match error {
        ClientWriteError::ForwardToLeader(_) => Error::NotLeader,
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)) => Error::LeaderChanged,
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::LearnerNotFound(_)) => Error::MemberNotFound,
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::EmptyMembership(_)) => Error::MemberNotEnoughStarted,
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::UncommittedLeaderLog(_)) => Error::LeaderChanged,
        other => Error::Internal(other.to_string()),
    }
}

fn peer(core: &Core, id: u64) -> Result<Peer, Error> {
    core.membership()?.membership().get_node(&id).cloned().ok_or(Error::MemberNotFound)
}

/// How much of the log a member has, and how much there is.
fn progress(core: &Core, id: u64) -> Result<(u64, u64), Error> {
    let metrics = core.raft()?.data_metrics();
    let metrics = metrics.borrow_watched();
    let last = metrics.last_log.map_or(0, |id| id.index);
    if id == core.member_id {
        return Ok((last, last));
    }
    let matched = metrics.replication.as_ref().and_then(|replication| replication.get(&id)).copied().flatten();
    Ok((matched.map_or(0, |id| id.index), last))
}

/// What the leader knows of all members.
fn known(core: &Core) -> Result<Vec<Known>, Error> {
    let membership = core.membership()?;
    let now = Instant::now();
    let one = |(id, peer): (&u64, &Peer)| Known {
        id: *id,
        urls: peer.urls.clone(),
        learner: peer.learner,
        started: core.state.attributes(*id).is_some(),
        reachable: core.reachable.of(*id, now),
    };
    Ok(membership.membership().nodes().map(one).collect())
}

/// Watches over the members while this one leads: who answers, and who is ready to vote.
pub async fn run(core: Arc<Core>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = core.stop.cancelled() => return,
        }
        if !core.leads() {
            core.reachable.note(&[], Instant::now());
            continue;
        }
        core.reachable.note(&answering(&core), Instant::now());
        if let Some(id) = joining(&core)
            && let Err(error) = promote(&core, id).await
        {
            tracing::debug!(%error, "a new member does not vote yet");
        }
    }
}

fn answering(core: &Core) -> Vec<u64> {
    let mut answering = vec![core.member_id];
    if let Ok(raft) = core.raft() {
        let metrics = raft.data_metrics();
        let metrics = metrics.borrow_watched();
        let acks = metrics.heartbeat.iter().flatten();
        answering.extend(acks.filter(|(_, last)| last.is_some_and(|last| last.elapsed() < SILENCE_MAX)).map(|(id, _)| *id));
    }
    answering
}

/// A member that should vote, has caught up and does not vote yet.
fn joining(core: &Core) -> Option<u64> {
    let membership = core.membership().ok()?;
    let membership: &Membership = membership.membership();
    let voters: Vec<u64> = membership.voter_ids().collect();
    let ready = |id: u64| progress(core, id).is_ok_and(|(matched, last)| matched > 0 && members::is_ready(matched, last));
    let waiting = membership.nodes().filter(|(id, peer)| !peer.learner && !voters.contains(id));
    waiting.map(|(id, _)| *id).find(|id| ready(*id) && core.reachable.of(*id, Instant::now()).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_reachable_since_its_last_silence() {
        let reachable = Reachable::default();
        let begin = Instant::now();
        let later = |seconds| begin + Duration::from_secs(seconds);
        reachable.note(&[1, 2], begin);
        reachable.note(&[1], later(3));
        reachable.note(&[1, 2], later(4));
        assert_eq!(reachable.of(1, later(6)), Some(Duration::from_secs(6)));
        assert_eq!(reachable.of(2, later(6)), Some(Duration::from_secs(2)));
        assert_eq!(reachable.of(3, later(6)), None);
    }
}
