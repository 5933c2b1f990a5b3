//! A user's first minutes: `kontiki up`, kubectl in several versions, servers that are killed, `kontiki down`.
//!
//! One cluster serves all tests, in order. Without root or kubectl they are skipped, with the reason.

#[path = "first_light/disk.rs"]
mod disk;
#[path = "first_light/extensions.rs"]
mod extensions;
#[path = "first_light/kubelet.rs"]
mod kubelet;
#[path = "first_light/node.rs"]
mod node;
#[path = "first_light/pods.rs"]
mod pods;
#[path = "first_light/rollout.rs"]
mod rollout;
#[path = "first_light/services.rs"]
mod services;
#[path = "first_light/workloads.rs"]
mod workloads;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use kontiki_chaos_tests::{
    cluster::{Cluster, Place, Size, binary, eventually},
    etcd::Etcdctl,
    kubectl::{Kubectl, programs},
    registry::{self, Registry},
};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(30);
const FIRST_LIGHT: Size = Size { servers: 3, agents: 2 };
const SERVERS: [&str; 3] = ["server-1", "server-2", "server-3"];
const DEPLOYMENT: &str = include_str!("../../examples/nginx.yaml");

/// Why this machine cannot run the tests.
fn lacking() -> Option<&'static str> {
    if binary().is_none() {
        return Some("KONTIKI_BINARY names no file: run `make end-to-end`");
    }
    if !geteuid().is_root() {
        return Some("needs root for namespaces");
    }
    if registry::test_files().is_none() {
        return Some("KONTIKI_TEST_FILES names no folder with test files: run `make end-to-end`");
    }
    programs().is_empty().then_some("needs kubectl on the PATH")
}

struct Shared {
    registry: Registry,
    cluster: Cluster,
    kubectls: Vec<PathBuf>,
    files: PathBuf,
}

impl Shared {
    fn kubectl(&self) -> Result<Kubectl> {
        Ok(Kubectl::new(self.kubectls.last().context("no kubectl")?, &self.cluster.kubeconfig))
    }
}

