//! `VolumeBinding`: volumes that a node must reach, find or have made for it.
//!
//! <https://kubernetes.io/docs/concepts/storage/storage-classes/#volume-binding-mode>

use std::{collections::BTreeSet, sync::Arc};

use super::Refusal;
use crate::{
    cluster::{Cluster, NodeInfo},
    model::{
        Pod,
        storage::{Claim, Volume},
    },
};

/// Name.
pub const NAME: &str = "VolumeBinding";
/// A class with this provisioner has only volumes that somebody made beforehand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What is to be done before a pod is bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Volumes that are there, and the claims that get them.
    pub bind: Vec<(Arc<Claim>, Arc<Volume>)>,
    /// Claims whose volumes are to be made for the node.
    pub provision: Vec<Arc<Claim>>,
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.bind.is_empty() && self.provision.is_empty()
    }
}

/// Why no node at all will do, if so.
pub fn before_filters(pod: &Pod, cluster: &Cluster) -> Option<Refusal> {
    let refuse = |reason: String| Some(Refusal::unresolvable(NAME, reason));
    for name in &pod.spec.claims {
        let Some(claim) = cluster.claim(&pod.metadata.namespace, name) else {
            return refuse(format!("persistentvolumeclaim {name:?} not found"));
        };
        if claim.phase == "Lost" {
            return refuse(format!(
                "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {:?}",
                claim.volume_name
            ));
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return refuse(format!("persistentvolumeclaim {name:?} is being deleted"));
        }
    }
    let immediate = |name: &String| {
        let claim = cluster.claim(&pod.metadata.namespace, name)?;
        let waits = cluster.classes.get(&claim.class).is_some_and(|class| class.waits());
        let may_wait = waits && claim.volume_name.is_empty();
        (!claim.is_bound() && !may_wait).then_some(())
    };
    if pod.spec.claims.iter().any(|name| immediate(name).is_some()) {
        return refuse("pod has unbound immediate PersistentVolumeClaims".to_owned());
    }
    None
}

/// Refuses nodes that do not reach a volume, or for which there is none.
pub fn filter(pod: &Pod, info: &NodeInfo, cluster: &Cluster) -> Option<Refusal> {
    if pod.spec.claims.is_empty() {
        return None;
    }
    plan(pod, info, cluster).err().map(|reasons| Refusal { plugin: NAME, reasons, resolvable: false })
}

/// What is to be done before the pod can run on the node, or why it cannot.
pub fn plan(pod: &Pod, info: &NodeInfo, cluster: &Cluster) -> Result<Plan, Vec<String>> {
    let (name, labels) = (info.name(), &info.node.metadata.labels);
    let mut plan = Plan::default();
    let mut reasons = BTreeSet::new();
    let mut taken = BTreeSet::new();
    let claims = pod.spec.claims.iter().filter_map(|name| cluster.claim(&pod.metadata.namespace, name));
    for claim in claims {
        if claim.is_bound() {
            match cluster.volumes.get(&claim.volume_name) {
                None => {
                    reasons.insert("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)");
                }
                Some(volume) if !volume.is_reached_from(name, labels) => {
                    reasons.insert("node(s) didn't match PersistentVolume's node affinity");
                }
                Some(_) => {}
            }
            continue;
        }
        let selected = claim.metadata.annotations.get(crate::model::storage::SELECTED_NODE);
        if selected.is_some_and(|selected| selected != name) {
            reasons.insert("node(s) didn't find available persistent volumes to bind");
            continue;
        }
        let found = if selected.is_some() { None } else { find(claim, info, cluster, &taken) };
        match found {
            Some(volume) => {
                taken.insert(volume.metadata.name.clone());
                plan.bind.push((Arc::clone(claim), volume));
            }
            None if can_be_made(claim, info, cluster) => plan.provision.push(Arc::clone(claim)),
            None => {
                reasons.insert("node(s) didn't find available persistent volumes to bind");
            }
        }
    }
    if reasons.is_empty() { Ok(plan) } else { Err(reasons.into_iter().map(str::to_owned).collect()) }
}

/// The smallest free volume that meets the claim and that the node reaches; one that was promised to it comes first.
fn find(claim: &Claim, info: &NodeInfo, cluster: &Cluster, taken: &BTreeSet<String>) -> Option<Arc<Volume>> {
    let mut best: Option<&Arc<Volume>> = None;
    for volume in cluster.volumes.values() {
        let own = volume.belongs_to(claim);
        let fits = !taken.contains(&volume.metadata.name)
            && (volume.claim.is_none() || own)
            && volume.size >= claim.size
            && volume.mode == claim.mode
            && volume.metadata.deletion_timestamp.is_none()
            && volume.is_reached_from(info.name(), &info.node.metadata.labels);
        if !fits {
            continue;
        }
        if own {
            return Some(Arc::clone(volume));
        }
        let free = volume.phase == "Available"
            && claim.selector.matches(&volume.metadata.labels)
            && volume.class == claim.class
            && claim.access_modes.iter().all(|mode| volume.access_modes.contains(mode));
        if free && best.is_none_or(|best| volume.size < best.size) {
            best = Some(volume);
        }
    }
    best.cloned()
}

fn can_be_made(claim: &Claim, info: &NodeInfo, cluster: &Cluster) -> bool {
    cluster.classes.get(&claim.class).is_some_and(|class| {
        !matches!(class.provisioner.as_str(), "" | NO_PROVISIONER) && class.allows(&info.node.metadata.labels)
    })
}
