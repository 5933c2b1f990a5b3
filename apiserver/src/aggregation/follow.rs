//! Follows the servers elsewhere: asks each whether it is there and what it serves, and keeps the table.
//!
//! In: APIServices, Services and endpoints in the cache. Out: the table, and the condition `Available`. Every server
//! does this for itself, for it is its own way to them that counts; what they write is the same.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use kontiki_api::{
    registry::{self, priority::Priority},
    resources::{API_SERVICES, ENDPOINT_SLICES, SERVICES},
};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Aggregator, Backend, Documents, Extension, Remote, Table,
    check::{self, Verdict},
    documents, register,
};
use crate::{
    cache::ResourceCache,
    outbound::{self, Identity, Target, tls},
    resource_metrics,
    service::Handle,
    storage::Storage,
};

/// How often a server that is well is asked again.
const PERIOD: Duration = Duration::from_secs(30);
/// How soon one that is not is asked again; twice as late each time, up to [`PERIOD`].
const RETRY: Duration = Duration::from_millis(500);
/// How long Services and endpoints are let settle before they are looked at again.
const SETTLE: Duration = Duration::from_millis(50);

/// What is known of one server.
struct Watched {
    spec: Value,
    target: Result<Target, String>,
    tls: Result<Arc<ClientConfig>, String>,
    /// What stood in its way when that was last looked at.
    obstacle: Option<Verdict>,
    documents: Arc<Documents>,
    due: Instant,
    failures: u32,
    is_asked: bool,
}

/// How a look at one server ended.
struct Looked {
    name: String,
    spec: Value,
    verdict: Verdict,
    documents: Option<Documents>,
}

impl Watched {
    fn new(spec: Value, target: Result<Target, String>, identity: Option<&Identity>, now: Instant) -> Self {
        let tls = target.as_ref().map_err(Clone::clone).and_then(|target| tls::config(target.trust(), identity));
        let documents = Arc::default();
        Self { spec, target, tls, obstacle: None, documents, due: now, failures: 0, is_asked: false }
    }

    fn learn(&mut self, looked: Looked, now: Instant) {
        self.is_asked = false;
        self.failures = if looked.verdict.is_available { 0 } else { self.failures + 1 };
        let wait = if self.failures == 0 { PERIOD } else { RETRY.saturating_mul(1 << self.failures.min(10)).min(PERIOD) };
        self.due = now + wait.mul_f64(rand::random_range(0.8..1.2));
        match looked.documents {
            Some(documents) if documents != *self.documents => self.documents = Arc::new(documents),
            Some(_) => {}
            None if self.documents.is_current => {
                self.documents = Arc::new(Documents { is_current: false, ..(*self.documents).clone() });
            }
            None => {}
        }
    }
}

fn obstacle(storage: &Storage, target: &Target) -> Option<Verdict> {
    let (namespace, name) = target.service.as_ref()?;
    let service = registry::of(&SERVICES).and_then(|services| storage.get_cached(services, namespace, name).ok());
    let service = service.map(|service| service.encoded.value());
    check::obstacle(target, service.as_ref(), &outbound::slices(storage, namespace, name))
}

async fn look(
    storage: Storage,
    name: String,
    spec: Value,
    target: Target,
    tls: Result<Arc<ClientConfig>, String>,
    before: Arc<Documents>,
) -> Looked {
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let (group, version) = (text("group"), text("version"));
    let path = format!("apis/{group}/{version}");
    let reached = async {
        if let Some(obstacle) = obstacle(&storage, &target) {
            return Err(obstacle);
        }
        let failed = |error: String| Verdict::failed("FailedDiscoveryCheck", error);
        let tls = tls.map_err(failed)?;
        let addresses = outbound::addresses(&storage, &target).await.map_err(failed)?;
        let (address, list) = check::reach(&addresses, &target, &tls, &path).await?;
        Ok(documents::read(&address, &target, &tls, (&group, &version), &list, &before).await)
    };
    let (verdict, documents) = match reached.await {
        Ok(documents) => (Verdict::passed(), Some(documents)),
        Err(verdict) => (verdict, None),
    };
    if let Err(error) = register::judge(&storage, &name, &verdict).await {
        tracing::debug!(name, %error, "the condition of an APIService is not written");
    }
    Looked { name, spec, verdict, documents }
}

