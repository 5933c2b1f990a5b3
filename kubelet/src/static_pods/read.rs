//! A static pod from its file. Pure.
//! <https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/>

use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kontiki_api::{kinds, registry, resources::PODS};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{HASH, SOURCE};

/// Objects of the API that a pod in a file may not refer to: it is not the API's.
const REFERENCES: [(&str, &str); 6] = [
    ("/spec/serviceAccountName", "serviceaccounts"),
    ("/spec/resourceClaims", "resourceclaims"),
    ("/configMap", "configmaps"),
    ("/secret", "secrets"),
    ("/persistentVolumeClaim", "persistentvolumeclaims"),
    ("/projected", "projected volumes"),
];

/// The pod that a file describes on a node, or why it describes none.
pub fn read(text: &str, path: &Path, node_name: &str) -> Result<Pod, String> {
    let mut pod: Value = serde_norway::from_str(text).map_err(|error| format!("couldn't parse as pod({error})"))?;
    if pod["kind"] != "Pod" || pod["apiVersion"] != "v1" {
        return Err(format!("couldn't parse as pod(it is a {} of {})", pod["kind"], pod["apiVersion"]));
    }
    // From here on every field has its type.
    let resource = registry::of(&PODS).ok_or("pods are not known")?;
    resource.clean(&mut pod).map_err(|status| format!("couldn't parse as pod({})", status.message))?;
    let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err("invalid pod: name is needed for the pod".to_owned());
    }
    let uid = pod["metadata"]["uid"].as_str().map_or_else(|| hash(&pod, path, node_name), str::to_owned);
    let namespace =
        pod["metadata"]["namespace"].as_str().filter(|namespace| !namespace.is_empty()).unwrap_or("default").to_owned();
    let metadata = &mut pod["metadata"];
    metadata["name"] = json!(format!("{name}-{}", node_name.to_lowercase()));
    metadata["namespace"] = json!(namespace);
    metadata["uid"] = json!(uid);
    metadata["annotations"][HASH] = json!(uid);
    metadata["annotations"][SOURCE] = json!("file");
    pod["spec"]["nodeName"] = json!(node_name);
    tolerate_all(&mut pod["spec"]);
    pod["status"] = json!({"phase": "Pending"});
    if let Some(resource) = reference(&pod) {
        return Err(format!("static pods may not reference {resource}"));
    }
    check(&mut pod)?;
    serde_json::from_value(pod).map_err(|error| format!("couldn't parse as pod({error})"))
}

/// The same file on the same node is the same pod; another text is another one.
fn hash(pod: &Value, path: &Path, node_name: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(pod.to_string());
    hasher.update(format!("host:{node_name}file:{}", path.display()));
    hex::encode(hasher.finalize())[..32].to_owned()
}

/// Trouble with the node does not drive static pods away.
fn tolerate_all(spec: &mut Value) {
    let tolerated = json!({"operator": "Exists", "effect": "NoExecute"});
    let mut list = spec["tolerations"].as_array().cloned().unwrap_or_default();
    if !list.contains(&tolerated) {
        list.push(tolerated);
    }
    spec["tolerations"] = json!(list);
}

/// A kind of object that the pod refers to.
fn reference(pod: &Value) -> Option<&'static str> {
    let is = |place: &Value, pointer: &str| place.pointer(pointer).is_some_and(|found| !found.is_null() && *found != "");
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let places: Vec<&Value> = [pod].into_iter().chain(volumes).collect();
    let found = REFERENCES.iter().find(|(pointer, _)| places.iter().any(|place| is(place, pointer)));
    let containers =
        ["initContainers", "containers"].into_iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    let mut sources = containers.flat_map(|container| {
        let one_by_one = container["env"].as_array().into_iter().flatten().map(|variable| &variable["valueFrom"]);
        one_by_one.chain(container["envFrom"].as_array().into_iter().flatten())
    });
    let keys = [
        ("configMapKeyRef", "configmaps"),
        ("secretKeyRef", "secrets"),
        ("configMapRef", "configmaps"),
        ("secretRef", "secrets"),
    ];
    let in_environment =
        || sources.find_map(|source| keys.iter().find(|(key, _)| !source[*key].is_null()).map(|(_, kind)| *kind));
    found.map(|(_, kind)| *kind).or_else(in_environment)
}

/// Fills in what the file leaves out, and looks whether the API would take it: it is to show it.
fn check(pod: &mut Value) -> Result<(), String> {
    let strategy = kinds::strategy(&PODS);
    strategy.set_defaults(pod);
    let mistakes = strategy.validate(pod);
    if mistakes.is_empty() {
        return Ok(());
    }
    Err(format!("invalid pod: {}", mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {a: b}}\nspec:\n  containers:\n  - {name: c, image: nginx}\n";

    fn of(text: &str) -> Result<Pod, String> {
        read(text, Path::new("/manifests/web.yaml"), "node-1")
    }

    #[test]
    fn a_pod_of_this_node_with_kubernetes_defaults() {
        let pod = of(TEXT).unwrap();
        let metadata = &pod.metadata;
        assert_eq!((metadata.name.as_deref(), metadata.namespace.as_deref()), (Some("web-node-1"), Some("default")));
        assert_eq!(metadata.annotations.as_ref().unwrap()[HASH], *metadata.uid.as_ref().unwrap());
        let spec = pod.spec.unwrap();
        assert_eq!((spec.node_name.as_deref(), spec.restart_policy.as_deref()), (Some("node-1"), Some("Always")));
        assert_eq!(spec.containers[0].image_pull_policy.as_deref(), Some("Always"));
        assert_eq!(spec.tolerations.unwrap()[0].effect.as_deref(), Some("NoExecute"));
    }

    #[test]
    fn another_text_is_another_pod_and_the_same_is_the_same() {
        let uid = |text: &str| of(text).unwrap().metadata.uid.unwrap();
        assert_eq!(uid(TEXT), uid(TEXT));
        assert_eq!(uid(TEXT), uid(&format!("# a word\n{TEXT}")));
        assert_ne!(uid(TEXT), uid(&TEXT.replace("nginx", "nginx:2")));
        assert_eq!(uid(TEXT).len(), 32);
    }

    #[test]
    fn what_is_no_static_pod_is_refused() {
        let cases = [
            ("kind: Service", "couldn't parse"),
            ("[", "couldn't parse"),
            ("apiVersion: v1\nkind: Pod\nmetadata: [x]", "couldn't parse"),
            ("apiVersion: v1\nkind: Pod\nspec: {}", "name is needed"),
            ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}", "spec.containers: Required value"),
        ];
        for (text, wanted) in cases {
            let error = of(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        let with = |more: &str| of(&format!("{TEXT}{more}")).unwrap_err();
        assert!(with("  serviceAccountName: s\n").ends_with("serviceaccounts"));
        assert!(with("  volumes: [{name: v, secret: {secretName: s}}]\n").ends_with("secrets"));
        let environment = TEXT.replace("image: nginx", "image: nginx, envFrom: [{configMapRef: {name: m}}]");
        assert!(of(&environment).unwrap_err().ends_with("configmaps"));
    }
}
