//! The networks of Services, and the objects of their addresses.
//!
//! In: ServiceCIDRs, IPAddresses, Services. Out: each ServiceCIDR ready and held by a finalizer while it goes and
//! addresses of it are in use; Services and addresses that agree (`repair.rs`).
//! <https://kubernetes.io/docs/reference/networking/virtual-ips/#ip-address-objects>

mod repair;

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use kontiki_api::resources::SERVICE_CIDRS;
use kontiki_client::{Patch, reflector::ObjectKey};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    model::{Condition, Meta, conditions, objects},
    run::{self, Reconciled, gone},
    written::write_status,
};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// How soon a network that addresses hold is looked at again.
const AGAIN: Duration = Duration::from_secs(5);

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
    /// Group.
    pub group: String,
    /// Resource.
    pub resource: String,
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

/// Begins to tend networks and addresses.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("service_cidrs");
    run::tell_own(&context.service_cidrs, &queue);
    let (tended, repaired) = (run::controller(context, &queue, "service_cidrs", cancel.clone(), reconcile), Arc::clone(context));
    Box::pin(async move {
        tokio::select! {
            () = tended => {}
            () = repair::run(repaired) => {}
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
        let spec = json!({ "parentRef": { "resource": "services", "namespace": "n", "name": service } });
        Arc::new(serde_json::from_value(json!({ "metadata": { "name": name, "uid": name }, "spec": spec })).unwrap())
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
}
