//! The networks of Services, and the objects of their addresses.
//!
//! In: ServiceCIDRs, IPAddresses, Services. Out: each ServiceCIDR ready and held by a finalizer while it goes and
//! addresses of it are in use; an IPAddress for each Service that lacks its own, and none that no Service has.
//! <https://kubernetes.io/docs/reference/networking/virtual-ips/#ip-address-objects>

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use kontiki_api::resources::{IP_ADDRESSES, SERVICE_CIDRS};
use kontiki_client::{DeleteOptions, Patch, reflector::ObjectKey};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    endpoint_slice::Service,
    model::{Condition, Meta, conditions, objects},
    run::{self, Reconciled, gone},
    written::write_status,
};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
/// How soon a network that addresses hold is looked at again.
const AGAIN: Duration = Duration::from_secs(5);
/// How often addresses are compared with Services.
const REPAIR: Duration = Duration::from_secs(30);
/// A Service and its address become known one after the other: younger objects are let be.
const YOUNG_SECONDS: i64 = 10;

/// A ServiceCIDR.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ServiceCidr {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: ServiceCidrSpec,
    /// What is.
    pub status: Value,
}

/// What was asked for of a ServiceCIDR.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ServiceCidrSpec {
    /// Networks, one of each family at most.
    pub cidrs: Vec<String>,
}

/// An IPAddress.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct IpAddress {
    /// What all objects have.
    pub metadata: Meta,
    /// Who has it.
    pub spec: IpAddressSpec,
}

/// Who has an address.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IpAddressSpec {
    /// The object.
    pub parent_ref: Parent,
}

/// The object that has an address.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Parent {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

objects!(ServiceCidr, IpAddress);

/// Whether a network contains an address.
fn contains(network: &str, address: IpAddr) -> bool {
    let Some((base, length)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    };
    let mask = if length == 0 { 0 } else { u128::MAX.checked_shl(128 - length.min(128)).unwrap_or(u128::MAX) };
    base.is_ipv4() == address.is_ipv4() && bits(base) & mask == bits(address) & mask
}

/// Whether a network may go: none of its addresses is in use but those that another network has too.
fn is_free(cidr: &ServiceCidr, others: &[Arc<ServiceCidr>], addresses: &[Arc<IpAddress>]) -> bool {
    let has = |cidr: &ServiceCidr, address: IpAddr| cidr.spec.cidrs.iter().any(|network| contains(network, address));
    let alive = |other: &&Arc<ServiceCidr>| !other.metadata.is_deleted() && other.metadata.uid != cidr.metadata.uid;
    let mut used = addresses.iter().filter_map(|address| address.metadata.name.parse().ok());
    !used.any(|address| has(cidr, address) && !others.iter().filter(alive).any(|other| has(other, address)))
}

/// What mends the difference between Services and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Repair {
    /// Address, and namespace and name of its Service.
    Create(String, String, String),
    /// Name and UID.
    Delete(String, String),
}

fn repairs(services: &[Arc<Service>], addresses: &[Arc<IpAddress>], now: Timestamp) -> Vec<Repair> {
    let old = |meta: &Meta| meta.creation_timestamp.is_none_or(|made| now.as_second() - made.as_second() >= YOUNG_SECONDS);
    let with_address = services.iter().filter(|service| service.spec.cluster_ip.parse::<IpAddr>().is_ok());
    let held: BTreeMap<&str, &Arc<Service>> = with_address.map(|service| (service.spec.cluster_ip.as_str(), service)).collect();
    let known = |address: &str| addresses.iter().any(|one| one.metadata.name == address);
    let missing = held.iter().filter(|(address, service)| !known(address) && old(&service.metadata));
    let mut repairs: Vec<Repair> = missing
        .map(|(address, service)| {
            let meta = &service.metadata;
            Repair::Create((*address).to_owned(), meta.namespace.clone(), meta.name.clone())
        })
        .collect();
    let own = addresses.iter().filter(|one| one.metadata.label(MANAGED_BY) == ALLOCATOR && old(&one.metadata));
    let spare = own.filter(|one| {
        let parent = &one.spec.parent_ref;
        held.get(one.metadata.name.as_str())
            .is_none_or(|service| (&service.metadata.namespace, &service.metadata.name) != (&parent.namespace, &parent.name))
    });
    repairs.extend(spare.map(|one| Repair::Delete(one.metadata.name.clone(), one.metadata.uid.clone())));
    repairs
}

