//! The loop that every reconciler shares: take a key, reconcile it, try again later if that failed.

use std::{future::Future, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use kontiki_client::{Error, queue::WorkQueue, reflector::ObjectKey};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    model::{Meta, Object},
    shared::Shared,
};

/// Keys reconciled at the same time.
const WORKERS: usize = 4;
/// A reconciliation that takes longer has a bug or a dead server; it is tried again.
const DEADLINE: Duration = Duration::from_secs(60);

/// Keys that want work.
pub type Queue = Arc<WorkQueue<ObjectKey>>;

/// Says what a controller wants to be told of, and what it then does until it is cancelled.
pub type Start = fn(&Arc<Context>, CancellationToken) -> BoxFuture<'static, ()>;

/// What a reconciliation comes to: when the key wants work without news, if it does.
pub type Reconciled = Result<Option<Duration>, Error>;

/// The sooner of two times, where either may be never.
pub fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// That something is gone already is as good as having removed it.
pub fn gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Waits until a reflector shows what was done, at most a while: what it then lacks is seen as it is.
pub async fn seen(shown: impl Fn() -> bool) {
    let shown = async {
        while !shown() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), shown).await;
}

/// Queues each object that changes.
pub fn tell_own<T: Object + DeserializeOwned>(shared: &Shared<T>, queue: &Queue) {
    let queue = Arc::clone(queue);
    shared.on_version(move |object| queue.add(object.metadata().key()));
}

/// Queues the controller, of a kind, of each object that changes; where none manages it, what `candidates` names.
pub fn tell_owner<T: Object + DeserializeOwned>(
    shared: &Shared<T>,
    queue: &Queue,
    kind: &'static str,
    candidates: impl Fn(&Meta) -> Vec<ObjectKey> + Send + Sync + 'static,
) {
    let queue = Arc::clone(queue);
    shared.on_version(move |object| {
        let meta = object.metadata();
        match meta.controller() {
            Some(owner) if owner.kind == kind => queue.add(ObjectKey::new(meta.namespace.clone(), owner.name.clone())),
            Some(_) => {}
            None => candidates(meta).into_iter().for_each(|key| queue.add(key)),
        }
    });
}

/// Reconciles keys until `cancel`. A panic ends one reconciliation, never the process.
pub async fn run<F, Fut>(queue: Queue, name: &'static str, cancel: CancellationToken, reconcile: F)
where
    F: Fn(ObjectKey) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Reconciled> + Send + 'static,
{
    let worker = || {
        let (queue, reconcile) = (Arc::clone(&queue), reconcile.clone());
        async move {
            loop {
                let key = queue.next().await;
                let work = std::panic::AssertUnwindSafe(tokio::time::timeout(DEADLINE, reconcile(key.clone()))).catch_unwind();
                match work.await {
                    Ok(Ok(Ok(again))) => {
                        queue.forget(&key);
                        if let Some(after) = again {
                            queue.add_after(key.clone(), after);
                        }
                    }
                    Ok(Ok(Err(error))) => {
                        // What the API refuses is told by events and conditions of the object.
                        if error.status().is_some_and(|status| status.code < 500) {
                            tracing::debug!(controller = name, %key, %error, "cannot reconcile; trying again");
                        } else {
                            tracing::warn!(controller = name, %key, %error, "cannot reconcile; trying again");
                        }
                        queue.add_rate_limited(key.clone());
                    }
                    Ok(Err(_)) => {
                        tracing::warn!(controller = name, %key, "reconciling took too long; trying again");
                        queue.add_rate_limited(key.clone());
                    }
                    Err(_) => {
                        tracing::error!(controller = name, %key, "reconciling panicked; trying again");
                        queue.add_rate_limited(key.clone());
                    }
                }
                queue.done(&key);
            }
        }
    };
    let workers = futures::future::join_all((0..WORKERS).map(|_| worker()));
    tokio::select! {
        _ = workers => {}
        () = cancel.cancelled() => {}
    }
}

/// A controller whose keys are reconciled by a function of the context and a key.
pub fn controller<Fut>(
    context: &Arc<Context>,
    queue: &Queue,
    name: &'static str,
    cancel: CancellationToken,
    reconcile: fn(Arc<Context>, ObjectKey) -> Fut,
) -> BoxFuture<'static, ()>
where
    Fut: Future<Output = Reconciled> + Send + 'static,
{
    let (context, queue) = (Arc::clone(context), Arc::clone(queue));
    Box::pin(async move { run(queue, name, cancel, move |key| reconcile(Arc::clone(&context), key)).await })
}

/// An empty queue.
pub fn queue(name: &'static str) -> Queue {
    Arc::new(WorkQueue::new(name))
}
