//! What is counted of requests, under kube-apiserver's names.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use crate::request::RequestInfo;

/// Labels of a request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Labels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    code: u16,
}

/// The counters.
pub struct Metrics {
    requests: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram>,
    panics: Counter,
}

impl Metrics {
    /// Makes them part of `/metrics`.
    pub fn register(registry: &mut Registry) -> Self {
        const BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            panics: Counter::default(),
        };
        registry.register("apiserver_request", "Requests by verb, resource and code", metrics.requests.clone());
        registry.register("apiserver_request_duration_seconds", "Time until the answer begins", metrics.seconds.clone());
        registry.register("apiserver_request_panics", "Requests that made the server panic", metrics.panics.clone());
        metrics
    }

    /// Labels of a request; `known` is whether it is for a resource that is served.
    pub(crate) fn labels(&self, info: &RequestInfo, known: bool) -> Labels {
        let part = |text: &str| if known { text.to_owned() } else { String::new() };
        Labels {
            verb: info.verb.to_uppercase(),
            group: part(&info.group),
            version: part(&info.version),
            resource: part(&info.resource),
            subresource: part(&info.subresource),
            code: 0,
        }
    }

    pub(crate) fn count(&self, labels: Labels, code: StatusCode, took: Duration) {
        if labels.verb != "WATCH" {
            self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
        }
        self.requests.get_or_create(&Labels { code: code.as_u16(), ..labels }).inc();
    }

    pub(crate) fn count_panic(&self) {
        self.panics.inc();
    }
}
