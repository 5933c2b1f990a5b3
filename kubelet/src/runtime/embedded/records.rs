//! What is kept on disk of a sandbox and of a container.

use std::{
    collections::BTreeMap,
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Name of a sandbox's or container's record in its folder.
const FILE: &str = "record.json";

/// A sandbox.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// Identifier.
    pub id: String,
    /// `metadata.uid` of the pod.
    pub pod_uid: String,
    /// Name of the pod.
    pub pod_name: String,
    /// Namespace of the pod.
    pub pod_namespace: String,
    /// Which of the pod's sandboxes it is.
    pub attempt: u32,
    /// Host name inside the pod.
    pub hostname: String,
    /// Whether it shares the node's network.
    pub host_network: bool,
    /// Address; none on the node's network.
    pub address: Option<Ipv4Addr>,
    /// Group of the pod.
    pub cgroup: String,
    /// Folder of the pod's logs.
    pub log_directory: PathBuf,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// The shim; 0 before it has started.
    pub shim_pid: u32,
    /// Ports of the node that lead to it.
    #[serde(default)]
    pub host_ports: Vec<crate::network::host_ports::HostPort>,
}

/// A container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Identifier.
    pub id: String,
    /// Its sandbox.
    pub sandbox_id: String,
    /// Name within the pod.
    pub name: String,
    /// Counts up with each restart.
    pub attempt: u32,
    /// Image as it was asked for.
    pub image: String,
    /// Digest reference of the image.
    pub image_ref: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its group.
    pub cgroup: String,
    /// Absolute path of the log.
    pub log_path: PathBuf,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Number of the signal that asks it to end.
    pub stop_signal: i32,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether standard input stays open.
    pub stdin: bool,
    /// Whether it is closed after the first client.
    #[serde(default)]
    pub stdin_once: bool,
    /// Whether its processes do not end with its first one.
    #[serde(default)]
    pub shares_processes: bool,
}

/// Writes a record; a kubelet that ends in the middle leaves the old one or the new one.
pub fn write<T: Serialize>(folder: &Path, record: &T) -> io::Result<()> {
    let temporary = folder.join("record.new");
    fs::write(&temporary, serde_json::to_vec(record)?)?;
    fs::rename(&temporary, folder.join(FILE))
}

/// Reads a record.
pub fn read<T: DeserializeOwned>(folder: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(folder.join(FILE))?)?)
}
