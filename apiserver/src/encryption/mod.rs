//! Encryption at rest: objects lie in the store as a configuration says, and nobody else in this server knows of it.
//!
//! In: an EncryptionConfiguration; a resource, a key of the store and a value. Out: the value as it is stored, or as it was,
//! in Kubernetes' own form, so that a cluster can move here and back with its keys. Start reading at [`Encryption`].
//!
//! Invariant: the cache holds plain objects alone, and the store no plain object of a resource whose first provider
//! encrypts. Without a configuration a value goes through untouched and uncopied.

mod chain;
mod cipher;
mod config;
mod metrics;
mod reload;
mod resources;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use kontiki_api::registry::Resource;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use chain::Opened;
use chain::Place;
pub use config::{ConfigError, Rules};
use metrics::Metrics;

/// Where the configuration is, and how it is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file.
    pub path: PathBuf,
    /// Whether the file is read again when it changes.
    pub automatic_reload: bool,
    /// Name of this server, for its counters.
    pub server: String,
}

/// Why encryption cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file cannot be read.
    #[error("read encryption configuration {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// What it says cannot be used.
    #[error("{0}")]
    Config(PathBuf, #[source] ConfigError),
}

/// Turns values into stored ones and back. Cheap to clone; the default stores them as they are.
#[derive(Clone, Default)]
pub struct Encryption {
    configured: Option<Arc<Configured>>,
}

struct Configured {
    rules: watch::Receiver<Arc<Rules>>,
    metrics: Metrics,
    reloads: bool,
}

impl Encryption {
    /// Reads the configuration, and reads it again whenever it changes if that is asked for.
    ///
    /// # Errors
    /// It cannot be read, or breaks its rules.
    pub async fn start(settings: Settings, registry: &mut Registry, shutdown: CancellationToken) -> Result<Self, StartError> {
        let read = tokio::fs::read(&settings.path).await;
        let text = read.map_err(|error| StartError::Read(settings.path.clone(), error))?;
        let rules = Rules::parse(&text).map_err(|error| StartError::Config(settings.path.clone(), error))?;
        let metrics = Metrics::new(&settings.server);
        metrics.register(registry);
        let hash = metrics::hash(&text);
        metrics.in_force(&hash);
        let (sender, receiver) = watch::channel(Arc::new(rules));
        let encryption = Self::of(receiver, metrics.clone(), settings.automatic_reload);
        if settings.automatic_reload {
            tokio::spawn(reload::run(reload::Reload::new(settings.path, hash, sender, metrics), shutdown));
        }
        Ok(encryption)
    }

    fn of(rules: watch::Receiver<Arc<Rules>>, metrics: Metrics, reloads: bool) -> Self {
        Self { configured: Some(Arc::new(Configured { rules, metrics, reloads })) }
    }

    /// Whether the configuration is read again when it changes.
    #[must_use]
    pub fn reloads(&self) -> bool {
        self.configured.as_ref().is_some_and(|configured| configured.reloads)
    }

    /// Wakes when another configuration is in force; never without one.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(self.configured.as_ref().map(|configured| configured.rules.clone()))
    }

    /// A value as it is stored under a key.
    ///
    /// # Errors
    /// The provider cannot encrypt it.
    pub fn seal(&self, resource: &Resource, key: &str, value: Bytes) -> Result<Bytes, String> {
        self.with(resource, key, |chain| match chain {
            Some((chain, place)) => chain.seal(&value, place),
            None => Ok(value),
        })
    }

    /// A value that was stored under a key, as it was.
    ///
    /// # Errors
    /// No provider can read it.
    pub fn open(&self, resource: &Resource, key: &str, stored: &Bytes) -> Result<Opened, String> {
        self.with(resource, key, |chain| match chain {
            Some((chain, place)) => chain.open(stored, place),
            None => chain::open_plain(stored),
        })
    }

    fn with<T>(&self, resource: &Resource, key: &str, act: impl FnOnce(Option<(&chain::Chain, Place<'_>)>) -> T) -> T {
        let Some(configured) = &self.configured else { return act(None) };
        let stored_as = &resource.stored_as;
        let rules = Arc::clone(&configured.rules.borrow());
        let Some(chain) = rules.of(stored_as.group, stored_as.plural) else { return act(None) };
        let name = resources::GroupResource { group: stored_as.group.to_owned(), resource: stored_as.plural.to_owned() };
        act(Some((chain, Place { key, resource: &name.to_string(), metrics: &configured.metrics })))
    }
}

/// Changes of the configuration, as one hears of them.
pub struct Changes(Option<watch::Receiver<Arc<Rules>>>);

impl Changes {
    /// Waits for the next; for ever where none can come.
    pub async fn next(&mut self) {
        if let Some(rules) = &mut self.0
            && rules.changed().await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}
