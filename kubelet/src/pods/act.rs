//! Carries out what was planned.

use std::{fs, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod};
use kontiki_api::resources::{CONFIG_MAPS, SECRETS};
use kontiki_client::events::EventType;
use serde_json::Value;

use super::{
    back_off,
    config::{self, Parts},
    environment::{self, Sources},
    model::{self, Failure, Observed},
    mounts,
    plan::Action,
    worker::Worker,
};
use crate::{
    Options,
    runtime::{Container, ContainerState, Processes, RuntimeError},
    volumes::{self, Access, Folders},
};

/// Bytes of a termination message that are kept.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Why a container did not start.
struct NotStarted {
    reason: String,
    message: String,
    waiting: Option<(String, String)>,
}

impl From<super::pull::NoImage> for NotStarted {
    fn from(error: super::pull::NoImage) -> Self {
        Self { reason: error.reason.to_owned(), message: error.message, waiting: Some(error.waiting) }
    }
}

impl NotStarted {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into(), waiting: None }
    }
}

impl Worker {
    /// Carries out actions in their order; stops go together.
    pub(super) async fn act(&self, pod: &Pod, actions: &[Action], observed: &Observed) {
        let stops = actions.iter().filter(|action| matches!(action, Action::Stop { .. }));
        futures::future::join_all(stops.map(|action| self.one(pod, action, observed))).await;
        for action in actions.iter().filter(|action| !matches!(action, Action::Stop { .. })) {
            self.one(pod, action, observed).await;
        }
    }

