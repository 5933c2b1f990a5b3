//! What a member is started with, and the identities that follow from it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::tls::TlsFiles;

/// Plain data; the defaults of [`Options::new`] work.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of this member; one of `initial_cluster`.
    pub name: String,
    /// Where log and state live.
    pub data_dir: PathBuf,
    /// Where clients are served; port 0 takes any.
    pub listen_client: SocketAddr,
    /// What clients are told.
    pub advertise_client_urls: Vec<String>,
    /// Where peers are served.
    pub listen_peer: SocketAddr,
    /// All members: name and peer URL. The same list on every member.
    pub initial_cluster: Vec<(String, String)>,
    /// Identity towards clients; without it they are served in the clear.
    pub client_tls: Option<TlsFiles>,
    /// Identity towards peers; without it they talk in the clear.
    pub peer_tls: Option<TlsFiles>,
    /// Bytes that RocksDB may use for all caches and buffers together.
    pub rocksdb_bytes: usize,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Bounds of the election timeout.
    pub election: (Duration, Duration),
    /// Entries after which the state is flushed and the log before that may go.
    pub flush_entries: u64,
    /// Entries kept for followers that are behind; beyond them they get a snapshot.
    pub keep_entries: u64,
}

impl Options {
    /// With defaults for everything but the identity and the addresses.
    #[must_use]
    pub fn new(name: &str, data_dir: PathBuf, listen_client: SocketAddr, listen_peer: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            data_dir,
            listen_client,
            advertise_client_urls: vec![],
            listen_peer,
            initial_cluster: vec![],
            client_tls: None,
            peer_tls: None,
            rocksdb_bytes: 24 << 20,
            heartbeat: Duration::from_millis(50),
            election: (Duration::from_millis(150), Duration::from_millis(300)),
            flush_entries: 5_000,
            keep_entries: 5_000,
        }
    }

    /// The identity of the cluster.
    #[must_use]
    pub fn cluster_id(&self) -> u64 {
        let mut members: Vec<_> = self.initial_cluster.iter().map(|(name, url)| format!("{name}={url}")).collect();
        members.sort_unstable();
        hash(&members.join(","))
    }
}

/// The identity of a member, the same wherever it is computed.
#[must_use]
pub fn member_id(name: &str, peer_url: &str) -> u64 {
    hash(&format!("{name}={peer_url}"))
}

/// FNV-1a with a final mix: stable for ever, unlike the standard library's hashes.
fn hash(text: &str) -> u64 {
    let mut hash =
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // Zero means "nobody" in etcd's messages.
    (hash ^ (hash >> 29)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_stable_and_distinct() {
        assert_eq!(member_id("a", "https://10.0.0.1:2380"), member_id("a", "https://10.0.0.1:2380"));
        assert_ne!(member_id("a", "https://10.0.0.1:2380"), member_id("b", "https://10.0.0.1:2380"));
    }
}
