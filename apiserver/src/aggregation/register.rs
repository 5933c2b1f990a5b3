//! An APIService for each group version that this server keeps itself: clients list them to see what there is.
//!
//! Those of built-in groups are seen to once, when a server starts; those of custom resources come and go with their
//! definitions. One that somebody else has made, or taken over, is left alone.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request};
use jiff::Timestamp;
use kontiki_api::{
    object::{condition, meta, set_condition},
    registry::{self, Resource, priority},
    resources::API_SERVICES,
    status::Status,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::check::Verdict;
use crate::{
    auth::UserInfo,
    service::Handle,
    storage::{Guard, Outcome, Storage},
};

/// Label that says who keeps an APIService.
const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Wait before what failed is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// Objects that are written at the same time.
const AT_ONCE: usize = 32;

/// How an APIService is kept: once at the start of a server, or always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    AtStart,
    Always,
}

impl Kept {
    fn label(self) -> &'static str {
        match self {
            Self::AtStart => "onstart",
            Self::Always => "true",
        }
    }
}

/// What is to be done about one APIService.
#[derive(Clone, Debug, PartialEq)]
enum Action {
    Create(Value),
    /// Its new specification.
    Respecify(String, Value),
    /// Name and UID.
    Delete(String, String),
    /// It is this server's own, so it is available.
    Affirm(String),
}

/// The APIServices that there should be, by name.
fn wanted(custom: &[&'static Resource]) -> BTreeMap<String, (Kept, Value)> {
    let service = |(group, version): (&str, &str), kept: Kept| {
        let name = format!("{version}.{group}");
        let (group_priority, version_priority) = priority::of_served(group, version);
        let mut spec = json!({
            "version": version,
            "groupPriorityMinimum": group_priority,
            "versionPriority": version_priority,
        });
        if !group.is_empty() {
            spec["group"] = json!(group);
        }
        let metadata = json!({ "name": name, "labels": { LABEL: kept.label() } });
        let object =
            json!({ "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": metadata, "spec": spec });
        (name, (kept, object))
    };
    let custom = registry::group_versions_of(custom).into_iter().map(|path| service(path, Kept::Always));
    // The group of APIServices has none itself.
    let own = registry::group_versions().into_iter().filter(|(group, _)| *group != API_SERVICES.group);
    custom.chain(own.map(|path| service(path, Kept::AtStart))).collect()
}

/// What is to be done. Pure; `at_start` is whether the server has just begun.
fn plan(found: &BTreeMap<String, Value>, wanted: &BTreeMap<String, (Kept, Value)>, at_start: bool) -> Vec<Action> {
    let mut actions = Vec::new();
    for (name, (kept, object)) in wanted {
        if !found.contains_key(name) && (at_start || *kept == Kept::Always) {
            actions.push(Action::Create(object.clone()));
        }
    }
    for (name, object) in found.iter().filter(|(_, object)| !meta::is_deleting(object)) {
        let is_local = !object["spec"]["service"].is_object();
        let is_affirmed = condition(object, "Available").is_some_and(|found| found["reason"] == Verdict::local().reason);
        let kept = match object["metadata"]["labels"][LABEL].as_str() {
            Some("true") => true,
            Some("onstart") => at_start,
            _ => false,
        };
        match wanted.get(name) {
            None if kept => actions.push(Action::Delete(name.clone(), meta::uid(object).to_owned())),
            Some((_, desired)) if kept && desired["spec"] != object["spec"] => {
                actions.push(Action::Respecify(name.clone(), desired["spec"].clone()));
            }
            _ if is_local && !is_affirmed => actions.push(Action::Affirm(name.clone())),
            _ => {}
        }
    }
    actions
}

/// Keeps them until `cancel`.
pub async fn run(handle: Handle, cancel: CancellationToken) {
    let storage = &handle.server().storage;
    let Some(cache) = registry::of(&API_SERVICES).and_then(|resource| storage.caches.of(resource)) else { return };
    let mut revision = storage.caches.revision();
    let (mut at_start, mut seen, mut unfinished) = (true, None, false);
    loop {
        // Before the first list nothing is known to be missing.
        let is_filled = *revision.borrow_and_update() > 0;
        let table = storage.caches.custom.table();
        let changes = (cache.version(), table.changes);
        if is_filled && (unfinished || seen != Some(changes)) {
            seen = Some(changes);
            let object =
                |object: &std::sync::Arc<crate::cache::CachedObject>| (object.header.name.clone(), object.encoded.value());
            let found: BTreeMap<_, _> = cache.snapshot().values().map(object).collect();
            let actions = plan(&found, &wanted(&table.resources), at_start);
            let acts = futures::stream::iter(actions).map(|action| act(&handle, action)).buffer_unordered(AT_ONCE);
            // Each is tried, whatever became of the others.
            unfinished = !acts.fold(true, async |all, done| all & done).await;
            at_start &= unfinished;
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = revision.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY.mul_f64(rand::random_range(0.5..1.5))), if unfinished => {}
        }
    }
}

