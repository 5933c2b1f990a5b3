//! Compares Services with the objects of their addresses, and mends what differs; who can mend it alone is told.
//!
//! A Service and its address are written together, so a difference is nobody's ordinary doing: an object that somebody has
//! changed or removed, a store that was restored.

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use kontiki_api::resources::{IP_ADDRESSES, SERVICES};
use kontiki_client::{
    DeleteOptions, Error,
    events::{EventType, ObjectReference},
};
use serde_json::{Value, json};

use super::{IpAddress, ServiceCidr, contains};
use crate::{context::Context, endpoint_slice::Service, model::Meta, pod_control::reference, run::gone};

const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
/// How often they are compared.
const PERIOD: Duration = Duration::from_secs(30);
/// A Service and its address become known one after the other: younger objects are let be.
const YOUNG_SECONDS: i64 = 10;
/// An address without a Service may be that of a request that another kind of server still works on.
const ORPHAN_SECONDS: i64 = 60;

/// What is done about a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Act {
    /// Its owner has to.
    Nothing,
    /// The address is made.
    Create,
    /// It is removed, with this UID, and made anew.
    Recreate(String),
    /// It is removed, with this UID.
    Delete(String),
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    /// The address.
    address: String,
    /// Namespace and name of the Service that it is or will be of.
    service: (String, String),
    /// Who is told.
    about: ObjectReference,
    /// Reason and words; none where nobody needs to know.
    told: Option<(&'static str, String)>,
    act: Act,
}

fn family(address: &str) -> &'static str {
    if address.contains(':') { "IPv6" } else { "IPv4" }
}

fn seconds(meta: &Meta, now: Timestamp) -> i64 {
    meta.creation_timestamp.map_or(i64::MAX, |made| now.as_second() - made.as_second())
}

/// What the picture is.
struct Picture<'a> {
    services: &'a [Arc<Service>],
    addresses: &'a [Arc<IpAddress>],
    networks: &'a [Arc<ServiceCidr>],
    now: Timestamp,
}

