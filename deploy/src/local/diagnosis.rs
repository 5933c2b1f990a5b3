//! Says in a few lines what is wrong with a local cluster and what to do; pure.
//!
//! In: what [`super::status`] saw. Out: lines for a person, the worst first.

use crate::shape::{Node, Role};

/// Most lines about pods: the rest is counted.
const PODS_MAX: usize = 3;

/// What became of a node's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// They run.
    Running,
    /// Somebody stopped the node; it stays down.
    Stopped,
    /// Somebody paused it.
    Paused,
    /// It should run and does not.
    Down,
}

/// A node as this machine sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which one.
    pub node: Node,
    /// Its processes.
    pub process: Process,
    /// Whether its API server says that it is ready; of agents `false`.
    pub api_ready: bool,
}

/// A node as the API tells of it.
#[derive(Clone, Debug, Default)]
pub struct NodeState {
    /// Its name.
    pub name: String,
    /// Whether it is Ready.
    pub ready: bool,
    /// What its conditions say where they are not as they should be.
    pub complaints: Vec<String>,
    /// Whether it takes no new pods.
    pub cordoned: bool,
}

/// A pod that is not well.
#[derive(Clone, Debug, Default)]
pub struct PodTrouble {
    /// `namespace/name`.
    pub name: String,
    /// Why, in Kubernetes' words.
    pub reason: String,
}

/// What the API tells.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// All nodes.
    pub nodes: Vec<NodeState>,
    /// How many pods run.
    pub running: usize,
    /// How many have not ended and are not Ready.
    pub unready: usize,
    /// Those that are not well.
    pub troubles: Vec<PodTrouble>,
}

/// All that was seen.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Name of the cluster.
    pub name: String,
    /// Whether the supervisor runs.
    pub supervised: bool,
    /// Every node.
    pub nodes: Vec<Seen>,
    /// What the API tells; none if no server answers.
    pub told: Option<Told>,
}

/// What to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether nothing is wrong.
    pub healthy: bool,
    /// How it is.
    pub lines: Vec<String>,
    /// What to do about it.
    pub advice: Vec<String>,
}

/// Judges what was seen.
#[must_use]
pub fn diagnose(seen: &Observed) -> Report {
    let name = &seen.name;
    let mut advice = Vec::new();
    if !seen.supervised {
        advice.push(format!("nobody watches over the nodes: `kontiki up --name {name}` starts the supervisor"));
    }
    let mut lines = vec![servers(seen, &mut advice)];
    processes(seen, &mut advice);
    match &seen.told {
        None => lines.push("nodes    nobody knows: no API server answers".to_owned()),
        Some(told) => {
            lines.push(nodes(seen, told, &mut advice));
            lines.extend(pods(told));
            if let Some(first) = told.troubles.first() {
                let (namespace, pod) = first.name.split_once('/').unwrap_or(("default", &first.name));
                advice.push(format!("`kubectl -n {namespace} describe pod {pod}` tells the events"));
            }
        }
    }
    let healthy = advice.is_empty();
    lines.insert(0, format!("cluster {name}: {}", if healthy { "all is well" } else { "something is wrong" }));
    Report { healthy, lines, advice }
}

fn servers(seen: &Observed, advice: &mut Vec<String>) -> String {
    let servers: Vec<&Seen> = seen.nodes.iter().filter(|seen| seen.node.role == Role::Server).collect();
    let ready = servers.iter().filter(|server| server.api_ready).count();
    let alive = servers.iter().filter(|server| server.process == Process::Running).count();
    let needed = servers.len() / 2 + 1;
    if alive < needed {
        advice.push(format!(
            "the store needs {needed} of {} servers and {alive} run: nothing can be written until more do",
            servers.len()
        ));
    }
    for server in servers.iter().filter(|server| server.process == Process::Running && !server.api_ready && alive >= needed) {
        advice.push(format!(
            "{} runs and is not ready: `kontiki logs {} --name {}`",
            server.node.name, server.node.name, seen.name
        ));
    }
    format!("servers  {ready} of {} ready", servers.len())
}

fn processes(seen: &Observed, advice: &mut Vec<String>) {
    for one in &seen.nodes {
        let (node, name) = (&one.node.name, &seen.name);
        match one.process {
            Process::Running => {}
            Process::Stopped => advice.push(format!("{node} was stopped: `kontiki node start {node} --name {name}`")),
            Process::Paused => advice.push(format!("{node} is paused: `kontiki node resume {node} --name {name}`")),
            Process::Down => advice.push(format!("{node} does not run: see the end of `kontiki logs {node} --name {name}`")),
        }
    }
}

