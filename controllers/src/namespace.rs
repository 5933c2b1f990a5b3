//! Namespaces: one that is deleted is emptied, pods first, then let go.
//!
//! In: a namespace that is being deleted, and what is left in it. Out: collections deleted, conditions that say what
//! holds it up, and the finalizer taken off.
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/>

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use http::Method;
use jiff::Timestamp;
use kontiki_api::resources::{NAMESPACES, PODS, ResourceKey};
use kontiki_client::{Error, List, ListParams, reflector::ObjectKey};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    discovery::{self, Served},
    model::{Bare, Condition, Meta, conditions, objects},
    run::{self, Reconciled, gone},
    written::write_status,
};

/// How soon a namespace that still holds something is looked at again.
const AGAIN: Duration = Duration::from_millis(500);
/// The finalizer that is ours.
const FINALIZER: &str = "kubernetes";

/// A Namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// What all objects have.
    pub metadata: Meta,
    /// Who must agree before it goes.
    pub spec: NamespaceSpec,
    /// What is.
    pub status: Value,
}

/// Finalizers of a Namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NamespaceSpec {
    /// Their names.
    pub finalizers: Vec<String>,
}

objects!(Namespace);

/// What was found while a namespace was emptied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Why kinds could not be found out.
    pub discovery: Option<String>,
    /// Why content could not be deleted.
    pub failures: Vec<String>,
    /// Objects left, by `resource.group`.
    pub remaining: BTreeMap<String, usize>,
    /// Objects that finalizers hold, by finalizer.
    pub finalizers: BTreeMap<String, usize>,
}

/// Conditions in order, and what they say when all is well.
const CONDITIONS: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    ("NamespaceDeletionContentFailure", "ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

/// The conditions that follow from what was found.
pub fn report(before: &[Condition], progress: &Progress, now: Timestamp) -> Vec<Condition> {
    let joined = |counts: &BTreeMap<String, usize>, between: &str| {
        counts.iter().map(|(name, count)| format!("{name} {between} {count} resource instances")).collect::<Vec<_>>().join(", ")
    };
    let mut failures = progress.failures.clone();
    failures.sort();
    let bad = |kind: &str| match kind {
        "NamespaceDeletionDiscoveryFailure" => progress.discovery.clone().map(|words| ("DiscoveryFailed", words)),
        "NamespaceDeletionContentFailure" if !failures.is_empty() => {
            let words = format!("Failed to delete all resource types, {} remaining: {}", failures.len(), failures.join(", "));
            Some(("ContentDeletionFailed", words))
        }
        "NamespaceContentRemaining" if !progress.remaining.is_empty() => {
            Some(("SomeResourcesRemain", format!("Some resources are remaining: {}", joined(&progress.remaining, "has"))))
        }
        "NamespaceFinalizersRemaining" if !progress.finalizers.is_empty() => {
            let words = format!("Some content in the namespace has finalizers remaining: {}", joined(&progress.finalizers, "in"));
            Some(("SomeFinalizersRemain", words))
        }
        _ => None,
    };
    let mut after = before.to_vec();
    for (kind, reason, message) in CONDITIONS {
        match bad(kind) {
            Some((reason, words)) => Condition::set(&mut after, kind, "True", reason, words, now),
            None => Condition::set(&mut after, kind, "False", reason, message, now),
        }
    }
    after
}

/// Begins to empty namespaces that are deleted.
pub fn start(context: &Arc<Context>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    let queue = run::queue("namespace");
    let add = Arc::clone(&queue);
    context.namespaces.on_change(move |change| {
        let deleted = change.new.iter().filter(|namespace| namespace.metadata.is_deleted());
        deleted.for_each(|namespace| add.add(namespace.metadata.key()));
    });
    run::controller(context, &queue, "namespace", cancel, reconcile)
}

async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Reconciled {
    let name = &key.name;
    let Some(namespace) = context.namespaces.get("", name) else { return Ok(None) };
    if !namespace.metadata.is_deleted() || !namespace.spec.finalizers.iter().any(|one| one == FINALIZER) {
        return Ok(None);
    }
    let mut progress = Progress::default();
    let mut left = empty(&context, PODS, name, &mut progress).await;
    if left == 0 {
        let mut kinds = discovery::built_in();
        match discovery::added(context.client()).await {
            Ok(added) => {
                progress.discovery = added.problem();
                kinds.extend(added.served);
            }
            Err(error) => progress.discovery = Some(error.to_string()),
        }
        let deletable =
            |kind: &&Served| kind.key.namespaced && kind.key != PODS && kind.can("deletecollection") && kind.can("list");
        let works = kinds.iter().filter(deletable).map(async |kind| {
            let mut own = Progress::default();
            let left = empty(&context, kind.key, name, &mut own).await;
            (left, own)
        });
        for (count, own) in futures::future::join_all(works).await {
            left += count;
            progress.failures.extend(own.failures);
            progress.remaining.extend(own.remaining);
            own.finalizers.into_iter().for_each(|(name, count)| *progress.finalizers.entry(name).or_default() += count);
        }
    } else {
        // As long as there are pods nothing else is touched, nor told.
        progress = Progress { failures: progress.failures, ..Progress::default() };
    }
    let found = report(&conditions(&namespace.status), &progress, Timestamp::now());
    let written =
        write_status(&context, NAMESPACES, &namespace.metadata, &namespace.status, &json!({ "conditions": found })).await;
    if left > 0 || progress.discovery.is_some() || !progress.failures.is_empty() {
        return Ok(Some(AGAIN));
    }
    written?;
    let finalizers: Vec<_> = namespace.spec.finalizers.iter().filter(|one| *one != FINALIZER).collect();
    let body = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": name, "uid": namespace.metadata.uid },
        "spec": { "finalizers": finalizers },
    });
    let done = context.client().update_subresource::<Value>(NAMESPACES, "", name, "finalize", &body).await;
    gone(done.map(drop)).map(|()| None)
}