impl Picture<'_> {
    fn findings(&self) -> Vec<Finding> {
        let of_services = self.services.iter().filter_map(|service| self.of_service(service));
        of_services.chain(self.addresses.iter().filter_map(|address| self.of_address(address))).collect()
    }

    /// What is wrong with a Service's address.
    fn of_service(&self, service: &Service) -> Option<Finding> {
        let (meta, address) = (&service.metadata, &service.spec.cluster_ip);
        let parsed: IpAddr = address.parse().ok()?;
        if seconds(meta, self.now) < YOUNG_SECONDS {
            return None;
        }
        let family = family(address);
        let finding = |told, act| {
            let (service, about) = ((meta.namespace.clone(), meta.name.clone()), reference(meta, SERVICES));
            Some(Finding { address: address.clone(), service, about, told, act })
        };
        let networks = self.networks.iter().flat_map(|network| &network.spec.cidrs);
        if !networks.into_iter().any(|network| contains(network, parsed)) {
            let words =
                format!("Cluster IP [{family}]: {address} is not within any configured Service CIDR; please recreate service");
            return finding(Some(("ClusterIPOutOfRange", words)), Act::Nothing);
        }
        let Some(found) = self.addresses.iter().find(|found| found.metadata.name == *address) else {
            let words = format!("Cluster IP [{family}]: {address} is not allocated; repairing");
            return finding(Some(("ClusterIPNotAllocated", words)), Act::Create);
        };
        let parent = &found.spec.parent_ref;
        let recreate = || Act::Recreate(found.metadata.uid.clone());
        let is_service = parent.group.is_empty() && parent.resource == "services";
        if !is_service || (&parent.namespace, &parent.name) != (&meta.namespace, &meta.name) {
            let of_parent =
                |other: &&Arc<Service>| (&other.metadata.namespace, &other.metadata.name) == (&parent.namespace, &parent.name);
            return match self.services.iter().find(of_parent).filter(|_| is_service) {
                Some(other) if other.spec.cluster_ip == *address => {
                    let words =
                        format!("Cluster IP [{family}]:{address} was assigned to multiple services; please recreate service");
                    finding(Some(("ClusterIPAlreadyAllocated", words)), Act::Nothing)
                }
                _ => {
                    let (namespace, name) = (&meta.namespace, &meta.name);
                    let words = format!(
                        "the ClusterIP [{family}]: {address} for Service {namespace}/{name} has a wrong reference; repairing"
                    );
                    finding(Some(("ClusterIPNotAllocated", words)), recreate())
                }
            };
        }
        let labelled = found.metadata.label(MANAGED_BY) == ALLOCATOR && found.metadata.label(FAMILY) == family;
        if labelled { None } else { finding(None, recreate()) }
    }

    /// What is wrong with an address of ours that no Service has.
    fn of_address(&self, address: &IpAddress) -> Option<Finding> {
        let (meta, parent) = (&address.metadata, &address.spec.parent_ref);
        if meta.label(MANAGED_BY) != ALLOCATOR {
            return None;
        }
        if self.services.iter().any(|service| service.spec.cluster_ip == meta.name) {
            // Whether it is of the right one is seen from there.
            return None;
        }
        let (name, age) = (&meta.name, seconds(meta, self.now));
        let of_parent =
            |other: &Arc<Service>| (&other.metadata.namespace, &other.metadata.name) == (&parent.namespace, &parent.name);
        let (namespace, service) = (&parent.namespace, &parent.name);
        let (reason, words, patience) = if !parent.group.is_empty() || parent.resource != "services" {
            let words = format!("IPAddress {name} appears to have been modified, not referencing a Service: cleaning up");
            ("IPAddressNotAllocated", words, 0)
        } else if self.services.iter().any(of_parent) {
            let words = format!("IPAddress: {name} for Service {namespace}/{service} has a wrong reference; cleaning up");
            ("IPAddressWrongReference", words, YOUNG_SECONDS)
        } else {
            let words = format!("IPAddress: {name} for Service {namespace}/{service} appears to have leaked: cleaning up");
            ("IPAddressNotAllocated", words, ORPHAN_SECONDS)
        };
        (age >= patience).then(|| Finding {
            address: name.clone(),
            service: (namespace.clone(), service.clone()),
            about: reference(meta, IP_ADDRESSES),
            told: Some((reason, words)),
            act: Act::Delete(meta.uid.clone()),
        })
    }
}

/// Compares again and again.
pub async fn run(context: Arc<Context>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let (services, addresses) = (context.services.list(), context.ip_addresses.list());
        let networks = context.service_cidrs.list();
        let picture = Picture { services: &services, addresses: &addresses, networks: &networks, now: Timestamp::now() };
        for finding in picture.findings() {
            tracing::warn!(?finding, "addresses and Services differ");
            if let Some((reason, words)) = &finding.told {
                context.recorder.event(&finding.about, EventType::Warning, reason, words.clone());
            }
            if let Err(error) = act(&context, &finding).await {
                tracing::debug!(%error, "an address is not mended yet");
            }
        }
    }
}

