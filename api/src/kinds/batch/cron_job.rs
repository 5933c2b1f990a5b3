//! CronJob.

use serde_json::{Value, json};

use super::{job, schedule};
use crate::{
    duration,
    kinds::{
        check::At,
        common::{AGE, NAME, age, column, default, map_of, name},
        deployment::template_cells,
        kind::{Errors, Kind},
    },
    names,
    object::text,
};

/// A job's name is its cron job's and eleven letters more.
const NAME_LENGTH_MAX: usize = 52;

/// CronJob.
pub static CRON_JOB: Kind = Kind {
    name: |name| {
        let mut reasons = names::dns_subdomain(name);
        if name.len() > NAME_LENGTH_MAX {
            reasons.push("must be no more than 52 characters".to_owned());
        }
        reasons
    },
    defaults: |object| {
        if let Some(spec) = object.pointer_mut("/spec/jobTemplate/spec") {
            set_template_defaults(spec);
        }
        let Some(spec) = map_of(object, "spec") else { return };
        default(spec, "concurrencyPolicy", "Allow");
        default(spec, "suspend", false);
        default(spec, "successfulJobsHistoryLimit", 3);
        default(spec, "failedJobsHistoryLimit", 1);
    },
    validate: check,
    validate_update: |new, old, errors| check_schedule(new, text(old, "/spec/schedule").contains("TZ"), errors),
    columns: &[
        NAME,
        column("Schedule", "string", 0, "When jobs are made."),
        column("Timezone", "string", 0, "Time zone of the schedule."),
        column("Suspend", "boolean", 0, "Whether no jobs are made."),
        column("Active", "integer", 0, "Jobs that are running."),
        column("Last Schedule", "string", 0, "Time since a job was made last."),
        AGE,
        column("Containers", "string", 1, "Names of the template's containers."),
        column("Images", "string", 1, "Images of the template's containers."),
        column("Selector", "string", 1, "Labels of the pods."),
    ],
    cells: |object, now| {
        let zone = text(object, "/spec/timeZone");
        let last = text(object, "/status/lastScheduleTime");
        let suspend = object["spec"]["suspend"].as_bool().map_or("<unset>", |suspend| if suspend { "True" } else { "False" });
        let mut cells = vec![
            name(object),
            json!(text(object, "/spec/schedule")),
            json!(if zone.is_empty() { "<none>" } else { zone }),
            json!(suspend),
            json!(object["status"]["active"].as_array().map_or(0, Vec::len)),
            json!(if last.is_empty() { "<none>".to_owned() } else { duration::since(last, now) }),
            age(object, now),
        ];
        cells.extend(template_cells(&object["spec"]["jobTemplate"]));
        cells
    },
    ..Kind::COUNTED_WITH_STATUS
};

/// A template keeps what its owner left out of the job itself; only the pods' template is completed.
fn set_template_defaults(spec: &mut Value) {
    if let Some(template) = spec.get_mut("template") {
        crate::kinds::pod::set_template_defaults(template);
    }
}

fn check(object: &Value, errors: &mut Errors) {
    let spec = At::root(object).get("spec");
    check_schedule(object, true, errors);
    spec.get("startingDeadlineSeconds").not_negative(errors);
    check_time_zone(&spec.get("timeZone"), errors);
    spec.get("concurrencyPolicy").required_one_of(&["Allow", "Forbid", "Replace"], errors);
    let job = spec.get("jobTemplate.spec");
    job::check_spec(&job, errors);
    if job.get("selector").is_set() {
        job.get("selector").invalid("`selector` will be auto-generated", errors);
    }
    if *job.get("manualSelector").value == json!(true) {
        job.get("manualSelector").one_of(&["nil", "false"], errors);
    }
    spec.get("successfulJobsHistoryLimit").not_negative(errors);
    spec.get("failedJobsHistoryLimit").not_negative(errors);
}

fn check_schedule(object: &Value, zone_allowed: bool, errors: &mut Errors) {
    let at = At::root(object).get("spec.schedule");
    if !at.must_be_set(errors) {
        return;
    }
    if let Some(problem) = schedule::problem(at.text()) {
        at.invalid(problem, errors);
    }
    match at.text().contains("TZ") {
        true if !zone_allowed => at.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead", errors),
        true if object["spec"].get("timeZone").is_some() => {
            at.invalid("cannot use both timeZone field and TZ or CRON_TZ in schedule", errors);
        }
        _ => {}
    }
}

/// The rules for names of zones; whether there is such a zone only the tables of zones know.
/// <https://data.iana.org/time-zones/theory.html#naming>
fn check_time_zone(at: &At<'_>, errors: &mut Errors) {
    if at.is_absent() {
        return;
    }
    let zone = at.text();
    if zone.is_empty() {
        return at.invalid("timeZone must be nil or non-empty string", errors);
    }
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    let good =
        |part: &str| !matches!(part, "" | "." | "..") && !part.starts_with('-') && part.len() <= 14 && part.bytes().all(letter);
    if !zone.split('/').all(good) || jiff::tz::TimeZone::get(zone).is_err() {
        at.invalid(format!("unknown time zone {zone}"), errors);
    }
    if zone.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        at.invalid(detail, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    fn cron_job(schedule: &str) -> Value {
        let mut object = json!({"metadata": {"name": "a"}, "spec": {"schedule": schedule, "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "OnFailure", "containers": [{"name": "a", "image": "a:1"}]}}}}}});
        CRON_JOB.set_defaults(&mut object);
        object
    }

    #[test]
    fn a_cron_job_is_completed_and_checked() {
        let mut object = cron_job("*/5 * * * *");
        assert_eq!(
            (&object["spec"]["concurrencyPolicy"], &object["spec"]["failedJobsHistoryLimit"]),
            (&json!("Allow"), &json!(1))
        );
        assert_eq!(CRON_JOB.validate(&object), vec![]);
        object["spec"]["timeZone"] = json!("Nowhere/At-All");
        assert_eq!(
            CRON_JOB.validate(&object)[0].to_string(),
            "spec.timeZone: Invalid value: \"Nowhere/At-All\": unknown time zone Nowhere/At-All"
        );
        assert_eq!(CRON_JOB.validate(&cron_job("never"))[0].field, "spec.schedule");
    }

    #[test]
    fn names_leave_room_for_the_jobs_letters() {
        assert!(CRON_JOB.validate_name(&"a".repeat(53)).iter().any(|reason| reason.contains("52 characters")));
    }
}
