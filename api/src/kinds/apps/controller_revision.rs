//! ControllerRevision.

use serde_json::{Value, json};

use crate::kinds::{
    check::At,
    common::{AGE, NAME, age, column, items, name},
    kind::Kind,
};
use crate::object::text;

/// ControllerRevision.
pub static CONTROLLER_REVISION: Kind = Kind {
    validate: |object, errors| {
        let root = At::root(object);
        root.get("revision").not_negative(errors);
        let data = root.get("data");
        match data.value {
            Value::Null => data.required("data is mandatory", errors),
            Value::Object(_) => {}
            _ => data.required("data must be a valid JSON object", errors),
        }
    },
    validate_update: |new, old, errors| At::root(new).get("data").immutable(&At::root(old).get("data"), errors),
    columns: &[
        NAME,
        column("Controller", "string", 0, "Whose revision it is."),
        column("Revision", "string", 0, "Number of the revision."),
        AGE,
    ],
    cells: |object, now| {
        let revision = object["revision"].as_i64().unwrap_or(0);
        vec![name(object), json!(controller(object)), json!(revision), age(object, now)]
    },
    ..Kind::NEW
};

/// `statefulset.apps/web` of the owner that manages an object.
fn controller(object: &Value) -> String {
    let Some(owner) = items(object, "/metadata/ownerReferences").find(|owner| owner["controller"] == true) else {
        return "<none>".to_owned();
    };
    let group = text(owner, "/apiVersion").split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
    format!("{}{group}/{}", text(owner, "/kind"), text(owner, "/name")).to_lowercase()
}
