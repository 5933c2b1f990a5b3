//! Puts into words what was seen of a cluster in trouble, and judges it; pure.

use std::{collections::BTreeSet, time::Duration};

use super::load::{Asked, Write};
use crate::{
    local::diagnosis::{Observed, Process, Told},
    shape::Role,
};

const fn words(process: Process) -> &'static str {
    match process {
        Process::Running => "runs again",
        Process::Stopped => "is stopped",
        Process::Paused => "stands still",
        Process::Down => "does not run",
    }
}

/// What is different from a moment ago, a line each.
#[must_use]
pub fn changes(before: &Observed, now: &Observed) -> Vec<String> {
    let mut lines = Vec::new();
    for one in &now.nodes {
        let Some(old) = before.nodes.iter().find(|old| old.node.name == one.node.name) else { continue };
        let name = &one.node.name;
        if one.process != old.process {
            lines.push(format!("{name} {}", words(one.process)));
        }
        if one.api_ready != old.api_ready && one.node.role == Role::Server {
            lines.push(format!("{name}: the API is {}", if one.api_ready { "ready again" } else { "not ready" }));
        }
    }
    if now.told.is_none() != before.told.is_none() {
        lines.push(if now.told.is_none() { "no API server tells anything" } else { "the API tells again" }.to_owned());
    }
    if let (Some(before), Some(now)) = (&before.told, &now.told) {
        lines.extend(told_changes(before, now));
    }
    lines
}

fn told_changes(before: &Told, now: &Told) -> Vec<String> {
    let mut lines = Vec::new();
    for node in &now.nodes {
        let was_ready = before.nodes.iter().any(|old| old.name == node.name && old.ready);
        if node.ready != was_ready {
            lines.push(format!("{} is {}", node.name, if node.ready { "Ready again" } else { "NotReady" }));
        }
    }
    if now.unready != before.unready {
        lines.push(if now.unready == 0 {
            "all pods are ready again".to_owned()
        } else {
            format!("{} pods are not ready", now.unready)
        });
    }
    lines
}

/// Whether a cluster is as it was before the trouble, pods included.
#[must_use]
pub fn is_as_before(before: &Observed, now: &Observed) -> bool {
    let runs = now.nodes.iter().all(|one| one.process == Process::Running && (one.api_ready || one.node.role == Role::Agent));
    let (Some(was), Some(told)) = (&before.told, &now.told) else { return false };
    let is_ready = |name: &str| told.nodes.iter().any(|node| node.name == name && node.ready);
    let all_ready = was.nodes.iter().all(|node| is_ready(&node.name));
    runs && now.supervised && all_ready && told.unready <= was.unready && told.troubles.len() <= was.troubles.len()
}

/// The longest time between two acknowledgements from `began` to `ended`.
#[must_use]
pub fn longest_silence(writes: &[Write], began: Duration, ended: Duration) -> Duration {
    let within = writes.iter().map(|write| write.at).filter(|at| (began..=ended).contains(at));
    let mut times: Vec<Duration> = within.chain([began, ended]).collect();
    times.sort_unstable();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// Objects whose creation was acknowledged and that are not there.
#[must_use]
pub fn lost<'a>(writes: &'a [Write], there: &BTreeSet<String>) -> Vec<&'a str> {
    writes.iter().map(|write| write.name.as_str()).filter(|name| !there.contains(*name)).collect()
}

/// What became of the requests to one address.
#[must_use]
pub fn answers(asked: &Asked) -> String {
    let (Some(first), Some(last)) = (asked.failures.first(), asked.failures.last()) else {
        return format!("{}: all of {} requests were answered", asked.address, asked.requests);
    };
    let (from, to) = (first.0.as_secs_f64(), last.0.as_secs_f64());
    let (failed, of) = (asked.failures.len(), asked.requests);
    format!("{}: {failed} of {of} requests failed, from {from:.1} s to {to:.1} s, the last: {}", asked.address, last.1)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{
        local::diagnosis::{NodeState, PodTrouble, Seen},
        shape::Node,
    };

    fn well() -> Observed {
        let seen = |name: &str, role| Seen {
            node: Node { name: name.into(), role, address: Ipv4Addr::LOCALHOST },
            process: Process::Running,
            api_ready: role == Role::Server,
        };
        let nodes = vec![seen("server-1", Role::Server), seen("agent-1", Role::Agent)];
        let ready = |name: &str| NodeState { name: name.into(), ready: true, ..NodeState::default() };
        let told = Told { nodes: vec![ready("server-1"), ready("agent-1")], running: 3, unready: 0, troubles: vec![] };
        Observed { name: "dev".into(), supervised: true, nodes, told: Some(told) }
    }

    fn check(spoil: impl Fn(&mut Observed), lines: &[&str]) {
        let (before, mut now) = (well(), well());
        spoil(&mut now);
        assert!(!is_as_before(&before, &now), "{now:?}");
        assert_eq!(changes(&before, &now), lines);
    }

    #[test]
    fn each_difference_is_told_and_keeps_the_cluster_from_being_well() {
        assert!(is_as_before(&well(), &well()) && changes(&well(), &well()).is_empty());
        check(|now| now.nodes[1].process = Process::Paused, &["agent-1 stands still"]);
        check(|now| now.nodes[0].api_ready = false, &["server-1: the API is not ready"]);
        check(|now| now.told = None, &["no API server tells anything"]);
        check(|now| now.supervised = false, &[]);
        let told = |change: fn(&mut Told)| move |now: &mut Observed| now.told.iter_mut().for_each(change);
        check(told(|told| told.nodes[1].ready = false), &["agent-1 is NotReady"]);
        check(told(|told| told.unready = 2), &["2 pods are not ready"]);
        check(told(|told| told.troubles.push(PodTrouble::default())), &[]);
    }

    #[test]
    fn what_was_acknowledged_and_is_gone_is_lost() {
        let write = |second: u64, name: &str| Write { at: Duration::from_secs(second), name: name.into() };
        let writes = [write(1, "a"), write(2, "b"), write(7, "c")];
        assert_eq!(lost(&writes, &["a", "c", "unanswered"].map(str::to_owned).into()), ["b"]);
        let second = Duration::from_secs;
        assert_eq!(longest_silence(&writes, second(0), second(8)), second(5));
        assert_eq!(longest_silence(&writes, second(3), second(4)), second(1));
    }

    #[test]
    fn failed_requests_are_counted_with_their_time() {
        let mut asked = Asked { address: "http://a/".into(), requests: 9, failures: vec![] };
        assert_eq!(answers(&asked), "http://a/: all of 9 requests were answered");
        asked.failures = vec![(Duration::from_secs(2), "refused".into()), (Duration::from_secs(3), "timed out".into())];
        assert_eq!(answers(&asked), "http://a/: 2 of 9 requests failed, from 2.0 s to 3.0 s, the last: timed out");
    }
}
