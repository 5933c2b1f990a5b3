//! Sends what waits to the leader: many proposals in one batch, a few batches under way at once.

use std::sync::Arc;
use std::time::Duration;

use kontiki_proto::kontiki::store::v1 as wire_pb;
use prost::Message;
use tokio::sync::{Semaphore, mpsc};
use wire_pb::proposal::Operation;

use super::core::Core;
use super::waiters::Answer;
use crate::auth::Caller;
use crate::error::Error;
use crate::fault::{self, Mistake};
use crate::limits::{BATCH_BYTES_MAX, BATCH_PROPOSALS_MAX, PROPOSAL_TIMEOUT};
use crate::raft::types::LeaderId;

/// Batches under way: enough that the next one is written while the last is on its way to the
/// followers, few enough that proposals gather meanwhile.
const UNDER_WAY_MAX: usize = 3;
/// After a refusal, before the leader is looked up again.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);

/// Proposes an operation and waits for its result.
pub async fn submit(core: &Core, caller: &Caller, operation: Operation) -> Answer {
    if size(&operation) > core.options.request_bytes_max {
        return Err(Error::RequestTooLarge);
    }
    let (number, receiver) = core.waiters.submit(caller, operation)?;
    let forget = Forget { core, number };
    let answer = tokio::select! {
        answer = tokio::time::timeout(PROPOSAL_TIMEOUT, receiver) => answer,
        () = core.stop.cancelled() => return Err(Error::Stopped),
    };
    match answer {
        Ok(answer) => answer.unwrap_or(Err(Error::Stopped)),
        Err(_) => {
            core.metrics.proposals_failed.inc();
            let sent = core.waiters.forget(forget.number);
            Err(if sent { Error::Timeout } else { Error::NoLeader })
        }
    }
}

/// A caller that goes away no longer waits.
struct Forget<'a> {
    core: &'a Core,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.core.waiters.forget(self.number);
    }
}

fn size(operation: &Operation) -> usize {
    match operation {
        Operation::Put(request) => request.encoded_len(),
        Operation::DeleteRange(request) => request.encoded_len(),
        Operation::Txn(request) => request.encoded_len(),
        Operation::Attributes(request) => request.encoded_len(),
        Operation::Auth(request) => request.encoded_len(),
        Operation::LeaseCheckpoint(request) => request.encoded_len(),
        Operation::ClusterVersion(request) => request.encoded_len(),
        Operation::Compact(_) | Operation::LeaseGrant(_) | Operation::LeaseRevoke(_) | Operation::Alarm(_) => 32,
    }
}

/// Takes what waits and sends it, until the member stops.
pub async fn run(core: Arc<Core>, mut queue: mpsc::Receiver<u64>) {
    let under_way = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let mut leader = core.leader.subscribe();
    let mut left: Option<u64> = None;
    loop {
        let first = match left.take() {
            Some(number) => Some(number),
            None => tokio::select! {
                number = queue.recv() => number,
                () = core.stop.cancelled() => return,
            },
        };
        let Some(first) = first else { return };
        let Ok(permit) = under_way.clone().acquire_owned().await else {
            return;
        };
        let current = tokio::select! {
            known = leader.wait_for(Option::is_some) => match known {
                Ok(known) => *known,
                Err(_) => return,
            },
            () = core.stop.cancelled() => return,
        };
        let Some(current) = current else { continue };
        let mut numbers = vec![first];
        left = gather(&core, &mut queue, &mut numbers);
        core.metrics.proposals_pending.set(i64::try_from(core.waiters.len()).unwrap_or(i64::MAX));
        let core = core.clone();
        tokio::spawn(async move {
            send(&core, current, numbers).await;
            drop(permit);
        });
    }
}

/// Adds what else waits, up to a batch; returns what no longer fits.
fn gather(core: &Core, queue: &mut mpsc::Receiver<u64>, numbers: &mut Vec<u64>) -> Option<u64> {
    let size_of = |number: u64| core.waiters.peek(number, size).unwrap_or(0);
    let mut bytes = numbers.iter().map(|number| size_of(*number)).sum::<usize>();
    while numbers.len() < BATCH_PROPOSALS_MAX
        && let Ok(number) = queue.try_recv()
    {
        bytes += size_of(number);
        if bytes > BATCH_BYTES_MAX {
            return Some(number);
        }
        numbers.push(number);
    }
    None
}

async fn send(core: &Core, leader: LeaderId, numbers: Vec<u64>) {
    let Some(taken) = core.waiters.take(&numbers, leader) else {
        // A later leader is at work; this member is about to hear of it.
        tokio::time::sleep(REFUSED_PAUSE).await;
        core.waiters.refused(&numbers, None);
        return;
    };
    if taken.is_empty() {
        return;
    }
    let proposer = core.member_id;
    let proposal = |(number, caller, operation): (u64, Caller, Operation)| {
        let (user, auth_revision) = match caller {
            Caller::Trusted => (None, None),
            Caller::Anonymous => (Some(String::new()), None),
            Caller::User { name, revision } => (Some(name.as_ref().to_owned()), revision),
        };
        wire_pb::Proposal { proposer, number, operation: Some(operation), user, auth_revision }
    };
    let proposals = taken.into_iter().map(proposal).collect();
    let batch = wire_pb::Batch { proposals }.encode_to_vec().into();
    let accepted = if leader.node_id == core.member_id {
        core.propose_here(leader, batch).await
    } else {
        forward(core, leader, batch).await
    };
    match accepted {
        Ok(true) => {}
        Ok(false) => {
            tokio::time::sleep(REFUSED_PAUSE).await;
            core.waiters.refused(&numbers, Some(leader));
        }
        // Unknown: apply decides, or the next leader's first entry does.
        Err(error) => tracing::debug!(%error, "a batch of proposals is undecided"),
    }
}

async fn forward(core: &Core, leader: LeaderId, batch: bytes::Bytes) -> Result<bool, Error> {
    let mut peer = core.peer(leader)?;
    let request = wire_pb::ProposeRequest { term: leader.term, leader: leader.node_id, batch };
    if fault::makes(Mistake::ForwardedTwice) {
        drop(peer.propose(request.clone()).await);
    }
    let mut request = tonic::Request::new(request);
    request.set_timeout(PROPOSAL_TIMEOUT);
    match peer.propose(request).await {
        Ok(answer) => Ok(answer.into_inner().accepted),
        Err(status) => {
            tracing::debug!(%status, "cannot forward proposals");
            Err(Error::TimeoutConnectionLost)
        }
    }
}
