//! Fields that are owned in another version than the one that is written.
//!
//! Who has written in another version owns that version's fields. Whether a write changes them is seen by looking at the
//! object before and after it in that version; the sets themselves are never translated.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Owned, compare::Comparison, entries::Entry, fields::FieldSet, walk};

/// How objects look in their kind's versions.
pub trait Versions {
    /// Calls with a version's schema; not for one that is none any more.
    fn with_schema(&self, api_version: &str, call: &mut dyn FnMut(&Owned<'_>));

    /// An object, whose own `apiVersion` says in which version it is, in another; `None` for one that is none any more.
    fn convert(&self, object: &Value, api_version: &str) -> Option<Value>;
}

/// A kind whose versions do not differ but by name.
pub struct OneVersion<'o>(pub &'o Owned<'o>);

impl Versions for OneVersion<'_> {
    fn with_schema(&self, _: &str, call: &mut dyn FnMut(&Owned<'_>)) {
        call(self.0);
    }

    fn convert(&self, object: &Value, _: &str) -> Option<Value> {
        Some(object.clone())
    }
}

/// What `call` makes of a version's schema; `None` for a version that is none any more.
pub(super) fn in_version<T>(versions: &dyn Versions, api_version: &str, mut call: impl FnMut(&Owned<'_>) -> T) -> Option<T> {
    let mut result = None;
    versions.with_schema(api_version, &mut |owned| result = Some(call(owned)));
    result
}

/// How one write looks in each version in which fields are owned: compared when it is first asked for.
pub(super) struct Comparisons<'c> {
    versions: &'c dyn Versions,
    old: &'c Value,
    new: &'c Value,
    ignored: &'c FieldSet,
    known: BTreeMap<String, Option<Comparison>>,
}

impl<'c> Comparisons<'c> {
    /// Begins with the comparison in the version that is written.
    pub fn new(
        versions: &'c dyn Versions,
        (old, new): (&'c Value, &'c Value),
        ignored: &'c FieldSet,
        (api_version, comparison): (&str, Comparison),
    ) -> Self {
        Self { versions, old, new, ignored, known: BTreeMap::from([(api_version.to_owned(), Some(comparison))]) }
    }

    /// The comparison in a version; `None` for one that is none any more.
    pub fn of(&mut self, api_version: &str) -> Option<&Comparison> {
        if !self.known.contains_key(api_version) {
            let comparison = self.compare(api_version);
            self.known.insert(api_version.to_owned(), comparison);
        }
        self.known.get(api_version).and_then(Option::as_ref)
    }

    fn compare(&self, api_version: &str) -> Option<Comparison> {
        let (old, new) = (self.versions.convert(self.old, api_version)?, self.versions.convert(self.new, api_version)?);
        in_version(self.versions, api_version, |owned| owned.compare(&old, &new).without(self.ignored))
    }
}

/// Removes from a merged object what its manager applied last time, does not apply now, and nobody else owns, where that
/// was or is in other versions than `api_version`, in which the object is and is wanted. `None` where what was applied
/// last time is in no version that is known.
pub(super) fn prune(
    versions: &dyn Versions,
    merged: &Value,
    entries: &[Entry],
    last: &Entry,
    api_version: &str,
) -> Option<Value> {
    let version = last.api_version.as_str();
    let mut pruned = in_version(versions, version, |owned| {
        let merged = versions.convert(merged, version)?;
        Some(walk::remove(owned.node, merged, &walk::with_named(owned.node, &last.fields)))
    })??;
    let mut claimed: BTreeMap<&str, FieldSet> = BTreeMap::new();
    for entry in entries {
        let set = claimed.entry(&entry.api_version).or_default();
        *set = std::mem::take(set).union(&entry.fields);
    }
    for (version, claimed) in &claimed {
        let added = in_version(versions, version, |owned| {
            let (merged, pruned) = (versions.convert(merged, version)?, versions.convert(&pruned, version)?);
            let all = |value: &Value| walk::with_named(owned.node, &walk::collect(owned.node, value));
            let kept = all(&pruned).union(&walk::with_named(owned.node, claimed));
            let gone = all(&merged).difference(&kept);
            Some(walk::remove(owned.node, merged, &gone))
        });
        if let Some(Some(added)) = added {
            pruned = added;
        }
    }
    // What hangs below a removed item and was never this manager's stays, and its parents with it.
    let pruned = in_version(versions, version, |owned| {
        let (merged, pruned) = (versions.convert(merged, version)?, versions.convert(&pruned, version)?);
        let all = |value: &Value| walk::with_named(owned.node, &walk::collect(owned.node, value));
        let gone = all(&merged).difference(&all(&pruned)).intersection(&walk::with_named(owned.node, &last.fields));
        Some(walk::remove(owned.node, merged, &gone))
    })??;
    versions.convert(&pruned, api_version)
}
