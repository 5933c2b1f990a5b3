//! Server-side apply: a configuration says which fields its manager wants, and the object follows.

use serde_json::Value;

use super::{
    Owned, Versions, Writer,
    compare::merge,
    entries::{self, Entry, Operation},
    fields::FieldSet,
    last_applied,
    update::{nobodys, take},
    versions::{self, Comparisons},
    walk::{check, collect, remove, with_named},
};
use crate::{
    object::{meta, text},
    status::{Status, StatusCause, StatusDetails},
};

/// A request to apply.
#[derive(Clone, Copy)]
pub struct Application<'a> {
    /// The configuration.
    pub config: &'a Value,
    /// Who applies it.
    pub writer: Writer<'a>,
    /// Kind that the path is about.
    pub kind: &'a str,
    /// Whether fields of others are taken.
    pub force: bool,
    /// Fields that this path does not set, with all below them.
    pub ignored: &'a FieldSet,
}

/// Manager whose applies keep kubectl's annotation true and may take over from it.
const KUBECTL: &str = "kubectl";
/// Manager of what was there before the first apply to an object without owners.
const BEFORE: &str = "before-first-apply";

/// Applies a configuration to the live object; `None` for one that does not exist.
///
/// # Errors
/// 400 for another kind than the path's, 409 for fields of others, 500 for what is not of the type, as Kubernetes
/// answers it.
pub fn apply(
    owned: &Owned<'_>,
    versions: &dyn Versions,
    live: Option<&Value>,
    application: &Application<'_>,
) -> Result<Value, Status> {
    check_configuration(owned, application)?;
    let mut entries = live.map(entries::of_stored).unwrap_or_default();
    let mut base = live.cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    meta::remove(&mut base, "managedFields");
    if let (true, Some(live)) = (entries.is_empty(), live) {
        let mut live = live.clone();
        meta::remove(&mut live, "managedFields");
        let fields = owned.compare(&serde_json::json!({}), &live).changed().difference(&nobodys());
        let before = Writer { manager: BEFORE, ..application.writer };
        entries.push(before.entry(Operation::Update, fields));
    }
    let mut result = run(owned, versions, &base, entries.clone(), application, application.force);
    if let Err(conflicts) = &mut result
        && application.writer.manager == KUBECTL
        && let Some(own) = live.and_then(|live| last_applied::unchanged(owned, live, application.writer.api_version))
    {
        conflicts.retain_mut(|conflict| {
            conflict.fields = conflict.fields.difference(&own);
            !conflict.fields.is_empty()
        });
        if conflicts.is_empty() {
            result = run(owned, versions, &base, entries, application, true);
        }
    }
    let (mut object, entries) = result.map_err(|conflicts| refuse(&conflicts))?;
    if application.writer.manager == KUBECTL {
        last_applied::follow(&mut object, application.config);
    }
    entries::set(&mut object, entries);
    Ok(object)
}

fn check_configuration(owned: &Owned<'_>, application: &Application<'_>) -> Result<(), Status> {
    let config = application.config;
    let (version, kind) = (text(config, "/apiVersion"), text(config, "/kind"));
    let described = format!("{version}, Kind={kind}");
    let described = if version.contains('/') { described } else { format!("/{described}") };
    if (version, kind) != (application.writer.api_version, application.kind) {
        return Err(Status::bad_request(format!("invalid object type: {described}")));
    }
    if meta::get(config, "managedFields").is_some() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    check(owned.node, config).map_err(|errors| {
        let (namespace, name) = (meta::namespace(config), meta::name(config));
        Status::failure(500, "", format!("failed to create typed patch object ({namespace}/{name}; {described}): {errors}"))
    })
}

type Conflicts = Vec<Entry>;

