//! Requests, replies and the files that a shim reads and leaves.
//!
//! One connection carries one request at a time. [`Request::Exec`] is answered twice, at the start
//! and at the end of the command; after [`Request::Watch`] come events until one side hangs up.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Name of the socket within a sandbox's folder.
pub const SOCKET: &str = "shim.sock";
/// Name of the settings within a sandbox's folder.
pub const SETTINGS: &str = "shim.json";
/// What the shim writes to standard output once it listens.
pub const READY: &str = "ready";
/// File with the number of the process whose PID namespace all containers of a pod share, where they do.
pub const PAUSE: &str = "pause.pid";

/// What a shim is told at its start, by file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Settings {
    /// Host name inside the pod.
    pub hostname: String,
    /// Whether the pod shares the node's network, and its host name with it.
    pub host_network: bool,
    /// Kernel parameters inside the pod.
    pub sysctls: BTreeMap<String, String>,
    /// Whether the pod shares the node's queues, semaphores and shared memory.
    #[serde(default)]
    pub host_ipc: bool,
    /// Whether the pod's containers see each other's processes.
    #[serde(default)]
    pub share_processes: bool,
}

/// What the kubelet asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Create and start a container.
    Start(StartContainer),
    /// Send a signal to a container's first process.
    Kill {
        /// Container.
        id: String,
        /// Number of the signal.
        signal: i32,
    },
    /// Run a command in a container; its streams come as file descriptors with the request:
    /// input (if wanted), output, error; none with a terminal, whose descriptor goes back.
    Exec(ExecProcess),
    /// Copy a container's output to two pipes that come with the request: output, errors. The way to its input goes
    /// back, or its terminal.
    Attach {
        /// Container.
        id: String,
    },
    /// Go on with a container's log in a new file: the one before was given another name.
    ReopenLog {
        /// Container.
        id: String,
    },
    /// Nobody will write to a container's input any more.
    CloseInput {
        /// Container.
        id: String,
    },
    /// Tell the state of all containers.
    State,
    /// Tell of each container that ends, from now on.
    Watch,
    /// Forget a container that has ended.
    Delete {
        /// Container.
        id: String,
    },
    /// Kill all containers and end.
    Shutdown,
}

/// A container to start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StartContainer {
    /// Identifier.
    pub id: String,
    /// Folder with `config.json`.
    pub bundle: PathBuf,
    /// Log to append to.
    pub log_path: PathBuf,
    /// File that the state is written to, durably once the container has ended.
    pub status_path: PathBuf,
    /// Folder of the cgroup that counts out-of-memory kills.
    pub memory_cgroup: Option<PathBuf>,
    /// Whether the container has a terminal.
    pub tty: bool,
    /// Whether standard input stays open.
    pub stdin: bool,
    /// Whether its processes live in a PID namespace that is not its own: they do not end with the first one.
    #[serde(default)]
    pub shares_processes: bool,
}

/// A command to run in a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecProcess {
    /// Container.
    pub id: String,
    /// Command and arguments.
    pub command: Vec<String>,
    /// Whether standard input comes first among the descriptors.
    pub stdin: bool,
    /// Whether the command has a terminal.
    pub tty: bool,
    /// Whether the command is killed when the connection ends before it.
    pub kill_on_close: bool,
}

/// What the shim answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done as asked.
    Done,
    /// The command runs; with a terminal its descriptor comes along.
    ExecStarted,
    /// The command has ended.
    ExecExited {
        /// Exit code; 128 + n after signal n.
        code: i32,
    },
    /// All containers.
    State {
        /// The containers.
        containers: Vec<ContainerStatus>,
    },
    /// A container has ended.
    Exited(ContainerStatus),
    /// It could not be done.
    Failed {
        /// Why, for the user.
        message: String,
    },
}

/// State of one container, also the contents of its status file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Identifier.
    pub id: String,
    /// First process; 0 once it has ended.
    pub pid: i32,
    /// Nanoseconds since the epoch.
    pub started_at: i64,
    /// Nanoseconds since the epoch; 0 while running.
    pub finished_at: i64,
    /// Exit code; 128 + n after signal n.
    pub exit_code: i32,
    /// Signal that ended it, or 0.
    pub signal: i32,
    /// Kubernetes' word for the end: `Completed`, `Error`, `OOMKilled`, `StartError`.
    pub reason: String,
    /// Further words on the end.
    pub message: String,
}
