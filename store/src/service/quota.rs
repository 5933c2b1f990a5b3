//! The room that keys and values may take: the alarm NOSPACE, raised when it is used up and cleared
//! when there is room again.

use std::sync::Arc;
use std::time::Duration;

use kontiki_proto::etcdserverpb::{self as pb, alarm_request::AlarmAction, request_op::Request};
use kontiki_proto::kontiki::store::v1::proposal::Operation;

use super::core::Core;
use super::propose;
use crate::auth::Caller;
use crate::error::Error;

/// How often a raised alarm is looked at.
const INTERVAL: Duration = Duration::from_secs(10);
/// What a lease takes.
const LEASE_BYTES: u64 = 64;
/// What a key takes beside itself and its value.
const KEY_BYTES: usize = 49;

/// The room that an operation may take.
#[must_use]
pub fn cost(operation: &Operation) -> u64 {
    let bytes = match operation {
        Operation::Put(request) => put_cost(request),
        Operation::Txn(request) => txn_cost(request),
        Operation::LeaseGrant(_) => return LEASE_BYTES,
        _ => 0,
    };
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn put_cost(request: &pb::PutRequest) -> usize {
    2 * request.key.len() + request.value.len() + KEY_BYTES
}

fn txn_cost(request: &pb::TxnRequest) -> usize {
    let branch = |operations: &[pb::RequestOp]| -> usize {
        let cost = |operation: &pb::RequestOp| match &operation.request {
            Some(Request::RequestPut(put)) => put_cost(put),
            Some(Request::RequestTxn(nested)) => txn_cost(nested),
            _ => 0,
        };
        operations.iter().map(cost).sum()
    };
    branch(&request.success).max(branch(&request.failure))
}

/// Whether an operation fits. Zero is no bound.
#[must_use]
pub fn fits(used: u64, quota: u64, cost: u64) -> bool {
    quota == 0 || cost == 0 || used.saturating_add(cost) <= quota
}

/// Refuses an operation for which there is no room, and raises the alarm.
pub async fn check(core: &Core, operation: &Operation) -> Result<(), Error> {
    if fits(core.state.database().bytes(), core.options.quota_bytes, cost(operation)) {
        return Ok(());
    }
    tracing::warn!("database space exceeded; writes are refused until history is compacted or keys are removed");
    change(core, AlarmAction::Activate).await?;
    Err(Error::NoSpace)
}

async fn change(core: &Core, action: AlarmAction) -> Result<(), Error> {
    let request = pb::AlarmRequest { action: action as i32, member_id: core.member_id, alarm: pb::AlarmType::Nospace as i32 };
    propose::submit(core, &Caller::Trusted, Operation::Alarm(request)).await.map(drop)
}

/// Clears this member's alarm once there is room again, which etcd leaves to a person.
pub async fn run(core: Arc<Core>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = core.stop.cancelled() => return,
        }
        let raised = core.state.alarms().contains(&(pb::AlarmType::Nospace as i32, core.member_id));
        if !raised || !has_room(core.state.database().bytes(), core.options.quota_bytes) {
            continue;
        }
        tracing::info!("there is room again; the alarm NOSPACE is cleared");
        if let Err(error) = change(&core, AlarmAction::Deactivate).await {
            tracing::debug!(%error, "the alarm is not cleared yet");
        }
    }
}

/// Whether enough is free that the alarm will not be raised again at once.
fn has_room(used: u64, quota: u64) -> bool {
    quota == 0 || used <= quota / 10 * 9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_takes_room_is_measured() {
        let put = |bytes: usize| pb::PutRequest { key: "k".into(), value: vec![0; bytes].into(), ..Default::default() };
        assert_eq!(cost(&Operation::Put(put(100))), 151);
        assert_eq!(cost(&Operation::DeleteRange(Default::default())), 0);
        let branch = |bytes| vec![pb::RequestOp { request: Some(Request::RequestPut(put(bytes))) }];
        let txn = pb::TxnRequest { compare: vec![], success: branch(10), failure: branch(100) };
        assert_eq!(cost(&Operation::Txn(txn)), 151, "the larger branch counts");
    }

    #[test]
    fn a_quota_refuses_what_does_not_fit_and_the_alarm_ends_with_room() {
        assert!(fits(1000, 0, 1000));
        assert!(fits(900, 1000, 100));
        assert!(!fits(901, 1000, 100));
        assert!(fits(5000, 1000, 0), "what takes nothing goes on");
        assert!(has_room(900, 1000));
        assert!(!has_room(950, 1000));
    }
}
