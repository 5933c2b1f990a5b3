//! What is known of sandboxes and containers, in memory; fed by records and by what the shims tell.
//!
//! Invariant: a container that has ended never runs again, in whatever order the news of it comes.

use std::collections::HashMap;

use kontiki_shim::protocol::ContainerStatus;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use super::records::{ContainerRecord, SandboxRecord};
use crate::runtime::{Container, ContainerState, Sandbox, SandboxState};

/// News that a slow listener may miss before it has to look at all.
const EVENTS_MAX: usize = 1024;

struct SandboxEntry {
    record: SandboxRecord,
    ready: bool,
}

struct ContainerEntry {
    record: ContainerRecord,
    /// `None` before the start.
    status: watch::Sender<Option<ContainerStatus>>,
    /// The shim died while it ran.
    lost: bool,
}

#[derive(Default)]
struct Tables {
    sandboxes: HashMap<String, SandboxEntry>,
    containers: HashMap<String, ContainerEntry>,
}

/// The state.
pub struct State {
    tables: Mutex<Tables>,
    events: broadcast::Sender<String>,
}

impl State {
    pub fn new() -> Self {
        Self { tables: Mutex::default(), events: broadcast::Sender::new(EVENTS_MAX) }
    }

    pub fn events(&self) -> broadcast::Receiver<String> {
        self.events.subscribe()
    }

    fn tell(&self, pod_uid: &str) {
        // Nobody listens before the kubelet has started.
        let _ = self.events.send(pod_uid.to_owned());
    }

    pub fn add_sandbox(&self, record: SandboxRecord, ready: bool) {
        let pod_uid = record.pod_uid.clone();
        self.tables.lock().sandboxes.insert(record.id.clone(), SandboxEntry { record, ready });
        self.tell(&pod_uid);
    }

    pub fn add_container(&self, record: ContainerRecord, status: Option<ContainerStatus>) {
        let entry = ContainerEntry { record, status: watch::Sender::new(status), lost: false };
        self.tables.lock().containers.insert(entry.record.id.clone(), entry);
    }

    pub fn sandbox(&self, id: &str) -> Option<SandboxRecord> {
        self.tables.lock().sandboxes.get(id).map(|entry| entry.record.clone())
    }

    /// Ports of the node, each with the address of the sandbox that it leads to.
    pub fn host_ports(&self) -> Vec<(std::net::Ipv4Addr, crate::network::host_ports::HostPort)> {
        let tables = self.tables.lock();
        let ready = tables.sandboxes.values().filter(|entry| entry.ready);
        ready
            .flat_map(|entry| {
                let ports = entry.record.host_ports.iter();
                ports.filter_map(|port| Some((entry.record.address?, port.clone())))
            })
            .collect()
    }

    pub fn is_ready(&self, id: &str) -> bool {
        self.tables.lock().sandboxes.get(id).is_some_and(|entry| entry.ready)
    }

    pub fn container(&self, id: &str) -> Option<ContainerRecord> {
        self.tables.lock().containers.get(id).map(|entry| entry.record.clone())
    }

    /// Containers of a sandbox.
    pub fn containers_of(&self, sandbox: &str) -> Vec<ContainerRecord> {
        let tables = self.tables.lock();
        tables.containers.values().filter(|entry| entry.record.sandbox_id == sandbox).map(|entry| entry.record.clone()).collect()
    }

    /// Follows a container's status.
    pub fn follow(&self, id: &str) -> Option<watch::Receiver<Option<ContainerStatus>>> {
        self.tables.lock().containers.get(id).map(|entry| entry.status.subscribe())
    }

    /// News of a container.
    pub fn heard(&self, status: ContainerStatus) {
        let pod_uid = {
            let tables = self.tables.lock();
            let Some(entry) = tables.containers.get(&status.id) else { return };
            let changed = entry.status.send_if_modified(|known| {
                let newer = known.as_ref().is_none_or(|known| known.finished_at == 0 && *known != status);
                if newer {
                    *known = Some(status);
                }
                newer
            });
            let pod = tables.sandboxes.get(&entry.record.sandbox_id).map(|sandbox| sandbox.record.pod_uid.clone());
            pod.filter(|_| changed)
        };
        if let Some(pod_uid) = pod_uid {
            self.tell(&pod_uid);
        }
    }

