//! When a CronJob starts a Job, and which of its Jobs go. Pure.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kontiki_client::events::EventType;

use super::{CronJob, CronJobStatus, schedule::Schedule};
use crate::job::Job;

/// Clocks differ a little: a start is looked for only after its time.
const MARGIN: Duration = Duration::from_millis(100);
/// More starts than this must not have been missed in silence.
const MISSED_MAX: i64 = 100;

/// Something to tell.
pub type Tale = (EventType, &'static str, String);

/// What to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The time for which a Job is started.
    pub start: Option<Timestamp>,
    /// Jobs that give way to it first.
    pub replace: Vec<Arc<Job>>,
    /// Jobs beyond what history keeps.
    pub forget: Vec<Arc<Job>>,
    /// The status, before a Job is started.
    pub status: CronJobStatus,
    /// What to tell.
    pub tales: Vec<Tale>,
    /// When to look again without news.
    pub again: Option<Duration>,
}

/// The last time that is due, how many were, and from when they were counted.
struct Due {
    earliest: Timestamp,
    last: Option<Timestamp>,
    missed: i64,
}

fn due(job: &CronJob, schedule: &Schedule, now: Timestamp, within_deadline: bool) -> Result<Due, String> {
    let mut earliest = job.status.last_schedule_time.or(job.metadata.creation_timestamp).unwrap_or(now);
    if let Some(seconds) = job.spec.starting_deadline_seconds.filter(|_| within_deadline) {
        earliest = earliest.max(now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(now));
    }
    let Some(first) = schedule.next(earliest) else {
        return Err("time difference between two schedules is less than 1 second".to_owned());
    };
    if first > now {
        return Ok(Due { earliest, last: None, missed: 0 });
    }
    let second = schedule.next(first).unwrap_or(Timestamp::MAX);
    if second > now {
        return Ok(Due { earliest, last: Some(first), missed: 0 });
    }
    // Counting every missed minute of a year would take too long: estimate, and go on from shortly before now.
    let between = (second.as_second() - first.as_second()).max(1);
    let missed = (now.as_second() - first.as_second()) / between + 1;
    let shortly = first.checked_add(SignedDuration::from_secs((missed - 2) * between)).unwrap_or(first);
    let times = std::iter::successors(schedule.next(shortly), |at| schedule.next(*at));
    let last = times.take_while(|at| *at <= now).last();
    Ok(Due { earliest, last, missed })
}

fn until_next(job: &CronJob, schedule: &Schedule, now: Timestamp) -> Option<Duration> {
    let from = match due(job, schedule, now, false) {
        Ok(Due { last: Some(last), .. }) => last,
        Ok(Due { earliest, missed: 0, .. }) => earliest,
        Ok(_) | Err(_) => now,
    };
    let next = schedule.next(from)?;
    Some(Duration::try_from(next.duration_since(now)).unwrap_or_default() + MARGIN)
}

/// Name of the Job for a time: the same for the same time, so that it is made once.
pub fn job_name(name: &str, at: Timestamp) -> String {
    format!("{name}-{}", at.as_second().div_euclid(60))
}

