//! Sandboxes: made, found again, stopped, removed.

use std::{fs, net::Ipv4Addr, time::Duration};

use anyhow::Context;
use jiff::Timestamp;
use kontiki_shim::protocol::{Request, SOCKET, Settings};

use super::{
    Embedded, blocking, failed, names,
    records::{self, ContainerRecord, SandboxRecord},
    rootfs,
    shim::Shim,
};
use crate::{
    cgroups::table,
    network::{
        host_ports,
        pod::{self, Connection},
    },
    runtime::{RuntimeError, SandboxConfig},
};

/// How long a shim may take to end after it was told to.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

pub(super) fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

impl Embedded {
    pub(super) fn shim(&self, sandbox: &str) -> Shim {
        Shim::new(self.shared.options.sandbox(sandbox))
    }

    /// Makes a sandbox; what was made is taken back if a part of it fails.
    pub(super) async fn make_sandbox(&self, config: SandboxConfig) -> Result<String, RuntimeError> {
        let id = names::identifier();
        let address = if config.host_network { None } else { Some(self.take_address()?) };
        let record = SandboxRecord {
            id: id.clone(),
            pod_uid: config.pod_uid.clone(),
            pod_name: config.pod_name.clone(),
            pod_namespace: config.pod_namespace.clone(),
            attempt: config.attempt,
            hostname: config.hostname.clone(),
            host_network: config.host_network,
            address,
            cgroup: config.cgroup_parent.clone(),
            log_directory: config.log_directory.clone(),
            created_at: now(),
            shim_pid: 0,
            host_ports: config.host_ports.clone(),
        };
        match self.build_sandbox(record.clone(), &config).await {
            Ok(()) => Ok(id),
            Err(error) => {
                if let Err(left) = self.clean_sandbox(&record).await {
                    tracing::warn!(sandbox = record.id, error = %left, "cannot remove what is left of a sandbox that failed");
                }
                Err(error)
            }
        }
    }

    async fn build_sandbox(&self, mut record: SandboxRecord, config: &SandboxConfig) -> Result<(), RuntimeError> {
        let folder = self.shared.options.sandbox(&record.id);
        let runtime = self.clone();
        let (first, resources, host_ipc) = (record.clone(), config.resources.clone(), config.host_ipc);
        let place = folder.clone();
        blocking("create sandbox", move || {
            fs::create_dir_all(place.join("containers")).context("make the sandbox's folder")?;
            records::write(&place, &first)?;
            fs::create_dir_all(&first.log_directory).context("make the pod's log folder")?;
            let hierarchies = &runtime.shared.options.hierarchies;
            hierarchies.create(&first.cgroup, &table::limits(hierarchies.version(), &resources))?;
            if host_ipc {
                std::os::unix::fs::symlink("/dev/shm", place.join("shm")).context("share the node's memory")?;
                return Ok(());
            }
            rootfs::mount_shared_memory(&place.join("shm"))
        })
        .await?;
        let settings = Settings {
            hostname: config.hostname.clone(),
            host_network: config.host_network,
            sysctls: config.sysctls.clone(),
            host_ipc: config.host_ipc,
            share_processes: config.share_processes,
        };
        let (state, id) = (self.shared.state.clone(), record.id.clone());
        let started = self.shim(&record.id).start(&self.shared.options.shim, &settings, move || state.shim_ended(&id)).await;
        record.shim_pid = started.map_err(|error| failed("start shim", error))?;
        let connection = record.address.map(|address| Connection {
            host_interface: pod::host_interface(&record.id),
            namespace: format!("/proc/{}/ns/net", record.shim_pid).into(),
            address,
            node_address: self.shared.options.node_address,
        });
        let whole = record.clone();
        blocking("set up the pod network", move || {
            if let Some(connection) = connection {
                pod::connect(connection)?;
            }
            Ok(records::write(&folder, &whole)?)
        })
        .await?;
        let id = record.id.clone();
        let has_ports = !record.host_ports.is_empty();
        self.shared.state.add_sandbox(record, true);
        if has_ports {
            self.lead_ports(Some(pod::host_interface(&id))).await?;
        }
        self.listen(id);
        Ok(())
    }

    /// Makes the node's ports lead where the sandboxes that are there want them.
    async fn lead_ports(&self, interface: Option<String>) -> Result<(), RuntimeError> {
        let runtime = self.clone();
        blocking("lead host ports", move || {
            if let Some(interface) = interface {
                host_ports::allow_loopback(&interface)?;
            }
            // One at a time: the last word counts.
            let _turn = runtime.shared.host_ports.lock();
            host_ports::apply(&host_ports::ruleset(&runtime.shared.state.host_ports()))
        })
        .await
    }

    /// Hears from the shim until it ends.
    fn listen(&self, id: String) {
        let (shim, state) = (self.shim(&id), self.shared.state.clone());
        tokio::spawn(async move {
            if let Err(error) = shim.listen(|status| state.heard(status)).await {
                tracing::debug!(sandbox = id, error = format!("{error:#}"), "the shim hung up");
            }
            state.shim_ended(&id);
        });
    }

    fn take_address(&self) -> Result<Ipv4Addr, RuntimeError> {
        let range = *self.shared.options.pod_range.borrow();
        let range = range.ok_or_else(|| failed("set up the pod network", "the node has no range of pod addresses yet"))?;
        let mut addresses = self.shared.addresses.lock();
        let address = range.next(&addresses.taken, addresses.last);
        let address = address.ok_or_else(|| failed("set up the pod network", "the node has no free pod address"))?;
        addresses.taken.insert(address);
        addresses.last = Some(address);
        Ok(address)
    }

