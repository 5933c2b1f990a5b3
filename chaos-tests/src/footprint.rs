//! Counts what a cluster's nodes have of things that leak.

use std::{collections::BTreeSet, path::Path};

use anyhow::Result;
use serde_json::Value;

use crate::{
    check::leaks::Footprint,
    cluster::Records,
    node::{in_network, init},
};

/// Elements of sets and maps.
pub const ELEMENTS: &str = "elements of rules";

/// Looks at every node.
pub fn footprint(cluster: &Records) -> Result<Footprint> {
    let mut found = Footprint::new();
    let machine = std::fs::read_to_string("/proc/self/mountinfo")?;
    for node in cluster.nodes() {
        let pid = init(cluster, &node)?;
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let interfaces = read("net/dev").lines().filter(|line| line.contains(':')).count();
        let rules = rules(cluster, &node)?;
        let (groups, processes) = groups(&cluster.group(&node).join("kubepods"));
        for (kind, count) in [
            // A node also inherits what the machine has mounted when it starts.
            ("mounts", mounts(&read("mountinfo")).difference(&mounts(&machine)).count()),
            ("interfaces", interfaces),
            ("routes", read("net/route").lines().count()),
            (ELEMENTS, elements(&serde_json::from_str(&rules)?)),
            ("control groups of pods", groups),
            ("processes of pods", processes),
        ] {
            found.insert((node.clone(), kind), count);
        }
    }
    Ok(found)
}

/// What a node's kernel does with packets, as `nft --json` tells it.
pub fn rules(cluster: &Records, node: &str) -> Result<String> {
    in_network(cluster, node, &["nft", "--json", "list", "ruleset"], "")
}

/// Whether a pod has a control group on a node: none is left when its last process has gone.
#[must_use]
pub fn has_pod(cluster: &Records, node: &str, uid: &str) -> bool {
    fn below(folder: &Path, name: &str) -> bool {
        let folders =
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
        folders.into_iter().any(|path| path.ends_with(name) || below(&path, name))
    }
    below(&cluster.group(node).join("kubepods"), &format!("pod{uid}"))
}

/// Where something is mounted.
fn mounts(table: &str) -> BTreeSet<&str> {
    table.lines().filter_map(|line| line.split(' ').nth(4)).collect()
}

/// Elements of all sets and maps: what a Service or pod has of its own. Chains are shared by Services of one size, and stay.
fn elements(ruleset: &Value) -> usize {
    let parts = ruleset["nftables"].as_array().into_iter().flatten();
    let tables = parts.flat_map(|part| ["set", "map"].map(|kind| &part[kind]["elem"]));
    tables.filter_map(|elements| elements.as_array().map(Vec::len)).sum()
}

/// Groups of pods below one, and processes in them.
fn groups(folder: &Path) -> (usize, usize) {
    let own = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines().count();
    let below = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    below.fold((0, own), |(count, processes), path| {
        let (more, inside) = groups(&path);
        // Those of the classes of service stay.
        let is_pods = path.file_name().is_some_and(|name| name.to_string_lossy().contains("pod"));
        (count + usize::from(is_pods) + more, processes + inside)
    })
}