type Test = fn(&Shared) -> Result<()>;
/// In this order: libtest-mimic sorts by name.
const TESTS: [(&str, Test); 30] = [
    ("a_every_kubectl_reads", every_kubectl_reads),
    ("b_objects_are_created_changed_and_deleted", objects_are_created_changed_and_deleted),
    ("c_bad_input_is_refused_in_kubernetes_words", bad_input_is_refused_in_kubernetes_words),
    ("c_etcdctl_works_against_any_member", etcdctl_works_against_any_member),
    ("c_writes_are_answered_after_a_quorums_fsync", disk::writes_are_answered_after_a_quorums_fsync),
    ("d_nginx_runs_behind_a_service", pods::nginx_runs_behind_a_service),
    ("e_scaling_fills_the_workers", pods::scaling_fills_the_workers),
    ("f_a_rollout_replaces_pods_within_its_limits", pods::a_rollout_replaces_pods_within_its_limits),
    ("f_pods_are_replaced_and_looked_into", pods::pods_are_replaced_and_looked_into),
    ("g_pods_are_fed_probed_and_restarted", pods::pods_are_fed_probed_and_restarted),
    ("g_q_volumes_follow_what_they_show", node::volumes_follow_what_they_show),
    ("g_r_sessions_of_every_kind", node::sessions_of_every_kind),
    ("g_s_a_running_pod_is_resized", node::a_running_pod_is_resized),
    ("g_t_logs_go_on_in_new_files", kubelet::logs_go_on_in_new_files),
    ("g_u_system_calls_are_refused_by_profile", kubelet::system_calls_are_refused_by_profile),
    ("g_v_static_pods_run_and_are_shown", kubelet::static_pods_run_and_are_shown),
    ("g_w_pods_that_write_too_much_are_evicted", kubelet::pods_that_write_too_much_are_evicted),
    ("h_an_imported_image_runs", pods::an_imported_image_runs),
    ("i_containers_outlive_the_agent", pods::containers_outlive_the_agent),
    ("j_up_is_idempotent", up_is_idempotent),
    ("k_killed_servers_lose_nothing", killed_servers_lose_nothing),
    ("l_extensions_are_part_of_the_api", extensions::extensions_are_part_of_the_api),
    ("l_namespaces_and_owners_take_theirs_along", pods::namespaces_and_owners_take_theirs_along),
    ("l_pods_keep_apart_and_make_room", services::pods_keep_apart_and_make_room),
    ("l_r_a_rollout_costs_no_request", rollout::a_rollout_costs_no_request),
    ("l_r_b_a_drain_keeps_the_budget", rollout::a_drain_keeps_the_budget),
    ("l_services_lead_where_they_should", services::services_lead_where_they_should),
    ("l_workloads_do_what_they_say", workloads::workloads_do_what_they_say),
    ("l_x_pods_end_before_their_node", kubelet::pods_end_before_their_node),
    ("m_down_leaves_nothing_behind", down_leaves_nothing_behind),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if let Some(reason) = lacking() {
        eprintln!("skipped: {reason}");
        if std::env::var_os("CI").is_some() {
            eprintln!("in CI a skip is a failure");
            return ExitCode::FAILURE;
        }
        let ignored = TESTS.map(|(name, _)| Trial::test(name, || Ok(())).with_ignored_flag(true));
        return libtest_mimic::run(&arguments, ignored.into()).exit_code();
    }
    let shared: Arc<Mutex<Option<Shared>>> = Arc::default();
    let trials = TESTS.map(|(name, test)| {
        let shared = Arc::clone(&shared);
        Trial::test(name, move || run(&shared, test).map_err(|error| Failed::from(format!("{error:#}"))))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.into());
    // The cluster is taken down with its last owner.
    drop(locked(&shared).take());
    conclusion.exit_code()
}

/// A test that failed leaves the others their data.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(shared: &Mutex<Option<Shared>>, test: Test) -> Result<()> {
    let mut slot = locked(shared);
    if slot.is_none() {
        let files = registry::test_files().context("no test files")?;
        let place = Place::from_environment("first-light", 26_443)?;
        let cluster =
            Cluster::start(&binary().context("no binary")?, &place, FIRST_LIGHT, &registry::mirrors()).context("kontiki up")?;
        let registry = Registry::start(&files, &cluster.name, cluster.folder()).context("start the registry")?;
        *slot = Some(Shared { registry, cluster, kubectls: programs(), files });
    }
    test(slot.as_ref().context("no cluster")?)
}

fn every_kubectl_reads(shared: &Shared) -> Result<()> {
    let named: Vec<_> = shared.kubectls.iter().filter_map(|program| program.file_name()?.to_str()).collect();
    println!("kubectl: {}", named.join(", "));
    ensure!(
        std::env::var_os("CI").is_none() || named.len() >= 5,
        "CI needs five versions of kubectl, this machine has {named:?}"
    );
    for program in &shared.kubectls {
        let kubectl = Kubectl::new(program, &shared.cluster.kubeconfig);
        let checks: [(&[&str], &str); 8] = [
            (&["version"], "v1.36.2+kontiki"),
            (&["cluster-info"], "is running at"),
            (&["get", "nodes", "-o", "wide"], "agent-2    Ready    <none>          "),
            (&["describe", "node", "server-1"], "node-role.kubernetes.io/control-plane:NoSchedule"),
            (&["get", "namespaces"], "kube-system"),
            (&["get", "all", "-A"], "service/kubernetes"),
            (&["api-resources"], "deployments"),
            (&["get", "namespace", "default", "-o", "yaml"], "phase: Active"),
        ];
        for (arguments, expected) in checks {
            let text = kubectl.run(arguments).with_context(|| format!("{} {arguments:?}", program.display()))?;
            ensure!(text.contains(expected), "{} {arguments:?} lacks {expected:?}:\n{text}", program.display());
        }
    }
    let nodes = shared.kubectl()?.run(&["get", "nodes", "--no-headers"])?;
    ensure!(nodes.lines().filter(|line| line.contains(" Ready ")).count() == 5, "{nodes}");
    explain(shared)?;
    may_i(shared)
}