fn nodes(seen: &Observed, told: &Told, advice: &mut Vec<String>) -> String {
    let runs = |name: &str| seen.nodes.iter().any(|one| one.node.name == name && one.process == Process::Running);
    for node in &told.nodes {
        let (name, cluster) = (&node.name, &seen.name);
        if !node.complaints.is_empty() {
            advice.push(format!("{name}: {}", node.complaints.join("; ")));
        }
        if !node.ready && runs(name) {
            advice.push(format!("{name} runs and is not heard: `kontiki node rejoin {name} --name {cluster}` if it is isolated"));
        }
        if node.cordoned {
            advice.push(format!("{name} takes no new pods: `kubectl uncordon {name}`"));
        }
    }
    for one in seen.nodes.iter().filter(|one| !told.nodes.iter().any(|node| node.name == one.node.name)) {
        advice.push(format!("{} never registered: see `kontiki logs {} --name {}`", one.node.name, one.node.name, seen.name));
    }
    format!("nodes    {} of {} Ready", told.nodes.iter().filter(|node| node.ready).count(), seen.nodes.len())
}

fn pods(told: &Told) -> Vec<String> {
    let mut lines = vec![format!("pods     {} running, {} not well", told.running, told.troubles.len())];
    lines.extend(told.troubles.iter().take(PODS_MAX).map(|pod| format!("         {}: {}", pod.name, pod.reason)));
    if told.troubles.len() > PODS_MAX {
        lines.push(format!("         and {} more", told.troubles.len() - PODS_MAX));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn seen(name: &str, process: Process) -> Seen {
        let role = if name.starts_with("server") { Role::Server } else { Role::Agent };
        let node = Node { name: name.into(), role, address: Ipv4Addr::LOCALHOST };
        Seen { node, process, api_ready: role == Role::Server && process == Process::Running }
    }

    fn ready(name: &str) -> NodeState {
        NodeState { name: name.into(), ready: true, ..NodeState::default() }
    }

    fn observed(processes: [Process; 4]) -> Observed {
        let names = ["server-1", "server-2", "server-3", "agent-1"];
        let nodes = names.into_iter().zip(processes).map(|(name, process)| seen(name, process)).collect();
        let told = Told { nodes: names.map(ready).to_vec(), running: 7, unready: 0, troubles: vec![] };
        Observed { name: "dev".into(), supervised: true, nodes, told: Some(told) }
    }

    #[test]
    fn a_healthy_cluster_needs_no_advice() {
        let report = diagnose(&observed([Process::Running; 4]));
        assert!(report.healthy && report.advice.is_empty(), "{report:?}");
        assert_eq!(
            report.lines,
            ["cluster dev: all is well", "servers  3 of 3 ready", "nodes    4 of 4 Ready", "pods     7 running, 0 not well"]
        );
    }

    #[test]
    fn each_trouble_comes_with_what_to_do() {
        let mut seen = observed([Process::Running, Process::Stopped, Process::Running, Process::Paused]);
        if let Some(told) = &mut seen.told {
            told.nodes[0].complaints.push("MemoryPressure".into());
            told.nodes[2].ready = false;
            let trouble = |number: usize| PodTrouble { name: format!("shop/web-{number}"), reason: "ImagePullBackOff".into() };
            told.troubles = (0..5).map(trouble).collect();
        }
        let report = diagnose(&seen);
        let all = [report.lines.join("\n"), report.advice.join("\n")].join("\n");
        for part in [
            "something is wrong",
            "servers  2 of 3 ready",
            "nodes    3 of 4 Ready",
            "shop/web-0: ImagePullBackOff",
            "and 2 more",
            "`kontiki node start server-2 --name dev`",
            "`kontiki node resume agent-1 --name dev`",
            "server-1: MemoryPressure",
            "server-3 runs and is not heard",
            "`kubectl -n shop describe pod web-0`",
        ] {
            assert!(all.contains(part), "{part} is not in:\n{all}");
        }
        assert!(!report.healthy);
    }

    #[test]
    fn without_a_quorum_that_is_said() {
        let mut seen = observed([Process::Running, Process::Down, Process::Down, Process::Running]);
        seen.told = None;
        let report = diagnose(&seen);
        assert!(report.advice.iter().any(|line| line.contains("needs 2 of 3 servers and 1 run")), "{report:?}");
        assert!(report.lines.iter().any(|line| line.contains("no API server answers")), "{report:?}");
    }
}
