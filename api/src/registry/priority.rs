//! How much a group and its versions weigh in discovery: clients resolve a short name to the first group that has it,
//! and prefer the first version of a group.

/// Of a group and of a version within it; the higher one comes first.
pub type Priority = (i64, i64);

/// Of custom resources: low, and versions by their names alone.
pub const OF_CUSTOM: Priority = (1000, 100);
/// Of the group that APIServices themselves are in: before all others.
const OF_REGISTRATION: Priority = (i64::MAX, 15);

/// kube-apiserver's own.
const BUILT_IN: [(&str, &str, Priority); 22] = [
    ("", "v1", (18_000, 1)),
    ("apps", "v1", (17_800, 15)),
    ("events.k8s.io", "v1", (17_750, 15)),
    ("authentication.k8s.io", "v1", (17_700, 15)),
    ("authorization.k8s.io", "v1", (17_600, 15)),
    ("autoscaling", "v1", (17_500, 15)),
    ("autoscaling", "v2", (17_500, 30)),
    ("batch", "v1", (17_400, 15)),
    ("certificates.k8s.io", "v1", (17_300, 15)),
    ("networking.k8s.io", "v1", (17_200, 15)),
    ("policy", "v1", (17_100, 15)),
    ("rbac.authorization.k8s.io", "v1", (17_000, 15)),
    ("storage.k8s.io", "v1", (16_800, 15)),
    ("apiextensions.k8s.io", "v1", (16_700, 15)),
    ("admissionregistration.k8s.io", "v1", (16_700, 15)),
    ("scheduling.k8s.io", "v1", (16_600, 15)),
    ("coordination.k8s.io", "v1", (16_500, 15)),
    ("node.k8s.io", "v1", (16_300, 15)),
    ("discovery.k8s.io", "v1", (16_200, 15)),
    ("resource.k8s.io", "v1", (16_200, 21)),
    ("flowcontrol.apiserver.k8s.io", "v1", (16_100, 21)),
    ("apiregistration.k8s.io", "v1", OF_REGISTRATION),
];

/// The priority of a built-in group version.
#[must_use]
pub fn of_built_in(group: &str, version: &str) -> Option<Priority> {
    BUILT_IN.iter().find(|(known, own, _)| *known == group && *own == version).map(|(.., priority)| *priority)
}

/// The priority of any group version that this server serves.
#[must_use]
pub fn of_served(group: &str, version: &str) -> Priority {
    of_built_in(group, version).unwrap_or(OF_CUSTOM)
}
