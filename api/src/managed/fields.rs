//! Sets of fields, in the form in which `fieldsV1` holds them.
//!
//! A set is a tree of path elements: `f:NAME` a field, `k:{..}` a list item by its keys, `v:..` an item of a set.
//! An element that is empty is itself in the set; one that has elements below it is in the set only if it also has
//! `.`. Sets are worked on as they are stored, so a write decodes only what it touches.
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>

use serde_json::{Map, Value};

const SELF: &str = ".";

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSet(Map<String, Value>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A field or a member of a map.
    Field(&'a str),
    /// A list item, by its element as a set spells it: `k:{"name":"x"}` or `v:"x"`.
    Item(String),
}

impl Step<'_> {
    fn element(&self) -> String {
        match self {
            Step::Field(name) => format!("f:{name}"),
            Step::Item(element) => element.clone(),
        }
    }
}

fn is_member(node: &Map<String, Value>) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

fn node(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object()
}

fn below(node: &Map<String, Value>) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
    node.iter().filter(|(element, _)| *element != SELF).filter_map(|(element, value)| Some((element, value.as_object()?)))
}

/// A node from its parts; `None` where nothing is left.
fn assemble(member: bool, mut children: Map<String, Value>) -> Option<Value> {
    if children.is_empty() {
        return member.then_some(Value::Object(children));
    }
    if member {
        children.insert(SELF.to_owned(), Value::Object(Map::new()));
    }
    Some(Value::Object(children))
}

impl FieldSet {
    /// Reads the content of `fieldsV1`; elements of kinds that are not known are left out.
    ///
    /// # Errors
    /// Something that is no set.
    pub fn decode(value: &Value) -> Result<Self, String> {
        match value {
            Value::Null => Ok(Self::default()),
            Value::Object(members) => Ok(Self(decode(members, 0)?)),
            _ => Err("fieldsV1 is not an object".to_owned()),
        }
    }

    /// A set as stored by this server: it was decoded once and is not looked into again.
    pub(super) fn trusted(value: Value) -> Self {
        if let Value::Object(members) = value { Self(members) } else { Self::default() }
    }

    /// The content of `fieldsV1`.
    #[must_use]
    pub fn encode(self) -> Value {
        Value::Object(self.0)
    }

    /// A set of whole fields, each given by its path of names.
    #[must_use]
    pub fn of(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path.iter().map(|name| Step::Field(name)).collect::<Vec<_>>());
        }
        set
    }

    /// Whether it has no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a field.
    pub fn insert(&mut self, path: &[Step<'_>]) {
        insert(&mut self.0, path);
    }

    /// Whether a field is in it.
    #[must_use]
    pub fn has(&self, path: &[Step<'_>]) -> bool {
        let mut at = &self.0;
        for step in path {
            match at.get(&step.element()).and_then(node) {
                Some(next) => at = next,
                None => return false,
            }
        }
        !path.is_empty() && is_member(at)
    }

    /// What lies below an element, and whether the element itself is in the set.
    #[must_use]
    pub(super) fn descend(&self, step: &Step<'_>) -> (bool, Self) {
        match self.0.get(&step.element()).and_then(node) {
            None => (false, Self::default()),
            Some(found) => {
                let children = below(found).map(|(element, node)| (element.clone(), Value::Object(node.clone())));
                (is_member(found), Self(children.collect()))
            }
        }
    }

    /// Fields of either.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        unite(&mut self.0, &other.0);
        self
    }

    /// Fields that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(subtract(&self.0, &other.0, false))
    }

    /// Fields that neither are in the other nor lie below one that is.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self(subtract(&self.0, &other.0, true))
    }

    /// Fields of both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(intersect(&self.0, &other.0))
    }

    /// Whether they have a field in common.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        meets(&self.0, &other.0)
    }

    /// The set with those named fields whose parts it has: `is_named` tells a type's fields from a map's keys.
    pub(super) fn with_named(&self, is_named: &mut dyn FnMut(&[String]) -> bool) -> Self {
        Self(name_all(&self.0, &mut Vec::new(), is_named))
    }

    /// Every field as its path, in the order of messages: first those of a level, then what lies below.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.0, "", &mut found);
        found
    }
}

