//! Counters under kube-scheduler's names.

use std::{sync::LazyLock, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Labels of attempts.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Attempt {
    profile: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct QueueName {
    queue: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Incoming {
    event: &'static str,
    queue: &'static str,
}

/// Upper bounds of durations in seconds: a thousandth, doubled 15 times.
const BUCKETS: usize = 15;

fn durations() -> Histogram {
    Histogram::new((0..BUCKETS).map(|power| 0.001 * f64::from(1_u32 << power)))
}

static ATTEMPTS: LazyLock<Family<Attempt, Counter>> = LazyLock::new(Family::default);
type Durations = Family<Attempt, Histogram, fn() -> Histogram>;

static ATTEMPT_SECONDS: LazyLock<Durations> = LazyLock::new(|| Durations::new_with_constructor(durations));
static SLI_SECONDS: LazyLock<Histogram> = LazyLock::new(durations);
static PENDING: LazyLock<Family<QueueName, Gauge>> = LazyLock::new(Family::default);
static INCOMING: LazyLock<Family<Incoming, Counter>> = LazyLock::new(Family::default);
static PREEMPTIONS: LazyLock<Counter> = LazyLock::new(Counter::default);
static VICTIMS: LazyLock<Histogram> = LazyLock::new(|| Histogram::new((0..7).map(|power| f64::from(1_u32 << power))));

/// Makes the counters part of a process's `/metrics`.
pub fn register(registry: &mut Registry) {
    registry.register("scheduler_schedule_attempts", "Attempts to schedule pods, by result", ATTEMPTS.clone());
    registry.register(
        "scheduler_scheduling_attempt_duration_seconds",
        "Time that one decision takes, by result",
        ATTEMPT_SECONDS.clone(),
    );
    registry.register(
        "scheduler_pod_scheduling_sli_duration_seconds",
        "Time from a pod's coming to its binding",
        SLI_SECONDS.clone(),
    );
    registry.register("scheduler_pending_pods", "Pods that wait, by queue", PENDING.clone());
    registry.register("scheduler_queue_incoming_pods", "Pods put into queues, by queue and event", INCOMING.clone());
    registry.register("scheduler_preemption_attempts", "Attempts to make room for a pod", PREEMPTIONS.clone());
    registry.register("scheduler_preemption_victims", "Pods that had to go for one pod", VICTIMS.clone());
}

/// Results of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A node was found.
    Scheduled,
    /// None was.
    Unschedulable,
    /// Something went wrong.
    Error,
}

pub(crate) fn count_attempt(profile: &str, outcome: Outcome, took: Duration) {
    let result = match outcome {
        Outcome::Scheduled => "scheduled",
        Outcome::Unschedulable => "unschedulable",
        Outcome::Error => "error",
    };
    let labels = Attempt { profile: profile.to_owned(), result };
    ATTEMPTS.get_or_create(&labels).inc();
    ATTEMPT_SECONDS.get_or_create(&labels).observe(took.as_secs_f64());
}

pub(crate) fn observe_bound(since_first: Duration) {
    SLI_SECONDS.observe(since_first.as_secs_f64());
}

pub(crate) fn count_incoming(queue: &'static str, event: &'static str) {
    INCOMING.get_or_create(&Incoming { event, queue }).inc();
}

pub(crate) fn set_pending(counts: [(&'static str, i64); 4]) {
    for (queue, count) in counts {
        PENDING.get_or_create(&QueueName { queue }).set(count);
    }
}

pub(crate) fn count_preemption(victims: Option<usize>) {
    PREEMPTIONS.inc();
    if let Some(victims) = victims {
        VICTIMS.observe(victims as f64);
    }
}
