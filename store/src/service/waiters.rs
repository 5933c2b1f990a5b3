//! Who waits for which proposal on this member.
//!
//! A proposal's result comes from this member's own apply, found by proposer and number. A proposal
//! is bound to one leader; once an entry of a later leader is applied, the earlier leader's
//! proposals that were not applied can never be, and may safely be sent again.

use std::collections::BTreeMap;

use kontiki_proto::kontiki::store::v1::proposal::Operation;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::auth::Caller;
use crate::error::Error;
use crate::fault::{self, Mistake};
use crate::raft::types::LeaderId;
use crate::state::apply::Decided;

/// What a waiter gets.
pub type Answer = Result<Decided, Error>;

struct Pending {
    caller: Caller,
    operation: Operation,
    waiter: oneshot::Sender<Answer>,
    /// The leader it was sent to.
    sent: Option<LeaderId>,
}

struct Inner {
    next: u64,
    pending: BTreeMap<u64, Pending>,
    /// The latest leader of whom something was applied.
    passed: Option<LeaderId>,
}

/// The register of one member.
pub struct Waiters {
    member_id: u64,
    inner: Mutex<Inner>,
    queue: mpsc::Sender<u64>,
}

impl Waiters {
    /// A register; numbers of proposals to be sent come out of the receiver.
    #[must_use]
    pub fn new(member_id: u64) -> (Self, mpsc::Receiver<u64>) {
        let (queue, receiver) = mpsc::channel(crate::limits::PROPOSALS_WAITING_MAX);
        // A random start, so that proposals from before a restart find no waiter.
        let next = rand::random::<u64>() >> 1;
        let inner = Mutex::new(Inner { next, pending: BTreeMap::new(), passed: None });
        (Self { member_id, inner, queue }, receiver)
    }

