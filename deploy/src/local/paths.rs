//! Where a local cluster keeps what.

use std::path::{Path, PathBuf};

/// Folder that holds all local clusters; `KONTIKI_STATE` moves it.
#[must_use]
pub fn state_root() -> PathBuf {
    std::env::var_os("KONTIKI_STATE").map_or_else(|| PathBuf::from("/var/lib/kontiki/clusters"), PathBuf::from)
}

/// Folders and files of one cluster.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
    name: String,
}

impl Paths {
    /// Paths of the cluster of that name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::below(&state_root(), name)
    }

    /// The same, in another folder.
    #[must_use]
    pub fn below(folder: &Path, name: &str) -> Self {
        Self { root: folder.join(name), name: name.to_owned() }
    }

    /// Folder of the cluster.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The cluster's shape, JSON.
    #[must_use]
    pub fn shape(&self) -> PathBuf {
        self.root.join("cluster.json")
    }

    /// Keys of the authorities and of the administrator.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// File that the supervisor holds a lock on and writes its process identifier to.
    #[must_use]
    pub fn supervisor_lock(&self) -> PathBuf {
        self.root.join("supervisor.pid")
    }

    /// Log of the supervisor.
    #[must_use]
    pub fn supervisor_log(&self) -> PathBuf {
        self.root.join("supervisor.log")
    }

    /// Folder of a node: `etc`, `lib`, `log` and `init.pid` lie in it.
    #[must_use]
    pub fn node(&self, node: &str) -> PathBuf {
        self.root.join("nodes").join(node)
    }

    /// Settings and keys of a node; seen as `/etc/kontiki` by the node.
    #[must_use]
    pub fn node_etc(&self, node: &str) -> PathBuf {
        self.node(node).join("etc")
    }

    /// What the kubelet of a node is set to do: the user's to change.
    #[must_use]
    pub fn kubelet_config(&self, node: &str) -> PathBuf {
        self.node_etc(node).join("kubelet.yaml")
    }

    /// File with the process identifier of a node's init in the host's PID namespace.
    #[must_use]
    pub fn init_pid(&self, node: &str) -> PathBuf {
        self.node(node).join("init.pid")
    }

    /// List of places that were made on the host so that nodes can see something there.
    #[must_use]
    pub fn made_places(&self) -> PathBuf {
        self.root.join("made-places")
    }

    /// Log of one of a node's processes: `server` or `agent`.
    #[must_use]
    pub fn node_log(&self, node: &str, part: &str) -> PathBuf {
        self.node(node).join(format!("{part}.log"))
    }

    /// File that keeps a node from being started.
    #[must_use]
    pub fn stopped(&self, node: &str) -> PathBuf {
        self.node(node).join("stopped")
    }

    /// The link namespace, pinned where `ip netns` looks for it.
    #[must_use]
    pub fn link(&self) -> PathBuf {
        Path::new("/run/netns").join(format!("kontiki-{}", self.name))
    }

    /// cgroup of the cluster relative to a hierarchy's root.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("kontiki/{}", self.name)
    }

    /// cgroup of a node's own processes relative to a hierarchy's root; pods lie beside it.
    #[must_use]
    pub fn node_system_cgroup(&self, node: &str) -> String {
        format!("{}/system", self.node_cgroup(node))
    }

    /// cgroup of a node relative to a hierarchy's root.
    #[must_use]
    pub fn node_cgroup(&self, node: &str) -> String {
        format!("kontiki/{}/{node}", self.name)
    }
}
