//! Makes things go wrong, and right again.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::{
    faults::{CUT, Direction, Fault, From, PAUSE, Part},
    schedule::Step,
};
use crate::{
    cluster::{Cluster, Records, eventually, text},
    disk::Disk,
    node::{in_network, init, signal},
};

/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(20);
/// How long a flapping link is in each state.
const FLAP: Duration = Duration::from_millis(500);

/// Does what a step says, and returns when the fault itself is over; the cluster may still have to recover.
pub fn inject(cluster: &Cluster, disks: &[(String, Disk)], step: &Step) -> Result<()> {
    let records = cluster.records();
    match step.fault {
        Fault::Kill(part) => send(&records, part, &step.node, Signal::SIGKILL),
        Fault::KillAll(part) => kill_all(&records, part),
        Fault::Pause(part) => {
            send(&records, part, &step.node, Signal::SIGSTOP)?;
            std::thread::sleep(PAUSE);
            send(&records, part, &step.node, Signal::SIGCONT)
        }
        Fault::CutOff(from, Direction::Flapping) => flap(&records, &step.node, from),
        Fault::CutOff(from, direction) => {
            cut(&records, &step.node, from, direction)?;
            std::thread::sleep(CUT);
            mend(&records, &step.node)
        }
        Fault::Reboot => reboot(&records),
        Fault::PowerCut => power_cut(&records, disks, step.seed),
        Fault::StalledDisk => {
            disk(disks, &step.node)?.stall(PAUSE);
            std::thread::sleep(PAUSE);
            Ok(())
        }
        Fault::FullDisk => {
            let disk = disk(disks, &step.node)?;
            disk.fill();
            std::thread::sleep(CUT);
            disk.clear();
            Ok(())
        }
    }
}

fn disk<'a>(disks: &'a [(String, Disk)], node: &str) -> Result<&'a Disk> {
    disks.iter().find(|(name, _)| name == node).map(|(_, disk)| disk).with_context(|| format!("{node} has no disk that can fail"))
}

fn pids(records: &Records, part: Part, node: &str) -> Result<Vec<i32>> {
    match part {
        Part::Server => records.processes(node, "server"),
        Part::Agent => records.processes(node, "agent"),
        Part::Node => Ok(vec![init(records, node)?]),
        Part::Supervisor => Ok(vec![records.supervisor()?]),
    }
}

fn send(records: &Records, part: Part, node: &str, what: Signal) -> Result<()> {
    let found = eventually(GONE, &format!("{part} of {node} runs"), || {
        let found = pids(records, part, node)?;
        Ok((found.len() == 1).then_some(found))
    })?;
    signal(found[0], what)
}

fn kill_all(records: &Records, part: Part) -> Result<()> {
    let mut all = Vec::new();
    for node in records.nodes() {
        all.extend(pids(records, part, &node)?);
    }
    ensure!(!all.is_empty(), "{part} runs nowhere");
    all.into_iter().try_for_each(|pid| signal(pid, Signal::SIGKILL))
}

/// Servers are numbered from 11 on, agents from 101.
fn address(node: &str) -> Option<String> {
    let (role, number) = node.rsplit_once('-')?;
    let first = if role == "agent" { 100 } else { 10 };
    Some(format!("10.89.0.{}", first + number.parse::<u8>().ok()?))
}

/// Rules that drop packets, in a table of their own in the node's own namespace.
fn rules(records: &Records, node: &str, from: From, direction: Direction) -> String {
    let addresses = |nodes: &[String]| -> Vec<String> {
        nodes.iter().filter(|other| *other != node).filter_map(|other| address(other)).collect()
    };
    let others = match from {
        From::All => Vec::new(),
        From::Servers => addresses(&records.servers()),
        From::Peers => [addresses(&records.agents()), vec!["10.244.0.0/16".to_owned()]].concat(),
    };
    let only = |field: &str| if others.is_empty() { String::new() } else { format!("ip {field} {{ {} }}", others.join(", ")) };
    let inbound =
        format!("chain inbound {{ type filter hook prerouting priority -400; iifname \"eth0\" {} drop; }}", only("saddr"));
    let outbound =
        format!("chain outbound {{ type filter hook postrouting priority 400; oifname \"eth0\" {} drop; }}", only("daddr"));
    let chains = match direction {
        Direction::Inbound => inbound,
        Direction::Outbound => outbound,
        Direction::Both | Direction::Flapping => format!("{inbound}\n{outbound}"),
    };
    format!("table inet chaos {{\n{chains}\n}}\n")
}

