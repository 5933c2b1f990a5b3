//! Kinds of the group `batch`.

mod cron_job;
mod failure_policy;
mod job;
mod job_status;
mod schedule;

pub use cron_job::CRON_JOB;
pub use job::JOB;
