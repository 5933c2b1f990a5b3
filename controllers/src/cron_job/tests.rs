//! A CronJob's plans as tables.
#![allow(clippy::unwrap_used)]

use super::{plan::plan, *};

fn cron_job(spec: Value, status: Value) -> CronJob {
    let mut whole = json!({"schedule": "*/5 * * * *"});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let metadata = json!({"name": "c", "namespace": "n", "uid": "c", "creationTimestamp": "2026-01-01T00:01:00Z"});
    serde_json::from_value(json!({"metadata": metadata, "spec": whole, "status": status})).unwrap()
}

/// `name`, `name+` complete, `name!` failed.
fn jobs(texts: &str) -> Vec<Arc<Job>> {
    let job = |text: &str| {
        let name = text.trim_end_matches(['+', '!']);
        let kind = if text.ends_with('+') { "Complete" } else { "Failed" };
        let conditions = if text == name { json!([]) } else { json!([{"type": kind, "status": "True"}]) };
        let status =
            json!({"conditions": conditions, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:03:00Z"});
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "status": status})).unwrap())
    };
    texts.split(' ').filter(|text| !text.is_empty()).map(job).collect()
}

fn active(names: &[&str]) -> Value {
    let list: Vec<_> = names.iter().map(|name| json!({"name": name, "uid": name})).collect();
    json!({ "active": list })
}

fn decide(job: &CronJob, existing: &str, now: &str) -> (Option<String>, Vec<&'static str>, Vec<String>, Option<u64>) {
    let plan = plan(job, &jobs(existing), now.parse().unwrap());
    let names = |jobs: &[Arc<Job>]| jobs.iter().map(|job| job.metadata.name.clone()).collect::<Vec<_>>();
    let mut gone = names(&plan.replace);
    gone.extend(names(&plan.forget));
    let told = plan.tales.iter().map(|(_, reason, _)| *reason).collect();
    (plan.start.map(|at| at.to_string()), told, gone, plan.again.map(|again| again.as_secs()))
}

#[test]
fn a_job_starts_at_its_time_and_once() {
    let plain = || cron_job(json!({}), json!({}));
    assert_eq!(decide(&plain(), "", "2026-01-01T00:04:00Z"), (None, vec![], vec![], Some(60)));
    let (start, told, _, again) = decide(&plain(), "", "2026-01-01T00:05:01Z");
    assert_eq!((start.as_deref(), told, again), (Some("2026-01-01T00:05:00Z"), vec![], Some(299)));
    let started = cron_job(json!({}), json!({"lastScheduleTime": "2026-01-01T00:05:00Z"}));
    assert_eq!(decide(&started, "", "2026-01-01T00:05:01Z").0, None);
    let (start, ..) = decide(&started, "", "2026-01-01T00:17:00Z");
    assert_eq!(start.as_deref(), Some("2026-01-01T00:15:00Z"), "of several missed times the last counts");
    assert_eq!(job_name("c", "2026-01-01T00:05:00Z".parse().unwrap()), "c-29453765");
    assert_eq!(decide(&cron_job(json!({"suspend": true}), json!({})), "", "2026-01-01T00:06:00Z").0, None);
}

#[test]
fn missed_times_are_told() {
    let late = cron_job(json!({"startingDeadlineSeconds": 30}), json!({}));
    assert_eq!(decide(&late, "", "2026-01-01T00:05:20Z").0.as_deref(), Some("2026-01-01T00:05:00Z"));
    assert_eq!(decide(&late, "", "2026-01-01T00:05:50Z").0, None);
    let (start, told, ..) = decide(&cron_job(json!({}), json!({})), "", "2026-02-01T00:02:00Z");
    assert_eq!((start.as_deref(), told), (Some("2026-02-01T00:00:00Z"), vec!["TooManyMissedTimes"]));
}

#[test]
fn policies_say_what_becomes_of_what_runs() {
    let at = "2026-01-01T00:05:01Z";
    let case = |policy: &str| cron_job(json!({"concurrencyPolicy": policy}), active(&["a"]));
    assert!(decide(&case("Allow"), "a", at).0.is_some());
    let (start, told, ..) = decide(&case("Forbid"), "a", at);
    assert_eq!((start, told), (None, vec!["JobAlreadyActive"]));
    let (start, _, gone, _) = decide(&case("Replace"), "a", at);
    assert_eq!((start.is_some(), gone), (true, vec!["a".to_owned()]));
    let (start, told, ..) = decide(&case("Forbid"), "a+", at);
    assert_eq!((start.is_some(), told), (true, vec!["SawCompletedJob"]));
}

#[test]
fn the_list_of_what_is_active_is_kept_and_history_cut() {
    let job = cron_job(json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0}), active(&["a", "gone"]));
    let (_, told, gone, _) = decide(&job, "a+ b+ c! d", "2026-01-01T00:04:00Z");
    assert_eq!(told, ["SawCompletedJob", "UnexpectedJob", "MissingJob"]);
    assert_eq!(gone, ["a", "c"]);
    let status = plan(&job, &jobs("a+"), "2026-01-01T00:04:00Z".parse().unwrap()).status;
    assert_eq!(status.last_successful_time.unwrap().to_string(), "2026-01-01T00:03:00Z");
}

#[test]
fn schedules_that_cannot_be_read_are_told() {
    let told = |spec: Value| decide(&cron_job(spec, json!({})), "", "2026-01-01T00:06:00Z").1;
    assert_eq!(told(json!({"schedule": "nonsense"})), ["UnparseableSchedule"]);
    assert_eq!(told(json!({"timeZone": "Nowhere"})), ["UnknownTimeZone"]);
    assert_eq!(told(json!({"schedule": "0 0 31 2 *"})), ["InvalidSchedule"]);
    assert_eq!(told(json!({"schedule": "TZ=UTC 0 0 * * *"})), ["UnsupportedSchedule"]);
}

#[test]
fn a_job_says_for_which_time_it_is() {
    let job = cron_job(
        json!({"timeZone": "Asia/Tokyo", "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}}),
        json!({}),
    );
    let made = body(&job, Owner { key: CRON_JOBS, meta: &job.metadata }, "2026-01-01T00:05:00Z".parse().unwrap());
    assert_eq!(made["metadata"]["annotations"], json!({SCHEDULED_AT: "2026-01-01T09:05:00+09:00"}));
    assert_eq!(
        (&made["metadata"]["labels"], &made["metadata"]["ownerReferences"][0]["kind"]),
        (&json!({"a": "b"}), &json!("CronJob"))
    );
}
