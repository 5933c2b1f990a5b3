//! Counts what a cluster's nodes have of things that leak.

use std::{collections::BTreeSet, path::Path};

use anyhow::Result;

use crate::{
    check::leaks::Footprint,
    cluster::Records,
    node::{in_network, init},
};

/// Looks at every node.
pub fn footprint(cluster: &Records) -> Result<Footprint> {
    let mut found = Footprint::new();
    let machine = std::fs::read_to_string("/proc/self/mountinfo")?;
    for node in cluster.nodes() {
        let pid = init(cluster, &node)?;
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let interfaces = read("net/dev").lines().filter(|line| line.contains(':')).count();
        let rules = in_network(cluster, &node, &["nft", "list", "ruleset"], "")?;
        let (groups, processes) = groups(&cluster.group(&node).join("kubepods"));
        for (kind, count) in [
            // A node also inherits what the machine has mounted when it starts.
            ("mounts", mounts(&read("mountinfo")).difference(&mounts(&machine)).count()),
            ("interfaces", interfaces),
            ("routes", read("net/route").lines().count()),
            ("rules and elements", rules.matches(['\n', ',']).count()),
            ("control groups of pods", groups),
            ("processes of pods", processes),
        ] {
            found.insert((node.clone(), kind), count);
        }
    }
    Ok(found)
}

/// Where something is mounted.
fn mounts(table: &str) -> BTreeSet<&str> {
    table.lines().filter_map(|line| line.split(' ').nth(4)).collect()
}

/// Groups below one, and processes in them.
fn groups(folder: &Path) -> (usize, usize) {
    let own = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines().count();
    let below = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    below.fold((0, own), |(count, processes), path| {
        let (more, inside) = groups(&path);
        (count + 1 + more, processes + inside)
    })
}
