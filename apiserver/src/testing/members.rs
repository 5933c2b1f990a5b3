//! Three members of a real store in one process, each with an API server, on a network that can be cut.
//!
//! The members talk by streams in memory, and their logs lie in memory too; everything else is what a server runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Error as IoError,
    net::SocketAddr,
    sync::Arc,
};

use async_trait::async_trait;
use kontiki_store::{
    Handle as Store, Options as StoreOptions, Service, Surroundings,
    raft::log::device::{Device, Held, Record},
    tls::{Connection, Dial, Dialing, Io},
};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::service::{self, Handle, Options};

/// A log that no power cut befalls.
#[derive(Default)]
struct Log(Mutex<(BTreeMap<u64, Vec<u8>>, Held)>);

#[async_trait]
impl Device for Log {
    async fn write(&self, records: Vec<Record>) -> Result<(), IoError> {
        let (entries, held) = &mut *self.0.lock();
        for record in records {
            match record {
                Record::Entry(index, entry) => drop(entries.insert(index, entry)),
                Record::Vote(vote) => held.vote = Some(vote),
                Record::Committed(position) => held.committed = Some(position),
                Record::Truncated(from) => drop(entries.split_off(&from)),
                Record::Purged(upto, position) => {
                    *entries = entries.split_off(&(upto + 1));
                    held.purged = Some(position);
                }
            }
        }
        Ok(())
    }

    fn read(&self, start: u64, end: u64) -> Result<Vec<(u64, Vec<u8>)>, IoError> {
        if start >= end {
            return Ok(Vec::new());
        }
        Ok(self.0.lock().0.range(start..end).map(|(index, entry)| (*index, entry.clone())).collect())
    }

    fn held(&self) -> Result<Held, IoError> {
        let (entries, held) = &*self.0.lock();
        let last = entries.last_key_value().map(|(index, entry)| (*index, entry.clone()));
        Ok(Held { last, ..held.clone() })
    }
}

type Entrance = mpsc::Sender<std::io::Result<Connection>>;

/// Streams between members. Whoever is cut off has none, and gets none.
struct Network {
    entrances: Mutex<BTreeMap<String, Entrance>>,
    cut_off: watch::Sender<BTreeSet<String>>,
}

/// One member's way out.
struct Way {
    network: Arc<Network>,
    from: String,
}

impl Dial for Way {
    fn dial(&self, host: String, _port: u16) -> Dialing {
        let (network, from) = (Arc::clone(&self.network), self.from.clone());
        Box::pin(async move {
            let mut cut_off = network.cut_off.subscribe();
            let is_cut = move |cut_off: &BTreeSet<String>, host: &str| cut_off.contains(&from) || cut_off.contains(host);
            // Over a link that is cut nobody answers.
            let whole = cut_off.wait_for(|cut_off| !is_cut(cut_off, &host)).await;
            drop(whole.map_err(IoError::other)?);
            let entrance = network.entrances.lock().get(&host).cloned().ok_or(std::io::ErrorKind::ConnectionRefused)?;
            let (near, mut out) = tokio::io::duplex(1 << 16);
            let (mut inside, far) = tokio::io::duplex(1 << 16);
            let far: Box<dyn Io> = Box::new(far);
            entrance.send(Ok(Connection::clear(far))).await.map_err(|_| std::io::ErrorKind::ConnectionRefused)?;
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut out, &mut inside) => {}
                    _ = cut_off.wait_for(|cut_off| is_cut(cut_off, &host)) => {}
                }
            });
            let near: Box<dyn Io> = Box::new(near);
            Ok(near)
        })
    }
}

/// The servers; all of them end with it.
pub struct Servers {
    network: Arc<Network>,
    /// The API servers.
    pub handles: Vec<Handle>,
    stores: Vec<Store>,
    _folder: tempfile::TempDir,
}

fn name(member: usize) -> String {
    format!("m{member}")
}

impl Servers {
    /// Three of them, with a leader and full caches.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let network = Arc::new(Network { entrances: Mutex::default(), cut_off: watch::Sender::default() });
        let base = super::options();
        let starting = (0..3).map(|member| store(member, folder.path(), Arc::clone(&network)));
        let stores = futures::future::join_all(starting).await;
        let mut handles = Vec::new();
        for store in &stores {
            let options = Options { kv: Arc::new(store.clone()), ..base.clone() };
            let handle = service::start(options, Registry::default(), CancellationToken::new());
            handle.set_bootstrapped();
            handle.server().storage.caches.revision().wait_for(|revision| *revision > 0).await.unwrap();
            handles.push(handle);
        }
        Self { network, handles, stores, _folder: folder }
    }

    /// Cuts a member off from the others, in both directions.
    pub fn cut_off(&self, member: usize) {
        self.network.cut_off.send_modify(|cut_off| {
            cut_off.insert(name(member));
        });
    }

    /// Makes the network whole.
    pub fn heal(&self) {
        self.network.cut_off.send_modify(BTreeSet::clear);
    }

    /// A member that leads nobody, as all see it.
    pub async fn follower(&self) -> usize {
        use kontiki_store::kv::Kv;
        let mut leadership = self.stores[0].leadership();
        let leader = leadership.wait_for(|seen| seen.leader_id.is_some()).await.unwrap().leader_id;
        self.stores.iter().position(|store| Some(store.member_id()) != leader).unwrap()
    }
}

async fn store(member: usize, folder: &std::path::Path, network: Arc<Network>) -> Store {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let mut options = StoreOptions::new(&name(member), folder.join(name(member)), nowhere, nowhere);
    options.initial_cluster = (0..3).map(|other| (name(other), format!("http://{}:1", name(other)))).collect();
    let (entrance, peers) = mpsc::channel(64);
    network.entrances.lock().insert(name(member), entrance);
    let dial = Arc::new(Way { network, from: name(member) });
    Service::start_within(options, Surroundings { log: Arc::<Log>::default(), dial, peers }).await.unwrap()
}
