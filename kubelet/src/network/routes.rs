//! Routes to the pods of other nodes, all on one link.
//!
//! In: nodes with their addresses and pod ranges. Out: one route a node. What to change is pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use kontiki_api::resources::NODES;
use kontiki_client::{
    Client,
    reflector::{Reflector, ReflectorOptions},
};
use rtnetlink::{Handle, RouteMessageBuilder};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::addresses::PodRange;

/// After an error the routes are tried again at least this often.
const RETRY: Duration = Duration::from_secs(2);

/// What matters of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeProjection {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Status {
    addresses: Vec<Address>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// Destination and prefix, with the node that is the way there.
pub type Routes = BTreeMap<(Ipv4Addr, u8), Ipv4Addr>;

/// The routes that this node needs.
fn wanted<'a>(nodes: impl Iterator<Item = &'a NodeProjection>, own: &str) -> Routes {
    nodes
        .filter(|node| node.metadata.name != own)
        .filter_map(|node| {
            let internal = node.status.addresses.iter().find(|address| address.kind == "InternalIP")?;
            Some((PodRange::parse(&node.spec.pod_cidr)?.network(), internal.address.parse().ok()?))
        })
        .collect()
}

/// Keeps routes and the node's own range true until `cancel`. The own range goes to `range` as soon as the
/// node has one.
pub async fn run(client: Client, node: String, range: watch::Sender<Option<PodRange>>, cancel: CancellationToken) -> Result<()> {
    let changed = Arc::new(Notify::new());
    let notify = Arc::clone(&changed);
    let nodes: Reflector<NodeProjection> =
        Reflector::start(client, NODES, ReflectorOptions::default(), move |_| notify.notify_one(), cancel.clone());
    let (connection, handle, _) = rtnetlink::new_connection().context("open netlink")?;
    let connection = tokio::spawn(connection);
    let mut set = Routes::new();
    while !cancel.is_cancelled() {
        let seen = nodes.list();
        let own = seen.iter().find(|seen| seen.metadata.name == node).and_then(|own| PodRange::parse(&own.spec.pod_cidr));
        range.send_if_modified(|current| std::mem::replace(current, own.or(*current)) != *current);
        if nodes.is_synced()
            && let Err(error) = apply(&handle, &mut set, wanted(seen.iter().map(AsRef::as_ref), &node)).await
        {
            tracing::warn!(error = format!("{error:#}"), "cannot set a route to a node's pods; trying again");
        }
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(RETRY) => {}
            () = cancel.cancelled() => {}
        }
    }
    connection.abort();
    Ok(())
}

/// Sets what is missing and removes what is too much; `set` follows what is done.
async fn apply(handle: &Handle, set: &mut Routes, wanted: Routes) -> Result<()> {
    let gone: Vec<_> = set.iter().filter(|(range, _)| !wanted.contains_key(*range)).map(|(range, via)| (*range, *via)).collect();
    for ((network, prefix), via) in gone {
        // Gone already if the link was.
        let _ = handle.route().del(message(network, prefix, via)).execute().await;
        set.remove(&(network, prefix));
    }
    for ((network, prefix), via) in wanted {
        if set.get(&(network, prefix)) != Some(&via) {
            let added = handle.route().add(message(network, prefix, via)).replace().execute().await;
            added.with_context(|| format!("route {network}/{prefix} via {}", IpAddr::V4(via)))?;
            set.insert((network, prefix), via);
        }
    }
    Ok(())
}

fn message(network: Ipv4Addr, prefix: u8, via: Ipv4Addr) -> rtnetlink::packet_route::route::RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(network, prefix).gateway(via).build()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_route_for_each_other_node_that_has_pods() {
        let node = |name: &str, range: &str, address: &str| -> NodeProjection {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": name}, "spec": {"podCIDR": range},
                "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
            }))
            .unwrap()
        };
        let nodes = [node("a", "10.244.0.0/24", "10.0.0.1"), node("b", "10.244.1.0/24", "10.0.0.2"), node("c", "", "10.0.0.3")];
        let routes = wanted(nodes.iter(), "a");
        assert_eq!(routes.into_iter().collect::<Vec<_>>(), [((Ipv4Addr::new(10, 244, 1, 0), 24), Ipv4Addr::new(10, 0, 0, 2))]);
    }
}
