//! Lists that merge: items found by their key, directives, and the order of the result.
//!
//! Order: items that the patch names stand as the patch (or `$setElementOrder`) has them, the
//! others as the server has them, and the two are interleaved by the server's order.

use serde_json::{Map, Value};

use super::{
    DIRECTIVE, Member, Merged, Refusal, SET_ELEMENT_ORDER, Schema, go, merge_map, unknown_directive, without_directives,
};

/// Merges the lists whose order `$setElementOrder/NAME` gives, and takes both out of the patch.
pub(super) fn merge_ordered_lists(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    schema: Schema,
) -> Merged<()> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let malformed = || Refusal::Malformed("invalid patch format of setElementOrder list");
        let order = match patch.remove(&directive) {
            Some(Value::Array(order)) => order,
            other => return Err(not_a_list(&other.unwrap_or_default())),
        };
        let name = directive.strip_prefix(SET_ELEMENT_ORDER).and_then(|rest| rest.strip_prefix('/')).ok_or_else(malformed)?;
        let server = match original.get(name) {
            None => None,
            Some(Value::Array(items)) => Some(items.clone()),
            Some(other) => return Err(not_a_list(other)),
        };
        let changes = match patch.get(name) {
            None => None,
            Some(Value::Array(items)) => Some(items.clone()),
            Some(other) => return Err(not_a_list(other)),
        };
        let member = schema.member(name)?;
        let key = member.merge_key();
        check_order(changes.as_deref().unwrap_or_default(), &order, key)?;
        let merged = match (server.clone(), changes.clone()) {
            (None, None) => continue,
            (Some(server), None) => server,
            (None, Some(changes)) => changes.into_iter().filter_map(without_directives).collect(),
            (Some(server), Some(changes)) if member.merges_list() => merge_list(server, changes, member)?,
            (Some(_), Some(changes)) => changes,
        };
        let server = server.unwrap_or_default();
        same_type(&server, changes.as_deref().unwrap_or_default())?;
        let sorted = arrange(merged, &order, &server, key)?;
        original.insert(name.to_owned(), Value::Array(sorted));
        patch.remove(name);
    }
    Ok(())
}

/// Merges a patch's list into the server's.
pub(super) fn merge_list(server: Vec<Value>, patch: Vec<Value>, member: Member) -> Merged<Vec<Value>> {
    if server.is_empty() && patch.is_empty() {
        return Ok(server);
    }
    if !same_type(&server, &patch)? {
        let order = patch.clone();
        let merged = distinct(server.iter().cloned().chain(patch).collect());
        return arrange(merged, &order, &server, "");
    }
    let key = member.merge_key();
    if key.is_empty() {
        return Err(Refusal::Other("cannot merge lists without merge key for struct".to_owned()));
    }
    let (server, patch) = apply_directives(server, patch, key)?;
    let merged = merge_items(server.clone(), patch.clone(), key, member.items())?;
    arrange(merged, &patch, &server, key)
}

/// `$deleteFromPrimitiveList`: the server's items without these.
pub(super) fn delete_from(server: Vec<Value>, deleted: &[Value]) -> Merged<Vec<Value>> {
    if !server.is_empty() || !deleted.is_empty() {
        same_type(&server, deleted)?;
    }
    Ok(server.into_iter().filter(|item| !deleted.contains(item)).collect())
}

/// Takes the items with `$patch` out of the patch and does what they say to the server's list.
fn apply_directives(mut server: Vec<Value>, patch: Vec<Value>, key: &str) -> Merged<(Vec<Value>, Vec<Value>)> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let members = members(&item)?;
        match members.get(DIRECTIVE) {
            None => plain.push(item),
            Some(Value::String(directive)) if directive == "delete" => {
                let value = key_of(members, key)?.clone();
                server.retain(|item| item.get(key) != Some(&value));
            }
            Some(Value::String(directive)) if directive == "replace" => replace = true,
            Some(Value::String(directive)) if directive == "merge" => {
                return Err(Refusal::Other("merging lists cannot yet be specified in the patch".to_owned()));
            }
            Some(directive) => return Err(unknown_directive(directive, members)),
        }
    }
    Ok(if replace { (plain, Vec::new()) } else { (server, plain) })
}

