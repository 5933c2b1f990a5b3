//! Containers: made, started, ended, removed.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context;
use kontiki_shim::protocol::{ContainerStatus, PAUSE, Request, StartContainer};

use super::{
    Embedded, blocking, failed, names,
    records::{self, ContainerRecord},
    rootfs,
    sandbox::now,
    seccomp,
    spec::{self, PidNamespace},
};
use crate::{
    cgroups::table::{self, Version},
    images::ImageRecord,
    runtime::{ContainerConfig, Processes, Resources, RuntimeError},
};

/// How long a killed container may take to vanish.
const KILL_DEADLINE: Duration = Duration::from_secs(30);

impl Embedded {
    /// Makes a container: record, group, root, configuration.
    pub(super) async fn make_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<String, RuntimeError> {
        let sandbox =
            self.shared.state.sandbox(sandbox_id).ok_or_else(|| RuntimeError::NotFound(format!("sandbox {sandbox_id}")))?;
        let image = self.shared.options.images.find(&config.image);
        let image = image.ok_or_else(|| RuntimeError::NotFound(format!("image {}", config.image)))?;
        let id = names::identifier();
        let record = ContainerRecord {
            id: id.clone(),
            sandbox_id: sandbox_id.to_owned(),
            name: config.name.clone(),
            attempt: config.attempt,
            image: config.image.clone(),
            image_ref: image.digests.first().unwrap_or(&image.id).clone(),
            labels: config.labels.clone(),
            cgroup: format!("{}/{id}", sandbox.cgroup),
            log_path: sandbox.log_directory.join(&config.log_path),
            created_at: now(),
            stop_signal: names::stop_signal(if config.stop_signal.is_empty() {
                &image.config.stop_signal
            } else {
                &config.stop_signal
            }),
            tty: config.tty,
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            shares_processes: config.processes != Processes::Own,
        };
        let (runtime, made) = (self.clone(), record.clone());
        let hostname = sandbox.hostname;
        let built = blocking("create container", move || runtime.build_container(&made, &image, &config, &hostname)).await;
        if let Err(error) = built {
            self.remove_container_files(&record).await?;
            return Err(error);
        }
        self.shared.state.add_container(record, None);
        Ok(id)
    }

    fn build_container(
        &self,
        record: &ContainerRecord,
        image: &ImageRecord,
        config: &ContainerConfig,
        hostname: &str,
    ) -> anyhow::Result<()> {
        let options = &self.shared.options;
        let folder = options.container(&record.sandbox_id, &record.id);
        let root = folder.join("rootfs");
        fs::create_dir_all(&root).context("make the container's folder")?;
        records::write(&folder, record)?;
        if let Some(logs) = record.log_path.parent() {
            fs::create_dir_all(logs).context("make the log's folder")?;
        }
        let version = options.hierarchies.version();
        let mut config = config.clone();
        config.resources.oom_score_adj = config.resources.oom_score_adj.map(|score| score.max(lowest_oom_score()));
        let config = &config;
        let mut settings = table::limits(version, &config.resources);
        settings.extend(table::container(version, config.privileged));
        options.hierarchies.create(&record.cgroup, &settings)?;
        let layers: Vec<PathBuf> = image.layers.iter().map(|digest| options.images.layer(digest)).collect();
        rootfs::mount_overlay(&layers, &options.writable(&record.id), &root)?;
        let wanted = config.run_as_user.map_or_else(|| image.config.user.clone(), |uid| uid.to_string());
        let (passwd, group) = (rootfs::read_inside(&root, "etc/passwd"), rootfs::read_inside(&root, "etc/group"));
        let mut user = rootfs::user(&wanted, &passwd, &group)?;
        if let Some(gid) = config.run_as_group {
            user.gid = u32::try_from(gid).context("runAsGroup is no group number")?;
        }
        let place = spec::Place {
            root: &root,
            shared_memory: &options.sandbox(&record.sandbox_id).join("shm"),
            cgroup: &options.hierarchies.absolute(&record.cgroup),
            hostname,
            processes: self.processes(&record.sandbox_id, &config.processes)?,
            own_cgroups: version == Version::V2 && !config.privileged,
            groups: if version == Version::V1 { options.hierarchies.named(&record.cgroup) } else { Vec::new() },
            capabilities: own_capabilities(),
            seccomp: seccomp::local(&config.seccomp)?,
        };
        let spec = spec::spec(&image.config, config, &user, &place);
        fs::write(folder.join("config.json"), serde_json::to_vec(&spec)?).context("write the container's configuration")
    }

    fn processes(&self, sandbox: &str, wanted: &Processes) -> anyhow::Result<PidNamespace> {
        let of = |pid: &str| PidNamespace::Joined(format!("/proc/{pid}/ns/pid").into());
        Ok(match wanted {
            Processes::Own => PidNamespace::New,
            Processes::Node => PidNamespace::Node,
            Processes::Pod => {
                let file = self.shared.options.sandbox(sandbox).join(PAUSE);
                of(fs::read_to_string(file).context("find the pod's first process")?.trim())
            }
            Processes::Of(id) => {
                let target = self.shared.state.containers().into_iter().find(|container| container.id == *id);
                let pid = target.map(|target| target.pid).filter(|pid| *pid > 0).context("the target container does not run")?;
                of(&pid.to_string())
            }
        })
    }

