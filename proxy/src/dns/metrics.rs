//! Counters under CoreDNS' names, served where CoreDNS serves them.

use std::{sync::LazyLock, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

/// Port of the metrics, on the server's address.
pub const PORT: u16 = 9153;
/// The server as CoreDNS names its own.
const SERVER: &str = "dns://:53";

/// Labels of requests.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    server: &'static str,
    zone: String,
    proto: &'static str,
    family: &'static str,
    r#type: String,
}

/// Labels of responses.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Response {
    server: &'static str,
    zone: String,
    rcode: String,
}

/// Upper bounds of durations in seconds: a quarter of a thousandth, doubled 15 times.
fn durations() -> Histogram {
    Histogram::new((0..16).map(|power| 0.000_25 * f64::from(1_u32 << power)))
}

static REQUESTS: LazyLock<Family<Request, Counter>> = LazyLock::new(Family::default);
static RESPONSES: LazyLock<Family<Response, Counter>> = LazyLock::new(Family::default);
static SECONDS: LazyLock<Histogram> = LazyLock::new(durations);
static CACHE_HITS: LazyLock<Counter> = LazyLock::new(Counter::default);
static CACHE_MISSES: LazyLock<Counter> = LazyLock::new(Counter::default);
static FORWARDED: LazyLock<Counter> = LazyLock::new(Counter::default);

/// The counters.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register("coredns_dns_requests", "Queries", REQUESTS.clone());
    registry.register("coredns_dns_responses", "Answers by their code", RESPONSES.clone());
    registry.register("coredns_dns_request_duration_seconds", "Time that answers take", SECONDS.clone());
    registry.register("coredns_cache_hits", "Answers from memory", CACHE_HITS.clone());
    registry.register("coredns_cache_misses", "Answers that were not in memory", CACHE_MISSES.clone());
    registry.register("coredns_forward_requests", "Queries to other resolvers", FORWARDED.clone());
    registry
}

/// What was asked, and how it was answered.
pub struct Asked {
    /// Whether the name is of this cluster.
    pub zone: String,
    /// Whether it came in a datagram.
    pub datagram: bool,
    /// Whether it came over IPv4.
    pub v4: bool,
    /// Type.
    pub kind: String,
    /// Code of the answer.
    pub code: String,
}

pub(super) fn count(asked: Asked, took: Duration) {
    let proto = if asked.datagram { "udp" } else { "tcp" };
    let family = if asked.v4 { "1" } else { "2" };
    let zone = asked.zone;
    REQUESTS.get_or_create(&Request { server: SERVER, zone: zone.clone(), proto, family, r#type: asked.kind }).inc();
    RESPONSES.get_or_create(&Response { server: SERVER, zone, rcode: asked.code }).inc();
    SECONDS.observe(took.as_secs_f64());
}

pub(super) fn count_cache(hit: bool) {
    if hit {
        CACHE_HITS.inc()
    } else {
        CACHE_MISSES.inc()
    };
}

pub(super) fn count_forward() {
    FORWARDED.inc();
}