fn decode(members: &Map<String, Value>, depth: usize) -> Result<Map<String, Value>, String> {
    const DEPTH_MAX: usize = 200;
    if depth > DEPTH_MAX {
        return Err("fieldsV1 is nested too deeply".to_owned());
    }
    let mut set = Map::new();
    for (key, value) in members {
        if key == SELF {
            set.insert(key.clone(), Value::Object(Map::new()));
            continue;
        }
        let Some(element) = canonical(key)? else { continue };
        let below = value.as_object().ok_or_else(|| format!("the value of {key:?} is not an object"))?;
        let below = decode(below, depth + 1)?;
        match set.get_mut(&element).and_then(Value::as_object_mut) {
            Some(known) => {
                let mut wrapped = Map::new();
                wrapped.insert(element.clone(), Value::Object(std::mem::take(known)));
                let mut other = Map::new();
                other.insert(element.clone(), Value::Object(below));
                unite(&mut wrapped, &other);
                set.extend(wrapped);
            }
            None => {
                set.insert(element, Value::Object(below));
            }
        }
    }
    Ok(set)
}

/// The one spelling of an element; `None` for a kind of element that is not known.
fn canonical(key: &str) -> Result<Option<String>, String> {
    let Some((kind, content)) = key.split_once(':') else { return Err(format!("missing colon: {key}")) };
    let wrong = |error: serde_json::Error| format!("parsing key {key:?} as path element: {error}");
    Ok(match kind {
        "f" => Some(key.to_owned()),
        "i" => Some(format!("i:{}", content.parse::<i64>().map_err(|error| format!("{key:?}: {error}"))?)),
        "k" => Some(format!("k:{}", Value::Object(serde_json::from_str(content).map_err(wrong)?))),
        "v" => Some(format!("v:{}", serde_json::from_str::<Value>(content).map_err(wrong)?)),
        _ => None,
    })
}

