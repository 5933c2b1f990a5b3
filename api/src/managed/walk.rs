//! Walks over one object: which fields it has, which mistakes, and what is left without some of them.

use serde_json::{Map, Value};

use super::{
    fields::{FieldSet, Step, print},
    shape::{Kind, ListShape, Node, Scalar, item_step},
};

/// Fields that an applied configuration sets.
#[must_use]
pub fn collect(node: Node<'_>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect_into(node, value, &mut Vec::new(), &mut set);
    set
}

fn collect_into<'v>(node: Node<'_>, value: &'v Value, path: &mut Vec<Step<'v>>, set: &mut FieldSet) {
    match value {
        Value::Object(members) if node.is_granular_object() => {
            for (name, member) in members {
                path.push(Step::Field(name));
                collect_into(node.member(name).unwrap_or(Node::ANY), member, path, set);
                let is_empty = member.is_null() || member.as_object().is_some_and(Map::is_empty);
                if is_empty || !node.is_field(name) {
                    set.insert(path);
                }
                path.pop();
            }
        }
        Value::Array(items) if node.granular_list().is_some() => {
            let Some(list) = node.granular_list() else { return };
            let steps: Vec<Option<Step<'_>>> = items.iter().map(|item| item_step(list, item).ok()).collect();
            for (step, item) in steps.iter().zip(items) {
                let Some(step) = step else { continue };
                let repeated = steps.iter().filter(|other| other.as_ref() == Some(step)).count() > 1;
                path.push(step.clone());
                // The parts of an item that is there twice belong to nobody.
                if !repeated {
                    collect_into(list.item(), item, path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
        Value::Null if node.granular_list().is_some() || matches!(node.kind, Kind::Object(_)) && !node.atomic => {}
        _ => set.insert(path),
    }
}

/// The object without those fields. What becomes empty by it stays, empty.
#[must_use]
pub fn remove(node: Node<'_>, value: Value, fields: &FieldSet) -> Value {
    if fields.is_empty() {
        return value;
    }
    match value {
        Value::Object(members) if node.is_granular_object() => {
            let kept = members.into_iter().filter_map(|(name, member)| {
                let (gone, below) = fields.descend(&Step::Field(&name));
                if gone {
                    return None;
                }
                let member = remove(node.member(&name).unwrap_or(Node::ANY), member, &below);
                Some((name, member))
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => match node.granular_list() {
            Some(list) => Value::Array(items.into_iter().filter_map(|item| remove_item(list, item, fields)).collect()),
            None => Value::Array(items),
        },
        other => other,
    }
}

fn remove_item(list: &dyn ListShape, item: Value, fields: &FieldSet) -> Option<Value> {
    let Ok(step) = item_step(list, &item) else { return Some(item) };
    let (gone, below) = fields.descend(&step);
    (!gone).then(|| remove(list.item(), item, &below))
}

/// The set with every declared field whose parts it has.
#[must_use]
pub fn with_named(node: Node<'_>, set: &FieldSet) -> FieldSet {
    set.with_named(&mut |path| {
        let mut at = Some(node);
        let Some((last, parents)) = path.split_last() else { return false };
        for element in parents {
            at = at.and_then(|node| match element.strip_prefix("f:") {
                Some(name) => node.member(name),
                None => node.granular_list().map(ListShape::item),
            });
        }
        at.zip(last.strip_prefix("f:")).is_some_and(|(node, name)| node.is_field(name))
    })
}

/// Mistakes in an applied configuration: what its type does not have, and items that cannot be told apart.
///
/// # Errors
/// All of them in one text, in the words of Kubernetes.
pub fn check(node: Node<'_>, value: &Value) -> Result<(), String> {
    let mut errors = Vec::new();
    check_into(node, value, "", &mut errors);
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

/// More mistakes than this are not told.
const MISTAKES_MAX: usize = 100;

fn check_into(node: Node<'_>, value: &Value, path: &str, errors: &mut Vec<String>) {
    let mut mistake = |path: &str, text: &str| {
        if errors.len() < MISTAKES_MAX {
            errors.push(if path.is_empty() { text.to_owned() } else { format!("{path}: {text}") });
        }
    };
    match (node.kind, value) {
        (_, Value::Null) => {}
        (Kind::Object(shape), Value::Object(members)) => {
            for (name, member) in members {
                let below = format!("{path}.{name}");
                match shape.field(name).or_else(|| shape.member()) {
                    Some(node) => check_into(node, member, &below, errors),
                    None if errors.len() < MISTAKES_MAX => errors.push(format!("{below}: field not declared in schema")),
                    None => {}
                }
            }
        }
        (Kind::Object(_), other) => mistake(path, &format!("expected map, got &{{{}}}", go_value(other))),
        (Kind::List(list), Value::Array(items)) => check_list(node, list, items, path, errors),
        (Kind::List(_), other) => mistake(path, &format!("expected list, got &{{{}}}", go_value(other))),
        (Kind::Scalar(scalar), other) => {
            if let Some(text) = wrong_scalar(scalar, other) {
                mistake(path, &text);
            }
        }
        (Kind::Any, _) => {}
    }
}

fn check_list(node: Node<'_>, list: &dyn ListShape, items: &[Value], path: &str, errors: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let mut name = format!("[{index}]");
        if node.granular_list().is_some() {
            match item_step(list, item) {
                Ok(Step::Item(element)) => {
                    name = print(&element);
                    if !seen.insert(element) && errors.len() < MISTAKES_MAX {
                        errors.push(format!("{path}: duplicate entries for key {name}"));
                    }
                }
                Ok(Step::Field(_)) => {}
                Err(text) => {
                    errors.push(format!("{path}: element {index}: {text}"));
                    return;
                }
            }
        }
        check_into(list.item(), item, &format!("{path}{name}"), errors);
    }
}

fn wrong_scalar(scalar: Scalar, value: &Value) -> Option<String> {
    match (scalar, value) {
        (Scalar::String, Value::String(_)) | (Scalar::Number, Value::Number(_)) | (Scalar::Boolean, Value::Bool(_)) => None,
        (Scalar::Any, Value::String(_) | Value::Number(_) | Value::Bool(_)) => None,
        (Scalar::Number, other) => Some(format!("expected numeric (int or float), got {}", go_type(other))),
        (Scalar::String, other) => Some(format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_value(other))),
        (Scalar::Boolean, other) => Some(format!("expected boolean, got &{{{}}}", go_value(other))),
        (Scalar::Any, other) => Some(format!("expected any scalar, got &{{{}}}", go_value(other))),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn go_value(value: &Value) -> String {
    crate::patch::print_go(value)
}