    /// Registers a proposal and queues it.
    pub fn submit(&self, caller: &Caller, operation: Operation) -> Result<(u64, oneshot::Receiver<Answer>), Error> {
        let (waiter, receiver) = oneshot::channel();
        let permit = self.queue.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => Error::TooManyRequests,
            mpsc::error::TrySendError::Closed(()) => Error::Stopped,
        })?;
        let number = {
            let mut inner = self.inner.lock();
            inner.next += 1;
            let number = inner.next;
            inner.pending.insert(number, Pending { caller: caller.clone(), operation, waiter, sent: None });
            number
        };
        permit.send(number);
        Ok((number, receiver))
    }

    /// Gives a proposal up; tells whether it was ever sent.
    pub fn forget(&self, number: u64) -> bool {
        self.inner.lock().pending.remove(&number).is_some_and(|pending| pending.sent.is_some())
    }

    /// Marks proposals as sent to a leader and returns them, without those that nobody waits for.
    /// `None` where that leader's time is known to be over.
    pub fn take(&self, numbers: &[u64], leader: LeaderId) -> Option<Vec<(u64, Caller, Operation)>> {
        let mut inner = self.inner.lock();
        if inner.passed.is_some_and(|passed| passed > leader) {
            return None;
        }
        let mut taken = Vec::with_capacity(numbers.len());
        for number in numbers {
            if let Some(pending) = inner.pending.get_mut(number) {
                pending.sent = Some(leader);
                taken.push((*number, pending.caller.clone(), pending.operation.clone()));
            }
        }
        Some(taken)
    }

    /// An operation that waits, for its size.
    pub fn peek<T>(&self, number: u64, read: impl FnOnce(&Operation) -> T) -> Option<T> {
        self.inner.lock().pending.get(&number).map(|pending| read(&pending.operation))
    }

    /// Results from apply.
    pub fn decided(&self, results: Vec<Decided>) {
        let mut inner = self.inner.lock();
        for decided in results {
            if decided.proposer == self.member_id
                && let Some(pending) = inner.pending.remove(&decided.number)
            {
                // The waiter may have gone.
                drop(pending.waiter.send(Ok(decided)));
            }
        }
    }

    /// An entry of this leader was applied: whatever was sent to an earlier one is sent again.
    pub fn passed(&self, leader: LeaderId) {
        let mut inner = self.inner.lock();
        if inner.passed.is_some_and(|passed| passed >= leader) {
            return;
        }
        inner.passed = Some(leader);
        let stale: Vec<u64> = inner
            .pending
            .iter()
            .filter(|(_, pending)| pending.sent.is_some_and(|sent| sent < leader))
            .map(|(number, _)| *number)
            .collect();
        for number in stale {
            self.requeue(&mut inner, number);
        }
    }

    /// A leader refused these, or they were not sent to any: this time they are certainly not in the
    /// log. A refusal that comes late, when they were sent to another leader already, says nothing.
    pub fn refused(&self, numbers: &[u64], by: Option<LeaderId>) {
        let mut inner = self.inner.lock();
        for number in numbers {
            if inner.pending.get(number).is_some_and(|pending| pending.sent == by || fault::makes(Mistake::LateRefusal)) {
                self.requeue(&mut inner, *number);
            }
        }
    }

    fn requeue(&self, inner: &mut Inner, number: u64) {
        if let Some(pending) = inner.pending.get_mut(&number) {
            pending.sent = None;
            if self.queue.try_send(number).is_err()
                && let Some(pending) = inner.pending.remove(&number)
            {
                drop(pending.waiter.send(Err(Error::TooManyRequests)));
            }
        }
    }

    /// A snapshot replaced the state: what became of the proposals that were sent is unknown.
    pub fn lost(&self) {
        let mut inner = self.inner.lock();
        let lost: Vec<u64> =
            inner.pending.iter().filter(|(_, pending)| pending.sent.is_some()).map(|(number, _)| *number).collect();
        for number in lost {
            if let Some(pending) = inner.pending.remove(&number) {
                drop(pending.waiter.send(Err(Error::TimeoutLeaderFailure)));
            }
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.inner.lock().pending.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn leader(term: u64) -> LeaderId {
        LeaderId { term, node_id: 1 }
    }

    fn operation() -> Operation {
        Operation::Compact(Default::default())
    }

    #[test]
    fn a_later_leader_frees_what_the_earlier_one_took() {
        let (waiters, mut queue) = Waiters::new(1);
        let (number, _receiver) = waiters.submit(&Caller::Trusted, operation()).unwrap();
        assert_eq!(queue.try_recv().unwrap(), number);
        assert_eq!(waiters.take(&[number], leader(1)).unwrap().len(), 1);
        waiters.passed(leader(1));
        assert!(queue.try_recv().is_err(), "its own leader decides nothing");
        waiters.passed(leader(2));
        assert_eq!(queue.try_recv().unwrap(), number);
        assert!(waiters.take(&[number], leader(1)).is_none(), "the first leader is over");
        assert!(waiters.take(&[number], leader(2)).is_some());
    }

    #[test]
    fn a_late_refusal_sends_nothing_twice() {
        let (waiters, mut queue) = Waiters::new(1);
        let (number, _receiver) = waiters.submit(&Caller::Trusted, operation()).unwrap();
        assert_eq!(queue.try_recv().unwrap(), number);
        waiters.take(&[number], leader(1));
        waiters.passed(leader(2));
        assert_eq!(queue.try_recv().unwrap(), number);
        waiters.take(&[number], leader(2));
        waiters.refused(&[number], Some(leader(1)));
        assert!(queue.try_recv().is_err(), "the second leader has it");
        waiters.refused(&[number], Some(leader(2)));
        assert_eq!(queue.try_recv().unwrap(), number);
    }

    #[test]
    fn a_snapshot_leaves_what_was_sent_unknown() {
        let (waiters, _queue) = Waiters::new(1);
        let (number, mut sent) = waiters.submit(&Caller::Trusted, operation()).unwrap();
        let (_, mut unsent) = waiters.submit(&Caller::Trusted, operation()).unwrap();
        waiters.take(&[number], leader(1));
        waiters.lost();
        assert_eq!(sent.try_recv().unwrap().unwrap_err(), Error::TimeoutLeaderFailure);
        assert!(unsent.try_recv().is_err());
    }
}
