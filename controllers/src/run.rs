//! The loop that every reconciler shares: take a key, reconcile it, try again later if that failed.

use std::{future::Future, sync::Arc, time::Duration};

use futures::FutureExt;
use kontiki_client::{Error, queue::WorkQueue, reflector::ObjectKey};
use tokio_util::sync::CancellationToken;

/// Keys reconciled at the same time.
const WORKERS: usize = 4;
/// A reconciliation that takes longer has a bug or a dead server; it is tried again.
const DEADLINE: Duration = Duration::from_secs(60);

/// Keys that want work.
pub type Queue = Arc<WorkQueue<ObjectKey>>;

/// Reconciles keys until `cancel`. A panic ends one reconciliation, never the process.
pub async fn run<F, Fut>(queue: Queue, name: &'static str, cancel: CancellationToken, reconcile: F)
where
    F: Fn(ObjectKey) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<Duration>, Error>> + Send + 'static,
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
                        if !error.is_conflict() && !error.is_namespace_terminating() {
                            tracing::warn!(controller = name, ?key, %error, "cannot reconcile; trying again");
                        }
                        queue.add_rate_limited(key.clone());
                    }
                    Ok(Err(_)) => {
                        tracing::warn!(controller = name, ?key, "reconciling took too long; trying again");
                        queue.add_rate_limited(key.clone());
                    }
                    Err(_) => {
                        tracing::error!(controller = name, ?key, "reconciling panicked; trying again");
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
