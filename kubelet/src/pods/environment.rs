//! The environment of a container.
//! <https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container as ContainerSpec, EnvVarSource, Pod};
use serde::Deserialize;

use super::model;

/// ConfigMaps and Secrets by name, as text; what is missing is not in here.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// ConfigMaps.
    pub config_maps: BTreeMap<String, BTreeMap<String, String>>,
    /// Secrets.
    pub secrets: BTreeMap<String, BTreeMap<String, String>>,
    /// Address of the pod.
    pub pod_ip: String,
    /// Address of the node.
    pub host_ip: String,
    /// CPUs of the node in thousandths, bytes of its memory.
    pub capacity: (u64, u64),
}

/// What matters of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Name and namespace.
    pub metadata: ServiceMetadata,
    /// Address and ports.
    pub spec: ServiceSpec,
}

/// Name and namespace of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceMetadata {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
}

/// Address and ports of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Address, `None` or empty.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// Ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServicePort {
    /// Name; empty where there is one port alone.
    pub name: String,
    /// Number.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// Variables that tell of Services, as Kubernetes names them.
/// <https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables>
pub fn services<'a>(all: impl Iterator<Item = &'a Service>, namespace: &str, links: bool) -> Vec<(String, String)> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in all.filter(|service| !matches!(service.spec.cluster_ip.as_str(), "" | "None")) {
        let metadata = &service.metadata;
        let master = metadata.namespace == "default" && metadata.name == "kubernetes";
        if links && metadata.namespace == namespace {
            chosen.insert(&metadata.name, service);
        } else if master {
            chosen.entry(&metadata.name).or_insert(service);
        }
    }
    let mut variables = Vec::new();
    for service in chosen.values() {
        let prefix = service.metadata.name.to_uppercase().replace('-', "_");
        let address = &service.spec.cluster_ip;
        let mut set = |name: String, value: String| variables.push((name, value));
        let Some(first) = service.spec.ports.first() else { continue };
        set(format!("{prefix}_SERVICE_HOST"), address.clone());
        set(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
        for port in service.spec.ports.iter().filter(|port| !port.name.is_empty()) {
            set(format!("{prefix}_SERVICE_PORT_{}", port.name.to_uppercase().replace('-', "_")), port.port.to_string());
        }
        let url = |port: &ServicePort| format!("{}://{address}:{}", port.protocol.to_lowercase(), port.port);
        set(format!("{prefix}_PORT"), url(first));
        for port in &service.spec.ports {
            let stem = format!("{prefix}_PORT_{}_{}", port.port, port.protocol.to_uppercase());
            set(stem.clone(), url(port));
            set(format!("{stem}_PROTO"), port.protocol.to_lowercase());
            set(format!("{stem}_PORT"), port.port.to_string());
            set(format!("{stem}_ADDR"), address.clone());
        }
    }
    variables
}

/// Names of the ConfigMaps and Secrets that a container's environment needs.
pub fn references(spec: &ContainerSpec) -> (Vec<String>, Vec<String>) {
    let (mut config_maps, mut secrets) = (Vec::new(), Vec::new());
    for from in spec.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.as_ref().map(|reference| reference.name.clone()));
        secrets.extend(from.secret_ref.as_ref().map(|reference| reference.name.clone()));
    }
    for source in spec.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.as_ref().map(|reference| reference.name.clone()));
        secrets.extend(source.secret_key_ref.as_ref().map(|reference| reference.name.clone()));
    }
    (config_maps, secrets)
}

