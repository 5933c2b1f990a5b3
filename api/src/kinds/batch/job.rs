//! Job.

use serde_json::{Value, json};

use super::{failure_policy, job_status};
use crate::{
    duration,
    kinds::{
        check::{At, has_condition, selects},
        common::{AGE, NAME, age, column, default, items, items_mut, map_of, name},
        deployment::template_cells,
        kind::{Errors, Kind},
        pod::{set_template_defaults, validate_template},
    },
    names,
    object::{meta, text},
};

/// Labels that tie pods to their job: older and newer names.
const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
/// Limits of indexed jobs.
const INDEXED_PARALLELISM_MAX: i64 = 100_000;
const FAILED_INDEXES_MAX: i64 = 100_000;
const MANY_COMPLETIONS: i64 = 100_000;
const MANY_COMPLETIONS_MAX: i64 = 10_000;

/// Job.
pub static JOB: Kind = Kind {
    defaults: |object| {
        let labels = object.pointer("/spec/template/metadata/labels").filter(|labels| labels.is_object()).cloned();
        if let (Some(labels), Some(metadata)) = (labels, map_of(object, "metadata")) {
            default(metadata, "labels", labels);
        }
        if let Some(spec) = object.get_mut("spec") {
            set_spec_defaults(spec);
        }
    },
    create: |object, _now| generate_selector(object),
    validate: |object, errors| {
        check_generated(object, errors);
        let spec = At::root(object).get("spec");
        check_spec(&spec, errors);
        if spec.get("selector").must_be_set(errors) {
            spec.get("selector").label_selector(errors);
            let labels = spec.get("template.metadata.labels");
            if !selects(spec.get("selector").value, labels.value) {
                labels.invalid("`selector` does not match template `labels`", errors);
            }
        }
        check_host_names(object, errors);
    },
    validate_update: check_update,
    validate_status: job_status::check,
    fields: &["status.successful"],
    field_value: |object, _path| object["status"]["succeeded"].as_i64().unwrap_or(0).to_string(),
    columns: &[
        NAME,
        column("Status", "string", 0, "Where the job stands."),
        column("Completions", "string", 0, "Pods that have succeeded, of those wanted."),
        column("Duration", "string", 0, "How long the job took, or has been running."),
        AGE,
        column("Containers", "string", 1, "Names of the template's containers."),
        column("Images", "string", 1, "Images of the template's containers."),
        column("Selector", "string", 1, "Labels of its pods."),
    ],
    cells: |object, now| {
        let started = text(object, "/status/startTime");
        let took = match text(object, "/status/completionTime").parse() {
            _ if started.is_empty() => String::new(),
            Ok(completed) => duration::since(started, completed),
            Err(_) => duration::since(started, now),
        };
        let mut cells = vec![name(object), json!(status(object)), json!(completions(object)), json!(took), age(object, now)];
        cells.extend(template_cells(object));
        cells
    },
    ..Kind::COUNTED_WITH_STATUS
};

/// What a job, or a template of one, may leave out.
pub(super) fn set_spec_defaults(spec: &mut Value) {
    if let Some(template) = spec.get_mut("template") {
        set_template_defaults(template);
    }
    for pattern in items_mut(spec, "/podFailurePolicy/rules") {
        items_mut(pattern, "/onPodConditions")
            .filter_map(Value::as_object_mut)
            .for_each(|pattern| default(pattern, "status", "True"));
    }
    let Some(spec) = spec.as_object_mut() else { return };
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        spec.insert("completions".into(), json!(1));
    }
    default(spec, "parallelism", 1);
    default(spec, "backoffLimit", if spec.contains_key("backoffLimitPerIndex") { i32::MAX } else { 6 });
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "podReplacementPolicy", if spec.contains_key("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" });
    default(spec, "manualSelector", false);
}

/// Unless its owner chose one, a job's selector is its own identity.
fn generate_selector(object: &mut Value) {
    if object["spec"]["manualSelector"] == true {
        return;
    }
    let (name, uid) = (meta::name(object).to_owned(), meta::uid(object).to_owned());
    let pairs = NAME_LABELS.map(|label| (label, &name)).into_iter().chain(UID_LABELS.map(|label| (label, &uid)));
    for (label, value) in pairs {
        let labels = &mut object["spec"]["template"]["metadata"]["labels"];
        if labels.get(label).is_none() {
            labels[label] = json!(value);
        }
    }
    let own = UID_LABELS[1];
    if object["spec"]["selector"]["matchLabels"].get(own).is_none() {
        object["spec"]["selector"]["matchLabels"][own] = json!(uid);
    }
}

