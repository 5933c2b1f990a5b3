//! No lease ends before its time: not before it was last renewed plus its seconds. Measured by the
//! clock of the world, so that only worlds in which all clocks run alike can be judged.

use std::collections::BTreeMap;

use super::watch::Watched;
use crate::history::Key;

/// A lease with one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// How long it lives.
    pub ttl_ms: u64,
    /// When the last renewal that was answered, or the grant, was asked for.
    pub renewed_ms: u64,
    /// The client takes it back itself, so that it may end at any time.
    pub revoked: bool,
}

/// Checks when the keys of leases were seen to go.
pub fn check(leases: &BTreeMap<Key, Lease>, watched: &[Watched]) -> Result<(), String> {
    for message in watched.iter().flat_map(|watched| &watched.messages) {
        for event in message.events.iter().filter(|event| event.entry.is_none()) {
            let Some(lease) = leases.get(&event.key).filter(|lease| !lease.revoked) else { continue };
            if message.at_ms < lease.renewed_ms + lease.ttl_ms {
                let early = lease.renewed_ms + lease.ttl_ms - message.at_ms;
                return Err(format!("lease: key {} went {early} ms early, at {} ms: {lease:?}", event.key, message.at_ms));
            }
        }
    }
    Ok(())
}
