//! Reads the configuration again when its file has changed. One that cannot be used leaves the one before in force.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{config::Rules, metrics, metrics::Metrics};

/// How often the file is looked at.
const PERIOD: Duration = Duration::from_secs(60);
/// How soon a file that could not be used is looked at again.
const RETRY: Duration = Duration::from_secs(5);

/// A file and what was read from it last.
pub struct Reload {
    path: PathBuf,
    hash: String,
    rules: watch::Sender<Arc<Rules>>,
    metrics: Metrics,
}

impl Reload {
    /// A file of which something was read already.
    pub fn new(path: PathBuf, hash: String, rules: watch::Sender<Arc<Rules>>, metrics: Metrics) -> Self {
        Self { path, hash, rules, metrics }
    }

    /// Looks at the file, and puts in force what is new in it.
    pub async fn look(&mut self, now: Timestamp) -> Result<(), String> {
        let read = tokio::fs::read(&self.path).await.map_err(|error| error.to_string());
        let parsed = read.and_then(|text| {
            let hash = metrics::hash(&text);
            if hash == self.hash {
                return Ok(None);
            }
            let rules = Rules::parse(&text).map_err(|error| error.to_string())?;
            Ok(Some((hash, rules)))
        });
        match parsed {
            Ok(None) => Ok(()),
            Ok(Some((hash, rules))) => {
                self.rules.send_replace(Arc::new(rules));
                self.metrics.in_force(&hash);
                self.metrics.reloaded(true, now);
                self.hash = hash;
                Ok(())
            }
            Err(error) => {
                self.metrics.reloaded(false, now);
                Err(error)
            }
        }
    }
}

/// Looks at the file again and again.
pub async fn run(mut reload: Reload, shutdown: CancellationToken) {
    let mut wait = PERIOD;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = match reload.look(Timestamp::now()).await {
            Ok(()) => PERIOD,
            Err(error) => {
                let path = reload.path.display();
                tracing::error!(%path, error, "the encryption configuration cannot be used; the one before stays in force");
                RETRY
            }
        };
    }
}