/// The table: servers elsewhere, and this server's own figures unless another serves them.
fn table(services: &BTreeMap<String, Value>, watched: &HashMap<String, Watched>) -> Table {
    let remote = services.iter().filter_map(|(name, object)| {
        let known = watched.get(name)?;
        let spec = &object["spec"];
        let number = |field: &str| spec[field].as_i64().unwrap_or_default();
        let available = kontiki_api::object::condition(object, "Available");
        let remote = Remote {
            target: known.target.clone().ok()?,
            tls: known.tls.clone(),
            is_available: available.is_some_and(|condition| condition["status"] == "True"),
        };
        let priority: Priority = (number("groupPriorityMinimum"), number("versionPriority"));
        let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
        let (group, version) = (text("group"), text("version"));
        // Who serves APIServices, and the core group, is not for an APIService to say.
        let may_be = !group.is_empty() && group != API_SERVICES.group;
        let (backend, documents) = (Backend::Remote(Arc::new(remote)), Arc::clone(&known.documents));
        may_be.then_some(Extension { group, version, priority, backend, documents })
    });
    let mut extensions: Vec<Extension> = remote.collect();
    let own = resource_metrics::extension();
    if extensions.iter().all(|one| (&one.group, &one.version) != (&own.group, &own.version)) {
        extensions.push(own);
    }
    Table::new(extensions)
}

impl Aggregator {
    /// As it is before anything is known of others.
    #[must_use]
    pub fn begin() -> Self {
        Self::new(table(&BTreeMap::new(), &HashMap::new()))
    }
}

fn remote_services(cache: &ResourceCache) -> BTreeMap<String, Value> {
    let objects = cache.snapshot();
    let values = objects.values().map(|object| (object.header.name.clone(), object.encoded.value()));
    values.filter(|(_, object)| object["spec"]["service"].is_object()).collect()
}

/// Follows them until `cancel`.
pub async fn run(handle: Handle, cancel: CancellationToken) {
    let server = handle.server();
    let storage = &server.storage;
    let cache_of = |key| registry::of(key).and_then(|resource| storage.caches.of(resource));
    let [Some(services), Some(targets), Some(slices)] = [&API_SERVICES, &SERVICES, &ENDPOINT_SLICES].map(cache_of) else {
        return;
    };
    let mut revision = storage.caches.revision();
    let mut watched: HashMap<String, Watched> = HashMap::new();
    let mut looks: JoinSet<Looked> = JoinSet::new();
    let (mut objects, mut seen, mut seen_targets, mut is_stale) = (BTreeMap::new(), None, None, false);
    loop {
        let now = Instant::now();
        let changes = services.version();
        if seen != Some(changes) {
            seen = Some(changes);
            objects = remote_services(&services);
            watched.retain(|name, _| objects.contains_key(name));
            for (name, object) in &objects {
                let spec = &object["spec"];
                if watched.get(name).is_none_or(|known| known.spec != *spec)
                    && let Some(target) = Target::of_api_service(object)
                {
                    let known = Watched::new(spec.clone(), target, server.options.trust.identity.as_deref(), now);
                    watched.insert(name.clone(), known);
                }
            }
            is_stale = true;
        }
        let changes = (targets.version(), slices.version());
        if !watched.is_empty() && seen_targets != Some(changes) {
            seen_targets = Some(changes);
            for known in watched.values_mut() {
                let found = known.target.as_ref().ok().and_then(|target| obstacle(storage, target));
                if found != known.obstacle {
                    (known.obstacle, known.due) = (found, now);
                }
            }
        }
        if std::mem::take(&mut is_stale) {
            server.aggregator.set(table(&objects, &watched));
        }
        for (name, known) in watched.iter_mut().filter(|(_, known)| known.due <= now && !known.is_asked) {
            let Ok(target) = known.target.clone() else { continue };
            known.is_asked = true;
            let (tls, before) = (known.tls.clone(), Arc::clone(&known.documents));
            looks.spawn(look(storage.clone(), name.clone(), known.spec.clone(), target, tls, before));
        }
        let due = watched.values().filter(|known| !known.is_asked && known.target.is_ok()).map(|known| known.due).min();
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = revision.changed() => {
                if changed.is_err() {
                    return;
                }
                if !watched.is_empty() {
                    tokio::time::sleep(SETTLE).await;
                }
            }
            Some(Ok(looked)) = looks.join_next(), if !looks.is_empty() => {
                if let Some(known) = watched.get_mut(&looked.name).filter(|known| known.spec == looked.spec) {
                    known.learn(looked, Instant::now());
                    is_stale = true;
                }
            }
            () = tokio::time::sleep_until(due.unwrap_or(now + PERIOD)), if due.is_some() => {}
        }
    }
}
