//! Two states of an object: which fields came, went and changed; and what a configuration makes of the live object.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    fields::{FieldSet, Step},
    shape::{ListShape, Node, item_step},
};

/// How an object differs from an earlier state. No field is in two of the sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Fields that are gone.
    pub removed: FieldSet,
    /// Fields with another value.
    pub modified: FieldSet,
    /// Fields that are new.
    pub added: FieldSet,
}

impl Comparison {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// Leaves out fields and everything below them.
    #[must_use]
    pub fn without(self, fields: &FieldSet) -> Self {
        if fields.is_empty() || self.is_same() {
            return self;
        }
        let Self { removed, modified, added } = self;
        Self { removed: removed.without(fields), modified: modified.without(fields), added: added.without(fields) }
    }

    /// Fields that have a value now that they did not have.
    #[must_use]
    pub fn changed(&self) -> FieldSet {
        self.added.clone().union(&self.modified)
    }
}

/// Compares two states.
#[must_use]
pub fn compare(node: Node<'_>, old: &Value, new: &Value) -> Comparison {
    let mut walk = Walk { path: Vec::new(), found: Comparison::default() };
    walk.visit(node, Some(old), Some(new));
    walk.found
}

struct Walk<'v> {
    path: Vec<Step<'v>>,
    found: Comparison,
}

/// Whether a value is an object, or may stand for an empty one.
fn is_object_or_none(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.is_object() || value.is_null())
}

fn is_list_or_none(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.is_array() || value.is_null())
}

fn members(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object).filter(|members| !members.is_empty())
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

impl<'v> Walk<'v> {
    fn visit(&mut self, node: Node<'_>, old: Option<&'v Value>, new: Option<&'v Value>) {
        let list = node.granular_list().filter(|_| is_list_or_none(old) && is_list_or_none(new));
        if node.is_granular_object() && is_object_or_none(old) && is_object_or_none(new) {
            let (left, right) = (members(old), members(new));
            if left.is_some() || right.is_some() {
                self.visit_members(node, left, right);
                return self.mark_container(old, new);
            }
        } else if let Some(list) = list {
            if old == new {
                return;
            }
            let (left, right) = (items(old), items(new));
            if !left.is_empty() || !right.is_empty() {
                self.visit_items(list, left, right);
                return self.mark_container(old, new);
            }
        }
        self.visit_leaf(old, new);
    }

    fn mark_container(&mut self, old: Option<&Value>, new: Option<&Value>) {
        if old.is_none() {
            self.found.added.insert(&self.path);
        } else if new.is_none() {
            self.found.removed.insert(&self.path);
        }
    }

    fn visit_leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, _) => self.found.added.insert(&self.path),
            (_, None) => self.found.removed.insert(&self.path),
            (Some(old), Some(new)) if old != new => self.found.modified.insert(&self.path),
            _ => {}
        }
    }

    fn visit_members(&mut self, node: Node<'_>, old: Option<&'v Map<String, Value>>, new: Option<&'v Map<String, Value>>) {
        let names = old.into_iter().flatten().map(|(name, _)| name);
        let fresh =
            new.into_iter().flatten().map(|(name, _)| name).filter(|name| !old.is_some_and(|old| old.contains_key(*name)));
        for name in names.chain(fresh) {
            self.path.push(Step::Field(name));
            let member = node.member(name).unwrap_or(Node::ANY);
            self.visit(member, old.and_then(|old| old.get(name)), new.and_then(|new| new.get(name)));
            self.path.pop();
        }
    }

    fn visit_items(&mut self, list: &dyn ListShape, old: &'v [Value], new: &'v [Value]) {
        let mut pairs: BTreeMap<String, (Vec<&'v Value>, Vec<&'v Value>)> = BTreeMap::new();
        for (is_new, item) in old.iter().map(|item| (false, item)).chain(new.iter().map(|item| (true, item))) {
            if let Ok(Step::Item(element)) = item_step(list, item) {
                let pair = pairs.entry(element).or_default();
                if is_new { pair.1.push(item) } else { pair.0.push(item) }
            }
        }
        for (element, (old, new)) in pairs {
            self.path.push(Step::Item(element));
            match (old.as_slice(), new.as_slice()) {
                ([] | [_], [] | [_]) => self.visit(list.item(), old.first().copied(), new.first().copied()),
                // An item that is there twice is one value.
                ([_, _, ..], [_, _, ..]) if old != new => self.found.modified.insert(&self.path),
                ([_, _, ..], [_, _, ..]) => {}
                ([_, _, ..], _) => {
                    if let Some(item) = new.first() {
                        self.visit(list.item(), None, Some(item));
                    }
                    self.found.removed.insert(&self.path);
                }
                (_, _) => {
                    if let Some(item) = old.first() {
                        self.visit(list.item(), Some(item), None);
                    }
                    self.found.added.insert(&self.path);
                }
            }
            self.path.pop();
        }
    }
}

