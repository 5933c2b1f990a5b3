//! Values of expressions.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use jiff::{SignedDuration, Timestamp};

use crate::{error::EvalError, quantity::Quantity, semver::Semver};

/// A value.
#[derive(Clone, Debug)]
pub enum Value {
    /// null.
    Null,
    /// bool.
    Bool(bool),
    /// int.
    Int(i64),
    /// uint.
    Uint(u64),
    /// double.
    Double(f64),
    /// string.
    String(Arc<str>),
    /// bytes.
    Bytes(Arc<[u8]>),
    /// list.
    List(Arc<Vec<Value>>),
    /// map, and objects with fields.
    Map(Arc<BTreeMap<Key, Value>>),
    /// `google.protobuf.Timestamp`.
    Timestamp(Timestamp),
    /// `google.protobuf.Duration`.
    Duration(SignedDuration),
    /// A value that may be absent.
    Optional(Option<Box<Value>>),
    /// A type.
    Type(Arc<str>),
    /// `kubernetes.Quantity`.
    Quantity(Quantity),
    /// `net.IP`.
    Ip(IpAddr),
    /// `net.CIDR`: address and length of the prefix.
    Cidr(IpAddr, u8),
    /// `kubernetes.URL`.
    Url(Arc<url::Url>),
    /// `kubernetes.NamedFormat`.
    Format(&'static str),
    /// `kubernetes.Semver`.
    Semver(Arc<Semver>),
    /// A value whose functions the host answers.
    Host(Arc<dyn Host>),
}

/// Key of a map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// bool.
    Bool(bool),
    /// int, and every uint that is one.
    Int(i64),
    /// string.
    String(Arc<str>),
}

/// A value of the host, such as an authorizer.
pub trait Host: fmt::Debug + Send + Sync {
    /// Name of its type.
    fn type_name(&self) -> &'static str;

    /// Answers a call of one of its functions.
    ///
    /// # Errors
    /// There is no such function, or it failed.
    fn call(&self, function: &str, arguments: &[Value]) -> Result<Value, EvalError>;
}

impl Value {
    /// A string.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::String(Arc::from(text))
    }

    /// A list.
    #[must_use]
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(items))
    }

    /// A map.
    #[must_use]
    pub fn map(entries: BTreeMap<Key, Self>) -> Self {
        Self::Map(Arc::new(entries))
    }

    /// A value that is there.
    #[must_use]
    pub fn some(value: Self) -> Self {
        Self::Optional(Some(Box::new(value)))
    }

    /// The text of a string.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// Name of the type.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Host(host) => host.type_name(),
        }
    }

    /// How large it is, for costs: letters, items, entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::String(text) => text.len() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(items) => items.len() as u64,
            Self::Map(entries) => entries.len() as u64,
            _ => 1,
        }
    }

    /// As the key of a map.
    #[must_use]
    pub fn as_key(&self) -> Option<Key> {
        Some(match self {
            Self::Bool(value) => Key::Bool(*value),
            Self::Int(value) => Key::Int(*value),
            Self::Uint(value) => Key::Int(i64::try_from(*value).ok()?),
            Self::Double(value) if value.fract() == 0.0 && value.abs() < 9e15 => Key::Int(*value as i64),
            Self::String(text) => Key::String(Arc::clone(text)),
            _ => return None,
        })
    }
}

impl Key {
    /// As a value.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::String(text) => Value::String(Arc::clone(text)),
        }
    }

    /// A key of text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::String(Arc::from(text))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => formatter.write_str("null"),
            Self::Bool(value) => write!(formatter, "{value}"),
            Self::Int(value) => write!(formatter, "{value}"),
            Self::Uint(value) => write!(formatter, "{value}"),
            Self::Double(value) => write!(formatter, "{value}"),
            Self::String(text) => formatter.write_str(text),
            Self::Bytes(bytes) => formatter.write_str(&String::from_utf8_lossy(bytes)),
            Self::Timestamp(time) => write!(formatter, "{time}"),
            Self::Duration(duration) => formatter.write_str(&duration_text(*duration)),
            Self::Type(name) => formatter.write_str(name),
            Self::Ip(address) => write!(formatter, "{address}"),
            Self::Cidr(address, length) => write!(formatter, "{address}/{length}"),
            Self::Url(url) => formatter.write_str(url.as_str()),
            Self::Quantity(quantity) => write!(formatter, "{quantity}"),
            Self::Semver(version) => write!(formatter, "{version}"),
            Self::List(items) => {
                formatter.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(formatter, "{}{item}", if index == 0 { "" } else { ", " })?;
                }
                formatter.write_str("]")
            }
            Self::Map(entries) => {
                formatter.write_str("{")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    write!(formatter, "{}{}: {value}", if index == 0 { "" } else { ", " }, key.to_value())?;
                }
                formatter.write_str("}")
            }
            Self::Optional(None) => formatter.write_str("optional.none()"),
            Self::Optional(Some(value)) => write!(formatter, "optional.of({value})"),
            Self::Format(name) => formatter.write_str(name),
            Self::Host(host) => formatter.write_str(host.type_name()),
        }
    }
}

/// Seconds with an `s`, as a duration becomes text.
pub fn duration_text(duration: SignedDuration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos().unsigned_abs());
    if nanos == 0 {
        return format!("{seconds}s");
    }
    let sign = if duration.is_negative() { "-" } else { "" };
    let fraction = format!("{nanos:09}");
    format!("{sign}{}.{}s", seconds.unsigned_abs(), fraction.trim_end_matches('0'))
}
