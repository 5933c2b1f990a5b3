//! PersistentVolume.

use serde_json::{Value, json};

use super::persistent_volume_claim::{access_modes, check_access_modes, check_positive, class, or_unset, phase};
use crate::{
    kinds::{
        check::At,
        common::{AGE, NAME, age, column, default, map_of, name},
        kind::{Errors, Kind},
        pod::check_node_selector,
    },
    names,
    object::text,
};

/// Where the bytes may lie.
const SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// PersistentVolume.
pub static PERSISTENT_VOLUME: Kind = Kind {
    defaults: |object| {
        if let Some(spec) = map_of(object, "spec") {
            default(spec, "persistentVolumeReclaimPolicy", "Retain");
            default(spec, "volumeMode", "Filesystem");
        }
        if let Some(path) = object.pointer_mut("/spec/hostPath").and_then(Value::as_object_mut) {
            default(path, "type", "");
        }
        if let Some(status) = map_of(object, "status") {
            default(status, "phase", "Pending");
        }
    },
    create: |object, now| {
        object["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": crate::object::meta::time(now)});
    },
    validate: check,
    validate_update: check_update,
    columns: &[
        NAME,
        column("Capacity", "string", 0, "Size of the volume."),
        column("Access Modes", "string", 0, "How the volume may be used."),
        column("Reclaim Policy", "string", 0, "What becomes of it when its claim goes."),
        column("Status", "string", 0, "Where the volume stands."),
        column("Claim", "string", 0, "Claim that it is bound to."),
        column("StorageClass", "string", 0, "Class of the volume."),
        column("VolumeAttributesClass", "string", 0, "Class of the volume's attributes."),
        column("Reason", "string", 0, "Why the volume is in its status."),
        AGE,
        column("VolumeMode", "string", 1, "Whether the volume is a file system or a block device."),
    ],
    cells: |object, now| {
        let claim = &object["spec"]["claimRef"];
        let claim =
            if claim.is_null() { String::new() } else { format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")) };
        let capacity = text(object, "/spec/capacity/storage");
        vec![
            name(object),
            json!(if capacity.is_empty() { "0" } else { capacity }),
            json!(access_modes(object, "/spec/accessModes")),
            json!(text(object, "/spec/persistentVolumeReclaimPolicy")),
            phase(object),
            json!(claim),
            json!(class(object)),
            or_unset(object, "/spec/volumeAttributesClassName"),
            json!(text(object, "/status/reason")),
            age(object, now),
            or_unset(object, "/spec/volumeMode"),
        ]
    },
    ..Kind::WITH_STATUS
};

fn check(object: &Value, errors: &mut Errors) {
    let spec = At::root(object).get("spec");
    if spec.get("accessModes").is_empty() {
        spec.get("accessModes").required("", errors);
    }
    check_access_modes(&spec.get("accessModes"), errors);
    let capacity = spec.get("capacity");
    if capacity.is_empty() {
        capacity.required("", errors);
    }
    if capacity.get("storage").is_absent() || capacity.len() > 1 {
        errors.push(crate::field::FieldError::not_supported(&capacity.path, capacity.value, &["storage"]));
    }
    for (_, quantity) in spec.members("capacity") {
        check_positive(&quantity, errors);
    }
    spec.get("persistentVolumeReclaimPolicy").one_of(&["Delete", "Recycle", "Retain"], errors);
    check_sources(&spec, errors);
    spec.get("storageClassName").named(names::dns_subdomain, errors);
    spec.get("volumeMode").one_of(&["Block", "Filesystem"], errors);
    let attributes = spec.get("volumeAttributesClassName");
    if attributes.is_set() {
        if attributes.is_empty() {
            attributes.required("an empty string is disallowed", errors);
        }
        attributes.named(names::dns_subdomain, errors);
        if spec.get("csi").is_absent() {
            spec.get("csi").required("has to be specified when using volumeAttributesClassName", errors);
        }
    }
}

fn check_sources(spec: &At<'_>, errors: &mut Errors) {
    let sources: Vec<_> = SOURCES.iter().map(|source| spec.get(source)).filter(At::is_set).collect();
    if sources.is_empty() {
        spec.required("must specify a volume type", errors);
    }
    for source in sources.iter().skip(1) {
        source.forbidden("may not specify more than 1 volume type", errors);
    }
    if let [source, ..] = sources.as_slice() {
        for field in match source.path.rsplit('.').next() {
            Some("hostPath" | "local") => &["path"][..],
            Some("nfs") => &["server", "path"],
            Some("csi") => &["driver", "volumeHandle"],
            _ => &[],
        } {
            source.get(field).must_be_set(errors);
        }
    }
    let path = spec.get("hostPath.path");
    if path.text() == "/" && spec.get("persistentVolumeReclaimPolicy").text() == "Recycle" {
        spec.get("persistentVolumeReclaimPolicy").forbidden("may not be 'recycle' for a hostPath mount of '/'", errors);
    }
    let affinity = spec.get("nodeAffinity");
    match (affinity.is_set(), affinity.get("required")) {
        (true, required) if required.is_absent() => required.required("must specify required node constraints", errors),
        (true, required) => check_node_selector(&required, errors),
        (false, _) => {}
    }
    if spec.get("local").is_set() && affinity.is_absent() {
        affinity.required("Local volume requires node affinity", errors);
    }
}

fn check_update(new: &Value, old: &Value, errors: &mut Errors) {
    let source = |object: &Value| {
        let mut spec = object["spec"].clone();
        if let Some(csi) = spec.get_mut("csi").and_then(Value::as_object_mut)
            && old.pointer("/spec/csi/controllerExpandSecretRef").is_none()
        {
            csi.remove("controllerExpandSecretRef");
        }
        SOURCES.map(|source| spec[source].clone())
    };
    if source(new) != source(old) {
        At::new(&Value::Null, "spec.persistentvolumesource")
            .forbidden("spec.persistentvolumesource is immutable after creation", errors);
    }
    At::new(&new["spec"]["volumeMode"], "volumeMode").immutable(&At::new(&old["spec"]["volumeMode"], ""), errors);
    let affinity = &old["spec"]["nodeAffinity"];
    if !affinity.is_null() {
        At::new(&new["spec"]["nodeAffinity"], "nodeAffinity").immutable(&At::new(affinity, ""), errors);
    }
    let attributes = At::root(new).get("spec.volumeAttributesClassName");
    if attributes.is_absent() && !old["spec"]["volumeAttributesClassName"].is_null() {
        attributes.forbidden("update from non-nil value to nil is forbidden", errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn a_volume_lies_in_one_place_and_stays_there() {
        let old = json!({"metadata": {"name": "pv"}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/data"}, "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"}});
        assert_eq!(PERSISTENT_VOLUME.validate(&old), vec![]);
        let mut new = old.clone();
        new["spec"]["nfs"] = json!({"server": "s", "path": "/"});
        let errors = PERSISTENT_VOLUME.validate_update(&new, &old);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts[0], "spec.nfs: Forbidden: may not specify more than 1 volume type");
        assert!(texts[1].contains("is immutable after creation"));
        new["spec"]["persistentVolumeReclaimPolicy"] = json!("Delete");
        new["spec"].as_object_mut().into_iter().for_each(|spec| drop(spec.remove("nfs")));
        assert_eq!(PERSISTENT_VOLUME.validate_update(&new, &old), vec![]);
    }
}
