//! `metadata.managedFields`: one entry for each manager, operation, version and subresource.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::fields::FieldSet;
use crate::object::meta;

/// How a manager sets fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By server-side apply.
    Apply,
    /// By anything else.
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One manager's fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Name of the manager.
    pub manager: String,
    /// How it set them.
    pub operation: Operation,
    /// Version in which the fields are named.
    pub api_version: String,
    /// Subresource through which it set them; empty for the object's own path.
    pub subresource: String,
    /// When it last did, as RFC 3339.
    pub time: Option<String>,
    /// The fields.
    pub fields: FieldSet,
}

/// Updates beyond so many managers are put together, the oldest first.
const UPDATERS_MAX: usize = 10;
/// Manager of those.
const ANCIENT: &str = "ancient-changes";

impl Entry {
    /// Whether both are the same manager's: who applies has one entry whatever the version.
    #[must_use]
    pub fn is_of(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// The manager as conflicts name it.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }

    fn decode(value: &Value, trusted: bool) -> Result<Self, String> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".to_owned()),
        };
        if text("apiVersion").is_empty() {
            return Err("apiVersion must not be empty".to_owned());
        }
        match text("fieldsType") {
            "FieldsV1" => {}
            "" => return Err("missing fieldsType in managed fields entry".to_owned()),
            other => return Err(format!("invalid fieldsType {other:?} in managed fields entry")),
        }
        let fields = value.get("fieldsV1").unwrap_or(&Value::Null);
        Ok(Self {
            manager: text("manager").to_owned(),
            operation,
            api_version: text("apiVersion").to_owned(),
            subresource: text("subresource").to_owned(),
            time: Some(text("time").to_owned()).filter(|time| !time.is_empty()),
            fields: if trusted { FieldSet::trusted(fields.clone()) } else { FieldSet::decode(fields)? },
        })
    }

    fn encode(self) -> Value {
        let mut entry = Map::new();
        entry.insert("apiVersion".into(), self.api_version.into());
        entry.insert("fieldsType".into(), "FieldsV1".into());
        entry.insert("fieldsV1".into(), self.fields.encode());
        entry.insert("manager".into(), self.manager.into());
        entry.insert("operation".into(), self.operation.as_str().into());
        if !self.subresource.is_empty() {
            entry.insert("subresource".into(), self.subresource.into());
        }
        if let Some(time) = self.time {
            entry.insert("time".into(), time.into());
        }
        Value::Object(entry)
    }

    fn order(&self, other: &Self) -> Ordering {
        let key = |entry: &'_ Self| (entry.operation, entry.time.clone());
        let rest = |entry: &'_ Self| (entry.manager.clone(), entry.api_version.clone(), entry.subresource.clone());
        key(self).cmp(&key(other)).then_with(|| rest(self).cmp(&rest(other)))
    }
}

/// Entries that an object carries; none where they cannot be read.
#[must_use]
pub fn of_stored(object: &Value) -> Vec<Entry> {
    let stored = meta::get(object, "managedFields").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    stored.iter().map(|entry| Entry::decode(entry, true)).collect::<Result<_, _>>().unwrap_or_default()
}

/// Entries with which an update begins: the client's, if it sends good ones; else those of the live object. An empty
/// list, or a list of one empty entry, takes all ownership away.
#[must_use]
pub fn of_update(live: &Value, new: &Value) -> Vec<Entry> {
    match meta::get(new, "managedFields").and_then(Value::as_array).map(Vec::as_slice) {
        Some([]) => Vec::new(),
        Some([only]) if *only == json!({}) => Vec::new(),
        Some(sent) => {
            let stored = meta::get(live, "managedFields").and_then(Value::as_array);
            let trusted = stored.is_some_and(|stored| stored.as_slice() == sent);
            sent.iter().map(|entry| Entry::decode(entry, trusted)).collect::<Result<_, _>>().unwrap_or_else(|_| of_stored(live))
        }
        None => of_stored(live),
    }
}

/// Writes entries into an object.
pub fn set(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    if entries.is_empty() {
        meta::remove(object, "managedFields");
        return;
    }
    entries.sort_by(Entry::order);
    meta::set(object, "managedFields", entries.into_iter().map(Entry::encode).collect::<Vec<_>>());
}

/// Puts the oldest updates of each version together until there are not too many.
#[must_use]
pub fn cap(mut entries: Vec<Entry>) -> Vec<Entry> {
    let is_update = |entry: &Entry| entry.operation == Operation::Update;
    let mut excess = entries.iter().filter(|entry| is_update(entry)).count().saturating_sub(UPDATERS_MAX);
    if excess == 0 {
        return entries;
    }
    entries.sort_by(Entry::order);
    let mut position = 0;
    while excess > 0 && position < entries.len() {
        let current = &entries[position];
        let (version, is_ancient) = (current.api_version.clone(), current.manager == ANCIENT);
        let same = |entry: &&(usize, &Entry)| is_update(entry.1) && entry.1.api_version == version;
        let others: Vec<(usize, &Entry)> = entries.iter().enumerate().filter(|(index, _)| *index != position).collect();
        let bucket = others.iter().filter(same).find(|(_, entry)| entry.manager == ANCIENT);
        let bucket = bucket.or_else(|| others.iter().filter(same).find(|(index, _)| *index < position)).map(|(index, _)| *index);
        let is_first = !others.iter().filter(same).any(|(index, _)| *index < position);
        match bucket.filter(|_| is_update(current) && !is_ancient && !is_first) {
            Some(bucket) => {
                let merged = entries[position].clone();
                let fields = std::mem::take(&mut entries[bucket].fields).union(&merged.fields);
                entries[bucket] = Entry { manager: ANCIENT.into(), subresource: String::new(), fields, ..merged };
                entries.remove(position);
                excess -= 1;
            }
            None => position += 1,
        }
    }
    entries
}
