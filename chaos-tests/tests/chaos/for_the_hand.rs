//! What people have for the hand: a cluster by kind's configuration, its status, its logs, completion.

use std::{net::TcpStream, time::Duration};

use anyhow::{Context, Result, ensure};
use kontiki_chaos_tests::{
    cluster::{Cluster, Size, eventually},
    kubectl::{Kubectl, programs},
    node::init,
};

/// As the configuration says.
pub const SIZE: Size = Size { servers: 1, agents: 1 };
const DEADLINE: Duration = Duration::from_secs(60);

/// Starts the cluster by a file as kind has it.
pub fn a_configuration_of_kind_is_honoured_and_the_status_tells(cluster: &Cluster) -> Result<()> {
    let shown = cluster.folder().join("shown");
    std::fs::create_dir(&shown)?;
    std::fs::write(shown.join("note"), "seen")?;
    let place = format!("/srv/{}-test/shown", cluster.name);
    let port = cluster.port() + 1;
    let file = cluster.folder().join("kind.yaml");
    std::fs::write(
        &file,
        format!(
            "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n- role: worker\n  labels: {{tier: front}}\n  \
             extraPortMappings: [{{containerPort: 10250, hostPort: {port}, listenAddress: 127.0.0.1}}]\n  \
             extraMounts: [{{hostPath: {}, containerPath: {place}, readOnly: true}}]\n",
            shown.display()
        ),
    )?;
    cluster.up_by(&file)?;
    let kubectl = Kubectl::new(programs().last().context("no kubectl")?, &cluster.kubeconfig);
    let labelled = kubectl.run(&["get", "nodes", "-l", "tier=front", "-o", "name"])?;
    ensure!(labelled.trim() == "node/agent-1", "{labelled}");
    let seen = format!("/proc/{}/root{place}", init(&cluster.records(), "agent-1")?);
    ensure!(std::fs::read_to_string(format!("{seen}/note"))? == "seen", "the node does not see the folder");
    ensure!(std::fs::write(format!("{seen}/other"), "").is_err(), "the node may write into it");
    eventually(DEADLINE, "the port leads to the kubelet", || Ok(TcpStream::connect(("127.0.0.1", port)).ok()))?;

    let (is_well, told) = cluster.status()?;
    ensure!(is_well && told.contains("all is well") && told.contains("nodes    2 of 2 Ready"), "{told}");
    make_trouble_by_plan(cluster, &kubectl)?;
    cluster.act("pause", "agent-1")?;
    let (_, told) = cluster.status()?;
    ensure!(told.contains("nodes    2 of 2") && told.contains("kontiki node resume agent-1"), "{told}");
    cluster.act("resume", "agent-1")?;
    cluster.act("stop", "agent-1")?;
    let refused = cluster.run(&["chaos", "run", "crashes", "--name", &cluster.name]);
    ensure!(refused.as_ref().is_err_and(|error| error.to_string().contains("is not well")), "{refused:?}");
    let (is_well, told) = cluster.status()?;
    ensure!(!is_well && told.contains("agent-1 was stopped: `kontiki node start agent-1"), "{told}");
    ensure!(cluster.run(&["logs", "server-1", "--name", &cluster.name])?.contains("==> server <=="), "no log of the server");
    ensure!(cluster.run(&["completion", "bash"])?.contains("complete -F"), "no completion");
    cluster.down()?;
    ensure!(!std::path::Path::new(&place).exists(), "{place} was left");
    Ok(())
}

/// A scenario strikes each node, tells what it sees, and leaves nothing.
fn make_trouble_by_plan(cluster: &Cluster, kubectl: &Kubectl) -> Result<()> {
    ensure!(cluster.run(&["chaos", "list"])?.contains("blackout"), "a scenario is not listed");
    // Nobody listens there: each of its requests is counted as failed.
    let run = ["chaos", "run", "crashes", "--seed", "3", "--probe", "http://127.0.0.1:1/", "--name", &cluster.name];
    let told = cluster.run(&run)?;
    for part in [
        "  server-1: Kontiki's processes are killed",
        "  agent-1: Kontiki's processes are killed",
        "as before",
        "writes acknowledged",
        "requests failed, from",
    ] {
        ensure!(told.contains(part), "{part:?} is not in\n{told}");
    }
    let left = kubectl.run(&["get", "namespace", "kontiki-chaos", "--ignore-not-found"])?;
    ensure!(left.trim().is_empty(), "{left}");
    Ok(())
}