fn insert(set: &mut Map<String, Value>, path: &[Step<'_>]) {
    let Some((first, rest)) = path.split_first() else { return };
    let entry = set.entry(first.element());
    let fresh = matches!(entry, serde_json::map::Entry::Vacant(_));
    let Value::Object(found) = entry.or_insert_with(|| Value::Object(Map::new())) else { return };
    let leaf = found.is_empty();
    if rest.is_empty() {
        if !leaf {
            found.insert(SELF.to_owned(), Value::Object(Map::new()));
        }
        return;
    }
    if leaf && !fresh {
        found.insert(SELF.to_owned(), Value::Object(Map::new()));
    }
    insert(found, rest);
}

fn unite(set: &mut Map<String, Value>, other: &Map<String, Value>) {
    for (element, theirs) in below(other) {
        match set.get_mut(element) {
            Some(Value::Object(ours)) => {
                let member = is_member(ours) || is_member(theirs);
                unite(ours, theirs);
                if member && !ours.is_empty() {
                    ours.insert(SELF.to_owned(), Value::Object(Map::new()));
                }
            }
            _ => {
                set.insert(element.clone(), Value::Object(theirs.clone()));
            }
        }
    }
}

fn subtract(set: &Map<String, Value>, other: &Map<String, Value>, recursive: bool) -> Map<String, Value> {
    let mut left = Map::new();
    for (element, ours) in below(set) {
        let kept = match other.get(element).and_then(node) {
            None => Some(Value::Object(ours.clone())),
            Some(theirs) if recursive && is_member(theirs) => None,
            Some(theirs) => assemble(is_member(ours) && !is_member(theirs), subtract(ours, theirs, recursive)),
        };
        if let Some(kept) = kept {
            left.insert(element.clone(), kept);
        }
    }
    left
}

fn intersect(set: &Map<String, Value>, other: &Map<String, Value>) -> Map<String, Value> {
    let mut common = Map::new();
    for (element, ours) in below(set) {
        if let Some(theirs) = other.get(element).and_then(node)
            && let Some(kept) = assemble(is_member(ours) && is_member(theirs), intersect(ours, theirs))
        {
            common.insert(element.clone(), kept);
        }
    }
    common
}

fn meets(set: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    below(set).any(|(element, ours)| {
        other.get(element).and_then(node).is_some_and(|theirs| is_member(ours) && is_member(theirs) || meets(ours, theirs))
    })
}

fn name_all(set: &Map<String, Value>, path: &mut Vec<String>, is_named: &mut dyn FnMut(&[String]) -> bool) -> Map<String, Value> {
    let mut all = Map::new();
    for (element, ours) in below(set) {
        path.push(element.clone());
        let member = is_member(ours) || element.starts_with("f:") && is_named(path);
        if let Some(kept) = assemble(member, name_all(ours, path, is_named)) {
            all.insert(element.clone(), kept);
        }
        path.pop();
    }
    all
}

fn list(set: &Map<String, Value>, prefix: &str, found: &mut Vec<String>) {
    for (element, _) in below(set).filter(|(_, node)| is_member(node)) {
        found.push(format!("{prefix}{}", print(element)));
    }
    for (element, node) in below(set) {
        list(node, &format!("{prefix}{}", print(element)), found);
    }
}

/// An element as messages print it: `.name`, `[name="x"]`, `[="x"]`.
pub(super) fn print(element: &str) -> String {
    let (kind, content) = element.split_once(':').unwrap_or(("f", element));
    match kind {
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(content).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        "v" => format!("[={content}]"),
        "i" => format!("[{content}]"),
        _ => format!(".{content}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn set(value: Value) -> FieldSet {
        FieldSet::decode(&value).unwrap()
    }

    #[test]
    fn an_element_is_in_the_set_if_empty_or_marked() {
        let mut fields = FieldSet::of(&[&["spec", "replicas"]]);
        assert!(!fields.has(&[Step::Field("spec")]));
        fields.insert(&[Step::Field("spec")]);
        assert_eq!(fields, set(json!({"f:spec": {".": {}, "f:replicas": {}}})));
        let mut fields = FieldSet::of(&[&["spec"]]);
        fields.insert(&[Step::Field("spec"), Step::Item("k:{\"a\":1}".into())]);
        assert_eq!(fields.clone().encode(), json!({"f:spec": {".": {}, "k:{\"a\":1}": {}}}));
        assert_eq!(fields.paths(), [".spec", ".spec[a=1]"]);
    }

    #[test]
    fn algebra_keeps_the_wire_form() {
        let a = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
        assert_eq!(a.difference(&set(json!({"f:a": {}}))), set(json!({"f:a": {"f:b": {}}, "f:c": {}})));
        assert_eq!(a.without(&set(json!({"f:a": {}}))), set(json!({"f:c": {}})));
        assert_eq!(a.difference(&set(json!({"f:a": {"f:b": {}}}))), set(json!({"f:a": {}, "f:c": {}})));
        assert_eq!(a.intersection(&set(json!({"f:a": {"f:b": {}}}))), set(json!({"f:a": {"f:b": {}}})));
        assert_eq!(set(json!({"f:a": {}})).union(&set(json!({"f:a": {"f:b": {}}}))), set(json!({"f:a": {".": {}, "f:b": {}}})));
    }

    #[test]
    fn foreign_spellings_are_the_same_element() {
        let foreign = set(json!({"k:{\"b\": 1, \"a\":\"\\u003c\"}": {}, "x:unknown": {}}));
        assert_eq!(foreign.encode(), json!({"k:{\"a\":\"<\",\"b\":1}": {}}));
        for wrong in [json!({"f": {}}), json!({"k:{": {}}), json!({"f:a": 1}), json!([])] {
            assert!(FieldSet::decode(&wrong).is_err(), "{wrong}");
        }
    }

    fn any_set() -> impl Strategy<Value = FieldSet> {
        let path = proptest::collection::vec(0..3_u8, 1..4);
        proptest::collection::vec(path, 0..6).prop_map(|paths| {
            let mut set = FieldSet::default();
            for path in paths {
                let names: Vec<String> = path.iter().map(|number| format!("v:{number}")).collect();
                set.insert(&names.into_iter().map(Step::Item).collect::<Vec<_>>());
            }
            set
        })
    }

    proptest! {
        #[test]
        fn sets_are_sets(a in any_set(), b in any_set()) {
            let paths = |set: &FieldSet| set.paths().into_iter().collect::<std::collections::BTreeSet<_>>();
            let (left, right) = (paths(&a), paths(&b));
            prop_assert_eq!(paths(&a.clone().union(&b)), &left | &right);
            prop_assert_eq!(paths(&a.difference(&b)), &left - &right);
            prop_assert_eq!(paths(&a.intersection(&b)), &left & &right);
            prop_assert_eq!(a.intersects(&b), !(&left & &right).is_empty());
            prop_assert_eq!(FieldSet::decode(&a.clone().encode()).unwrap(), a);
        }

        #[test]
        fn no_text_does_harm(text in "\\PC{0,40}") {
            let _ = FieldSet::decode(&json!({ text: {} }));
        }
    }
}
