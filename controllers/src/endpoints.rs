//! Endpoints: the older form in which Services say where their pods are.
//!
//! In: Services and their pods. Out: one Endpoints object for each Service that selects pods.
//! <https://kubernetes.io/docs/concepts/services-networking/service/#endpoints>

use std::{collections::BTreeMap, sync::Arc};

use futures::future::BoxFuture;
use kontiki_api::resources::{ENDPOINTS, SERVICES};
use kontiki_client::{DeleteOptions, events::EventType, reflector::ObjectKey};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    endpoint_slice::{
        self, Service, TRIGGERED,
        endpoint::{self, address_type},
    },
    model::{Labels, Meta, Pod, objects},
    pod_control::reference,
    run::{self, Reconciled, gone, seen},
};

/// Label of those that are written here.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
/// Addresses of one object; what is beyond is left out, which an annotation says.
const ADDRESSES_MAX: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// An Endpoints object.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Endpoints {
    /// What all objects have.
    pub metadata: Meta,
    /// Addresses and ports.
    pub subsets: Value,
}

objects!(Endpoints);

#[derive(Default)]
struct Subset {
    ready: Vec<Value>,
    unready: Vec<Value>,
}

fn address(service: &Service, pod: &Pod, ip: &str) -> Value {
    let mut address = json!({ "ip": ip, "targetRef": endpoint::target_reference(pod) });
    if !pod.spec.node_name.is_empty() {
        address["nodeName"] = json!(pod.spec.node_name);
    }
    if !pod.spec.hostname.is_empty() && pod.spec.subdomain == service.metadata.name {
        address["hostname"] = json!(pod.spec.hostname);
    }
    address
}

/// The subsets that a Service needs, and whether some addresses had to be left out. `pods` are those of its namespace.
pub fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<Value>, bool) {
    let family = service.spec.ip_families.first().map_or("IPv4", String::as_str);
    let mut found: BTreeMap<String, (Vec<Value>, Subset)> = BTreeMap::new();
    let all = service.spec.publish_not_ready_addresses;
    let own = pods.iter().filter(|pod| service.selects(&pod.metadata.labels) && endpoint::counts(pod));
    for pod in own.filter(|pod| all || !pod.metadata.is_deleted()) {
        let mut ips = pod.status.pod_ips.iter().map(|ip| ip.ip.as_str());
        let Some(ip) = ips.find(|ip| address_type(ip) == family) else { continue };
        let port = |port: &endpoint_slice::ServicePort| {
            let mut one = json!({ "port": endpoint::target(port, pod)?, "protocol": port.protocol });
            if !port.name.is_empty() {
                one["name"] = json!(port.name);
            }
            if let Some(protocol) = &port.app_protocol {
                one["appProtocol"] = json!(protocol);
            }
            Some(one)
        };
        let ports: Vec<Value> = service.spec.ports.iter().filter_map(port).collect();
        if ports.is_empty() && !service.spec.ports.is_empty() {
            continue;
        }
        let (_, subset) = found.entry(json!(ports).to_string()).or_insert_with(|| (ports, Subset::default()));
        let list = if all || pod.is_ready() { &mut subset.ready } else { &mut subset.unready };
        list.push(address(service, pod, ip));
    }
    let mut left = ADDRESSES_MAX;
    let mut truncated = false;
    let mut cut = |list: &mut Vec<Value>| {
        list.sort_by_key(|address| address["ip"].as_str().unwrap_or_default().to_owned());
        truncated |= list.len() > left;
        list.truncate(left);
        left -= list.len();
    };
    let mut subsets = Vec::new();
    for (_, (ports, mut subset)) in found {
        // Ready ones are worth more.
        cut(&mut subset.ready);
        cut(&mut subset.unready);
        let mut whole = json!({});
        for (name, list) in [("addresses", subset.ready), ("notReadyAddresses", subset.unready), ("ports", ports)] {
            if !list.is_empty() {
                whole[name] = json!(list);
            }
        }
        subsets.push(whole);
    }
    (subsets, truncated)
}

