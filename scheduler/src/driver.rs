//! The loop around the decision: who is next, bind it, tell why not.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kontiki_api::resources::{NODES, PODS};
use kontiki_client::{
    Client, Error, Patch,
    events::{EventType, ObjectReference, Recorder},
    reflector::{Change, Reflector, ReflectorOptions},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    Options,
    cycle::{Decision, decide},
    model::{Node, Pod},
    snapshot::{Snapshot, add, snapshot},
};

/// Bindings on their way at the same time.
const BINDS_MAX: usize = 64;
/// First and longest wait before a pod that fitted nowhere is tried again without news.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// A binding that nobody has seen for this long did not happen.
const ASSUMED_FOR: Duration = Duration::from_secs(30);

/// A pod that fitted nowhere.
struct Refused {
    message: String,
    again: Instant,
    wait: Duration,
}

struct Driver {
    client: Client,
    recorder: Recorder,
    pods: Reflector<Pod>,
    nodes: Reflector<Node>,
    /// Bindings that the watch has not shown yet: pod's UID to node and when.
    assumed: Arc<Mutex<BTreeMap<String, (String, Instant)>>>,
    changed: Arc<Notify>,
    binds: Arc<Semaphore>,
}

/// Schedules until `cancel`.
pub async fn lead(options: Options, cancel: CancellationToken) {
    let changed = Arc::new(Notify::new());
    let client = options.client.clone();
    // News that may make room, beside the pods that come.
    let room = Arc::new(Mutex::new(false));
    let (notify, makes_room) = (Arc::clone(&changed), Arc::clone(&room));
    let on_pod = move |change: &Change<Pod>| {
        let left = change.old.as_ref().is_some_and(|old| !old.spec.node_name.is_empty() && !old.has_ended());
        let there = change.new.as_ref().is_some_and(|new| !new.has_ended());
        *makes_room.lock() |= left && !there;
        notify.notify_one();
    };
    let pods = Reflector::start(client.clone(), PODS, ReflectorOptions::default(), on_pod, cancel.clone());
    let (notify, makes_room) = (Arc::clone(&changed), Arc::clone(&room));
    let on_node = move |_: &Change<Node>| {
        *makes_room.lock() = true;
        notify.notify_one();
    };
    let nodes = Reflector::start(client.clone(), NODES, ReflectorOptions::default(), on_node, cancel.clone());
    let recorder = Recorder::start(client.clone(), "default-scheduler", "", cancel.clone());
    let driver =
        Driver { client, recorder, pods, nodes, assumed: Arc::default(), changed, binds: Arc::new(Semaphore::new(BINDS_MAX)) };
    let work = async {
        tokio::join!(driver.pods.synced(), driver.nodes.synced());
        driver.run(&room).await;
    };
    tokio::select! {
        () = work => {}
        () = cancel.cancelled() => {}
    }
}

impl Driver {
    async fn run(&self, room: &Mutex<bool>) {
        let mut refused: HashMap<String, Refused> = HashMap::new();
        let mut turn = 0;
        loop {
            let pods = self.pods.list();
            let mut cluster = self.snapshot(&pods);
            let fresh = std::mem::take(&mut *room.lock());
            let waiting = self.waiting(&pods);
            refused.retain(|uid, _| waiting.iter().any(|pod| pod.metadata.uid == *uid));
            for pod in waiting {
                let uid = &pod.metadata.uid;
                let before = refused.get(uid);
                if before.is_some_and(|before| !fresh && before.again > Instant::now()) {
                    continue;
                }
                turn += 1;
                match decide(&pod, &cluster, turn) {
                    Decision::Node(node) => {
                        refused.remove(uid);
                        self.bind(&pod, node.clone()).await;
                        if let Some(info) = cluster.nodes.iter_mut().find(|info| info.node.metadata.name == node) {
                            add(info, pod);
                        }
                    }
                    Decision::Unschedulable(message) => {
                        let wait = before.map_or(BACK_OFF.0, |before| (before.wait * 2).min(BACK_OFF.1));
                        if before.is_none_or(|before| before.message != message) {
                            self.refuse(&pod, &message).await;
                        }
                        refused.insert(uid.clone(), Refused { message, again: Instant::now() + wait, wait });
                    }
                }
            }
            let due = refused.values().map(|refused| refused.again).min();
            let wait = due.map_or(BACK_OFF.1, |due| due.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(wait.max(Duration::from_millis(10))) => {}
            }
        }
    }