/// Decides. `jobs` are its own.
pub fn plan(job: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let mut plan = Plan { status: job.status.clone(), ..Plan::default() };
    look_back(jobs, &mut plan);
    plan.forget = surplus(job, jobs);
    if job.metadata.is_deleted() || job.spec.suspend {
        return plan;
    }
    let warn = |plan: &mut Plan, reason, message| plan.tales.push((EventType::Warning, reason, message));
    let text = &job.spec.schedule;
    if let Some(zone) = &job.spec.time_zone
        && let Err(error) = Schedule::parse("@daily", Some(zone))
    {
        warn(&mut plan, "UnknownTimeZone", format!("invalid timeZone: {zone:?}: {error}"));
        return plan;
    }
    if text.contains("TZ") {
        let words = format!(
            "CRON_TZ or TZ used in schedule {text:?} is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
        );
        warn(&mut plan, "UnsupportedSchedule", words);
    }
    let schedule = match Schedule::parse(text, job.spec.time_zone.as_deref()) {
        Ok(schedule) => schedule,
        Err(error) => {
            warn(&mut plan, "UnparseableSchedule", format!("unparseable schedule: {text:?} : {error}"));
            return plan;
        }
    };
    let due = match due(job, &schedule, now, true) {
        Ok(due) => due,
        Err(error) => {
            warn(&mut plan, "InvalidSchedule", format!("invalid schedule: {text} : {error}"));
            return plan;
        }
    };
    plan.again = until_next(job, &schedule, now);
    let Some(at) = due.last else { return plan };
    if due.missed > MISSED_MAX {
        let words = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        warn(&mut plan, "TooManyMissedTimes", words.to_owned());
    }
    let late = job.spec.starting_deadline_seconds.is_some_and(|seconds| at.as_second() + seconds < now.as_second());
    if late {
        let words = format!("Missed scheduled time to start a job: {}", at.strftime("%a, %d %b %Y %H:%M:%S UTC"));
        warn(&mut plan, "MissSchedule", words);
        return plan;
    }
    let name = job_name(&job.metadata.name, at);
    if plan.status.active.iter().any(|active| active.name == name) || plan.status.last_schedule_time == Some(at) {
        return plan;
    }
    match job.spec.concurrency_policy.as_str() {
        "Forbid" if !plan.status.active.is_empty() => {
            let words = "Not starting job because prior execution is running and concurrency policy is Forbid".to_owned();
            plan.tales.push((EventType::Normal, "JobAlreadyActive", words));
            return plan;
        }
        "Replace" => {
            let active = |job: &&Arc<Job>| plan.status.active.iter().any(|one| one.uid == job.metadata.uid);
            plan.replace = jobs.iter().filter(active).cloned().collect();
        }
        _ => {}
    }
    plan.start = Some(at);
    plan
}

/// Takes what has ended, or is gone, off the list of what is active.
fn look_back(jobs: &[Arc<Job>], plan: &mut Plan) {
    for job in jobs {
        let meta = &job.metadata;
        let listed = plan.status.active.iter().any(|active| active.uid == meta.uid);
        let Some(end) = job.ended() else {
            if !listed {
                let words = format!("Saw a job that the controller did not create or forgot: {}", meta.name);
                plan.tales.push((EventType::Warning, "UnexpectedJob", words));
            }
            continue;
        };
        if listed {
            plan.status.active.retain(|active| active.uid != meta.uid);
            let words = format!("Saw completed job: {}, condition: {}", meta.name, end.r#type);
            plan.tales.push((EventType::Normal, "SawCompletedJob", words));
        }
        if end.r#type == "Complete" {
            plan.status.last_successful_time = plan.status.last_successful_time.max(job.status.completion_time);
        }
    }
    let missing: Vec<_> =
        plan.status.active.iter().filter(|active| !jobs.iter().any(|job| job.metadata.uid == active.uid)).cloned().collect();
    for active in missing {
        plan.status.active.retain(|one| one.uid != active.uid);
        plan.tales.push((EventType::Normal, "MissingJob", format!("Active job went missing: {}", active.name)));
    }
}

fn surplus(job: &CronJob, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let mut gone = Vec::new();
    for (kind, limit) in [("Complete", job.spec.successful_jobs_history_limit), ("Failed", job.spec.failed_jobs_history_limit)] {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
        let ended = |job: &&Arc<Job>| job.ended().is_some_and(|end| end.r#type == kind) && !job.metadata.is_deleted();
        let mut ended: Vec<_> = jobs.iter().filter(ended).cloned().collect();
        ended.sort_by_key(|job| (job.status.start_time.is_none(), job.status.start_time, job.metadata.name.clone()));
        let count = ended.len().saturating_sub(limit);
        gone.extend(ended.into_iter().take(count));
    }
    gone
}
