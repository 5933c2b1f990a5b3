//! Kinds of the group `scheduling.k8s.io`: PriorityClass.

use serde_json::json;

use super::{
    check::At,
    common::{AGE, NAME, age, column, default, name},
    kind::Kind,
};
use crate::object::{meta, text};

/// Highest value that a user may give out.
const USER_VALUE_MAX: i64 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";
/// Classes that every cluster has, and their values.
const SYSTEM: [(&str, i64); 2] = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// PriorityClass.
pub static PRIORITY_CLASS: Kind = Kind {
    defaults: |object| {
        if let Some(object) = object.as_object_mut() {
            default(object, "preemptionPolicy", "PreemptLowerPriority");
        }
    },
    validate: |object, errors| {
        let root = At::root(object);
        let (name, value) = (meta::name(object), root.get("value"));
        if name.starts_with(SYSTEM_PREFIX) {
            let known = SYSTEM.iter().find(|(known, _)| *known == name);
            let problem = match known {
                None => Some(format!("{name} is not a known system priority class")),
                Some((_, wanted)) if value.number() != Some(*wanted) => {
                    Some(format!("value of {name} PriorityClass must be {wanted}"))
                }
                Some(_) if object["globalDefault"] == true => {
                    Some(format!("globalDefault of {name} PriorityClass must be false"))
                }
                Some(_) => None,
            };
            if let Some(problem) = problem {
                let detail = format!(
                    "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {problem}"
                );
                root.get("metadata.name").forbidden(detail, errors);
            }
        } else if value.number().is_some_and(|number| number > USER_VALUE_MAX) {
            value.forbidden(format!("maximum allowed value of a user defined priority is {USER_VALUE_MAX}"), errors);
        }
        root.get("preemptionPolicy").one_of(&["PreemptLowerPriority", "Never"], errors);
    },
    validate_update: |new, old, errors| {
        let (new, old) = (At::root(new), At::root(old));
        if new.get("value").number().unwrap_or(0) != old.get("value").number().unwrap_or(0) {
            new.get("value").forbidden("may not be changed in an update.", errors);
        }
        new.get("preemptionPolicy").immutable(&old.get("preemptionPolicy"), errors);
    },
    columns: &[
        NAME,
        column("Value", "integer", 0, "Priority of the pods; more goes first."),
        column("Global-Default", "boolean", 0, "Whether pods without a class are of this one."),
        AGE,
        column("PreemptionPolicy", "string", 1, "Whether its pods may drive others out."),
    ],
    cells: |object, now| {
        vec![
            name(object),
            json!(object["value"].as_i64().unwrap_or(0)),
            json!(object["globalDefault"].as_bool().unwrap_or(false)),
            age(object, now),
            json!(text(object, "/preemptionPolicy")),
        ]
    },
    ..Kind::COUNTED
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn the_systems_names_are_the_systems() {
        let class = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
        assert_eq!(PRIORITY_CLASS.validate(&class("high", 1000)), vec![]);
        assert_eq!(PRIORITY_CLASS.validate(&class("system-node-critical", 2_000_001_000)), vec![]);
        assert_eq!(PRIORITY_CLASS.validate(&class("system-x", 1))[0].field, "metadata.name");
        assert_eq!(PRIORITY_CLASS.validate(&class("high", 2_000_000_000))[0].field, "value");
        let errors = PRIORITY_CLASS.validate_update(&class("high", 1), &class("high", 2));
        assert_eq!(errors[0].to_string(), "value: Forbidden: may not be changed in an update.");
    }
}
