//! One pass over JSON that checks it against a type, cleans it and notes what was wrong.
//!
//! The same walk serves bytes (through serde_json's parser, so that the same field given twice is
//! seen) and values (after a patch). Nulls and empty lists and maps that the type does not require
//! are left out, as Kubernetes' encoder leaves them out, so that equal objects have equal bytes.

use std::fmt;

use base64::Engine;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::syntax::go_syntax_error;
use crate::schema::{self, Field, Scalar, Shape, Type};

/// More findings than this are not collected.
const FINDINGS_MAX: usize = 100;

/// Whose words a type error uses: Kubernetes has two decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The JSON decoder, for bodies.
    Json,
    /// The converter of unstructured objects, for the result of a strategic merge patch.
    Converter,
}

/// What a walk noted.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Unknown and repeated fields, each in a sentence of its own.
    pub strict: Vec<String>,
    /// The first value of a wrong type.
    pub error: Option<String>,
}

struct Context {
    dialect: Dialect,
    findings: Findings,
    /// Where the walk is, such as `spec.containers[0].name`.
    path: String,
    /// The fields on the way, for type errors.
    fields: Vec<&'static str>,
    /// The innermost type, for type errors.
    owner: &'static str,
}

/// Decodes text as a type.
///
/// # Errors
/// The text is no JSON object; the words of Go's decoder.
pub(crate) fn walk_text(text: &[u8], type_: &'static Type) -> Result<(Value, Findings), String> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let mut context = Context::new(Dialect::Json, type_);
    let walked = Walk { context: &mut context, shape: &Shape::Any, root: Some(type_) }
        .deserialize(&mut parser)
        .and_then(|value| parser.end().map(|()| value))
        .map_err(|error| go_syntax_error(&error, text))?;
    match walked {
        Some(value @ Value::Object(_)) => Ok((value, context.findings)),
        other => Err(format!(
            "json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
            go_value(&other.unwrap_or(Value::Null))
        )),
    }
}

/// Checks and cleans a value that was decoded before.
pub(crate) fn walk_value(value: Value, type_: &'static Type, dialect: Dialect) -> (Value, Findings) {
    let mut context = Context::new(dialect, type_);
    let walked = Walk { context: &mut context, shape: &Shape::Any, root: Some(type_) }.deserialize(value);
    let mut findings = context.findings;
    match walked {
        Ok(Some(value)) => {
            if dialect == Dialect::Converter {
                findings.strict.sort();
            }
            (value, findings)
        }
        Ok(None) => (Value::Null, findings),
        Err(error) => {
            findings.error.get_or_insert(error.to_string());
            (Value::Null, findings)
        }
    }
}

impl Context {
    fn new(dialect: Dialect, type_: &'static Type) -> Self {
        Self { dialect, findings: Findings::default(), path: String::new(), fields: Vec::new(), owner: type_.short_name() }
    }

    fn strict(&mut self, what: &str, name: &str) {
        let dot = if self.path.is_empty() { "" } else { "." };
        let text = format!("{what} field \"{}{dot}{name}\"", self.path);
        if self.findings.strict.len() < FINDINGS_MAX && !self.findings.strict.contains(&text) {
            self.findings.strict.push(text);
        }
    }

    fn error(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.findings.error.is_none() {
            self.findings.error = Some(text(self));
        }
    }

    /// Goes one step down, calls, and comes back.
    fn below<R>(&mut self, step: &str, call: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.path.len();
        if !step.starts_with('[') && length > 0 {
            self.path.push('.');
        }
        self.path.push_str(step);
        let result = call(self);
        self.path.truncate(length);
        result
    }

    /// A value of a wrong type: `got` in JSON's words, `value` where numbers are quoted.
    fn mismatch(&mut self, got: &Value, shape: &Shape) {
        self.error(|context| match context.dialect {
            Dialect::Json => format!(
                "json: cannot unmarshal {} into Go struct field {}.{} of type {}",
                go_number(got, shape),
                context.owner,
                context.fields.join("."),
                go_type(shape)
            ),
            Dialect::Converter => converter_mismatch(got, shape),
        });
    }
}

/// A value in the words of Go's decoder.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// As [`go_value`], with the digits where an integer was wanted and the number is none or too large.
fn go_number(value: &Value, shape: &Shape) -> String {
    match (value, shape) {
        (Value::Number(number), Shape::Scalar(Scalar::Int32 | Scalar::Int64)) => format!("number {number}"),
        _ => go_value(value),
    }
}

