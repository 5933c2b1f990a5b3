//! What fields the objects of a kind have, as expressions see them.

use std::collections::BTreeMap;

use kontiki_cel::{Type, TypeTable, Types, escape};

use crate::{
    custom::declare::declare,
    registry::Resource,
    schema::{self, Scalar, Shape},
};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The type of a kind's objects; the types of its fields go into the table. `None` where nothing is known of them.
pub fn of(resource: &Resource, table: &mut TypeTable) -> Option<Type> {
    let Some(served) = resource.strategy.custom() else { return resource.type_().map(|type_| built_in(type_, table)) };
    let name = format!("{}.{}", resource.key.api_version(), resource.key.kind);
    let type_ = declare(served.version().schema.as_ref()?, &name, true, table);
    // Rules of definitions see two fields of it, policies see all.
    let metadata = fields(schema::find(OBJECT_META)?, table);
    table.insert(format!("{name}.metadata"), metadata);
    Some(type_)
}

fn built_in(type_: &'static schema::Type, table: &mut TypeTable) -> Type {
    if !table.contains(type_.name) {
        // Some types contain themselves.
        table.insert(type_.name, BTreeMap::new());
        let fields = fields(type_, table);
        table.insert(type_.name, fields);
    }
    Type::object(type_.name)
}

fn fields(type_: &'static schema::Type, table: &mut TypeTable) -> BTreeMap<String, Type> {
    let named = type_.fields.iter().filter_map(|field| Some((escape(field.name)?, &field.shape)));
    named.map(|(name, shape)| (name, of_shape(shape, table))).collect()
}

fn of_shape(shape: &'static Shape, table: &mut TypeTable) -> Type {
    match shape {
        Shape::Any => Type::Dyn,
        Shape::Object(name) => schema::find(name).map_or(Type::Dyn, |type_| built_in(type_, table)),
        Shape::List(item) => Type::list(of_shape(item, table)),
        Shape::Map(value) => Type::map(of_shape(value, table)),
        Shape::Scalar(scalar) => match scalar {
            Scalar::String => Type::String,
            Scalar::Bytes => Type::Bytes,
            Scalar::Time | Scalar::MicroTime => Type::Timestamp,
            Scalar::Int32 | Scalar::Int64 => Type::Int,
            Scalar::Double => Type::Double,
            Scalar::Boolean => Type::Bool,
            Scalar::IntOrString | Scalar::Quantity => Type::Dyn,
        },
    }
}
