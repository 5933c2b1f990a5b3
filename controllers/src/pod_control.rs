//! Pods of a controller: made from its template, adopted, released, deleted, with the events that say so.

use std::sync::Arc;

use kontiki_api::resources::{PODS, ResourceKey};
use kontiki_client::{
    DeleteOptions, Error, Patch,
    events::{EventType, ObjectReference},
};
use serde_json::{Value, json};

use crate::{
    context::Context,
    model::{Bare, Labels, Meta, Object, Pod},
    run::{gone, seen},
};

/// Most pods created or deleted in one go.
pub const BURST_MAX: usize = 500;

/// A controller that manages objects.
#[derive(Clone, Copy)]
pub struct Owner<'a> {
    /// Its kind.
    pub key: ResourceKey,
    /// Itself.
    pub meta: &'a Meta,
}

impl Owner<'_> {
    /// It, as an event names it.
    pub fn reference(&self) -> ObjectReference {
        reference(self.meta, self.key)
    }

    /// It, as what it manages names it.
    pub fn controller(&self) -> Value {
        json!({
            "apiVersion": self.key.api_version(), "kind": self.key.kind, "name": self.meta.name, "uid": self.meta.uid,
            "controller": true, "blockOwnerDeletion": true,
        })
    }
}

/// An object, as an event names it.
pub fn reference(meta: &Meta, key: ResourceKey) -> ObjectReference {
    ObjectReference {
        api_version: key.api_version(),
        kind: key.kind.to_owned(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        field_path: String::new(),
    }
}

/// Which objects belong to a controller, and which come and go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim<T> {
    /// Those that are its own and selected, adopted ones not among them.
    pub own: Vec<Arc<T>>,
    /// Those without a controller that are selected.
    pub adopt: Vec<Arc<T>>,
    /// Own ones that are selected no longer.
    pub release: Vec<Arc<T>>,
}

