//! ControllerRevisions: the templates that DaemonSets and StatefulSets have had, to go back to.
//!
//! In: a template and the revisions near its owner. Out: the revision of that template, made or raised where needed.
//! Invariant: the revision of the present template has the highest number.

use std::sync::Arc;

use kontiki_api::resources::CONTROLLER_REVISIONS;
use kontiki_client::{DeleteOptions, Error, Patch};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    context::{self, Context},
    model::{Meta, Selector, objects},
    pod_control::{self, Owner, template_labels},
    run::{gone, seen},
};

/// Label that names the revision of a pod.
pub const REVISION_HASH: &str = "controller-revision-hash";
/// Letters of a hash: no vowels, so that no word is spelt by chance.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Longest part of an owner's name in that of its revision.
const PREFIX_MAX: usize = 223;

/// A ControllerRevision.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ControllerRevision {
    /// What all objects have.
    pub metadata: Meta,
    /// A patch that brings the template back.
    pub data: Value,
    /// Its number.
    pub revision: i64,
}

objects!(ControllerRevision);

impl ControllerRevision {
    /// The template that it keeps.
    pub fn template(&self) -> Value {
        let mut template = self.data["spec"]["template"].clone();
        if let Some(fields) = template.as_object_mut() {
            fields.remove("$patch");
        }
        template
    }
}

/// What a revision keeps of a template.
fn data(template: &Value) -> Value {
    let mut template = template.clone();
    template["$patch"] = json!("replace");
    json!({ "spec": { "template": template } })
}

/// FNV-1 over what is kept and the number of collisions, spelt in safe letters.
fn hash(data: &Value, collisions: i64) -> String {
    // Objects keep their keys in order, so equal templates are equal text.
    let text = format!("{data}{collisions}");
    let sum = text.bytes().fold(0x811c_9dc5_u32, |sum, byte| sum.wrapping_mul(0x0100_0193) ^ u32::from(byte));
    sum.to_string().bytes().map(|digit| char::from(LETTERS[usize::from(digit) % LETTERS.len()])).collect()
}

/// What becomes of the history for a template.
#[derive(Clone, Debug, PartialEq)]
enum Choice {
    /// This revision, the newest, has it.
    Keep(Arc<ControllerRevision>),
    /// This older revision has it and gets a new number.
    Raise(Arc<ControllerRevision>, i64),
    /// None has it: one with this number is made.
    Make(i64),
}

/// Chooses among revisions in the order of their numbers.
fn choose(revisions: &[Arc<ControllerRevision>], data: &Value) -> Choice {
    let Some(newest) = revisions.last() else { return Choice::Make(1) };
    let next = newest.revision + 1;
    match revisions.iter().rfind(|revision| revision.data == *data) {
        Some(found) if found.metadata.name == newest.metadata.name => Choice::Keep(Arc::clone(found)),
        Some(found) => Choice::Raise(Arc::clone(found), next),
        None => Choice::Make(next),
    }
}

/// The history after it has been brought up to date.
pub struct History {
    /// The revision of the present template.
    pub update: Arc<ControllerRevision>,
    /// All of them, oldest first.
    pub all: Vec<Arc<ControllerRevision>>,
    /// How often a name was taken by another template.
    pub collisions: i64,
}

impl History {
    /// The revision of a name.
    pub fn named(&self, name: &str) -> Option<&Arc<ControllerRevision>> {
        self.all.iter().find(|revision| revision.metadata.name == name)
    }
}

/// Brings the history of an owner up to date. `hash_label` is the label that carries a revision's hash.
pub async fn sync(
    context: &Context,
    owner: Owner<'_>,
    selector: &Selector,
    template: &Value,
    collisions: i64,
    hash_label: &str,
) -> Result<History, Error> {
    let near = context::near(&context.controller_revisions, owner.meta);
    let claim = pod_control::claim(owner.meta, near, |one: &ControllerRevision| selector.matches(&one.metadata.labels));
    let mut all = pod_control::enact(context, owner, CONTROLLER_REVISIONS, claim, &[]).await?;
    all.sort_by_key(|one| (one.revision, one.metadata.creation_timestamp, one.metadata.name.clone()));
    let data = data(template);
    let namespace = &owner.meta.namespace;
    let (update, collisions) = match choose(&all, &data) {
        Choice::Keep(revision) => (revision, collisions),
        Choice::Raise(revision, number) => {
            let name = &revision.metadata.name;
            let patch = Patch::Merge(json!({ "metadata": { "uid": revision.metadata.uid }, "revision": number }));
            let raised = context.client().patch(CONTROLLER_REVISIONS, namespace, name, None, patch).await?;
            seen(|| context.controller_revisions.get(namespace, name).is_none_or(|one| one.revision == number)).await;
            all.retain(|one| one.metadata.name != *name);
            let raised = Arc::new(raised);
            all.push(Arc::clone(&raised));
            (raised, collisions)
        }
        Choice::Make(number) => {
            let (made, collisions) = make(context, owner, template, &data, number, collisions, hash_label).await?;
            all.push(Arc::clone(&made));
            (made, collisions)
        }
    };
    Ok(History { update, all, collisions })
}