fn check_generated(object: &Value, errors: &mut Errors) {
    let spec = At::root(object).get("spec");
    if *spec.get("manualSelector").value == json!(true) || spec.get("selector").is_absent() {
        return;
    }
    let (name, uid) = (meta::name(object), meta::uid(object));
    let labels = &object["spec"]["template"]["metadata"]["labels"];
    let expected: Vec<(&str, &str)> =
        UID_LABELS.iter().map(|label| (*label, uid)).chain(NAME_LABELS.iter().map(|label| (*label, name))).collect();
    for (label, value) in &expected {
        let at = At::new(labels, format!("spec.template.metadata.labels[{label}]"));
        match labels[*label].as_str() {
            None => At::new(labels, "spec.template.metadata.labels").required(&format!("must be '{value}'"), errors),
            Some(found) if found != *value => {
                At::new(labels, at.path).invalid(format!("must be '{value}'"), errors);
            }
            Some(_) => {}
        }
    }
    let expected: Value =
        expected.into_iter().map(|(label, value)| (label.to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into();
    if !selects(spec.get("selector").value, &expected) {
        spec.get("selector").invalid("`selector` not auto-generated", errors);
    }
}

/// Checks of a job's specification, also within a template.
pub(super) fn check_spec(spec: &At<'_>, errors: &mut Errors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        spec.get(field).not_negative(errors);
    }
    let managed_by = spec.get("managedBy");
    if managed_by.is_set() {
        names::domain_path(managed_by.text()).into_iter().for_each(|reason| managed_by.invalid(reason, errors));
        managed_by.at_most_bytes(63, errors);
    }
    spec.get("completionMode").one_of(&["NonIndexed", "Indexed"], errors);
    let indexed = spec.get("completionMode").text() == "Indexed";
    if indexed {
        check_indexed(spec, errors);
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"].map(|field| spec.get(field)).iter().filter(|at| at.is_set()) {
            field.invalid("requires indexed completion mode", errors);
        }
    }
    failure_policy::check(spec, errors);
    errors.extend(validate_template(spec.get("template").value, &spec.get("template").path));
    let restart = spec.get("template.spec.restartPolicy");
    match restart.text() {
        "Always" | "" => restart.required("valid values: \"OnFailure\", \"Never\"", errors),
        "OnFailure" if spec.get("podFailurePolicy").is_set() => {
            restart.invalid("only \"Never\" is supported when podFailurePolicy is specified", errors);
        }
        _ => restart.one_of(&["OnFailure", "Never"], errors),
    }
}

fn check_indexed(spec: &At<'_>, errors: &mut Errors) {
    let number = |field: &str| spec.get(field).number();
    let (completions, failed) = (spec.get("completions"), spec.get("maxFailedIndexes"));
    if completions.is_absent() {
        completions.required("when completion mode is Indexed", errors);
    }
    if number("parallelism").is_some_and(|number| number > INDEXED_PARALLELISM_MAX) {
        let detail = format!("must be less than or equal to {INDEXED_PARALLELISM_MAX} when completion mode is Indexed");
        spec.get("parallelism").invalid(detail, errors);
    }
    if let (Some(completions), Some(count)) = (completions.number(), failed.number())
        && count > completions
    {
        failed.invalid("must be less than or equal to completions", errors);
    }
    if failed.number().is_some_and(|number| number > FAILED_INDEXES_MAX) {
        failed.invalid(format!("must be less than or equal to {FAILED_INDEXES_MAX}"), errors);
    }
    if completions.number().is_some_and(|number| number > MANY_COMPLETIONS) && number("backoffLimitPerIndex").is_some() {
        if failed.is_absent() {
            failed.required(&format!("must be specified when completions is above {MANY_COMPLETIONS}"), errors);
        }
        for at in [spec.get("parallelism"), failed] {
            if at.number().is_some_and(|number| number > MANY_COMPLETIONS_MAX) {
                let detail = format!(
                    "must be less than or equal to {MANY_COMPLETIONS_MAX} when completions are above {MANY_COMPLETIONS} and used with \
                     backoff limit per index"
                );
                at.invalid(detail, errors);
            }
        }
    }
}

/// The last index stands in the name of the last pod's host.
fn check_host_names(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    if spec["completionMode"] != "Indexed" {
        return;
    }
    if let Some(last) = spec["completions"].as_i64().filter(|completions| *completions > 0).map(|completions| completions - 1) {
        let host = format!("{}-{last}", meta::name(object));
        if !names::dns_label(&host).is_empty() {
            At::root(object)
                .get("metadata.name")
                .invalid(format!("will not able to create pod with invalid DNS label: {host}"), errors);
        }
    }
}

fn check_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (spec, before) = (At::root(new).get("spec"), At::root(old).get("spec"));
    let completions = spec.get("completions");
    if spec.get("completionMode").text() != "Indexed" {
        completions.immutable(&before.get("completions"), errors);
    } else if completions.value != before.get("completions").value
        && completions.is_set()
        && completions.value != spec.get("parallelism").value
    {
        completions.invalid("can only be modified in tandem with spec.parallelism", errors);
    }
    spec.get("selector").immutable(&before.get("selector"), errors);
    check_template(new, old, errors);
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        spec.get(field).immutable(&before.get(field), errors);
    }
}