/// The whole environment, or why it cannot be made (`CreateContainerConfigError`).
pub fn build(
    pod: &Pod,
    spec: &ContainerSpec,
    services: Vec<(String, String)>,
    sources: &Sources,
) -> Result<Vec<(String, String)>, String> {
    let mut environment = services;
    let mut own: Vec<(String, String)> = Vec::new();
    for from in spec.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (found, what, name, optional) = if let Some(reference) = &from.config_map_ref {
            (sources.config_maps.get(&reference.name), "configmap", &reference.name, reference.optional)
        } else if let Some(reference) = &from.secret_ref {
            (sources.secrets.get(&reference.name), "secret", &reference.name, reference.optional)
        } else {
            continue;
        };
        match found {
            Some(entries) => entries.iter().for_each(|(key, value)| set(&mut own, format!("{prefix}{key}"), value.clone())),
            None if optional == Some(true) => {}
            None => return Err(format!("{what} \"{name}\" not found")),
        }
    }
    for variable in spec.env.iter().flatten() {
        let value = match &variable.value_from {
            None => {
                let known: Vec<_> = environment.iter().chain(&own).cloned().collect();
                Some(expand(variable.value.as_deref().unwrap_or_default(), &known))
            }
            Some(source) => from_source(pod, spec, source, sources)?,
        };
        if let Some(value) = value {
            set(&mut own, variable.name.clone(), value);
        }
    }
    for (name, value) in own {
        set(&mut environment, name, value);
    }
    Ok(environment)
}

fn set(list: &mut Vec<(String, String)>, name: String, value: String) {
    match list.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => list.push((name, value)),
    }
}

fn from_source(pod: &Pod, spec: &ContainerSpec, source: &EnvVarSource, sources: &Sources) -> Result<Option<String>, String> {
    if let Some(field) = &source.field_ref {
        return match field.field_path.as_str() {
            "status.podIP" | "status.podIPs" => Ok(Some(sources.pod_ip.clone())),
            "status.hostIP" | "status.hostIPs" => Ok(Some(sources.host_ip.clone())),
            path => field_value(pod, path).map(Some),
        };
    }
    if let Some(resource) = &source.resource_field_ref {
        let other = resource.container_name.as_deref().and_then(|name| model::container(pod, name));
        let container = other.as_deref().unwrap_or(spec);
        let divisor = resource.divisor.as_ref().map(|divisor| divisor.0.as_str());
        return resource_value(container, &resource.resource, divisor, sources.capacity).map(Some);
    }
    let (entries, key, what, name, optional) = if let Some(reference) = &source.config_map_key_ref {
        (sources.config_maps.get(&reference.name), &reference.key, "configmap", &reference.name, reference.optional)
    } else if let Some(reference) = &source.secret_key_ref {
        (sources.secrets.get(&reference.name), &reference.key, "secret", &reference.name, reference.optional)
    } else {
        return Ok(None);
    };
    let kind = if what == "secret" { "Secret" } else { "ConfigMap" };
    match (entries.map(|entries| entries.get(key)), optional) {
        (Some(Some(value)), _) => Ok(Some(value.clone())),
        (_, Some(true)) => Ok(None),
        (None, _) => Err(format!("{what} \"{name}\" not found")),
        (Some(None), _) => Err(format!("couldn't find key {key} in {kind} {}/{name}", model::namespace(pod))),
    }
}

