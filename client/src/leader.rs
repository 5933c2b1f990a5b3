//! Leadership by a `Lease` object: one of several processes acts, the next takes over when it ends.
//!
//! A candidate believes another's claim for as long as that claim has not changed for one lease
//! duration by its own monotonic clock: clocks of different machines are never compared. The holder
//! stops acting when it could not renew for less than that, so that two never act at once.
//! <https://kubernetes.io/docs/concepts/architecture/leases/>

use std::{future::Future, time::Duration};

use jiff::Timestamp;
use kontiki_api::resources::LEASES;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{client::Client, error::Error};

/// Which lease, and how fast it changes hands.
#[derive(Clone, Debug)]
pub struct LeaderOptions {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who is asking; unique among the candidates.
    pub identity: String,
    /// How long a claim holds that is not renewed.
    pub lease_duration: Duration,
    /// The holder stops after this long without a renewal; less than `lease_duration`.
    pub renew_deadline: Duration,
    /// Wait between two attempts.
    pub retry_period: Duration,
}

impl LeaderOptions {
    /// A lease in `kube-system` that the next one takes over within five seconds.
    #[must_use]
    pub fn new(name: &str, identity: &str) -> Self {
        Self {
            namespace: "kube-system".into(),
            name: name.into(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(4),
            renew_deadline: Duration::from_secs(3),
            retry_period: Duration::from_millis(800),
        }
    }
}

/// What a candidate saw of the current claim, and when it first saw it so.
#[derive(Clone, Debug)]
struct Seen {
    resource_version: String,
    holder: String,
    at: Instant,
}

/// Campaigns until `cancel`; while leading, runs `lead` with a token that ends with leadership.
pub async fn run<F, Fut>(client: Client, options: LeaderOptions, cancel: CancellationToken, lead: F)
where
    F: Fn(CancellationToken) -> Fut,
    Fut: Future<Output = ()>,
{
    let mut candidate = Candidate { client, options, seen: None };
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = candidate.acquire() => {}
        }
        tracing::info!(lease = candidate.options.name, "leading");
        let leading = cancel.child_token();
        let work = lead(leading.clone());
        tokio::pin!(work);
        let ended = tokio::select! {
            () = &mut work => true,
            () = candidate.hold() => false,
            () = cancel.cancelled() => false,
        };
        leading.cancel();
        if !ended {
            // What was begun under leadership may not go on without it.
            let _ = tokio::time::timeout(candidate.options.lease_duration - candidate.options.renew_deadline, work).await;
        }
        if cancel.is_cancelled() || ended {
            candidate.release().await;
        }
        if cancel.is_cancelled() {
            return;
        }
        tracing::warn!(lease = candidate.options.name, "no longer leading");
    }
}

struct Candidate {
    client: Client,
    options: LeaderOptions,
    seen: Option<Seen>,
}

impl Candidate {
    async fn acquire(&mut self) {
        loop {
            match tokio::time::timeout(self.options.renew_deadline, self.try_acquire()).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error)) => tracing::debug!(lease = self.options.name, %error, "campaign"),
            }
            tokio::time::sleep(self.options.retry_period.mul_f64(rand::random_range(0.8..1.2))).await;
        }
    }

    /// Returns once the lease could not be renewed in time.
    async fn hold(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.options.retry_period).await;
            let deadline = renewed + self.options.renew_deadline;
            let began = Instant::now();
            match tokio::time::timeout_at(deadline, self.try_acquire()).await {
                Ok(Ok(true)) => renewed = began,
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) => {
                    tracing::debug!(lease = self.options.name, %error, "renewal");
                    if Instant::now() >= deadline {
                        return;
                    }
                }
            }
        }
    }

    /// Claims or renews. False: somebody else holds it.
    async fn try_acquire(&mut self) -> Result<bool, Error> {
        let (namespace, name) = (self.options.namespace.clone(), self.options.name.clone());
        let lease: Value = match self.client.get(LEASES, &namespace, &name).await {
            Ok(lease) => lease,
            Err(error) if error.is_not_found() => {
                let lease = self.claim(json!({ "metadata": { "name": name, "namespace": namespace } }), true);
                let created: Value = self.client.create(LEASES, &namespace, &lease).await?;
                self.look(&created);
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        self.look(&lease);
        let seen = self.seen.as_ref();
        let ours = seen.is_some_and(|seen| seen.holder == self.options.identity);
        let free = seen.is_none_or(|seen| seen.holder.is_empty() || now.duration_since(seen.at) >= self.options.lease_duration);
        if !ours && !free {
            return Ok(false);
        }
        let claim = self.claim(lease, !ours);
        match self.client.update::<Value>(LEASES, &namespace, &name, &claim).await {
            Ok(updated) => {
                self.look(&updated);
                Ok(true)
            }
            // Somebody was faster; look again.
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn look(&mut self, lease: &Value) {
        let text = |pointer: &str| lease.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let resource_version = text("/metadata/resourceVersion");
        if self.seen.as_ref().is_none_or(|seen| seen.resource_version != resource_version) {
            self.seen = Some(Seen { resource_version, holder: text("/spec/holderIdentity"), at: Instant::now() });
        }
    }

    fn claim(&self, mut lease: Value, transition: bool) -> Value {
        let now = micro_time(Timestamp::now());
        let transitions = lease.pointer("/spec/leaseTransitions").and_then(Value::as_i64).unwrap_or(-1);
        let acquired = match lease.pointer("/spec/acquireTime") {
            Some(time) if !transition => time.clone(),
            _ => json!(now),
        };
        lease["apiVersion"] = json!("coordination.k8s.io/v1");
        lease["kind"] = json!("Lease");
        lease["spec"] = json!({
            "holderIdentity": self.options.identity,
            "leaseDurationSeconds": self.options.lease_duration.as_secs().max(1),
            "acquireTime": acquired,
            "renewTime": now,
            "leaseTransitions": transitions.max(if transition { -1 } else { 0 }) + i64::from(transition),
        });
        lease
    }

    /// Gives the lease up, so that the next one need not wait.
    async fn release(&mut self) {
        let (namespace, name) = (self.options.namespace.clone(), self.options.name.clone());
        let work = async {
            let mut lease: Value = self.client.get(LEASES, &namespace, &name).await?;
            if lease.pointer("/spec/holderIdentity").and_then(Value::as_str) == Some(&self.options.identity) {
                lease["spec"]["holderIdentity"] = json!("");
                lease["spec"]["leaseDurationSeconds"] = json!(1);
                self.client.update::<Value>(LEASES, &namespace, &name, &lease).await?;
            }
            Ok::<_, Error>(())
        };
        // The process ends; the others take over by themselves if this fails.
        let _ = tokio::time::timeout(Duration::from_secs(1), work).await;
    }
}

/// `MicroTime` of the API: six digits of a second.
#[must_use]
pub fn micro_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
