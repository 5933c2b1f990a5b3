//! All pods of the node: a worker for each, and the removal of what no pod claims.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kontiki_api::resources::{PODS, SERVICES};
use kontiki_client::{
    events::Recorder,
    reflector::{Reflector, ReflectorOptions},
};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::{
    all::Pods,
    environment::Service,
    handle::Handle,
    model::{self, Ended},
    worker::{Desired, Shared, Worker},
};
use crate::{
    Options,
    health::NodeHealth,
    runtime::Runtime,
    static_pods,
    volumes::{Tokens, objects::Objects},
};

/// How long what no pod claims may take to end.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);

/// Keeps a worker for each pod.
pub struct Manager {
    options: Options,
    pods: Pods,
    services: Reflector<Service>,
    changed: Arc<Notify>,
    recorder: Recorder,
    tokens: Arc<Tokens>,
    objects: Arc<Objects>,
    health: NodeHealth,
    handle: Handle,
}

struct Running {
    desired: watch::Sender<Desired>,
    wake: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Whether it works for a pod of the same name.
    fn has_name_of(&self, pod: &Pod) -> bool {
        let own = &self.desired.borrow().pod;
        !self.task.is_finished() && model::namespace(own) == model::namespace(pod) && model::name(own) == model::name(pod)
    }
}

impl Manager {
    /// Begins to follow the node's pods.
    pub fn start(options: Options, health: NodeHealth, recorder: Recorder, cancel: CancellationToken) -> Self {
        let changed = Arc::new(Notify::new());
        let mirrors = Arc::new(Notify::new());
        let ring = {
            let (changed, mirrors) = (Arc::clone(&changed), Arc::clone(&mirrors));
            move || {
                changed.notify_one();
                mirrors.notify_one();
            }
        };
        let news = ring.clone();
        let ours = ReflectorOptions { field_selector: format!("spec.nodeName={}", options.node_name), ..Default::default() };
        let api = Reflector::start(options.client.clone(), PODS, ours, move |_| news(), cancel.clone());
        let folder = options.configuration.static_pods.clone();
        let statics = static_pods::start(folder, options.node_name.clone(), ring, cancel.clone());
        let pods = Pods::new(api, statics, mirrors);
        let all = ReflectorOptions::default();
        let services = Reflector::start(options.client.clone(), SERVICES, all, |_| {}, cancel);
        let objects = Arc::new(Objects::new(options.client.clone()));
        let handle = Handle::new(pods.clone(), Arc::clone(&changed));
        Self { options, pods, services, changed, recorder, tokens: Arc::default(), objects, health, handle }
    }

    /// The way to the pods for other parts of the kubelet.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The node's pods.
    pub fn pods(&self) -> Pods {
        self.pods.clone()
    }

    /// Works until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        let mut workers: HashMap<String, Running> = HashMap::new();
        let mut events = self.options.runtime.events();
        tokio::select! {
            () = async { tokio::join!(self.pods.synced(), self.services.synced()); } => {}
            () = cancel.cancelled() => return,
        }
        tokio::spawn(remove_orphans(Arc::clone(&self.options.runtime), self.pods.clone()));
        let mut sweep = tokio::time::interval(Duration::from_secs(1));
        loop {
            self.assign(&mut workers, &cancel);
            tokio::select! {
                () = self.changed.notified() => {}
                event = events.recv() => match event {
                    Ok(uid) => if let Some(worker) = workers.get(&uid) { worker.wake.notify_one() },
                    Err(broadcast::error::RecvError::Lagged(_)) => workers.values().for_each(|worker| worker.wake.notify_one()),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                _ = sweep.tick() => workers.retain(|_, worker| !worker.task.is_finished()),
                () = cancel.cancelled() => return,
            }
        }
    }

    /// Gives each worker its pod as it is now, and new pods a worker.
    fn assign(&self, workers: &mut HashMap<String, Running>, cancel: &CancellationToken) {
        let pods = self.pods.list();
        for pod in &pods {
            let uid = model::uid(pod);
            let ended = self.handle.ended(uid);
            match workers.get(uid).filter(|worker| !worker.task.is_finished()) {
                Some(worker) => {
                    worker.desired.send_if_modified(|desired| {
                        let changed = !Arc::ptr_eq(&desired.pod, pod) || desired.ended != ended;
                        desired.pod = Arc::clone(pod);
                        desired.ended = ended;
                        changed
                    });
                }
                // A file that has changed is another pod of the same name, which waits for the end of the one before.
                None if model::is_static(pod) && workers.values().any(|worker| worker.has_name_of(pod)) => {}
                None => {
                    workers.insert(uid.to_owned(), self.start_worker(Arc::clone(pod), ended, cancel));
                }
            }
        }
        self.handle.keep(|uid| pods.iter().any(|pod| model::uid(pod) == uid));
        for (uid, worker) in workers.iter() {
            if !pods.iter().any(|pod| model::uid(pod) == uid) {
                worker.desired.send_if_modified(|desired| !std::mem::replace(&mut desired.removed, true));
            }
        }
    }

    fn start_worker(&self, pod: Arc<Pod>, ended: Option<Ended>, cancel: &CancellationToken) -> Running {
        let (desired, receiver) = watch::channel(Desired { pod, removed: false, ended });
        let wake = Arc::new(Notify::new());
        let shared = Shared {
            options: self.options.clone(),
            services: self.services.clone(),
            tokens: Arc::clone(&self.tokens),
            pods: self.pods.clone(),
            objects: Arc::clone(&self.objects),
            health: self.health.clone(),
        };
        let worker = Worker::new(shared, self.recorder.clone(), Arc::clone(&wake));
        let task = tokio::spawn(Arc::new(worker).run(receiver, cancel.clone()));
        Running { desired, wake, task }
    }
}

/// Removes sandboxes whose pods went while no kubelet ran.
async fn remove_orphans(runtime: Arc<dyn Runtime>, pods: Pods) {
    let known = pods.list();
    let sandboxes = runtime.list_sandboxes().await.unwrap_or_default();
    let containers = runtime.list_containers().await.unwrap_or_default();
    for sandbox in sandboxes.iter().filter(|sandbox| !known.iter().any(|pod| model::uid(pod) == sandbox.pod_uid)) {
        let inside = containers.iter().filter(|container| container.sandbox_id == sandbox.id);
        futures::future::join_all(inside.map(|container| runtime.stop_container(&container.id, ORPHAN_GRACE))).await;
        let removed = async {
            runtime.stop_sandbox(&sandbox.id).await?;
            runtime.remove_sandbox(&sandbox.id).await
        };
        match removed.await {
            Ok(()) => tracing::info!(pod = sandbox.pod_name, namespace = sandbox.pod_namespace, "removed what was left of a pod"),
            Err(error) => tracing::warn!(pod = sandbox.pod_name, %error, "cannot remove what is left of a pod"),
        }
    }
}
