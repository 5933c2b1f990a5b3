//! `--force-new-cluster`: one member goes on alone, with everything that it has.

use std::collections::{BTreeMap, BTreeSet};

use super::options::Options;
use super::start::StartError;
use crate::raft::log::LogStore;
use crate::raft::types::{Membership, Peer};
use crate::state::store::State;

/// Applies the whole log, also what is not known to be committed (it may have been acknowledged), and
/// makes this member the only one.
pub fn go_on_alone(options: &Options, member_id: u64, log: &LogStore, state: &State) -> Result<(), StartError> {
    let unusable = |error: &dyn std::error::Error| StartError::Raft(format!("cannot go on alone: {error}"));
    let (applied, _) = state.applied();
    let rest = log.read_from(applied.map_or(0, |applied| applied.index + 1)).map_err(|error| unusable(&error))?;
    state.apply(rest).map_err(|error| unusable(&error))?;
    let own = options.initial_cluster.iter().filter(|(name, _)| *name == options.name).map(|(_, url)| url.clone());
    let urls = if options.advertise_peer_urls.is_empty() { own.collect() } else { options.advertise_peer_urls.clone() };
    let members = BTreeMap::from([(member_id, Peer { name: options.name.clone(), urls, learner: false })]);
    let alone = Membership::new(vec![BTreeSet::from([member_id])], members).map_err(|error| unusable(&error))?;
    state.replace_membership(alone).map_err(|error| unusable(&error))?;
    state.flush().map_err(|error| unusable(&error))?;
    tracing::warn!("this member goes on alone; the others must be removed and added anew");
    Ok(())
}
