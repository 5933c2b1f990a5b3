//! Linearizable reads: one confirmation by a quorum serves all that wait for one.

use std::sync::Arc;
use std::time::Duration;

use kontiki_proto::kontiki::store::v1 as wire_pb;
use openraft::ReadPolicy;
use tokio::sync::{mpsc, oneshot};

use super::core::{Confirmation, Core};
use crate::error::Error;
use crate::fault::{self, Mistake};
use crate::limits::PROPOSAL_TIMEOUT;
use crate::raft::types::{Membership, Vote};
use crate::raft::wire;

/// Before a failed confirmation is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// A single confirmation that takes longer is tried again, perhaps with another leader.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a round waits at most for readers that were served a moment ago.
const GATHERING: Duration = Duration::from_millis(1);

/// Waits until local state holds everything that was committed when this was called.
pub async fn wait(core: &Core) -> Result<(), Error> {
    if fault::makes(Mistake::StaleRead) {
        return Ok(());
    }
    let confirmed = tokio::time::timeout(PROPOSAL_TIMEOUT, async {
        loop {
            match confirm(core).await {
                Ok(index) => return Ok(index),
                Err(Error::Stopped) => return Err(Error::Stopped),
                Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    });
    let index = tokio::select! {
        confirmed = confirmed => match confirmed {
            Ok(index) => index?,
            Err(_) if core.leader().is_none() => return Err(Error::NoLeader),
            Err(_) => return Err(Error::Timeout),
        },
        () = core.stop.cancelled() => return Err(Error::Stopped),
    };
    core.wait_applied(index).await
}

async fn confirm(core: &Core) -> Result<u64, Error> {
    let (sender, receiver) = oneshot::channel();
    core.confirmations.send(sender).await.map_err(|_| Error::Stopped)?;
    receiver.await.map_err(|_| Error::Stopped)?
}

/// Confirms for all that wait, again and again, until the member stops.
pub async fn run(core: Arc<Core>, mut queue: mpsc::Receiver<Confirmation>) {
    let mut served = 0;
    loop {
        let first = tokio::select! {
            first = queue.recv() => first,
            () = core.stop.cancelled() => return,
        };
        let Some(first) = first else { return };
        let mut waiting = vec![first];
        gather(&mut queue, &mut waiting, served).await;
        served = waiting.len();
        let result = tokio::time::timeout(CONFIRMATION_TIMEOUT, ask(&core)).await.unwrap_or(Err(Error::Timeout));
        for reader in waiting {
            // The reader may have gone.
            drop(reader.send(result.clone()));
        }
    }
}

/// Takes all that wait. Readers that were just served mostly read again at once, so that a round that begins with the first
/// of them would be followed by one for the others: it waits for half as many as last time, for a moment at most. One reader
/// alone never waits.
async fn gather(queue: &mut mpsc::Receiver<Confirmation>, waiting: &mut Vec<Confirmation>, served: usize) {
    let take = |queue: &mut mpsc::Receiver<Confirmation>, waiting: &mut Vec<Confirmation>| {
        while let Ok(next) = queue.try_recv() {
            waiting.push(next);
        }
    };
    take(queue, waiting);
    let wanted = served / 2;
    if waiting.len() < wanted {
        let more = async {
            while waiting.len() < wanted
                && let Some(next) = queue.recv().await
            {
                waiting.push(next);
            }
        };
        // Whoever came in time is served, whether or not enough came.
        drop(tokio::time::timeout(GATHERING, more).await);
        take(queue, waiting);
    }
}

/// The index that a read at `member` has to wait for, if that member's vote and this leader's are a quorum: the member read
/// its vote after the read had begun, this leader looks at its own now, and both are for this leader, so that nobody else
/// was elected before the read began. Otherwise all have to be asked.
pub async fn vouched(core: &Core, member: u64, vote: Vote) -> Option<u64> {
    let raft = core.raft().ok()?;
    // Answered without asking anybody, and only by who leads: openraft's lease is not what is relied upon here.
    let linearizer = raft.get_read_linearizer(ReadPolicy::LeaseRead).await.ok()?;
    let index = linearizer.read_log_id().index();
    let both = [core.member_id, member];
    let is_enough = raft
        .with_raft_state(move |state| {
            let membership = state.membership_state.effective();
            *state.vote_ref() == vote && vote.committed && is_quorum(membership.membership(), &both)
        })
        .await;
    is_enough.ok()?.then_some(index)
}

/// Whether these members are more than half of the voters, in both memberships while one follows the other.
fn is_quorum(membership: &Membership, members: &[u64]) -> bool {
    let mut configurations = membership.get_joint_config().iter();
    configurations.all(|voters| voters.iter().filter(|voter| members.contains(voter)).count() * 2 > voters.len())
}

async fn ask(core: &Core) -> Result<u64, Error> {
    let leader = core.leader().ok_or(Error::NoLeader)?;
    if leader.node_id == core.member_id {
        return core.read_index_here().await;
    }
    // Read once the reads that wait had begun: that is what makes it worth something.
    let vote = core.raft()?.with_raft_state(|state| *state.vote_ref()).await.map_err(|_| Error::Stopped)?;
    let request = wire_pb::ReadIndexRequest { member: core.member_id, vote: Some(wire::vote(&vote)) };
    let answer = core.peer(leader)?.read_index(request).await;
    answer.map(|answer| answer.into_inner().index).map_err(|status| Error::from_message(status.message()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn membership(configurations: &[&[u64]]) -> Membership {
        let voters = configurations.iter().map(|voters| voters.iter().copied().collect::<BTreeSet<u64>>());
        Membership::new_with_defaults(voters.collect(), [1, 2, 3, 4, 5])
    }

    #[test]
    fn two_are_a_quorum_of_three_voters_and_not_of_five() {
        assert!(is_quorum(&membership(&[&[1, 2, 3]]), &[1, 2]));
        assert!(!is_quorum(&membership(&[&[1, 2, 3, 4, 5]]), &[1, 2]));
        assert!(!is_quorum(&membership(&[&[1, 2, 3, 4]]), &[1, 2]));
    }

    #[test]
    fn a_learner_and_one_that_asks_twice_count_for_nothing() {
        assert!(!is_quorum(&membership(&[&[1, 2, 3]]), &[1, 4]));
        assert!(!is_quorum(&membership(&[&[1, 2, 3]]), &[1, 1]));
    }

    #[test]
    fn while_memberships_change_a_quorum_of_both_is_needed() {
        assert!(!is_quorum(&membership(&[&[1, 2, 3], &[1, 2, 3, 4, 5]]), &[1, 2]));
        assert!(is_quorum(&membership(&[&[1, 2, 3], &[1, 2, 4]]), &[1, 2]));
    }
}
