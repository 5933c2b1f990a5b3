//! A Job's plans, policies and counts as tables.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use kontiki_api::resources::JOBS;
use serde_json::json;

use super::{
    act::body,
    backoff::Failures,
    plan::{Plan, Seat, finish, plan, settle},
    policy::{Verdict, judge},
    *,
};
use crate::{model::Pod, pod_control::Owner};

fn job(spec: Value, status: Value) -> Job {
    serde_json::from_value(json!({"metadata": {"name": "job", "namespace": "n", "uid": "job"}, "spec": spec, "status": status}))
        .unwrap()
}

/// `name` or `name@index`, then marks: `+` succeeded, `!` failed, `-` being deleted, `.` counted already; `xN` exit code.
fn pod(text: &str) -> Arc<Pod> {
    let (head, code) = text.split_once('x').map_or((text, None), |(head, code)| (head, Some(code.parse::<i64>().unwrap())));
    let body = head.trim_end_matches(['+', '!', '-', '.']);
    let marks = &head[body.len()..];
    let has = |mark: char| marks.contains(mark);
    let (name, index) = body.split_once('@').map_or((body, None), |(name, index)| (name, Some(index)));
    let at = "2026-01-01T00:00:00Z";
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "n", "uid": name, "finalizers": if has('.') { vec![] } else { vec![TRACKING] }},
        "status": {"phase": if has('+') { "Succeeded" } else if has('!') { "Failed" } else { "Running" }},
    });
    if let Some(index) = index {
        pod["metadata"]["annotations"] = json!({COMPLETION_INDEX: index});
    }
    if has('-') {
        pod["metadata"]["deletionTimestamp"] = json!(at);
    }
    if has('!') || has('+') {
        let code = code.unwrap_or(i64::from(has('!')));
        pod["status"]["containerStatuses"] =
            json!([{"name": "c", "state": {"terminated": {"exitCode": code, "finishedAt": at}}}]);
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn pods(texts: &str) -> Vec<Arc<Pod>> {
    texts.split(' ').filter(|text| !text.is_empty()).map(pod).collect()
}

fn at(second: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(second)
}

fn decide(job: &Job, existing: &str) -> Plan {
    plan(job, &pods(existing), Failures::default(), at(60))
}

fn names(pods: &[Arc<Pod>]) -> String {
    pods.iter().map(|pod| pod.metadata.name.as_str()).collect::<Vec<_>>().join(",")
}

/// Created seats, deleted, removed and released pods, and the reason why the Job ends.
fn show(plan: &Plan) -> String {
    let seat = |seat: &Seat| seat.index.map_or_else(|| "*".to_owned(), |index| index.to_string());
    let create: Vec<_> = plan.create.iter().map(seat).collect();
    let end = plan.end.as_ref().map_or("", |end| end.reason.as_str());
    format!("+{} -{} ~{} ={} {end}", create.join(","), names(&plan.delete), names(&plan.remove), names(&plan.release))
}

#[test]
fn as_many_run_as_are_wanted() {
    let plain = json!({"parallelism": 2, "completions": 3});
    let queue = json!({"parallelism": 2});
    let suspended = json!({"parallelism": 2, "completions": 3, "suspend": true});
    let cases = [
        (&plain, "", "+*,* - ~ = "),
        (&plain, "a b", "+ - ~ = "),
        (&plain, "a+ b", "+* - ~ =a "),
        (&plain, "a+ b+ c+", "+ - ~ =a,b,c CompletionsReached"),
        (&plain, "a b c", "+ - ~a = "),
        (&plain, "a- b", "+* - ~ =a "),
        (&queue, "a b", "+ - ~ = "),
        (&queue, "a+ b", "+ - ~ =a "),
        (&queue, "a+ b+", "+ - ~ =a,b CompletionsReached"),
        (&suspended, "a b", "+ - ~a,b = "),
    ];
    for (spec, existing, wanted) in cases {
        assert_eq!(show(&decide(&job(spec.clone(), json!({})), existing)), wanted, "{spec} | {existing}");
    }
}

#[test]
fn a_job_fails_at_its_limits() {
    let limited = json!({"completions": 2, "parallelism": 2, "backoffLimit": 1});
    let timed = json!({"completions": 2, "parallelism": 2, "activeDeadlineSeconds": 30});
    let started = json!({"startTime": "2026-01-01T00:00:00Z"});
    let cases = [
        (&limited, json!({}), "a! b", "+* - ~ =a "),
        (&limited, json!({}), "a! b! c", "+ -c ~ =a,b,c BackoffLimitExceeded"),
        (&limited, json!({"failed": 2}), "c", "+ -c ~ =c BackoffLimitExceeded"),
        (&timed, started.clone(), "a b", "+ -a,b ~ =a,b DeadlineExceeded"),
    ];
    for (spec, status, existing, wanted) in cases {
        assert_eq!(show(&decide(&job(spec.clone(), status.clone()), existing)), wanted, "{spec} {status} | {existing}");
    }
    let plan = plan(&job(timed, started), &pods("a b"), Failures::default(), at(10));
    assert_eq!(plan.again, Some(Duration::from_secs(20)));
}

#[test]
fn indexes_are_filled_in_order_and_only_once() {
    let indexed = json!({"completions": 4, "parallelism": 2, "completionMode": "Indexed"});
    let cases = [
        (json!({}), "", "+0,1 - ~ = "),
        (json!({}), "a@0 b@1", "+ - ~ = "),
        (json!({}), "a@0+ b@1", "+2 - ~ =a "),
        (json!({"completedIndexes": "0,1", "succeeded": 2}), "", "+2,3 - ~ = "),
        (json!({}), "a@0 b@0", "+ - ~a = "),
        (json!({}), "a@0 b", "+ - ~b = "),
        (json!({"completedIndexes": "0-2"}), "d@3+", "+ - ~ =d CompletionsReached"),
    ];
    for (status, existing, wanted) in cases {
        assert_eq!(show(&decide(&job(indexed.clone(), status.clone()), existing)), wanted, "{status} | {existing}");
    }
    let found = decide(&job(indexed, json!({"completedIndexes": "0"})), "b@1+ c@2");
    assert_eq!((found.status.completed_indexes.as_str(), found.status.succeeded), ("0,1", 2));
}

#[test]
fn each_index_has_its_own_limit() {
    let spec =
        json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": 99, "backoffLimitPerIndex": 1});
    let first = decide(&job(spec.clone(), json!({})), "a@0! b@1+");
    assert_eq!(show(&first), "+0 - ~ =b ", "the failed pod stays until its successor carries the count");
    assert_eq!(first.create[0].failures, Some((1, 0)));
    let mut second = (*pod("c@0!")).clone();
    second.metadata.annotations.insert(backoff::INDEX_FAILURES.to_owned(), "1".to_owned());
    let second = plan(&job(spec.clone(), json!({"completedIndexes": "1"})), &[Arc::new(second)], Failures::default(), at(60));
    assert_eq!((show(&second).as_str(), second.status.failed_indexes.as_deref()), ("+ - ~ =c FailedIndexes", Some("0")));
    let mut capped = spec;
    capped["completions"] = json!(9);
    capped["maxFailedIndexes"] = json!(0);
    let capped = decide(&job(capped, json!({"failedIndexes": "3"})), "a@0");
    assert_eq!(capped.end.unwrap().reason, "MaxFailedIndexesExceeded");
}

#[test]
fn policies_decide_about_failures() {
    let rules = json!({"rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "FailIndex", "onExitCodes": {"containerName": "c", "operator": "NotIn", "values": [1, 2]}},
        {"action": "Count", "onExitCodes": {"containerName": "other", "operator": "NotIn", "values": [0]}},
    ]});
    let policy: FailurePolicy = serde_json::from_value(rules.clone()).unwrap();
    let words = "Container c for pod n/a failed with exit code 42 matching FailJob rule at index 1".to_owned();
    let cases = [("a!x42", Verdict::FailJob(words.clone())), ("a!x7", Verdict::FailIndex), ("a!x1", Verdict::Count)];
    for (text, wanted) in cases {
        assert_eq!(judge(Some(&policy), &pod(text)), wanted, "{text}");
    }
    let mut disrupted = (*pod("a!x42")).clone();
    disrupted.status.conditions.push(Condition {
        r#type: "DisruptionTarget".into(),
        status: "True".into(),
        ..Condition::default()
    });
    assert_eq!(judge(Some(&policy), &disrupted), Verdict::Ignore);
    let job = job(json!({"completions": 2, "parallelism": 2, "backoffLimit": 0, "podFailurePolicy": rules}), json!({}));
    let failed = decide(&job, "a!x42 b");
    assert_eq!(show(&failed), "+ -b ~ =a,b PodFailurePolicy");
    assert_eq!(failed.status.conditions[0].r#type, "FailureTarget");
    assert_eq!(failed.end.unwrap().message, words);
    let ignored = plan(&job, &[Arc::new(disrupted)], Failures::default(), at(60));
    assert!(ignored.end.is_none() && ignored.status.uncounted_terminated_pods.failed.is_empty());
}

#[test]
fn enough_success_is_success() {
    let with = |rules: Value| json!({"completions": 5, "parallelism": 5, "completionMode": "Indexed", "successPolicy": {"rules": rules}});
    let cases = [
        (json!([{"succeededIndexes": "0"}]), Some("Matched rules at index 0")),
        (json!([{"succeededIndexes": "3"}, {"succeededCount": 2}]), Some("Matched rules at index 1")),
        (json!([{"succeededIndexes": "0-3", "succeededCount": 2}]), Some("Matched rules at index 0")),
        (json!([{"succeededIndexes": "2-4"}]), None),
        (json!([{"succeededCount": 3}]), None),
    ];
    for (rules, wanted) in cases {
        let found = decide(&job(with(rules.clone()), json!({})), "a@0+ b@1+ c@2 d@3 e@4");
        assert_eq!(found.end.map(|end| end.message).as_deref(), wanted, "{rules}");
    }
}

#[test]
fn a_pod_counts_once_and_a_job_ends_when_all_are_counted() {
    let job = job(json!({"completions": 1, "parallelism": 1}), json!({}));
    let found = decide(&job, "a+");
    let mut status = found.status.clone();
    assert_eq!((status.succeeded, &status.uncounted_terminated_pods.succeeded), (0, &vec!["a".to_owned()]));
    let end = found.end.unwrap();
    assert!(!finish(&mut status, &end, at(61)), "not while a pod is uncounted");
    settle(&mut status, |_| false);
    assert_eq!(status.succeeded, 1);
    let mut ending = status.clone();
    ending.terminating = Some(1);
    assert!(!finish(&mut ending, &end, at(61)), "not while a pod is ending");
    assert!(finish(&mut status, &end, at(61)));
    let kinds: Vec<_> = status.conditions.iter().map(|condition| condition.r#type.as_str()).collect();
    assert_eq!((kinds, status.completion_time), (vec!["SuccessCriteriaMet", "Complete"], Some(at(61))));
    let again = Job { status: JobStatus { conditions: vec![], ..status }, ..job };
    assert_eq!(decide(&again, "a+.").status.succeeded, 1, "what was counted is not counted again");
}

#[test]
fn suspension_is_a_condition_and_resets_the_start() {
    let resting = job(json!({"suspend": true, "completions": 1}), json!({"startTime": "2026-01-01T00:00:00Z"}));
    let rests = decide(&resting, "");
    assert_eq!(
        (rests.turned, rests.status.start_time, rests.status.conditions[0].reason.as_str()),
        (Some(true), None, "JobSuspended")
    );
    let mut woken = resting;
    woken.status = rests.status;
    woken.spec.suspend = false;
    let wakes = decide(&woken, "");
    assert_eq!(
        (wakes.turned, wakes.status.start_time, wakes.status.conditions[0].status.as_str()),
        (Some(false), Some(at(60)), "False")
    );
}

#[test]
fn failures_wait_longer_until_a_success() {
    let (first, second, done) = (pod("a!"), pod("b!"), pod("c+"));
    let failures = Failures::default().after(&[], &[&first]);
    assert_eq!(failures.wait(at(4)), Some(Duration::from_secs(6)));
    assert_eq!(failures.wait(at(11)), None);
    let failures = failures.after(&[], &[&second]);
    assert_eq!(failures.wait(at(4)), Some(Duration::from_secs(16)));
    assert_eq!(failures.after(&[&done], &[]).wait(at(4)), None);
    let job = job(json!({"completions": 1}), json!({}));
    let waiting = plan(&job, &[], failures, at(4));
    assert_eq!((waiting.create.len(), waiting.again), (0, Some(Duration::from_secs(16))));
}

#[test]
fn a_pod_knows_its_index() {
    let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c"}, {"name": "d", "env": [{"name": "A"}]}]}});
    let job = job(json!({"template": template, "completionMode": "Indexed", "completions": 2}), json!({}));
    let owner = Owner { key: JOBS, meta: &job.metadata };
    let made = body(&job, owner, Seat { index: Some(1), failures: Some((2, 0)) });
    assert_eq!((&made["metadata"]["generateName"], &made["spec"]["hostname"]), (&json!("job-1-"), &json!("job-1")));
    assert_eq!(made["metadata"]["annotations"], json!({COMPLETION_INDEX: "1", backoff::INDEX_FAILURES: "2"}));
    assert_eq!(made["metadata"]["labels"][COMPLETION_INDEX], "1");
    assert_eq!(made["spec"]["containers"][0]["env"][0]["name"], "JOB_COMPLETION_INDEX");
    assert_eq!(made["spec"]["containers"][1]["env"].as_array().unwrap().len(), 2);
    assert_eq!(made["metadata"]["finalizers"], json!([TRACKING]));
}
