//! The words of a `FailedScheduling` event: reasons, how many nodes each holds for, and what preemption found. Pure.

use std::collections::BTreeMap;

use crate::plugins::{Refusal, node_affinity};

/// What the plugin for claims of devices says of a pod that has none; it is asked before preemption.
const NO_CLAIMS: &str = "no new claims to deallocate";
/// What it says of a pod that was refused before it was asked.
const NOT_ASKED: &str = "not found";

fn counted<'a>(reasons: impl Iterator<Item = (&'a str, usize)>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    reasons.for_each(|(reason, count)| *counts.entry(reason).or_default() += count);
    let mut parts: Vec<_> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort();
    parts.join(", ")
}

/// Of a pod that no node can help.
pub fn before_filters(nodes: usize, refusal: &Refusal) -> String {
    format!("0/{nodes} nodes are available: {}. {NOT_ASKED}", refusal.reasons.join(", "))
}

/// Of a pod that every node refused. `left_out` nodes are not those that the pod names; `preemption` says why no
/// other pod goes for it.
pub fn after_filters<'a>(
    nodes: usize,
    refusals: impl Iterator<Item = &'a Refusal>,
    left_out: usize,
    preemption: Option<&str>,
) -> String {
    let others = format!("node(s) didn't satisfy plugin(s) [{}]", node_affinity::NAME);
    let rest = (left_out > 0).then_some((others.as_str(), left_out));
    let reasons = counted(refusals.flat_map(|refusal| refusal.reasons.iter().map(|reason| (reason.as_str(), 1))).chain(rest));
    let mut message = format!("0/{nodes} nodes are available: {reasons}.");
    if let Some(preemption) = preemption {
        message += &format!(" {NO_CLAIMS}, preemption: {preemption}");
    }
    message
}

/// Why preemption helps on no node: reasons of those where it was tried; it is not helpful on the rest.
pub fn no_preemption<'a>(nodes: usize, tried: impl ExactSizeIterator<Item = &'a [String]>) -> String {
    let rest = nodes.saturating_sub(tried.len());
    let rest = (rest > 0).then_some(("Preemption is not helpful for scheduling", rest));
    let reasons = counted(tried.flatten().map(|reason| (reason.as_str(), 1)).chain(rest));
    format!("0/{nodes} nodes are available: {reasons}.")
}
