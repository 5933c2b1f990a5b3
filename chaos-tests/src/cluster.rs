//! One local cluster with a state folder, a kubeconfig and a name of its own, taken down at the end.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// What a cluster is called and where it answers: another one on each machine that tests twice at a time.
#[derive(Clone, Debug)]
pub struct Place {
    /// Name.
    pub name: String,
    /// Port on 127.0.0.1.
    pub port: u16,
}

impl Place {
    /// `KONTIKI_TEST_NAME` and `KONTIKI_TEST_PORT`, or these.
    pub fn from_environment(name: &str, port: u16) -> Result<Self> {
        let name = std::env::var("KONTIKI_TEST_NAME").unwrap_or_else(|_| name.to_owned());
        let port = match std::env::var("KONTIKI_TEST_PORT") {
            Ok(port) => port.parse().context("KONTIKI_TEST_PORT")?,
            Err(_) => port,
        };
        Ok(Self { name, port })
    }
}

/// How many nodes a cluster has.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Servers.
    pub servers: u8,
    /// Agents.
    pub agents: u8,
}

/// Where a cluster notes what it runs; cheap to hand to threads.
#[derive(Clone, Debug)]
pub struct Records {
    /// Name of the cluster.
    pub name: String,
    /// Its folder.
    pub root: PathBuf,
    /// How many nodes it has.
    pub size: Size,
}

impl Records {
    /// Folder of one node.
    #[must_use]
    pub fn node(&self, node: &str) -> PathBuf {
        self.root.join("nodes").join(node)
    }

    /// Names of the servers.
    #[must_use]
    pub fn servers(&self) -> Vec<String> {
        (1..=self.size.servers).map(|number| format!("server-{number}")).collect()
    }

    /// Names of the agents.
    #[must_use]
    pub fn agents(&self) -> Vec<String> {
        (1..=self.size.agents).map(|number| format!("agent-{number}")).collect()
    }

    /// Names of all nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        [self.servers(), self.agents()].concat()
    }

    /// Control group of a node, in the hierarchy of memory or in the only one.
    #[must_use]
    pub fn group(&self, node: &str) -> PathBuf {
        let relative = format!("kontiki/{}/{node}", self.name);
        let first = Path::new("/sys/fs/cgroup/memory").join(&relative);
        if first.exists() { first } else { Path::new("/sys/fs/cgroup").join(relative) }
    }

    /// Process identifier of the supervisor.
    pub fn supervisor(&self) -> Result<i32> {
        let noted = std::fs::read_to_string(self.root.join("supervisor.pid")).context("read supervisor.pid")?;
        noted.trim().parse().context("parse supervisor.pid")
    }

    /// Processes of a node whose first argument is `word`, in the host's PID namespace.
    pub fn processes(&self, node: &str, word: &str) -> Result<Vec<i32>> {
        let group = format!("/kontiki/{}/{node}/", self.name);
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").context("read /proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            let is_word = read("cmdline").split('\0').nth(1) == Some(word);
            if is_word && read("cgroup").contains(&group) {
                found.push(pid);
            }
        }
        Ok(found)
    }
}

/// A running cluster.
pub struct Cluster {
    /// Name.
    pub name: String,
    /// Its kubeconfig.
    pub kubeconfig: PathBuf,
    binary: PathBuf,
    folder: tempfile::TempDir,
    place: Place,
    size: Size,
    settings: Vec<(String, String)>,
}

/// The binary under test: `KONTIKI_BINARY`, which `make end-to-end` sets.
#[must_use]
pub fn binary() -> Option<PathBuf> {
    std::env::var_os("KONTIKI_BINARY").map(PathBuf::from).filter(|path| path.is_file())
}

impl Cluster {
    /// Starts a cluster; `mirrors` are the nodes' registries.yaml.
    pub fn start(binary: &Path, place: &Place, size: Size, mirrors: &str) -> Result<Self> {
        let cluster = Self::prepare(binary, place, size, mirrors)?;
        cluster.up()?;
        Ok(cluster)
    }

    /// A cluster whose folder is there and that runs after [`Self::up`].
    pub fn prepare(binary: &Path, place: &Place, size: Size, mirrors: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        std::fs::write(folder.path().join("registries.yaml"), mirrors).context("write the mirrors")?;
        let kubeconfig = folder.path().join("kubeconfig");
        Ok(Self {
            name: place.name.clone(),
            kubeconfig,
            binary: binary.to_owned(),
            folder,
            place: place.clone(),
            size,
            settings: Vec::new(),
        })
    }

    /// Settings of the nodes' processes, as environment variables; before [`Self::up`].
    #[must_use]
    pub fn with(mut self, settings: &[(&str, &str)]) -> Self {
        self.settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self
    }

