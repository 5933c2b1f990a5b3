//! Eviction: pods go before the node runs out of memory or disk, and when they write more than they may.
//!
//! In: what is left on the node and what pods use, every ten seconds. Out: the node's pressure conditions
//! ([`thresholds`], pure), unused images removed, and at most one pod at a time ended ([`rank`] and [`limits`], pure).
//! What cannot be measured is no shortage.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/>

mod limits;
mod measure;
pub mod rank;
pub mod thresholds;

use std::time::Duration;

use jiff::Timestamp;
use kontiki_client::events::{EventType, Recorder};
use tokio_util::sync::CancellationToken;

use self::{
    rank::PodUse,
    thresholds::{Seen, Shortage, Thresholds, shortages},
};
use crate::{
    Options,
    health::{NodeHealth, Pressure},
    images::collect::Collector,
    node,
    pods::{Handle, model, model::Ended},
};

/// How often the node is measured.
const PERIOD: Duration = Duration::from_secs(10);
/// How long an evicted pod may take to be gone before the next one is looked for.
const GONE_DEADLINE: Duration = Duration::from_secs(30);
/// Time for the containers of a pod that is evicted at once.
const GRACE: Duration = Duration::from_secs(1);

/// When pods must go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The least that must be left.
    pub hard: Thresholds,
    /// How long a pressure lasts beyond its shortage.
    pub transition: Duration,
}

/// What the manager works with.
pub struct Manager<'a> {
    /// The kubelet's options.
    pub options: &'a Options,
    /// Told of pressures.
    pub health: &'a NodeHealth,
    /// The pods.
    pub pods: &'a Handle,
    /// Records events.
    pub recorder: &'a Recorder,
    /// Removes images.
    pub images: &'a Collector,
}

impl Manager<'_> {
    /// Works until `cancel`.
    pub async fn run(&self, cancel: CancellationToken) {
        let mut seen = Seen::default();
        let work = async {
            self.pods.synced().await;
            loop {
                match self.look(&mut seen).await {
                    Some(evicted) => self.until_gone(&evicted).await,
                    None => tokio::time::sleep(PERIOD).await,
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = cancel.cancelled() => {}
        }
    }

    /// Measures once; returns a pod that must go.
    async fn look(&self, seen: &mut Seen) -> Option<PodUse> {
        let policy = &self.options.configuration.eviction;
        let short = shortages(&policy.hard, &measure::node(self.options).await);
        self.health.set_pressures(seen.pressures(&short, policy.transition, Timestamp::now()));
        if let Some(evicted) = self.beyond_limits().await {
            return Some(evicted);
        }
        let worst = short.first()?;
        let text = format!("Attempting to reclaim {}", worst.signal.resource());
        self.recorder.event(&node::reference(&self.options.node_name), EventType::Warning, "EvictionThresholdMet", text);
        if worst.signal.pressure() == Pressure::Disk {
            self.images.free(self.options, self.pods, u64::MAX).await;
            if shortages(&policy.hard, &measure::node(self.options).await).is_empty() {
                return None;
            }
        }
        self.one_for(worst).await
    }

    /// A pod that has written more than it may.
    async fn beyond_limits(&self) -> Option<PodUse> {
        for pod in self.pods.active().into_iter().filter(|pod| limits::has_limits(pod)) {
            let Some(used) = measure::pod(self.options, pod).await else { continue };
            if let Some(message) = limits::exceeded(&used)
                && self.evict(&used, message, false)
            {
                return Some(used);
            }
        }
        None
    }

    /// The pod that goes for a shortage.
    async fn one_for(&self, shortage: &Shortage) -> Option<PodUse> {
        let mut candidates = Vec::new();
        for pod in self.pods.active() {
            candidates.extend(measure::pod(self.options, pod).await);
        }
        rank::rank(&mut candidates, shortage.signal);
        let evicted = candidates.into_iter().find(|one| self.evict(one, rank::message(shortage, one), true));
        if evicted.is_none() {
            tracing::warn!(resource = shortage.signal.resource(), "the node is short of something, and no pod can be evicted");
        }
        evicted
    }

    /// Ends a pod, unless it is the system's own.
    fn evict(&self, one: &PodUse, message: String, is_disruption: bool) -> bool {
        if rank::is_critical(&one.pod) {
            return false;
        }
        tracing::warn!(pod = model::describe(&one.pod), message, "evicting a pod");
        self.recorder.event(&model::reference(&one.pod, None), EventType::Warning, "Evicted", message.clone());
        let reason = "Evicted".to_owned();
        self.pods.end(model::uid(&one.pod), Ended { reason, message, refused: false, grace: Some(GRACE), is_disruption });
        true
    }

    async fn until_gone(&self, evicted: &PodUse) {
        let gone = async {
            while !self.pods.is_over(&evicted.pod) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        // One that does not end in time is no reason to let the node run full.
        let _ = tokio::time::timeout(GONE_DEADLINE, gone).await;
    }
}
