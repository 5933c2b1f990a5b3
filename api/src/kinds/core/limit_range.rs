//! LimitRange.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::{
    kinds::{
        check::At,
        common::items_mut,
        kind::{Errors, Kind},
    },
    names,
    quantity::Quantity,
};

const TYPES: [&str; 3] = ["Pod", "Container", "PersistentVolumeClaim"];

/// LimitRange.
pub static LIMIT_RANGE: Kind = Kind {
    defaults: |object| {
        for limit in items_mut(object, "/spec/limits").filter(|limit| limit["type"] == "Container") {
            fill(limit, "max", "default");
            fill(limit, "default", "defaultRequest");
            fill(limit, "min", "defaultRequest");
        }
    },
    validate: check,
    columns: &[crate::kinds::common::NAME, crate::kinds::common::column("Created At", "date", 0, "When the object was created.")],
    cells: |object, _now| {
        vec![crate::kinds::common::name(object), crate::object::text(object, "/metadata/creationTimestamp").into()]
    },
    ..Kind::NEW
};

/// Gives `to` the members of `from` that it lacks.
fn fill(limit: &mut Value, from: &str, to: &str) {
    let members: Map<_, _> = limit[from].as_object().cloned().unwrap_or_default();
    for (name, value) in members {
        if limit[to].get(&name).is_none() {
            limit[to][name] = value;
        }
    }
}

fn check(object: &Value, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for limit in At::root(object).items("spec.limits") {
        let type_ = limit.get("type");
        let before = errors.len();
        names::qualified_name(type_.text()).into_iter().for_each(|reason| type_.invalid(reason, errors));
        if errors.len() == before && !type_.text().contains('/') && !TYPES.contains(&type_.text()) {
            type_.invalid("must be a standard limit type or fully qualified", errors);
        }
        if !seen.insert(type_.text().to_owned()) {
            type_.duplicate(errors);
        }
        if type_.text() == "Pod" {
            for field in ["default", "defaultRequest"].map(|field| limit.get(field)).iter().filter(|field| !field.is_empty()) {
                field.forbidden("may not be specified when `type` is 'Pod'", errors);
            }
        }
        if type_.text() == "PersistentVolumeClaim" && limit.get("min.storage").is_absent() && limit.get("max.storage").is_absent()
        {
            let detail = "either minimum or maximum storage value is required, but neither was provided";
            limit.get("limits").required(detail, errors);
        }
        check_amounts(&limit, errors);
    }
}

/// Pairs of members of which the first may not be more than the second: where the error lies, in which words.
const ORDER: [(&str, &str, &str, &str, &str); 6] = [
    ("min", "max", "min", "min value", "max value"),
    ("min", "defaultRequest", "defaultRequest", "min value", "default request value"),
    ("defaultRequest", "max", "defaultRequest", "default request value", "max value"),
    ("defaultRequest", "default", "defaultRequest", "default request value", "default limit value"),
    ("min", "default", "default", "min value", "default value"),
    ("default", "max", "default", "default value", "max value"),
];

fn check_amounts(limit: &At<'_>, errors: &mut Errors) {
    let fields = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
    let mut resources = BTreeSet::new();
    for (name, at) in fields.iter().flat_map(|field| limit.members(field)) {
        names::qualified_name(name).into_iter().for_each(|reason| At::new(&name.into(), &at.path).invalid(reason, errors));
        resources.insert(name);
    }
    for resource in resources {
        let amount = |field: &str| {
            let value = limit.get(field).value.get(resource)?;
            Some((value, value.as_str()?.parse::<Quantity>().ok()?))
        };
        let at = |field: &str| format!("{}[{resource}]", limit.get(field).path);
        for (less, more, field, lesser, greater) in ORDER {
            if let (Some((less, small)), Some((more, large))) = (amount(less), amount(more))
                && small > large
            {
                let detail = format!("{lesser} {} is greater than {greater} {}", shown(less), shown(more));
                let wrong = amount(field).map_or(less, |(value, _)| value);
                At::new(wrong, at(field)).invalid(detail, errors);
            }
        }
        if let Some((value, ratio)) = amount("maxLimitRequestRatio")
            && ratio < Quantity::from_whole(1)
        {
            At::new(value, at("maxLimitRequestRatio")).invalid(format!("ratio {} is less than 1", shown(value)), errors);
        }
    }
}

fn shown(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;
    use serde_json::json;

    #[test]
    fn limits_of_containers_fill_each_other_in() {
        let mut object = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}});
        LIMIT_RANGE.set_defaults(&mut object);
        let limit = &object["spec"]["limits"][0];
        assert_eq!((&limit["default"], &limit["defaultRequest"]), (&json!({"cpu": "2"}), &json!({"cpu": "2", "memory": "1Mi"})));
        assert_eq!(LIMIT_RANGE.validate(&object), vec![]);
    }

    #[test]
    fn less_is_not_more() {
        let object = json!({"spec": {"limits": [{"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}});
        let errors = LIMIT_RANGE.validate(&object);
        assert_eq!(
            errors[0].to_string(),
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1"
        );
    }
}
