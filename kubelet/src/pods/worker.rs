//! The worker of one pod: look, plan, act, report, wait.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod};
use kontiki_api::resources::PODS;
use kontiki_client::{
    DeleteOptions,
    events::{EventType, Recorder},
    reflector::Reflector,
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Pods,
    environment::Service,
    model::{self, Ended, Memory, Observed},
    plan::{self, Plan},
    reporter,
    resize::Allocation,
    status::Input,
};
use crate::{
    Options,
    health::NodeHealth,
    probes::{self, Asker, Kind, Told, Verdicts},
    runtime::{Container, ContainerState},
    volumes::{
        Tokens,
        objects::{Objects, User},
    },
};

/// Without news a worker looks again after this time: volumes are refreshed, losses noticed.
const RESYNC: Duration = Duration::from_secs(60);

/// What the API says of a pod.
#[derive(Clone)]
pub struct Desired {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Whether the API no longer has it.
    pub removed: bool,
    /// Whether and why the node ends it.
    pub ended: Option<Ended>,
}

/// What all workers of a node have in common. Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    /// The kubelet's options.
    pub options: Options,
    /// All Services.
    pub services: Reflector<Service>,
    /// Tokens that were fetched before.
    pub tokens: Arc<Tokens>,
    /// The node's pods.
    pub pods: Pods,
    /// ConfigMaps and Secrets that are followed.
    pub objects: Arc<Objects>,
    /// How the node is.
    pub health: NodeHealth,
}

/// The worker's lasting parts.
pub struct Worker {
    pub(super) options: Options,
    pub(super) services: Reflector<Service>,
    pub(super) tokens: Arc<Tokens>,
    /// The node's pods: what the others have is not there for this one.
    pub(super) pods: Pods,
    /// Tells of changes of the objects that the pod refers to.
    pub(super) objects: Arc<Objects>,
    pub(super) user: User,
    pub(super) health: NodeHealth,
    pub(super) memory: Mutex<Memory>,
    recorder: Recorder,
    /// Rung when the runtime or a probe has news.
    pub(super) wake: Arc<Notify>,
    probers: Mutex<HashMap<String, Prober>>,
    /// What probers have found and no step has seen yet.
    news: Arc<Mutex<Vec<(String, Kind, bool)>>>,
    /// Waits that an event has told of, by container.
    told: Mutex<HashMap<String, String>>,
}

