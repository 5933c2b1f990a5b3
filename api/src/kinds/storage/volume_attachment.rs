//! VolumeAttachment.

use serde_json::json;

use crate::{
    kinds::{
        check::At,
        common::{AGE, NAME, age, column, name},
        kind::Kind,
    },
    names,
    object::text,
};

/// VolumeAttachment.
pub static VOLUME_ATTACHMENT: Kind = Kind {
    status_keeps: crate::strategy::USERS_METADATA,
    create: |object, _now| object["status"] = json!({"attached": false}),
    validate: |object, errors| {
        let spec = At::root(object).get("spec");
        spec.get("attacher").must_be_named(names::dns_subdomain, errors);
        spec.get("nodeName").must_be_named(names::dns_subdomain, errors);
        let source = spec.get("source");
        let (volume, inline) = (source.get("persistentVolumeName"), source.get("inlineVolumeSpec"));
        match (volume.is_set(), inline.is_set()) {
            (false, false) => {
                source.required("must specify exactly one of inlineVolumeSpec and persistentVolumeName", errors);
            }
            (true, true) => {
                source.forbidden("must specify exactly one of inlineVolumeSpec and persistentVolumeName", errors);
            }
            (true, false) => volume.must_be_named(names::dns_subdomain, errors),
            (false, true) => {}
        }
    },
    validate_update: |new, old, errors| At::root(new).get("spec").immutable(&At::root(old).get("spec"), errors),
    columns: &[
        NAME,
        crate::strategy::Column { format: "name", ..column("Attacher", "string", 0, "Driver that attaches the volume.") },
        column("PV", "string", 0, "Volume that is attached."),
        column("Node", "string", 0, "Node that it is attached to."),
        column("Attached", "boolean", 0, "Whether it is attached."),
        AGE,
    ],
    cells: |object, now| {
        vec![
            name(object),
            json!(text(object, "/spec/attacher")),
            json!(text(object, "/spec/source/persistentVolumeName")),
            json!(text(object, "/spec/nodeName")),
            json!(object["status"]["attached"].as_bool().unwrap_or(false)),
            age(object, now),
        ]
    },
    ..Kind::WITH_STATUS
};