/// A field of the pod by its path, as the downward API names it.
pub fn field_value(pod: &Pod, path: &str) -> Result<String, String> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let subscript = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.strip_suffix("']"));
    let quoted = |entries: &Option<BTreeMap<String, String>>| {
        let lines = entries.iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    if let Some(key) = subscript("metadata.labels['") {
        return Ok(metadata.labels.as_ref().and_then(|labels| labels.get(key).cloned()).unwrap_or_default());
    }
    if let Some(key) = subscript("metadata.annotations['") {
        return Ok(metadata.annotations.as_ref().and_then(|annotations| annotations.get(key).cloned()).unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => model::name(pod).to_owned(),
        "metadata.namespace" => model::namespace(pod).to_owned(),
        "metadata.uid" => model::uid(pod).to_owned(),
        "metadata.labels" => quoted(&metadata.labels),
        "metadata.annotations" => quoted(&metadata.annotations),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// A request or limit in units of the divisor, rounded up; a limit that is not set is the node's capacity.
pub fn resource_value(
    container: &ContainerSpec,
    resource: &str,
    divisor: Option<&str>,
    capacity: (u64, u64),
) -> Result<String, String> {
    use kontiki_api::quantity::Quantity;
    let (list, name) = resource.split_once('.').ok_or_else(|| format!("unsupported resource: {resource}"))?;
    let own =
        container.resources.as_ref().and_then(|own| if list == "limits" { own.limits.as_ref() } else { own.requests.as_ref() });
    let amount = own.and_then(|own| own.get(name)).and_then(|text| text.0.parse::<Quantity>().ok());
    let is_cpu = name == "cpu";
    let milli = amount.map(|amount| i128::from(amount.milli())).or_else(|| {
        let all = if is_cpu { u128::from(capacity.0) } else { u128::from(capacity.1) * 1000 };
        (list == "limits").then(|| i128::try_from(all).unwrap_or(i128::MAX))
    });
    let divisor = divisor.filter(|divisor| !matches!(*divisor, "" | "0")).and_then(|text| text.parse::<Quantity>().ok());
    let divisor = divisor.map_or(1000, |divisor| i128::from(divisor.milli())).max(1);
    Ok(((milli.unwrap_or(0) + divisor - 1) / divisor).to_string())
}

/// Replaces `$(NAME)` by the variable's value; `$$` stands for a dollar sign, unknown names stay.
pub fn expand(text: &str, variables: &[(String, String)]) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match variables.iter().rev().find(|(known, _)| known == name) {
                Some((_, value)) => expanded.push_str(value),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_expanded_as_kubernetes_does() {
        let variables = [("A".to_owned(), "1".to_owned())];
        let cases = [("$(A)", "1"), ("$$(A)", "$(A)"), ("$(B)", "$(B)"), ("x$", "x$"), ("$(A", "$(A"), ("$A $(A)!", "$A 1!")];
        for (text, wanted) in cases {
            assert_eq!(expand(text, &variables), wanted, "{text}");
        }
    }

    fn pod(container: serde_json::Value) -> Pod {
        let metadata = json!({"name": "p", "namespace": "n", "labels": {"app": "web"}});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": [container]}})).unwrap()
    }

    #[test]
    fn sources_and_their_absence() {
        let pod = pod(json!({"name": "a", "env": [
            {"name": "X", "value": "$(Y)"}, {"name": "Y", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
            {"name": "Z", "value": "<$(Y)>"}, {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        ]}));
        let spec = &model::containers(&pod)[0];
        let mut sources = Sources::default();
        assert_eq!(build(&pod, spec, vec![], &sources).unwrap_err(), "configmap \"c\" not found");
        sources.config_maps.insert("c".into(), BTreeMap::new());
        assert_eq!(build(&pod, spec, vec![], &sources).unwrap_err(), "couldn't find key k in ConfigMap n/c");
        sources.config_maps.insert("c".into(), BTreeMap::from([("k".into(), "v".into())]));
        let found: BTreeMap<_, _> = build(&pod, spec, vec![], &sources).unwrap().into_iter().collect();
        assert_eq!(
            (found["X"].as_str(), found["Y"].as_str(), found["Z"].as_str(), found["L"].as_str()),
            ("$(Y)", "v", "<v>", "web")
        );
    }

    #[test]
    fn amounts_in_units_of_the_divisor() {
        let pod = pod(json!({"name": "a", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}}}));
        let spec = &model::containers(&pod)[0];
        let value = |resource: &str, divisor: &str| resource_value(spec, resource, Some(divisor), (4000, 1 << 30)).unwrap();
        assert_eq!(value("limits.cpu", "1"), "2");
        assert_eq!(value("limits.cpu", "1m"), "1500");
        assert_eq!(value("requests.memory", "1Mi"), "64");
        assert_eq!(value("limits.memory", "1Mi"), "1024");
    }

    #[test]
    fn services_by_their_variables() {
        let service = |namespace: &str, name: &str| Service {
            metadata: ServiceMetadata { name: name.into(), namespace: namespace.into() },
            spec: ServiceSpec {
                cluster_ip: "10.96.0.9".into(),
                ports: vec![ServicePort { name: "http".into(), port: 80, protocol: "TCP".into() }],
            },
        };
        let all = [service("n", "my-web"), service("other", "x"), service("default", "kubernetes")];
        let found: BTreeMap<_, _> = services(all.iter(), "n", true).into_iter().collect();
        assert_eq!(found["MY_WEB_SERVICE_PORT_HTTP"], "80");
        assert_eq!(found["KUBERNETES_PORT_80_TCP"], "tcp://10.96.0.9:80");
        assert!(!found.contains_key("X_SERVICE_HOST"));
        assert_eq!(services(all.iter(), "n", false).len(), 8);
    }
}
