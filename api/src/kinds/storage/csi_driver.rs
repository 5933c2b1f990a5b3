//! CSIDriver.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::kinds::{
    check::At,
    common::{AGE, NAME, age, column, default, items, joined, map_of, name},
    kind::{Errors, Kind},
};

/// Shortest and longest life of a token for a driver, in seconds.
const TOKEN_SECONDS: (i64, i64) = (600, 1 << 32);

/// CSIDriver.
pub static CSI_DRIVER: Kind = Kind {
    defaults: |object| {
        let Some(spec) = map_of(object, "spec") else { return };
        default(spec, "attachRequired", true);
        for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            default(spec, field, false);
        }
        default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        default(spec, "volumeLifecycleModes", json!(["Persistent"]));
    },
    validate: |object, errors| {
        let spec = At::root(object).get("spec");
        spec.get("fsGroupPolicy").one_of(&["File", "None", "ReadWriteOnceWithFSType"], errors);
        let modes = spec.get("volumeLifecycleModes");
        for mode in modes.each() {
            At::new(mode.value, &modes.path).one_of(&["Persistent", "Ephemeral"], errors);
        }
        check_tokens(&spec, errors);
        let period = spec.get("nodeAllocatableUpdatePeriodSeconds");
        if period.number().is_some_and(|seconds| seconds < 10) {
            period.invalid("must be greater than or equal to 10 seconds", errors);
        }
    },
    validate_update: |new, old, errors| {
        for (field, shown) in [("attachRequired", "spec.attachedRequired"), ("volumeLifecycleModes", "spec.volumeLifecycleModes")]
        {
            At::new(&new["spec"][field], shown).immutable(&At::new(&old["spec"][field], ""), errors);
        }
    },
    columns: &[
        NAME,
        column("AttachRequired", "boolean", 0, "Whether volumes are attached to nodes."),
        column("PodInfoOnMount", "boolean", 0, "Whether the driver is told of the pod."),
        column("StorageCapacity", "boolean", 0, "Whether the scheduler looks at capacities."),
        column("TokenRequests", "string", 0, "Audiences of the tokens that it is given."),
        column("RequiresRepublish", "boolean", 0, "Whether mounts are renewed again and again."),
        column("Modes", "string", 0, "What kinds of volumes it makes."),
        AGE,
    ],
    cells: |object, now| {
        let spec = &object["spec"];
        let flag = |field: &str, otherwise: bool| json!(spec[field].as_bool().unwrap_or(otherwise));
        let tokens = match spec["tokenRequests"].as_array() {
            None => "<unset>".to_owned(),
            Some(tokens) => {
                let audiences: Vec<_> = tokens.iter().filter_map(|token| token["audience"].as_str()).collect();
                audiences.join(",")
            }
        };
        let modes = joined(items(spec, "/volumeLifecycleModes").filter_map(Value::as_str).map(str::to_owned));
        vec![
            name(object),
            flag("attachRequired", true),
            flag("podInfoOnMount", false),
            flag("storageCapacity", false),
            json!(tokens),
            flag("requiresRepublish", false),
            json!(modes),
            age(object, now),
        ]
    },
    ..Kind::COUNTED
};

fn check_tokens(spec: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for token in spec.items("tokenRequests") {
        let (audience, seconds) = (token.get("audience"), token.get("expirationSeconds"));
        if !seen.insert(audience.text().to_owned()) {
            audience.duplicate(errors);
            continue;
        }
        match seconds.number() {
            Some(number) if number < TOKEN_SECONDS.0 => {
                seconds.invalid("may not specify a duration less than 10 minutes", errors);
            }
            Some(number) if number > TOKEN_SECONDS.1 => {
                seconds.invalid("may not specify a duration larger than 2^32 seconds", errors);
            }
            _ => {}
        }
    }
}