fn run(
    owned: &Owned<'_>,
    versions: &dyn Versions,
    live: &Value,
    mut entries: Vec<Entry>,
    application: &Application<'_>,
    force: bool,
) -> Result<(Value, Vec<Entry>), Conflicts> {
    let merged = merge(owned.node, Some(live), Some(application.config)).unwrap_or_default();
    let wanted = collect(owned.node, application.config).without(application.ignored);
    let mut own = application.writer.entry(Operation::Apply, wanted);
    let last = entries.iter().position(|entry| entry.is_of(&own)).map(|index| entries.remove(index));
    entries.push(own.clone());
    let object = match &last {
        Some(last) if is_of_one_version(last, &entries, &own.api_version) => prune(owned, merged, &entries, &last.fields),
        // What was applied in a version that is none any more cannot be found.
        Some(last) => versions::prune(versions, &merged, &entries, last, &own.api_version).unwrap_or(merged),
        None => merged,
    };
    let comparison = owned.compare(live, &object).without(application.ignored);
    let mut comparisons = Comparisons::new(versions, (live, &object), application.ignored, (&own.api_version, comparison));
    let mut conflicts: Conflicts = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.is_of(&own)) {
        let Some(comparison) = comparisons.of(&entry.api_version) else { continue };
        let fields = entry.fields.intersection(&comparison.changed());
        if !fields.is_empty() {
            conflicts.push(Entry { fields, ..entry.clone() });
        }
    }
    if !force && !conflicts.is_empty() {
        return Err(conflicts);
    }
    take(&mut entries, &mut comparisons, Some(&own));
    if object == *live {
        own.time = last.and_then(|last| last.time);
    }
    own.fields = own.fields.difference(&nobodys());
    entries.retain(|entry| !entry.is_of(&own));
    entries.push(own);
    Ok((object, entries))
}

/// Whether everybody owns fields of the version that is written.
fn is_of_one_version(last: &Entry, entries: &[Entry], api_version: &str) -> bool {
    entries.iter().chain([last]).all(|entry| entry.api_version == api_version)
}

/// Removes what the manager applied last time, does not apply now, and nobody else owns.
fn prune(owned: &Owned<'_>, merged: Value, entries: &[Entry], last: &FieldSet) -> Value {
    let node = owned.node;
    let last = with_named(node, last);
    let all = with_named(node, &collect(node, &merged));
    let left = |value: &Value| with_named(node, &collect(node, value));
    let pruned = remove(node, merged.clone(), &last);
    let claimed = entries.iter().fold(FieldSet::default(), |claimed, entry| claimed.union(&entry.fields));
    let kept = left(&pruned).union(&with_named(node, &claimed));
    let pruned = remove(node, merged.clone(), &all.difference(&kept));
    // What hangs below a removed item and was never this manager's stays, and its parents with it.
    let gone = all.difference(&left(&pruned)).intersection(&last);
    remove(node, merged, &gone)
}

fn refuse(conflicts: &[Entry]) -> Status {
    let mut named: Vec<(String, Vec<String>)> =
        conflicts.iter().map(|conflict| (conflict.describe(), conflict.fields.paths())).collect();
    named.sort();
    let causes: Vec<StatusCause> = named
        .iter()
        .flat_map(|(manager, paths)| paths.iter().map(move |path| (manager, path)))
        .map(|(manager, path)| StatusCause {
            reason: "FieldManagerConflict".into(),
            message: format!("conflict with {manager}"),
            field: path.clone(),
        })
        .collect();
    let message = match causes.as_slice() {
        [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
        many => {
            let lines = named.iter().flat_map(|(manager, paths)| {
                std::iter::once(format!("conflicts with {manager}:")).chain(paths.iter().map(|path| format!("- {path}")))
            });
            format!("Apply failed with {} conflicts: {}", many.len(), lines.collect::<Vec<_>>().join("\n"))
        }
    };
    let mut status = Status::failure(409, "Conflict", message);
    status.details = Some(StatusDetails { causes, ..StatusDetails::default() });
    status
}
