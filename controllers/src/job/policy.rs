//! What a Job's policies say of pods that failed and indexes that succeeded. Pure.

use serde::Deserialize;

use super::{Job, indexes::Indexes};
use crate::model::{ContainerStatus, Pod};

/// What to do about failures.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct FailurePolicy {
    /// Rules, of which the first that matches decides.
    pub rules: Vec<FailureRule>,
}

/// A rule about failures.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FailureRule {
    /// `FailJob`, `FailIndex`, `Ignore` or `Count`.
    pub action: String,
    /// Exit codes that it is about.
    pub on_exit_codes: Option<ExitCodes>,
    /// Conditions that it is about.
    pub on_pod_conditions: Vec<ConditionPattern>,
}

/// Exit codes of containers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExitCodes {
    /// Container; all where absent.
    pub container_name: Option<String>,
    /// `In` or `NotIn`.
    pub operator: String,
    /// The codes.
    pub values: Vec<i64>,
}

/// A condition of a pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ConditionPattern {
    /// Type.
    pub r#type: String,
    /// Status.
    pub status: String,
}

/// When a Job is done early.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SuccessPolicy {
    /// Rules, of which one has to hold.
    pub rules: Vec<SuccessRule>,
}

/// A rule about success.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SuccessRule {
    /// Indexes that it is about; all where absent.
    pub succeeded_indexes: Option<String>,
    /// How many of them; all where absent.
    pub succeeded_count: Option<i64>,
}

/// What the policy makes of a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts.
    Count,
    /// It does not count.
    Ignore,
    /// It counts, and its index has failed.
    FailIndex,
    /// It counts, and the Job has failed: for this reason.
    FailJob(String),
}

impl ExitCodes {
    fn find<'a>(&self, pod: &'a Pod) -> Option<(&'a ContainerStatus, i64)> {
        let statuses = pod.status.container_statuses.iter().chain(&pod.status.init_container_statuses);
        let named = statuses.filter(|status| self.container_name.as_ref().is_none_or(|name| *name == status.name));
        let ended = named.filter_map(|status| Some((status, status.state.terminated.as_ref()?.exit_code)));
        let holds = |code: i64| match self.operator.as_str() {
            "In" => self.values.contains(&code),
            "NotIn" => !self.values.contains(&code),
            _ => false,
        };
        let mut matching = ended.filter(|(_, code)| *code != 0 && holds(*code));
        matching.next()
    }
}

/// Judges a failed pod.
pub fn judge(policy: Option<&FailurePolicy>, pod: &Pod) -> Verdict {
    let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
    for (index, rule) in policy.into_iter().flat_map(|policy| &policy.rules).enumerate() {
        let action = &rule.action;
        let words = if let Some(codes) = &rule.on_exit_codes {
            codes.find(pod).map(|(container, code)| {
                let container = &container.name;
                format!("Container {container} for pod {namespace}/{name} failed with exit code {code} matching {action} rule at index {index}")
            })
        } else {
            let holds =
                |kind: &str, status: &str| rule.on_pod_conditions.iter().any(|one| one.r#type == kind && one.status == status);
            let found = pod.status.conditions.iter().find(|condition| holds(&condition.r#type, &condition.status));
            found.map(|condition| {
                format!("Pod {namespace}/{name} has condition {} matching {action} rule at index {index}", condition.r#type)
            })
        };
        let Some(words) = words else { continue };
        return match action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(words),
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

/// The rule by which enough indexes have succeeded.
pub fn success(job: &Job, completions: i64, succeeded: &Indexes) -> Option<usize> {
    let policy = job.spec.success_policy.as_ref().filter(|_| !succeeded.is_empty())?;
    policy.rules.iter().position(|rule| {
        let Some(indexes) = &rule.succeeded_indexes else {
            return rule.succeeded_count.is_some_and(|count| succeeded.len() >= count);
        };
        let wanted = Indexes::parse(indexes, completions);
        let common = wanted.common(succeeded);
        !wanted.is_empty() && (common == wanted.len() || rule.succeeded_count.is_some_and(|count| common >= count))
    })
}
