//! What the proxy looks at of Services and EndpointSlices.

use std::{collections::BTreeMap, net::IpAddr};

use serde::Deserialize;

/// Name, namespace and labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Name and namespace.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: ServiceSpec,
    /// What is.
    pub status: ServiceStatus,
}

/// What a Service is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The load balancer in front of it.
    pub load_balancer: LoadBalancer,
}

/// A load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LoadBalancer {
    /// Its addresses.
    #[serde(deserialize_with = "list")]
    pub ingress: Vec<Ingress>,
}

/// An address of a load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ingress {
    /// Address.
    pub ip: String,
    /// `Proxy` where traffic must go through the load balancer.
    pub ip_mode: String,
}

/// What was asked for of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Type.
    pub r#type: String,
    /// Address; `None` for a headless Service.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// All its addresses, one a family.
    #[serde(rename = "clusterIPs", deserialize_with = "list")]
    pub cluster_ips: Vec<String>,
    /// Name that an `ExternalName` Service stands for.
    pub external_name: String,
    /// Further addresses that lead to it.
    #[serde(rename = "externalIPs", deserialize_with = "list")]
    pub external_ips: Vec<String>,
    /// Ports.
    #[serde(deserialize_with = "list")]
    pub ports: Vec<ServicePort>,
    /// `ClientIP` where a client stays with its endpoint.
    pub session_affinity: String,
    /// For how long.
    pub session_affinity_config: Option<AffinityConfig>,
    /// `Local` where traffic from outside stays on the node that it came to.
    pub external_traffic_policy: String,
    /// `Local` where traffic from inside stays on its node.
    pub internal_traffic_policy: String,
    /// Port at which a load balancer asks whether the node has endpoints; 0 for none.
    pub health_check_node_port: u16,
    /// Networks that may use the load balancer; all where empty.
    #[serde(deserialize_with = "list")]
    pub load_balancer_source_ranges: Vec<String>,
    /// Whether endpoints that are not ready are in DNS too.
    pub publish_not_ready_addresses: bool,
}

/// How long a client stays with its endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AffinityConfig {
    /// For clients told apart by address.
    #[serde(rename = "clientIP")]
    pub client_ip: Option<ClientIp>,
}

/// For clients told apart by address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientIp {
    /// Seconds.
    pub timeout_seconds: Option<u32>,
}

/// Seconds that a client stays with its endpoint where nothing is said.
const AFFINITY_SECONDS: u32 = 10_800;
/// Names another proxy than this one.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Takes a Service from every proxy.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    /// Name; empty where there is one port alone.
    pub name: String,
    /// Protocol.
    pub protocol: String,
    /// Number.
    pub port: u16,
    /// Port on every node; 0 for none.
    pub node_port: u16,
}

impl Service {
    /// Its addresses.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let list =
            if self.spec.cluster_ips.is_empty() { std::slice::from_ref(&self.spec.cluster_ip) } else { &self.spec.cluster_ips };
        list.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// Addresses of load balancers that lead here.
    pub fn load_balancers(&self) -> impl Iterator<Item = IpAddr> {
        let ingress = self.status.load_balancer.ingress.iter().filter(|ingress| ingress.ip_mode != "Proxy");
        ingress.filter_map(|ingress| ingress.ip.parse().ok())
    }

    /// Seconds that a client stays with its endpoint; `None` where it does not.
    pub fn affinity(&self) -> Option<u32> {
        let config = self.spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        let seconds = config.and_then(|client| client.timeout_seconds).unwrap_or(AFFINITY_SECONDS);
        (self.spec.session_affinity == "ClientIP").then_some(seconds)
    }

    /// Whether it is this proxy's to serve.
    pub fn is_ours(&self) -> bool {
        let labels = &self.metadata.labels;
        self.spec.r#type != "ExternalName" && !labels.contains_key(PROXY_NAME) && !labels.contains_key(HEADLESS)
    }

    /// Whether DNS tells its endpoints instead of an address.
    pub fn is_headless(&self) -> bool {
        self.spec.cluster_ip == "None"
    }
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Slice {
    /// Name, namespace, and the label with the Service's name.
    pub metadata: Meta,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// Endpoints.
    #[serde(deserialize_with = "list")]
    pub endpoints: Vec<Endpoint>,
    /// Ports that all of them have.
    #[serde(deserialize_with = "list")]
    pub ports: Vec<EndpointPort>,
}

/// Null is an empty list.
fn list<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoint {
    /// Addresses; the first counts.
    pub addresses: Vec<String>,
    /// What state it is in.
    pub conditions: Conditions,
    /// Name of its own within the Service.
    #[serde(deserialize_with = "text")]
    pub hostname: String,
    /// Node.
    #[serde(deserialize_with = "text")]
    pub node_name: String,
    /// Who should use it.
    pub hints: Option<Hints>,
}

/// Null is an empty text.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

/// Who should use an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hints {
    /// Zones.
    #[serde(deserialize_with = "list")]
    pub for_zones: Vec<Named>,
    /// Nodes.
    #[serde(deserialize_with = "list")]
    pub for_nodes: Vec<Named>,
}

/// A name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Named {
    /// The name.
    pub name: String,
}

/// What state an endpoint is in; absent means yes, but for terminating.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// Takes traffic.
    pub ready: Option<bool>,
    /// Could take traffic.
    pub serving: Option<bool>,
    /// Is about to go.
    pub terminating: Option<bool>,
}

impl Endpoint {
    /// Its address.
    pub fn address(&self) -> Option<IpAddr> {
        self.addresses.first()?.parse().ok()
    }

    /// Whether it takes traffic.
    pub fn is_ready(&self) -> bool {
        self.conditions.ready.unwrap_or(true)
    }

    /// Whether it is about to go and still answers.
    pub fn is_last_resort(&self) -> bool {
        self.conditions.serving.unwrap_or(true) && self.conditions.terminating == Some(true)
    }
}

/// A port of endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointPort {
    /// Name, as the Service's port has it.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// Protocol.
    #[serde(deserialize_with = "text")]
    pub protocol: String,
    /// Number; absent where it means all.
    pub port: Option<u16>,
}

/// The node itself, for its zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Name and labels.
    pub metadata: Meta,
}

impl Node {
    /// Its zone; empty where it has none.
    pub fn zone(&self) -> &str {
        self.metadata.labels.get("topology.kubernetes.io/zone").map_or("", String::as_str)
    }
}

impl Slice {
    /// Name of its Service.
    pub fn service(&self) -> &str {
        self.metadata.labels.get("kubernetes.io/service-name").map_or("", String::as_str)
    }

    /// Whether no proxy serves it: its Service says so, and its slices repeat that.
    pub fn is_headless(&self) -> bool {
        self.metadata.labels.contains_key(HEADLESS)
    }
}
