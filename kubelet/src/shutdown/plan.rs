//! Which pods end when, and how long each may take. Pure.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;

use crate::pods::model;

/// Priority from which on a pod is critical: that of the lower of the system's own classes.
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// Time for pods of a priority and above, up to the next period's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Lowest priority.
    pub priority: i32,
    /// Time.
    pub grace: Duration,
}

/// The periods that `shutdownGracePeriod` and `shutdownGracePeriodCriticalPods` mean: the second is part of the first.
pub fn periods(all: Duration, critical: Duration) -> Vec<Period> {
    match all.checked_sub(critical) {
        Some(others) if !all.is_zero() => {
            vec![Period { priority: 0, grace: others }, Period { priority: CRITICAL_PRIORITY, grace: critical }]
        }
        _ => Vec::new(),
    }
}

/// Time for all pods together.
pub fn total(periods: &[Period]) -> Duration {
    periods.iter().map(|period| period.grace).sum()
}

/// Pods that end at the same time, and how long the others wait for them.
#[derive(Clone, Debug)]
pub struct Group {
    /// Time for all of them.
    pub grace: Duration,
    /// Each with its own time.
    pub pods: Vec<(Arc<Pod>, Duration)>,
}

/// Groups in the order in which they end; one without pods takes no time, so it is left out. Pods below the lowest
/// priority go with the lowest.
pub fn groups(periods: &[Period], pods: &[Arc<Pod>]) -> Vec<Group> {
    let mut groups: Vec<Group> = periods.iter().map(|period| Group { grace: period.grace, pods: Vec::new() }).collect();
    for pod in pods {
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        let above = periods.partition_point(|period| period.priority <= priority);
        let Some(group) = groups.get_mut(above.saturating_sub(1)) else { continue };
        let own = Duration::from_secs(u64::try_from(model::grace_seconds(pod)).unwrap_or(0));
        group.pods.push((Arc::clone(pod), own.min(group.grace)));
    }
    groups.retain(|group| !group.pods.is_empty());
    groups
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn pod(name: &str, priority: i32, grace: i64) -> Arc<Pod> {
        let spec = json!({"containers": [], "priority": priority, "terminationGracePeriodSeconds": grace});
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap())
    }

    fn told(groups: &[Group]) -> Vec<String> {
        let one = |(pod, grace): &(Arc<Pod>, Duration)| format!("{}:{}", model::name(pod), grace.as_secs());
        groups.iter().map(|group| group.pods.iter().map(one).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn critical_pods_end_last_and_nobody_longer_than_its_group() {
        let periods = periods(Duration::from_secs(30), Duration::from_secs(10));
        assert_eq!(total(&periods), Duration::from_secs(30));
        let pods = [pod("critical", CRITICAL_PRIORITY + 1000, 30), pod("slow", 0, 3600), pod("quick", 5, 1), pod("low", -7, 2)];
        assert_eq!(told(&groups(&periods, &pods)), ["slow:20 quick:1 low:2", "critical:10"]);
        assert_eq!(told(&groups(&periods, &pods[..1])), ["critical:10"]);
        assert!(groups(&[], &pods).is_empty());
    }

    #[test]
    fn a_pod_belongs_to_the_period_below_its_priority() {
        let period = |priority, seconds| Period { priority, grace: Duration::from_secs(seconds) };
        let periods = [period(0, 60), period(1000, 50), period(10_000, 40)];
        let pods = [pod("a", 999, 100), pod("b", 1000, 100), pod("c", 9999, 100), pod("d", 10_000, 100), pod("e", 20_000, 100)];
        assert_eq!(told(&groups(&periods, &pods)), ["a:60", "b:50 c:50", "d:40 e:40"]);
    }

    #[test]
    fn without_a_period_pods_end_with_the_machine() {
        assert!(periods(Duration::ZERO, Duration::ZERO).is_empty());
        assert!(periods(Duration::from_secs(1), Duration::from_secs(2)).is_empty());
    }
}
