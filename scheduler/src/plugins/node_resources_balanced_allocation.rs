//! `NodeResourcesBalancedAllocation`: the more evenly CPU and memory are taken the better.

use super::SCORE_MAX;
use crate::{cluster::NodeInfo, model::Pod};

/// Weight of the score.
pub const WEIGHT: i64 = 1;

/// How much the pod evens out what is taken. A pod that asks for nothing leaves everything as it is.
pub fn score(pod: &Pod, info: &NodeInfo) -> i64 {
    let (wanted, taken) = (&pod.spec.requests, &info.requested);
    if wanted.milli_cpu == 0 && wanted.memory == 0 {
        return 0;
    }
    let all = &info.node.status.allocatable.amounts;
    let balance = |cpu: i64, memory: i64| {
        if all.milli_cpu == 0 || all.memory == 0 {
            return SCORE_MAX;
        }
        let part = |taken: i64, all: i64| (taken as f64 / all as f64).min(1.0);
        let deviation = (part(cpu, all.milli_cpu) - part(memory, all.memory)).abs() / 2.0;
        ((1.0 - deviation) * SCORE_MAX as f64) as i64
    };
    let after = balance(taken.milli_cpu + wanted.milli_cpu, taken.memory + wanted.memory);
    let before = balance(taken.milli_cpu, taken.memory);
    SCORE_MAX / 2 + (SCORE_MAX / 2 + after - before) / 2
}
