//! What is counted at the gate, under kube-apiserver's names.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{config::Class, level::Refusal};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    priority_level: String,
    flow_schema: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RefusalLabels {
    priority_level: String,
    flow_schema: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LevelLabels {
    priority_level: String,
}

/// The counters.
pub struct Metrics {
    dispatched: Family<Labels, Counter>,
    refused: Family<RefusalLabels, Counter>,
    executing: Family<Labels, Gauge>,
    waits: Family<Labels, Histogram>,
    nominal: Family<LevelLabels, Gauge>,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        const BUCKETS: [f64; 9] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0];
        let metrics = Self {
            dispatched: Family::default(),
            refused: Family::default(),
            executing: Family::default(),
            waits: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            nominal: Family::default(),
        };
        let name = |name: &str| format!("apiserver_flowcontrol_{name}");
        registry.register(name("dispatched_requests"), "Requests that were let in", metrics.dispatched.clone());
        registry.register(name("rejected_requests"), "Requests that were refused", metrics.refused.clone());
        registry.register(name("current_executing_requests"), "Requests that are worked on", metrics.executing.clone());
        registry.register(name("request_wait_duration_seconds"), "Time in queues", metrics.waits.clone());
        registry.register(name("nominal_limit_seats"), "Seats of a level's own", metrics.nominal.clone());
        metrics
    }

    pub fn nominal(&self, level: &str, seats: u32) {
        self.nominal.get_or_create(&LevelLabels { priority_level: level.to_owned() }).set(i64::from(seats));
    }

    pub fn dispatched(&self, class: &Class, waited: Duration) {
        let labels = Labels { priority_level: class.level.clone(), flow_schema: class.schema.clone() };
        self.dispatched.get_or_create(&labels).inc();
        self.waits.get_or_create(&labels).observe(waited.as_secs_f64());
        self.executing.get_or_create(&labels).inc();
    }

    pub fn refused(&self, class: &Class, refusal: Refusal) {
        let (priority_level, flow_schema) = (class.level.clone(), class.schema.clone());
        self.refused.get_or_create(&RefusalLabels { priority_level, flow_schema, reason: refusal.reason() }).inc();
    }

    pub fn left(&self, level: &str, schema: &str) {
        let labels = Labels { priority_level: level.to_owned(), flow_schema: schema.to_owned() };
        self.executing.get_or_create(&labels).dec();
    }
}