/// The probes of one running container.
struct Prober {
    cancel: CancellationToken,
    started: watch::Sender<bool>,
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Worker {
    pub(super) fn new(shared: Shared, recorder: Recorder, wake: Arc<Notify>) -> Self {
        let Shared { options, services, tokens, pods, objects, health } = shared;
        let user = User { wake: Arc::clone(&wake), ..User::default() };
        Self {
            options,
            services,
            tokens,
            pods,
            objects,
            user,
            health,
            memory: Mutex::default(),
            recorder,
            wake,
            probers: Mutex::default(),
            news: Arc::default(),
            told: Mutex::default(),
        }
    }

    /// Works until nothing of the pod is left, or `cancel`: then containers go on without it.
    pub(super) async fn run(self: Arc<Self>, mut desired: watch::Receiver<Desired>, cancel: CancellationToken) {
        let first = desired.borrow().pod.clone();
        {
            let mut memory = self.memory.lock();
            memory.start_time = Some(start_time(&first).unwrap_or_else(Timestamp::now));
            memory.count_known(&first);
            memory.allocation = Allocation::known(&first);
        }
        self.admit(&first).await;
        let target = reporter::Target {
            client: self.options.client.clone(),
            namespace: model::namespace(&first).to_owned(),
            name: model::name(&first).to_owned(),
            uid: model::uid(&first).to_owned(),
            pods: self.pods.clone(),
            again: Arc::default(),
        };
        let again = Arc::clone(&target.again);
        let (status, statuses) = watch::channel(Value::Null);
        let (sent_sender, mut sent) = watch::channel(Value::Null);
        let reporter = tokio::spawn(reporter::run(target, statuses, sent_sender));
        let mut refreshed = tokio::time::Instant::now();
        let mut seen = Arc::clone(&first);
        self.follow(&first);
        let work = async {
            loop {
                let now = desired.borrow_and_update().clone();
                let edited = is_edited(&seen, &now.pod);
                if edited {
                    self.follow(&now.pod);
                }
                let stale = self.user.stale.swap(false, Ordering::AcqRel) || edited;
                if stale {
                    self.forgive();
                }
                if !Arc::ptr_eq(&seen, &now.pod) && *sent.borrow() == *status.borrow() && !shows(&now.pod, &sent.borrow()) {
                    // Somebody else wrote to the status: what is true is said again.
                    again.store(true, Ordering::Release);
                    status.send_modify(|_| {});
                }
                seen = Arc::clone(&now.pod);
                let plan = {
                    let step = self.step(&now, &status);
                    tokio::pin!(step);
                    // Whoever deletes a pod does not wait for an image; a shorter grace period counts at once.
                    tokio::select! {
                        plan = &mut step => Some(plan),
                        changed = desired.changed() => if changed.is_ok() && is_urgent(&now, &desired.borrow()) { None } else { Some(step.await) },
                    }
                };
                let Some(plan) = plan else { continue };
                if plan.gone {
                    let last = status.borrow().clone();
                    // The API keeps the pod's last state until everybody has seen it.
                    let _ = sent.wait_for(|sent| *sent == last || last.is_null()).await;
                    self.finish(&now).await;
                    return;
                }
                if !plan.actions.is_empty() {
                    continue;
                }
                let due = stale || refreshed.elapsed() >= RESYNC;
                if due && !now.removed && !model::is_deleted(&now.pod) && crate::volumes::changes(&now.pod) {
                    let observed = self.observe(model::uid(&now.pod)).await;
                    self.refresh_volumes(&now.pod, &observed).await;
                    refreshed = tokio::time::Instant::now();
                }
                let until = plan.wake.map_or(RESYNC, |at| wait_until(at).min(RESYNC));
                tokio::select! {
                    changed = desired.changed() => if changed.is_err() { return },
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep(until) => {}
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = cancel.cancelled() => {}
        }
        self.objects.follow(model::uid(&first), &BTreeSet::new(), &self.user);
        self.probers.lock().clear();
        reporter.abort();
    }

    /// One round. The plan is what was carried out.
    async fn step(&self, desired: &Desired, status: &watch::Sender<Value>) -> Plan {
        let observed = self.observe(model::uid(&desired.pod)).await;
        let pod = &self.allocate(&desired.pod, &observed);
        let now = Timestamp::now();
        self.take_news();
        self.keep_probing(pod, &observed);
        self.check_deadline(pod, now);
        if let Some(ended) = &desired.ended {
            self.memory.lock().ended.get_or_insert_with(|| ended.clone());
        }
        self.read_messages(pod, &observed);
        let memory = {
            let mut memory = self.memory.lock();
            memory.count_runs(&observed);
            memory.clone()
        };
        let plan = plan::plan(pod, desired.removed, &observed, &memory, now);
        self.tell_of_waits(pod, &plan);
        if !desired.removed {
            self.report(pod, &observed, &memory, &plan.waiting, status);
        }
        self.act(pod, &plan.actions, &observed).await;
        plan
    }

    /// An event for each container that begins to wait for its next attempt.
    fn tell_of_waits(&self, pod: &Pod, plan: &Plan) {
        let mut told = self.told.lock();
        told.retain(|name, _| plan.waiting.contains_key(name));
        for (name, (reason, message)) in &plan.waiting {
            if told.get(name) == Some(message) {
                continue;
            }
            told.insert(name.clone(), message.clone());
            let Some(spec) = model::container(pod, name) else { continue };
            let spec = spec.as_ref();
            if reason == "CrashLoopBackOff" {
                let text = format!("Back-off restarting failed container {name} in pod {}", model::describe(pod));
                self.container_event(pod, spec, EventType::Warning, "BackOff", &text);
            } else if reason == "ImagePullBackOff" {
                let text = format!("Back-off pulling image \"{}\"", spec.image.as_deref().unwrap_or_default());
                self.container_event(pod, spec, EventType::Normal, "BackOff", &text);
                self.container_event(pod, spec, EventType::Warning, "Failed", "Error: ImagePullBackOff");
            }
        }
    }

    fn report(
        &self,
        pod: &Pod,
        observed: &Observed,
        memory: &Memory,
        waiting: &BTreeMap<String, (String, String)>,
        status: &watch::Sender<Value>,
    ) {
        // What is gone is gone: the last thing that was told of it stays.
        let is_settled = model::is_deleted(pod) || matches!(model::phase(pod), "Succeeded" | "Failed");
        if observed.sandboxes.is_empty() && observed.containers.is_empty() && is_settled {
            return;
        }
        let mut waits = waiting.clone();
        for (name, failure) in memory.failures.iter().filter(|(name, _)| !name.is_empty()) {
            let fresh = failure.retry_at > Timestamp::now();
            if fresh && failure.times <= 1 {
                // The first look after a failure shows the failure itself.
                waits.insert(name.clone(), (failure.reason.clone(), failure.message.clone()));
            }
        }
        let now = Timestamp::now();
        let built = Input { pod, observed, memory, waiting: &waits, node_ip: self.options.node_ip, now }.build();
        status.send_if_modified(|before| {
            let changed = without_times(before) != without_times(&built);
            if changed {
                *before = built;
            }
            changed
        });
    }

    pub(super) async fn observe(&self, uid: &str) -> Observed {
        let sandboxes = self.options.runtime.list_sandboxes().await.unwrap_or_default();
        let mut sandboxes: Vec<_> = sandboxes.into_iter().filter(|sandbox| sandbox.pod_uid == uid).collect();
        sandboxes.sort_by_key(|sandbox| sandbox.attempt);
        let containers = self.options.runtime.list_containers().await.unwrap_or_default();
        let ours = |container: &Container| sandboxes.iter().any(|sandbox| sandbox.id == container.sandbox_id);
        let containers = containers.into_iter().filter(ours).collect();
        Observed { sandboxes, containers }
    }

    fn check_deadline(&self, pod: &Pod, now: Timestamp) {
        let mut memory = self.memory.lock();
        if plan::deadline(pod, &memory).is_some_and(|deadline| deadline <= now) && memory.ended.is_none() {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            memory.ended = Some(model::Ended { reason: "DeadlineExceeded".to_owned(), message, ..model::Ended::default() });
        }
    }

    /// Messages that ended containers left in their files.
    fn read_messages(&self, pod: &Pod, observed: &Observed) {
        for container in observed.containers.iter().filter(|container| container.state == ContainerState::Exited) {
            if self.memory.lock().messages.contains_key(&container.id) {
                continue;
            }
            let Some(spec) = model::container(pod, &container.name) else { continue };
            let message = super::act::termination_message(&self.options, pod, &spec, container);
            self.memory.lock().messages.insert(container.id.clone(), message);
        }
    }

    /// The pod is deleted from the API, and its folders from the node.
    async fn finish(&self, desired: &Desired) {
        let pod = &desired.pod;
        let folder = self.options.root.join("pods").join(model::uid(pod));
        let logs = super::config::log_directory(&self.options, pod);
        let cleaned = tokio::task::spawn_blocking(move || {
            crate::volumes::remove(&folder)?;
            crate::volumes::remove(&logs)
        });
        if let Ok(Err(error)) = cleaned.await {
            tracing::warn!(pod = model::describe(pod), %error, "cannot remove the pod's folders");
        }
        if desired.removed {
            return;
        }
        let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::with_uid(model::uid(pod)) };
        let mut pause = Duration::from_millis(50);
        loop {
            match self.options.client.delete(PODS, model::namespace(pod), model::name(pod), &options).await {
                Ok(()) => return,
                Err(error) if error.is_not_found() || error.is_conflict() => return,
                Err(error) => tracing::warn!(pod = model::describe(pod), %error, "cannot delete the pod; trying again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }

    /// Starts and ends probers so that each running container has its own.
    fn keep_probing(&self, pod: &Pod, observed: &Observed) {
        let running: Vec<_> = observed.containers.iter().filter(|container| container.state == ContainerState::Running).collect();
        let mut probers = self.probers.lock();
        probers.retain(|id, _| running.iter().any(|container| container.id == *id));
        self.memory.lock().verdicts.retain(|id, _| observed.containers.iter().any(|container| container.id == *id));
        if model::is_deleted(pod) {
            // Probes of a pod that ends would only disturb it; readiness stays as it was.
            return;
        }
        for container in running {
            let Some(spec) = model::container(pod, &container.name) else { continue };
            if !probers.contains_key(&container.id)
                && let Some(address) = self.address(pod, observed)
            {
                probers.insert(container.id.clone(), self.start_probes(pod, &spec, container, address));
            }
        }
    }

    /// Address at which the pod is reached.
    pub(super) fn address(&self, pod: &Pod, observed: &Observed) -> Option<IpAddr> {
        if model::host_network(pod) {
            return Some(self.options.node_ip);
        }
        observed.sandboxes.last().and_then(|sandbox| sandbox.ips.first()).and_then(|ip| ip.parse().ok())
    }

    fn start_probes(&self, pod: &Pod, spec: &ContainerSpec, container: &Container, address: IpAddr) -> Prober {
        let (started, has_started) = watch::channel(spec.startup_probe.is_none());
        let prober = Prober { cancel: CancellationToken::new(), started };
        let spec = Arc::new(spec.clone());
        for kind in [Kind::Startup, Kind::Liveness, Kind::Readiness] {
            let Some(probe) = kind.of(&spec) else { continue };
            let asker = Asker {
                runtime: Arc::clone(&self.options.runtime),
                container_id: container.id.clone(),
                address,
                spec: Arc::clone(&spec),
            };
            let tell = self.teller(pod, &spec, &container.id);
            tokio::spawn(probes::run(kind, probe.clone(), asker, has_started.clone(), tell, prober.cancel.clone()));
        }
        prober
    }

    /// What a prober calls; it must not keep the worker alive.
    fn teller(&self, pod: &Pod, spec: &ContainerSpec, id: &str) -> probes::Tell {
        let (recorder, object) = (self.recorder.clone(), model::reference(pod, Some(spec)));
        let (wake, id) = (Arc::clone(&self.wake), id.to_owned());
        let found = self.news.clone();
        Arc::new(move |kind, told| match told {
            Told::Failure(message) => {
                recorder.event(&object, EventType::Warning, "Unhealthy", format!("{} probe failed: {message}", kind.title()));
            }
            Told::Verdict(verdict) => {
                found.lock().push((id.clone(), kind, verdict));
                wake.notify_one();
            }
        })
    }

    /// Records an event of the pod.
    pub(super) fn event(&self, pod: &Pod, kind: EventType, reason: &str, message: &str) {
        self.recorder.event(&model::reference(pod, None), kind, reason, message);
    }

    /// Records an event of a container.
    pub(super) fn container_event(&self, pod: &Pod, spec: &ContainerSpec, kind: EventType, reason: &str, message: &str) {
        self.recorder.event(&model::reference(pod, Some(spec)), kind, reason, message);
    }
}

pub(super) fn start_time(pod: &Pod) -> Option<Timestamp> {
    pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0)
}

/// Whether somebody changed the pod, its status apart.
fn is_edited(before: &Pod, after: &Pod) -> bool {
    let parts = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone(), pod.metadata.generation);
    parts(before) != parts(after)
}

/// Whether the API has what was last reported of a pod.
fn shows(pod: &Pod, sent: &Value) -> bool {
    let shown = serde_json::to_value(&pod.status).unwrap_or_default();
    reporter::covers(&shown, sent)
}

fn is_urgent(before: &Desired, after: &Desired) -> bool {
    let grace = |desired: &Desired| desired.pod.metadata.deletion_grace_period_seconds;
    before.removed != after.removed
        || model::is_deleted(&before.pod) != model::is_deleted(&after.pod)
        || grace(before) != grace(after)
        || before.ended != after.ended
}

fn wait_until(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default() + Duration::from_millis(1)
}

/// A status without what differs by the moment it was made at alone.
fn without_times(status: &Value) -> Value {
    let mut bare = status.clone();
    for condition in bare["conditions"].as_array_mut().into_iter().flatten() {
        if let Some(fields) = condition.as_object_mut() {
            fields.remove("lastTransitionTime");
        }
    }
    bare
}

impl Worker {
    /// Takes over what the probers have found.
    pub(super) fn take_news(&self) {
        let news = std::mem::take(&mut *self.news.lock());
        let mut memory = self.memory.lock();
        for (id, kind, verdict) in news {
            let verdicts: &mut Verdicts = memory.verdicts.entry(id.clone()).or_default();
            match kind {
                Kind::Liveness => verdicts.live = Some(verdict),
                Kind::Readiness => verdicts.ready = Some(verdict),
                Kind::Startup => {
                    verdicts.started = Some(verdict);
                    if let Some(prober) = self.probers.lock().get(&id) {
                        prober.started.send_replace(verdict);
                    }
                }
            }
        }
    }
}
