//! EndpointSlices: where the pods of a Service are.
//!
//! In: Services, their pods, the pods' nodes. Out: slices. What an endpoint says is in [`endpoint`], how endpoints are
//! spread over slices in [`arrange`], which also serves those who mirror ([`crate::endpoint_slice_mirroring`]).
//! <https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/>

pub mod arrange;
pub mod endpoint;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::future::BoxFuture;
use kontiki_api::resources::{ENDPOINT_SLICES, SERVICES};
use kontiki_client::{DeleteOptions, Error, Patch, events::EventType, queue::WorkQueue, reflector::ObjectKey};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::arrange::{Arrangement, Group};
use crate::{
    context::Context,
    model::{Labels, Meta, Pod, objects},
    pod_control::{Owner, reference},
    run::{self, Reconciled, gone, seen},
};

/// Label that names a slice's Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label that names who writes a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Annotation of when what is said last changed at its source.
pub const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Label of what belongs to a Service without an address.
pub const HEADLESS: &str = "service.kubernetes.io/headless";
const MANAGER: &str = "endpointslice-controller.k8s.io";

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Service {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: ServiceSpec,
}

/// What was asked for of a Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Which pods; none where empty.
    pub selector: Labels,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Address; `None` for a headless Service.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// Families of its addresses.
    pub ip_families: Vec<String>,
    /// Type.
    pub r#type: String,
    /// Whether pods that are not ready are published too.
    pub publish_not_ready_addresses: bool,
    /// Which endpoints are preferred.
    pub traffic_distribution: String,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    /// Name.
    pub name: String,
    /// Protocol.
    pub protocol: String,
    /// Number.
    pub port: u16,
    /// Number or name at the pod.
    pub target_port: Value,
    /// Protocol of the application.
    pub app_protocol: Option<String>,
}

