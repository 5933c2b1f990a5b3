//! What is told of a pod in each of its states.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::runtime::Sandbox;

fn pod(policy: &str) -> Pod {
    let spec = json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "nginx", "readinessProbe": {}}]});
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec})).unwrap()
}

fn observed(state: ContainerState, exit_code: i32) -> Observed {
    let sandbox = Sandbox {
        id: "s".into(),
        pod_uid: "u".into(),
        pod_name: "p".into(),
        pod_namespace: "n".into(),
        attempt: 0,
        state: SandboxState::Ready,
        ips: vec!["10.244.1.2".into()],
        created_at: 0,
    };
    let container = Container {
        id: "c".into(),
        sandbox_id: "s".into(),
        name: "a".into(),
        attempt: 0,
        image: "sha256:x".into(),
        image_ref: "docker.io/library/nginx@sha256:y".into(),
        state,
        created_at: 0,
        started_at: 1,
        finished_at: 2,
        exit_code,
        reason: if exit_code == 0 { "Completed" } else { "Error" }.into(),
        message: String::new(),
        pid: 1,
        log_path: "/l".into(),
        labels: BTreeMap::new(),
    };
    Observed { sandboxes: vec![sandbox], containers: vec![container] }
}

fn build(pod: &Pod, observed: &Observed, memory: &Memory, waiting: &BTreeMap<String, (String, String)>) -> Value {
    let node_ip = "10.0.0.1".parse().unwrap();
    Input { pod, observed, memory, waiting, node_ip, now: Timestamp::UNIX_EPOCH }.build()
}

#[test]
fn a_running_container_is_ready_when_its_probe_says_so() {
    let (pod, observed) = (pod("Always"), observed(ContainerState::Running, 0));
    let mut memory = Memory::default();
    let status = build(&pod, &observed, &memory, &BTreeMap::new());
    assert_eq!((status["phase"].as_str(), status["conditions"][2]["status"].as_str()), (Some("Running"), Some("False")));
    assert_eq!(status["conditions"][3]["message"], "containers with unready status: [a]");
    memory.verdicts.insert("c".into(), crate::probes::Verdicts { ready: Some(true), ..Default::default() });
    let status = build(&pod, &observed, &memory, &BTreeMap::new());
    assert_eq!(status["conditions"][2]["status"], "True");
    assert_eq!(status["containerStatuses"][0]["image"], "docker.io/library/nginx:latest");
    assert_eq!(status["podIP"], "10.244.1.2");
}

#[test]
fn the_phase_of_what_has_ended() {
    for (policy, exit_code, phase) in [
        ("Never", 0, "Succeeded"),
        ("Never", 1, "Failed"),
        ("OnFailure", 0, "Succeeded"),
        ("OnFailure", 1, "Running"),
        ("Always", 0, "Running"),
    ] {
        let found = build(&pod(policy), &observed(ContainerState::Exited, exit_code), &Memory::default(), &BTreeMap::new());
        assert_eq!(found["phase"], phase, "{policy} {exit_code}");
    }
}

#[test]
fn a_container_that_waits_shows_why_and_how_the_last_one_ended() {
    let waiting = BTreeMap::from([("a".to_owned(), ("CrashLoopBackOff".to_owned(), "back-off".to_owned()))]);
    let status = build(&pod("Always"), &observed(ContainerState::Exited, 1), &Memory::default(), &waiting);
    let container = &status["containerStatuses"][0];
    assert_eq!(container["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(container["lastState"]["terminated"]["reason"], "Error");
}

#[test]
fn a_pod_that_was_refused_says_nothing_of_containers() {
    let ended = model::Ended {
        reason: "OutOfcpu".into(),
        message: "Pod was rejected: no".into(),
        refused: true,
        ..model::Ended::default()
    };
    let memory = Memory { ended: Some(ended), ..Memory::default() };
    let status = build(&pod("Always"), &Observed::default(), &memory, &BTreeMap::new());
    assert_eq!((status["phase"].as_str(), status["reason"].as_str()), (Some("Failed"), Some("OutOfcpu")));
    assert!(status.get("containerStatuses").is_none());
}

#[test]
fn a_pod_that_the_node_ends_fails_once_nothing_of_it_runs() {
    let ended = model::Ended { reason: "Terminated".into(), message: "down".into(), is_disruption: true, ..Default::default() };
    let memory = Memory { ended: Some(ended), ..Memory::default() };
    let running = build(&pod("Always"), &observed(ContainerState::Running, 0), &memory, &BTreeMap::new());
    assert_eq!((running["phase"].as_str(), running["reason"].as_str()), (Some("Running"), Some("Terminated")));
    let over = build(&pod("Always"), &observed(ContainerState::Exited, 0), &memory, &BTreeMap::new());
    assert_eq!((over["phase"].as_str(), over["message"].as_str()), (Some("Failed"), Some("down")));
    let last = over["conditions"].as_array().unwrap().last().unwrap();
    assert_eq!((last["type"].as_str(), last["reason"].as_str()), (Some("DisruptionTarget"), Some("TerminationByKubelet")));
}

#[test]
fn before_the_sandbox_there_is_no_address() {
    let status = build(&pod("Always"), &Observed::default(), &Memory::default(), &BTreeMap::new());
    assert_eq!(status["phase"], "Pending");
    assert!(status.get("podIP").is_none());
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating");
}