/// kubectl before 1.29 reads the old document in protobuf, later ones the new one.
fn explain(shared: &Shared) -> Result<()> {
    for program in &shared.kubectls {
        let said = Kubectl::new(program, &shared.cluster.kubeconfig).run(&["explain", "deployment.spec.strategy"])?;
        ensure!(said.contains("rollingUpdate"), "{}: {said}", program.display());
    }
    Ok(())
}

/// kubectl from 1.32 on asks and creates in protobuf, earlier ones in JSON.
fn may_i(shared: &Shared) -> Result<()> {
    for (number, program) in shared.kubectls.iter().enumerate() {
        let kubectl = Kubectl::new(program, &shared.cluster.kubeconfig);
        let said = kubectl.run(&["auth", "can-i", "create", "pods"])?;
        ensure!(said.trim() == "yes", "{}: {said}", program.display());
        let name = format!("made-{number}");
        kubectl.run(&["create", "configmap", &name, "--from-literal=color=blue"])?;
        let read = kubectl.run(&["get", "configmap", &name, "-o", "jsonpath={.data.color}"])?;
        ensure!(read == "blue", "{}: {read:?}", program.display());
        kubectl.run(&["delete", "configmap", &name])?;
    }
    Ok(())
}

/// What etcd's own client does, through each member in turn.
fn etcdctl_works_against_any_member(shared: &Shared) -> Result<()> {
    let etcdctl = Etcdctl::new(&shared.files, &shared.cluster);
    for member in 0..SERVERS.len() {
        let other = (member + 1) % SERVERS.len();
        let value = format!("from {member}");
        ensure!(etcdctl.run(member, &["put", "test/key", &value])?.trim() == "OK");
        let read = etcdctl.run(other, &["get", "test/key", "--print-value-only"])?;
        ensure!(read.trim() == value, "{read}");
        let granted = etcdctl.run(member, &["lease", "grant", "60"])?;
        let lease = granted.split_whitespace().nth(1).context("no lease")?;
        etcdctl.run(other, &["put", "test/leased", "x", &format!("--lease={lease}")])?;
        let time = etcdctl.run(other, &["lease", "timetolive", lease, "--keys"])?;
        ensure!(time.contains("test/leased"), "{time}");
        etcdctl.run(member, &["lease", "revoke", lease])?;
        ensure!(etcdctl.run(other, &["get", "test/leased"])?.is_empty(), "a revoked lease leaves its key");
        let members = etcdctl.run(member, &["member", "list"])?;
        ensure!(members.lines().filter(|line| line.contains("started")).count() == 3, "{members}");
    }
    etcdctl.run(0, &["del", "test/key"])?;
    etcdctl.leader().map(drop)
}

