//! The arithmetic of a rolling update. Pure.
//!
//! Invariant: never more pods than replicas plus surge, never fewer available ones than replicas less
//! `maxUnavailable` by what is decided here.

use crate::model::{WorkloadSpec, part};

/// What a rollout may do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Replicas asked for.
    pub replicas: i64,
    /// Pods beyond them.
    pub surge: i64,
    /// Pods that may be missing.
    pub unavailable: i64,
}

/// A ReplicaSet's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Replicas asked for.
    pub replicas: i64,
    /// Available pods.
    pub available: i64,
    /// Most pods of the whole Deployment when it was last scaled; 0 where that is not known.
    pub most: i64,
}

impl Bounds {
    /// Those of a Deployment.
    pub fn of(spec: &WorkloadSpec) -> Self {
        let replicas = spec.replicas;
        if spec.strategy["type"] == "Recreate" {
            return Self { replicas, surge: 0, unavailable: replicas };
        }
        let rolling = &spec.strategy["rollingUpdate"];
        let quarter = |up: bool| if up { (replicas + 3) / 4 } else { replicas / 4 };
        let surge = part(&rolling["maxSurge"], replicas, true, quarter(true));
        let unavailable = part(&rolling["maxUnavailable"], replicas, false, quarter(false)).min(replicas);
        // With neither nothing would ever move.
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Self { replicas, surge, unavailable }
    }
}

/// Replicas of the new ReplicaSet.
pub fn new_replicas(bounds: Bounds, new: Member, old: &[Member]) -> i64 {
    if new.replicas >= bounds.replicas {
        return bounds.replicas;
    }
    let all = new.replicas + old.iter().map(|set| set.replicas).sum::<i64>();
    let room = (bounds.replicas + bounds.surge - all).max(0);
    new.replicas + room.min(bounds.replicas - new.replicas)
}

/// Replicas of the old ReplicaSets, in their order: pods that do not work go first.
pub fn old_replicas(bounds: Bounds, new: Member, old: &[Member]) -> Vec<i64> {
    let mut replicas: Vec<i64> = old.iter().map(|set| set.replicas).collect();
    let all = new.replicas + replicas.iter().sum::<i64>();
    let least = bounds.replicas - bounds.unavailable;
    let new_unavailable = new.replicas - new.available;
    let mut budget = (all - least - new_unavailable).max(0);
    for (set, replicas) in old.iter().zip(&mut replicas) {
        let broken = (*replicas - set.available).max(0).min(budget);
        *replicas -= broken;
        budget -= broken;
    }
    let available = new.available + old.iter().map(|set| set.available).sum::<i64>();
    let mut budget = (available - least).max(0);
    for (set, replicas) in old.iter().zip(&mut replicas) {
        // What is left of this set after the broken ones have gone is what works.
        let working = (*replicas).min(set.available.max(0));
        let surplus = working.min(budget);
        *replicas -= surplus;
        budget -= surplus;
    }
    replicas
}

/// Replicas of all ReplicaSets after the number asked for has changed in the middle of a rollout.
pub fn proportional(bounds: Bounds, sets: &[Member], newest: Option<usize>) -> Vec<i64> {
    let mut replicas: Vec<i64> = sets.iter().map(|set| set.replicas).collect();
    let active: Vec<usize> = (0..sets.len()).filter(|index| sets[*index].replicas > 0).collect();
    if active.len() <= 1 {
        if let Some(only) = active.first().copied().or(newest) {
            replicas[only] = bounds.replicas;
        }
        return replicas;
    }
    let saturated = |set: Member| set.replicas == bounds.replicas && set.available == bounds.replicas;
    if let Some(newest) = newest.filter(|newest| saturated(sets[*newest])) {
        let others = replicas.iter_mut().enumerate().filter(|(index, _)| *index != newest);
        others.for_each(|(_, replicas)| *replicas = 0);
        return replicas;
    }
    let all: i64 = replicas.iter().sum();
    let allowed = if bounds.replicas > 0 { bounds.replicas + bounds.surge } else { 0 };
    let change = allowed - all;
    if change == 0 {
        return replicas;
    }
    // The largest first; among equals those that are newer grow first, and those that are older shrink first.
    let mut order = active;
    order.sort_by_key(|index| (std::cmp::Reverse(sets[*index].replicas), if change > 0 { sets.len() - index } else { *index }));
    let mut changed = 0;
    for index in &order {
        let set = sets[*index];
        let left = change - changed;
        let share = share(set, bounds, all);
        let share = if change > 0 { share.min(left) } else { share.max(left) };
        replicas[*index] += share;
        changed += share;
    }
    // What rounding leaves over goes to the largest.
    if let Some(first) = order.first() {
        replicas[*first] = (replicas[*first] + change - changed).max(0);
    }
    replicas
}

