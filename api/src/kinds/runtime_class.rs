//! Kinds of the group `node.k8s.io`: RuntimeClass.

use serde_json::json;

use super::{
    check::At,
    common::{AGE, NAME, age, column, name},
    kind::Kind,
    validate,
};
use crate::{names, object::text};

/// RuntimeClass.
pub static RUNTIME_CLASS: Kind = Kind {
    validate: |object, errors| {
        let root = At::root(object);
        root.get("handler").must_be_named(names::dns_label, errors);
        for (_, amount) in root.members("overhead.podFixed") {
            amount.quantity(errors);
        }
        let selector = root.get("scheduling.nodeSelector");
        validate::labels(Some(selector.value), &selector.path, errors);
        for toleration in root.items("scheduling.tolerations") {
            toleration.get("effect").one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
        }
    },
    validate_update: |new, old, errors| At::root(new).get("handler").immutable(&At::root(old).get("handler"), errors),
    columns: &[NAME, column("Handler", "string", 0, "Name of the handler that runs its pods."), AGE],
    cells: |object, now| vec![name(object), json!(text(object, "/handler")), age(object, now)],
    ..Kind::NEW
};
