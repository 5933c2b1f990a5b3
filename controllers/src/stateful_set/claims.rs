//! Claims of a StatefulSet's pods: what they are called, and whom they go with. Pure.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{StatefulSet, plan::ordinal};
use crate::{
    model::{Meta, OwnerReference, Pod},
    volume::Claim,
};

/// How to find a claim by its name.
pub type Claims<'a> = &'a (dyn Fn(&str) -> Option<Arc<Claim>> + Sync);

/// Names of the claims of an ordinal, each with the name of its template.
pub fn names(set: &StatefulSet, number: i64) -> impl Iterator<Item = (String, &str)> {
    let templates = set.spec.volume_claim_templates.iter();
    templates
        .filter_map(|template| template["metadata"]["name"].as_str())
        .map(move |template| (format!("{template}-{}-{number}", set.metadata.name), template))
}

/// Claims of an ordinal, whole.
pub fn bodies(set: &StatefulSet, number: i64) -> Vec<(String, Value)> {
    let selected = set.spec.selector.as_ref().map(|selector| &selector.match_labels);
    let body = |(template, (name, _)): (&Value, (String, &str))| {
        let mut body = json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": template["metadata"], "spec": template["spec"] });
        body["metadata"]["name"] = json!(name);
        body["metadata"]["namespace"] = json!(set.metadata.namespace);
        for (key, value) in selected.into_iter().flatten() {
            body["metadata"]["labels"][key] = json!(value);
        }
        (name, body)
    };
    set.spec.volume_claim_templates.iter().zip(names(set, number)).map(body).collect()
}

/// Makes a pod's volumes those of its claims; others of the same names give way.
pub fn mount(set: &StatefulSet, number: i64, pod: &mut Value) {
    let own: Vec<_> = names(set, number).collect();
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let others = volumes.filter(|volume| !own.iter().any(|(_, template)| volume["name"] == *template)).cloned();
    let others: Vec<Value> = others.collect();
    let claimed = own.iter().map(|(name, template)| json!({ "name": template, "persistentVolumeClaim": { "claimName": name } }));
    let volumes: Vec<Value> = claimed.chain(others).collect();
    if !volumes.is_empty() {
        pod["spec"]["volumes"] = json!(volumes);
    }
}

/// Whether a claim is yet to be made.
pub fn are_missing(set: &StatefulSet, number: i64, claims: Claims<'_>) -> bool {
    names(set, number).any(|(name, _)| claims(&name).is_none())
}

/// Whether a claim that is on its way out, with a pod that is gone or by itself, holds up a new pod.
pub fn hold_up(set: &StatefulSet, number: i64, claims: Claims<'_>) -> bool {
    let pod = format!("{}-{number}", set.metadata.name);
    let of_a_pod = |owner: &OwnerReference| owner.kind == "Pod" && owner.name == pod;
    names(set, number).filter_map(|(name, _)| claims(&name)).any(|claim| {
        let meta = &claim.metadata;
        let stale = set.spec.retention("whenScaled") == "Delete" && meta.owner_references.iter().any(of_a_pod);
        meta.is_deleted() || stale
    })
}

/// Whether a claim of a pod goes with somebody else than the set's policy says.
pub fn is_wrong(set: &StatefulSet, pod: &Pod, number: i64, claims: Claims<'_>) -> bool {
    names(set, number).filter_map(|(name, _)| claims(&name)).any(|claim| owners(set, pod, &claim.metadata).is_some())
}

fn is_like(owner: &OwnerReference, kind: &str, meta: &Meta) -> bool {
    owner.kind == kind && owner.name == meta.name
}

fn controller(meta: &Meta, api_version: &str, kind: &str) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The owners that a claim ought to have; `None` where it has them, or where it is not ours to say.
pub fn owners(set: &StatefulSet, pod: &Pod, claim: &Meta) -> Option<Vec<OwnerReference>> {
    let (set_meta, pod_meta) = (&set.metadata, &pod.metadata);
    let ours = |owner: &OwnerReference| is_like(owner, "StatefulSet", set_meta) || is_like(owner, "Pod", pod_meta);
    let (own, mut others): (Vec<_>, Vec<_>) = claim.owner_references.iter().cloned().partition(ours);
    let stale = |owner: &OwnerReference| owner.uid != set_meta.uid && owner.uid != pod_meta.uid;
    if own.iter().any(stale) {
        // It belongs to an earlier set or pod of the same name and goes with that.
        return None;
    }
    let (deleted, scaled) = (set.spec.retention("whenDeleted") == "Delete", set.spec.retention("whenScaled") == "Delete");
    let foreign = (deleted || scaled) && others.iter().any(|owner| owner.controller == Some(true));
    let number = ordinal(&set_meta.name, &pod_meta.name).unwrap_or(-1);
    let condemned = !(set.spec.start()..set.spec.start() + set.spec.replicas).contains(&number);
    if !foreign {
        if scaled && condemned {
            others.push(controller(pod_meta, "v1", "Pod"));
        } else if deleted {
            others.push(controller(set_meta, "apps/v1", "StatefulSet"));
        }
    }
    let uids = |owners: &[OwnerReference]| {
        let mut uids: Vec<_> = owners.iter().map(|owner| (owner.uid.clone(), owner.controller)).collect();
        uids.sort();
        uids
    };
    (uids(&others) != uids(&claim.owner_references)).then_some(others)
}
