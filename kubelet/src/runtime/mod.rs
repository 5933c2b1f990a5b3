//! The seam between the kubelet and what runs containers, shaped like CRI v1.
//!
//! In: sandboxes, containers and images to make, start, stop and remove. Out: what exists and what
//! state it is in. An implementation keeps everything that must outlive the kubelet on disk and in
//! shims: a new kubelet finds it with [`Runtime::list_sandboxes`] and [`Runtime::list_containers`].
//! Every operation may be repeated: stopping what has stopped and removing what is gone succeed.

pub mod embedded;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Why the runtime could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No sandbox, container or image of that name.
    #[error("{0} not found")]
    NotFound(String),
    /// The image cannot be had: the message is shown to the user as it is (`ErrImagePull`).
    #[error("{0}")]
    ImagePull(String),
    /// The image reference cannot be parsed (`InvalidImageName`).
    #[error("{0}")]
    InvalidImageName(String),
    /// The container could not be created (`CreateContainerError`) or started (`RunContainerError`).
    #[error("{operation}: {message}")]
    Failed {
        /// What was being done, such as `create container`.
        operation: &'static str,
        /// What went wrong, for the user.
        message: String,
    },
    /// A command did not end in time.
    #[error("command timed out after {0:?}")]
    Timeout(Duration),
}

/// A pod sandbox to make: network namespace, shim, cgroup, host name.
#[derive(Clone, Debug, Default)]
pub struct SandboxConfig {
    /// `metadata.uid` of the pod.
    pub pod_uid: String,
    /// Name of the pod.
    pub pod_name: String,
    /// Namespace of the pod.
    pub pod_namespace: String,
    /// Counts up when the sandbox of one pod is made again.
    pub attempt: u32,
    /// Host name inside the pod.
    pub hostname: String,
    /// Whether the pod shares the node's network.
    pub host_network: bool,
    /// Contents of `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Folder of the pod's logs: `/var/log/pods/<namespace>_<name>_<uid>`.
    pub log_directory: PathBuf,
    /// cgroup of the pod relative to the controllers' roots, such as `kubepods/burstable/pod<uid>`.
    pub cgroup_parent: String,
    /// Kernel parameters inside the pod.
    pub sysctls: BTreeMap<String, String>,
    /// Whether the pod shares the node's queues, semaphores and shared memory.
    pub host_ipc: bool,
    /// Whether the pod's containers see each other's processes.
    pub share_processes: bool,
    /// Ports of the node that lead to the pod.
    pub host_ports: Vec<crate::network::host_ports::HostPort>,
    /// Limits of the pod's cgroup, the sum of its containers' where each has one.
    pub resources: Resources,
}

/// Limits in the kernel's terms. `None` means no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Relative weight: 2 to 262144, 1024 for one CPU.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU time in each period.
    pub cpu_quota: Option<i64>,
    /// Length of a period in microseconds.
    pub cpu_period: Option<u64>,
    /// Bytes of memory.
    pub memory_limit: Option<i64>,
    /// Adjustment of the out-of-memory score, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Number of processes.
    pub pids_limit: Option<i64>,
}

/// Which mounts made on one side later are seen on the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// None.
    #[default]
    Private,
    /// The node's in the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// Whose processes a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Processes {
    /// Its own.
    #[default]
    Own,
    /// All of the pod.
    Pod,
    /// All of the node.
    Node,
    /// Those of another container, named by its identifier.
    Of(String),
}

/// A file or folder of the node that a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Path on the node.
    pub host_path: PathBuf,
    /// Path in the container.
    pub container_path: PathBuf,
    /// Whether the container may only read.
    pub read_only: bool,
    /// Whether mounts within may only be read as well.
    pub recursive_read_only: bool,
    /// What becomes of later mounts.
    pub propagation: Propagation,
}

/// A container to make within a sandbox.
#[derive(Clone, Debug, Default)]
pub struct ContainerConfig {
    /// Name within the pod.
    pub name: String,
    /// Counts up with each restart.
    pub attempt: u32,
    /// Image, as [`Runtime::pull_image`] returned it.
    pub image: String,
    /// Replaces the image's entry point where not empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments where not empty.
    pub args: Vec<String>,
    /// Working directory; the image's where empty.
    pub working_dir: String,
    /// Environment; comes after the image's own and wins over it.
    pub env: Vec<(String, String)>,
    /// Files and folders of the node.
    pub mounts: Vec<Mount>,
    /// Labels kept with the container.
    pub labels: BTreeMap<String, String>,
    /// Log file, relative to the sandbox's log directory, such as `nginx/0.log`; CRI format.
    pub log_path: PathBuf,
    /// Limits.
    pub resources: Resources,
    /// Numeric user; the image's where `None`.
    pub run_as_user: Option<i64>,
    /// Numeric group; the image's where `None`.
    pub run_as_group: Option<i64>,
    /// Further groups.
    pub supplemental_groups: Vec<i64>,
    /// All capabilities and devices.
    pub privileged: bool,
    /// Capabilities to add to the default set, such as `NET_ADMIN` or `ALL`.
    pub capabilities_add: Vec<String>,
    /// Capabilities to take from the default set.
    pub capabilities_drop: Vec<String>,
    /// Whether the root file system is read-only.
    pub read_only_root_filesystem: bool,
    /// Whether a process may gain privileges (the inverse of `no_new_privs`).
    pub allow_privilege_escalation: bool,
    /// Whether the container has a terminal.
    pub tty: bool,
    /// Whether standard input stays open.
    pub stdin: bool,
    /// Whether it is closed after the first client that was attached to it.
    pub stdin_once: bool,
    /// Whose processes it sees.
    pub processes: Processes,
    /// Whether nothing of /proc is hidden or protected.
    pub unmasked_proc: bool,
    /// Whether groups of the image's files count; otherwise only those that are named here.
    pub merge_image_groups: bool,
    /// Which system calls are refused.
    pub seccomp: Seccomp,
    /// Signal that asks it to end; the image's where empty.
    pub stop_signal: String,
}

