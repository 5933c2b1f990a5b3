//! What ownership needs to know of a type: which values have parts of their own, and what the parts are called.
//!
//! The walks of this folder see a schema only through [`Node`]. The built-in kinds' table is one implementation; a
//! custom resource's structural schema is another: implement [`ObjectShape`] and [`ListShape`] for it.

use serde_json::{Map, Value};

use super::fields::Step;
use crate::schema::{self, Field, Shape, Type};

/// A value without parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// Text.
    String,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// Any of them.
    Any,
}

/// What a value may be.
#[derive(Clone, Copy)]
pub enum Kind<'s> {
    /// A value without parts.
    Scalar(Scalar),
    /// Fields or members.
    Object(&'s dyn ObjectShape),
    /// Items.
    List(&'s dyn ListShape),
    /// Not described: objects have members of the same kind, lists are one value.
    Any,
}

/// A value's place in a schema.
#[derive(Clone, Copy)]
pub struct Node<'s> {
    /// What it may be.
    pub kind: Kind<'s>,
    /// Whether it is owned as a whole: `x-kubernetes-map-type: atomic`.
    pub atomic: bool,
}

/// An object with named fields, with members of one kind, or with both.
pub trait ObjectShape {
    /// A declared field.
    fn field(&self, name: &str) -> Option<Node<'_>>;
    /// Members that are not declared; `None` where there may be none.
    fn member(&self) -> Option<Node<'_>>;
}

/// How the items of a list are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// Not at all: the list is one value.
    Atomic,
    /// By their values.
    Set,
    /// By the fields that [`ListShape::keys`] names.
    Map,
}

/// A list.
pub trait ListShape {
    /// How its items are told apart.
    fn list_type(&self) -> ListType;
    /// Its items.
    fn item(&self) -> Node<'_>;
    /// Names of the key fields, sorted.
    fn keys(&self) -> Vec<&str>;
    /// Default of a key field.
    fn key_default(&self, key: &str) -> Option<Value>;
}

impl<'s> Node<'s> {
    /// A node that nothing is known of.
    pub const ANY: Node<'static> = Node { kind: Kind::Any, atomic: false };

    /// The node of an object of a built-in type.
    #[must_use]
    pub fn of(type_: &'static Type) -> Node<'static> {
        Node { kind: Kind::Object(type_), atomic: type_.map_type == "atomic" }
    }

    /// The node of a member; `None` for a member that may not be there.
    pub(super) fn member(self, name: &str) -> Option<Self> {
        match self.kind {
            Kind::Object(shape) => shape.field(name).or_else(|| shape.member()),
            Kind::Any => Some(Node { kind: Kind::Any, atomic: self.atomic }),
            Kind::Scalar(_) | Kind::List(_) => None,
        }
    }

    /// Whether a member is a declared field, not one key of many.
    pub(super) fn is_field(self, name: &str) -> bool {
        matches!(self.kind, Kind::Object(shape) if shape.field(name).is_some())
    }

    /// The list's shape, where its items have owners of their own.
    pub(super) fn granular_list(self) -> Option<&'s dyn ListShape> {
        match self.kind {
            Kind::List(shape) if !self.atomic && shape.list_type() != ListType::Atomic => Some(shape),
            _ => None,
        }
    }

    /// Whether an object's members have owners of their own.
    pub(super) fn is_granular_object(self) -> bool {
        !self.atomic && matches!(self.kind, Kind::Object(_) | Kind::Any)
    }
}

/// What an item is called within its list.
///
/// # Errors
/// An item that cannot be told apart, in the words of Kubernetes.
pub(super) fn item_step(list: &dyn ListShape, item: &Value) -> Result<Step<'static>, String> {
    if list.list_type() == ListType::Set {
        return match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
            scalar => Ok(Step::Item(format!("v:{scalar}"))),
        };
    }
    let members = match item {
        Value::Object(members) => members,
        Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let keys = list.keys();
    let mut found = Map::new();
    for key in &keys {
        if let Some(value) = members.get(*key).cloned().or_else(|| list.key_default(key)) {
            found.insert((*key).to_owned(), value);
        }
    }
    if found.is_empty() {
        let names: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    Ok(Step::Item(format!("k:{}", Value::Object(found))))
}

impl ObjectShape for Type {
    fn field(&self, name: &str) -> Option<Node<'_>> {
        self.field(name).map(field_node)
    }

    fn member(&self) -> Option<Node<'_>> {
        None
    }
}

/// A map; an object whose members all have one shape.
impl ObjectShape for Shape {
    fn field(&self, _name: &str) -> Option<Node<'_>> {
        None
    }

    fn member(&self) -> Option<Node<'_>> {
        if let Shape::Map(item) = self { Some(shape_node(item)) } else { None }
    }
}

impl ListShape for Field {
    fn list_type(&self) -> ListType {
        match self.list_type {
            "set" => ListType::Set,
            "map" => ListType::Map,
            _ => ListType::Atomic,
        }
    }

    fn item(&self) -> Node<'_> {
        if let Shape::List(item) = &self.shape { shape_node(item) } else { Node::ANY }
    }

    fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = self.list_keys.clone();
        keys.sort_unstable();
        keys
    }

    fn key_default(&self, key: &str) -> Option<Value> {
        let Shape::List(item) = &self.shape else { return None };
        let Shape::Object(name) = item.as_ref() else { return None };
        serde_json::from_str(schema::find(name)?.field(key)?.default).ok()
    }
}

/// A list that is no field of a type (a list in a list or map) is one value.
impl ListShape for Shape {
    fn list_type(&self) -> ListType {
        ListType::Atomic
    }

    fn item(&self) -> Node<'_> {
        if let Shape::List(item) = self { shape_node(item) } else { Node::ANY }
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }

    fn key_default(&self, _key: &str) -> Option<Value> {
        None
    }
}

fn field_node(field: &Field) -> Node<'_> {
    if matches!(field.shape, Shape::List(_)) {
        return Node { kind: Kind::List(field), atomic: false };
    }
    let node = shape_node(&field.shape);
    Node { atomic: node.atomic || field.map_type == "atomic", ..node }
}

fn shape_node(shape: &Shape) -> Node<'_> {
    let kind = match shape {
        Shape::Object(name) => return schema::find(name).map_or(Node::ANY, Node::of),
        Shape::Map(_) => Kind::Object(shape),
        Shape::List(_) => Kind::List(shape),
        Shape::Any => Kind::Any,
        Shape::Scalar(scalar) => Kind::Scalar(match scalar {
            schema::Scalar::Int32 | schema::Scalar::Int64 | schema::Scalar::Double => Scalar::Number,
            schema::Scalar::Boolean => Scalar::Boolean,
            schema::Scalar::IntOrString | schema::Scalar::Quantity => Scalar::Any,
            schema::Scalar::String | schema::Scalar::Bytes | schema::Scalar::Time | schema::Scalar::MicroTime => Scalar::String,
        }),
    };
    Node { kind, atomic: false }
}