/// By how much a set grows, or shrinks, when all keep their parts of the whole.
fn share(set: Member, bounds: Bounds, all: i64) -> i64 {
    if bounds.replicas == 0 {
        return -set.replicas;
    }
    let before = if set.most > 0 { set.most } else { all };
    if before == 0 {
        return 0;
    }
    // Halves are rounded up.
    (2 * set.replicas * (bounds.replicas + bounds.surge) + before) / (2 * before) - set.replicas
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn spec(replicas: i64, strategy: Value) -> WorkloadSpec {
        WorkloadSpec { replicas, strategy, ..WorkloadSpec::default() }
    }

    #[test]
    fn surge_rounds_up_and_unavailable_down() {
        let rolling =
            |surge: Value, unavailable: Value| json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        let cases = [
            (10, rolling(json!("25%"), json!("25%")), (3, 2)),
            (3, rolling(json!("25%"), json!("25%")), (1, 0)),
            (1, rolling(json!(0), json!(0)), (0, 1)),
            (4, rolling(json!(2), json!("50%")), (2, 2)),
            (3, json!({}), (1, 0)),
        ];
        for (replicas, strategy, (surge, unavailable)) in cases {
            assert_eq!(Bounds::of(&spec(replicas, strategy.clone())), Bounds { replicas, surge, unavailable }, "{strategy}");
        }
    }

    #[test]
    fn growing_a_settled_deployment_grows_its_only_set() {
        let bounds = Bounds { replicas: 8, surge: 2, unavailable: 2 };
        assert_eq!(proportional(bounds, &[Member::default(), Member { replicas: 3, available: 3, most: 5 }], Some(1)), [0, 8]);
        let bounds = Bounds { replicas: 30, surge: 3, unavailable: 2 };
        let old = Member { replicas: 8, available: 8, most: 13 };
        let new = Member { replicas: 5, available: 0, most: 13 };
        assert_eq!(proportional(bounds, &[old, new], Some(1)), [20, 13], "in the middle of a rollout");
        let bounds = Bounds { replicas: 0, ..bounds };
        assert_eq!(proportional(bounds, &[old, new], Some(1)), [0, 0]);
    }

    proptest! {
        #[test]
        fn a_rollout_stays_in_its_bounds_and_ends(replicas in 1_i64..30, surge in 0_i64..10, unavailable in 0_i64..10, broken in 0_i64..5) {
            let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable.min(replicas) };
            let bounds = Bounds { replicas, surge, unavailable };
            let mut new = Member::default();
            let mut old = Member { replicas, available: (replicas - broken).max(0), most: 0 };
            let before = old.available;
            for _ in 0..200 {
                new.replicas = new_replicas(bounds, new, &[old]);
                prop_assert!(new.replicas + old.replicas <= replicas + surge);
                let shrunk = old_replicas(bounds, new, &[old])[0];
                prop_assert!(shrunk <= old.replicas && shrunk >= 0);
                // Working pods are deleted last.
                old.available = old.available.min(shrunk);
                old.replicas = shrunk;
                prop_assert!(old.available + new.available >= (replicas - unavailable).min(before));
                if new.available < new.replicas {
                    new.available += 1;
                }
            }
            prop_assert_eq!((new.replicas, old.replicas), (replicas, 0));
        }

        #[test]
        fn proportional_scaling_adds_up(replicas in 1_i64..50, surge in 0_i64..5, first in 1_i64..20, second in 1_i64..20) {
            let bounds = Bounds { replicas, surge, unavailable: 0 };
            let member = |replicas| Member { replicas, available: 0, most: 0 };
            let sets = [member(first), member(second)];
            let scaled = proportional(bounds, &sets, Some(1));
            prop_assert_eq!(scaled.iter().sum::<i64>(), replicas + surge);
            prop_assert!(scaled.iter().all(|replicas| *replicas >= 0));
        }
    }
}
