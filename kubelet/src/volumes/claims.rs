//! Volumes that outlive pods: a claim leads to a PersistentVolume, and that to a path of the node.
//!
//! On the node itself lie `hostPath` and `local` volumes; what a driver would have to attach is told to be unknown here.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kontiki_api::resources::ResourceKey;
use kontiki_client::Client;

use crate::pods::model;

const fn key(plural: &'static str, kind: &'static str, namespaced: bool) -> ResourceKey {
    ResourceKey { group: "", version: "v1", plural, kind, namespaced }
}

const CLAIMS: ResourceKey = key("persistentvolumeclaims", "PersistentVolumeClaim", true);
const VOLUMES: ResourceKey = key("persistentvolumes", "PersistentVolume", false);

/// Where a volume lies on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path.
    pub path: String,
    /// Type of a host path; empty for none.
    pub kind: String,
    /// Whether nobody may write.
    pub read_only: bool,
}

/// Name of the claim that a volume stands for: its own, or that of an ephemeral volume, which is the pod's.
pub fn claim_name(pod: &Pod, volume: &Volume) -> Option<String> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some(source.claim_name.clone());
    }
    volume.ephemeral.as_ref().map(|_| format!("{}-{}", model::name(pod), volume.name))
}

/// Follows a claim to its place.
pub async fn find(client: &Client, pod: &Pod, claim: &str) -> Result<Place, String> {
    let namespace = model::namespace(pod);
    let found: PersistentVolumeClaim = client.get(CLAIMS, namespace, claim).await.map_err(|error| {
        if error.is_not_found() { format!("persistentvolumeclaim \"{claim}\" not found") } else { error.to_string() }
    })?;
    let bound = found.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let name = found.spec.and_then(|spec| spec.volume_name).filter(|name| bound && !name.is_empty());
    let name = name.ok_or_else(|| format!("PVC {namespace}/{claim} is not bound"))?;
    let volume: PersistentVolume = client.get(VOLUMES, "", &name).await.map_err(|error| error.to_string())?;
    place(&volume)
}

fn place(volume: &PersistentVolume) -> Result<Place, String> {
    let spec = volume.spec.as_ref().ok_or("the volume says nothing of itself")?;
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    let read_only = !modes.is_empty() && modes.iter().all(|mode| mode == "ReadOnlyMany");
    if let Some(host) = &spec.host_path {
        return Ok(Place { path: host.path.clone(), kind: host.type_.clone().unwrap_or_default(), read_only });
    }
    if let Some(local) = &spec.local {
        return Ok(Place { path: local.path.clone(), kind: "Directory".to_owned(), read_only });
    }
    let driver = spec.csi.as_ref().map(|csi| csi.driver.as_str());
    Err(driver.map_or_else(
        || "no volume plugin matched".to_owned(),
        |driver| format!("driver name {driver} not found in the list of registered CSI drivers"),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn volumes_of_the_node_have_a_place() {
        let volume = |source: serde_json::Value| -> PersistentVolume {
            let mut spec = json!({"accessModes": ["ReadOnlyMany"]});
            spec.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
            serde_json::from_value(json!({"spec": spec})).unwrap()
        };
        let host = place(&volume(json!({"hostPath": {"path": "/data", "type": "DirectoryOrCreate"}}))).unwrap();
        assert_eq!(host, Place { path: "/data".into(), kind: "DirectoryOrCreate".into(), read_only: true });
        assert_eq!(place(&volume(json!({"local": {"path": "/disk"}}))).unwrap().path, "/disk");
        let csi = place(&volume(json!({"csi": {"driver": "x.example", "volumeHandle": "h"}}))).unwrap_err();
        assert_eq!(csi, "driver name x.example not found in the list of registered CSI drivers");
    }
}