/// Begins to write Endpoints.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("endpoint");
    run::tell_own(&context.services, &queue);
    endpoint_slice::tell_services(context, &queue);
    let add = Arc::clone(&queue);
    context.endpoints.on_version(move |endpoints| {
        if endpoints.metadata.label(MANAGED_BY) == MANAGER {
            add.add(endpoints.metadata.key());
        }
    });
    run::controller(context, &queue, "endpoint", cancel, reconcile)
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    let have = context.endpoints.get(&key.namespace, &key.name);
    let Some(service) = context.services.get(&key.namespace, &key.name) else {
        // A Service takes its Endpoints along, whoever wrote them.
        let Some(have) = have else { return Ok(None) };
        let options = DeleteOptions::with_uid(&have.metadata.uid);
        return gone(context.client().delete(ENDPOINTS, &key.namespace, &key.name, &options).await).map(|()| None);
    };
    if service.metadata.is_deleted() || service.spec.selector.is_empty() || service.spec.r#type == "ExternalName" {
        return Ok(None);
    }
    let pods = context.pods.in_namespace(&key.namespace);
    let (subsets, truncated) = subsets(&service, &pods);
    let mut labels = endpoint_slice::labels(&service);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if let Some(have) = &have {
        let known = have.subsets.as_array().map_or(&[][..], Vec::as_slice);
        let marked = have.metadata.annotations.contains_key(OVER_CAPACITY);
        if known == subsets && have.metadata.labels == labels && marked == truncated {
            return Ok(None);
        }
    }
    let mut annotations = have.as_ref().map_or_else(Labels::new, |have| have.metadata.annotations.clone());
    annotations.remove(OVER_CAPACITY);
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    }
    if let Some(at) = endpoint::triggered(&service, &pods) {
        annotations.insert(TRIGGERED.to_owned(), at.to_string());
    }
    let mut body = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": { "name": key.name, "labels": labels, "annotations": annotations },
        "subsets": subsets,
    });
    let client = context.client();
    let written: Result<Endpoints, _> = match &have {
        Some(have) => {
            body["metadata"]["resourceVersion"] = json!(have.metadata.resource_version);
            client.update(ENDPOINTS, &key.namespace, &key.name, &body).await
        }
        None => client.create(ENDPOINTS, &key.namespace, &body).await,
    };
    match written {
        Ok(written) => {
            let version = written.metadata.resource_version;
            let before = have.map(|have| have.metadata.resource_version.clone());
            let now = || context.endpoints.get(&key.namespace, &key.name).map(|now| now.metadata.resource_version.clone());
            seen(|| now().is_some_and(|now| now == version || Some(now) != before)).await;
            Ok(None)
        }
        Err(error) => {
            if !error.is_conflict() && !error.is_namespace_terminating() && !error.is_already_exists() {
                let verb = if have.is_some() { "update" } else { "create" };
                let reason = if have.is_some() { "FailedToUpdateEndpoint" } else { "FailedToCreateEndpoint" };
                let words = format!("Failed to {verb} endpoint {key}: {error}");
                context.recorder.event(&reference(&service.metadata, SERVICES), EventType::Warning, reason, words);
            }
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn service(extra: Value) -> Service {
        let mut spec =
            json!({"selector": {"app": "web"}, "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]});
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n"}, "spec": spec})).unwrap()
    }

    fn pod(number: usize, ready: &str) -> Arc<Pod> {
        let meta = json!({"name": format!("p{number}"), "namespace": "n", "uid": format!("u{number}"), "labels": {"app": "web"}});
        let status = json!({"phase": "Running", "podIPs": [{"ip": format!("10.0.{}.{}", number / 250, number % 250)}], "conditions": [{"type": "Ready", "status": ready}]});
        Arc::new(serde_json::from_value(json!({"metadata": meta, "spec": {"nodeName": "x"}, "status": status})).unwrap())
    }

    #[test]
    fn ready_and_unready_addresses_share_a_subset() {
        let (found, truncated) = subsets(&service(json!({})), &[pod(2, "True"), pod(1, "True"), pod(3, "False")]);
        let ips =
            |list: &str| found[0][list].as_array().unwrap().iter().map(|one| one["ip"].as_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(
            (ips("addresses"), ips("notReadyAddresses"), truncated),
            (vec!["10.0.0.1", "10.0.0.2"], vec!["10.0.0.3"], false)
        );
        assert_eq!(found[0]["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
        assert_eq!(found[0]["addresses"][0]["targetRef"], json!({"kind": "Pod", "namespace": "n", "name": "p1", "uid": "u1"}));
        assert!(subsets(&service(json!({})), &[]).0.is_empty());
    }

    #[test]
    fn there_is_a_limit() {
        let pods: Vec<_> = (0..1001).map(|number| pod(number, "True")).collect();
        let (found, truncated) = subsets(&service(json!({})), &pods);
        assert_eq!((found[0]["addresses"].as_array().unwrap().len(), truncated), (1000, true));
    }

    #[test]
    fn headless_services_without_ports_and_all_addresses() {
        let (found, _) =
            subsets(&service(json!({"ports": [], "clusterIP": "None", "publishNotReadyAddresses": true})), &[pod(1, "False")]);
        assert_eq!((found[0]["addresses"].as_array().unwrap().len(), found[0].get("ports")), (1, None));
    }
}