/// The live object with what a configuration sets.
#[must_use]
pub fn merge(node: Node<'_>, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let (Some(old), Some(new)) = (live, config) else { return config.or(live).cloned() };
    if node.is_granular_object() && is_object_or_none(live) && is_object_or_none(config) {
        let (left, right) = (members(live), members(config));
        if left.is_some() || right.is_some() {
            return Some(merge_members(node, left, right));
        }
    } else if let Some(list) = node.granular_list()
        && is_list_or_none(live)
        && is_list_or_none(config)
        && (!items(live).is_empty() || !items(config).is_empty())
    {
        return Some(Value::Array(merge_items(list, items(live), items(config))));
    }
    debug_assert!(!old.is_null() || !new.is_array(), "stored lists are not null");
    Some(new.clone())
}

fn merge_members(node: Node<'_>, live: Option<&Map<String, Value>>, config: Option<&Map<String, Value>>) -> Value {
    let mut merged = live.cloned().unwrap_or_default();
    for (name, value) in config.into_iter().flatten() {
        let member = node.member(name).unwrap_or(Node::ANY);
        if let Some(value) = merge(member, live.and_then(|live| live.get(name)), Some(value)) {
            merged.insert(name.clone(), value);
        }
    }
    Value::Object(merged)
}

/// The configuration's items in its order; items that only the live list has stay before the shared item that they
/// stood before.
fn merge_items(list: &dyn ListShape, live: &[Value], config: &[Value]) -> Vec<Value> {
    let named = |items: &[Value]| -> Vec<Option<Step<'static>>> { items.iter().map(|item| item_step(list, item).ok()).collect() };
    let (live_steps, config_steps) = (named(live), named(config));
    let in_config = |step: &Option<Step<'_>>| step.is_some() && config_steps.contains(step);
    let live_item = |step: &Option<Step<'_>>| {
        let mut found = live_steps.iter().zip(live).filter(|(other, _)| step.is_some() && *other == step);
        // Of an item that is there twice nothing is kept.
        found.next().filter(|_| found.next().is_none()).map(|(_, item)| item)
    };
    let mut shared = config_steps.iter().filter(|step| step.is_some() && live_steps.contains(step)).peekable();
    let mut merged = Vec::with_capacity(live.len().max(config.len()));
    let mut rest = live_steps.iter().zip(live).peekable();
    for (step, item) in config_steps.iter().zip(config) {
        while let Some((found, _)) = rest.peek() {
            if in_config(found) && shared.peek().is_some_and(|next| next == found) {
                break;
            }
            if let Some((found, own)) = rest.next()
                && !in_config(found)
            {
                merged.push(own.clone());
            }
        }
        if rest.peek().is_some_and(|(found, _)| *found == step) {
            rest.next();
        }
        if shared.peek().is_some_and(|next| *next == step) {
            shared.next();
        }
        merged.extend(merge(list.item(), live_item(step), Some(item)));
    }
    merged.extend(rest.filter(|(step, _)| !in_config(step)).map(|(_, item)| item.clone()));
    merged
}