    /// The shim of a sandbox has ended. What ran in it is lost, unless it was stopped on purpose and told so.
    pub fn shim_ended(&self, id: &str) {
        let pod_uid = {
            let mut tables = self.tables.lock();
            let Some(sandbox) = tables.sandboxes.get_mut(id) else { return };
            sandbox.ready = false;
            let pod_uid = sandbox.record.pod_uid.clone();
            for entry in tables.containers.values_mut().filter(|entry| entry.record.sandbox_id == id) {
                entry.lost |= entry.status.borrow().as_ref().is_some_and(|status| status.finished_at == 0);
                // Whoever waits for the end looks again.
                entry.status.send_modify(|_| {});
            }
            pod_uid
        };
        self.tell(&pod_uid);
    }

    /// Whether a container has ended, or its end can no longer be heard of.
    pub fn is_over(&self, id: &str) -> bool {
        let tables = self.tables.lock();
        tables
            .containers
            .get(id)
            .is_none_or(|entry| entry.lost || entry.status.borrow().as_ref().is_none_or(|status| status.finished_at != 0))
    }

    pub fn remove_sandbox(&self, id: &str) {
        self.tables.lock().sandboxes.remove(id);
    }

    pub fn remove_container(&self, id: &str) {
        self.tables.lock().containers.remove(id);
    }

    pub fn sandboxes(&self) -> Vec<Sandbox> {
        let describe = |entry: &SandboxEntry| Sandbox {
            id: entry.record.id.clone(),
            pod_uid: entry.record.pod_uid.clone(),
            pod_name: entry.record.pod_name.clone(),
            pod_namespace: entry.record.pod_namespace.clone(),
            attempt: entry.record.attempt,
            state: if entry.ready { SandboxState::Ready } else { SandboxState::NotReady },
            ips: entry.record.address.iter().map(ToString::to_string).collect(),
            created_at: entry.record.created_at,
        };
        self.tables.lock().sandboxes.values().map(describe).collect()
    }

    pub fn containers(&self) -> Vec<Container> {
        self.tables.lock().containers.values().map(describe).collect()
    }
}

fn describe(entry: &ContainerEntry) -> Container {
    let record = &entry.record;
    let known = entry.status.borrow();
    let status = known.clone().unwrap_or_default();
    let state = match (&*known, entry.lost) {
        (_, true) => ContainerState::Unknown,
        (None, _) => ContainerState::Created,
        (Some(status), _) if status.finished_at == 0 => ContainerState::Running,
        (Some(_), _) => ContainerState::Exited,
    };
    Container {
        id: record.id.clone(),
        sandbox_id: record.sandbox_id.clone(),
        name: record.name.clone(),
        attempt: record.attempt,
        image: record.image.clone(),
        image_ref: record.image_ref.clone(),
        state,
        created_at: record.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        reason: status.reason,
        message: status.message,
        pid: u32::try_from(status.pid).unwrap_or(0),
        log_path: record.log_path.clone(),
        labels: record.labels.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn state() -> State {
        let state = State::new();
        state.add_sandbox(SandboxRecord { id: "s".into(), pod_uid: "u".into(), ..SandboxRecord::default() }, true);
        let record = ContainerRecord { id: "c".into(), sandbox_id: "s".into(), ..ContainerRecord::default() };
        state.add_container(record, None);
        state
    }

    fn status(finished_at: i64) -> ContainerStatus {
        ContainerStatus { id: "c".into(), pid: 7, started_at: 1, finished_at, ..ContainerStatus::default() }
    }

    #[test]
    fn an_end_that_is_heard_of_before_the_start_stays() {
        let state = state();
        assert_eq!(state.containers()[0].state, ContainerState::Created);
        state.heard(status(5));
        state.heard(status(0));
        assert_eq!(state.containers()[0].state, ContainerState::Exited);
        assert!(state.is_over("c"));
    }

    #[test]
    fn a_container_whose_shim_died_is_unknown() {
        let state = state();
        let mut events = state.events();
        state.heard(status(0));
        assert_eq!(events.try_recv().unwrap(), "u");
        assert!(!state.is_over("c"));
        state.shim_ended("s");
        assert_eq!(state.containers()[0].state, ContainerState::Unknown);
        assert_eq!(state.sandboxes()[0].state, SandboxState::NotReady);
        assert!(state.is_over("c"));
        assert_eq!(events.try_recv().unwrap(), "u");
    }
}