    /// Gives a running container other limits.
    pub(super) async fn limit_container(&self, id: &str, resources: Resources) -> Result<(), RuntimeError> {
        let record = self.shared.state.container(id).ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))?;
        self.limit(record.cgroup, resources).await
    }

    /// Writes limits to a group. None are said as such: the group may have had some.
    pub(super) async fn limit(&self, cgroup: String, resources: Resources) -> Result<(), RuntimeError> {
        let runtime = self.clone();
        blocking("update resources", move || {
            let hierarchies = &runtime.shared.options.hierarchies;
            Ok(hierarchies.apply(&cgroup, &table::update(hierarchies.version(), &resources))?)
        })
        .await
    }

    /// Starts a container that was made.
    pub(super) async fn launch_container(&self, id: &str) -> Result<(), RuntimeError> {
        let record = self.shared.state.container(id).ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))?;
        let options = &self.shared.options;
        let folder = options.container(&record.sandbox_id, id);
        let request = StartContainer {
            id: id.to_owned(),
            bundle: folder.clone(),
            log_path: record.log_path.clone(),
            status_path: folder.join("status.json"),
            memory_cgroup: options.hierarchies.folder("memory", &record.cgroup),
            tty: record.tty,
            stdin: record.stdin,
            shares_processes: record.shares_processes,
        };
        match self.shim(&record.sandbox_id).ask(Request::Start(request), Vec::new()).await {
            Ok(_) => {
                let status = fs::read(folder.join("status.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                let started = ContainerStatus { id: id.to_owned(), started_at: now(), ..ContainerStatus::default() };
                self.shared.state.heard(status.unwrap_or(started));
                Ok(())
            }
            Err(error) => {
                let message = format!("{error:#}");
                self.shared.state.heard(ContainerStatus {
                    id: id.to_owned(),
                    started_at: 0,
                    finished_at: now(),
                    // What containerd and Docker report for a program that cannot be run.
                    exit_code: 128,
                    reason: "StartError".to_owned(),
                    message: message.clone(),
                    ..ContainerStatus::default()
                });
                Err(RuntimeError::Failed { operation: "start container", message })
            }
        }
    }

    /// Asks a container to end, and kills it after `grace`.
    pub(super) async fn end_container(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let Some(record) = self.shared.state.container(id) else { return Ok(()) };
        if self.shared.state.is_over(id) {
            return Ok(());
        }
        if !grace.is_zero() {
            self.signal(&record, record.stop_signal).await;
            if tokio::time::timeout(grace, self.wait_for_end(id)).await.is_ok() {
                return Ok(());
            }
        }
        self.signal(&record, nix::libc::SIGKILL).await;
        if tokio::time::timeout(KILL_DEADLINE, self.wait_for_end(id)).await.is_err() {
            self.shared.options.hierarchies.kill(&record.cgroup);
            return Err(failed("stop container", "it does not end although it was killed"));
        }
        Ok(())
    }

    async fn signal(&self, record: &ContainerRecord, signal: i32) {
        let request = Request::Kill { id: record.id.clone(), signal };
        if let Err(error) = self.shim(&record.sandbox_id).ask(request, Vec::new()).await {
            // It has ended meanwhile, or its shim has; the wait that follows finds out.
            tracing::debug!(container = record.id, error = format!("{error:#}"), "cannot signal");
        }
    }

    pub(super) async fn wait_for_end(&self, id: &str) {
        let Some(mut status) = self.shared.state.follow(id) else { return };
        while !self.shared.state.is_over(id) {
            if status.changed().await.is_err() {
                return;
            }
        }
    }

    /// Removes a container that does not run.
    pub(super) async fn delete_container(&self, id: &str) -> Result<(), RuntimeError> {
        let Some(record) = self.shared.state.container(id) else { return Ok(()) };
        if !self.shared.state.is_over(id) {
            return Err(failed("remove container", format!("container {id} is running")));
        }
        if self.shared.state.is_ready(&record.sandbox_id) {
            let forgotten = self.shim(&record.sandbox_id).ask(Request::Delete { id: id.to_owned() }, Vec::new()).await;
            forgotten.map_err(|error| failed("remove container", error))?;
        }
        self.remove_container_files(&record).await?;
        self.shared.state.remove_container(id);
        Ok(())
    }

    async fn remove_container_files(&self, record: &ContainerRecord) -> Result<(), RuntimeError> {
        let (runtime, record) = (self.clone(), record.clone());
        blocking("remove container", move || {
            let options = &runtime.shared.options;
            let folder = options.container(&record.sandbox_id, &record.id);
            options.hierarchies.remove(&record.cgroup)?;
            rootfs::unmount_below(&folder)?;
            rootfs::remove_folder(&options.writable(&record.id))?;
            Ok(rootfs::remove_folder(&folder)?)
        })
        .await
    }
}

/// Capabilities that this process may hand on: on a node that is itself a container, not all that there are.
fn own_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    bounding.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(u64::MAX)
}

/// The lowest out-of-memory score that this process may give: lowering one takes a capability that a nested
/// machine may lack, and then its own is the limit.
fn lowest_oom_score() -> i32 {
    static LOWEST: std::sync::OnceLock<i32> = std::sync::OnceLock::new();
    *LOWEST.get_or_init(|| {
        const FILE: &str = "/proc/self/oom_score_adj";
        let own = fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let lowered = fs::write(FILE, "-999").is_ok();
        if lowered && let Err(error) = fs::write(FILE, own.to_string()) {
            tracing::warn!(%error, "cannot take the out-of-memory score back");
        }
        if lowered { -1000 } else { own }
    })
}
