//! Where a run goes: endpoints, connections, and keys that no other run has.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use kontiki_proto::etcdserverpb as pb;
use pb::kv_client::KvClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Values are pieces of so many random bytes, which no compressor makes smaller.
const RANDOM_BYTES: usize = 1 << 20;

/// The cluster, and what this run writes to it.
pub struct Target {
    /// Keys of this run begin with it, so that runs do not meet.
    pub run: String,
    endpoints: Vec<Endpoint>,
    random: Bytes,
    value_bytes: usize,
}

impl Target {
    /// Of endpoints with commas between them.
    pub fn new(endpoints: &str, value_bytes: usize) -> anyhow::Result<Self> {
        let tls = std::env::var("TLS_DIR").ok().map(|folder| tls(Path::new(&folder))).transpose()?;
        let endpoint = |url: &str| -> anyhow::Result<Endpoint> {
            let endpoint = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect_timeout(Duration::from_secs(1));
            Ok(if let Some(tls) = &tls { endpoint.tls_config(tls.clone())? } else { endpoint })
        };
        Ok(Self {
            run: format!("load/{:08x}", rand::random::<u32>()),
            endpoints: endpoints.split(',').map(endpoint).collect::<Result<_, _>>().context("endpoints")?,
            random: (0..RANDOM_BYTES + value_bytes).map(|_| rand::random::<u8>()).collect(),
            value_bytes,
        })
    }

    /// A connection of its own to one of the endpoints.
    pub fn connect(&self, number: usize) -> Channel {
        self.endpoints[number % self.endpoints.len()].connect_lazy()
    }

    pub fn value(&self, number: usize) -> Bytes {
        let at = number.wrapping_mul(7919) % RANDOM_BYTES;
        self.random.slice(at..at + self.value_bytes)
    }
}

fn tls(folder: &Path) -> anyhow::Result<ClientTlsConfig> {
    let read = |name: &str| std::fs::read(folder.join(name));
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("ca.pem")?));
    Ok(config.identity(Identity::from_pem(read("cert.pem")?, read("key.pem")?)))
}

/// A client's connection, which can be replaced by one to the next endpoint.
pub struct Link {
    target: Arc<Target>,
    endpoint: usize,
    pub kv: KvClient<Channel>,
}

impl Link {
    pub fn new(target: &Arc<Target>, endpoint: usize) -> Self {
        let kv = KvClient::new(target.connect(endpoint)).max_decoding_message_size(1 << 30);
        Self { target: target.clone(), endpoint, kv }
    }

    pub fn next(&mut self) {
        *self = Self::new(&self.target, self.endpoint + 1);
    }

    pub fn target(&self) -> &Target {
        &self.target
    }
}

pub fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}
