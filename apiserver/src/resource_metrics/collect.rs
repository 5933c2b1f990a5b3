//! Reads the kubelets when somebody wants to know, and keeps the last two readings.
//!
//! The first to ask waits for two readings a moment apart; later ones get the usage since the reading before. Whoever
//! asks while a round is under way waits for it, but not for long.

use std::{collections::BTreeMap, collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt;
use kontiki_api::{registry, resources::NODES};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    rates::{self, NodeUsage},
    readings::{self, Reading},
};
use crate::{
    kubelet::{self, KubeletClient},
    storage::Storage,
};

/// Figures that are younger are not read again.
const FRESH: Duration = Duration::from_secs(10);
/// A reading that is older says nothing about now.
const STALE: Duration = Duration::from_secs(90);
/// Between the first two readings of a node.
const FIRST_WINDOW: Duration = Duration::from_secs(1);
/// How long a kubelet may take.
const NODE_DEADLINE: Duration = Duration::from_secs(3);
/// How long somebody who asks waits for a round.
const ROUND_DEADLINE: Duration = Duration::from_secs(8);
/// Kubelets that are read at once.
const AT_ONCE: usize = 32;
/// Largest answer of a kubelet: far above what a full node has.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Path of the figures.
const PATH: &str = "/metrics/resource";

/// What all nodes and pods use, as far as it is known.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub(super) taken: Option<Instant>,
    /// By the name of the node.
    pub nodes: BTreeMap<String, NodeUsage>,
}

impl Snapshot {
    fn is_fresh(&self) -> bool {
        self.taken.is_some_and(|taken| taken.elapsed() < FRESH)
    }
}

/// The way to the figures.
pub struct Collector {
    wanted: mpsc::Sender<()>,
    found: watch::Receiver<Arc<Snapshot>>,
}

impl Collector {
    /// Begins to wait for questions, until `cancel`.
    #[must_use]
    pub fn start(storage: Storage, kubelet: Option<Arc<KubeletClient>>, cancel: CancellationToken) -> Self {
        let (wanted, mut questions) = mpsc::channel(1);
        let (publish, found) = watch::channel(Arc::<Snapshot>::default());
        tokio::spawn(async move {
            let mut known: HashMap<String, (Instant, Reading)> = HashMap::new();
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    question = questions.recv() => if question.is_none() { return },
                }
                if publish.borrow().is_fresh() {
                    continue;
                }
                let nodes = match &kubelet {
                    Some(kubelet) => round(&storage, kubelet, &mut known).await,
                    None => BTreeMap::new(),
                };
                publish.send_replace(Arc::new(Snapshot { taken: Some(Instant::now()), nodes }));
            }
        });
        Self { wanted, found }
    }

    /// What is used now.
    pub async fn snapshot(&self) -> Arc<Snapshot> {
        let mut found = self.found.clone();
        let now = Arc::clone(&found.borrow_and_update());
        if now.is_fresh() {
            return now;
        }
        // Full means that a round is asked for already.
        let _ = self.wanted.try_send(());
        // What is old is better than nothing.
        let _ = tokio::time::timeout(ROUND_DEADLINE, found.changed()).await;
        let latest = found.borrow();
        Arc::clone(&latest)
    }
}

/// Reads every node, those without an earlier reading twice.
async fn round(
    storage: &Storage,
    kubelet: &KubeletClient,
    known: &mut HashMap<String, (Instant, Reading)>,
) -> BTreeMap<String, NodeUsage> {
    let Some(cache) = registry::of(&NODES).and_then(|nodes| storage.caches.of(nodes)) else { return BTreeMap::new() };
    let nodes = cache.snapshot();
    let address = |object: &Arc<crate::cache::CachedObject>| {
        Some((object.header.name.clone(), kubelet::address_of(&object.encoded.value())?))
    };
    let targets: Vec<_> = nodes.values().filter_map(address).collect();
    known.retain(|name, (read, _)| read.elapsed() < STALE && targets.iter().any(|(target, _)| target == name));
    let readings = targets.into_iter().map(|(name, (address, port))| {
        let before = known.get(&name).cloned();
        async move {
            let read = async || {
                let body = kubelet.get(&address, port, PATH, ANSWER_BYTES_MAX, NODE_DEADLINE).await;
                body.map(|body| readings::parse(&String::from_utf8_lossy(&body)))
            };
            let found = async {
                let older = match before {
                    Some((_, reading)) => reading,
                    None => {
                        let first = read().await?;
                        tokio::time::sleep(FIRST_WINDOW).await;
                        first
                    }
                };
                Ok::<_, String>((older, read().await?))
            };
            (name, found.await)
        }
    });
    let found: Vec<_> = futures::stream::iter(readings).buffer_unordered(AT_ONCE).collect().await;
    let mut usage = BTreeMap::new();
    for (name, readings) in found {
        match readings {
            Ok((older, newer)) => {
                usage.insert(name.clone(), rates::between(&older, &newer));
                known.insert(name, (Instant::now(), newer));
            }
            Err(error) => tracing::debug!(node = name, error, "a kubelet's figures are missing"),
        }
    }
    usage
}