/// Deletes all objects of a kind; returns how many are left, and notes them.
async fn empty(context: &Context, kind: ResourceKey, namespace: &str, progress: &mut Progress) -> usize {
    let client = context.client();
    let left = async {
        let body = br#"{"propagationPolicy":"Background"}"#;
        client.request(Method::DELETE, kind.path(namespace, ""), "application/json", body.as_slice().into()).await?;
        let params = ListParams { limit: 500, ..ListParams::default() };
        client.list::<Bare>(kind, namespace, &params).await.map(|list: List<Bare>| list.items)
    };
    match left.await {
        Ok(left) => {
            if !left.is_empty() {
                progress.remaining.insert(format!("{}.{}", kind.plural, kind.group), left.len());
            }
            for finalizer in left.iter().flat_map(|object| &object.metadata.finalizers) {
                *progress.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
            left.len()
        }
        // A kind that is not there any more has nothing left.
        Err(error) if error.is_not_found() => 0,
        Err(Error::Status(status)) if status.code == 405 => 0,
        Err(error) => {
            progress.failures.push(error.to_string());
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_say_what_holds_a_namespace_up() {
        let mut progress = Progress::default();
        let at = Timestamp::UNIX_EPOCH;
        let well = report(&[], &progress, at);
        assert!(well.iter().all(|condition| condition.status == "False") && well.len() == 5);
        progress.remaining.insert("configmaps.".into(), 2);
        progress.finalizers.insert("example.com/hold".into(), 1);
        progress.failures = vec!["b".into(), "a".into()];
        let held = report(&well, &progress, at);
        let words: Vec<_> = held[2..].iter().map(|condition| condition.message.as_str()).collect();
        assert_eq!(
            words,
            [
                "Failed to delete all resource types, 2 remaining: a, b",
                "Some resources are remaining: configmaps. has 2 resource instances",
                "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
            ]
        );
    }
}
