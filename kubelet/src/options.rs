//! What the kubelet is started with, and why it ends.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use kontiki_client::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{cgroups::Capacity, configuration::Configuration, runtime::Runtime};

/// What the kubelet needs.
#[derive(Clone)]
pub struct Options {
    /// The way to the API, as `system:node:<name>`.
    pub client: Client,
    /// What runs containers.
    pub runtime: Arc<dyn Runtime>,
    /// Name of the node.
    pub node_name: String,
    /// Address of the node.
    pub node_ip: IpAddr,
    /// Labels that the node gets when it registers.
    pub labels: BTreeMap<String, String>,
    /// Taints that the node gets when it registers: key, value, effect.
    pub taints: Vec<(String, String, String)>,
    /// Folder of the kubelet's own files; volumes lie in `pods/<uid>/volumes`.
    pub root: PathBuf,
    /// Folder of containers' logs.
    pub logs: PathBuf,
    /// What the node can really use.
    pub capacity: Capacity,
    /// Address of the cluster's DNS server.
    pub cluster_dns: Option<IpAddr>,
    /// Domain of the cluster's names.
    pub cluster_domain: String,
    /// Whether pods can have addresses.
    pub network_ready: watch::Receiver<bool>,
    /// Where the kubelet's API listens.
    pub listen: SocketAddr,
    /// Certificate of that API, PEM.
    pub server_certificate_pem: String,
    /// Its key, PEM.
    pub server_key_pem: String,
    /// Authority of its clients, PEM.
    pub client_ca_pem: String,
    /// The node's own `/etc/resolv.conf`.
    pub node_resolv_conf: String,
    /// What its configuration file sets.
    pub configuration: Arc<Configuration>,
    /// Cancelled when the machine goes down: pods end in order, then the kubelet.
    pub machine_stops: CancellationToken,
}

/// Why the kubelet does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its API cannot be served.
    #[error("cannot serve the kubelet's API on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// A certificate or key is unusable.
    #[error("the kubelet's certificate cannot be used: {0}")]
    Tls(String),
    /// A folder cannot be made.
    #[error("cannot make {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}
