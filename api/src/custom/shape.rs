//! A structural schema as ownership sees it: server-side apply of custom resources.

use serde_json::Value;

use super::schema::{Additional, Schema};
use crate::{
    managed::shape::{Kind, ListShape, ListType, Node, ObjectShape, Scalar},
    schema,
};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The node of a whole object: a schema says nothing of kind, apiVersion and metadata.
pub struct Root<'s>(pub &'s Schema);

impl ObjectShape for Root<'_> {
    fn field(&self, name: &str) -> Option<Node<'_>> {
        match name {
            "metadata" => schema::find(OBJECT_META).map(Node::of),
            "kind" | "apiVersion" => Some(Node { kind: Kind::Scalar(Scalar::String), atomic: false }),
            _ => self.0.field(name),
        }
    }

    fn member(&self) -> Option<Node<'_>> {
        ObjectShape::member(self.0)
    }
}

/// The node of a schema's values.
#[must_use]
pub fn node(schema: &Schema) -> Node<'_> {
    if schema.int_or_string {
        return Node { kind: Kind::Scalar(Scalar::Any), atomic: false };
    }
    let kind = match schema.type_.as_str() {
        "object" => Kind::Object(schema),
        "array" => Kind::List(schema),
        "string" => Kind::Scalar(Scalar::String),
        "integer" | "number" => Kind::Scalar(Scalar::Number),
        "boolean" => Kind::Scalar(Scalar::Boolean),
        _ => Kind::Any,
    };
    Node { kind, atomic: schema.map_type == "atomic" }
}

impl ObjectShape for Schema {
    fn field(&self, name: &str) -> Option<Node<'_>> {
        self.properties.get(name).map(node)
    }

    fn member(&self) -> Option<Node<'_>> {
        match &self.additional {
            Additional::Schema(values) => Some(node(values)),
            Additional::Any(true) => Some(Node::ANY),
            Additional::Unset | Additional::Any(false) => self.preserve_unknown_fields.then_some(Node::ANY),
        }
    }
}

impl ListShape for Schema {
    fn list_type(&self) -> ListType {
        match self.list_type.as_str() {
            "set" => ListType::Set,
            "map" => ListType::Map,
            _ => ListType::Atomic,
        }
    }

    fn item(&self) -> Node<'_> {
        self.items.as_deref().map_or(Node::ANY, node)
    }

    fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = self.list_map_keys.iter().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }

    fn key_default(&self, key: &str) -> Option<Value> {
        self.items.as_ref()?.properties.get(key)?.default.clone()
    }
}
