//! From the name of a Service to addresses that serve it.

use std::{net::SocketAddr, ops::Bound};

use kontiki_api::{
    registry,
    resources::{ENDPOINT_SLICES, SERVICES},
};
use serde_json::Value;

use super::Target;
use crate::storage::{Storage, keys};

/// Label of an endpoint slice that names its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The addresses that serve a port of a Service: its ready endpoints.
pub fn endpoints(service: &Value, slices: &[Value], port: u16) -> Result<Vec<SocketAddr>, String> {
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    let none = || format!("no endpoints available for service {name:?}");
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let mut wanted = ports.filter(|known| known["port"].as_u64() == Some(u64::from(port)));
    let wanted = wanted.next().ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let port_name = wanted["name"].as_str().unwrap_or_default();
    let mut found = Vec::new();
    for slice in slices {
        let ports = slice["ports"].as_array().into_iter().flatten();
        let mut ports = ports.filter(|known| known["name"].as_str().unwrap_or_default() == port_name);
        let Some(number) = ports.next().and_then(|known| known["port"].as_u64()).and_then(|port| u16::try_from(port).ok()) else {
            continue;
        };
        let endpoints = slice["endpoints"].as_array().into_iter().flatten();
        for endpoint in endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false) {
            let addresses = endpoint["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str);
            found.extend(addresses.filter_map(|address| address.parse().ok()).map(|address| SocketAddr::new(address, number)));
        }
    }
    if found.is_empty() { Err(none()) } else { Ok(found) }
}

/// Where a target can be reached: addresses, or a name with its port.
pub async fn addresses(storage: &Storage, target: &Target) -> Result<Vec<String>, String> {
    let Some((namespace, name)) = &target.service else {
        let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
        return Ok(vec![format!("{host}:{}", target.port)]);
    };
    let missing = || format!("service {name:?} not found");
    let services = registry::of(&SERVICES).ok_or_else(missing)?;
    let service = match storage.get_cached(services, namespace, name) {
        Ok(service) => service,
        // It may be newer than what this member has heard of.
        Err(_) => {
            storage.catch_up().await.map_err(|status| status.message)?;
            storage.get_cached(services, namespace, name).map_err(|_| missing())?
        }
    };
    let service = service.encoded.value();
    if service["spec"]["type"] == "ExternalName" {
        let host = service["spec"]["externalName"].as_str().unwrap_or_default();
        return Ok(vec![format!("{host}:{}", target.port)]);
    }
    let found = endpoints(&service, &slices(storage, namespace, name), target.port)?;
    Ok(found.iter().map(ToString::to_string).collect())
}

/// The endpoint slices of a Service.
#[must_use]
pub fn slices(storage: &Storage, namespace: &str, service: &str) -> Vec<Value> {
    let Some((resource, cache)) = registry::of(&ENDPOINT_SLICES).and_then(|slices| Some((slices, storage.caches.of(slices)?)))
    else {
        return Vec::new();
    };
    let prefix = keys::collection(resource, namespace);
    let snapshot = cache.snapshot();
    let own = snapshot
        .range::<_, str>((Bound::Included(prefix.as_str()), Bound::Unbounded))
        .take_while(|(key, _)| key.starts_with(&prefix));
    own.filter(|(_, slice)| slice.header.labels.get(SERVICE_NAME_LABEL) == Some(service))
        .map(|(_, slice)| slice.encoded.value())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_is_its_ready_endpoints() {
        let service =
            json!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "a", "port": 443}, {"name": "b", "port": 80}]}});
        let slice = json!({"ports": [{"name": "a", "port": 8443}], "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": false}}, {"addresses": ["10.0.0.2"], "conditions": {"ready": true}}]});
        assert_eq!(endpoints(&service, std::slice::from_ref(&slice), 443).unwrap(), ["10.0.0.2:8443".parse().unwrap()]);
        assert_eq!(endpoints(&service, &[], 443).unwrap_err(), "no endpoints available for service \"s\"");
        assert_eq!(endpoints(&service, &[slice], 1).unwrap_err(), "no service port 1 found for service \"s\"");
    }
}
