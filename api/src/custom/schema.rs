//! A CRD's `openAPIV3Schema` as a tree that is walked again and again: pruning, defaults, validation.
//!
//! In: the schema as JSON. Out: [`Schema`], patterns compiled. Whether it is structural is judged apart, in
//! `structural.rs`; reading never refuses what the API's own validation has let through.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

/// One level of a schema.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// `object`, `array`, `string`, `integer`, `number`, `boolean` or empty.
    pub type_: String,
    /// Sentence for `kubectl explain`.
    pub description: String,
    /// Title.
    pub title: String,
    /// Fields.
    pub properties: BTreeMap<String, Schema>,
    /// Values of a map.
    pub additional: Additional,
    /// Items of a list.
    pub items: Option<Box<Schema>>,
    /// Whether null is a value.
    pub nullable: bool,
    /// Value of an absent field.
    pub default: Option<Value>,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown_fields: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded_resource: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-list-type`.
    pub list_type: String,
    /// `x-kubernetes-list-map-keys`.
    pub list_map_keys: Vec<String>,
    /// `x-kubernetes-map-type`.
    pub map_type: String,
    /// Restrictions on the value.
    pub checks: Checks,
    /// `x-kubernetes-validations`.
    pub rules: Vec<Rule>,
}

/// What a map may hold beside its properties.
#[derive(Clone, Debug, Default)]
pub enum Additional {
    /// Nothing is said.
    #[default]
    Unset,
    /// Anything, or nothing.
    Any(bool),
    /// Values of this schema.
    Schema(Box<Schema>),
}

/// Restrictions on a value.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// Such as `date-time`.
    pub format: String,
    /// Largest number.
    pub maximum: Option<f64>,
    /// Whether the largest itself is excluded.
    pub exclusive_maximum: bool,
    /// Smallest number.
    pub minimum: Option<f64>,
    /// Whether the smallest itself is excluded.
    pub exclusive_minimum: bool,
    /// Factor of every number.
    pub multiple_of: Option<f64>,
    /// Most characters.
    pub max_length: Option<u64>,
    /// Fewest characters.
    pub min_length: Option<u64>,
    /// Regular expression, as written.
    pub pattern: String,
    /// The same, compiled; `None` where it is empty or malformed.
    pub expression: Option<Regex>,
    /// Most items.
    pub max_items: Option<u64>,
    /// Fewest items.
    pub min_items: Option<u64>,
    /// Most members.
    pub max_properties: Option<u64>,
    /// Fewest members.
    pub min_properties: Option<u64>,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// Every value that is allowed.
    pub enum_: Vec<Value>,
    /// All of these.
    pub all_of: Vec<Schema>,
    /// At least one of these.
    pub any_of: Vec<Schema>,
    /// Exactly one of these.
    pub one_of: Vec<Schema>,
    /// Not this.
    pub not: Option<Box<Schema>>,
}

/// One of `x-kubernetes-validations`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The expression.
    pub rule: String,
    /// What is said when it is false.
    pub message: String,
    /// An expression that makes what is said.
    pub message_expression: String,
    /// Reason of the cause: `FieldValueInvalid` and others.
    pub reason: String,
    /// Field below that is named in the error.
    pub field_path: String,
    /// Whether `oldSelf` is an optional value and the rule also judges creations.
    pub optional_old_self: Option<bool>,
}

fn text(map: &Map<String, Value>, name: &str) -> String {
    map.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn flag(map: &Map<String, Value>, name: &str) -> bool {
    map.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn words(map: &Map<String, Value>, name: &str) -> Vec<String> {
    let items = map.get(name).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

impl Schema {
    /// Reads a schema.
    #[must_use]
    pub fn parse(value: &Value) -> Self {
        let Some(map) = value.as_object() else { return Self::default() };
        let properties = map.get("properties").and_then(Value::as_object).into_iter().flatten();
        Self {
            type_: text(map, "type"),
            description: text(map, "description"),
            title: text(map, "title"),
            properties: properties.map(|(name, schema)| (name.clone(), Self::parse(schema))).collect(),
            additional: match map.get("additionalProperties") {
                None | Some(Value::Null) => Additional::Unset,
                Some(Value::Bool(any)) => Additional::Any(*any),
                Some(schema) => Additional::Schema(Box::new(Self::parse(schema))),
            },
            items: map.get("items").filter(|items| items.is_object()).map(|items| Box::new(Self::parse(items))),
            nullable: flag(map, "nullable"),
            default: map.get("default").filter(|default| !default.is_null()).cloned(),
            preserve_unknown_fields: flag(map, "x-kubernetes-preserve-unknown-fields"),
            embedded_resource: flag(map, "x-kubernetes-embedded-resource"),
            int_or_string: flag(map, "x-kubernetes-int-or-string"),
            list_type: text(map, "x-kubernetes-list-type"),
            list_map_keys: words(map, "x-kubernetes-list-map-keys"),
            map_type: text(map, "x-kubernetes-map-type"),
            checks: Checks::parse(map),
            rules: map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten().map(Rule::parse).collect(),
        }
    }

    /// Schema of a field: a property, or the map's values.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Additional::Schema(schema) => Some(schema),
            Additional::Unset | Additional::Any(_) => None,
        })
    }

    /// Schemas below this one, combinations included.
    pub fn children(&self) -> impl Iterator<Item = &Self> {
        let additional = match &self.additional {
            Additional::Schema(schema) => Some(schema.as_ref()),
            Additional::Unset | Additional::Any(_) => None,
        };
        let checks = &self.checks;
        let combined = checks.all_of.iter().chain(&checks.any_of).chain(&checks.one_of).chain(checks.not.as_deref());
        self.properties.values().chain(additional).chain(self.items.as_deref()).chain(combined)
    }
}

impl Checks {
    fn parse(map: &Map<String, Value>) -> Self {
        let number = |name: &str| map.get(name).and_then(Value::as_f64);
        let count = |name: &str| map.get(name).and_then(Value::as_u64);
        let schemas = |name: &str| -> Vec<Schema> {
            map.get(name).and_then(Value::as_array).into_iter().flatten().map(Schema::parse).collect()
        };
        let pattern = text(map, "pattern");
        Self {
            format: text(map, "format"),
            maximum: number("maximum"),
            exclusive_maximum: flag(map, "exclusiveMaximum"),
            minimum: number("minimum"),
            exclusive_minimum: flag(map, "exclusiveMinimum"),
            multiple_of: number("multipleOf"),
            max_length: count("maxLength"),
            min_length: count("minLength"),
            expression: if pattern.is_empty() { None } else { Regex::new(&pattern).ok() },
            pattern,
            max_items: count("maxItems"),
            min_items: count("minItems"),
            max_properties: count("maxProperties"),
            min_properties: count("minProperties"),
            required: words(map, "required"),
            enum_: map.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            all_of: schemas("allOf"),
            any_of: schemas("anyOf"),
            one_of: schemas("oneOf"),
            not: map.get("not").filter(|not| not.is_object()).map(|not| Box::new(Schema::parse(not))),
        }
    }
}

impl Rule {
    /// Reads one rule.
    fn parse(value: &Value) -> Self {
        let part = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            rule: part("rule"),
            message: part("message"),
            message_expression: part("messageExpression"),
            reason: part("reason"),
            field_path: part("fieldPath"),
            optional_old_self: value.get("optionalOldSelf").and_then(Value::as_bool),
        }
    }
}