fn cut(records: &Records, node: &str, from: From, direction: Direction) -> Result<()> {
    in_network(records, node, &["nft", "-f", "-"], &rules(records, node, from, direction)).map(drop)
}

fn mend(records: &Records, node: &str) -> Result<()> {
    in_network(records, node, &["nft", "delete", "table", "inet", "chaos"], "").map(drop)
}

fn flap(records: &Records, node: &str, from: From) -> Result<()> {
    let mut left = CUT;
    while left > Duration::ZERO {
        cut(records, node, from, Direction::Both)?;
        std::thread::sleep(FLAP);
        mend(records, node)?;
        std::thread::sleep(FLAP);
        left = left.saturating_sub(FLAP * 2);
    }
    Ok(())
}

/// The supervisor and every process of every node, at once; then what the kernel would have forgotten.
fn reboot(records: &Records) -> Result<()> {
    signal(records.supervisor()?, Signal::SIGKILL)?;
    let inits: Vec<i32> = records.nodes().iter().filter_map(|node| init(records, node).ok()).collect();
    ensure!(!inits.is_empty(), "no node runs");
    inits.into_iter().try_for_each(|pid| signal(pid, Signal::SIGKILL))?;
    wait_until_empty(records, &records.nodes())?;
    let link = format!("kontiki-{}", records.name);
    text(&Command::new("ip").args(["netns", "delete", &link]).output()?).context("delete the link")?;
    Ok(())
}

fn wait_until_empty(records: &Records, nodes: &[String]) -> Result<()> {
    eventually(GONE, "the processes of the nodes are gone", || {
        let left: usize = nodes.iter().map(|node| processes_below(&records.group(node))).sum();
        Ok((left == 0).then_some(()))
    })
}

fn processes_below(group: &std::path::Path) -> usize {
    let own = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines().count();
    let below = std::fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    own + below.map(|path| processes_below(&path)).sum::<usize>()
}

/// Nothing is written after the power has failed, and no server starts before its disk has lost what it loses.
fn power_cut(records: &Records, disks: &[(String, Disk)], seed: u64) -> Result<()> {
    if disks.is_empty() {
        bail!("no server has a disk that can fail");
    }
    let supervisor = records.supervisor()?;
    signal(supervisor, Signal::SIGSTOP)?;
    let cut = || -> Result<()> {
        disks.iter().for_each(|(_, disk)| disk.power_off());
        let nodes: Vec<String> = disks.iter().map(|(node, _)| node.clone()).collect();
        for node in &nodes {
            signal(init(records, node)?, Signal::SIGKILL)?;
        }
        // The step before a node's init is the supervisor's child and ends with it.
        wait_until_empty(records, &nodes)
    };
    let done = cut();
    for (number, (_, disk)) in disks.iter().enumerate() {
        disk.power_on(seed.wrapping_add(number as u64));
    }
    signal(supervisor, Signal::SIGCONT)?;
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Size;

    #[test]
    fn rules_name_those_that_are_cut_off() {
        let records = Records { name: "x".into(), root: "/x".into(), size: Size { servers: 3, agents: 2 } };
        let check = |node: &str, from, direction, wanted: &[&str], unwanted: &[&str]| {
            let rules = rules(&records, node, from, direction);
            assert!(
                wanted.iter().all(|part| rules.contains(part)) && !unwanted.iter().any(|part| rules.contains(part)),
                "{rules}"
            );
        };
        check(
            "agent-1",
            From::Servers,
            Direction::Both,
            &["{ 10.89.0.11, 10.89.0.12, 10.89.0.13 }", "saddr", "daddr"],
            &["10.244"],
        );
        check("agent-1", From::Peers, Direction::Both, &["{ 10.89.0.102, 10.244.0.0/16 }"], &["10.89.0.101", "10.89.0.11"]);
        check("server-1", From::All, Direction::Inbound, &["iifname \"eth0\"  drop"], &["oifname", "saddr"]);
        check("server-1", From::All, Direction::Outbound, &["oifname \"eth0\"  drop"], &["iifname", "daddr"]);
    }
}
