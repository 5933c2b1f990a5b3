//! What the proxy looks at of Services and EndpointSlices.

use std::{collections::BTreeMap, net::Ipv4Addr};

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
    /// Name that an `ExternalName` Service stands for.
    pub external_name: String,
    /// Further addresses that lead to it.
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<String>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Whether endpoints that are not ready are in DNS too.
    pub publish_not_ready_addresses: bool,
}

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
    /// Its address, if it has one.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.spec.cluster_ip.parse().ok()
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
    pub hostname: String,
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
    pub fn address(&self) -> Option<Ipv4Addr> {
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
    pub name: String,
    /// Protocol.
    pub protocol: String,
    /// Number.
    pub port: u16,
}

impl Slice {
    /// Name of its Service.
    pub fn service(&self) -> &str {
        self.metadata.labels.get("kubernetes.io/service-name").map_or("", String::as_str)
    }

    /// Whether it belongs to a Service.
    pub fn is_of(&self, service: &Meta) -> bool {
        self.metadata.namespace == service.namespace && self.service() == service.name
    }
}
