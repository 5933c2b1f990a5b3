//! Tables of what to do next.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::probes::Verdicts;

fn pod(extra: serde_json::Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"containers": [{"name": "a"}], "restartPolicy": "Always"},
    });
    merge(&mut pod, extra);
    serde_json::from_value(pod).unwrap()
}

fn merge(into: &mut serde_json::Value, from: serde_json::Value) {
    match from {
        serde_json::Value::Object(fields) if into.is_object() => {
            for (key, value) in fields {
                merge(&mut into[key], value);
            }
        }
        other => *into = other,
    }
}

fn sandbox(state: SandboxState) -> Sandbox {
    Sandbox {
        id: "s".into(),
        pod_uid: "u".into(),
        pod_name: "p".into(),
        pod_namespace: "n".into(),
        attempt: 0,
        state,
        ips: vec![],
        created_at: 0,
    }
}

fn container(name: &str, attempt: u32, state: ContainerState, exit_code: i32) -> Container {
    Container {
        id: format!("{name}{attempt}"),
        sandbox_id: "s".into(),
        name: name.into(),
        attempt,
        image: String::new(),
        image_ref: String::new(),
        state,
        created_at: 0,
        started_at: 1,
        finished_at: i64::from(has_end(state)) * 1_000_000_000,
        exit_code,
        reason: String::new(),
        message: String::new(),
        pid: 0,
        log_path: "/l".into(),
        labels: BTreeMap::new(),
    }
}

fn has_end(state: ContainerState) -> bool {
    matches!(state, ContainerState::Exited | ContainerState::Unknown)
}