impl Service {
    /// Whether a pod with these labels belongs to it.
    pub fn selects(&self, labels: &Labels) -> bool {
        let selector = &self.spec.selector;
        !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Slice {
    /// What all objects have.
    pub metadata: Meta,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// Endpoints.
    pub endpoints: Value,
    /// Ports.
    pub ports: Value,
}

objects!(Service, Slice);

/// Begins to write slices.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("endpoint_slice");
    run::tell_own(&context.services, &queue);
    tell_services(context, &queue);
    let add = Arc::clone(&queue);
    context.endpoint_slices.on_version(move |slice| {
        let meta = &slice.metadata;
        if meta.label(MANAGED_BY) == MANAGER {
            add.add(ObjectKey::new(meta.namespace.clone(), meta.label(SERVICE_NAME)));
        }
    });
    run::controller(context, &queue, "endpoint_slice", cancel, reconcile)
}

/// Queues the Services of each pod of which something changes that they are told.
pub fn tell_services(context: &Arc<Context>, queue: &Arc<WorkQueue<ObjectKey>>) {
    let (all, add) = (Arc::clone(context), Arc::clone(queue));
    context.pods.on_change(move |change| {
        let told = |pod: &Pod| {
            let meta = &pod.metadata;
            (
                meta.labels.clone(),
                meta.is_deleted(),
                pod.is_ready(),
                pod.has_ended(),
                pod.status.pod_ips.clone(),
                pod.spec.node_name.clone(),
            )
        };
        if change.old.as_deref().map(told) == change.new.as_deref().map(told) {
            return;
        }
        let services = all.services.in_namespace(&change.key.namespace);
        for pod in change.old.iter().chain(&change.new) {
            let selecting = services.iter().filter(|service| service.selects(&pod.metadata.labels));
            selecting.for_each(|service| add.add(service.metadata.key()));
        }
    });
}

/// Labels of what belongs to a Service: its own, and whether it has an address.
pub fn labels(service: &Service) -> Labels {
    let mut labels = service.metadata.labels.clone();
    labels.remove(HEADLESS);
    if service.spec.cluster_ip == "None" {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    let Some(service) = context.services.get(&key.namespace, &key.name) else { return Ok(None) };
    let spec = &service.spec;
    if service.metadata.is_deleted() || spec.selector.is_empty() || spec.r#type == "ExternalName" {
        return Ok(None);
    }
    let pods = context.pods.in_namespace(&key.namespace);
    let groups = endpoint::wanted(&service, &pods, &|name| context.nodes.get("", name));
    let existing = context.slices_of(&key.namespace, &key.name);
    let existing: Vec<_> = existing.into_iter().filter(|slice| slice.metadata.label(MANAGED_BY) == MANAGER).collect();
    let arrangement = arrange::arrange(&existing, groups);
    let mut labels = labels(&service);
    labels.insert(SERVICE_NAME.to_owned(), key.name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = Labels::new();
    if let Some(at) = endpoint::triggered(&service, &pods) {
        annotations.insert(TRIGGERED.to_owned(), at.to_string());
    }
    let owner = Owner { key: SERVICES, meta: &service.metadata };
    let frame = Frame { owner, labels, annotations };
    if let Err(error) = write(&context, &frame, arrangement).await {
        if !error.is_namespace_terminating() && !error.is_conflict() {
            let words = format!("Error updating Endpoint Slices for Service {key}: {error}");
            context.recorder.event(
                &reference(&service.metadata, SERVICES),
                EventType::Warning,
                "FailedToUpdateEndpointSlices",
                words,
            );
        }
        return Err(error);
    }
    Ok(None)
}

/// What the slices of one owner have in common.
pub struct Frame<'a> {
    /// Whom they belong to.
    pub owner: Owner<'a>,
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
}

/// Lists are equal although one is absent where the other is empty.
fn same(have: &Value, want: &[Value]) -> bool {
    have.as_array().map_or(&[][..], Vec::as_slice) == want
}

/// Writes what differs.
pub async fn write(context: &Context, frame: &Frame<'_>, arrangement: Arrangement) -> Result<(), Error> {
    let namespace = &frame.owner.meta.namespace;
    let client = context.client();
    for (slice, endpoints) in arrangement.keep {
        let meta = &slice.metadata;
        // When something changed says nothing new by itself.
        let others = |annotations: &Labels| {
            annotations
                .iter()
                .filter(|(name, _)| *name != TRIGGERED)
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect::<Labels>()
        };
        if same(&slice.endpoints, &endpoints)
            && meta.labels == frame.labels
            && others(&meta.annotations) == others(&frame.annotations)
        {
            continue;
        }
        let gone_labels =
            meta.labels.keys().filter(|label| !frame.labels.contains_key(*label)).map(|label| (label.clone(), Value::Null));
        let labels: serde_json::Map<_, _> =
            gone_labels.chain(frame.labels.iter().map(|(label, value)| (label.clone(), json!(value)))).collect();
        let patch = json!({
            "metadata": { "resourceVersion": meta.resource_version, "labels": labels, "annotations": frame.annotations },
            "endpoints": endpoints,
        });
        let written = client.patch::<Slice>(ENDPOINT_SLICES, namespace, &meta.name, None, Patch::Merge(patch)).await;
        match written {
            Ok(slice) => {
                let version = slice.metadata.resource_version;
                let shown = |now: &Slice| {
                    now.metadata.resource_version != meta.resource_version || now.metadata.resource_version == version
                };
                seen(|| context.endpoint_slices.get(namespace, &meta.name).is_none_or(|now| shown(&now))).await;
            }
            Err(error) => gone(Err(error))?,
        }
    }
    for Group { address_type, ports, endpoints } in arrangement.create {
        let body = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "generateName": format!("{}-", frame.owner.meta.name),
                "labels": frame.labels, "annotations": frame.annotations, "ownerReferences": [frame.owner.controller()],
            },
            "addressType": address_type,
            "endpoints": endpoints,
            "ports": ports,
        });
        let made: Slice = client.create(ENDPOINT_SLICES, namespace, &body).await?;
        // Else the next look would make it again.
        seen(|| context.endpoint_slices.get(namespace, &made.metadata.name).is_some()).await;
    }
    for slice in arrangement.delete {
        let meta = &slice.metadata;
        gone(client.delete(ENDPOINT_SLICES, namespace, &meta.name, &DeleteOptions::with_uid(&meta.uid)).await)?;
    }
    Ok(())
}
