//! What a job does when pods fail or succeed: its failure, success and replacement policies.

use std::collections::BTreeSet;

use crate::{
    kinds::{check::At, common::items, kind::Errors},
    names,
    object::text,
};

const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const PATTERNS_MAX: usize = 20;
const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];

/// The policies of a job's specification.
pub(super) fn check(spec: &At<'_>, errors: &mut Errors) {
    let (failure, success, replacement) =
        (spec.get("podFailurePolicy"), spec.get("successPolicy"), spec.get("podReplacementPolicy"));
    if failure.is_set() {
        failure.get("rules").too_many(RULES_MAX, errors);
        for rule in failure.items("rules") {
            check_failure_rule(spec, &rule, errors);
        }
    }
    if success.is_set() {
        if spec.get("completionMode").text() == "Indexed" {
            check_success(spec, &success, errors);
        } else {
            success.invalid("requires indexed completion mode", errors);
        }
    }
    let supported: &[&str] = if failure.is_set() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    replacement.one_of(supported, errors);
}

fn check_failure_rule(spec: &At<'_>, rule: &At<'_>, errors: &mut Errors) {
    let (action, codes, conditions) = (rule.get("action"), rule.get("onExitCodes"), rule.get("onPodConditions"));
    match action.text() {
        "" => action.required("valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]", errors),
        "FailIndex" if spec.get("backoffLimitPerIndex").is_absent() => {
            action.invalid("requires the backoffLimitPerIndex to be set", errors);
        }
        _ => action.one_of(ACTIONS, errors),
    }
    if codes.is_set() {
        check_exit_codes(spec, &codes, errors);
    }
    conditions.too_many(PATTERNS_MAX, errors);
    for pattern in conditions.each() {
        let type_ = pattern.get("type");
        names::qualified_name(type_.text()).into_iter().for_each(|reason| type_.invalid(reason, errors));
        pattern.get("status").required_one_of(STATUSES, errors);
    }
    match (codes.is_set(), !conditions.is_empty()) {
        (true, true) => {
            rule.invalid_unquoted("specifying both OnExitCodes and OnPodConditions is not supported", errors);
        }
        (false, false) => rule.invalid_unquoted("specifying one of OnExitCodes and OnPodConditions is required", errors),
        _ => {}
    }
}

fn check_exit_codes(spec: &At<'_>, codes: &At<'_>, errors: &mut Errors) {
    codes.get("operator").required_one_of(&["In", "NotIn"], errors);
    let template = spec.get("template").value;
    let mut containers = items(template, "/spec/containers").chain(items(template, "/spec/initContainers"));
    let container = codes.get("containerName");
    if container.is_set() && !containers.any(|known| text(known, "/name") == container.text()) {
        container.invalid("must be one of the container or initContainer names in the pod template", errors);
    }
    let values = codes.get("values");
    if values.is_empty() {
        values.invalid("at least one value is required", errors);
    }
    values.too_many(EXIT_CODES_MAX, errors);
    let (mut seen, mut last, mut ordered) = (BTreeSet::new(), i64::MIN, true);
    for value in values.each() {
        let code = value.number().unwrap_or(0);
        if codes.get("operator").text() == "In" && code == 0 {
            value.invalid("must not be 0 for the In operator", errors);
        }
        if !seen.insert(code) {
            value.duplicate(errors);
        }
        ordered &= code >= last;
        last = code;
    }
    if !ordered {
        values.invalid("must be ordered", errors);
    }
}

fn check_success(spec: &At<'_>, policy: &At<'_>, errors: &mut Errors) {
    let rules = policy.get("rules");
    if rules.is_empty() {
        rules.required("at least one rules must be specified when the successPolicy is specified", errors);
    }
    rules.too_many(RULES_MAX, errors);
    let completions = spec.get("completions").number().unwrap_or(0);
    for rule in rules.each() {
        let (count, indexes) = (rule.get("succeededCount"), rule.get("succeededIndexes"));
        if count.is_absent() && indexes.is_absent() {
            rule.required("at least one of succeededCount or succeededIndexes must be specified", errors);
        }
        let total = match indexes.value.as_str().map(|text| count_indexes(text, completions)) {
            Some(Err(problem)) => {
                indexes.invalid(format!("error parsing succeededIndexes: {problem}"), errors);
                None
            }
            Some(Ok(total)) => Some(total),
            None => None,
        };
        count.not_negative(errors);
        let Some(number) = count.number() else { continue };
        if number > completions {
            let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
            count.invalid(detail, errors);
        }
        if let Some(total) = total.filter(|total| number > *total) {
            let detail =
                format!("must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)");
            count.invalid(detail, errors);
        }
    }
}

/// Number of indexes in text such as `1,3-5`; they must grow and lie below `completions`.
pub(super) fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, None);
    if text.is_empty() {
        return Ok(0);
    }
    for interval in text.split(',') {
        let limits: Vec<&str> = interval.split('-').collect();
        if limits.len() > 2 {
            return Err(format!(
                "the fragment {interval:?} violates the requirement that an index interval can have at most two parts separated by '-'"
            ));
        }
        let parse = |text: &str| -> Result<i64, String> {
            let number = text.parse().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
            if number >= completions { Err(format!("too large index: {text:?}")) } else { Ok(number) }
        };
        let first = parse(limits[0])?;
        let end = limits.get(1).map_or(Ok(first), |text| parse(text))?;
        if limits.len() == 2 && first >= end {
            return Err(format!("non-increasing order, previous: {first}, current: {end}"));
        }
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        last = Some(end);
        total += end - first + 1;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn indexes_grow() {
        for (text, wanted) in
            [("", Some(0)), ("1,3-5,7", Some(5)), ("3-1", None), ("2,2", None), ("9", None), ("a", None), ("1-2-3", None)]
        {
            assert_eq!(count_indexes(text, 8).ok(), wanted, "{text}");
        }
    }

    #[test]
    fn a_rule_looks_at_codes_or_at_conditions() {
        let spec = json!({"template": {"spec": {"containers": [{"name": "main"}]}}, "podFailurePolicy": {"rules": [
            {"action": "FailJob", "onExitCodes": {"containerName": "other", "operator": "In", "values": [0, 3, 2]}},
            {"action": "Ignore"}]}});
        let mut errors = Vec::new();
        check(&At::new(&spec, "spec"), &mut errors);
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        let codes = "spec.podFailurePolicy.rules[0].onExitCodes";
        let wanted = [
            format!("{codes}.containerName"),
            format!("{codes}.values[0]"),
            format!("{codes}.values"),
            "spec.podFailurePolicy.rules[1]".into(),
        ];
        assert_eq!(fields, wanted);
    }
}