fn objects_are_created_changed_and_deleted(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    let apply = |manifest: &str| kubectl.run_with(&["apply", "-f", "-"], manifest);
    let said = apply(DEPLOYMENT)?;
    ensure!(said.contains("deployment.apps/nginx created"), "{said}");
    let again = apply(DEPLOYMENT)?;
    ensure!(again.contains("deployment.apps/nginx unchanged"), "{again}");
    let changed = apply(&DEPLOYMENT.replace("replicas: 3", "replicas: 4"))?;
    ensure!(changed.contains("deployment.apps/nginx configured"), "{changed}");
    let read = kubectl.run(&["get", "deployment", "nginx", "-o", "json"])?;
    let object: Value = serde_json::from_str(&read)?;
    ensure!(object["spec"]["replicas"] == 4 && object["metadata"]["generation"] == 2, "{read}");
    ensure!(object["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == "25%", "{read}");
    let deleted = kubectl.run(&["delete", "deployment", "nginx"])?;
    ensure!(deleted.contains("deleted"), "{deleted}");
    Ok(())
}

fn bad_input_is_refused_in_kubernetes_words(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    let long = "a".repeat(300);
    let cases = [
        (
            DEPLOYMENT.replace("replicas: 3", "replicas: -1"),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (DEPLOYMENT.replace("replicas: 3", "replcas: 3"), "unknown field \"spec.replcas\""),
        (DEPLOYMENT.replacen("      app: nginx", "      app: other", 1), "`selector` does not match template `labels`"),
        (DEPLOYMENT.replacen("name: nginx", &format!("name: {long}"), 1), "must be no more than 253 "),
        ("a: [".to_owned(), "error"),
    ];
    for (manifest, expected) in cases {
        match kubectl.run_with(&["apply", "-f", "-"], &manifest) {
            Ok(said) => bail!("accepted: {said}"),
            Err(error) => ensure!(error.to_string().contains(expected), "lacks {expected:?}: {error}"),
        }
    }
    let large = format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: large}}, data: {{a: {}}}}}", "x".repeat(5 << 20));
    let refused = kubectl.run_with(&["create", "-f", "-"], &large).err().context("5 MB were accepted")?;
    ensure!(refused.to_string().contains("equest entity too large"), "{refused}");
    let old = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"default","resourceVersion":"1"}}"#;
    let refused = kubectl.run_with(&["replace", "-f", "-"], old).err().context("a stale version was accepted")?;
    ensure!(
        refused.to_string().contains("the object has been modified; please apply your changes to the latest version"),
        "{refused}"
    );
    let token = kubectl.run(&["create", "token", "default"])?;
    kubectl.run(&["config", "set-credentials", "nobody", &format!("--token={}", token.trim())])?;
    let refused = kubectl.run(&["--user=nobody", "get", "secrets"]).err().context("anybody reads secrets")?;
    let words = "secrets is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"secrets\" in API group \"\" \
                 in the namespace \"default\"";
    ensure!(refused.to_string().contains(words), "{refused}");
    let missing = kubectl.run(&["get", "pod", "nobody"]).err().context("found a pod that is not there")?;
    ensure!(missing.to_string().contains("pods \"nobody\" not found"), "{missing}");
    Ok(())
}

fn up_is_idempotent(shared: &Shared) -> Result<()> {
    let before = shared.cluster.processes("server-1", "server")?;
    ensure!(before.len() == 1, "server-1 runs {before:?}");
    shared.cluster.up()?;
    ensure!(before == shared.cluster.processes("server-1", "server")?, "the servers were started again");
    Ok(())
}

