//! What a Job's pods amount to, and which of them come and go. Pure.
//!
//! Invariant: a pod counts once. Its UID is in `uncountedTerminatedPods` before its finalizer goes, and becomes a
//! number only after that ([`settle`]).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    Job, JobStatus, TRACKING,
    backoff::{self, Failures},
    indexes::Indexes,
    policy::{Verdict, judge, success},
};
use crate::{
    model::{Condition, Pod, second},
    pod_control::{BURST_MAX, by_dispensability},
    run::sooner,
};

/// Most pods whose UIDs a status lists.
const UNCOUNTED_MAX: usize = 500;

/// How a Job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Whether it has done what it was to do.
    pub success: bool,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl End {
    fn failure(reason: &str, message: &str) -> Option<Self> {
        Some(Self { success: false, reason: reason.to_owned(), message: message.to_owned() })
    }

    /// Conditions while it ends, and when it has ended.
    fn conditions(&self) -> (&'static str, &'static str) {
        if self.success { ("SuccessCriteriaMet", "Complete") } else { ("FailureTarget", "Failed") }
    }
}

/// A pod to create: its index, where it has one, and how often pods of that index failed: counted, and ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// Completion index.
    pub index: Option<i64>,
    /// Failures that count, and those that do not, where each index has its own limit.
    pub failures: Option<(i64, i64)>,
}

/// What to do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Pods to create.
    pub create: Vec<Seat>,
    /// Pods to delete; they count when their finalizers go.
    pub delete: Vec<Arc<Pod>>,
    /// Pods to delete that do not count: their finalizers go first.
    pub remove: Vec<Arc<Pod>>,
    /// Pods whose finalizers go once the status is written.
    pub release: Vec<Arc<Pod>>,
    /// The status to write before that.
    pub status: JobStatus,
    /// How the Job ends, if it does.
    pub end: Option<End>,
    /// Whether it was suspended, or resumed, just now.
    pub turned: Option<bool>,
    /// Failures after what is seen now.
    pub failures: Failures,
    /// When to look again without news.
    pub again: Option<Duration>,
}

/// The completion index of a pod.
pub fn index(pod: &Pod) -> Option<i64> {
    pod.metadata.annotation(super::COMPLETION_INDEX).parse().ok().filter(|index| *index >= 0)
}

fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.has_finalizer(TRACKING)
}

/// Whether a pod counts as failed. One that is being deleted does, unless only those that have ended are replaced.
fn has_failed(job: &Job, pod: &Pod) -> bool {
    let deleted = pod.metadata.is_deleted() && pod.status.phase != "Succeeded";
    pod.status.phase == "Failed" || (deleted && !job.spec.replaces_only_failed())
}

/// What is known while deciding.
struct Look<'a> {
    job: &'a Job,
    pods: &'a [Arc<Pod>],
    active: Vec<Arc<Pod>>,
    terminating: i64,
    succeeded: i64,
    failed: i64,
    done: Indexes,
    given_up: Option<Indexes>,
    /// Last failed pod of each index that waits for its successor, which takes over its count.
    predecessors: BTreeMap<i64, Arc<Pod>>,
    now: Timestamp,
}

