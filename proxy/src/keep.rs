//! Keeps the kernel's rules as the API has the Services: reflectors say whose Services have changed, and only those
//! are computed again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use kontiki_api::resources::{ENDPOINT_SLICES, NODES, SERVICES};
use kontiki_client::reflector::{Change, Reflector, ReflectorOptions};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    Options, conntrack,
    endpoints::{self, Family},
    health::{Checks, Ports},
    index::{Index, Key},
    model::{Node, Service, ServicePort, Slice},
    nft,
    rules::{self, Surroundings},
    ruleset::State,
};

/// Changes that come within this time go into one transaction.
const GATHER: Duration = Duration::from_millis(5);
/// Pause before rules that were refused are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the reflectors' callbacks leave for the loop.
#[derive(Default)]
struct News {
    /// Services that have changed; bounded by how many there are.
    dirty: Mutex<BTreeSet<Key>>,
    notify: Notify,
}

impl News {
    fn of(&self, keys: impl IntoIterator<Item = Key>) {
        self.dirty.lock().extend(keys);
        self.notify.notify_one();
    }
}

/// Follows Services, slices and the node, and keeps the rules.
pub struct Keeper {
    index: Arc<RwLock<Index>>,
    news: Arc<News>,
    services: Reflector<Service>,
    slices: Reflector<Slice>,
    node: Reflector<Node>,
    node_name: String,
    pod_cidr: String,
    dns_address: IpAddr,
}

impl Keeper {
    /// Begins to follow; fills the index.
    pub fn follow(options: &Options, index: Arc<RwLock<Index>>, cancel: &CancellationToken) -> Self {
        let news = Arc::new(News::default());
        let all = ReflectorOptions::default();
        let (known, said) = (Arc::clone(&index), Arc::clone(&news));
        let on_service = move |change: &Change<Service>| {
            let key = (change.key.namespace.clone(), change.key.name.clone());
            known.write().set_service(&key, change.new.clone());
            said.of([key]);
        };
        let services = Reflector::start(options.client.clone(), SERVICES, all.clone(), on_service, cancel.clone());
        let (known, said) = (Arc::clone(&index), Arc::clone(&news));
        let on_slice = move |change: &Change<Slice>| {
            let keys = known.write().set_slice(&change.key.name, change.old.as_deref(), change.new.clone());
            said.of(keys);
        };
        let slices = Reflector::start(options.client.clone(), ENDPOINT_SLICES, all, on_slice, cancel.clone());
        let own =
            ReflectorOptions { field_selector: format!("metadata.name={}", options.node_name), ..ReflectorOptions::default() };
        let (known, said) = (Arc::clone(&index), Arc::clone(&news));
        let on_node = move |change: &Change<Node>| {
            let zone = |node: &Option<Arc<Node>>| node.as_ref().map(|node| node.zone().to_owned()).unwrap_or_default();
            if zone(&change.old) != zone(&change.new) {
                let keys: Vec<Key> = known.read().keys().cloned().collect();
                said.of(keys);
            }
        };
        let node = Reflector::start(options.client.clone(), NODES, own, on_node, cancel.clone());
        Self {
            index,
            news,
            services,
            slices,
            node,
            node_name: options.node_name.clone(),
            pod_cidr: options.pod_cidr.clone(),
            dns_address: options.dns_address.into(),
        }
    }

    fn surroundings(&self) -> Surroundings {
        let mut node = self.node.get("", &self.node_name).map(|node| (*node).clone()).unwrap_or_default();
        node.metadata.name.clone_from(&self.node_name);
        Surroundings { node: Arc::new(node), pod_cidr: self.pod_cidr.clone(), dns_address: self.dns_address }
    }

    /// Keeps the rules until `cancel`.
    pub async fn run(&self, cancel: &CancellationToken) {
        tokio::select! {
            () = self.keep() => {}
            () = cancel.cancelled() => {}
        }
    }

