//! Every type of the served kinds: its fields, their shapes, how lists merge.
//!
//! The facts are those of v1.36, one line a field, in the folder `kubernetes-1.36` beside this file,
//! one text a package. They are read on first use into a compact static table from which
//! unknown-field checks, pruning, strategic merge, protobuf and OpenAPI are made. Nothing about
//! types is written down anywhere else.

use std::{collections::HashMap, sync::LazyLock};

use crate::resources::ResourceKey;

macro_rules! tables {
    ($($package:literal)*) => { &[$(include_str!(concat!("kubernetes-1.36/", $package, ".txt"))),*] };
}

const TABLES: &[&str] = tables!(
    "admissionregistration" "apiextensions" "apiregistration" "apps" "authentication" "authorization" "autoscaling"
    "batch" "certificates" "coordination" "core" "discovery" "events" "flowcontrol" "meta" "networking" "node"
    "policy" "rbac" "resource" "scheduling" "storage"
);

/// Shape of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A value without fields.
    Scalar(Scalar),
    /// An object of that type.
    Object(&'static str),
    /// A list.
    List(Box<Shape>),
    /// A map from strings.
    Map(Box<Shape>),
    /// Anything; not looked into.
    Any,
}

/// A value without fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// Text.
    String,
    /// Base64.
    Bytes,
    /// RFC 3339 time.
    Time,
    /// RFC 3339 time with microseconds.
    MicroTime,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// Floating-point number.
    Double,
    /// True or false.
    Boolean,
    /// Integer or text.
    IntOrString,
    /// Quantity: text or number.
    Quantity,
}

/// One field of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name in JSON.
    pub name: &'static str,
    /// Shape of its value.
    pub shape: Shape,
    /// Whether OpenAPI calls it required.
    pub required: bool,
    /// Key by which a strategic patch finds list items.
    pub merge_key: Option<&'static str>,
    /// `x-kubernetes-patch-strategy`, such as `merge` or `merge,retainKeys`.
    pub patch_strategy: &'static str,
    /// `x-kubernetes-list-type`: `atomic`, `set`, `map` or empty.
    pub list_type: &'static str,
    /// `x-kubernetes-list-map-keys`.
    pub list_keys: Vec<&'static str>,
    /// `x-kubernetes-map-type`: `atomic` or empty.
    pub map_type: &'static str,
    /// Default as JSON text; empty for none.
    pub default: &'static str,
    /// Field number in protobuf; several where messages lie in between that JSON does not have. Empty for a
    /// field that has none.
    pub numbers: Vec<u32>,
    /// Whether a zero value means something else than absence.
    pub pointer: bool,
    /// Whether Kubernetes writes the value of a scalar also where it is zero.
    pub always: bool,
    /// Name in OpenAPI of the type behind [`Shape::Any`]; empty for other shapes.
    pub any: &'static str,
}

impl Field {
    /// Whether a strategic patch merges the list instead of replacing it.
    #[must_use]
    pub fn merges(&self) -> bool {
        self.patch_strategy.split(',').any(|strategy| strategy == "merge")
    }
}

/// One type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// Full name, such as `io.k8s.api.core.v1.Pod`.
    pub name: &'static str,
    /// Fields, sorted by name.
    pub fields: Vec<Field>,
    /// `x-kubernetes-map-type` of the type itself.
    pub map_type: &'static str,
}

impl Type {
    /// Field of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|field| field.name.cmp(name)).ok().map(|index| &self.fields[index])
    }

    /// Name without the package.
    #[must_use]
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

static SCHEMA: LazyLock<HashMap<&'static str, Type>> = LazyLock::new(|| TABLES.iter().flat_map(|table| parse(table)).collect());

/// Type of that full name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Type> {
    SCHEMA.get(name)
}

/// All types.
pub fn all() -> impl Iterator<Item = &'static Type> {
    SCHEMA.values()
}

/// Full name of the type of a resource's objects.
#[must_use]
pub fn type_name(group: &str, version: &str, kind: &str) -> String {
    let package = match group {
        "" => "api.core",
        "apiextensions.k8s.io" => "apiextensions-apiserver.pkg.apis.apiextensions",
        "apiregistration.k8s.io" => "kube-aggregator.pkg.apis.apiregistration",
        other => return format!("io.k8s.api.{}.{version}.{kind}", other.split('.').next().unwrap_or(other)),
    };
    format!("io.k8s.{package}.{version}.{kind}")
}

