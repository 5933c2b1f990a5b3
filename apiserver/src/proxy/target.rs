//! Where a proxied request goes: the address that the API's objects give for the name in the path.

use kontiki_api::{
    object::text,
    registry,
    resources::{ENDPOINT_SLICES, NODES, PODS, ResourceKey, SERVICES},
    selector::{LabelSelector, Requirement},
    status::Status,
};
use serde_json::Value;

use crate::{kubelet, service::ApiServer, storage::ListOptions};

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Whether it is a kubelet's own port, which wants this server's certificate.
    pub kubelet: bool,
}

/// `name`, `name:port` or `scheme:name:port`.
fn split(id: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    (!name.is_empty() && ["", "http", "https"].contains(&scheme)).then_some((scheme, name, port))
}

async fn fetch(server: &ApiServer, key: &ResourceKey, namespace: &str, name: &str) -> Result<Value, Status> {
    let resource = registry::of(key).ok_or_else(Status::no_such_path)?;
    Ok(server.storage.get(resource, namespace, name).await?.encoded.value())
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// A pod's own address; its first declared port where none is named.
pub async fn pod(server: &ApiServer, namespace: &str, id: &str) -> Result<Target, Status> {
    let (scheme, name, port) = split(id).ok_or_else(|| Status::bad_request(format!("invalid pod request {id:?}")))?;
    of_pod(&fetch(server, &PODS, namespace, name).await?, scheme, port)
}

fn of_pod(pod: &Value, scheme: &str, port: &str) -> Result<Target, Status> {
    let declared =
        || items(pod, "/spec/containers").find_map(|container| items(container, "/ports").next()?["containerPort"].as_u64());
    let standard = if scheme == "https" { 443 } else { 80 };
    let number = if port.is_empty() {
        u16::try_from(declared().unwrap_or(standard)).map_err(|_| Status::bad_request("invalid port"))?
    } else {
        port.parse().map_err(|_| Status::service_unavailable(format!("error trying to reach service: unknown port {port:?}")))?
    };
    let address = text(pod, "/status/podIP");
    if !is_reachable(address) {
        return Err(Status::bad_request("address not allowed"));
    }
    Ok(Target { host: address.to_owned(), port: number, tls: scheme == "https", kubelet: false })
}

/// Whether it is an address of somebody in the cluster: not this machine's own, not one of many.
fn is_reachable(address: &str) -> bool {
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    let link_local = match address {
        std::net::IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        std::net::IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !address.is_loopback() && !address.is_unspecified() && !address.is_multicast() && !link_local
}

/// A ready endpoint of the service's port, which is named or numbered.
pub async fn service(server: &ApiServer, namespace: &str, id: &str) -> Result<Target, Status> {
    let (scheme, name, port) = split(id).ok_or_else(|| Status::bad_request(format!("invalid service request {id:?}")))?;
    let service = fetch(server, &SERVICES, namespace, name).await?;
    let port = port_name(&service, name, port)?;
    let resource = registry::of(&ENDPOINT_SLICES).ok_or_else(Status::no_such_path)?;
    let own = Requirement::In("kubernetes.io/service-name".to_owned(), vec![name.to_owned()]);
    let options =
        ListOptions { namespace: namespace.to_owned(), labels: LabelSelector::new(vec![own]), ..ListOptions::default() };
    let page = server.storage.list(resource, &options).await?;
    let slices: Vec<Value> = page.objects.iter().map(|object| object.encoded.value()).collect();
    let found = endpoints(&slices, &port);
    if found.is_empty() {
        let text = if any_endpoint(&slices) { id } else { name };
        return Err(Status::service_unavailable(format!("no endpoints available for service {text:?}")));
    }
    let (host, port) = found[rand::random_range(0..found.len())].clone();
    Ok(Target { host, port, tls: scheme == "https", kubelet: false })
}

/// The name of the port that a number stands for; a name stands for itself.
fn port_name(service: &Value, name: &str, port: &str) -> Result<String, Status> {
    let Ok(number) = port.parse::<u64>() else { return Ok(port.to_owned()) };
    let found = items(service, "/spec/ports").find(|port| port["port"].as_u64() == Some(number));
    let missing = || Status::service_unavailable(format!("no service port {number} found for service {name:?}"));
    Ok(found.ok_or_else(missing)?["name"].as_str().unwrap_or_default().to_owned())
}

fn any_endpoint(slices: &[Value]) -> bool {
    slices.iter().any(|slice| items(slice, "/endpoints").next().is_some())
}

/// Ready endpoints that are pods, with the port's number.
fn endpoints(slices: &[Value], port: &str) -> Vec<(String, u16)> {
    let mut found = Vec::new();
    for slice in slices {
        let named = items(slice, "/ports").find(|own| own["name"].as_str().unwrap_or_default() == port);
        let Some(number) = named.and_then(|port| u16::try_from(port["port"].as_u64()?).ok()) else { continue };
        for endpoint in items(slice, "/endpoints") {
            let ready = endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
            let is_pod = endpoint.pointer("/targetRef/kind").is_some_and(|kind| kind == "Pod");
            let address = endpoint["addresses"][0].as_str().filter(|address| is_reachable(address));
            if let Some(address) = address.filter(|_| ready && is_pod) {
                found.push((address.to_owned(), number));
            }
        }
    }
    found
}

/// The node's kubelet, or another port of the node.
pub async fn node(server: &ApiServer, id: &str) -> Result<Target, Status> {
    let (scheme, name, port) = split(id).ok_or_else(|| Status::bad_request(format!("invalid node request {id:?}")))?;
    of_node(&fetch(server, &NODES, "", name).await?, scheme, port)
}

fn of_node(node: &Value, scheme: &str, port: &str) -> Result<Target, Status> {
    let address = kubelet::address_of(node).filter(|(address, _)| is_reachable(address));
    let (host, own) = address.ok_or_else(|| Status::bad_request("address not allowed"))?;
    let number = if port.is_empty() { own } else { port.parse().map_err(|_| Status::bad_request("invalid port"))? };
    let kubelet = number == own;
    Ok(Target { host, port: number, tls: kubelet || scheme == "https", kubelet })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn names_carry_scheme_and_port() {
        assert_eq!(split("web"), Some(("", "web", "")));
        assert_eq!(split("web:http"), Some(("", "web", "http")));
        assert_eq!(split("https:web:8443"), Some(("https", "web", "8443")));
        assert_eq!(split("https:web:"), Some(("https", "web", "")));
        for bad in ["", ":80", "ftp:web:1", "a:b:c:d"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pod_is_asked_at_its_first_declared_port() {
        let mut pod = json!({
            "spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}]}]},
            "status": {"podIP": "10.244.0.2"},
        });
        assert_eq!(of_pod(&pod, "", "").unwrap().port, 8080);
        assert_eq!(
            of_pod(&pod, "https", "443").unwrap(),
            Target { host: "10.244.0.2".into(), port: 443, tls: true, kubelet: false }
        );
        for address in ["", "127.0.0.1", "169.254.0.1", "224.0.0.1"] {
            pod["status"]["podIP"] = json!(address);
            assert_eq!(of_pod(&pod, "", "").unwrap_err().message, "address not allowed", "{address}");
        }
    }

    #[test]
    fn a_service_leads_to_ready_pods_by_the_ports_name() {
        let service = json!({"spec": {"ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}]}});
        assert_eq!(port_name(&service, "web", "443").unwrap(), "https");
        assert_eq!(port_name(&service, "web", "other").unwrap(), "other");
        assert_eq!(port_name(&service, "web", "81").unwrap_err().message, "no service port 81 found for service \"web\"");
        let pod = json!({"kind": "Pod"});
        let slice = json!({
            "ports": [{"name": "https", "port": 8443}],
            "endpoints": [
                {"addresses": ["10.244.0.2"], "targetRef": pod},
                {"addresses": ["10.244.0.3"], "targetRef": pod, "conditions": {"ready": false}},
                {"addresses": ["10.244.0.4"]},
            ],
        });
        assert_eq!(endpoints(std::slice::from_ref(&slice), "https"), [("10.244.0.2".to_owned(), 8443)]);
        assert!(endpoints(&[slice], "http").is_empty());
    }

    #[test]
    fn a_node_is_asked_at_its_kubelet() {
        let node = json!({"status": {"addresses": [{"type": "InternalIP", "address": "10.1.0.5"}]}});
        let kubelet = Target { host: "10.1.0.5".into(), port: 10250, tls: true, kubelet: true };
        assert_eq!(of_node(&node, "", "").unwrap(), kubelet);
        assert_eq!(of_node(&node, "", "10250").unwrap(), kubelet);
        assert_eq!(of_node(&node, "", "9100").unwrap(), Target { port: 9100, tls: false, kubelet: false, ..kubelet });
    }
}