/// Decides. `pods` are those that belong to the Job.
pub fn plan(job: &Job, pods: &[Arc<Pod>], failures: Failures, now: Timestamp) -> Plan {
    let mut status = job.status.clone();
    let mut plan = Plan::default();
    let completions = job.spec.completions.unwrap_or(0);
    let in_range = |pod: &Pod| !job.spec.is_indexed() || index(pod).is_some_and(|index| index < completions);
    let uncounted = &status.uncounted_terminated_pods;
    let counts = |pod: &&Arc<Pod>| is_tracked(pod) && in_range(pod);
    let new_done: Vec<_> = pods
        .iter()
        .filter(counts)
        .filter(|pod| pod.status.phase == "Succeeded")
        .filter(|pod| !uncounted.succeeded.contains(&pod.metadata.uid))
        .collect();
    let new_failed: Vec<_> = pods
        .iter()
        .filter(counts)
        .filter(|pod| has_failed(job, pod))
        .filter(|pod| !uncounted.failed.contains(&pod.metadata.uid))
        .collect();
    let policy = job.spec.pod_failure_policy.as_ref();
    let counted = new_failed.iter().filter(|pod| judge(policy, pod) != Verdict::Ignore).count();
    let len = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let active: Vec<_> = pods.iter().filter(|pod| pod.is_active()).cloned().collect();
    let mut look = Look {
        job,
        pods,
        terminating: len(pods.iter().filter(|pod| pod.metadata.is_deleted() && !pod.has_ended()).count()),
        succeeded: status.succeeded + len(new_done.len() + uncounted.succeeded.len()),
        failed: status.failed + len(counted + uncounted.failed.len()),
        active,
        done: Indexes::default(),
        given_up: None,
        predecessors: BTreeMap::new(),
        now,
    };
    if status.start_time.is_none() && !job.spec.suspend {
        status.start_time = Some(second(now));
    }
    plan.failures = failures.after(&new_done, &new_failed);
    plan.end = failure(&look, &status, &mut plan.again);
    let before = Indexes::parse(&status.completed_indexes, completions);
    if job.spec.is_indexed() {
        look.done = before.clone();
        let fresh = new_done.iter().filter_map(|pod| index(pod));
        fresh.for_each(|index| look.done.insert(index));
        look.succeeded = look.done.len();
        if job.spec.backoff_limit_per_index.is_some() {
            by_index(&mut look, &status, &mut plan.end);
        }
        if plan.end.is_none()
            && let Some(rule) = success(job, completions, &look.done)
        {
            plan.end =
                Some(End { success: true, reason: "SuccessPolicy".into(), message: format!("Matched rules at index {rule}") });
        }
    }
    let mut left = look.active.clone();
    if plan.end.is_some() {
        plan.delete = std::mem::take(&mut left);
        look.terminating += len(plan.delete.len());
    } else if !job.metadata.is_deleted() {
        manage(&look, &mut plan);
        left.retain(|pod| !plan.remove.iter().any(|gone| gone.metadata.uid == pod.metadata.uid));
        look.terminating += len(plan.remove.len());
        let idle = left.is_empty() && plan.create.is_empty();
        let complete = match job.spec.completions {
            None => look.succeeded > 0 && idle,
            Some(completions) => look.succeeded >= completions && idle,
        };
        if complete {
            let message = "Reached expected number of succeeded pods".to_owned();
            plan.end = Some(End { success: true, reason: "CompletionsReached".into(), message });
        } else {
            plan.turned = turn(job, &mut status, now);
        }
    }
    status.active = len(left.len() + plan.create.len());
    status.ready = Some(len(left.iter().filter(|pod| pod.is_ready()).count()));
    status.terminating = Some(look.terminating);
    plan.release = track(&look, &plan, &mut status, &before);
    if let Some(end) = &plan.end {
        let (interim, _) = end.conditions();
        if !Condition::is_true(&status.conditions, interim) {
            put(&mut status.conditions, interim, &end.reason, &end.message, now);
        }
    }
    plan.status = status;
    plan
}

