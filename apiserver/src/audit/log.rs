//! The file: lines of JSON, written by one task from a bounded queue. What does not fit is counted, and never waited for.

use std::path::Path;

use prometheus_client::{metrics::counter::Counter, registry::Registry};
use serde_json::Value;
use tokio::{
    fs::File,
    io::{AsyncWriteExt, BufWriter},
    sync::mpsc,
};

use super::policy::Policy;

/// Events that wait for the file.
const QUEUE: usize = 10_000;

/// The log: a policy, and the way to the file. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    policy: std::sync::Arc<Policy>,
    lines: mpsc::Sender<String>,
    events: Counter,
    errors: Counter,
}

impl Log {
    /// Opens the file, at whose end it goes on.
    pub async fn open(policy: Policy, path: &Path) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(path).await?;
        let (lines, receiver) = mpsc::channel(QUEUE);
        let errors = Counter::default();
        tokio::spawn(write(file, receiver, errors.clone()));
        Ok(Self { policy: std::sync::Arc::new(policy), lines, events: Counter::default(), errors })
    }

    /// Makes its counters part of `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("apiserver_audit_event", "Events that were recorded", self.events.clone());
        registry.register("apiserver_audit_error", "Events that were lost", self.errors.clone());
    }

    /// What is recorded.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Records an event.
    pub fn record(&self, event: &Value) {
        match self.lines.try_send(format!("{event}\n")) {
            Ok(()) => self.events.inc(),
            Err(_) => self.errors.inc(),
        };
    }
}

async fn write(file: File, mut lines: mpsc::Receiver<String>, errors: Counter) {
    let mut file = BufWriter::new(file);
    while let Some(line) = lines.recv().await {
        let mut written = file.write_all(line.as_bytes()).await;
        while written.is_ok()
            && let Ok(line) = lines.try_recv()
        {
            written = file.write_all(line.as_bytes()).await;
        }
        if let Err(error) = match written {
            Ok(()) => file.flush().await,
            failed => failed,
        } {
            errors.inc();
            tracing::warn!(%error, "cannot write the audit log");
        }
    }
}
