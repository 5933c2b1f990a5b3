//! How long kubelets may rely on what they read: longer in larger clusters, by an annotation of each node.

use std::sync::Arc;

use futures::future::BoxFuture;
use kontiki_api::resources::NODES;
use kontiki_client::{Patch, reflector::ObjectKey};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    run::{self, Reconciled, gone},
};

const TTL: &str = "node.alpha.kubernetes.io/ttl";
/// From so many nodes down, up to so many: seconds. Overlaps keep clusters at a border from changing to and fro.
const STEPS: [(usize, usize, u32); 5] = [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

/// Seconds for a cluster of so many nodes where they are `now` so many.
pub fn seconds(now: Option<u32>, nodes: usize) -> u32 {
    let fits = |(from, to, _): &&(usize, usize, u32)| (*from..=*to).contains(&nodes);
    let kept = STEPS.iter().filter(fits).find(|(_, _, seconds)| now == Some(*seconds));
    kept.or_else(|| STEPS.iter().find(fits)).map_or(0, |(_, _, seconds)| *seconds)
}

/// Begins to annotate nodes.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("node_ttl");
    run::tell_own(&context.nodes, &queue);
    run::controller(context, &queue, "node_ttl", cancel, reconcile)
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    let Some(node) = context.nodes.get("", &key.name) else { return Ok(None) };
    let now = node.metadata.annotation(TTL);
    let wanted = seconds(now.parse().ok(), context.nodes.list().len()).to_string();
    if now == wanted {
        return Ok(None);
    }
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { TTL: wanted } } }));
    gone(context.client().patch::<Value>(NODES, "", &key.name, None, patch).await.map(drop)).map(|()| None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_clusters_rely_longer() {
        let cases = [(None, 1, 0), (None, 95, 0), (Some(15), 95, 15), (Some(15), 89, 0), (None, 101, 15), (None, 5000, 300)];
        for (now, nodes, wanted) in cases {
            assert_eq!(seconds(now, nodes), wanted, "{now:?} {nodes}");
        }
    }
}