    /// Kills what runs in a sandbox and takes its network down.
    pub(super) async fn end_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let Some(record) = self.shared.state.sandbox(id) else { return Ok(()) };
        if self.shared.state.is_ready(id) {
            // A shim that does not answer any more is killed with its group below.
            if let Err(error) = self.shim(id).ask(Request::Shutdown, Vec::new()).await {
                tracing::debug!(sandbox = id, %error, "the shim does not answer");
            }
            let gone = self.wait_for_shim(id);
            if tokio::time::timeout(STOP_DEADLINE, gone).await.is_err() {
                kill_shim(&record, &self.shared.options.sandbox(id));
            }
        }
        self.shared.state.shim_ended(id);
        if !record.host_ports.is_empty() {
            self.lead_ports(None).await?;
        }
        self.clear_sandbox(&record).await
    }

    async fn wait_for_shim(&self, id: &str) {
        let mut events = self.shared.state.events();
        while self.shared.state.is_ready(id) {
            // Lagging is news too.
            let _ = events.recv().await;
        }
    }

    /// Takes network, group and processes away; records stay.
    async fn clear_sandbox(&self, record: &SandboxRecord) -> Result<(), RuntimeError> {
        let (runtime, record) = (self.clone(), record.clone());
        blocking("stop sandbox", move || {
            if record.address.is_some() {
                pod::disconnect(pod::host_interface(&record.id))?;
            }
            // Whatever the shim did not end, or could not any more.
            for container in runtime.shared.state.containers_of(&record.id) {
                runtime.shared.options.hierarchies.kill(&container.cgroup);
            }
            if let Some(address) = record.address {
                runtime.shared.addresses.lock().taken.remove(&address);
            }
            Ok(())
        })
        .await
    }

    /// Removes a stopped sandbox and its containers.
    pub(super) async fn delete_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let Some(record) = self.shared.state.sandbox(id) else { return Ok(()) };
        for container in self.shared.state.containers_of(id) {
            self.delete_container(&container.id).await?;
        }
        self.clean_sandbox(&record).await?;
        self.shared.state.remove_sandbox(id);
        Ok(())
    }

    /// Removes all that a record stands for, however much of it there is.
    async fn clean_sandbox(&self, record: &SandboxRecord) -> Result<(), RuntimeError> {
        let folder = self.shared.options.sandbox(&record.id);
        kill_shim(record, &folder);
        self.clear_sandbox(record).await?;
        let (runtime, record) = (self.clone(), record.clone());
        // The pod's group may be a later sandbox's by now.
        let shared = self.shared.state.sandboxes().iter().any(|other| other.pod_uid == record.pod_uid && other.id != record.id);
        blocking("remove sandbox", move || {
            rootfs::unmount_below(&folder)?;
            if !shared {
                runtime.shared.options.hierarchies.remove(&record.cgroup)?;
            }
            Ok(rootfs::remove_folder(&folder)?)
        })
        .await
    }

    /// Finds what an earlier kubelet left.
    pub(super) async fn restore(&self) -> Result<(), RuntimeError> {
        let sandboxes = self.shared.options.run.join("sandboxes");
        let folders = fs::read_dir(&sandboxes).map_err(|error| failed("find sandboxes", error))?;
        for folder in folders.flatten().map(|entry| entry.path()) {
            let Ok(record) = records::read::<SandboxRecord>(&folder) else {
                // Begun and not recorded: nothing but a folder.
                rootfs::remove_folder(&folder).map_err(|error| failed("remove sandbox", error))?;
                continue;
            };
            if record.shim_pid == 0 {
                self.clean_sandbox(&record).await?;
                continue;
            }
            if let Some(address) = record.address {
                self.shared.addresses.lock().taken.insert(address);
            }
            let alive = folder.join(SOCKET).exists() && is_shim(&record, &folder);
            let id = record.id.clone();
            self.shared.state.add_sandbox(record, alive);
            self.restore_containers(&folder);
            if alive {
                self.listen(id);
            } else {
                self.shared.state.shim_ended(&id);
            }
        }
        self.remove_unknown_writable().await
    }

    fn restore_containers(&self, folder: &std::path::Path) {
        let containers = fs::read_dir(folder.join("containers")).into_iter().flatten().flatten();
        for container in containers.map(|entry| entry.path()) {
            if let Ok(record) = records::read::<ContainerRecord>(&container) {
                let status = fs::read(container.join("status.json")).ok();
                self.shared.state.add_container(record, status.and_then(|bytes| serde_json::from_slice(&bytes).ok()));
            }
        }
    }

    /// After a reboot nothing in the run folder names these any more.
    async fn remove_unknown_writable(&self) -> Result<(), RuntimeError> {
        let runtime = self.clone();
        blocking("remove old containers", move || {
            for entry in fs::read_dir(runtime.shared.options.data.join("containers"))?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if runtime.shared.state.container(&name).is_none() {
                    rootfs::remove_folder(&entry.path())?;
                }
            }
            Ok(())
        })
        .await
    }
}

/// Whether the process of a record is still that sandbox's shim: numbers are used again.
fn is_shim(record: &SandboxRecord, folder: &std::path::Path) -> bool {
    let arguments = fs::read(format!("/proc/{}/cmdline", record.shim_pid)).unwrap_or_default();
    let folder = folder.as_os_str().as_encoded_bytes();
    arguments.split(|byte| *byte == 0).any(|argument| argument == folder)
}

fn kill_shim(record: &SandboxRecord, folder: &std::path::Path) {
    if record.shim_pid != 0
        && is_shim(record, folder)
        && let Ok(pid) = i32::try_from(record.shim_pid)
    {
        // It may end by itself meanwhile.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}