async fn make(
    context: &Context,
    owner: Owner<'_>,
    template: &Value,
    data: &Value,
    number: i64,
    mut collisions: i64,
    hash_label: &str,
) -> Result<(Arc<ControllerRevision>, i64), Error> {
    let meta = owner.meta;
    loop {
        let hash = hash(data, collisions);
        let prefix: String = meta.name.chars().take(PREFIX_MAX).collect();
        let name = format!("{prefix}-{hash}");
        let mut labels = template_labels(template);
        labels.insert(hash_label.to_owned(), hash);
        let body = json!({
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": name, "labels": labels, "annotations": meta.annotations, "ownerReferences": [owner.controller()],
            },
            "data": data,
            "revision": number,
        });
        match context.client().create::<ControllerRevision>(CONTROLLER_REVISIONS, &meta.namespace, &body).await {
            Ok(made) => {
                seen(|| context.controller_revisions.get(&meta.namespace, &name).is_some()).await;
                return Ok((Arc::new(made), collisions));
            }
            Err(error) if error.is_already_exists() => {
                let found: ControllerRevision = context.client().get(CONTROLLER_REVISIONS, &meta.namespace, &name).await?;
                if found.metadata.is_controlled_by(&meta.uid) && found.data == *data {
                    return Ok((Arc::new(found), collisions));
                }
                collisions += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Revisions to forget: the oldest that nothing uses, beyond those that are kept to go back to.
fn surplus(
    all: &[Arc<ControllerRevision>],
    live: impl Fn(&ControllerRevision) -> bool,
    kept: i64,
) -> Vec<Arc<ControllerRevision>> {
    let Ok(kept) = usize::try_from(kept) else { return Vec::new() };
    let unused: Vec<_> = all.iter().filter(|revision| !live(revision)).cloned().collect();
    let count = unused.len().saturating_sub(kept);
    unused.into_iter().take(count).collect()
}

/// Forgets what nobody wants to go back to.
pub async fn truncate(
    context: &Context,
    history: &History,
    live: impl Fn(&ControllerRevision) -> bool,
    kept: i64,
) -> Result<(), Error> {
    for revision in surplus(&history.all, live, kept) {
        let meta = &revision.metadata;
        let options = DeleteOptions::with_uid(&meta.uid);
        gone(context.client().delete(CONTROLLER_REVISIONS, &meta.namespace, &meta.name, &options).await)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(name: &str, number: i64, image: &str) -> Arc<ControllerRevision> {
        Arc::new(ControllerRevision {
            metadata: Meta { name: name.into(), ..Meta::default() },
            data: data(&json!({ "spec": { "image": image } })),
            revision: number,
        })
    }

    #[test]
    fn a_template_that_comes_back_gets_the_highest_number() {
        let all = [revision("a", 1, "one"), revision("b", 2, "two")];
        assert_eq!(choose(&[], &all[0].data), Choice::Make(1));
        assert_eq!(choose(&all, &all[1].data), Choice::Keep(Arc::clone(&all[1])));
        assert_eq!(choose(&all, &all[0].data), Choice::Raise(Arc::clone(&all[0]), 3));
        assert_eq!(choose(&all, &data(&json!({}))), Choice::Make(3));
        assert_eq!(all[0].template(), json!({ "spec": { "image": "one" } }));
    }

    #[test]
    fn the_oldest_unused_go_first() {
        let all = [revision("a", 1, "1"), revision("b", 2, "2"), revision("c", 3, "3"), revision("d", 4, "4")];
        let live = |one: &ControllerRevision| ["a", "d"].contains(&one.metadata.name.as_str());
        let names = |kept| surplus(&all, live, kept).iter().map(|one| one.metadata.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(1), ["b"]);
        assert_eq!(names(0), ["b", "c"]);
        assert_eq!(names(10), Vec::<String>::new());
    }

    #[test]
    fn a_collision_changes_the_hash() {
        let data = data(&json!({}));
        assert_ne!(hash(&data, 0), hash(&data, 1));
        assert!(hash(&data, 0).bytes().all(|letter| LETTERS.contains(&letter)));
    }
}
