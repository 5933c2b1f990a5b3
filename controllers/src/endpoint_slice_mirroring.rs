//! Endpoints that people write themselves, for Services without a selector, are mirrored into slices.
//!
//! <https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#endpointslice-mirroring>

use std::{collections::BTreeMap, sync::Arc};

use futures::future::BoxFuture;
use kontiki_api::resources::ENDPOINTS;
use kontiki_client::reflector::ObjectKey;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    endpoint_slice::{
        Frame, MANAGED_BY, SERVICE_NAME, TRIGGERED,
        arrange::{self, Group},
        endpoint::address_type,
        write,
    },
    endpoints::Endpoints,
    pod_control::Owner,
    run::{self, Reconciled},
};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Label of Endpoints that are not mirrored.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Annotation of Endpoints that are no endpoints but a lock.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses of a subset that are mirrored.
const ADDRESSES_MAX: usize = 1000;

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn endpoint(address: &Value, ready: bool) -> Value {
    let mut endpoint = json!({ "addresses": [address["ip"]], "conditions": { "ready": ready } });
    for field in ["hostname", "nodeName", "targetRef"] {
        if !address[field].is_null() {
            endpoint[field] = address[field].clone();
        }
    }
    endpoint
}

/// The slices' endpoints that mirror some Endpoints.
pub fn mirror(endpoints: &Endpoints) -> Vec<Group> {
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    for subset in list(&endpoints.subsets) {
        let ports: Vec<Value> = list(&subset["ports"])
            .map(|port| {
                let mut port = port.clone();
                // An endpoint slice's port always has a name.
                if port["name"].is_null() {
                    port["name"] = json!("");
                }
                port
            })
            .collect();
        let ready = list(&subset["addresses"]).map(|address| (address, true));
        let unready = list(&subset["notReadyAddresses"]).map(|address| (address, false));
        for (address, ready) in ready.chain(unready).take(ADDRESSES_MAX) {
            let family = address_type(address["ip"].as_str().unwrap_or_default());
            let group = groups.entry((family.to_owned(), json!(ports).to_string())).or_insert_with(|| Group {
                address_type: family.to_owned(),
                ports: json!(ports),
                endpoints: Vec::new(),
            });
            group.endpoints.push(endpoint(address, ready));
        }
    }
    groups.into_values().collect()
}

/// Begins to mirror.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("endpoint_slice_mirroring");
    run::tell_own(&context.endpoints, &queue);
    run::tell_own(&context.services, &queue);
    let add = Arc::clone(&queue);
    context.endpoint_slices.on_version(move |slice| {
        let meta = &slice.metadata;
        if meta.label(MANAGED_BY) == MANAGER {
            add.add(ObjectKey::new(meta.namespace.clone(), meta.label(SERVICE_NAME)));
        }
    });
    run::controller(context, &queue, "endpoint_slice_mirroring", cancel, reconcile)
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    let existing = context.slices_of(&key.namespace, &key.name);
    let existing: Vec<_> = existing.into_iter().filter(|slice| slice.metadata.label(MANAGED_BY) == MANAGER).collect();
    let endpoints = context.endpoints.get(&key.namespace, &key.name);
    let unselective = context.services.get(&key.namespace, &key.name).is_some_and(|service| service.spec.selector.is_empty());
    let mirrored = endpoints.as_ref().filter(|endpoints| {
        let meta = &endpoints.metadata;
        unselective && !meta.is_deleted() && meta.label(SKIP) != "true" && !meta.annotations.contains_key(LEADER)
    });
    let Some(endpoints) = mirrored else {
        let arrangement = arrange::Arrangement { delete: existing, ..Default::default() };
        let meta = crate::model::Meta { namespace: key.namespace.clone(), ..Default::default() };
        let frame =
            Frame { owner: Owner { key: ENDPOINTS, meta: &meta }, labels: Default::default(), annotations: Default::default() };
        return write(&context, &frame, arrangement).await.map(|()| None);
    };
    let meta = &endpoints.metadata;
    let mut labels = meta.labels.clone();
    labels.insert(SERVICE_NAME.to_owned(), key.name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = meta.annotations.clone();
    annotations.remove(TRIGGERED);
    let frame = Frame { owner: Owner { key: ENDPOINTS, meta }, labels, annotations };
    write(&context, &frame, arrange::arrange(&existing, mirror(endpoints))).await.map(|()| None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn subsets_become_groups_by_family_and_ports() {
        let subsets = json!([
            {"addresses": [{"ip": "10.0.0.1", "nodeName": "x"}, {"ip": "fd00::1"}], "ports": [{"port": 80, "protocol": "TCP"}]},
            {"notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 80, "protocol": "TCP"}]},
            {"addresses": [{"ip": "10.0.0.3"}], "ports": [{"name": "b", "port": 81, "protocol": "UDP"}]},
        ]);
        let groups = mirror(&Endpoints { subsets, ..Endpoints::default() });
        let shown: Vec<_> = groups
            .iter()
            .map(|group| (group.address_type.as_str(), group.endpoints.len(), group.ports[0]["port"].as_i64().unwrap()))
            .collect();
        assert_eq!(shown, [("IPv4", 2, 80), ("IPv4", 1, 81), ("IPv6", 1, 80)]);
        assert_eq!(groups[0].endpoints[1], json!({"addresses": ["10.0.0.2"], "conditions": {"ready": false}}));
        assert!(mirror(&Endpoints::default()).is_empty());
    }
}