/// Aim: what was acknowledged is there after any server's death, and a watch loses and repeats nothing. Method:
/// eight writers create numbered objects and note each answer before the next request; a watcher has followed
/// since the first revision; the leader is killed with -9, then whoever leads next, then the last one.
fn killed_servers_lose_nothing(shared: &Shared) -> Result<()> {
    let kubectl = shared.kubectl()?;
    let etcdctl = Etcdctl::new(&shared.files, &shared.cluster);
    let watcher = etcdctl.watch("/registry/configmaps/default/write-", &shared.cluster.folder().join("watch.log"))?;
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeMap::new())));
    let start = |writer| {
        let (kubectl, stop, acknowledged) = (kubectl.clone(), Arc::clone(&stop), Arc::clone(&acknowledged));
        std::thread::spawn(move || write_until(&kubectl, writer, &stop, &acknowledged))
    };
    let writers: Vec<_> = (0..8).map(start).collect();
    let killed = kill_leaders(shared, &etcdctl, || locked(&acknowledged).len());
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
    }
    killed?;
    let listed: Value = serde_json::from_str(&kubectl.run(&["get", "--raw", "/api/v1/namespaces/default/configmaps"])?)?;
    let version = |item: &Value| {
        let field = |name: &str| item["metadata"][name].as_str().map(str::to_owned);
        Some((field("name")?, field("resourceVersion")?))
    };
    let there: BTreeMap<_, _> = listed["items"].as_array().context("no items")?.iter().filter_map(version).collect();
    let acknowledged = locked(&acknowledged);
    ensure!(acknowledged.len() >= 100, "only {} writes were acknowledged", acknowledged.len());
    for (name, version) in acknowledged.iter() {
        ensure!(there.get(name) == Some(version), "{name} was acknowledged at {version}, the cluster has {:?}", there.get(name));
    }
    let written: BTreeMap<_, _> = there.into_iter().filter(|(name, _)| name.starts_with("write-")).collect();
    let seen = eventually(DEADLINE, "the watcher has seen all", || {
        let seen = watcher.seen()?;
        Ok((seen.len() >= written.len()).then_some(seen))
    })?;
    ensure!(seen.windows(2).all(|pair| pair[0].1 < pair[1].1), "events out of order or repeated");
    let told: BTreeMap<String, String> = seen
        .iter()
        .map(|(key, at)| (key.trim_start_matches("/registry/configmaps/default/").to_owned(), at.to_string()))
        .collect();
    ensure!(told == written && seen.len() == written.len(), "the watcher saw {} events of {} writes", seen.len(), written.len());
    println!("{} acknowledged writes, all there; {} events, each once and in order", acknowledged.len(), seen.len());
    Ok(())
}

fn kill_leaders(shared: &Shared, etcdctl: &Etcdctl, acknowledged: impl Fn() -> usize) -> Result<()> {
    for _ in 0..SERVERS.len() {
        let before = acknowledged();
        eventually(DEADLINE, "writes before a kill", || Ok((acknowledged() >= before + 40).then_some(())))?;
        let node = SERVERS[etcdctl.leader()?];
        let running = shared.cluster.processes(node, "server")?;
        ensure!(running.len() == 1, "{node} runs {running:?}");
        kill(Pid::from_raw(running[0]), Signal::SIGKILL)?;
        eventually(DEADLINE, "the server comes back", || {
            let now = shared.cluster.processes(node, "server")?;
            Ok((now.len() == 1 && now != running).then_some(()))
        })?;
        shared.cluster.up().context("all servers are ready again")?;
    }
    Ok(())
}

fn write_until(kubectl: &Kubectl, writer: usize, stop: &AtomicBool, acknowledged: &Mutex<BTreeMap<String, String>>) {
    for number in 0..10_000 {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("write-{writer}-{number}");
        let object = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}}}}"#);
        let said = kubectl.run_with(&["create", "--validate=false", "-o", "json", "-f", "-"], &object);
        // An answer that did not come says nothing about the write.
        let answer = said.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        if let Some(version) = answer.and_then(|object| object["metadata"]["resourceVersion"].as_str().map(str::to_owned)) {
            locked(acknowledged).insert(name, version);
        }
    }
}

fn down_leaves_nothing_behind(shared: &Shared) -> Result<()> {
    shared.cluster.down()?;
    for node in SERVERS {
        ensure!(shared.cluster.processes(node, "server")?.is_empty(), "{node} still runs");
    }
    let name = &shared.cluster.name;
    for path in [format!("/run/netns/kontiki-{name}"), format!("/sys/fs/cgroup/memory/kontiki/{name}")] {
        ensure!(!Path::new(&path).exists(), "{path} is left");
    }
    ensure!(!shared.cluster.state().join(name).exists(), "the state is left");
    let config = std::fs::read_to_string(&shared.cluster.kubeconfig)?;
    ensure!(!config.contains(&format!("kontiki-{name}")), "the kubeconfig still names the cluster");
    Ok(())
}
