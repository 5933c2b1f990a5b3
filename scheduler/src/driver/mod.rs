//! The loop around the decision: take the news in, decide on whose turn it is, bind in the background, tell why not.

mod bind;
mod inbox;
mod observe;
mod report;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kontiki_client::{
    Client,
    events::{EventType, Recorder},
};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use self::{bind::BindError, observe::Observed};
use crate::{
    Options,
    cluster::{Cluster, Promise},
    cycle::{Decision, Refused, Scheduler},
    metrics::{self, Outcome},
    model::Pod,
    plugins::volume_binding::Plan,
    queue::{Next, Queue},
};

/// Bindings on their way at the same time: enough that the store groups them into few entries of its log.
const BINDS_MAX: usize = 256;
/// Pods that wait for their volumes at the same time.
const VOLUMES_MAX: usize = 1024;
/// Decisions between two looks at the news.
const BATCH: usize = 128;
/// Statuses and evictions on their way at the same time.
const REPORTS_MAX: usize = 32;
/// Wait without any news.
const IDLE: Duration = Duration::from_secs(10);

/// How a binding went.
struct Ended {
    uid: String,
    failed: bool,
    promises: Vec<Promise>,
}

struct Driver {
    client: Client,
    recorder: Recorder,
    schedulers: Vec<String>,
    cluster: Cluster,
    queue: Queue,
    scheduler: Scheduler,
    binds: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    reports: Arc<Semaphore>,
    ended: mpsc::Sender<Ended>,
}

