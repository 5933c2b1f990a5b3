//! What a pod and a volume refer to, read off their JSON.

use serde_json::Value;

use super::graph::{Kind, Vertex};

const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    kontiki_api::object::text(object, pointer)
}

fn items<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// Objects of a pod's namespace that it names. A mirror pod, which a node makes itself, leads nowhere.
pub(super) fn of_pod(namespace: &str, pod: &Value) -> Vec<Vertex> {
    if kontiki_api::object::meta::annotation(pod, MIRROR).is_some() {
        return Vec::new();
    }
    let mut found = vec![(Kind::ServiceAccount, text(pod, "/spec/serviceAccountName"))];
    found.extend(items(pod, "/spec/imagePullSecrets").map(|secret| (Kind::Secret, text(secret, "/name"))));
    for list in ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"] {
        for container in items(pod, list) {
            for variable in items(container, "/env") {
                found.push((Kind::Secret, text(variable, "/valueFrom/secretKeyRef/name")));
                found.push((Kind::ConfigMap, text(variable, "/valueFrom/configMapKeyRef/name")));
            }
            for source in items(container, "/envFrom") {
                found.push((Kind::Secret, text(source, "/secretRef/name")));
                found.push((Kind::ConfigMap, text(source, "/configMapRef/name")));
            }
        }
    }
    let claim_of = |volume: &Value| format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name"));
    let mut found: Vec<Vertex> = found.into_iter().map(|(kind, name)| (kind, namespace.to_owned(), name.to_owned())).collect();
    let mut add = |kind, name: &str| found.push((kind, namespace.to_owned(), name.to_owned()));
    for volume in items(pod, "/spec/volumes") {
        add(Kind::ConfigMap, text(volume, "/configMap/name"));
        add(Kind::PersistentVolumeClaim, text(volume, "/persistentVolumeClaim/claimName"));
        if volume.get("ephemeral").is_some_and(Value::is_object) {
            add(Kind::PersistentVolumeClaim, &claim_of(volume));
        }
        add(Kind::Secret, text(volume, "/secret/secretName"));
        for source in items(volume, "/projected/sources") {
            add(Kind::Secret, text(source, "/secret/name"));
            add(Kind::ConfigMap, text(source, "/configMap/name"));
        }
        volume_secrets(volume).for_each(|(_, name)| add(Kind::Secret, name));
    }
    for claim in items(pod, "/spec/resourceClaims") {
        add(Kind::ResourceClaim, text(claim, "/resourceClaimName"));
    }
    for claim in items(pod, "/status/resourceClaimStatuses") {
        add(Kind::ResourceClaim, text(claim, "/resourceClaimName"));
    }
    add(Kind::ResourceClaim, text(pod, "/status/extendedResourceClaimStatus/resourceClaimName"));
    found.retain(|(_, _, name)| !name.is_empty());
    found.sort_unstable_by(|one, other| (one.0 as u8, &one.2).cmp(&(other.0 as u8, &other.2)));
    found.dedup();
    found
}

/// Secrets that a node needs to mount a volume of some kind: namespace, empty for that of the user, and name.
fn volume_secrets(source: &Value) -> impl Iterator<Item = (&str, &str)> {
    const REFERENCES: [&str; 4] = ["secretRef", "nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"];
    source.as_object().into_iter().flatten().flat_map(|(kind, source)| {
        let referred = REFERENCES.iter().filter_map(|field| source.get(field));
        let referred = referred.map(|reference| (text(reference, "/namespace"), text(reference, "/name")));
        let file = (kind == "azureFile").then(|| (text(source, "/secretNamespace"), text(source, "/secretName")));
        referred.chain(file).filter(|(_, name)| !name.is_empty())
    })
}

/// The claim that a volume is bound to, and the secrets that mounting it needs; `None` while it is not bound.
#[expect(clippy::type_complexity, reason = "two names, each of namespace and name")]
pub(super) fn of_volume(volume: &Value) -> Option<((String, String), Vec<(String, String)>)> {
    let claim = volume.pointer("/spec/claimRef").filter(|claim| claim.is_object())?;
    let claim = (text(claim, "/namespace").to_owned(), text(claim, "/name").to_owned());
    let secrets = volume_secrets(&volume["spec"]).map(|(namespace, name)| {
        let namespace = if namespace.is_empty() { claim.0.as_str() } else { namespace };
        (namespace.to_owned(), name.to_owned())
    });
    let secrets = secrets.collect();
    Some((claim, secrets))
}
