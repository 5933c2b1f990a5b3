//! PriorityLevelConfiguration.

use serde_json::{Value, json};

use crate::{
    kinds::{
        check::At,
        common::{AGE, NAME, age, column, default, name},
        kind::{Errors, Kind},
    },
    object::{meta, text},
};

const QUEUES_MAX: i64 = 10_000_000;

/// PriorityLevelConfiguration.
pub static PRIORITY_LEVEL_CONFIGURATION: Kind = Kind {
    status_keeps: crate::strategy::USERS_METADATA,
    defaults: |object| {
        if let Some(exempt) = object.pointer_mut("/spec/exempt").and_then(Value::as_object_mut) {
            default(exempt, "nominalConcurrencyShares", 0);
            default(exempt, "lendablePercent", 0);
        }
        if let Some(limited) = object.pointer_mut("/spec/limited").and_then(Value::as_object_mut) {
            default(limited, "nominalConcurrencyShares", 30);
            default(limited, "lendablePercent", 0);
        }
        if let Some(queuing) = object.pointer_mut("/spec/limited/limitResponse/queuing").and_then(Value::as_object_mut) {
            for (field, value) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
                default(queuing, field, value);
            }
        }
    },
    validate: |object, errors| {
        let spec = At::root(object).get("spec");
        let (type_, limited, exempt) = (spec.get("type"), spec.get("limited"), spec.get("exempt"));
        if (meta::name(object) == "exempt") != (type_.text() == "Exempt") {
            type_.invalid("must be 'Exempt' if and only if `name` is 'exempt'", errors);
        }
        match type_.text() {
            "Exempt" if limited.is_set() => limited.forbidden("must be nil if the type is not Limited", errors),
            "Exempt" => {}
            "Limited" => {
                if exempt.is_set() {
                    exempt.forbidden("must be nil if the type is Limited", errors);
                }
                match limited.is_set() {
                    true => check_limited(&limited, errors),
                    false => limited.required("must not be empty when type is Limited", errors),
                }
            }
            _ => type_.one_of(&["Exempt", "Limited"], errors),
        }
    },
    columns: &[
        NAME,
        column("Type", "string", 0, "Whether the level is limited."),
        column("NominalConcurrencyShares", "string", 0, "Its share of what runs at once."),
        column("Queues", "string", 0, "Queues that requests wait in."),
        column("HandSize", "string", 0, "Queues that one flow may use."),
        column("QueueLengthLimit", "string", 0, "Requests that wait in one queue."),
        AGE,
    ],
    cells: |object, now| {
        let limited = &object["spec"]["limited"];
        let queuing = &limited["limitResponse"]["queuing"];
        let none = |value: &Value| if value.is_null() { json!("<none>") } else { value.clone() };
        vec![
            name(object),
            json!(text(object, "/spec/type")),
            none(&limited["nominalConcurrencyShares"]),
            none(&queuing["queues"]),
            none(&queuing["handSize"]),
            none(&queuing["queueLengthLimit"]),
            age(object, now),
        ]
    },
    ..Kind::COUNTED_WITH_STATUS
};

fn check_limited(limited: &At<'_>, errors: &mut Errors) {
    let [shares, lendable, borrowing] =
        ["nominalConcurrencyShares", "lendablePercent", "borrowingLimitPercent"].map(|field| limited.get(field));
    if shares.number().is_some_and(|number| number < 0) {
        shares.invalid("must be a non-negative integer", errors);
    }
    if lendable.number().is_some_and(|number| !(0..=100).contains(&number)) {
        lendable.invalid("must be between 0 and 100, inclusive", errors);
    }
    if borrowing.number().is_some_and(|number| number < 0) {
        borrowing.invalid("if specified, must be a non-negative integer", errors);
    }
    let response = limited.get("limitResponse");
    let (type_, queuing) = (response.get("type"), response.get("queuing"));
    match type_.text() {
        "Reject" if queuing.is_set() => queuing.forbidden("must be nil if limited.limitResponse.type is not Limited", errors),
        "Reject" => {}
        "Queue" if queuing.is_absent() => queuing.required("must not be empty if limited.limitResponse.type is Limited", errors),
        "Queue" => check_queuing(&queuing, errors),
        _ => type_.one_of(&["Queue", "Reject"], errors),
    }
}

fn check_queuing(queuing: &At<'_>, errors: &mut Errors) {
    let [length, queues, hand] = ["queueLengthLimit", "queues", "handSize"].map(|field| queuing.get(field));
    for at in [&length, &queues, &hand] {
        if at.number().unwrap_or(0) <= 0 {
            at.invalid("must be positive", errors);
        }
    }
    if queues.number().is_some_and(|number| number > QUEUES_MAX) {
        queues.invalid(format!("must not be greater than {QUEUES_MAX}"), errors);
    }
    if let (Some(hand_size), Some(count)) = (hand.number(), queues.number())
        && hand_size > count
    {
        hand.invalid(format!("should not be greater than queues ({count})"), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn a_level_is_completed_and_its_hand_fits_its_queues() {
        let mut level = json!({"metadata": {"name": "a"}, "spec": {"type": "Limited",
            "limited": {"limitResponse": {"type": "Queue", "queuing": {"queues": 4}}}}});
        PRIORITY_LEVEL_CONFIGURATION.set_defaults(&mut level);
        assert_eq!(level["spec"]["limited"]["nominalConcurrencyShares"], 30);
        let errors = PRIORITY_LEVEL_CONFIGURATION.validate(&level);
        assert_eq!(
            errors[0].to_string(),
            "spec.limited.limitResponse.queuing.handSize: Invalid value: 8: should not be greater than queues (4)"
        );
    }
}
