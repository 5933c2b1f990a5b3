//! JSON becomes values, guided by types where they are known, and values become JSON.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::Value as Json;

use crate::{
    functions::time,
    names::escape,
    types::{Type, Types},
    value::{Key, Value, duration_text},
};

/// A value of that type.
#[must_use]
pub fn from_json(json: &Json, type_: &Type, types: &dyn Types) -> Value {
    match (json, type_) {
        (Json::Null, _) => Value::Null,
        (Json::Bool(value), _) => Value::Bool(*value),
        (Json::Number(number), Type::Double) => Value::Double(number.as_f64().unwrap_or_default()),
        (Json::Number(number), _) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => Value::Int(value),
            // An integer that JSON wrote with a fraction of zero.
            (None, Some(value)) if *type_ == Type::Int => Value::Int(value as i64),
            (None, value) => Value::Double(value.unwrap_or_default()),
        },
        (Json::String(text), Type::Timestamp) => text.parse::<Timestamp>().map_or_else(|_| Value::text(text), Value::Timestamp),
        (Json::String(text), Type::Duration) => time::parse_duration(text).map_or_else(|| Value::text(text), Value::Duration),
        (Json::String(text), Type::Bytes) => {
            BASE64_STANDARD.decode(text).map_or_else(|_| Value::text(text), |bytes| Value::Bytes(bytes.into()))
        }
        (Json::String(text), _) => Value::text(text),
        (Json::Array(items), type_) => {
            let item = if let Type::List(item) = type_ { item.as_ref() } else { &Type::Dyn };
            Value::list(items.iter().map(|json| from_json(json, item, types)).collect())
        }
        (Json::Object(members), type_) => {
            let entries = members.iter().map(|(name, json)| {
                let value = match type_ {
                    Type::Map(_, value) => value.as_ref().clone(),
                    Type::Object(object) => {
                        let field = escape(name).and_then(|name| types.field(object, &name));
                        field.unwrap_or(Type::Dyn)
                    }
                    _ => Type::Dyn,
                };
                (Key::String(Arc::from(name.as_str())), from_json(json, &value, types))
            });
            Value::map(entries.collect::<BTreeMap<_, _>>())
        }
    }
}

/// JSON of a value; `None` for one that JSON does not have.
#[must_use]
pub fn to_json(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Null | Value::Optional(None) => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::Uint(value) => Json::from(*value),
        Value::Double(value) => serde_json::Number::from_f64(*value).map(Json::Number)?,
        Value::String(text) => Json::from(text.as_ref()),
        Value::Bytes(bytes) => Json::from(BASE64_STANDARD.encode(bytes)),
        Value::List(items) => Json::Array(items.iter().map(to_json).collect::<Option<_>>()?),
        Value::Map(entries) => {
            let member = |(key, value): (&Key, &Value)| Some((key.to_value().to_string(), to_json(value)?));
            Json::Object(entries.iter().map(member).collect::<Option<_>>()?)
        }
        Value::Timestamp(time) => Json::from(time.to_string()),
        Value::Duration(duration) => Json::from(duration_text(*duration)),
        Value::Optional(Some(value)) => to_json(value)?,
        Value::Quantity(_) | Value::Ip(_) | Value::Cidr(..) | Value::Url(_) | Value::Semver(_) => Json::from(value.to_string()),
        Value::Type(_) | Value::Format(_) | Value::Host(_) => return None,
    })
}