    async fn one(&self, pod: &Pod, action: &Action, observed: &Observed) {
        let runtime = &self.options.runtime;
        let done = match action {
            Action::RunSandbox { attempt } => return self.run_sandbox(pod, *attempt).await,
            Action::Start { sandbox, container, attempt } => {
                return self.start(pod, sandbox, container, *attempt, observed).await;
            }
            Action::Resize { containers } => return self.resize(pod, containers, observed).await,
            Action::Stop { id, container, grace, message } => {
                self.stop(pod, id, container, *grace, message, observed).await;
                return;
            }
            Action::StopSandbox { id } => runtime.stop_sandbox(id).await,
            Action::RemoveSandbox { id } => runtime.remove_sandbox(id).await,
            Action::Remove { id } => {
                let removed = runtime.remove_container(id).await;
                if removed.is_ok() {
                    remove_log(observed, id).await;
                }
                removed
            }
        };
        if let Err(error) = done {
            tracing::warn!(pod = model::describe(pod), ?action, %error, "an action failed; it is planned again");
            // Not at once: what failed now would fail again.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn run_sandbox(&self, pod: &Pod, attempt: u32) {
        if !*self.options.network_ready.borrow() && !model::host_network(pod) {
            let message =
                "network is not ready: container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady";
            self.fail("", NotStarted::new("NetworkNotReady", message), Some(Duration::from_millis(200)));
            return;
        }
        match self.options.runtime.run_sandbox(config::sandbox(&self.options, pod, attempt)).await {
            Ok(_) => {
                self.memory.lock().failures.remove("");
            }
            Err(error) => {
                let message = format!("Failed to create pod sandbox: {error}");
                self.event(pod, EventType::Warning, "FailedCreatePodSandBox", &message);
                self.fail("", NotStarted::new("FailedCreatePodSandBox", message), Some(Duration::from_secs(2)));
            }
        }
    }

    /// Remembers a failure; the next attempt comes after `wait`, or after the usual back-off.
    fn fail(&self, name: &str, error: NotStarted, wait: Option<Duration>) {
        let mut memory = self.memory.lock();
        let times = memory.failures.get(name).map_or(1, |failure| failure.times.saturating_add(1));
        let wait = wait.unwrap_or_else(|| match error.reason.as_str() {
            // What is missing may come at any time; nobody is asked for much.
            "CreateContainerConfigError" | "ContainerCreating" | "RunContainerError" => back_off::RETRY,
            _ => back_off::after(times),
        });
        let retry_at = Timestamp::now().checked_add(SignedDuration::try_from(wait).unwrap_or_default()).unwrap_or(Timestamp::MAX);
        let waiting = error.waiting.unwrap_or_else(|| (error.reason.clone(), error.message.clone()));
        let failure = Failure { reason: error.reason, message: error.message, retry_at, times, waiting };
        memory.failures.insert(name.to_owned(), failure);
    }

    async fn start(&self, pod: &Pod, sandbox: &str, name: &str, attempt: u32, observed: &Observed) {
        let Some(spec) = model::container(pod, name) else { return };
        match self.try_start(pod, sandbox, &spec, attempt, observed).await {
            Ok(()) => {
                let mut memory = self.memory.lock();
                memory.failures.remove(name);
                let long = observed.newest(name).filter(|before| before.started_at > 0).is_some_and(|before| {
                    let ran = u64::try_from(before.finished_at.saturating_sub(before.started_at)).unwrap_or(0);
                    Duration::from_nanos(ran) >= back_off::LONG_RUN
                });
                let restarts = memory.restarts.entry(name.to_owned()).or_insert(0);
                *restarts = if attempt == 0 || long { 0 } else { restarts.saturating_add(1) };
            }
            Err(error) => {
                tracing::debug!(
                    pod = model::describe(pod),
                    container = name,
                    reason = error.reason,
                    error.message,
                    "not started"
                );
                self.fail(name, error, None);
            }
        }
    }

    async fn try_start(
        &self,
        pod: &Pod,
        sandbox: &str,
        spec: &ContainerSpec,
        attempt: u32,
        observed: &Observed,
    ) -> Result<(), NotStarted> {
        let address = self.address(pod, observed).map(|address| address.to_string()).unwrap_or_default();
        let sources = self.sources(pod, spec, address.clone()).await?;
        let folder = volumes::folder(&self.options.root, pod);
        let access = Access { client: &self.options.client, tokens: &self.tokens };
        let mut folders = volumes::prepare(&access, pod, &folder, &sources).await.map_err(|message| {
            self.event(pod, EventType::Warning, "FailedMount", &message);
            NotStarted::new("ContainerCreating", message)
        })?;
        self.image_volumes(pod, &folder, &mut folders).await?;
        let image = self.image(pod, spec).await.map_err(NotStarted::from)?;
        let refused = |message: String| {
            self.container_event(pod, spec, EventType::Warning, "Failed", &format!("Error: {message}"));
            NotStarted::new("CreateContainerConfigError", message)
        };
        let user = self.options.runtime.image_status(&image).await.ok().flatten().map(|image| image.user).unwrap_or_default();
        if let Some(message) = config::root_refusal(pod, spec, &user) {
            return Err(refused(message));
        }
        let environment = self.environment(pod, spec, &sources).map_err(refused)?;
        let seen = mounts::mounts(&self.options, pod, spec, attempt, &folders, &environment, &address).map_err(refused)?;
        let memory_capacity = self.options.capacity.memory_bytes;
        let processes = processes(pod, &spec.name, observed);
        let seccomp = config::seccomp(&self.options, pod, spec);
        let parts = Parts { image, environment, mounts: seen, attempt, memory_capacity, processes, seccomp };
        let config = config::container(pod, spec, parts);
        let runtime = &self.options.runtime;
        let words = |error: RuntimeError| match error {
            RuntimeError::Failed { message, .. } => message,
            other => other.to_string(),
        };
        let id = runtime.create_container(sandbox, config).await.map_err(|error| {
            let message = words(error);
            self.container_event(pod, spec, EventType::Warning, "Failed", &format!("Error: {message}"));
            NotStarted::new("CreateContainerError", message)
        })?;
        self.container_event(pod, spec, EventType::Normal, "Created", "Container created");
        if let Err(error) = runtime.start_container(&id).await {
            let message = words(error);
            // The container is there, ended with StartError: the restart policy takes it from here.
            self.container_event(pod, spec, EventType::Warning, "Failed", &format!("Error: {message}"));
            return Ok(());
        }
        self.memory.lock().actuated.insert(id.clone(), spec.resources.clone().unwrap_or_default());
        self.container_event(pod, spec, EventType::Normal, "Started", "Container started");
        self.after_start(pod, spec, &id, observed).await;
        Ok(())
    }

    /// Pulls the images that are volumes, and shows their files.
    async fn image_volumes(&self, pod: &Pod, folder: &std::path::Path, folders: &mut Folders) -> Result<(), NotStarted> {
        for volume in pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default() {
            let Some(source) = &volume.image else { continue };
            let reference = source.reference.as_deref().unwrap_or_default();
            let at = folder.join("kubernetes.io~image").join(&volume.name);
            let image = self.image_named(pod, None, reference, source.pull_policy.as_deref()).await.map_err(NotStarted::from)?;
            self.options.runtime.mount_image(&image, &at).await.map_err(|error| {
                let message = format!("MountVolume.SetUp failed for volume \"{}\" : {error}", volume.name);
                self.event(pod, EventType::Warning, "FailedMount", &message);
                NotStarted::new("ContainerCreating", message)
            })?;
            folders.insert(volume.name.clone(), at);
        }
        Ok(())
    }

    /// Writes limits to the groups of a pod that runs.
    async fn resize(&self, pod: &Pod, containers: &[(String, String)], observed: &Observed) {
        let runtime = &self.options.runtime;
        let sandbox = observed.sandboxes.last().map(|sandbox| sandbox.id.clone()).unwrap_or_default();
        // The pod's group may not have less than a container's: it grows before them and shrinks after them.
        let first = runtime.update_sandbox(&sandbox, config::pod_resources(pod)).await;
        let mut failed = None;
        for (id, name) in containers {
            let Some(spec) = model::container(pod, name) else { continue };
            let mut limits = config::resources(pod, spec.resources.as_ref(), self.options.capacity.memory_bytes);
            limits.oom_score_adj = None;
            match runtime.update_container(id, limits).await {
                Ok(()) => {
                    self.memory.lock().actuated.insert(id.clone(), spec.resources.clone().unwrap_or_default());
                }
                Err(error) => failed = Some(error),
            }
        }
        if first.is_err() {
            failed = runtime.update_sandbox(&sandbox, config::pod_resources(pod)).await.err().or(failed);
        }
        match failed {
            None => self.event(pod, EventType::Normal, "ResizeCompleted", "Pod resize completed"),
            Some(error) => {
                let message = format!("Error resizing pod: {error}");
                self.event(pod, EventType::Warning, "ResizeError", &message);
                tracing::debug!(pod = model::describe(pod), %error, "limits cannot be changed; they are tried again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn after_start(&self, pod: &Pod, spec: &ContainerSpec, id: &str, observed: &Observed) {
        let Some(handler) = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()) else { return };
        let Some(address) = self.address(pod, observed) else { return };
        if let Err(error) = self.hook(spec, id, address, handler, None).await {
            tracing::debug!(pod = model::describe(pod), error, "the hook after the start failed");
            self.container_event(pod, spec, EventType::Warning, "FailedPostStartHook", "PostStartHook failed");
            let grace = Duration::from_secs(u64::try_from(model::grace_seconds(pod)).unwrap_or(0));
            self.stop(pod, id, &spec.name, grace, "FailedPostStartHook", observed).await;
        }
    }

    async fn stop(&self, pod: &Pod, id: &str, name: &str, mut grace: Duration, message: &str, observed: &Observed) {
        if let Some(spec) = model::container(pod, name) {
            let spec = spec.as_ref();
            let message = if message.is_empty() { format!("Stopping container {name}") } else { message.to_owned() };
            self.container_event(pod, spec, EventType::Normal, "Killing", &message);
            let handler = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
            if let (Some(handler), Some(address), false) = (handler, self.address(pod, observed), grace.is_zero()) {
                let began = std::time::Instant::now();
                let hook = self.hook(spec, id, address, handler, Some(grace));
                if !matches!(tokio::time::timeout(grace, hook).await, Ok(Ok(()))) {
                    self.container_event(pod, spec, EventType::Warning, "FailedPreStopHook", "PreStopHook failed");
                }
                // Kubernetes leaves the container two seconds, whatever the hook took.
                grace = grace.saturating_sub(began.elapsed()).max(Duration::from_secs(2));
            }
        }
        if let Err(error) = self.options.runtime.stop_container(id, grace).await {
            tracing::warn!(pod = model::describe(pod), container = name, %error, "cannot stop a container");
        }
    }

    fn environment(&self, pod: &Pod, spec: &ContainerSpec, sources: &Sources) -> Result<Vec<(String, String)>, String> {
        let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
        let all = self.services.list();
        let services = environment::services(all.iter().map(AsRef::as_ref), model::namespace(pod), links);
        environment::build(pod, spec, services, sources)
    }

    /// Fetches what the environment refers to; what is missing is told later, unless the API does not answer.
    async fn sources(&self, pod: &Pod, spec: &ContainerSpec, pod_ip: String) -> Result<Sources, NotStarted> {
        let capacity = (self.options.capacity.cpu_millis, self.options.capacity.memory_bytes);
        let mut sources = Sources { pod_ip, host_ip: self.options.node_ip.to_string(), capacity, ..Sources::default() };
        let (config_maps, secrets) = environment::references(spec);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        for (kind, names) in [(CONFIG_MAPS, config_maps), (SECRETS, secrets)] {
            for name in names {
                let found: Result<Value, _> = self.options.client.get(kind, model::namespace(pod), &name).await;
                let object = match found {
                    Ok(object) => object,
                    Err(error) if error.is_not_found() => continue,
                    Err(error) => return Err(NotStarted::new("CreateContainerConfigError", error.to_string())),
                };
                let bytes = if kind == SECRETS { volumes::secret_bytes(&object) } else { volumes::config_map_bytes(&object) };
                let entries = bytes.into_iter().map(|(key, value)| (key, text(value))).collect();
                let into = if kind == SECRETS { &mut sources.secrets } else { &mut sources.config_maps };
                into.insert(name, entries);
            }
        }
        Ok(sources)
    }

    /// Brings the volumes of a running pod up to date.
    pub(super) async fn refresh_volumes(&self, pod: &Pod, observed: &Observed) {
        let address = self.address(pod, observed).map(|address| address.to_string()).unwrap_or_default();
        let capacity = (self.options.capacity.cpu_millis, self.options.capacity.memory_bytes);
        let sources = Sources { pod_ip: address, host_ip: self.options.node_ip.to_string(), capacity, ..Sources::default() };
        let access = Access { client: &self.options.client, tokens: &self.tokens };
        let folder = volumes::folder(&self.options.root, pod);
        if let Err(error) = volumes::prepare(&access, pod, &folder, &sources).await {
            tracing::debug!(pod = model::describe(pod), error, "cannot refresh the pod's volumes");
        }
    }
}

/// Nobody can ask for the log of a container that is gone.
async fn remove_log(observed: &Observed, id: &str) {
    let Some(container) = observed.containers.iter().find(|container| container.id == id) else { return };
    let log = container.log_path.clone();
    let removed = tokio::task::spawn_blocking(move || crate::log_rotation::remove(&log));
    if let Ok(Err(error)) = removed.await {
        tracing::warn!(container = id, %error, "cannot remove the log of a container that is gone");
    }
}

/// Whose processes a container sees: one that looks into another sees that one's.
fn processes(pod: &Pod, name: &str, observed: &Observed) -> Processes {
    let own = config::processes(pod);
    let ephemeral = model::ephemeral_containers(pod).iter().find(|container| container.name == name);
    let target = ephemeral.and_then(|container| container.target_container_name.as_deref()).filter(|name| !name.is_empty());
    let target = target.and_then(|target| observed.newest(target)).filter(|target| target.state == ContainerState::Running);
    match target {
        Some(target) if own == Processes::Own => Processes::Of(target.id.clone()),
        _ => own,
    }
}

/// What a container left for those who ask why it ended.
/// <https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>
pub(super) fn termination_message(options: &Options, pod: &Pod, spec: &ContainerSpec, container: &Container) -> String {
    let left = fs::read(mounts::message_file(options, pod, &container.name, container.attempt)).unwrap_or_default();
    let from_logs = spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if left.is_empty() && from_logs && container.exit_code != 0 {
        return crate::server::last_lines(&container.log_path, 80, 2048);
    }
    String::from_utf8_lossy(&left[..left.len().min(MESSAGE_BYTES_MAX)]).into_owned()
}
