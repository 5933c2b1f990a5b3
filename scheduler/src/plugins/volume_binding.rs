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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use crate::{
        cluster::Cluster,
        cycle::{
            Decision, Scheduler,
            tests::{cluster, node, pod},
        },
        model::{HOSTNAME, ZONE},
    };

    fn claim(all: &mut Cluster, name: &str, class: &str, extra: &Value) {
        let bound = extra["volume"].as_str().unwrap_or_default();
        let annotations = if bound.is_empty() { json!({}) } else { json!({"pv.kubernetes.io/bind-completed": "yes"}) };
        let claim = json!({
            "metadata": {"name": name, "namespace": "n", "uid": name, "annotations": annotations},
            "spec": {
                "storageClassName": class, "volumeName": bound, "resources": {"requests": {"storage": "1Gi"}},
                "accessModes": [extra["mode"].as_str().unwrap_or("ReadWriteOnce")],
            },
        });
        all.claims.insert(("n".into(), name.into()), serde_json::from_value::<super::Claim>(claim).unwrap().into());
        all.touch();
    }

    fn volume(all: &mut Cluster, name: &str, host: &str, size: &str) {
        let expression = json!({"key": HOSTNAME, "operator": "In", "values": [host]});
        let volume = json!({
            "metadata": {"name": name},
            "spec": {
                "storageClassName": "local", "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"],
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
            },
            "status": {"phase": "Available"},
        });
        all.volumes.insert(name.into(), serde_json::from_value::<super::Volume>(volume).unwrap().into());
        all.touch();
    }

    /// Two nodes in two zones; classes whose volumes were made beforehand, are made for a pod, or at once.
    fn storage() -> Cluster {
        let mut all =
            cluster([node("a", json!({}), json!({"labels": {ZONE: "a"}})), node("b", json!({}), json!({"labels": {ZONE: "b"}}))]);
        for (name, provisioner, mode, zones) in [
            ("local", "kubernetes.io/no-provisioner", "WaitForFirstConsumer", json!([])),
            (
                "made",
                "example.org/disk",
                "WaitForFirstConsumer",
                json!([{"matchLabelExpressions": [{"key": ZONE, "values": ["b"]}]}]),
            ),
            ("now", "example.org/disk", "Immediate", json!([])),
        ] {
            let class = json!({
                "metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode, "allowedTopologies": zones,
            });
            all.classes.insert(name.into(), serde_json::from_value::<crate::model::storage::StorageClass>(class).unwrap().into());
        }
        all
    }

    fn decide(all: &Cluster, claims: &[&str]) -> Decision {
        let volumes: Vec<Value> =
            claims.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}})).collect();
        Scheduler::default().decide(&pod("p", json!({}), json!({"volumes": volumes})), all)
    }

    /// The node, the volumes that are bound and the claims whose volumes are made; or the message.
    fn check(all: &Cluster, claims: &[&str], wanted: &str) {
        let found = match decide(all, claims) {
            Decision::Node { name, volumes } => {
                let bound: Vec<&str> = volumes.bind.iter().map(|(_, volume)| volume.metadata.name.as_str()).collect();
                let made: Vec<&str> = volumes.provision.iter().map(|claim| claim.metadata.name.as_str()).collect();
                format!("{name} {bound:?} {made:?}")
            }
            Decision::Refused(refused) => refused.message,
        };
        assert!(found.starts_with(wanted), "{found}");
    }

    #[test]
    fn a_pod_goes_where_its_volumes_are_or_can_be() {
        let mut all = storage();
        claim(&mut all, "c", "local", &json!({}));
        check(&all, &["c"], "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.");
        volume(&mut all, "large", "a", "9Gi");
        volume(&mut all, "small", "b", "512Mi");
        check(&all, &["c"], "a [\"large\"] []");
        volume(&mut all, "fitting", "a", "2Gi");
        check(&all, &["c"], "a [\"fitting\"] []");
        claim(&mut all, "m", "made", &json!({}));
        check(&all, &["m"], "b [] [\"m\"]");
        check(&all, &["m", "c"], "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.");
        claim(&mut all, "c", "local", &json!({"volume": "small"}));
        check(&all, &["c"], "b [] []");
        claim(&mut all, "c", "local", &json!({"volume": "gone"}));
        check(
            &all,
            &["c"],
            "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).",
        );
    }

    #[test]
    fn a_pod_waits_for_its_claims() {
        let mut all = storage();
        check(&all, &["c"], "0/2 nodes are available: persistentvolumeclaim \"c\" not found.");
        claim(&mut all, "c", "now", &json!({}));
        check(&all, &["c"], "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.");
    }

    #[test]
    fn what_one_pod_was_promised_no_other_gets() {
        let mut all = storage();
        claim(&mut all, "c", "local", &json!({}));
        claim(&mut all, "d", "local", &json!({}));
        volume(&mut all, "only", "a", "1Gi");
        let Decision::Node { volumes, .. } = decide(&all, &["c"]) else { panic!("there is a volume") };
        let promise = all.promise(&volumes.bind[0].1, &volumes.bind[0].0);
        check(&all, &["d"], "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.");
        check(&all, &["c"], "a [\"only\"] []");
        all.take_back(&promise);
        check(&all, &["d"], "a [\"only\"] []");
    }

    #[test]
    fn a_claim_for_one_pod_is_for_one_pod() {
        let mut all = storage();
        volume(&mut all, "v", "a", "1Gi");
        claim(&mut all, "c", "local", &json!({"volume": "v", "mode": "ReadWriteOncePod"}));
        check(&all, &["c"], "a [] []");
        let other = json!({"volumes": [{"name": "c", "persistentVolumeClaim": {"claimName": "c"}}]});
        all.place(pod("other", json!({}), other), "a");
        let words =
            "1 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
        let Decision::Refused(refused) = decide(&all, &["c"]) else { panic!("the claim is taken") };
        assert!(refused.message.contains(words), "{}", refused.message);
    }
}