/// Does it; whether that is done. Another server may have been faster.
async fn act(handle: &Handle, action: Action) -> bool {
    let storage = &handle.server().storage;
    let (method, name, body) = match action {
        Action::Create(object) => (Method::POST, String::new(), object.to_string()),
        Action::Delete(name, uid) => (Method::DELETE, name, json!({ "preconditions": { "uid": uid } }).to_string()),
        Action::Respecify(name, spec) => {
            let change = |object: &mut Value| object["spec"] = spec.clone();
            return settled(write(storage, &name, change).await);
        }
        Action::Affirm(name) => return settled(judge(storage, &name, &Verdict::local()).await),
    };
    let request = Request::builder().method(method).uri(API_SERVICES.path("", &name)).header("content-type", "application/json");
    let Ok(request) = request.body(Bytes::from(body)) else { return true };
    matches!(handle.call(UserInfo::apiserver(), request).await.status().as_u16(), 200 | 201 | 404 | 409)
}

/// Whether there is nothing left to do.
fn settled(written: Result<(), Status>) -> bool {
    written.err().is_none_or(|status| status.code == 404)
}

/// Writes what was found out about a server into its APIService; nothing where it says so already.
pub(super) async fn judge(storage: &Storage, name: &str, verdict: &Verdict) -> Result<(), Status> {
    let now = Timestamp::now();
    let status = if verdict.is_available { "True" } else { "False" };
    write(storage, name, |object| set_condition(object, "Available", status, verdict.reason, &verdict.message, now)).await
}

async fn write(storage: &Storage, name: &str, change: impl Fn(&mut Value)) -> Result<(), Status> {
    let Some(resource) = registry::of(&API_SERVICES) else { return Ok(()) };
    let changed = |mut object: Value| {
        change(&mut object);
        Ok(Outcome::Store(object, Guard::default()))
    };
    storage.change(resource, "", name, changed).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn affirmed(mut object: Value) -> Value {
        let local = Verdict::local();
        set_condition(&mut object, "Available", "True", local.reason, &local.message, Timestamp::UNIX_EPOCH);
        object
    }

    #[test]
    fn each_group_version_has_one_and_a_change_is_undone_where_it_is_kept() {
        let wanted = wanted(&[]);
        assert_eq!(wanted["v1."].1["spec"], json!({ "version": "v1", "groupPriorityMinimum": 18_000, "versionPriority": 1 }));
        assert_eq!(wanted["v2.autoscaling"].1["metadata"]["labels"][LABEL], "onstart");
        assert!(!wanted.contains_key("v1.apiregistration.k8s.io"));
        assert_eq!(plan(&BTreeMap::new(), &wanted, true).len(), wanted.len());
        assert!(plan(&BTreeMap::new(), &wanted, false).is_empty(), "what was deleted later stays so");
        let mut found: BTreeMap<_, _> =
            wanted.iter().map(|(name, (_, object))| (name.clone(), affirmed(object.clone()))).collect();
        assert!(plan(&found, &wanted, true).is_empty());
        found.get_mut("v1.apps").unwrap()["spec"]["versionPriority"] = json!(1);
        assert_eq!(plan(&found, &wanted, true), [Action::Respecify("v1.apps".into(), wanted["v1.apps"].1["spec"].clone())]);
        assert!(plan(&found, &wanted, false).is_empty());
    }

    #[test]
    fn what_goes_with_a_definition_goes_and_what_is_others_stays() {
        let of = |name: &str, label: &str, service: Value| {
            let metadata = json!({ "name": name, "uid": "u", "labels": { LABEL: label } });
            (name.to_owned(), json!({ "metadata": metadata, "spec": { "version": "v1", "service": service } }))
        };
        let remote = json!({ "namespace": "n", "name": "s" });
        let found = BTreeMap::from([
            of("v1.example.com", "true", Value::Null),
            of("v1.others.example", "", Value::Null),
            of("v1.remote.example", "", remote),
        ]);
        let wanted = BTreeMap::new();
        let actions = [Action::Delete("v1.example.com".into(), "u".into()), Action::Affirm("v1.others.example".into())];
        assert_eq!(plan(&found, &wanted, false), actions);
    }
}