/// A type as Go names it.
fn go_type(shape: &Shape) -> String {
    match shape {
        Shape::Object(name) => {
            let mut parts = name.rsplit('.');
            let kind = parts.next().unwrap_or_default();
            format!("{}.{kind}", parts.next().unwrap_or_default())
        }
        Shape::List(item) => format!("[]{}", go_type(item)),
        Shape::Map(item) => format!("map[string]{}", go_type(item)),
        Shape::Any => "interface {}".to_owned(),
        Shape::Scalar(scalar) => match scalar {
            Scalar::String => "string",
            Scalar::Bytes => "[]uint8",
            Scalar::Time => "v1.Time",
            Scalar::MicroTime => "v1.MicroTime",
            Scalar::Int32 => "int32",
            Scalar::Int64 => "int64",
            Scalar::Double => "float64",
            Scalar::Boolean => "bool",
            Scalar::IntOrString => "intstr.IntOrString",
            Scalar::Quantity => "resource.Quantity",
        }
        .to_owned(),
    }
}

fn converter_mismatch(got: &Value, shape: &Shape) -> String {
    let kind = match got {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    };
    match shape {
        Shape::Object(_) => format!("cannot restore struct from: {kind}"),
        Shape::List(_) | Shape::Scalar(Scalar::Bytes) => format!("cannot restore slice from {kind}"),
        Shape::Map(_) => format!("cannot restore map from {kind}"),
        Shape::Scalar(_) | Shape::Any => match (got, shape) {
            (Value::Number(_), Shape::Scalar(Scalar::String | Scalar::Int32 | Scalar::Int64)) => {
                format!("cannot convert {kind} to {}", go_type(shape))
            }
            _ => format!("unrecognized type: {}", go_type(shape)),
        },
    }
}

struct Walk<'c> {
    context: &'c mut Context,
    shape: &'c Shape,
    /// The type of the whole object, at its root only.
    root: Option<&'static Type>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    /// `None`: the value is left out.
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Walk<'_> {
    fn scalar(self, value: Value) -> Option<Value> {
        if self.root.is_some() {
            return Some(value);
        }
        let Shape::Scalar(scalar) = self.shape else {
            if *self.shape == Shape::Any {
                return Some(value);
            }
            self.context.mismatch(&value, self.shape);
            return None;
        };
        match convert(*scalar, value) {
            Ok(value) => Some(value),
            Err(Refusal::Mismatch(value)) => {
                self.context.mismatch(&value, self.shape);
                None
            }
            Err(Refusal::Text(text)) => {
                self.context.error(|_| text);
                None
            }
        }
    }
}

enum Refusal {
    /// Another JSON type.
    Mismatch(Value),
    /// The right JSON type with a malformed content.
    Text(String),
}

fn convert(scalar: Scalar, value: Value) -> Result<Value, Refusal> {
    match (scalar, &value) {
        (Scalar::String, Value::String(_)) | (Scalar::Boolean, Value::Bool(_)) | (Scalar::Double, Value::Number(_)) => Ok(value),
        (Scalar::Int32, Value::Number(number)) => match number.as_i64() {
            Some(number) if i32::try_from(number).is_ok() => Ok(value),
            _ => Err(Refusal::Mismatch(value)),
        },
        (Scalar::Int64, Value::Number(number)) if number.is_i64() => Ok(value),
        (Scalar::IntOrString, Value::String(_)) => Ok(value),
        (Scalar::IntOrString, Value::Number(number)) if number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) => {
            Ok(value)
        }
        (Scalar::IntOrString, other) => {
            let got = go_number(other, &Shape::Scalar(Scalar::Int32));
            Err(Refusal::Text(format!("json: cannot unmarshal {got} into Go value of type int32")))
        }
        // A quantity given as a number is text from here on.
        (Scalar::Quantity, Value::Number(number)) => quantity(&number.to_string()),
        (Scalar::Quantity, Value::String(text)) => quantity(text),
        (Scalar::Quantity, _) => quantity("?"),
        (Scalar::Bytes, Value::String(text)) => match base64::engine::general_purpose::STANDARD.decode(text) {
            Ok(_) => Ok(value),
            Err(error) => Err(Refusal::Text(base64_error(&error, text.len()))),
        },
        (Scalar::Time | Scalar::MicroTime, Value::String(text)) => time(text, scalar == Scalar::MicroTime),
        (Scalar::Time | Scalar::MicroTime, other) => {
            Err(Refusal::Text(format!("json: cannot unmarshal {} into Go value of type string", go_value(other))))
        }
        _ => Err(Refusal::Mismatch(value)),
    }
}

fn quantity(text: &str) -> Result<Value, Refusal> {
    match crate::quantity::canonical(text) {
        Ok(text) => Ok(text.into()),
        Err(error) => Err(Refusal::Text(error.to_string())),
    }
}

fn base64_error(error: &base64::DecodeError, length: usize) -> String {
    let at = match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => *at,
        base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => length,
    };
    format!("illegal base64 data at input byte {at}")
}

