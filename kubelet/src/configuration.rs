//! What a `KubeletConfiguration` file sets. Pure.
//!
//! In: the file's text, in Kubernetes' own format. Out: typed values, Kubernetes' defaults where the file says nothing. A
//! field that this kubelet does not obey is refused by its name: a setting silently without effect is worse than none.
//! Values that make no sense are told together.
//! <https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/>

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use jiff::SignedDuration;
use kontiki_api::quantity::Quantity;
use serde::Deserialize;

use crate::{
    eviction::{
        self,
        thresholds::{self, Thresholds},
    },
    images::collect,
    log_rotation::Policy,
    shutdown::Period,
};

/// Version and kind that a file may say it has.
const TYPE: (&str, &str) = ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration");

/// What the kubelet is set to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// When a container's log goes on in a new file.
    pub logs: Policy,
    /// How often logs are looked at.
    pub logs_period: Duration,
    /// Whether containers that do not say otherwise run under the runtime's own seccomp profile.
    pub seccomp_default: bool,
    /// Folder of static pods.
    pub static_pods: Option<PathBuf>,
    /// When pods must go for the node's sake.
    pub eviction: eviction::Policy,
    /// When unused images must go.
    pub images: collect::Policy,
    /// Time for pods when the machine goes down, lowest priority first; empty where pods end with the machine.
    pub shutdown: Vec<Period>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            logs: Policy { bytes_max: Some(10 << 20), files_max: 5 },
            logs_period: Duration::from_secs(10),
            seccomp_default: false,
            static_pods: None,
            eviction: eviction::Policy { hard: default_thresholds(), transition: Duration::from_secs(300) },
            images: collect::Policy { high: 85, low: 80, age_min: Duration::from_secs(120) },
            shutdown: Vec::new(),
        }
    }
}

