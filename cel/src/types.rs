//! Types of expressions, and who knows the fields of objects.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Known only when the value is there.
    Dyn,
    /// null.
    Null,
    /// bool.
    Bool,
    /// int.
    Int,
    /// uint.
    Uint,
    /// double.
    Double,
    /// string.
    String,
    /// bytes.
    Bytes,
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// `google.protobuf.Duration`.
    Duration,
    /// A type itself.
    Type,
    /// list.
    List(Arc<Type>),
    /// map.
    Map(Arc<Type>, Arc<Type>),
    /// An object with fields, known by its name.
    Object(Arc<str>),
    /// A value that may be absent.
    Optional(Arc<Type>),
    /// A type of a library or of the host.
    Opaque(Arc<str>),
    /// A parameter of a function's signature.
    Parameter(char),
}

impl Type {
    /// A list.
    #[must_use]
    pub fn list(item: Self) -> Self {
        Self::List(Arc::new(item))
    }

    /// A map from strings.
    #[must_use]
    pub fn map(value: Self) -> Self {
        Self::Map(Arc::new(Self::String), Arc::new(value))
    }

    /// An object.
    #[must_use]
    pub fn object(name: &str) -> Self {
        Self::Object(Arc::from(name))
    }

    /// A type of the host.
    #[must_use]
    pub fn opaque(name: &str) -> Self {
        Self::Opaque(Arc::from(name))
    }
}

impl fmt::Display for Type {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => formatter.write_str("dyn"),
            Self::Null => formatter.write_str("null"),
            Self::Bool => formatter.write_str("bool"),
            Self::Int => formatter.write_str("int"),
            Self::Uint => formatter.write_str("uint"),
            Self::Double => formatter.write_str("double"),
            Self::String => formatter.write_str("string"),
            Self::Bytes => formatter.write_str("bytes"),
            Self::Timestamp => formatter.write_str("timestamp"),
            Self::Duration => formatter.write_str("duration"),
            Self::Type => formatter.write_str("type"),
            Self::List(item) => write!(formatter, "list({item})"),
            Self::Map(key, value) => write!(formatter, "map({key}, {value})"),
            Self::Object(name) | Self::Opaque(name) => formatter.write_str(name),
            Self::Optional(value) => write!(formatter, "optional_type({value})"),
            Self::Parameter(name) => write!(formatter, "{name}"),
        }
    }
}

/// Who knows the objects' fields.
pub trait Types: Send + Sync {
    /// Type of a field, under the name that expressions use; `None` where the object has no such field.
    fn field(&self, object: &str, field: &str) -> Option<Type>;

    /// Whether there is an object type of that name.
    fn contains(&self, object: &str) -> bool;
}

/// No objects at all.
pub struct NoTypes;

impl Types for NoTypes {
    fn field(&self, _object: &str, _field: &str) -> Option<Type> {
        None
    }

    fn contains(&self, _object: &str) -> bool {
        false
    }
}

/// Objects in a table.
#[derive(Clone, Debug, Default)]
pub struct TypeTable {
    objects: BTreeMap<String, BTreeMap<String, Type>>,
}

impl TypeTable {
    /// Adds an object type with its fields.
    pub fn insert(&mut self, name: impl Into<String>, fields: BTreeMap<String, Type>) {
        self.objects.insert(name.into(), fields);
    }
}

impl Types for TypeTable {
    fn field(&self, object: &str, field: &str) -> Option<Type> {
        self.objects.get(object)?.get(field).cloned()
    }

    fn contains(&self, object: &str) -> bool {
        self.objects.contains_key(object)
    }
}
