//! Levels and versions, and which checks they have.

use std::fmt;

use kontiki_api::{field::FieldError, object::meta};
use serde_json::{Value, json};

use super::{
    baseline,
    pod::{Finding, Pod},
    restricted,
};

/// How strict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Anything goes.
    #[default]
    Privileged,
    /// Nothing that is known to reach the node.
    Baseline,
    /// Hardened.
    Restricted,
}

/// A level as some minor version of Kubernetes has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelVersion {
    level: Level,
    /// `None`: the latest.
    minor: Option<u32>,
}

impl LevelVersion {
    /// Whether this level refuses more than another, or may.
    pub fn is_stricter(self, other: Self) -> bool {
        self.level > Level::Privileged && (self.level >= other.level || self.minor != other.minor)
    }

    /// Whether it has what came with that minor version.
    fn has(self, minor: u32) -> bool {
        self.minor.is_none_or(|own| own >= minor)
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.minor {
            None => write!(formatter, "{level}:latest"),
            Some(minor) => write!(formatter, "{level}:v1.{minor}"),
        }
    }
}

/// What a namespace's labels say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub enforce: LevelVersion,
    pub audit: LevelVersion,
    pub warn: LevelVersion,
}

impl Policy {
    /// Reads the labels of a namespace; what is wrong with them counts as the strictest.
    pub fn of(namespace: &Value) -> (Self, Vec<FieldError>) {
        let mut errors = Vec::new();
        let mut mode = |mode: &str| {
            let mut found = LevelVersion::default();
            let key = format!("pod-security.kubernetes.io/{mode}");
            if let Some(text) = meta::label(namespace, &key) {
                found.level = level(text).unwrap_or_else(|| {
                    errors.push(wrong(&key, text, "must be one of privileged, baseline, restricted"));
                    // What is enforced wrongly is as strict as can be; what is noted wrongly is not noted.
                    if mode == "enforce" { Level::Restricted } else { Level::Privileged }
                });
            }
            let key = format!("{key}-version");
            if let Some(text) = meta::label(namespace, &key) {
                found.minor = minor(text).unwrap_or_else(|| {
                    errors.push(wrong(&key, text, "must be \"latest\" or \"v1.x\""));
                    None
                });
            }
            found
        };
        let policy = Self { enforce: mode("enforce"), audit: mode("audit"), warn: mode("warn") };
        (policy, errors)
    }

    /// Whether nothing is looked at.
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|mode| mode.level == Level::Privileged)
    }
}

fn wrong(key: &str, value: &str, why: &str) -> FieldError {
    FieldError::invalid(format!("metadata.labels[{key}]"), &json!(value), why)
}

fn level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

/// The minor of `v1.25`; `Some(None)` for the latest.
fn minor(text: &str) -> Option<Option<u32>> {
    if text == "latest" {
        return Some(None);
    }
    let digits = text.strip_prefix("v1.")?;
    let plain =
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if plain { digits.parse().ok().map(Some) } else { None }
}

/// What a pod breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violations(Vec<Finding>);

impl Violations {
    /// Each reason with its details.
    pub fn details(&self) -> String {
        let texts = self.0.iter().map(|finding| format!("{} ({})", finding.reason, finding.detail));
        texts.collect::<Vec<_>>().join(", ")
    }

    /// The reasons alone.
    pub fn reasons(&self) -> String {
        self.0.iter().map(|finding| finding.reason.clone()).collect::<Vec<_>>().join(", ")
    }
}

/// What a pod breaks of a level, checks in the order of their names; `None` if nothing.
pub fn evaluate(policy: LevelVersion, pod: &Pod<'_>) -> Option<Violations> {
    let has = |minor| policy.has(minor);
    let baseline = policy.level >= Level::Baseline;
    let restricted = policy.level == Level::Restricted;
    let windows = has(25) && pod.is_windows();
    // Root of a user namespace of its own is not root of the node.
    let mapped = has(35) && pod.has_own_users();
    let when = |condition: bool, check: fn(&Pod<'_>) -> Option<Finding>| if condition { check(pod) } else { None };
    let hardened_capabilities = restricted && has(22);
    let hardened_seccomp = restricted && has(19);
    let findings = [
        when(restricted && has(8) && !windows, restricted::privilege_escalation),
        when(baseline, baseline::app_armor),
        when(baseline && !hardened_capabilities, baseline::capabilities),
        when(hardened_capabilities && !windows, restricted::capabilities),
        when(baseline, baseline::host_namespaces),
        when(baseline && !restricted, baseline::host_paths),
        when(baseline, baseline::host_ports),
        when(baseline && has(34), baseline::probe_hosts),
        when(baseline, baseline::privileged),
        when(baseline && (restricted || !mapped), baseline::proc_mount),
        when(restricted, restricted::volumes),
        when(restricted && !mapped, restricted::run_as_non_root),
        when(restricted && has(23) && !mapped, restricted::run_as_user),
        if baseline { baseline::selinux(pod, has(31)) } else { None },
        when(baseline && !hardened_seccomp && !has(19), baseline::seccomp_annotations),
        when(baseline && !hardened_seccomp && has(19), baseline::seccomp),
        when(hardened_seccomp && !windows, restricted::seccomp),
        if baseline { baseline::sysctls(pod, has) } else { None },
        when(baseline, baseline::host_process),
    ];
    let findings: Vec<Finding> = findings.into_iter().flatten().collect();
    (!findings.is_empty()).then_some(Violations(findings))
}