/// Which system calls a container is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// None.
    #[default]
    Unconfined,
    /// Those that the runtime holds to be dangerous.
    RuntimeDefault,
    /// Those that a file on the node says.
    Localhost(PathBuf),
}

/// Whether a sandbox can hold containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxState {
    /// Its shim and its network are there.
    Ready,
    /// Stopped, or its shim died.
    NotReady,
}

/// A sandbox as it is.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Identifier, unique on the node.
    pub id: String,
    /// `metadata.uid` of the pod.
    pub pod_uid: String,
    /// Name of the pod.
    pub pod_name: String,
    /// Namespace of the pod.
    pub pod_namespace: String,
    /// As in [`SandboxConfig::attempt`].
    pub attempt: u32,
    /// State.
    pub state: SandboxState,
    /// Addresses of the pod; empty for the host's network.
    pub ips: Vec<String>,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Running.
    Running,
    /// Ended; the exit fields are set.
    Exited,
    /// Its shim died and took the knowledge with it.
    Unknown,
}

/// A container as it is.
#[derive(Clone, Debug)]
pub struct Container {
    /// Identifier, unique on the node; 64 hexadecimal digits.
    pub id: String,
    /// Sandbox that holds it.
    pub sandbox_id: String,
    /// Name within the pod.
    pub name: String,
    /// As in [`ContainerConfig::attempt`].
    pub attempt: u32,
    /// Image as given at creation.
    pub image: String,
    /// Digest reference of the image, for `imageID`.
    pub image_ref: String,
    /// State.
    pub state: ContainerState,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Nanoseconds since the epoch; 0 before the start.
    pub started_at: i64,
    /// Nanoseconds since the epoch; 0 before the end.
    pub finished_at: i64,
    /// Exit code; 128 + n after signal n.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` or `ContainerCannotRun`.
    pub reason: String,
    /// Further words on the end.
    pub message: String,
    /// Process identifier of the first process in the node's namespace; 0 when not running.
    pub pid: u32,
    /// Absolute path of the log.
    pub log_path: PathBuf,
    /// Labels given at creation.
    pub labels: BTreeMap<String, String>,
}

/// An image on the node.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// `sha256:...` of the image's configuration.
    pub id: String,
    /// Tags.
    pub repo_tags: Vec<String>,
    /// Digest references.
    pub repo_digests: Vec<String>,
    /// Bytes on disk.
    pub size: u64,
    /// User of the image, as written in it.
    pub user: String,
}

/// Name and password for a registry.
#[derive(Clone, Debug, Default)]
pub struct RegistryAuth {
    /// User.
    pub username: String,
    /// Password or token.
    pub password: String,
}

/// A command to run in a container with its streams attached.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// Command and arguments.
    pub command: Vec<String>,
    /// Whether standard input is wanted.
    pub stdin: bool,
    /// Whether the command has a terminal.
    pub tty: bool,
}

/// A running command.
pub struct ExecSession {
    /// Bytes for standard input; dropping it closes the input.
    pub stdin: Option<mpsc::Sender<Bytes>>,
    /// Standard output, or the terminal.
    pub stdout: mpsc::Receiver<Bytes>,
    /// Standard error; ends at once with a terminal.
    pub stderr: mpsc::Receiver<Bytes>,
    /// New sizes of the terminal: columns, rows.
    pub resize: Option<mpsc::Sender<(u16, u16)>>,
    /// Exit code, once the command has ended.
    pub exit: oneshot::Receiver<Result<i32, RuntimeError>>,
}

/// What a command that was waited for has left.
#[derive(Clone, Debug, Default)]
pub struct ExecResult {
    /// Standard output, cut at 16 KiB.
    pub stdout: Vec<u8>,
    /// Standard error, cut at 16 KiB.
    pub stderr: Vec<u8>,
    /// Exit code.
    pub exit_code: i32,
}

