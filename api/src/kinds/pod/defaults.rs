//! What a user may leave out of a pod's specification, as v1.36 fills it in.

use serde_json::{Map, Value, json};

use crate::kinds::common::{default, items_mut, map_of};

/// Defaults of a pod.
pub fn set_spec_defaults(pod: &mut Value) {
    set_template_defaults(pod);
    // A pod that runs knows whether services show in its environment; a template need not say.
    if let Some(spec) = map_of(pod, "spec") {
        default(spec, "enableServiceLinks", true);
    }
}

/// Defaults of anything with a pod's `spec`: a pod or a template.
pub fn set_template_defaults(holder: &mut Value) {
    let Some(spec) = map_of(holder, "spec") else { return };
    default(spec, "restartPolicy", "Always");
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "schedulerName", "default-scheduler");
    default(spec, "securityContext", Map::new());
    if let Some(account) = spec.get("serviceAccountName").or_else(|| spec.get("serviceAccount")).cloned() {
        spec.insert("serviceAccountName".into(), account.clone());
        spec.insert("serviceAccount".into(), account);
    }
    let host_network = spec.get("hostNetwork") == Some(&json!(true));
    for list in ["/spec/initContainers", "/spec/containers"] {
        items_mut(holder, list).for_each(|container| set_container_defaults(container, host_network));
    }
    items_mut(holder, "/spec/ephemeralContainers").for_each(|container| set_container_defaults(container, false));
    items_mut(holder, "/spec/volumes").for_each(set_volume_defaults);
}

fn set_container_defaults(container: &mut Value, host_network: bool) {
    let image = container["image"].as_str().unwrap_or_default().to_owned();
    let Some(fields) = container.as_object_mut() else { return };
    default(fields, "imagePullPolicy", if is_latest(&image) { "Always" } else { "IfNotPresent" });
    default(fields, "terminationMessagePath", "/dev/termination-log");
    default(fields, "terminationMessagePolicy", "File");
    default(fields, "resources", Map::new());
    let limits = container.pointer("/resources/limits").and_then(Value::as_object).cloned();
    if let Some(limits) = limits.filter(|limits| !limits.is_empty())
        && let Some(requests) = container.get_mut("resources").and_then(|resources| map_of(resources, "requests"))
    {
        limits.into_iter().for_each(|(name, value)| default(requests, &name, value));
    }
    for port in items_mut(container, "/ports") {
        let number = port["containerPort"].clone();
        let Some(port) = port.as_object_mut() else { continue };
        default(port, "protocol", "TCP");
        if host_network {
            default(port, "hostPort", number);
        }
    }
    for variable in items_mut(container, "/env") {
        if let Some(source) = variable.pointer_mut("/valueFrom/fieldRef").and_then(Value::as_object_mut) {
            default(source, "apiVersion", "v1");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe) {
            set_probe_defaults(probe);
        }
    }
    for hook in ["/lifecycle/postStart", "/lifecycle/preStop"] {
        if let Some(request) = container.pointer_mut(&format!("{hook}/httpGet")).and_then(Value::as_object_mut) {
            default(request, "path", "/");
            default(request, "scheme", "HTTP");
        }
    }
}

/// Whether an image has the tag `latest`, or none.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn set_probe_defaults(probe: &mut Value) {
    if let Some(fields) = probe.as_object_mut() {
        for (field, value) in [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)] {
            default(fields, field, value);
        }
    }
    if let Some(request) = probe.get_mut("httpGet").and_then(Value::as_object_mut) {
        default(request, "path", "/");
        default(request, "scheme", "HTTP");
    }
    if let Some(request) = probe.get_mut("grpc").and_then(Value::as_object_mut) {
        default(request, "service", "");
    }
}

fn set_volume_defaults(volume: &mut Value) {
    let Some(fields) = volume.as_object_mut() else { return };
    if fields.len() == 1 {
        fields.insert("emptyDir".into(), json!({}));
    }
    for source in ["secret", "configMap", "projected", "downwardAPI"] {
        if let Some(source) = fields.get_mut(source).and_then(Value::as_object_mut) {
            default(source, "defaultMode", 420);
        }
    }
    if let Some(source) = fields.get_mut("hostPath").and_then(Value::as_object_mut) {
        default(source, "type", "");
    }
    for source in items_mut(volume, "/projected/sources") {
        if let Some(token) = source.get_mut("serviceAccountToken").and_then(Value::as_object_mut) {
            default(token, "expirationSeconds", 3600);
        }
        items_mut(source, "/downwardAPI/items").for_each(set_field_version);
    }
    items_mut(volume, "/downwardAPI/items").for_each(set_field_version);
}

fn set_field_version(item: &mut Value) {
    if let Some(source) = item.get_mut("fieldRef").and_then(Value::as_object_mut) {
        default(source, "apiVersion", "v1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_pod_reads_back_like_the_real_one() {
        let mut pod = json!({"spec": {"containers": [{"name": "a", "image": "nginx", "resources": {"limits": {"cpu": "1"}},
            "ports": [{"containerPort": 80}], "livenessProbe": {"httpGet": {"port": 80}}}],
            "volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "x"}}]}});
        set_spec_defaults(&mut pod);
        let spec = &pod["spec"];
        assert_eq!(spec["restartPolicy"], "Always");
        assert_eq!(spec["enableServiceLinks"], true);
        let container = &spec["containers"][0];
        assert_eq!(container["imagePullPolicy"], "Always");
        assert_eq!(container["resources"]["requests"], json!({"cpu": "1"}));
        assert_eq!(container["ports"][0]["protocol"], "TCP");
        assert_eq!(container["livenessProbe"]["periodSeconds"], 10);
        assert_eq!(container["livenessProbe"]["httpGet"]["scheme"], "HTTP");
        assert_eq!(
            spec["volumes"],
            json!([{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "x", "defaultMode": 420}}])
        );
    }

    #[test]
    fn the_pull_policy_follows_the_tag() {
        for (image, latest) in
            [("nginx", true), ("nginx:latest", true), ("nginx:1.21", false), ("a:5000/nginx", true), ("a/b@sha256:0", false)]
        {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }
}
