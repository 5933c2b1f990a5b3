//! What a job's status may say: it does not contradict itself, nor take back what was final.

use serde_json::Value;

use super::failure_policy::count_indexes;
use crate::kinds::{
    check::{At, has_condition},
    kind::Errors,
};

/// Checks of a status update: new, old.
pub(super) fn check(new: &Value, old: &Value, errors: &mut Errors) {
    let status = At::root(new).get("status");
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        status.get(field).not_negative(errors);
    }
    check_conditions(new, old, &status, errors);
    check_times(new, old, &status, errors);
    check_indexes(new, &status, errors);
    for (field, detail) in
        [("failed", "cannot decrease the failed counter"), ("succeeded", "cannot decrease the succeeded counter")]
    {
        if status.get(field).number().unwrap_or(0) < old["status"][field].as_i64().unwrap_or(0) {
            status.get(field).invalid(detail, errors);
        }
    }
    let active = status.get("active").number().unwrap_or(0);
    if status.get("ready").number().is_some_and(|ready| ready > active) {
        status.get("ready").invalid("cannot set more ready pods than active", errors);
    }
}

fn check_conditions(new: &Value, old: &Value, status: &At<'_>, errors: &mut Errors) {
    let conditions = status.get("conditions");
    let is = |type_: &str| has_condition(new, type_);
    let pairs = [
        ("Complete", "Failed", "cannot set Complete=True and Failed=true conditions"),
        ("Complete", "FailureTarget", "cannot set Complete=True and FailureTarget=true conditions"),
        ("SuccessCriteriaMet", "Failed", "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
        ("SuccessCriteriaMet", "FailureTarget", "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"),
    ];
    for (_, _, detail) in pairs.into_iter().filter(|(one, other, _)| is(one) && is(other)) {
        conditions.invalid_unquoted(detail, errors);
    }
    let needs = [
        ("Failed", "FailureTarget", "cannot set Failed=True condition without the FailureTarget=true condition"),
        ("Complete", "SuccessCriteriaMet", "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"),
    ];
    for (final_, _, detail) in needs.into_iter().filter(|(final_, first, _)| is(final_) && !is(first)) {
        // What ended before this rule existed stays as it is.
        if !has_condition(old, final_) {
            conditions.invalid_unquoted(detail, errors);
        }
    }
    for type_ in ["Failed", "Complete", "FailureTarget"].into_iter().filter(|type_| has_condition(old, type_) && !is(type_)) {
        conditions.invalid_unquoted(format!("cannot disable the terminal {type_}=True condition"), errors);
    }
    if has_condition(old, "SuccessCriteriaMet") && !is("SuccessCriteriaMet") {
        conditions.invalid_unquoted("cannot disable the SuccessCriteriaMet=True condition", errors);
    }
    let finished = is("Complete") || is("Failed");
    for (field, detail) in
        [("active", "active>0 is invalid for finished job"), ("terminating", "terminating>0 is invalid for finished job")]
    {
        if finished && status.get(field).number().is_some_and(|number| number > 0) {
            status.get(field).invalid(detail, errors);
        }
    }
}

fn check_times(new: &Value, old: &Value, status: &At<'_>, errors: &mut Errors) {
    let (started, completed) = (status.get("startTime"), status.get("completionTime"));
    let (complete, failed) = (has_condition(new, "Complete"), has_condition(new, "Failed"));
    if completed.is_set() && !complete {
        completed.invalid("cannot set completionTime when there is no Complete=True condition", errors);
    }
    if completed.is_absent() && complete {
        completed.required("completionTime is required for Complete jobs", errors);
    }
    if started.is_set() && completed.is_set() && completed.text() < started.text() {
        completed.invalid("must be equal to or after `startTime`", errors);
    }
    if started.is_absent() && (complete || failed) {
        started.required("startTime is required for finished job", errors);
    }
    let before = &old["status"];
    if completed.is_set() && !before["completionTime"].is_null() && *completed.value != before["completionTime"] {
        completed.invalid("field is immutable", errors);
    }
    if !before["startTime"].is_null() && *started.value != before["startTime"] && new["spec"]["suspend"] != true {
        started.invalid("field is immutable for unsuspended job once set", errors);
    }
}

fn check_indexes(new: &Value, status: &At<'_>, errors: &mut Errors) {
    let indexed = new["spec"]["completionMode"] == "Indexed";
    let (completed, failed) = (status.get("completedIndexes"), status.get("failedIndexes"));
    if !completed.is_empty() && !indexed {
        completed.invalid("cannot set non-empty completedIndexes when non-indexed completion mode", errors);
    }
    if failed.is_set() && new["spec"]["backoffLimitPerIndex"].is_null() {
        failed.invalid("cannot set non-null failedIndexes when backoffLimitPerIndex is null", errors);
    }
    let Some(completions) = new["spec"]["completions"].as_i64() else { return };
    for (at, name) in [(&completed, "completedIndexes"), (&failed, "failedIndexes")] {
        if let Err(problem) = count_indexes(at.text(), completions) {
            at.invalid(format!("error parsing {name}: {problem}"), errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(new: Value, old: Value) -> Vec<String> {
        let mut errors = Vec::new();
        check(&json!({"spec": {}, "status": new}), &json!({"status": old}), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_final_stays() {
        let done = json!({"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:01Z", "conditions": [
            {"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]});
        assert_eq!(texts(done.clone(), json!({})), Vec::<String>::new());
        assert!(
            texts(json!({"startTime": "2026-01-01T00:00:00Z"}), done)
                .iter()
                .any(|text| text.contains("cannot disable the terminal Complete=True"))
        );
    }

    #[test]
    fn a_status_does_not_contradict_itself() {
        let both = json!({"conditions": [{"type": "Complete", "status": "True"}, {"type": "Failed", "status": "True"}]});
        assert!(texts(both, json!({}))[0].contains("cannot set Complete=True and Failed=true conditions"));
        assert_eq!(
            texts(json!({"ready": 1}), json!({})),
            ["status.ready: Invalid value: 1: cannot set more ready pods than active"]
        );
    }
}