/// A suspended job that has not run may be given to other nodes and resources; otherwise its template stays.
fn check_template(new: &Value, old: &Value, errors: &mut Errors) {
    let (mut compared, template) = (old["spec"]["template"].clone(), &new["spec"]["template"]);
    if old["spec"]["suspend"] == true {
        let never_ran = old["status"].get("startTime").is_none();
        if never_ran || has_condition(old, "Suspended") {
            for pointer in
                ["/spec/nodeSelector", "/spec/tolerations", "/metadata/annotations", "/metadata/labels", "/spec/schedulingGates"]
            {
                put(&mut compared, pointer, template.pointer(pointer));
            }
            put(&mut compared, "/spec/affinity/nodeAffinity", template.pointer("/spec/affinity/nodeAffinity"));
            if compared["spec"]["affinity"].as_object().is_some_and(serde_json::Map::is_empty)
                && template.pointer("/spec/affinity").is_none()
            {
                put(&mut compared, "/spec/affinity", None);
            }
            for list in ["containers", "initContainers"] {
                for (index, container) in items(template, &format!("/spec/{list}")).enumerate() {
                    if compared["spec"][list][index]["name"] == container["name"] {
                        compared["spec"][list][index]["resources"] = container["resources"].clone();
                    }
                }
            }
        }
    }
    At::root(new).get("spec.template").immutable(&At::new(&compared, ""), errors);
}

/// Sets or removes a value two or three steps deep.
fn put(object: &mut Value, pointer: &str, value: Option<&Value>) {
    let Some((parent, field)) = pointer.rsplit_once('/') else { return };
    match value {
        Some(value) => {
            let parent = parent.trim_start_matches('/').split('/').fold(object, |place, step| &mut place[step]);
            parent[field] = value.clone();
        }
        None => {
            let parent = object.pointer_mut(parent).and_then(Value::as_object_mut);
            parent.into_iter().for_each(|parent| drop(parent.remove(field)));
        }
    }
}

fn completions(object: &Value) -> String {
    let succeeded = object["status"]["succeeded"].as_i64().unwrap_or(0);
    match (object["spec"]["completions"].as_i64(), object["spec"]["parallelism"].as_i64().unwrap_or(0)) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn status(object: &Value) -> &'static str {
    const LATER: [&str; 3] = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
    let first = ["Complete", "Failed"].into_iter().find(|type_| has_condition(object, type_));
    let deleting = meta::is_deleting(object).then_some("Terminating");
    first.or(deleting).or_else(|| LATER.into_iter().find(|type_| has_condition(object, type_))).unwrap_or("Running")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    fn job() -> Value {
        let mut object = json!({"metadata": {"name": "pi", "uid": "1-2"}, "spec": {"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "pi", "image": "perl:5"}]}}}});
        JOB.set_defaults(&mut object);
        JOB.prepare_for_create(&mut object, jiff::Timestamp::UNIX_EPOCH);
        object
    }

    #[test]
    fn a_bare_job_selects_its_own_pods() {
        let object = job();
        assert_eq!(object["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "1-2"}}));
        assert_eq!(object["spec"]["template"]["metadata"]["labels"]["job-name"], "pi");
        assert_eq!((&object["spec"]["completions"], &object["spec"]["backoffLimit"]), (&json!(1), &json!(6)));
        assert_eq!(JOB.validate(&object), vec![]);
    }

    #[test]
    fn pods_of_a_job_end() {
        let mut object = job();
        object["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
        let error = "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"";
        assert_eq!(JOB.validate(&object)[0].to_string(), error);
    }

    #[test]
    fn a_template_moves_only_while_the_job_is_suspended() {
        let mut old = job();
        let mut new = old.clone();
        new["spec"]["template"]["spec"]["nodeSelector"] = json!({"zone": "a"});
        assert_eq!(JOB.validate_update(&new, &old)[0].field, "spec.template");
        for object in [&mut old, &mut new] {
            object["spec"]["suspend"] = json!(true);
        }
        assert_eq!(JOB.validate_update(&new, &old), vec![]);
        new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("perl:6");
        assert_eq!(JOB.validate_update(&new, &old)[0].field, "spec.template");
    }

    #[test]
    fn tables_say_where_a_job_stands() {
        let with = |status: Value| json!({"metadata": {}, "spec": {"completions": 3}, "status": status});
        assert_eq!((status(&with(json!({}))), completions(&with(json!({"succeeded": 2})))), ("Running", "2/3".to_owned()));
        assert_eq!(status(&with(json!({"conditions": [{"type": "Failed", "status": "True"}]}))), "Failed");
    }
}
