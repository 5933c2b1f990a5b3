//! Linearizable reads: one confirmation by a quorum serves all that wait for one.

use std::sync::Arc;
use std::time::Duration;

use kontiki_proto::kontiki::store::v1 as wire_pb;
use tokio::sync::{mpsc, oneshot};

use super::core::{Confirmation, Core};
use crate::error::Error;
use crate::fault::{self, Mistake};
use crate::limits::PROPOSAL_TIMEOUT;

/// Before a failed confirmation is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// A single confirmation that takes longer is tried again, perhaps with another leader.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(1);

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
    loop {
        let first = tokio::select! {
            first = queue.recv() => first,
            () = core.stop.cancelled() => return,
        };
        let Some(first) = first else { return };
        let mut waiting = vec![first];
        while let Ok(next) = queue.try_recv() {
            waiting.push(next);
        }
        let result = tokio::time::timeout(CONFIRMATION_TIMEOUT, ask(&core)).await.unwrap_or(Err(Error::Timeout));
        for reader in waiting {
            // The reader may have gone.
            drop(reader.send(result.clone()));
        }
    }
}

async fn ask(core: &Core) -> Result<u64, Error> {
    let leader = core.leader().ok_or(Error::NoLeader)?;
    if leader.node_id == core.member_id {
        return core.read_index_here().await;
    }
    let answer = core.peer(leader)?.read_index(wire_pb::ReadIndexRequest {}).await;
    answer.map(|answer| answer.into_inner().index).map_err(|status| Error::from_message(status.message()))
}