    /// Runs `kontiki up`: starts the cluster, or finds it.
    pub fn up(&self) -> Result<String> {
        let mirrors = self.folder.path().join("registries.yaml");
        let mirrors = mirrors.to_str().context("the folder has a name")?;
        let (port, servers, agents) = (self.place.port.to_string(), self.size.servers.to_string(), self.size.agents.to_string());
        let name = &self.place.name;
        let shape = ["--name", name, "--port", &port, "--servers", &servers, "--agents", &agents, "--registries", mirrors];
        self.run(&[&["up"], shape.as_slice()].concat())
    }

    /// Runs `kontiki up` with a configuration of kind's.
    pub fn up_by(&self, configuration: &Path) -> Result<String> {
        let configuration = configuration.to_str().context("the file has a name")?;
        self.run(&["up", "--name", &self.place.name, "--port", &self.place.port.to_string(), "--config", configuration])
    }

    /// Runs `kontiki status`: whether all is well, and what it says.
    pub fn status(&self) -> Result<(bool, String)> {
        let output = self.command(&["status", "--name", &self.name]).output().context("run kontiki")?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Runs `kontiki image import`.
    pub fn import(&self, archive: &Path) -> Result<String> {
        self.run(&["image", "import", "--name", &self.name, archive.to_str().context("the archive has a name")?])
    }

    /// Runs `kontiki node ACTION NODE`.
    pub fn act(&self, action: &str, node: &str) -> Result<String> {
        self.run(&["node", action, node, "--name", &self.name])
    }

    /// A folder for what belongs to the cluster.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stops every node and leaves the data.
    pub fn stop(&self) -> Result<String> {
        self.run(&["down", "--name", &self.name, "--keep-data"])
    }

    /// Runs `kontiki down`.
    pub fn down(&self) -> Result<String> {
        self.run(&["down", "--name", &self.name])
    }

    /// Folder of the cluster's state.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Folder of one node.
    #[must_use]
    pub fn node(&self, node: &str) -> PathBuf {
        self.state().join(&self.name).join("nodes").join(node)
    }

    /// Runs `kontiki`; what it prints.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        text(&self.command(arguments).output().context("run kontiki")?)
    }

    /// As a shell starts what runs in the background: with two signals ignored, which must not reach containers.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "trap '' INT QUIT; exec \"$0\" \"$@\""])
            .arg(&self.binary)
            .args(arguments)
            .env("KONTIKI_STATE", self.state())
            .env("KUBECONFIG", &self.kubeconfig)
            .envs(self.settings.clone());
        command
    }

    /// Processes of a node whose first argument is `word`, in the host's PID namespace.
    pub fn processes(&self, node: &str, word: &str) -> Result<Vec<i32>> {
        self.records().processes(node, word)
    }

    /// Where it notes what it runs.
    #[must_use]
    pub fn records(&self) -> Records {
        Records { name: self.name.clone(), root: self.state().join(&self.name), size: self.size }
    }

    /// Port of the API on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.place.port
    }
}

impl Cluster {
    /// Copies all logs to the folder that `KONTIKI_TEST_LOGS` names.
    fn keep_logs(&self) -> Result<()> {
        let Some(kept) = std::env::var_os("KONTIKI_TEST_LOGS").map(PathBuf::from) else { return Ok(()) };
        let records = self.records();
        for node in records.nodes() {
            let into = kept.join(&self.name).join(&node);
            std::fs::create_dir_all(&into).with_context(|| format!("make {}", into.display()))?;
            for entry in std::fs::read_dir(records.node(&node))?.flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    std::fs::copy(entry.path(), into.join(entry.file_name()))?;
                }
            }
        }
        std::fs::copy(records.root.join("supervisor.log"), kept.join(&self.name).join("supervisor.log"))?;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.keep_logs() {
            eprintln!("the logs of cluster {} were not kept: {error:#}", self.name);
        }
        if let Err(error) = self.down() {
            eprintln!("cluster {} was not taken down: {error:#}", self.name);
        }
    }
}

/// What a command printed, or what it said when it failed.
pub fn text(output: &Output) -> Result<String> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(out.into_owned()) } else { bail!("{out}{err}") }
}

/// Waits for a condition, with a deadline.
pub fn eventually<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        let seen = look();
        match seen {
            Ok(Some(value)) => return Ok(value),
            Ok(None) if Instant::now() > end => bail!("{what}: not within {deadline:?}"),
            Err(error) if Instant::now() > end => return Err(error.context(format!("{what}: not within {deadline:?}"))),
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