/// Merges each item into the server's item with the same key, or appends it.
fn merge_items(mut server: Vec<Value>, patch: Vec<Value>, key: &str, schema: Schema) -> Merged<Vec<Value>> {
    for item in patch {
        let value = key_of(members(&item)?, key)?;
        let found = server.iter().position(|candidate| candidate.get(key) == Some(value));
        match (found, item) {
            (Some(index), Value::Object(item)) => {
                let Value::Object(original) = std::mem::take(&mut server[index]) else {
                    return Err(Refusal::Other(format!("value for key {index} is not a map")));
                };
                server[index] = Value::Object(merge_map(original, item, schema)?);
            }
            (_, item) => server.push(item),
        }
    }
    Ok(server)
}

/// Orders merged items: those named by `order` as it has them, the others as the server has them.
fn arrange(merged: Vec<Value>, order: &[Value], server: &[Value], key: &str) -> Merged<Vec<Value>> {
    if !key.is_empty() {
        for item in merged.iter().chain(order).chain(server) {
            key_of(members(item)?, key)?;
        }
    }
    let place = |list: &[Value], item: &Value| list.iter().position(|other| identity(other, key) == identity(item, key));
    let (mut named, mut others): (Vec<Value>, Vec<Value>) = merged.into_iter().partition(|item| place(order, item).is_some());
    named.sort_by_key(|item| place(order, item));
    others.sort_by_key(|item| place(server, item));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return Ok(result),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(named)) => match (place(server, other), place(server, named)) {
                (Some(other), Some(named)) => other < named,
                _ => false,
            },
        };
        result.extend(if other_first { others.next() } else { named.next() });
    }
}

/// What makes two items the same.
fn identity<'a>(item: &'a Value, key: &str) -> Option<&'a Value> {
    if key.is_empty() { Some(item) } else { item.get(key) }
}

/// Whether the patch names its items in the order that `$setElementOrder` gives, and no others.
fn check_order(patch: &[Value], order: &[Value], key: &str) -> Merged<()> {
    if order.is_empty() || patch.is_empty() {
        return Ok(());
    }
    let mut remaining = order.iter();
    for item in patch {
        if !key.is_empty() && members(item)?.contains_key(DIRECTIVE) {
            continue;
        }
        if !key.is_empty() {
            key_of(members(item)?, key)?;
        }
        let mut found = false;
        for candidate in remaining.by_ref() {
            if !key.is_empty() {
                key_of(members(candidate)?, key)?;
            }
            if identity(candidate, key) == identity(item, key) {
                found = true;
                break;
            }
        }
        if !found {
            let list = |items: &[Value]| go::print(&Value::Array(items.to_vec()));
            return Err(Refusal::Other(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                list(patch),
                list(order)
            )));
        }
    }
    Ok(())
}

/// Refuses lists of mixed types or of lists; says whether the items are maps.
fn same_type(server: &[Value], patch: &[Value]) -> Merged<bool> {
    let mut items = server.iter().chain(patch);
    let Some(first) = items.next() else {
        return Err(Refusal::Other("no elements in any of the given slices".to_owned()));
    };
    if first.is_array() {
        return Err(Refusal::Unsupported);
    }
    if first.is_null() || items.any(|item| std::mem::discriminant(item) != std::mem::discriminant(first)) {
        let lists = Value::Array(vec![server.to_vec().into(), patch.to_vec().into()]);
        return Err(Refusal::Other(format!("list element types are not identical: {}", go::print(&lists))));
    }
    Ok(first.is_object())
}

fn distinct(items: Vec<Value>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::with_capacity(items.len());
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

fn members(item: &Value) -> Merged<&Map<String, Value>> {
    item.as_object()
        .ok_or_else(|| Refusal::Other(format!("expected a map[string]interface {{}}, but received a {}", go_kind(item))))
}

fn key_of<'a>(members: &'a Map<String, Value>, key: &str) -> Merged<&'a Value> {
    members.get(key).ok_or_else(|| {
        let map = go::print(&Value::Object(members.clone()));
        Refusal::Other(format!("map: {map} does not contain declared merge key: {key}"))
    })
}

fn not_a_list(value: &Value) -> Refusal {
    Refusal::Other(format!("expected a []interface {{}}, but received a {}", go_kind(value)))
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
