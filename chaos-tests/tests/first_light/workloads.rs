//! Workloads beyond Deployments, as a user's kubectl sees them: sets, jobs, schedules, budgets, rollbacks.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kontiki_chaos_tests::{cluster::eventually, kubectl::Kubectl};
use serde_json::Value;

use super::{DEADLINE, Shared};

const NAMESPACE: &str = "workloads";
/// Everything at once: what comes up in parallel takes no longer than the slowest.
const ALL: &str = include_str!("workloads.yaml");

fn get(kubectl: &Kubectl, arguments: &[&str]) -> Result<Value> {
    let text = kubectl.run(&[&["-n", NAMESPACE, "get", "-o", "json"], arguments].concat())?;
    serde_json::from_str(&text).context("parse what kubectl printed")
}

fn run(kubectl: &Kubectl, arguments: &[&str]) -> Result<String> {
    kubectl.run(&[&["-n", NAMESPACE], arguments].concat())
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// Aim: each kind does what its users rely on. Method: one manifest with all of them, then each looked at, changed and
/// looked at again.
pub fn workloads_do_what_they_say(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    kubectl.run(&["create", "namespace", NAMESPACE])?;
    kubectl.run_with(&["-n", NAMESPACE, "apply", "-f", "-"], ALL)?;
    jobs_end(&kubectl)?;
    sets_roll(&kubectl)?;
    budgets_and_endpoints_follow(&kubectl)?;
    a_failed_rollout_is_undone(&kubectl)?;
    kubectl.run(&["delete", "namespace", NAMESPACE, "--timeout=50s"]).map(drop)
}

fn jobs_end(kubectl: &Kubectl) -> Result<()> {
    run(kubectl, &["create", "job", "manual", "--from=cronjob/yearly"])?;
    run(kubectl, &["wait", "--for=condition=Complete", "job/indexed", "job/manual", "--timeout=50s"])?;
    let indexed = get(kubectl, &["job", "indexed"])?;
    ensure!(indexed["status"]["completedIndexes"] == "0-2" && indexed["status"]["succeeded"] == 3, "{indexed}");
    run(kubectl, &["wait", "--for=condition=Failed", "job/failing", "--timeout=50s"])?;
    let failing = get(kubectl, &["job", "failing"])?;
    let why = condition(&failing, "FailureTarget").context("no reason")?;
    ensure!(why["reason"] == "PodFailurePolicy" && why["message"].to_string().contains("exit code 42"), "{why}");
    // Nothing holds a pod back once it is counted.
    eventually(DEADLINE, "the pods of the jobs are let go", || {
        let pods = get(kubectl, &["pods", "-l", "batch.kubernetes.io/job-name"])?;
        let held = pods["items"].as_array().into_iter().flatten().filter(|pod| !pod["metadata"]["finalizers"].is_null()).count();
        Ok((held == 0).then_some(()))
    })
}

fn sets_roll(kubectl: &Kubectl) -> Result<()> {
    let annotate = r#"{"spec":{"template":{"metadata":{"annotations":{"version":"2"}}}}}"#;
    for (set, status) in [("statefulset/web", "complete"), ("daemonset/everywhere", "successfully rolled out")] {
        run(kubectl, &["rollout", "status", set, "--timeout=50s"])?;
        run(kubectl, &["patch", set, "-p", annotate])?;
        let said = run(kubectl, &["rollout", "status", set, "--timeout=50s"])?;
        ensure!(said.contains(status), "{said}");
        ensure!(run(kubectl, &["rollout", "history", set])?.lines().filter(|line| line.starts_with(['1', '2'])).count() == 2);
    }
    let web = get(kubectl, &["pod", "web-1"])?;
    ensure!(web["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "1" && web["spec"]["hostname"] == "web-1", "{web}");
    let everywhere = get(kubectl, &["daemonset", "everywhere"])?;
    let number = |name: &str| everywhere["status"][name].as_i64();
    ensure!(number("desiredNumberScheduled") == Some(2) && number("updatedNumberScheduled") == Some(2), "{everywhere}");
    run(kubectl, &["rollout", "undo", "statefulset/web"])?;
    run(kubectl, &["rollout", "status", "statefulset/web", "--timeout=50s"]).map(drop)
}

fn budgets_and_endpoints_follow(kubectl: &Kubectl) -> Result<()> {
    eventually(DEADLINE, "one of two pods may be taken away", || {
        let budget = get(kubectl, &["poddisruptionbudget", "web"])?;
        let status = &budget["status"];
        Ok((status["disruptionsAllowed"] == 1 && status["currentHealthy"] == 2).then_some(()))
    })?;
    eventually(DEADLINE, "both pods are endpoints", || {
        let endpoints = get(kubectl, &["endpoints", "web"])?;
        let slices = get(kubectl, &["endpointslices", "-l", "kubernetes.io/service-name=web"])?;
        let addresses = endpoints["subsets"][0]["addresses"].as_array().map_or(0, Vec::len);
        let endpoints = slices["items"][0]["endpoints"].as_array().map_or(0, Vec::len);
        Ok((addresses == 2 && endpoints == 2).then_some(()))
    })
}

/// Without anybody's help, and only once.
fn a_failed_rollout_is_undone(kubectl: &Kubectl) -> Result<()> {
    run(kubectl, &["rollout", "status", "deployment/careful", "--timeout=50s"])?;
    run(kubectl, &["set", "image", "deployment/careful", "main=nowhere.example/nothing:1"])?;
    let back = eventually(Duration::from_secs(40), "the rollout is undone", || {
        let deployment = get(kubectl, &["deployment", "careful"])?;
        let told = condition(&deployment, "RolledBack").is_some();
        Ok((told && deployment["status"]["availableReplicas"] == 1).then_some(deployment))
    })?;
    ensure!(back["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:1.21", "{back}");
    let events = run(kubectl, &["get", "events", "--field-selector=reason=RolledBack"])?;
    ensure!(events.contains("Rolled back from revision 2 to revision 1"), "{events}");
    Ok(())
}