/// Type of a resource's objects.
#[must_use]
pub fn of(key: &ResourceKey) -> Option<&'static Type> {
    find(&type_name(key.group, key.version, key.kind))
}

fn parse(table: &'static str) -> impl Iterator<Item = (&'static str, Type)> {
    let mut types: Vec<Type> = Vec::new();
    for line in table.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(first), Some(second)) = (words.next(), words.next()) else { continue };
        if !line.starts_with(' ') {
            let map_type = words.find_map(|flag| flag.strip_prefix("map=")).unwrap_or_default();
            types.push(Type { name: second, fields: Vec::new(), map_type });
        } else if let Some(owner) = types.last_mut() {
            owner.fields.push(parse_field(first, second, words));
        }
    }
    for owner in &mut types {
        owner.fields.sort_by_key(|field| field.name);
    }
    types.into_iter().map(|owner| (owner.name, owner))
}

fn parse_field(name: &'static str, shape: &'static str, flags: impl Iterator<Item = &'static str>) -> Field {
    let mut field = Field {
        name,
        shape: parse_shape(shape),
        required: false,
        merge_key: None,
        patch_strategy: "",
        list_type: "",
        list_keys: Vec::new(),
        map_type: "",
        default: "",
        numbers: Vec::new(),
        pointer: false,
        always: false,
        any: shape.split_once("any:").map_or("", |(_, name)| name),
    };
    for flag in flags {
        match flag.split_once('=') {
            None if flag == "always" => field.always = true,
            None => field.required = true,
            Some(("key", value)) => field.merge_key = Some(value),
            Some(("patch", value)) => field.patch_strategy = value,
            Some(("list", value)) => field.list_type = value,
            Some(("keys", value)) => field.list_keys = value.split(',').collect(),
            Some(("map", value)) => field.map_type = value,
            Some(("n", value)) => field.numbers = value.split('.').filter_map(|number| number.parse().ok()).collect(),
            Some(("pointer", _)) => field.pointer = true,
            Some((_, value)) => field.default = value,
        }
    }
    field
}

fn parse_shape(text: &'static str) -> Shape {
    if let Some(item) = text.strip_prefix("[]") {
        return Shape::List(Box::new(parse_shape(item)));
    }
    if let Some(item) = text.strip_prefix("{}") {
        return Shape::Map(Box::new(parse_shape(item)));
    }
    if text.starts_with("any:") {
        return Shape::Any;
    }
    Shape::Scalar(match text {
        "string" => Scalar::String,
        "bytes" => Scalar::Bytes,
        "time" => Scalar::Time,
        "microtime" => Scalar::MicroTime,
        "int32" => Scalar::Int32,
        "int64" => Scalar::Int64,
        "double" => Scalar::Double,
        "boolean" => Scalar::Boolean,
        "intorstring" => Scalar::IntOrString,
        "quantity" => Scalar::Quantity,
        name => return Shape::Object(name),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::resources;

    #[test]
    fn every_resource_has_a_type_and_every_reference_leads_to_one() {
        for key in resources::ALL {
            assert!(of(key).is_some(), "{key:?}");
        }
        fn check(shape: &Shape) {
            match shape {
                Shape::Object(name) => assert!(find(name).is_some(), "{name}"),
                Shape::List(item) | Shape::Map(item) => check(item),
                Shape::Scalar(_) | Shape::Any => {}
            }
        }
        for owner in all() {
            owner.fields.iter().for_each(|field| check(&field.shape));
        }
    }

    #[test]
    fn merge_keys_are_those_of_kubernetes() {
        let spec = find("io.k8s.api.core.v1.PodSpec").unwrap();
        assert_eq!(spec.field("containers").unwrap().merge_key, Some("name"));
        let container = find("io.k8s.api.core.v1.Container").unwrap();
        let ports = container.field("ports").unwrap();
        assert_eq!(
            (ports.merge_key, ports.list_keys.as_slice()),
            (Some("containerPort"), ["containerPort", "protocol"].as_slice())
        );
        assert!(spec.field("tolerations").is_some_and(|field| !field.merges()));
    }
}
