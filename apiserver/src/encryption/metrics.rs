//! What is counted of encryption at rest, under kube-apiserver's names.

use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use sha2::{Digest, Sha256};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Operation {
    resource: String,
    transformation_type: &'static str,
    transformer_prefix: String,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Direction {
    transformation_type: &'static str,
    transformer_prefix: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reload {
    status: &'static str,
    apiserver_id_hash: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Configuration {
    apiserver_id_hash: String,
    hash: String,
}

/// Time that a configuration was last read, in seconds since 1970.
type SecondsGauge = Gauge<f64, std::sync::atomic::AtomicU64>;

/// The counters.
#[derive(Clone)]
pub struct Metrics {
    operations: Family<Operation, Counter>,
    seconds: Family<Direction, Histogram>,
    reloads: Family<Reload, Counter>,
    reloaded_at: Family<Reload, SecondsGauge>,
    configuration: Family<Configuration, Gauge>,
    server: String,
}

/// A hash as labels have it.
pub fn hash(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

impl Metrics {
    /// Counters of the server with that name.
    pub fn new(server: &str) -> Self {
        Self {
            operations: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(5e-6, 2.0, 25))),
            reloads: Family::default(),
            reloaded_at: Family::default(),
            configuration: Family::default(),
            server: hash(server.as_bytes()),
        }
    }

    /// Makes them part of `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        let name = |name: &str| format!("apiserver_storage_transformation_{name}");
        registry.register(name("operations"), "Values encrypted and decrypted", self.operations.clone());
        registry.register(name("duration_seconds"), "Time that it took", self.seconds.clone());
        let name = |name: &str| format!("apiserver_encryption_config_controller_{name}");
        registry.register(name("automatic_reloads"), "How often the configuration was read again", self.reloads.clone());
        let (help, when) = ("When the configuration was last read again", self.reloaded_at.clone());
        registry.register(name("automatic_reload_last_timestamp_seconds"), help, when);
        registry.register(name("last_config_info"), "The configuration in force", self.configuration.clone());
    }

    /// A value was encrypted or decrypted, or could not be.
    pub fn transformed(&self, resource: &str, direction: &'static str, prefix: &str, took: Duration, succeeded: bool) {
        let status = if succeeded { "OK" } else { "unknown-non-grpc" };
        let (resource, transformer_prefix) = (resource.to_owned(), prefix.to_owned());
        let labels =
            Operation { resource, transformation_type: direction, transformer_prefix: transformer_prefix.clone(), status };
        self.operations.get_or_create(&labels).inc();
        if succeeded {
            let labels = Direction { transformation_type: direction, transformer_prefix };
            self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
        }
    }

    /// A configuration is in force.
    pub fn in_force(&self, hash: &str) {
        self.configuration.clear();
        let labels = Configuration { apiserver_id_hash: self.server.clone(), hash: hash.to_owned() };
        self.configuration.get_or_create(&labels).set(1);
    }

    /// The file has changed, and was taken or refused.
    pub fn reloaded(&self, succeeded: bool, now: Timestamp) {
        let status = if succeeded { "success" } else { "failure" };
        let labels = Reload { status, apiserver_id_hash: self.server.clone() };
        self.reloads.get_or_create(&labels).inc();
        self.reloaded_at.get_or_create(&labels).set(now.as_millisecond() as f64 / 1000.0);
    }
}