/// Why the Job has failed as a whole, or how it had begun to end.
fn failure(look: &Look<'_>, status: &JobStatus, again: &mut Option<Duration>) -> Option<End> {
    let job = look.job;
    for (kind, success) in [("SuccessCriteriaMet", true), ("FailureTarget", false)] {
        let found = status.conditions.iter().find(|condition| condition.r#type == kind && condition.status == "True");
        if let Some(found) = found {
            return Some(End { success, reason: found.reason.clone(), message: found.message.clone() });
        }
    }
    let policy = job.spec.pod_failure_policy.as_ref();
    let failed = look.pods.iter().filter(|pod| has_failed(job, pod));
    let mut words = failed.filter_map(|pod| match judge(policy, pod) {
        Verdict::FailJob(words) => Some(words),
        _ => None,
    });
    if let Some(words) = policy.and_then(|_| words.next()) {
        return End::failure("PodFailurePolicy", &words);
    }
    if look.failed > job.spec.backoff_limit || restarted_too_often(job, look.pods) {
        return End::failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if let (Some(seconds), Some(since), false) = (job.spec.active_deadline_seconds, status.start_time, job.spec.suspend) {
        let left = SignedDuration::from_secs(seconds) - look.now.duration_since(since);
        if !left.is_positive() {
            return End::failure("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        *again = sooner(*again, Duration::try_from(left).ok());
    }
    None
}

fn restarted_too_often(job: &Job, pods: &[Arc<Pod>]) -> bool {
    if job.spec.template["spec"]["restartPolicy"] != "OnFailure" {
        return false;
    }
    let running = pods.iter().filter(|pod| matches!(pod.status.phase.as_str(), "Running" | "Pending"));
    let restarts: i64 = running.map(|pod| pod.restarts()).sum();
    let limit = job.spec.backoff_limit;
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

/// Indexes that have failed for good, and those whose next pod inherits the count of failures.
fn by_index(look: &mut Look<'_>, status: &JobStatus, end: &mut Option<End>) {
    let job = look.job;
    let completions = job.spec.completions.unwrap_or(0);
    let limit = job.spec.backoff_limit_per_index.unwrap_or(0);
    let policy = job.spec.pod_failure_policy.as_ref();
    let mut given_up = Indexes::parse(status.failed_indexes.as_deref().unwrap_or_default(), completions);
    let failed = || {
        let tracked = look.pods.iter().filter(|pod| is_tracked(pod) && has_failed(job, pod));
        tracked.filter_map(|pod| Some((index(pod).filter(|index| *index < completions)?, pod)))
    };
    for (index, pod) in failed() {
        let verdict = judge(policy, pod);
        let exceeds = backoff::index_failures(pod).0 >= limit && verdict != Verdict::Ignore;
        if !look.done.has(index) && (exceeds || verdict == Verdict::FailIndex) {
            given_up.insert(index);
        }
    }
    if end.is_none() {
        let all = given_up.len() + look.done.len() >= completions;
        if job.spec.max_failed_indexes.is_some_and(|most| given_up.len() > most) {
            *end = End::failure("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes");
        } else if !given_up.is_empty() && all {
            *end = End::failure("FailedIndexes", "Job has failed indexes");
        }
    }
    let active: Vec<_> = look.active.iter().filter_map(|pod| index(pod)).collect();
    let mut predecessors: BTreeMap<i64, Arc<Pod>> = BTreeMap::new();
    for (index, pod) in failed() {
        if look.done.has(index) || given_up.has(index) || active.contains(&index) {
            continue;
        }
        let rank = |pod: &Pod| (backoff::all_index_failures(pod), pod.finished_at());
        if predecessors.get(&index).is_none_or(|known| rank(known) <= rank(pod)) {
            predecessors.insert(index, Arc::clone(pod));
        }
    }
    look.given_up = Some(given_up);
    look.predecessors = predecessors;
}

/// Keeps as many pods running as the Job wants now.
fn manage(look: &Look<'_>, plan: &mut Plan) {
    let job = look.job;
    if job.spec.suspend {
        plan.remove = look.active.clone();
        return;
    }
    let active = i64::try_from(look.active.len()).unwrap_or(i64::MAX);
    let wanted = match job.spec.completions {
        None if look.succeeded > 0 => active,
        None => job.spec.parallelism,
        Some(completions) => (completions - look.succeeded).clamp(0, job.spec.parallelism.max(0)),
    };
    plan.remove = superfluous(look, usize::try_from(active - wanted).unwrap_or(0));
    plan.remove.truncate(BURST_MAX);
    if !plan.remove.is_empty() {
        return;
    }
    let leaving = if job.spec.replaces_only_failed() { look.terminating } else { 0 };
    let missing = usize::try_from(wanted - leaving - active).unwrap_or(0).min(BURST_MAX);
    if missing == 0 {
        return;
    }
    let per_index = job.spec.backoff_limit_per_index.is_some();
    if !per_index && let Some(wait) = plan.failures.wait(look.now) {
        plan.again = sooner(plan.again, Some(wait));
        return;
    }
    if !job.spec.is_indexed() {
        plan.create = vec![Seat::default(); missing];
        return;
    }
    for index in vacant(look).take(missing) {
        let before = look.predecessors.get(&index);
        if let Some(wait) = before.filter(|_| per_index).and_then(|pod| backoff::index_wait(pod, look.now)) {
            plan.again = sooner(plan.again, Some(wait));
            continue;
        }
        let inherited = || before.map_or((0, 0), |pod| backoff::inherited(job, pod));
        plan.create.push(Seat { index: Some(index), failures: per_index.then(inherited) });
    }
}

/// Indexes that have neither succeeded nor failed for good and have no pod, in order.
fn vacant(look: &Look<'_>) -> impl Iterator<Item = i64> {
    let leaves = |pod: &&Arc<Pod>| pod.metadata.is_deleted() && !pod.has_ended() && look.job.spec.replaces_only_failed();
    let leaving = look.pods.iter().filter(leaves);
    let taken: Indexes = look.active.iter().chain(leaving).filter_map(|pod| index(pod)).collect();
    let given_up = look.given_up.clone().unwrap_or_default();
    let done = look.done.clone();
    let absent: Vec<_> = taken
        .absent(look.job.spec.completions.unwrap_or(0))
        .filter(|index| !done.has(*index) && !given_up.has(*index))
        .take(BURST_MAX)
        .collect();
    absent.into_iter()
}

/// At least so many active pods; of an indexed Job all second ones of an index and all without a proper one.
fn superfluous(look: &Look<'_>, least: usize) -> Vec<Arc<Pod>> {
    let completions = look.job.spec.completions.unwrap_or(0);
    let mut left = look.active.clone();
    by_dispensability(&mut left, |_| 0);
    let mut gone = Vec::new();
    if look.job.spec.is_indexed() {
        let mut kept = Indexes::default();
        // The one that is missed most keeps the index.
        let (mut keep, mut drop) = (Vec::new(), Vec::new());
        for pod in left.into_iter().rev() {
            match index(&pod).filter(|index| *index < completions && !kept.has(*index)) {
                Some(index) => {
                    kept.insert(index);
                    keep.push(pod);
                }
                None => drop.push(pod),
            }
        }
        keep.reverse();
        (left, gone) = (keep, drop);
    }
    let more = least.saturating_sub(gone.len());
    gone.extend(left.into_iter().take(more));
    gone
}

/// Notes in the status what has ended, and says whose finalizers may go then.
fn track(look: &Look<'_>, plan: &Plan, status: &mut JobStatus, before: &Indexes) -> Vec<Arc<Pod>> {
    let job = look.job;
    let completions = job.spec.completions.unwrap_or(0);
    let policy = job.spec.pod_failure_policy.as_ref();
    let tracked: Vec<_> = look.pods.iter().filter(|pod| is_tracked(pod)).map(|pod| pod.metadata.uid.clone()).collect();
    settle(status, |uid| tracked.iter().any(|one| one == uid));
    let removed = |pod: &Pod| plan.remove.iter().any(|gone| gone.metadata.uid == pod.metadata.uid);
    let mut pods: Vec<_> = look.pods.iter().filter(|pod| is_tracked(pod) && !removed(pod)).collect();
    pods.sort_by_key(|pod| index(pod));
    let mut done = before.clone();
    let mut release = Vec::new();
    let failed_as_a_whole = plan.end.as_ref().is_some_and(|end| !end.success);
    for pod in pods {
        let failed = has_failed(job, pod);
        let succeeded = pod.status.phase == "Succeeded";
        let awaited =
            || index(pod).and_then(|index| look.predecessors.get(&index)).is_some_and(|one| one.metadata.uid == pod.metadata.uid);
        let may_go = job.metadata.is_deleted() || plan.end.is_some() || succeeded || (failed && !awaited());
        if !may_go {
            continue;
        }
        release.push(Arc::clone(pod));
        let uid = &pod.metadata.uid;
        let valid = index(pod).filter(|index| *index < completions);
        let uncounted = &mut status.uncounted_terminated_pods;
        if succeeded && !uncounted.failed.contains(uid) {
            match valid.filter(|_| job.spec.is_indexed()) {
                Some(index) => done.insert(index),
                None if !job.spec.is_indexed() && !uncounted.succeeded.contains(uid) => uncounted.succeeded.push(uid.clone()),
                None => {}
            }
        } else if (failed || failed_as_a_whole)
            && !uncounted.failed.contains(uid)
            && (!job.spec.is_indexed() || valid.is_some())
            && judge(policy, pod) != Verdict::Ignore
        {
            uncounted.failed.push(uid.clone());
        }
        if uncounted.succeeded.len() + uncounted.failed.len() >= UNCOUNTED_MAX {
            break;
        }
    }
    if job.spec.is_indexed() {
        status.succeeded = done.len();
        status.completed_indexes = done.to_string();
        status.failed_indexes = look.given_up.as_ref().map(ToString::to_string);
    }
    release
}

/// Turns UIDs of pods that are not tracked any more into numbers.
pub fn settle(status: &mut JobStatus, is_tracked: impl Fn(&str) -> bool) {
    let uncounted = &mut status.uncounted_terminated_pods;
    for (list, count) in [(&mut uncounted.succeeded, &mut status.succeeded), (&mut uncounted.failed, &mut status.failed)] {
        let before = list.len();
        list.retain(|uid| is_tracked(uid));
        *count += i64::try_from(before - list.len()).unwrap_or(0);
    }
}

/// Ends the Job once nothing is uncounted and nothing is ending; says whether it did.
pub fn finish(status: &mut JobStatus, end: &End, now: Timestamp) -> bool {
    let uncounted = &status.uncounted_terminated_pods;
    if !uncounted.succeeded.is_empty() || !uncounted.failed.is_empty() || status.terminating.unwrap_or(0) > 0 {
        return false;
    }
    let (_, last) = end.conditions();
    put(&mut status.conditions, last, &end.reason, &end.message, now);
    if end.success {
        status.completion_time = Some(second(now));
    }
    true
}

/// The Suspended condition; says what it turned to, if it did.
fn turn(job: &Job, status: &mut JobStatus, now: Timestamp) -> Option<bool> {
    let before =
        status.conditions.iter().find(|condition| condition.r#type == "Suspended").map(|condition| condition.status == "True");
    let turned = match (job.spec.suspend, before) {
        (true, None | Some(false)) => true,
        (false, Some(true)) => false,
        _ => return None,
    };
    let (value, reason, message) =
        if turned { ("True", "JobSuspended", "Job suspended") } else { ("False", "JobResumed", "Job resumed") };
    put(&mut status.conditions, "Suspended", reason, message, now);
    if let Some(condition) = status.conditions.iter_mut().find(|condition| condition.r#type == "Suspended") {
        condition.status = value.to_owned();
    }
    status.start_time = (!turned).then(|| second(now));
    Some(turned)
}

fn put(conditions: &mut Vec<Condition>, kind: &str, reason: &str, message: &str, now: Timestamp) {
    conditions.retain(|condition| condition.r#type != kind);
    let now = Some(second(now));
    conditions.push(Condition {
        r#type: kind.to_owned(),
        status: "True".to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_probe_time: now,
        last_transition_time: now,
        ..Condition::default()
    });
}
