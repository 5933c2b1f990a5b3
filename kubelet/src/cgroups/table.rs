//! Which file gets which value: one table for cgroup v1, one for v2.
//!
//! In: limits. Out: settings, in the order to write them. Pure.

use crate::runtime::Resources;

/// Version of the kernel's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy.
    V2,
}

/// One value for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Controller whose file it is.
    pub controller: &'static str,
    /// Name of the file.
    pub file: &'static str,
    /// What to write.
    pub value: String,
}

/// Period of the CPU quota where none is given, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// Devices that any container may use, as v1's device controller spells them: make any node, use only these
/// (null, zero, full, random, urandom, tty, console, ptmx, pts).
const DEVICES: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// Settings for limits.
pub fn limits(version: Version, resources: &Resources) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut set = |controller, file, value: String| settings.push(Setting { controller, file, value });
    match version {
        Version::V1 => {
            if let Some(shares) = resources.cpu_shares {
                set("cpu", "cpu.shares", shares.max(2).to_string());
            }
            if let Some(quota) = resources.cpu_quota {
                set("cpu", "cpu.cfs_period_us", resources.cpu_period.unwrap_or(CPU_PERIOD).to_string());
                set("cpu", "cpu.cfs_quota_us", quota.to_string());
            }
            if let Some(limit) = resources.memory_limit {
                set("memory", "memory.limit_in_bytes", limit.to_string());
            }
            if let Some(limit) = resources.pids_limit {
                set("pids", "pids.max", count(limit));
            }
        }
        Version::V2 => {
            if let Some(shares) = resources.cpu_shares {
                set("cpu", "cpu.weight", weight(shares).to_string());
            }
            if let Some(quota) = resources.cpu_quota {
                let period = resources.cpu_period.unwrap_or(CPU_PERIOD);
                set("cpu", "cpu.max", format!("{} {period}", count(quota)));
            }
            if let Some(limit) = resources.memory_limit {
                set("memory", "memory.max", count(limit));
            }
            if let Some(limit) = resources.pids_limit {
                set("pids", "pids.max", count(limit));
            }
        }
    }
    settings
}

/// Settings that replace those of a group that runs: what has no limit any more is said so.
pub fn update(version: Version, resources: &Resources) -> Vec<Setting> {
    let resources = Resources {
        cpu_quota: Some(resources.cpu_quota.unwrap_or(-1)),
        memory_limit: Some(resources.memory_limit.unwrap_or(-1)),
        pids_limit: None,
        ..resources.clone()
    };
    limits(version, &resources)
}

/// Settings of a container beside its limits: devices under v1; under v2 it dies as a whole for want of memory.
pub fn container(version: Version, privileged: bool) -> Vec<Setting> {
    match version {
        Version::V1 if privileged => Vec::new(),
        Version::V1 => {
            let deny = Setting { controller: "devices", file: "devices.deny", value: "a".to_owned() };
            let allow = |device: &&str| Setting { controller: "devices", file: "devices.allow", value: (*device).to_owned() };
            std::iter::once(deny).chain(DEVICES.iter().map(allow)).collect()
        }
        Version::V2 => vec![Setting { controller: "memory", file: "memory.oom.group", value: "1".to_owned() }],
    }
}

/// v1's shares (2 to 262144) on v2's scale (1 to 10000).
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// A count, or `max` where there is no limit.
fn count(value: i64) -> String {
    if value <= 0 { "max".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: Version, resources: &Resources, expected: &[&str]) {
        let lines: Vec<String> = limits(version, resources)
            .into_iter()
            .map(|setting| format!("{}/{} = {}", setting.controller, setting.file, setting.value))
            .collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn limits_of_a_pod_in_both_versions() {
        let resources = Resources {
            cpu_shares: Some(512),
            cpu_quota: Some(50_000),
            cpu_period: Some(100_000),
            memory_limit: Some(536_870_912),
            oom_score_adj: Some(100),
            pids_limit: Some(-1),
        };
        check(
            Version::V1,
            &resources,
            &[
                "cpu/cpu.shares = 512",
                "cpu/cpu.cfs_period_us = 100000",
                "cpu/cpu.cfs_quota_us = 50000",
                "memory/memory.limit_in_bytes = 536870912",
                "pids/pids.max = max",
            ],
        );
        check(
            Version::V2,
            &resources,
            &["cpu/cpu.weight = 20", "cpu/cpu.max = 50000 100000", "memory/memory.max = 536870912", "pids/pids.max = max"],
        );
    }

    #[test]
    fn no_limits_no_settings() {
        check(Version::V1, &Resources::default(), &[]);
        check(Version::V2, &Resources::default(), &[]);
    }

    #[test]
    fn no_quota_is_said_in_each_version() {
        let resources = Resources { cpu_quota: Some(-1), ..Resources::default() };
        check(Version::V1, &resources, &["cpu/cpu.cfs_period_us = 100000", "cpu/cpu.cfs_quota_us = -1"]);
        check(Version::V2, &resources, &["cpu/cpu.max = max 100000"]);
    }

    #[test]
    fn an_update_takes_limits_away_as_well() {
        let lines = |version| {
            let settings = update(version, &Resources { cpu_shares: Some(25), ..Resources::default() });
            settings.into_iter().map(|setting| format!("{} = {}", setting.file, setting.value)).collect::<Vec<_>>()
        };
        let v1 = ["cpu.shares = 25", "cpu.cfs_period_us = 100000", "cpu.cfs_quota_us = -1", "memory.limit_in_bytes = -1"];
        assert_eq!(lines(Version::V1), v1);
        assert_eq!(lines(Version::V2), ["cpu.weight = 1", "cpu.max = max 100000", "memory.max = max"]);
    }

    #[test]
    fn shares_keep_their_order_as_weights() {
        assert_eq!([2, 1024, 262_144].map(weight), [1, 39, 10_000]);
    }

    #[test]
    fn a_plain_container_gets_few_devices() {
        assert_eq!(container(Version::V1, false)[0].value, "a");
        assert!(container(Version::V1, true).is_empty());
    }
}
