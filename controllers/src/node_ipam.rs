//! Pod addresses for nodes: each gets a part of the pod network.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use kontiki_api::resources::NODES;
use kontiki_client::{
    Patch,
    events::{EventType, ObjectReference},
    reflector::ObjectKey,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    run::{self, Queue, Reconciled},
};

/// The pod network, cut into parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: u32,
    prefix: u8,
    mask: u8,
}

impl Network {
    /// Reads `address/prefix`; parts have prefixes of length `mask`.
    pub fn parse(cidr: &str, mask: u8) -> Option<Self> {
        let (address, prefix) = cidr.split_once('/')?;
        let (address, prefix): (Ipv4Addr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        let sound = (1..=mask).contains(&prefix) && mask <= 30;
        sound.then(|| Self { first: u32::from(address) & (u32::MAX << (32 - prefix)), prefix, mask })
    }

    /// The first part that is not taken.
    pub fn free(&self, taken: &BTreeSet<String>) -> Option<String> {
        let parts = 1_u32 << (self.mask - self.prefix);
        let part = |number: u32| format!("{}/{}", Ipv4Addr::from(self.first + (number << (32 - self.mask))), self.mask);
        (0..parts).map(part).find(|part| !taken.contains(part))
    }
}

/// Begins to give nodes their parts.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("node_ipam");
    run::tell_own(&context.nodes, &queue);
    Box::pin(run(Arc::clone(context), queue, cancel))
}

async fn run(context: Arc<Context>, queue: Queue, cancel: CancellationToken) {
    let Some(network) = Network::parse(&context.options.pod_cidr, context.options.node_cidr_mask) else {
        tracing::error!(
            network = context.options.pod_cidr,
            "the pod network cannot be cut into parts; nodes get no pod addresses"
        );
        return cancel.cancelled().await;
    };
    // What was given and is not seen yet.
    let given: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let reconcile = move |key| reconcile(Arc::clone(&context), network, Arc::clone(&given), key);
    run::run(queue, "node_ipam", cancel, reconcile).await;
}

async fn reconcile(context: Arc<Context>, network: Network, given: Arc<Mutex<BTreeSet<String>>>, key: ObjectKey) -> Reconciled {
    let Some(node) = context.nodes.get("", &key.name) else { return Ok(None) };
    if !node.spec.pod_cidr.is_empty() {
        given.lock().remove(&node.spec.pod_cidr);
        return Ok(None);
    }
    let free = {
        let mut given = given.lock();
        let mut taken: BTreeSet<String> = context.nodes.list().iter().map(|node| node.spec.pod_cidr.clone()).collect();
        taken.extend(given.iter().cloned());
        let free = network.free(&taken);
        given.extend(free.clone());
        free
    };
    let Some(free) = free else {
        let object =
            ObjectReference { api_version: "v1".into(), kind: "Node".into(), name: key.name.to_string(), ..Default::default() };
        context.recorder.event(
            &object,
            EventType::Normal,
            "CIDRNotAvailable",
            format!("Node {} status is now: CIDRNotAvailable", key.name),
        );
        return Ok(Some(Duration::from_secs(10)));
    };
    let patch = json!({
        "metadata": { "resourceVersion": node.metadata.resource_version },
        "spec": { "podCIDR": free, "podCIDRs": [free] },
    });
    let patched = context.client().patch::<Value>(NODES, "", &key.name, None, Patch::Merge(patch)).await;
    if patched.is_err() {
        given.lock().remove(&free);
    }
    patched.map(|_| None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parts_are_given_in_order_and_never_twice() {
        let network = Network::parse("10.244.0.0/22", 24).unwrap();
        let mut taken = BTreeSet::from(["10.244.1.0/24".to_owned()]);
        let mut given = Vec::new();
        while let Some(free) = network.free(&taken) {
            taken.insert(free.clone());
            given.push(free);
        }
        assert_eq!(given, ["10.244.0.0/24", "10.244.2.0/24", "10.244.3.0/24"]);
        assert_eq!(Network::parse("10.0.0.0/25", 24), None);
    }
}
