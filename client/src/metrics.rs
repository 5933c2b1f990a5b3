//! Counters of the client, under client-go's names.

use std::sync::LazyLock;

use http::Method;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::error::Error;

/// Labels of `rest_client_requests_total`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    code: String,
    method: String,
}

/// Labels of the work queues' counters.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct QueueLabels {
    name: String,
}

static REQUESTS: LazyLock<Family<RequestLabels, Counter>> = LazyLock::new(Family::default);
static QUEUE_ADDS: LazyLock<Family<QueueLabels, Counter>> = LazyLock::new(Family::default);
static QUEUE_RETRIES: LazyLock<Family<QueueLabels, Counter>> = LazyLock::new(Family::default);

/// Makes the counters part of a process's `/metrics`.
pub fn register(registry: &mut Registry) {
    registry.register("rest_client_requests", "Requests to the API server by answer", REQUESTS.clone());
    registry.register("workqueue_adds", "Keys added to a work queue", QUEUE_ADDS.clone());
    registry.register("workqueue_retries", "Keys put back after a failure", QUEUE_RETRIES.clone());
}

pub(crate) fn count_request<T>(method: &Method, result: &Result<T, Error>) {
    let code = match result {
        Ok(_) => "200".to_owned(),
        Err(Error::Status(status)) => status.code.to_string(),
        Err(_) => "<error>".to_owned(),
    };
    REQUESTS.get_or_create(&RequestLabels { code, method: method.to_string() }).inc();
}

pub(crate) fn count_add(queue: &'static str) {
    QUEUE_ADDS.get_or_create(&QueueLabels { name: queue.to_owned() }).inc();
}

pub(crate) fn count_retry(queue: &'static str) {
    QUEUE_RETRIES.get_or_create(&QueueLabels { name: queue.to_owned() }).inc();
}