/// Why a file is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no such file at all.
    #[error("this is no KubeletConfiguration that is understood here")]
    Format(#[source] serde_norway::Error),
    /// Values make no sense.
    #[error("{}", .0.join("; "))]
    Values(Vec<String>),
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct File {
    api_version: Option<String>,
    kind: Option<String>,
    container_log_max_size: Option<String>,
    container_log_max_files: Option<i64>,
    container_log_monitor_interval: Option<String>,
    seccomp_default: Option<bool>,
    static_pod_path: Option<PathBuf>,
    eviction_hard: Option<BTreeMap<String, String>>,
    merge_default_eviction_settings: bool,
    eviction_pressure_transition_period: Option<String>,
    #[serde(rename = "imageGCHighThresholdPercent")]
    image_gc_high_threshold_percent: Option<u8>,
    #[serde(rename = "imageGCLowThresholdPercent")]
    image_gc_low_threshold_percent: Option<u8>,
    #[serde(rename = "imageMinimumGCAge")]
    image_minimum_gc_age: Option<String>,
    shutdown_grace_period: Option<String>,
    shutdown_grace_period_critical_pods: Option<String>,
    shutdown_grace_period_by_pod_priority: Vec<ByPriority>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ByPriority {
    priority: i32,
    shutdown_grace_period_seconds: u64,
}

/// Mistakes, collected while values are read.
#[derive(Default)]
struct Mistakes(Vec<String>);

impl Mistakes {
    fn add(&mut self, field: &str, value: impl std::fmt::Debug, why: &str) {
        self.0.push(format!("{field} {value:?}: {why}"));
    }

    /// A span as Go writes it, such as `1m30s`.
    fn duration(&mut self, field: &str, text: &str) -> Option<Duration> {
        if text == "0" {
            return Some(Duration::ZERO);
        }
        let parsed = text.parse::<SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
        if parsed.is_none() {
            self.add(field, text, "a duration is a number with a unit, such as 30s");
        }
        parsed
    }
}

impl Configuration {
    /// Reads a file's text; an empty one sets nothing.
    pub fn parse(text: &str) -> Result<Self, Error> {
        // To YAML an empty document is null.
        let file: Option<File> = serde_norway::from_str(text).map_err(Error::Format)?;
        let mut mistakes = Mistakes::default();
        let read = Self::default().with(file.unwrap_or_default(), &mut mistakes);
        if mistakes.0.is_empty() { Ok(read) } else { Err(Error::Values(mistakes.0)) }
    }

    fn with(mut self, file: File, mistakes: &mut Mistakes) -> Self {
        for (field, said, known) in [("apiVersion", &file.api_version, TYPE.0), ("kind", &file.kind, TYPE.1)] {
            if let Some(said) = said.as_ref().filter(|said| *said != known) {
                mistakes.add(field, said, &format!("only {known} is known"));
            }
        }
        if let Some(size) = &file.container_log_max_size {
            match size.parse::<Quantity>() {
                // As Kubernetes has it, a negative size is none.
                Ok(size) => self.logs.bytes_max = u64::try_from(size.whole()).ok(),
                Err(_) => mistakes.add("containerLogMaxSize", size, "not a quantity"),
            }
        }
        if let Some(files) = file.container_log_max_files {
            match usize::try_from(files) {
                Ok(files) if files > 1 => self.logs.files_max = files,
                _ => mistakes.add("containerLogMaxFiles", files, "must be greater than 1"),
            }
        }
        if let Some(period) = &file.container_log_monitor_interval {
            match mistakes.duration("containerLogMonitorInterval", period) {
                Some(period) if period < Duration::from_secs(3) => {
                    mistakes.add("containerLogMonitorInterval", period, "must be at least 3 seconds");
                }
                Some(period) => self.logs_period = period,
                None => {}
            }
        }
        self.seccomp_default = file.seccomp_default.unwrap_or(self.seccomp_default);
        self.static_pods = file.static_pod_path.clone().filter(|path| !path.as_os_str().is_empty());
        self.read_eviction(&file, mistakes);
        self.read_images(&file, mistakes);
        self.shutdown = shutdown(&file, mistakes);
        self
    }

    /// As Kubernetes has it, the thresholds of a file are all there are, unless it wants the defaults beside them.
    fn read_eviction(&mut self, file: &File, mistakes: &mut Mistakes) {
        if let Some(hard) = &file.eviction_hard {
            let mut wanted = if file.merge_default_eviction_settings { default_thresholds() } else { Thresholds::new() };
            for (name, text) in hard {
                match thresholds::parse(name, text) {
                    Ok((signal, Some(least))) => drop(wanted.insert(signal, least)),
                    Ok((signal, None)) => drop(wanted.remove(&signal)),
                    Err(why) => mistakes.add(&format!("evictionHard[{name}]"), text, &why),
                }
            }
            self.eviction.hard = wanted;
        }
        if let Some(period) = &file.eviction_pressure_transition_period {
            let period = mistakes.duration("evictionPressureTransitionPeriod", period);
            self.eviction.transition = period.unwrap_or(self.eviction.transition);
        }
    }

    fn read_images(&mut self, file: &File, mistakes: &mut Mistakes) {
        self.images.high = file.image_gc_high_threshold_percent.unwrap_or(self.images.high);
        self.images.low = file.image_gc_low_threshold_percent.unwrap_or(self.images.low);
        if self.images.high > 100 {
            mistakes.add("imageGCHighThresholdPercent", self.images.high, "must be between 0 and 100");
        }
        if self.images.low >= self.images.high {
            mistakes.add("imageGCLowThresholdPercent", self.images.low, "must be less than imageGCHighThresholdPercent");
        }
        if let Some(age) = &file.image_minimum_gc_age {
            self.images.age_min = mistakes.duration("imageMinimumGCAge", age).unwrap_or(self.images.age_min);
        }
    }
}

fn default_thresholds() -> Thresholds {
    let one = |(name, text): &(&str, &str)| thresholds::parse(name, text).ok();
    thresholds::DEFAULTS.iter().filter_map(one).filter_map(|(signal, least)| Some((signal, least?))).collect()
}

fn shutdown(file: &File, mistakes: &mut Mistakes) -> Vec<Period> {
    let mut duration =
        |field, text: &Option<String>| text.as_ref().and_then(|text| mistakes.duration(field, text)).unwrap_or_default();
    let all = duration("shutdownGracePeriod", &file.shutdown_grace_period);
    let critical = duration("shutdownGracePeriodCriticalPods", &file.shutdown_grace_period_critical_pods);
    if critical > all {
        mistakes.add("shutdownGracePeriodCriticalPods", critical, "must be at most shutdownGracePeriod");
    }
    let by_priority = &file.shutdown_grace_period_by_pod_priority;
    let is_set = !all.is_zero() || !critical.is_zero();
    if is_set && !by_priority.is_empty() {
        mistakes.add("shutdownGracePeriodByPodPriority", by_priority.len(), "cannot be set along with shutdownGracePeriod");
    }
    if by_priority.is_empty() {
        return crate::shutdown::periods(all, critical);
    }
    let period =
        |one: &ByPriority| Period { priority: one.priority, grace: Duration::from_secs(one.shutdown_grace_period_seconds) };
    let mut periods: Vec<Period> = by_priority.iter().map(period).collect();
    periods.sort_by_key(|period| period.priority);
    periods
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> String {
        Configuration::parse(text).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_file_that_says_nothing_leaves_the_defaults() {
        for text in ["", "{}", "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"] {
            assert_eq!(Configuration::parse(text).ok(), Some(Configuration::default()), "{text}");
        }
    }

    #[test]
    fn values_are_read() {
        let text = "containerLogMaxSize: 1Mi\ncontainerLogMaxFiles: 3\ncontainerLogMonitorInterval: 1m30s\nseccompDefault: true\n\
                    shutdownGracePeriod: 30s\nshutdownGracePeriodCriticalPods: 10s\n";
        let read = Configuration::parse(text).unwrap_or_default();
        assert_eq!(read.logs, Policy { bytes_max: Some(1 << 20), files_max: 3 });
        assert_eq!(read.logs_period, Duration::from_secs(90));
        assert!(read.seccomp_default);
        let graces: Vec<_> = read.shutdown.iter().map(|period| period.grace.as_secs()).collect();
        assert_eq!(graces, [20, 10]);
        let never = Configuration::parse("containerLogMaxSize: \"-1\"").unwrap_or_default();
        assert_eq!(never.logs.bytes_max, None);
    }

    #[test]
    fn thresholds_of_a_file_are_all_there_are() {
        let hard = |text: &str| Configuration::parse(text).unwrap_or_default().eviction.hard;
        assert_eq!(hard("").len(), 5);
        assert_eq!(hard("evictionHard: {memory.available: 1Gi, nodefs.available: 0%}").len(), 1);
        let merged = hard("mergeDefaultEvictionSettings: true\nevictionHard: {memory.available: 1Gi, nodefs.available: 0%}");
        assert_eq!((merged.len(), merged.get(&thresholds::Signal::Memory)), (4, Some(&thresholds::Least::Amount(1 << 30))));
        assert!(mistakes("evictionHard: {memory.available: lots}").contains("evictionHard[memory.available] \"lots\""));
        assert!(mistakes("imageGCHighThresholdPercent: 70").contains("imageGCLowThresholdPercent"));
    }

    #[test]
    fn priorities_are_sorted() {
        let text = "shutdownGracePeriodByPodPriority:\n- {priority: 100, shutdownGracePeriodSeconds: 1}\n\
                    - {priority: 0, shutdownGracePeriodSeconds: 2}\n";
        let read = Configuration::parse(text).unwrap_or_default();
        assert_eq!(read.shutdown.iter().map(|period| period.priority).collect::<Vec<_>>(), [0, 100]);
    }

    #[test]
    fn mistakes_are_told_together_and_unknown_fields_by_name() {
        let told = mistakes("containerLogMaxSize: much\ncontainerLogMaxFiles: 1\nshutdownGracePeriod: soon\nkind: Pod");
        for part in ["containerLogMaxSize \"much\"", "containerLogMaxFiles 1", "shutdownGracePeriod \"soon\"", "kind \"Pod\""] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(mistakes("shutdownGracePeriod: 5s\nshutdownGracePeriodCriticalPods: 6s").contains("at most"));
        let unknown = Configuration::parse("topologyManagerPolicy: restricted").map_err(|error| format!("{:?}", error)).err();
        assert!(unknown.is_some_and(|error| error.contains("topologyManagerPolicy")));
    }
}