/// Begins to tend networks and addresses.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("service_cidrs");
    run::tell_own(&context.service_cidrs, &queue);
    let (tended, repaired) = (run::controller(context, &queue, "service_cidrs", cancel.clone(), reconcile), Arc::clone(context));
    Box::pin(async move {
        tokio::select! {
            () = tended => {}
            () = repair(repaired) => {}
            () = cancel.cancelled() => {}
        }
    })
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    let Some(cidr) = context.service_cidrs.get("", &key.name) else { return Ok(None) };
    let has = cidr.metadata.has_finalizer(FINALIZER);
    let finalizers = |list: Vec<&str>| {
        let meta = &cidr.metadata;
        Patch::Merge(json!({ "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": list } }))
    };
    let own: Vec<&str> = cidr.metadata.finalizers.iter().map(String::as_str).collect();
    let patch =
        async |list| gone(context.client().patch::<Value>(SERVICE_CIDRS, "", &key.name, None, finalizers(list)).await.map(drop));
    let mut found = conditions(&cidr.status);
    if cidr.metadata.is_deleted() {
        if !has {
            return Ok(None);
        }
        if is_free(&cidr, &context.service_cidrs.list(), &context.ip_addresses.list()) {
            patch(own.into_iter().filter(|name| *name != FINALIZER).collect()).await?;
            return Ok(None);
        }
        let words = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        Condition::set(&mut found, "Ready", "False", "Terminating", words, Timestamp::now());
        let want = json!({ "conditions": found });
        write_status(&context, SERVICE_CIDRS, &cidr.metadata, &cidr.status, &want).await?;
        return Ok(Some(AGAIN));
    }
    if !has {
        // Its change brings it here again.
        patch([own, vec![FINALIZER]].concat()).await?;
        return Ok(None);
    }
    Condition::set(&mut found, "Ready", "True", "", "Kubernetes Service CIDR is ready", Timestamp::now());
    write_status(&context, SERVICE_CIDRS, &cidr.metadata, &cidr.status, &json!({ "conditions": found })).await?;
    Ok(None)
}

async fn repair(context: Arc<Context>) {
    loop {
        tokio::time::sleep(REPAIR).await;
        let found = repairs(&context.services.list(), &context.ip_addresses.list(), Timestamp::now());
        for repair in found {
            tracing::warn!(?repair, "addresses and Services differ");
            let done = match repair {
                Repair::Delete(name, uid) => {
                    gone(context.client().delete(IP_ADDRESSES, "", &name, &DeleteOptions::with_uid(&uid)).await)
                }
                Repair::Create(address, namespace, name) => {
                    let family = if address.contains(':') { "IPv6" } else { "IPv4" };
                    let object = json!({
                        "kind": IP_ADDRESSES.kind, "apiVersion": IP_ADDRESSES.api_version(),
                        "metadata": { "name": address, "labels": { FAMILY: family, MANAGED_BY: ALLOCATOR } },
                        "spec": { "parentRef": { "resource": "services", "namespace": namespace, "name": name } },
                    });
                    context.client().create::<Value>(IP_ADDRESSES, "", &object).await.map(drop)
                }
            };
            if let Err(error) = done {
                tracing::debug!(%error, "an address is not mended yet");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cidr(uid: &str, networks: &[&str], deleted: bool) -> Arc<ServiceCidr> {
        let mut metadata = json!({ "name": uid, "uid": uid });
        if deleted {
            metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Arc::new(serde_json::from_value(json!({ "metadata": metadata, "spec": { "cidrs": networks } })).unwrap())
    }

    fn address(name: &str, service: &str) -> Arc<IpAddress> {
        let metadata = json!({ "name": name, "uid": name, "labels": { MANAGED_BY: ALLOCATOR } });
        let spec = json!({ "parentRef": { "resource": "services", "namespace": "n", "name": service } });
        Arc::new(serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap())
    }

    fn service(name: &str, address: &str) -> Arc<Service> {
        let object = json!({ "metadata": { "name": name, "namespace": "n" }, "spec": { "clusterIP": address } });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn networks_contain_their_addresses() {
        for (network, address, wanted) in [
            ("10.96.0.0/16", "10.96.255.1", true),
            ("10.96.0.0/16", "10.97.0.1", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("fd00::/112", "fd00::1", true),
            ("fd00::/112", "fd00::1:0:1", false),
            ("10.96.0.0/16", "fd00::1", false),
            ("x", "10.96.0.1", false),
        ] {
            assert_eq!(contains(network, address.parse().unwrap()), wanted, "{network} {address}");
        }
    }

    #[test]
    fn a_network_stays_while_only_it_has_an_address_in_use() {
        let going = cidr("a", &["10.96.0.0/16"], true);
        let used = [address("10.96.0.1", "s")];
        assert!(!is_free(&going, &[Arc::clone(&going)], &used));
        assert!(is_free(&going, &[Arc::clone(&going), cidr("b", &["10.0.0.0/8"], false)], &used));
        assert!(!is_free(&going, &[Arc::clone(&going), cidr("b", &["10.0.0.0/8"], true)], &used), "it is going too");
        assert!(is_free(&going, &[Arc::clone(&going)], &[address("10.97.0.1", "s")]));
    }

    #[test]
    fn each_service_has_its_address_and_no_address_is_nobodys() {
        let services = [service("a", "10.96.0.5"), service("b", "10.96.0.6"), service("headless", "None")];
        let addresses = [address("10.96.0.5", "a"), address("10.96.0.7", "gone"), address("10.96.0.6", "other")];
        let wanted =
            [Repair::Delete("10.96.0.7".into(), "10.96.0.7".into()), Repair::Delete("10.96.0.6".into(), "10.96.0.6".into())];
        assert_eq!(repairs(&services, &addresses, Timestamp::now()), wanted);
        let create = Repair::Create("10.96.0.6".into(), "n".into(), "b".into());
        assert_eq!(repairs(&services, &addresses[..1], Timestamp::now()), [create]);
    }
}
