//! `NodeResourcesFit`: what a pod asks for must be free; the emptier the node the better.

use super::{Refusal, SCORE_MAX};
use crate::{
    cluster::{Cluster, NodeInfo},
    model::Pod,
};

/// Name.
pub const NAME: &str = "NodeResourcesFit";
/// Weight of the score.
pub const WEIGHT: i64 = 1;

/// Refuses nodes that have too little of something; each lack is named.
pub fn filter(pod: &Pod, info: &NodeInfo, _cluster: &Cluster) -> Option<Refusal> {
    let mut reasons = Vec::new();
    let mut resolvable = true;
    let (wanted, all, taken) = (&pod.spec.requests, &info.node.status.allocatable, &info.requested);
    if i64::try_from(info.pods.len()).unwrap_or(i64::MAX) >= all.pods {
        reasons.push("Too many pods".to_owned());
    }
    let mut check = |name: &str, wanted: i64, all: i64, taken: i64| {
        if wanted > 0 && wanted > all - taken {
            reasons.push(format!("Insufficient {name}"));
            // More than the whole node has helps no eviction.
            resolvable &= wanted <= all;
        }
    };
    check("cpu", wanted.milli_cpu, all.amounts.milli_cpu, taken.milli_cpu);
    check("memory", wanted.memory, all.amounts.memory, taken.memory);
    check("ephemeral-storage", wanted.ephemeral_storage, all.amounts.ephemeral_storage, taken.ephemeral_storage);
    for (name, amount) in &wanted.others {
        let of = |requests: &crate::model::pod::Requests| requests.others.get(name).copied().unwrap_or(0);
        check(name, *amount, of(&all.amounts), of(taken));
    }
    (!reasons.is_empty()).then_some(Refusal { plugin: NAME, reasons, resolvable })
}

/// `LeastAllocated`: the mean of the parts of CPU and memory that stay free.
pub fn score(pod: &Pod, info: &NodeInfo) -> i64 {
    let all = &info.node.status.allocatable.amounts;
    let free = |wanted: i64, taken: i64, all: i64| {
        let after = wanted + taken;
        (all > 0).then(|| if after > all { 0 } else { (all - after) * SCORE_MAX / all })
    };
    let (cpu, memory) = pod.spec.score_requests;
    let parts = [free(cpu, info.scored.0, all.milli_cpu), free(memory, info.scored.1, all.memory)];
    let known = i64::try_from(parts.iter().flatten().count()).unwrap_or(0);
    if known == 0 { 0 } else { parts.iter().flatten().sum::<i64>() / known }
}