async fn act(context: &Context, finding: &Finding) -> Result<(), Error> {
    let (client, address) = (context.client(), finding.address.as_str());
    let delete = async |uid: &String| gone(client.delete(IP_ADDRESSES, "", address, &DeleteOptions::with_uid(uid)).await);
    let create = async || {
        let (namespace, name) = &finding.service;
        let object = json!({
            "kind": IP_ADDRESSES.kind, "apiVersion": IP_ADDRESSES.api_version(),
            "metadata": { "name": address, "labels": { FAMILY: family(address), MANAGED_BY: ALLOCATOR } },
            "spec": { "parentRef": { "resource": "services", "namespace": namespace, "name": name } },
        });
        client.create::<Value>(IP_ADDRESSES, "", &object).await.map(drop)
    };
    match &finding.act {
        Act::Nothing => Ok(()),
        Act::Create => create().await,
        Act::Delete(uid) => delete(uid).await,
        Act::Recreate(uid) => {
            delete(uid).await?;
            create().await
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: &str = "2026-01-01T00:10:00Z";

    fn service(name: &str, address: &str) -> Arc<Service> {
        let metadata = json!({ "name": name, "namespace": "n", "creationTimestamp": "2026-01-01T00:00:00Z" });
        Arc::new(serde_json::from_value(json!({ "metadata": metadata, "spec": { "clusterIP": address } })).unwrap())
    }

    fn address_since(name: &str, service: &str, created: &str) -> Arc<IpAddress> {
        let labels = json!({ MANAGED_BY: ALLOCATOR, FAMILY: "IPv4" });
        let metadata = json!({ "name": name, "uid": name, "labels": labels, "creationTimestamp": created });
        let spec = json!({ "parentRef": { "resource": "services", "namespace": "n", "name": service } });
        Arc::new(serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap())
    }

    fn address(name: &str, service: &str) -> Arc<IpAddress> {
        address_since(name, service, "2026-01-01T00:00:00Z")
    }

    fn found(services: &[Arc<Service>], addresses: &[Arc<IpAddress>]) -> Vec<(String, &'static str, Act)> {
        let network = json!({ "metadata": { "name": "kubernetes" }, "spec": { "cidrs": ["10.96.0.0/16"] } });
        let networks = [Arc::new(serde_json::from_value(network).unwrap())];
        let picture = Picture { services, addresses, networks: &networks, now: NOW.parse().unwrap() };
        let short = |finding: Finding| (finding.address, finding.told.map_or("", |(reason, _)| reason), finding.act);
        picture.findings().into_iter().map(short).collect()
    }

    #[test]
    fn each_service_has_its_address_and_no_address_is_nobodys() {
        let services = [service("a", "10.96.0.5"), service("b", "10.96.0.6"), service("headless", "None")];
        assert_eq!(found(&services, &[address("10.96.0.5", "a"), address("10.96.0.6", "b")]), []);
        let missing = ("10.96.0.6".to_owned(), "ClusterIPNotAllocated", Act::Create);
        assert_eq!(found(&services, &[address("10.96.0.5", "a")]), [missing]);
        let wrong = ("10.96.0.6".to_owned(), "ClusterIPNotAllocated", Act::Recreate("10.96.0.6".to_owned()));
        assert_eq!(found(&services, &[address("10.96.0.5", "a"), address("10.96.0.6", "gone")]), [wrong]);
        let leaked = [address("10.96.0.7", "gone"), address_since("10.96.0.8", "gone", "2026-01-01T00:09:30Z")];
        let gone = ("10.96.0.7".to_owned(), "IPAddressNotAllocated", Act::Delete("10.96.0.7".to_owned()));
        assert_eq!(found(&[], &leaked), [gone]);
        let other = ("10.96.0.9".to_owned(), "IPAddressWrongReference", Act::Delete("10.96.0.9".to_owned()));
        assert_eq!(found(&services[..1], &[address("10.96.0.5", "a"), address("10.96.0.9", "a")]), [other]);
    }

    #[test]
    fn what_only_its_owner_can_mend_is_told() {
        let twice = [service("a", "10.96.0.5"), service("b", "10.96.0.5"), service("far", "10.97.0.1")];
        let told = [
            ("10.96.0.5".to_owned(), "ClusterIPAlreadyAllocated", Act::Nothing),
            ("10.97.0.1".to_owned(), "ClusterIPOutOfRange", Act::Nothing),
        ];
        assert_eq!(found(&twice, &[address("10.96.0.5", "a")]), told);
    }

    #[test]
    fn an_address_that_was_changed_is_made_anew() {
        let mut bare = IpAddress::clone(&address("10.96.0.5", "a"));
        bare.metadata.labels.clear();
        let anew = ("10.96.0.5".to_owned(), "", Act::Recreate("10.96.0.5".to_owned()));
        assert_eq!(found(&[service("a", "10.96.0.5")], &[Arc::new(bare)]), [anew]);
        let mut moved = IpAddress::clone(&address("10.96.0.6", "a"));
        moved.spec.parent_ref.resource = "gateways".to_owned();
        let gone = ("10.96.0.6".to_owned(), "IPAddressNotAllocated", Act::Delete("10.96.0.6".to_owned()));
        assert_eq!(found(&[], &[Arc::new(moved)]), [gone]);
    }
}