    async fn keep(&self) {
        tokio::join!(self.services.synced(), self.slices.synced());
        let mut tables = [Table::new(Family::V4), Table::new(Family::V6)];
        let mut ports = Ports::default();
        let mut checks: BTreeMap<Key, (u16, usize)> = BTreeMap::new();
        loop {
            let keys = std::mem::take(&mut *self.news.dirty.lock());
            let around = self.surroundings();
            let mut failed = false;
            for table in &mut tables {
                failed |= !self.update(table, &keys, &around).await;
            }
            let before = checks.clone();
            for key in &keys {
                match self.check(key, &around) {
                    Some(check) => checks.insert(key.clone(), check),
                    None => checks.remove(key),
                };
            }
            if before != checks {
                let wanted: Checks = checks.iter().map(|(key, (port, count))| (*port, (key.clone(), *count))).collect();
                ports.set(&wanted).await;
            }
            if failed {
                tokio::time::sleep(RETRY).await;
                // The table is made anew from what was remembered.
                continue;
            }
            self.news.notify.notified().await;
            tokio::time::sleep(GATHER).await;
        }
    }

    /// Brings one family's table up to date; says whether the kernel took it.
    async fn update(&self, table: &mut Table, keys: &BTreeSet<Key>, around: &Surroundings) -> bool {
        let mut stale = conntrack::Frontends::new();
        let mut changes = Vec::with_capacity(keys.len());
        for key in keys {
            let fragment = {
                let index = self.index.read();
                let service = index.service(key);
                service.map(|service| rules::fragment(service, index.slices_of(key), around, table.family)).unwrap_or_default()
            };
            let before = table.state.fragment(key).map(|before| &before.datagrams);
            stale.extend(conntrack::changed(before.unwrap_or(&conntrack::Frontends::new()), &fragment.datagrams));
            changes.push((key.clone(), fragment));
        }
        let script = table.state.change(changes);
        let pod_cidr = if table.family == Family::V4 { self.pod_cidr.as_str() } else { "" };
        // A family that nobody uses needs no table.
        let needed = table.applied || table.family == Family::V4 || !table.state.is_empty();
        let script = if table.applied || !needed { script } else { table.state.whole(pod_cidr) };
        if needed && !script.is_empty() {
            if let Err(error) = nft::apply(&script).await {
                tracing::warn!(%error, "the kernel refuses rules; all are set anew");
                table.applied = false;
                return false;
            }
            table.applied = true;
        }
        if !stale.is_empty() {
            forget(table.family, stale).await;
        }
        true
    }

    /// The port and count of a Service whose load balancer asks after endpoints.
    fn check(&self, key: &Key, around: &Surroundings) -> Option<(u16, usize)> {
        let index = self.index.read();
        let service = index.service(key).filter(|service| service.is_ours())?;
        let port = service.spec.health_check_node_port;
        let wanted = port != 0 && service.spec.external_traffic_policy == "Local";
        let here = |port: &ServicePort| {
            let found = endpoints::of(index.slices_of(key), port, Family::V4, &around.node);
            found.local.into_iter().map(|(address, _)| address)
        };
        wanted.then(|| (port, service.spec.ports.iter().flat_map(here).collect::<BTreeSet<IpAddr>>().len()))
    }
}

/// One family's table.
struct Table {
    family: Family,
    state: State,
    /// Whether the kernel holds what the state says. At first nothing is known of what an earlier proxy left.
    applied: bool,
}

impl Table {
    fn new(family: Family) -> Self {
        Self { family, state: State::new(family), applied: false }
    }
}

async fn forget(family: Family, stale: conntrack::Frontends) {
    let done = tokio::task::spawn_blocking(move || conntrack::forget(family, &stale)).await;
    match done {
        Ok(Ok(count)) if count > 0 => tracing::debug!(count, "flows to endpoints that are gone are forgotten"),
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "flows to endpoints that are gone stay"),
        Err(error) => tracing::warn!(%error, "flows to endpoints that are gone stay"),
    }
}