/// Schedules until `cancel`.
pub async fn lead(options: Options, cancel: CancellationToken) {
    let changed = Arc::new(Notify::new());
    let mut observed = Observed::open(&options.client, &changed, &cancel);
    let recorder = Recorder::start(options.client.clone(), &options.scheduler_names[0], "", cancel.clone());
    let (ended, mut endings) = mpsc::channel(BINDS_MAX + VOLUMES_MAX);
    let mut driver = Driver {
        client: options.client,
        recorder,
        schedulers: options.scheduler_names,
        cluster: Cluster::default(),
        queue: Queue::default(),
        scheduler: Scheduler::default(),
        binds: Arc::new(Semaphore::new(BINDS_MAX)),
        waits: Arc::new(Semaphore::new(VOLUMES_MAX)),
        reports: Arc::new(Semaphore::new(REPORTS_MAX)),
        ended,
    };
    let work = async {
        observed.synced().await;
        loop {
            let now = Instant::now();
            observed.apply(&mut driver.cluster, &mut driver.queue, &driver.schedulers, now);
            while let Ok(ended) = endings.try_recv() {
                driver.end(&ended, now);
            }
            driver.queue.tire(now);
            driver.cluster.reorder();
            if driver.batch(&cancel).await == BATCH {
                tokio::task::yield_now().await;
                continue;
            }
            metrics::set_pending(driver.queue.counts());
            let wait = driver.queue.due().map_or(IDLE, |due| due.saturating_duration_since(Instant::now()).min(IDLE));
            tokio::select! {
                () = changed.notified() => {}
                Some(ended) = endings.recv() => driver.end(&ended, Instant::now()),
                () = tokio::time::sleep(wait.max(Duration::from_millis(1))) => {}
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = cancel.cancelled() => {}
    }
}

impl Driver {
    /// Decides on the pods whose turn it is; says on how many.
    async fn batch(&mut self, cancel: &CancellationToken) -> usize {
        for count in 0..BATCH {
            let Some(next) = self.queue.pop(Instant::now()) else { return count };
            let began = Instant::now();
            let decision = self.scheduler.decide(&next.pod, &self.cluster);
            let outcome = if matches!(decision, Decision::Node { .. }) { Outcome::Scheduled } else { Outcome::Unschedulable };
            metrics::count_attempt(report::scheduler_of(&next.pod), outcome, began.elapsed());
            match decision {
                Decision::Node { name, volumes } => self.bind(next, name, volumes, cancel).await,
                Decision::Refused(refused) => self.refuse(&next, *refused).await,
            }
        }
        BATCH
    }

    /// Binds in the background: the next decision counts on it.
    async fn bind(&mut self, next: Next, node: String, plan: Plan, cancel: &CancellationToken) {
        let pod = next.pod;
        self.cluster.place(Arc::clone(&pod), &node);
        self.cluster.nominate(&pod, None);
        let promises: Vec<Promise> = plan.bind.iter().map(|(claim, volume)| self.cluster.promise(volume, claim)).collect();
        let gate = if plan.is_empty() { &self.binds } else { &self.waits };
        let Ok(permit) = Arc::clone(gate).acquire_owned().await else { return };
        let (client, recorder, ended, cancel) = (self.client.clone(), self.recorder.clone(), self.ended.clone(), cancel.clone());
        tokio::spawn(async move {
            let work = async {
                if !plan.is_empty() {
                    bind::volumes(&client, &node, &plan).await?;
                }
                bind::pod(&client, &pod, &node).await
            };
            // What was begun under a Lease does not go on without it.
            let result = tokio::select! {
                result = work => result,
                () = cancel.cancelled() => return,
            };
            let failed = result.is_err();
            match result {
                Ok(()) => {
                    let meta = &pod.metadata;
                    let message = format!("Successfully assigned {}/{} to {node}", meta.namespace, meta.name);
                    recorder.event(&report::reference(&pod), EventType::Normal, "Scheduled", message);
                    metrics::observe_bound(next.first.elapsed());
                }
                Err(error) => tell_failure(&recorder, &pod, &error),
            }
            drop(permit);
            // Without a receiver nobody schedules any more.
            let _ = ended.send(Ended { uid: pod.metadata.uid.clone(), failed, promises }).await;
        });
    }

    /// Takes note of how a binding went. One that came about will be seen in the pod itself.
    fn end(&mut self, ended: &Ended, now: Instant) {
        if !ended.failed {
            return;
        }
        ended.promises.iter().for_each(|promise| self.cluster.take_back(promise));
        if self.queue.is_in_flight(&ended.uid) {
            self.cluster.displace(&ended.uid);
            self.queue.failed(&ended.uid, now);
        }
    }

    async fn refuse(&mut self, next: &Next, refused: Refused) {
        let pod = Arc::clone(&next.pod);
        let attempted = refused.preemption.is_some() || refused.forgets_nomination;
        if attempted {
            metrics::count_preemption(refused.preemption.as_ref().map(|preemption| preemption.victims.len()));
        }
        self.queue.refused(&pod.metadata.uid, refused.plugins, Instant::now());
        self.recorder.event(&report::reference(&pod), EventType::Warning, "FailedScheduling", &refused.message);
        let mut withdrawn = Vec::new();
        let nominated = match &refused.preemption {
            Some(preemption) => {
                let less = |other: &&Arc<Pod>| other.spec.priority < pod.spec.priority;
                withdrawn = self.cluster.nominated(&preemption.node).iter().filter(less).cloned().collect();
                withdrawn.iter().for_each(|other| self.cluster.nominate(other, None));
                self.cluster.nominate(&pod, Some(&preemption.node));
                Some(Some(preemption.node.as_str()))
            }
            None if refused.forgets_nomination => {
                self.cluster.nominate(&pod, None);
                Some(None)
            }
            None => None,
        };
        let patch = report::unschedulable(&pod, &refused.message, nominated, Timestamp::now());
        if patch.is_none() && refused.preemption.is_none() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.reports).acquire_owned().await else { return };
        let (client, recorder) = (self.client.clone(), self.recorder.clone());
        let (message, preemption) = (refused.message, refused.preemption);
        tokio::spawn(async move {
            if let Some(patch) = patch {
                report::write(&client, &pod, patch).await;
            }
            for other in withdrawn {
                if let Some(patch) = report::unschedulable(&other, &message_of(&other, &message), Some(None), Timestamp::now()) {
                    report::write(&client, &other, patch).await;
                }
            }
            if let Some(preemption) = preemption {
                report::make_room(&client, &recorder, &pod, &preemption).await;
            }
            drop(permit);
        });
    }
}

/// What a pod was told before.
fn message_of(pod: &Pod, otherwise: &str) -> String {
    pod.condition("PodScheduled").map_or_else(|| otherwise.to_owned(), |condition| condition.message.clone())
}

fn tell_failure(recorder: &Recorder, pod: &Pod, error: &BindError) {
    if error.is_settled() {
        return;
    }
    tracing::warn!(pod = pod.metadata.name, namespace = pod.metadata.namespace, %error, "cannot bind; trying again");
    metrics::count_attempt(report::scheduler_of(pod), Outcome::Error, Duration::ZERO);
    let message = format!("running PreBind plugin \"VolumeBinding\": binding volumes: {error}");
    let message = if matches!(error, BindError::Api(_)) { format!("binding rejected: {error}") } else { message };
    recorder.event(&report::reference(pod), EventType::Warning, "FailedScheduling", message);
}
