//! PersistentVolumeClaim, and what it shares with PersistentVolume and templates of claims.

use serde_json::{Value, json};

use crate::{
    kinds::{
        check::{At, same_spec_but},
        common::{AGE, NAME, age, column, default, items, map_of, name},
        kind::{Errors, Kind},
    },
    names,
    object::{meta, text},
    quantity::Quantity,
};

/// Ways to use a volume, with the letters that tables show.
const ACCESS_MODES: [(&str, &str); 4] =
    [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
/// Older way to name a class.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const IMMUTABLE_SPEC: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

/// PersistentVolumeClaim.
pub static PERSISTENT_VOLUME_CLAIM: Kind = Kind {
    defaults: |object| {
        set_defaults(object);
        if let Some(status) = map_of(object, "status") {
            default(status, "phase", "Pending");
        }
    },
    create: |object, _now| {
        object["status"] = json!({"phase": "Pending"});
        normalize_data_source(object);
    },
    update: |new, _old| normalize_data_source(new),
    validate: |object, errors| check_spec(&At::root(object).get("spec"), errors),
    validate_update: check_update,
    validate_status: |new, _old, errors| {
        for (_, quantity) in At::root(new).get("status").members("capacity") {
            quantity.quantity(errors);
        }
    },
    columns: &[
        NAME,
        column("Status", "string", 0, "Where the claim stands."),
        column("Volume", "string", 0, "Volume that it is bound to."),
        column("Capacity", "string", 0, "Size of that volume."),
        column("Access Modes", "string", 0, "How the volume may be used."),
        column("StorageClass", "string", 0, "Class of the volume."),
        column("VolumeAttributesClass", "string", 0, "Class of the volume's attributes."),
        AGE,
        column("VolumeMode", "string", 1, "Whether the volume is a file system or a block device."),
    ],
    cells: |object, now| {
        let bound = !text(object, "/spec/volumeName").is_empty();
        let (capacity, modes) = match bound {
            true => (text(object, "/status/capacity/storage").to_owned(), access_modes(object, "/status/accessModes")),
            false => (String::new(), String::new()),
        };
        vec![
            name(object),
            phase(object),
            json!(text(object, "/spec/volumeName")),
            json!(if bound && capacity.is_empty() { "0" } else { capacity.as_str() }),
            json!(modes),
            json!(class(object)),
            or_unset(object, "/spec/volumeAttributesClassName"),
            age(object, now),
            or_unset(object, "/spec/volumeMode"),
        ]
    },
    ..Kind::WITH_STATUS
};

/// What a claim, or a template of one, may leave out.
pub fn set_defaults(claim: &mut Value) {
    if let Some(spec) = map_of(claim, "spec") {
        default(spec, "volumeMode", "Filesystem");
    }
}

/// The older and the newer way to name a source say the same.
fn normalize_data_source(claim: &mut Value) {
    let (source, newer) = (claim["spec"].get("dataSource").cloned(), claim["spec"].get("dataSourceRef").cloned());
    match (source, newer) {
        (Some(source), None) => claim["spec"]["dataSourceRef"] = source,
        (None, Some(newer)) if newer.get("namespace").is_none() => claim["spec"]["dataSource"] = newer,
        _ => {}
    }
}

/// Checks of a claim's specification, also within a template.
pub fn check_spec(spec: &At<'_>, errors: &mut Errors) {
    if spec.get("accessModes").is_empty() {
        spec.get("accessModes").required("at least 1 access mode is required", errors);
    }
    check_access_modes(&spec.get("accessModes"), errors);
    if spec.get("selector").is_set() {
        spec.get("selector").label_selector(errors);
    }
    let storage = At::new(spec.get("resources.requests.storage").value, format!("{}[storage]", spec.get("resources").path));
    if storage.must_be_set(errors) {
        check_positive(&storage, errors);
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        spec.get(field).named(names::dns_subdomain, errors);
    }
    spec.get("volumeMode").one_of(VOLUME_MODES, errors);
    for source in ["dataSource", "dataSourceRef"].map(|field| spec.get(field)).iter().filter(|source| source.is_set()) {
        source.get("name").must_be_set(errors);
        source.get("kind").must_be_set(errors);
        let kind = source.get("kind");
        if source.get("apiGroup").text().is_empty() && kind.text() != "PersistentVolumeClaim" {
            At::new(kind.value, &source.path)
                .invalid("must be 'PersistentVolumeClaim' when referencing the default apiGroup", errors);
        }
        source.get("apiGroup").named(names::dns_subdomain, errors);
    }
}

/// Access modes of a claim or volume.
pub(super) fn check_access_modes(modes: &At<'_>, errors: &mut Errors) {
    const SUPPORTED: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    for mode in modes.each() {
        At::new(mode.value, &modes.path).one_of(SUPPORTED, errors);
    }
    let single = modes.each().any(|mode| mode.text() == "ReadWriteOncePod");
    if single && modes.each().any(|mode| SUPPORTED[..3].contains(&mode.text())) {
        modes.forbidden("may not use ReadWriteOncePod with other access modes", errors);
    }
}

/// A quantity above zero.
pub(super) fn check_positive(at: &At<'_>, errors: &mut Errors) {
    let before = errors.len();
    at.quantity(errors);
    if errors.len() == before && at.text().parse::<Quantity>().is_ok_and(Quantity::is_zero) {
        at.invalid("must be greater than zero", errors);
    }
}

fn check_update(new: &Value, old: &Value, errors: &mut Errors) {
    let spec = At::root(new).get("spec");
    let bound = text(new, "/status/phase") == "Bound";
    let mut compared = old.clone();
    if text(old, "/spec/volumeName").is_empty() {
        copy(&mut compared, new, "volumeName");
    }
    // A class may be given to a claim that was made before there was a default.
    if old["spec"].get("storageClassName").is_none() && meta::annotation(old, CLASS_ANNOTATION).is_none() {
        copy(&mut compared, new, "storageClassName");
    }
    let mut changed = new.clone();
    if bound {
        changed["spec"]["resources"]["requests"]["storage"] = old["spec"]["resources"]["requests"]["storage"].clone();
        copy(&mut compared, new, "volumeAttributesClassName");
    }
    if !same_spec_but(&changed, &compared, &[]) {
        spec.forbidden(IMMUTABLE_SPEC, errors);
    }
    let size = |object: &Value, pointer: &str| text(object, pointer).parse::<Quantity>().unwrap_or(Quantity::from_whole(0));
    let requests = "/spec/resources/requests/storage";
    if size(new, requests) < size(old, requests) && size(new, requests) <= size(old, "/status/capacity/storage") {
        spec.get("resources.requests.storage").forbidden("field can not be less than status.capacity", errors);
    }
    if new["spec"]["volumeMode"] != old["spec"]["volumeMode"] {
        At::new(&new["spec"]["volumeMode"], "volumeMode").invalid("field is immutable", errors);
    }
    if old.pointer("/status/currentVolumeAttributesClassName").is_some() {
        let class = spec.get("volumeAttributesClassName");
        if class.is_absent() {
            class.forbidden("update to nil is forbidden when status.currentVolumeAttributesClassName is not nil", errors);
        } else if class.is_empty() {
            class
                .forbidden("update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil", errors);
        }
    }
}

fn copy(to: &mut Value, from: &Value, field: &str) {
    match from["spec"].get(field) {
        Some(value) => to["spec"][field] = value.clone(),
        None => to["spec"].as_object_mut().into_iter().for_each(|spec| drop(spec.remove(field))),
    }
}

/// Phase, or that the object is going away.
pub(super) fn phase(object: &Value) -> Value {
    json!(if meta::is_deleting(object) { "Terminating" } else { text(object, "/status/phase") })
}

/// `RWO,ROX`.
pub(super) fn access_modes(object: &Value, pointer: &str) -> String {
    let has = |mode: &str| items(object, pointer).any(|item| item == mode);
    let letters = ACCESS_MODES.iter().filter(|(mode, _)| has(mode)).map(|(_, letters)| *letters);
    letters.collect::<Vec<_>>().join(",")
}

/// The class that a claim or volume names, in the older or the newer way.
pub(super) fn class(object: &Value) -> &str {
    meta::annotation(object, CLASS_ANNOTATION).unwrap_or_else(|| text(object, "/spec/storageClassName"))
}

pub(super) fn or_unset(object: &Value, pointer: &str) -> Value {
    let value = text(object, pointer);
    json!(if value.is_empty() { "<unset>" } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    fn claim() -> Value {
        json!({"metadata": {"name": "a"}, "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem",
            "storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Pending"}})
    }

    #[test]
    fn a_claim_says_how_much_and_how() {
        assert_eq!(PERSISTENT_VOLUME_CLAIM.validate(&claim()), vec![]);
        let errors = PERSISTENT_VOLUME_CLAIM.validate(&json!({"spec": {"accessModes": ["ReadWrite", "ReadWriteOncePod"]}}));
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert!(texts[0].starts_with("spec.accessModes: Unsupported value: \"ReadWrite\": supported values: "), "{texts:?}");
        assert_eq!(texts[1], "spec.resources[storage]: Required value");
    }

    #[test]
    fn a_claim_grows_once_it_is_bound_and_changes_in_nothing_else() {
        let old = claim();
        let mut new = claim();
        new["spec"]["volumeName"] = json!("pv");
        assert_eq!(PERSISTENT_VOLUME_CLAIM.validate_update(&new, &old), vec![]);
        new["spec"]["resources"]["requests"]["storage"] = json!("2Gi");
        let errors = PERSISTENT_VOLUME_CLAIM.validate_update(&new, &old);
        assert_eq!(errors[0].to_string(), format!("spec: Forbidden: {IMMUTABLE_SPEC}"));
        new["status"]["phase"] = json!("Bound");
        assert_eq!(PERSISTENT_VOLUME_CLAIM.validate_update(&new, &old), vec![]);
    }
}