/// What a group of processes uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of CPU time used since the start.
    pub cpu_nanoseconds: u64,
    /// Bytes of memory that cannot simply be dropped.
    pub memory_working_set: u64,
    /// Bytes of memory, caches included.
    pub memory_usage: u64,
    /// Bytes of memory that no file stands for.
    pub memory_rss: u64,
    /// Page faults, all of them and those that waited for a disk.
    pub page_faults: (u64, u64),
    /// Processes and threads.
    pub processes: u64,
}

/// Figures of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerStats {
    /// CPU time and memory.
    pub usage: Usage,
    /// Bytes that it has written over its image.
    pub written_bytes: u64,
    /// Files and folders that it has written.
    pub written_inodes: u64,
}

/// Figures of one pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SandboxStats {
    /// CPU time and memory of all its containers.
    pub usage: Usage,
    /// Bytes that the pod has received and sent.
    pub network: Option<Network>,
}

/// What went through an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Bytes and errors received.
    pub received: (u64, u64),
    /// Bytes and errors sent.
    pub sent: (u64, u64),
}

/// A file system's room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// Bytes that it holds and bytes that are free to use.
    pub capacity_bytes: u64,
    /// Bytes that are free to use.
    pub available_bytes: u64,
    /// Inodes that it has.
    pub inodes: u64,
    /// Inodes that are free.
    pub inodes_free: u64,
}

/// Figures of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// CPU time and memory of all pods.
    pub pods: Usage,
    /// CPU time and memory of everything on the node.
    pub node: Usage,
    /// File system of images and containers.
    pub file_system: FileSystem,
    /// Bytes of all images.
    pub image_bytes: u64,
    /// Bytes of memory that are left, where it can be known.
    pub memory_available: Option<u64>,
}

/// What runs containers.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version, as a node reports it: `kontiki://0.1.0`.
    fn version(&self) -> String;
    /// Makes a sandbox and returns its identifier.
    async fn run_sandbox(&self, config: SandboxConfig) -> Result<String, RuntimeError>;
    /// Kills what runs in a sandbox and takes its network down.
    async fn stop_sandbox(&self, id: &str) -> Result<(), RuntimeError>;
    /// Removes a stopped sandbox and its containers.
    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError>;
    /// All sandboxes of the node.
    async fn list_sandboxes(&self) -> Result<Vec<Sandbox>, RuntimeError>;
    /// Makes a container and returns its identifier.
    async fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<String, RuntimeError>;
    /// Starts a container.
    async fn start_container(&self, id: &str) -> Result<(), RuntimeError>;
    /// Sends the image's stop signal (SIGTERM by default), and SIGKILL after `grace`.
    /// Returns once the container has ended.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), RuntimeError>;
    /// Removes a container that does not run.
    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError>;
    /// All containers of the node.
    async fn list_containers(&self) -> Result<Vec<Container>, RuntimeError>;
    /// Goes on with a running container's log in a new file: the one before was given another name.
    async fn reopen_log(&self, id: &str) -> Result<(), RuntimeError>;
    /// Runs a command in a container and waits for it.
    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<ExecResult, RuntimeError>;
    /// Runs a command in a container with its streams attached.
    async fn exec(&self, id: &str, request: ExecRequest) -> Result<ExecSession, RuntimeError>;
    /// Attaches to a running container: its input from now on, a copy of its output.
    async fn attach(&self, id: &str, stdin: bool) -> Result<ExecSession, RuntimeError>;
    /// Connects to a port on the pod's own loopback address.
    async fn connect(&self, sandbox_id: &str, port: u16) -> Result<tokio::net::TcpStream, RuntimeError>;
    /// Gives a running container other limits.
    async fn update_container(&self, id: &str, resources: Resources) -> Result<(), RuntimeError>;
    /// Gives a pod's group other limits.
    async fn update_sandbox(&self, id: &str, resources: Resources) -> Result<(), RuntimeError>;
    /// Shows an image's files at a folder of the node, read-only. May be repeated.
    async fn mount_image(&self, image: &str, at: &std::path::Path) -> Result<(), RuntimeError>;
    /// Figures of a pod.
    async fn sandbox_stats(&self, id: &str) -> Result<SandboxStats, RuntimeError>;
    /// Figures of the node's containers together, and of the node's images.
    async fn node_stats(&self) -> Result<NodeStats, RuntimeError>;
    /// Figures of a running container.
    async fn container_stats(&self, id: &str) -> Result<ContainerStats, RuntimeError>;
    /// Identifiers of pods (their UIDs) in which something changed; a receiver that lags looks at all.
    fn events(&self) -> broadcast::Receiver<String>;
    /// Fetches an image; `auth` are credentials to try in turn. Returns its reference (identifier).
    async fn pull_image(&self, image: &str, auth: &[RegistryAuth]) -> Result<String, RuntimeError>;
    /// The image of that name, if it is on the node.
    async fn image_status(&self, image: &str) -> Result<Option<Image>, RuntimeError>;
    /// All images.
    async fn list_images(&self) -> Result<Vec<Image>, RuntimeError>;
    /// Removes an image.
    async fn remove_image(&self, image: &str) -> Result<(), RuntimeError>;
}
