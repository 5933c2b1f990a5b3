//! Which node ports a cluster has: what the host listens on besides the API.
//!
//! In: Services from an API server. Out: the set of their TCP node ports, as it changes.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, Result};
use kontiki_api::resources::SERVICES;
use kontiki_client::{
    Client,
    https::HttpsConfig,
    reflector::{Reflector, ReflectorOptions},
};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{local::paths::Paths, pki::Pair, shape::Shape};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Port {
    protocol: String,
    node_port: u16,
}

/// A client with the administrator's certificate, for use on the link's thread.
pub fn client(paths: &Paths, shape: &Shape) -> Result<Client> {
    client_of(paths, shape.api_servers())
}

/// The same, of some of the servers.
pub fn client_of(paths: &Paths, servers: Vec<String>) -> Result<Client> {
    let administrator = Pair::read(&paths.pki(), "admin")?;
    let authority_pem = std::fs::read_to_string(paths.pki().join("ca.crt")).context("read the cluster's authority")?;
    let identity_pem = Some((administrator.certificate, administrator.key));
    let config = HttpsConfig { servers, authority_pem, identity_pem, token_file: None };
    Client::https(config, "kontiki-up").context("set up a client of the cluster")
}

/// Follows the ports until `cancel`.
pub async fn follow(client: Client, ports: watch::Sender<BTreeSet<u16>>, cancel: CancellationToken) {
    let changed = Arc::new(Notify::new());
    let notify = Arc::clone(&changed);
    let services: Reflector<Service> =
        Reflector::start(client, SERVICES, ReflectorOptions::default(), move |_| notify.notify_one(), cancel.clone());
    while !cancel.is_cancelled() {
        tokio::select! {
            () = changed.notified() => {}
            () = cancel.cancelled() => return,
        }
        let now = tcp_ports(services.list().iter().map(AsRef::as_ref));
        ports.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
    }
}

fn tcp_ports<'a>(services: impl Iterator<Item = &'a Service>) -> BTreeSet<u16> {
    let ports = services.flat_map(|service| &service.spec.ports);
    ports.filter(|port| port.node_port != 0 && port.protocol == "TCP").map(|port| port.node_port).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ports_that_a_host_can_lead_to() {
        let service: Service = serde_json::from_value(serde_json::json!({"spec": {"ports": [
            {"protocol": "TCP", "port": 80, "nodePort": 30080}, {"protocol": "UDP", "port": 53, "nodePort": 30053},
            {"protocol": "TCP", "port": 81},
        ]}}))
        .unwrap();
        assert_eq!(tcp_ports([service].iter()), BTreeSet::from([30080]));
    }
}