    /// Pods that wait, the most important first, then the oldest.
    fn waiting(&self, pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let assumed = self.assumed.lock();
        let waits = |pod: &&Arc<Pod>| pod.waits() && !assumed.contains_key(&pod.metadata.uid);
        let mut waiting: Vec<_> = pods.iter().filter(waits).cloned().collect();
        waiting.sort_by_key(|pod| (-pod.spec.priority, pod.metadata.creation_timestamp, pod.metadata.name.clone()));
        waiting
    }

    fn snapshot(&self, pods: &[Arc<Pod>]) -> Snapshot {
        let mut assumed = self.assumed.lock();
        let unbound = |uid: &String| pods.iter().any(|pod| pod.metadata.uid == *uid && pod.spec.node_name.is_empty());
        assumed.retain(|uid, (_, at)| unbound(uid) && at.elapsed() < ASSUMED_FOR);
        let bindings = assumed.iter().map(|(uid, (node, _))| (uid.clone(), node.clone())).collect();
        snapshot(self.nodes.list(), pods, &bindings)
    }

    /// Binds in the background: the next decision counts on it.
    async fn bind(&self, pod: &Arc<Pod>, node: String) {
        let uid = pod.metadata.uid.clone();
        self.assumed.lock().insert(uid.clone(), (node.clone(), Instant::now()));
        let Ok(permit) = Arc::clone(&self.binds).acquire_owned().await else { return };
        let (client, recorder, pod) = (self.client.clone(), self.recorder.clone(), Arc::clone(pod));
        let (assumed, changed) = (Arc::clone(&self.assumed), Arc::clone(&self.changed));
        tokio::spawn(async move {
            let meta = &pod.metadata;
            let binding = json!({
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": { "name": meta.name, "namespace": meta.namespace, "uid": uid },
                "target": { "apiVersion": "v1", "kind": "Node", "name": node },
            });
            let bound = client.create_subresource::<Value>(PODS, &meta.namespace, &meta.name, "binding", &binding).await;
            match bound {
                Ok(_) => {
                    let message = format!("Successfully assigned {}/{} to {node}", meta.namespace, meta.name);
                    recorder.event(&reference(&pod), EventType::Normal, "Scheduled", message);
                }
                Err(error) => {
                    // Bound or gone already, or not bound: the next look decides on what is.
                    if !error.is_conflict() && !error.is_not_found() {
                        tracing::warn!(pod = meta.name, namespace = meta.namespace, %error, "cannot bind; trying again");
                    }
                    assumed.lock().remove(&uid);
                    changed.notify_one();
                }
            }
            drop(permit);
        });
    }

    async fn refuse(&self, pod: &Pod, message: &str) {
        self.recorder.event(&reference(pod), EventType::Warning, "FailedScheduling", message);
        if let Err(error) = self.mark(pod, message).await
            && !error.is_not_found()
            && !error.is_conflict()
        {
            tracing::warn!(pod = pod.metadata.name, %error, "cannot write the pod's condition");
        }
    }

    async fn mark(&self, pod: &Pod, message: &str) -> Result<(), Error> {
        let meta = &pod.metadata;
        let before =
            pod.status.conditions.iter().find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False");
        let since = before.and_then(|before| before["lastTransitionTime"].as_str().map(str::to_owned));
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastProbeTime": null, "lastTransitionTime": since.unwrap_or(now),
        });
        let patch = Patch::Strategic(json!({ "metadata": { "uid": meta.uid }, "status": { "conditions": [condition] } }));
        self.client.patch::<Value>(PODS, &meta.namespace, &meta.name, Some("status"), patch).await.map(drop)
    }
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        field_path: String::new(),
    }
}
