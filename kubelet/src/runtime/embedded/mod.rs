//! The runtime that is part of Kontiki: libcontainer in shims, overlayfs, our own image store.
//!
//! In: calls of [`Runtime`]. Out: sandboxes below the run folder (which a reboot empties) and containers'
//! changes below the data folder. Each sandbox has a shim; what the shim tells is kept in memory, so that
//! listing costs nothing.
//! Invariant: a record is on disk before what it describes exists, so that a kubelet that ends in the middle
//! finds and removes every mount, interface and group.

mod attach;
mod container;
mod exec;
mod names;
mod records;
mod rootfs;
mod sandbox;
mod seccomp;
mod shim;
mod spec;
mod state;
mod stats;

use std::{collections::BTreeSet, fs, net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use kontiki_shim::protocol::Request;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use self::state::State;
use super::{
    Container, ContainerConfig, ContainerStats, ExecRequest, ExecResult, ExecSession, Image, NodeStats, RegistryAuth, Resources,
    Runtime, RuntimeError, Sandbox, SandboxConfig, SandboxStats,
};
use crate::{
    cgroups::Hierarchies,
    images::{ImageRecord, ImageStore, Puller},
    network::addresses::PodRange,
};

/// What the runtime needs.
pub struct Options {
    /// Folder for containers' changes.
    pub data: PathBuf,
    /// Folder for what lives as long as the machine runs, such as `/run/kontiki`; a short path, because
    /// sockets lie in it.
    pub run: PathBuf,
    /// The shim's program.
    pub shim: PathBuf,
    /// Images.
    pub images: Arc<ImageStore>,
    /// The way to get more.
    pub puller: Puller,
    /// Control groups.
    pub hierarchies: Hierarchies,
    /// Address of the node.
    pub node_address: Ipv4Addr,
    /// Addresses for pods, once the node has some.
    pub pod_range: watch::Receiver<Option<PodRange>>,
}

/// The embedded runtime.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    state: Arc<State>,
    addresses: Mutex<Addresses>,
    /// Held while the table of the node's ports is replaced.
    host_ports: Mutex<()>,
}

/// Pod addresses in use.
#[derive(Default)]
struct Addresses {
    taken: BTreeSet<Ipv4Addr>,
    last: Option<Ipv4Addr>,
}

fn failed(operation: &'static str, error: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::Failed { operation, message: format!("{error:#}") }
}

/// Runs blocking work off the runtime's threads.
async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, RuntimeError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| failed(operation, error))?;
    done.map_err(|error| failed(operation, error))
}

impl Embedded {
    /// Starts, finds the sandboxes of the kubelet before, and removes what no record names.
    pub async fn start(options: Options) -> Result<Self, RuntimeError> {
        let folders = [options.run.join("sandboxes"), options.data.join("containers")];
        let made = folders.iter().try_for_each(fs::create_dir_all);
        made.map_err(|error| failed("start the runtime", error))?;
        let shared = Shared { options, state: Arc::new(State::new()), addresses: Mutex::default(), host_ports: Mutex::default() };
        let runtime = Self { shared: Arc::new(shared) };
        runtime.restore().await?;
        Ok(runtime)
    }
}

fn image(record: &ImageRecord) -> Image {
    Image {
        id: record.id.clone(),
        repo_tags: record.tags.clone(),
        repo_digests: record.digests.clone(),
        size: record.size,
        user: record.config.user.clone(),
    }
}

#[async_trait]
impl Runtime for Embedded {
    fn version(&self) -> String {
        concat!("kontiki://", env!("CARGO_PKG_VERSION")).to_owned()
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<String, RuntimeError> {
        self.make_sandbox(config).await
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        self.end_sandbox(id).await
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        self.delete_sandbox(id).await
    }

    async fn list_sandboxes(&self) -> Result<Vec<Sandbox>, RuntimeError> {
        Ok(self.shared.state.sandboxes())
    }

    async fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<String, RuntimeError> {
        self.make_container(sandbox_id, config).await
    }

    async fn start_container(&self, id: &str) -> Result<(), RuntimeError> {
        self.launch_container(id).await
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        self.end_container(id, grace).await
    }

    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        self.delete_container(id).await
    }

    async fn list_containers(&self) -> Result<Vec<Container>, RuntimeError> {
        Ok(self.shared.state.containers())
    }

    async fn reopen_log(&self, id: &str) -> Result<(), RuntimeError> {
        let record = self.shared.state.container(id).ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))?;
        let reopened = self.shim(&record.sandbox_id).ask(Request::ReopenLog { id: id.to_owned() }, Vec::new()).await;
        reopened.map(drop).map_err(|error| failed("reopen log", error))
    }

    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<ExecResult, RuntimeError> {
        self.run_command(id, command, timeout).await
    }

    async fn exec(&self, id: &str, request: ExecRequest) -> Result<ExecSession, RuntimeError> {
        self.open_session(id, request).await
    }

    async fn attach(&self, id: &str, stdin: bool) -> Result<ExecSession, RuntimeError> {
        self.open_attached(id, stdin).await
    }

    async fn connect(&self, sandbox_id: &str, port: u16) -> Result<tokio::net::TcpStream, RuntimeError> {
        self.connect_inside(sandbox_id, port).await
    }

    async fn update_container(&self, id: &str, resources: Resources) -> Result<(), RuntimeError> {
        self.limit_container(id, resources).await
    }

    async fn update_sandbox(&self, id: &str, resources: Resources) -> Result<(), RuntimeError> {
        let record = self.shared.state.sandbox(id).ok_or_else(|| RuntimeError::NotFound(format!("sandbox {id}")))?;
        self.limit(record.cgroup, resources).await
    }

    async fn mount_image(&self, image: &str, at: &std::path::Path) -> Result<(), RuntimeError> {
        let record = self.shared.options.images.find(image);
        let record = record.ok_or_else(|| RuntimeError::NotFound(format!("image {image}")))?;
        let layers: Vec<PathBuf> = record.layers.iter().map(|digest| self.shared.options.images.layer(digest)).collect();
        let at = at.to_owned();
        blocking("mount image", move || rootfs::mount_read_only(&layers, &at)).await
    }

    async fn sandbox_stats(&self, id: &str) -> Result<SandboxStats, RuntimeError> {
        self.stats_of_sandbox(id).await
    }

    async fn node_stats(&self) -> Result<NodeStats, RuntimeError> {
        self.stats_of_node().await
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats, RuntimeError> {
        self.stats_of_container(id).await
    }

    fn events(&self) -> broadcast::Receiver<String> {
        self.shared.state.events()
    }

    async fn pull_image(&self, image: &str, auth: &[RegistryAuth]) -> Result<String, RuntimeError> {
        Ok(self.shared.options.puller.pull(image, auth).await?.id.clone())
    }

    async fn image_status(&self, name: &str) -> Result<Option<Image>, RuntimeError> {
        Ok(self.shared.options.images.find(name).map(|record| image(&record)))
    }

    async fn list_images(&self) -> Result<Vec<Image>, RuntimeError> {
        Ok(self.shared.options.images.list().iter().map(|record| image(record)).collect())
    }

    async fn remove_image(&self, image: &str) -> Result<(), RuntimeError> {
        let (images, name) = (Arc::clone(&self.shared.options.images), image.to_owned());
        blocking("remove image", move || Ok(images.remove(&name)?)).await
    }
}