fn with(containers: Vec<Container>) -> Observed {
    Observed { sandboxes: vec![sandbox(SandboxState::Ready)], containers }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn start(container: &str, attempt: u32) -> Action {
    Action::Start { sandbox: "s".into(), container: container.into(), attempt }
}

fn decide(pod: &Pod, observed: &Observed, memory: &Memory) -> Plan {
    plan(pod, false, observed, memory, at(5))
}

#[test]
fn first_a_sandbox_then_containers() {
    let memory = Memory::default();
    let pod = pod(json!({}));
    assert_eq!(decide(&pod, &Observed::default(), &memory).actions, [Action::RunSandbox { attempt: 0 }]);
    assert_eq!(decide(&pod, &with(vec![]), &memory).actions, [start("a", 0)]);
    assert_eq!(decide(&pod, &with(vec![container("a", 0, ContainerState::Running, 0)]), &memory).actions, []);
}

#[test]
fn a_dead_sandbox_is_replaced() {
    let mut observed = with(vec![container("a", 0, ContainerState::Unknown, 0)]);
    observed.sandboxes[0].state = SandboxState::NotReady;
    let actions = decide(&pod(json!({})), &observed, &Memory::default()).actions;
    assert_eq!(actions, [Action::StopSandbox { id: "s".into() }, Action::RunSandbox { attempt: 1 }]);
}

#[test]
fn restart_policies() {
    for (policy, exit_code, again) in
        [("Always", 0, true), ("Always", 1, true), ("OnFailure", 0, false), ("OnFailure", 1, true), ("Never", 1, false)]
    {
        let pod = pod(json!({"spec": {"restartPolicy": policy}}));
        let observed = with(vec![container("a", 0, ContainerState::Exited, exit_code)]);
        let actions = decide(&pod, &observed, &Memory::default()).actions;
        let wanted = if again { start("a", 1) } else { Action::StopSandbox { id: "s".into() } };
        assert_eq!(actions, [wanted], "{policy} {exit_code}");
    }
}

#[test]
fn a_container_that_fails_again_waits_longer() {
    let pod = pod(json!({}));
    let observed = with(vec![container("a", 2, ContainerState::Exited, 1)]);
    let memory = Memory { restarts: BTreeMap::from([("a".into(), 2)]), ..Memory::default() };
    let plan = decide(&pod, &observed, &memory);
    assert_eq!(plan.actions, []);
    assert_eq!(plan.wake, Some(at(21)), "ended at second 1, 20 s of waiting");
    let message = "back-off 20s restarting failed container=a pod=p_n(u)".to_owned();
    assert_eq!(plan.waiting["a"], ("CrashLoopBackOff".to_owned(), message));
}

#[test]
fn init_containers_run_one_after_the_other() {
    let pod = pod(json!({"spec": {"initContainers": [{"name": "i"}, {"name": "j"}]}}));
    let memory = Memory::default();
    assert_eq!(decide(&pod, &with(vec![]), &memory).actions, [start("i", 0)]);
    let running = with(vec![container("i", 0, ContainerState::Running, 0)]);
    assert_eq!(decide(&pod, &running, &memory).actions, []);
    let mut containers = vec![container("i", 0, ContainerState::Exited, 0)];
    assert_eq!(decide(&pod, &with(containers.clone()), &memory).actions, [start("j", 0)]);
    containers.push(container("j", 0, ContainerState::Exited, 1));
    assert_eq!(decide(&pod, &with(containers.clone()), &memory).actions, [start("j", 1)]);
    containers.push(container("j", 1, ContainerState::Exited, 0));
    assert_eq!(decide(&pod, &with(containers), &memory).actions, [start("a", 0)]);
}

#[test]
fn a_sidecar_goes_first_and_does_not_hold_up_the_others() {
    let pod = pod(json!({"spec": {"initContainers": [{"name": "i", "restartPolicy": "Always"}]}}));
    let memory = Memory::default();
    assert_eq!(decide(&pod, &with(vec![]), &memory).actions, [start("i", 0)]);
    let running = with(vec![container("i", 0, ContainerState::Running, 0)]);
    assert_eq!(decide(&pod, &running, &memory).actions, [start("a", 0)]);
}

#[test]
fn a_failed_liveness_probe_stops_the_container() {
    let pod = pod(json!({"spec": {"terminationGracePeriodSeconds": 7}}));
    let verdicts = Verdicts { live: Some(false), ..Verdicts::default() };
    let memory = Memory { verdicts: BTreeMap::from([("a0".into(), verdicts)]), ..Memory::default() };
    let plan = decide(&pod, &with(vec![container("a", 0, ContainerState::Running, 0)]), &memory);
    let message = "Container a failed liveness probe, will be restarted".to_owned();
    assert_eq!(plan.actions, [Action::Stop { id: "a0".into(), container: "a".into(), grace: Duration::from_secs(7), message }]);
}

#[test]
fn a_deleted_pod_goes_step_by_step() {
    let pod = pod(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3}}));
    let memory = Memory::default();
    let mut observed = with(vec![container("a", 0, ContainerState::Running, 0)]);
    let stop = Action::Stop { id: "a0".into(), container: "a".into(), grace: Duration::from_secs(3), message: String::new() };
    assert_eq!(decide(&pod, &observed, &memory).actions, [stop]);
    observed.containers[0].state = ContainerState::Exited;
    assert_eq!(decide(&pod, &observed, &memory).actions, [Action::StopSandbox { id: "s".into() }]);
    observed.sandboxes[0].state = SandboxState::NotReady;
    assert_eq!(decide(&pod, &observed, &memory).actions, [Action::RemoveSandbox { id: "s".into() }]);
    assert!(decide(&pod, &Observed::default(), &memory).gone);
}

#[test]
fn restarts_are_counted_on_after_a_power_cut() {
    let status = json!({"containerStatuses": [{
        "name": "a", "restartCount": 4, "containerID": "kontiki://x", "image": "", "imageID": "", "ready": true,
    }]});
    let pod = pod(json!({"status": status}));
    let mut memory = Memory::default();
    memory.count_known(&pod);
    assert_eq!(decide(&pod, &with(vec![]), &memory).actions, [start("a", 5)]);
    memory.count_runs(&with(vec![container("a", 5, ContainerState::Running, 0)]));
    assert_eq!(decide(&pod, &with(vec![]), &memory).actions, [start("a", 6)], "its containers went with their sandbox");
}

#[test]
fn only_the_last_two_of_a_name_are_kept() {
    let old = |attempt| container("a", attempt, ContainerState::Exited, 1);
    let observed = with(vec![old(0), old(1), container("a", 2, ContainerState::Running, 0)]);
    assert_eq!(decide(&pod(json!({})), &observed, &Memory::default()).actions, [Action::Remove { id: "a0".into() }]);
}
