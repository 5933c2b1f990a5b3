//! Who has written more than it may, whatever the node has left. Pure.
//! <https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#resource-emphemeralstorage-consumption>

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::api::resource::Quantity as QuantityText};
use kontiki_api::quantity::Quantity;

use super::rank::PodUse;
use crate::pods::model;

const RESOURCE: &str = "ephemeral-storage";

fn positive(text: Option<&QuantityText>) -> Option<(u64, &str)> {
    let text = text?.0.as_str();
    let amount = text.parse::<Quantity>().ok().and_then(|amount| u64::try_from(amount.whole()).ok());
    amount.filter(|amount| *amount > 0).map(|amount| (amount, text))
}

/// Empty folders with a limit: volume, bytes, the limit as it is written.
fn folders(pod: &Pod) -> impl Iterator<Item = (&str, u64, &str)> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    volumes.iter().filter_map(|volume| {
        let (limit, text) = positive(volume.empty_dir.as_ref()?.size_limit.as_ref())?;
        Some((volume.name.as_str(), limit, text))
    })
}

/// Containers with a limit on what they write.
fn containers(pod: &Pod) -> impl Iterator<Item = (&str, u64, &str)> {
    model::containers(pod).iter().filter_map(|spec| {
        let limits = spec.resources.as_ref()?.limits.as_ref()?;
        let (limit, text) = positive(limits.get(RESOURCE))?;
        Some((spec.name.as_str(), limit, text))
    })
}

/// Whether a pod must be measured at all.
pub fn has_limits(pod: &Pod) -> bool {
    folders(pod).next().is_some() || containers(pod).next().is_some()
}

/// Why a pod must go, in Kubernetes' words; none where it keeps to its limits.
pub fn exceeded(one: &PodUse) -> Option<String> {
    let used = |volume: &str| one.empty_dirs.iter().find(|(name, _)| name == volume).map_or(0, |(_, used)| *used);
    if let Some((volume, _, limit)) = folders(&one.pod).find(|(volume, limit, _)| used(volume) > *limit) {
        return Some(format!("Usage of EmptyDir volume {volume:?} exceeds the limit {limit:?}. "));
    }
    let spec = serde_json::to_value(&one.pod.spec).unwrap_or_default();
    let all = kontiki_api::kinds::pod::resources::pod_limits(&spec);
    if let Some(limit) = all.get(RESOURCE).filter(|limit| i128::from(one.disk.0) > i128::from(limit.whole())) {
        let limit = limit.to_binary();
        return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "));
    }
    let written = |name: &str| one.containers.iter().find(|container| container.name == name).map_or(0, |own| own.disk);
    let (name, _, limit) = containers(&one.pod).find(|(name, limit, _)| written(name) > *limit)?;
    Some(format!("Container {name} exceeded its local ephemeral storage limit {limit:?}. "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::eviction::rank::ContainerUse;

    fn check(folder: u64, container: u64, other: u64, expected: Option<&str>) {
        let limits = |amount: &str| json!({"limits": {"ephemeral-storage": amount}});
        let spec = json!({
            "containers": [{"name": "a", "resources": limits("1Mi")}, {"name": "b", "resources": limits("3Mi")}],
            "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "2Mi"}}, {"name": "free", "emptyDir": {}}],
        });
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        assert!(has_limits(&pod));
        let own = |name: &str, disk| ContainerUse { name: name.to_owned(), disk, memory: 0 };
        let one = PodUse {
            pod: Arc::new(pod),
            disk: (folder + container + other, 0),
            containers: vec![own("a", container), own("b", other)],
            empty_dirs: vec![("cache".into(), folder), ("free".into(), 1 << 40)],
            ..PodUse::default()
        };
        assert_eq!(exceeded(&one).as_deref(), expected);
    }

    #[test]
    fn who_writes_more_than_it_may() {
        check(2 << 20, 1 << 20, 0, None);
        check((2 << 20) + 1, 0, 0, Some("Usage of EmptyDir volume \"cache\" exceeds the limit \"2Mi\". "));
        check(0, (1 << 20) + 1, 0, Some("Container a exceeded its local ephemeral storage limit \"1Mi\". "));
        check(2 << 20, 0, 3 << 20, Some("Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. "));
        assert!(!has_limits(&Pod::default()));
    }
}
