//! PodDisruptionBudget.

use serde_json::{Value, json};

use crate::kinds::{
    check::At,
    common::{AGE, NAME, age, column, name},
    kind::Kind,
};

/// PodDisruptionBudget.
pub static POD_DISRUPTION_BUDGET: Kind = Kind {
    create: |object, _now| {
        object["status"] = json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
    },
    validate: |object, errors| {
        let spec = At::root(object).get("spec");
        let [least, most] = ["minAvailable", "maxUnavailable"].map(|field| spec.get(field));
        if least.is_set() && most.is_set() {
            spec.invalid("minAvailable and maxUnavailable cannot be both set", errors);
        }
        for count in [least, most] {
            count.count_or_percent(errors);
            count.at_most_all(errors);
        }
        spec.get("selector").label_selector(errors);
        spec.get("unhealthyPodEvictionPolicy").one_of(&["AlwaysAllow", "IfHealthyBudget"], errors);
    },
    validate_status: |new, _old, errors| {
        for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            At::root(new).get("status").get(field).not_negative(errors);
        }
    },
    columns: &[
        NAME,
        column("Min Available", "string", 0, "Pods that must be available."),
        column("Max Unavailable", "string", 0, "Pods that may be unavailable."),
        column("Allowed Disruptions", "integer", 0, "Pods that may be evicted now."),
        AGE,
    ],
    cells: |object, now| {
        let count = |field: &str| match &object["spec"][field] {
            Value::Null => json!("N/A"),
            Value::Number(number) => json!(number.to_string()),
            other => other.clone(),
        };
        let allowed = object["status"]["disruptionsAllowed"].as_i64().unwrap_or(0);
        vec![name(object), count("minAvailable"), count("maxUnavailable"), json!(allowed), age(object, now)]
    },
    ..Kind::COUNTED_WITH_STATUS
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn a_budget_counts_in_one_way() {
        let budget = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
        assert_eq!(POD_DISRUPTION_BUDGET.validate(&budget(json!({"minAvailable": "50%"}))), vec![]);
        for wrong in
            [json!({"minAvailable": 1, "maxUnavailable": 1}), json!({"minAvailable": "101%"}), json!({"maxUnavailable": -1})]
        {
            assert_eq!(POD_DISRUPTION_BUDGET.validate(&budget(wrong)).len(), 1);
        }
    }
}