/// Sorts what lies near a controller. One that is being deleted adopts and releases nothing.
pub fn claim<T: Object>(owner: &Meta, near: Vec<Arc<T>>, selects: impl Fn(&T) -> bool) -> Claim<T> {
    let mut claim = Claim { own: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    for object in near {
        let meta = object.metadata();
        match meta.controller() {
            Some(controller) if controller.uid != owner.uid => {}
            Some(_) if selects(&object) => claim.own.push(object),
            Some(_) if !owner.is_deleted() => claim.release.push(object),
            None if !owner.is_deleted() && !meta.is_deleted() && selects(&object) => claim.adopt.push(object),
            _ => {}
        }
    }
    claim
}

/// Carries a claim out; `finalizers` are put on what is adopted. Returns what then belongs to the controller.
pub async fn enact<T: Object>(
    context: &Context,
    owner: Owner<'_>,
    key: ResourceKey,
    claim: Claim<T>,
    finalizers: &[&str],
) -> Result<Vec<Arc<T>>, Error> {
    let client = context.client();
    let mut own = claim.own;
    for object in &claim.release {
        let meta = object.metadata();
        let mut metadata = json!({ "uid": meta.uid, "ownerReferences": [{ "$patch": "delete", "uid": owner.meta.uid }] });
        if !finalizers.is_empty() {
            metadata["$deleteFromPrimitiveList/finalizers"] = json!(finalizers);
        }
        let patch = Patch::Strategic(json!({ "metadata": metadata }));
        gone(client.patch::<Value>(key, &meta.namespace, &meta.name, None, patch).await.map(drop))?;
    }
    if claim.adopt.is_empty() {
        return Ok(own);
    }
    // The picture may be older than the owner's deletion, and nobody may adopt after that.
    let fresh: Bare = client.get(owner.key, &owner.meta.namespace, &owner.meta.name).await?;
    if fresh.metadata.uid != owner.meta.uid || fresh.metadata.is_deleted() {
        return Ok(own);
    }
    for object in claim.adopt {
        let meta = object.metadata();
        let mut metadata = json!({ "uid": meta.uid, "ownerReferences": [owner.controller()] });
        if !finalizers.is_empty() {
            metadata["finalizers"] = json!(finalizers);
        }
        let patch = Patch::Strategic(json!({ "metadata": metadata }));
        match client.patch::<Value>(key, &meta.namespace, &meta.name, None, patch).await {
            Ok(_) => own.push(object),
            // Gone, or made anew under the same name.
            Err(error) if error.is_not_found() || error.status().is_some_and(|status| status.code == 422) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(own)
}

/// A pod from a template. Its labels, annotations and finalizers are the template's.
pub fn from_template(template: &Value, owner: Owner<'_>) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "generateName": format!("{}-", owner.meta.name), "ownerReferences": [owner.controller()] },
        "spec": template["spec"],
    });
    for field in ["labels", "annotations", "finalizers"] {
        let value = &template["metadata"][field];
        if !value.is_null() {
            pod["metadata"][field] = value.clone();
        }
    }
    pod
}

/// Creates a pod and waits until the reflector shows it: else the next look would create another one.
pub async fn create(context: &Context, owner: Owner<'_>, pod: &Value) -> Result<Value, Error> {
    let namespace = &owner.meta.namespace;
    let object = owner.reference();
    match context.client().create::<Value>(PODS, namespace, pod).await {
        Ok(made) => {
            let name = made["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            context.recorder.event(&object, EventType::Normal, "SuccessfulCreate", format!("Created pod: {name}"));
            seen(|| context.pods.get(namespace, &name).is_some()).await;
            Ok(made)
        }
        Err(error) => {
            if !error.is_namespace_terminating() {
                context.recorder.event(&object, EventType::Warning, "FailedCreate", format!("Error creating: {error}"));
            }
            Err(error)
        }
    }
}

/// Creates pods in batches that double, so that a mistake that concerns all is made only once. Returns how many came
/// to be, and what went wrong first.
pub async fn create_all(context: &Context, owner: Owner<'_>, pods: &[Value]) -> (usize, Result<(), Error>) {
    let (mut made, mut batch) = (0, 1);
    while made < pods.len() {
        let part = &pods[made..pods.len().min(made + batch)];
        let results = futures::future::join_all(part.iter().map(|pod| create(context, owner, pod))).await;
        let succeeded = results.iter().filter(|result| result.is_ok()).count();
        made += succeeded;
        if let Some(error) = results.into_iter().find_map(Result::err) {
            return (made, Err(error));
        }
        batch *= 2;
    }
    (made, Ok(()))
}

/// Deletes a pod and waits until the reflector shows that it goes.
pub async fn delete(context: &Context, owner: Owner<'_>, pod: &Pod) -> Result<(), Error> {
    let meta = &pod.metadata;
    let object = owner.reference();
    match context.client().delete(PODS, &meta.namespace, &meta.name, &DeleteOptions::with_uid(&meta.uid)).await {
        Ok(()) => {
            let message = format!("Deleted pod: {}", meta.name);
            context.recorder.event(&object, EventType::Normal, "SuccessfulDelete", message);
        }
        Err(error) if error.is_not_found() || error.is_conflict() => {}
        Err(error) => {
            context.recorder.event(&object, EventType::Warning, "FailedDelete", format!("Error deleting: {error}"));
            return Err(error);
        }
    }
    let goes = |now: &Pod| now.metadata.is_deleted() || now.metadata.uid != meta.uid;
    seen(|| context.pods.get(&meta.namespace, &meta.name).is_none_or(|now| goes(&now))).await;
    Ok(())
}

/// Deletes pods at the same time.
pub async fn delete_all(context: &Context, owner: Owner<'_>, pods: &[Arc<Pod>]) -> Result<(), Error> {
    let deletes = pods.iter().take(BURST_MAX).map(|pod| delete(context, owner, pod));
    futures::future::join_all(deletes).await.into_iter().collect()
}

/// Order in which pods are deleted, least missed first: unassigned before assigned, pending before unknown before
/// running, unready before ready, cheap before dear by their annotation, on crowded nodes before others, recently
/// ready before long ready, restarted often before rarely, new before old.
pub fn by_dispensability(pods: &mut [Arc<Pod>], crowd: impl Fn(&Pod) -> usize) {
    use std::cmp::Reverse;
    pods.sort_by_cached_key(|pod| {
        let phase = match pod.status.phase.as_str() {
            "Pending" | "" => 0,
            "Running" => 2,
            _ => 1,
        };
        let cost = pod.metadata.annotation("controller.kubernetes.io/pod-deletion-cost").parse::<i32>().unwrap_or(0);
        let ready = pod.ready_since();
        let created = pod.metadata.creation_timestamp.unwrap_or_default();
        (
            (!pod.spec.node_name.is_empty(), phase, ready.is_some(), cost),
            (Reverse(crowd(pod)), Reverse(ready.unwrap_or_default()), Reverse(pod.restarts()), Reverse(created)),
            pod.metadata.name.clone(),
        )
    });
}

/// Labels of a template.
pub fn template_labels(template: &Value) -> Labels {
    let labels = template["metadata"]["labels"].as_object().into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn orphans_are_adopted_and_strangers_released() {
        let pod = |name: &str, owner: Option<&str>, app: &str| -> Arc<Pod> {
            let owners = owner.map(|uid| json!({ "uid": uid, "controller": true }));
            let owners: Vec<_> = owners.into_iter().collect();
            let meta = json!({ "name": name, "ownerReferences": owners, "labels": { "app": app } });
            Arc::new(serde_json::from_value(json!({ "metadata": meta })).unwrap())
        };
        let near = || {
            vec![
                pod("own", Some("me"), "web"),
                pod("orphan", None, "web"),
                pod("relabelled", Some("me"), "db"),
                pod("foreign", Some("you"), "web"),
                pod("other", None, "db"),
            ]
        };
        let names = |pods: &[Arc<Pod>]| pods.iter().map(|pod| pod.metadata.name.clone()).collect::<Vec<_>>().join(" ");
        let mut owner = Meta { uid: "me".into(), ..Meta::default() };
        let found = claim(&owner, near(), |pod| pod.metadata.label("app") == "web");
        assert_eq!(
            (names(&found.own), names(&found.adopt), names(&found.release)),
            ("own".into(), "orphan".into(), "relabelled".into())
        );
        owner.deletion_timestamp = Some(jiff::Timestamp::UNIX_EPOCH);
        let found = claim(&owner, near(), |pod| pod.metadata.label("app") == "web");
        assert_eq!((found.own.len(), found.adopt.len(), found.release.len()), (1, 0, 0));
    }

    #[test]
    fn the_least_missed_pod_goes_first() {
        let pod = |name: &str, value: Value| -> Arc<Pod> {
            let mut pod: Pod = serde_json::from_value(value).unwrap();
            pod.metadata.name = name.into();
            Arc::new(pod)
        };
        let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let dear = json!({"controller.kubernetes.io/pod-deletion-cost": "9"});
        let mut pods = [
            pod(
                "dear",
                json!({"metadata": {"annotations": dear}, "spec": {"nodeName": "x"}, "status": {"phase": "Running", "conditions": ready}}),
            ),
            pod("ready", json!({"spec": {"nodeName": "x"}, "status": {"phase": "Running", "conditions": ready}})),
            pod("unready", json!({"spec": {"nodeName": "x"}, "status": {"phase": "Running"}})),
            pod("waiting", json!({"spec": {"nodeName": "x"}, "status": {"phase": "Pending"}})),
            pod("unassigned", json!({"status": {"phase": "Pending"}})),
        ];
        by_dispensability(&mut pods, |_| 0);
        let names: Vec<_> = pods.iter().map(|pod| pod.metadata.name.as_str()).collect();
        assert_eq!(names, ["unassigned", "waiting", "unready", "ready", "dear"]);
    }
}
