//! A node as the scheduler sees it.

use std::collections::BTreeMap;

use kontiki_api::{kinds::pod::resources::Amounts, quantity::Quantity};
use serde::{Deserialize, Deserializer};

use super::{Meta, pod::Requests};

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Node {
    /// What all objects have.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: NodeSpec,
    /// What is.
    pub status: NodeStatus,
}

/// What was asked for of a node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// Whether an administrator closed it.
    pub unschedulable: bool,
    /// Taints.
    #[serde(deserialize_with = "super::list")]
    pub taints: Vec<Taint>,
}

/// A taint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
    /// Effect.
    pub effect: String,
}

/// What a node has.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// What pods may take.
    pub allocatable: Allocatable,
    /// Images.
    #[serde(deserialize_with = "super::list")]
    pub images: Vec<Image>,
}

/// What pods may take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allocatable {
    /// Amounts.
    pub amounts: Requests,
    /// Pods.
    pub pods: i64,
}

impl<'de> Deserialize<'de> for Allocatable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Option::<BTreeMap<String, String>>::deserialize(deserializer)?.unwrap_or_default();
        let parsed = texts.into_iter().filter_map(|(name, text)| Some((name, text.parse::<Quantity>().ok()?)));
        let amounts: Amounts = parsed.collect();
        let pods = amounts.get("pods").map_or(0, |pods| pods.whole());
        Ok(Self { amounts: Requests::from(&amounts), pods })
    }
}

/// An image that lies on a node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Image {
    /// Names.
    #[serde(deserialize_with = "super::list")]
    pub names: Vec<String>,
    /// Bytes.
    pub size_bytes: i64,
}