/// RFC 3339, brought to UTC and the precision that the type is written with.
fn time(text: &str, micro: bool) -> Result<Value, Refusal> {
    let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    let Ok(time) = text.parse::<jiff::Timestamp>() else {
        return Err(Refusal::Text(format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"")));
    };
    let format = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(time.strftime(format).to_string().into())
}

/// What Go leaves where null stands in a list or map.
fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Double | Scalar::IntOrString) => 0.into(),
        Shape::Scalar(Scalar::Boolean) => false.into(),
        Shape::Scalar(Scalar::Quantity) => "0".into(),
        Shape::Scalar(Scalar::String | Scalar::Bytes) => "".into(),
        Shape::Scalar(Scalar::Time | Scalar::MicroTime) | Shape::Any => Value::Null,
        Shape::Object(_) | Shape::Map(_) => Value::Object(Map::new()),
        Shape::List(_) => Value::Array(Vec::new()),
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Option<Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok((*self.shape == Shape::Any && self.root.is_none() && !self.context.fields.is_empty()).then_some(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(self.scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(self.scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(self.scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(self.scalar(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(self.scalar(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(self.scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let item = match self.shape {
            Shape::List(item) => item.as_ref(),
            Shape::Any => &Shape::Any,
            other => {
                while sequence.next_element::<IgnoredAny>()?.is_some() {}
                self.context.mismatch(&Value::Array(Vec::new()), other);
                return Ok(None);
            }
        };
        let mut items = Vec::new();
        loop {
            let step = format!("[{}]", items.len());
            let next =
                self.context.below(&step, |context| sequence.next_element_seed(Walk { context, shape: item, root: None }))?;
            match next {
                Some(value) => items.push(value.unwrap_or_else(|| zero(item))),
                None => return Ok(Some(Value::Array(items))),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let type_ = match (self.root, self.shape) {
            (Some(type_), _) => Some(type_),
            (None, Shape::Object(name)) => schema::find(name),
            (None, Shape::Map(_) | Shape::Any) => None,
            (None, other) => {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                let object = Value::Object(Map::new());
                // A quantity or time refuses an object in its own words.
                let _ = Walk { context: self.context, shape: other, root: None }.scalar(object);
                return Ok(None);
            }
        };
        match type_ {
            Some(type_) => walk_struct(self.context, type_, &mut map),
            None => {
                let item = if let Shape::Map(item) = self.shape { item.as_ref() } else { &Shape::Any };
                walk_map(self.context, item, &mut map)
            }
        }
    }
}

fn walk_map<'de, A: MapAccess<'de>>(context: &mut Context, item: &Shape, map: &mut A) -> Result<Option<Value>, A::Error> {
    let mut members = Map::new();
    while let Some(name) = map.next_key::<String>()? {
        let value = context.below(&name, |context| map.next_value_seed(Walk { context, shape: item, root: None }))?;
        if members.insert(name.clone(), value.unwrap_or_else(|| zero(item))).is_some() {
            context.strict("duplicate", &name);
        }
    }
    Ok(Some(Value::Object(members)))
}

fn walk_struct<'de, A: MapAccess<'de>>(
    context: &mut Context,
    type_: &'static Type,
    map: &mut A,
) -> Result<Option<Value>, A::Error> {
    let outer = std::mem::replace(&mut context.owner, type_.short_name());
    let mut members = Map::new();
    let mut seen: Vec<&'static str> = Vec::new();
    while let Some(name) = map.next_key::<String>()? {
        let Some(field) = type_.field(&name) else {
            map.next_value::<IgnoredAny>()?;
            context.strict("unknown", &name);
            continue;
        };
        if seen.contains(&field.name) {
            context.strict("duplicate", &name);
        } else {
            seen.push(field.name);
        }
        context.fields.push(field.name);
        let value = context.below(&name, |context| map.next_value_seed(Walk { context, shape: &field.shape, root: None }));
        context.fields.pop();
        match value?.filter(|value| is_kept(field, value)) {
            Some(value) => {
                members.insert(name, value);
            }
            // The last of a repeated field counts, also where it says nothing.
            None => {
                members.remove(&name);
            }
        }
    }
    context.owner = outer;
    Ok(Some(Value::Object(members)))
}

/// Whether a value says more than its absence.
fn is_kept(field: &Field, value: &Value) -> bool {
    match (&field.shape, value) {
        (_, Value::Null) => false,
        // An empty list here takes all ownership away.
        (Shape::List(_), Value::Array(_)) if field.name == "managedFields" => true,
        (Shape::List(_), Value::Array(items)) => field.required || !items.is_empty(),
        (Shape::Map(_), Value::Object(members)) => field.required || !members.is_empty(),
        _ => true,
    }
}
