//! A write that is no apply: its manager takes every field that it changed.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Owned, Versions,
    compare::Comparison,
    entries::{self, Entry, Operation},
    fields::FieldSet,
    versions::Comparisons,
};
use crate::object::meta;

/// Who writes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'w> {
    /// Name of the manager.
    pub manager: &'w str,
    /// Group and version in which it writes.
    pub api_version: &'w str,
    /// Subresource through which it writes; empty for the object's own path.
    pub subresource: &'w str,
    /// When.
    pub now: Timestamp,
}

impl Writer<'_> {
    pub(super) fn entry(&self, operation: Operation, fields: FieldSet) -> Entry {
        Entry {
            manager: if self.manager.is_empty() { "unknown".to_owned() } else { self.manager.to_owned() },
            operation,
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.to_owned(),
            time: Some(meta::time(self.now)),
            fields,
        }
    }
}

/// Fields that nobody owns: they are the server's, or say which object it is.
pub(super) fn nobodys() -> FieldSet {
    FieldSet::of(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
}

/// Sets `managedFields` of an object that is created. Fields below `ignored` belong to nobody.
pub fn created(owned: &Owned<'_>, new: &mut Value, ignored: &FieldSet, writer: &Writer<'_>) {
    let entries = entries::of_update(&Value::Null, new);
    meta::remove(new, "managedFields");
    let comparison = owned.compare(&json!({}), new).without(ignored);
    entries::set(new, entries::cap(give(entries, &comparison, writer)));
}

/// Sets `managedFields` of an object that is changed from `live` to `new`, both in the writer's version.
pub fn update(owned: &Owned<'_>, versions: &dyn Versions, live: &Value, new: &mut Value, writer: &Writer<'_>) {
    let by_subresource = !writer.subresource.is_empty();
    let mut entries = if by_subresource { entries::of_stored(live) } else { entries::of_update(live, new) };
    let comparison = owned.compare(live, new);
    if comparison.changed().difference(&nobodys()).is_empty() && comparison.removed.difference(&nobodys()).is_empty() {
        if by_subresource || meta::get(new, "managedFields").is_none() {
            meta::copy(new, live, "managedFields");
        } else {
            entries::set(new, entries);
        }
        return;
    }
    // An object whose owners were never written down begins to have some with its first apply.
    if entries.is_empty() {
        meta::remove(new, "managedFields");
        return;
    }
    let plain = FieldSet::default();
    let mut comparisons = Comparisons::new(versions, (live, new), &plain, (writer.api_version, comparison.clone()));
    take(&mut entries, &mut comparisons, None);
    entries::set(new, entries::cap(give(entries, &comparison, writer)));
}

/// Keeps the owners' times of a write that changed nothing else: it is no write.
pub fn keep_times(old: &Value, new: &mut Value) {
    let untimed = |object: &Value| {
        let mut entries = entries::of_stored(object);
        entries.iter_mut().for_each(|entry| entry.time = None);
        entries
    };
    if meta::get(old, "managedFields") == meta::get(new, "managedFields") || untimed(old) != untimed(new) {
        return;
    }
    let plain = |object: &Value| {
        let mut object = object.clone();
        meta::remove(&mut object, "managedFields");
        object
    };
    if plain(old) == plain(new) {
        meta::copy(new, old, "managedFields");
    }
}

/// Gives the writer what was changed.
fn give(mut entries: Vec<Entry>, comparison: &Comparison, writer: &Writer<'_>) -> Vec<Entry> {
    let own = comparison.changed().difference(&nobodys());
    if !own.is_empty() {
        let entry = writer.entry(Operation::Update, own);
        match entries.iter_mut().find(|other| other.is_of(&entry)) {
            Some(known) => {
                let fields = std::mem::take(&mut known.fields).union(&entry.fields);
                *known = Entry { fields, ..entry };
            }
            None => entries.push(entry),
        }
    }
    entries
}

/// Takes what was changed from all owners but one, each in the version in which it owns.
pub(super) fn take(entries: &mut Vec<Entry>, comparisons: &mut Comparisons<'_>, except: Option<&Entry>) {
    for entry in entries.iter_mut().filter(|entry| except.is_none_or(|except| !entry.is_of(except))) {
        let Some(comparison) = comparisons.of(&entry.api_version) else {
            // Nobody owns fields of a version that is none any more.
            entry.fields = FieldSet::default();
            continue;
        };
        for lost in [&comparison.changed(), &comparison.removed] {
            if entry.fields.intersects(lost) {
                entry.fields = entry.fields.difference(lost);
            }
        }
    }
    entries.retain(|entry| !entry.fields.is_empty());
}
