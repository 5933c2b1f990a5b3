//! Compares what the members hold: the same revision must have the same hash everywhere.

use std::sync::Arc;
use std::time::Duration;

use kontiki_proto::etcdserverpb::{self as pb, alarm_request::AlarmAction};
use kontiki_proto::kontiki::store::v1 as wire_pb;
use wire_pb::proposal::Operation;

use super::core::Core;
use super::{propose, read_index};
use crate::auth::Caller;
use crate::error::Error;

/// A member that does not answer within this is left out.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Members whose hash differs from what most others have; with a tie, nobody can be blamed alone.
fn different(hashes: &[(u64, wire_pb::HashResponse)]) -> Vec<u64> {
    let same = |left: &wire_pb::HashResponse, right: &wire_pb::HashResponse| left.hash == right.hash;
    let support = |hash| hashes.iter().filter(|(_, other)| same(hash, other)).count();
    let most = hashes.iter().map(|(_, hash)| support(hash)).max().unwrap_or(0);
    let odd: Vec<u64> = hashes.iter().filter(|(_, hash)| support(hash) < most).map(|(id, _)| *id).collect();
    if odd.is_empty() && hashes.iter().any(|(_, hash)| support(hash) < hashes.len()) {
        return vec![0];
    }
    odd
}

/// The hashes of all members that answer, at one revision.
async fn ask(core: &Core) -> Result<Vec<(u64, wire_pb::HashResponse)>, Error> {
    read_index::wait(core).await?;
    let (state, revision) = (core.state.clone(), core.state.current_revision());
    let own = crate::blocking::run(move || state.hash(revision)).await.map_err(|_| Error::Stopped)??;
    let mut hashes = vec![(core.member_id, own)];
    let membership = core.membership()?;
    for (id, _) in membership.membership().nodes().filter(|(id, _)| **id != core.member_id) {
        let mut peer = core.peer_of(*id)?;
        let asking = peer.hash(wire_pb::HashRequest { revision });
        if let Ok(Ok(answer)) = tokio::time::timeout(ANSWER_TIMEOUT, asking).await {
            hashes.push((*id, answer.into_inner()));
        }
    }
    // Compaction in between changes what is hashed.
    let compacted = hashes.first().map(|(_, hash)| hash.compact_revision);
    hashes.retain(|(_, hash)| Some(hash.compact_revision) == compacted);
    Ok(hashes)
}

/// Compares once; raises the alarm CORRUPT for whoever differs.
async fn check(core: &Core) -> Result<(), Error> {
    for member_id in different(&ask(core).await?) {
        tracing::error!(member_id = format!("{member_id:x}"), "found hash mismatch; the alarm CORRUPT is raised");
        let action = AlarmAction::Activate as i32;
        let request = pb::AlarmRequest { action, member_id, alarm: pb::AlarmType::Corrupt as i32 };
        propose::submit(core, &Caller::Trusted, Operation::Alarm(request)).await?;
    }
    Ok(())
}

/// Compares again and again, while this member leads.
pub async fn run(core: Arc<Core>) {
    let mut interval = tokio::time::interval(core.options.corrupt_check_interval);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = core.stop.cancelled() => return,
        }
        if core.leads()
            && let Err(error) = check(&core).await
        {
            tracing::debug!(%error, "the members are not compared");
        }
    }
}

/// Whether this member holds what the others hold, before it serves anybody.
pub async fn check_self(core: &Core) -> Result<(), Error> {
    let hashes = ask(core).await?;
    if hashes.len() > 2 && different(&hashes).contains(&core.member_id) { Err(Error::Corrupt) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_odd_one_is_found() {
        let check = |hashes: &[u32], expected: &[u64]| {
            let hashes: Vec<_> =
                (1..).zip(hashes).map(|(id, hash)| (id, wire_pb::HashResponse { hash: *hash, ..Default::default() })).collect();
            assert_eq!(different(&hashes), expected, "{hashes:?}");
        };
        check(&[7], &[]);
        check(&[7, 7, 7], &[]);
        check(&[7, 7, 8], &[3]);
        check(&[7, 8], &[0]);
    }
}
