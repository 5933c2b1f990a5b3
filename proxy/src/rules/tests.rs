//! Rules as text, and in a real kernel: a network namespace of its own with clients and servers in it.
#![allow(clippy::unwrap_used)]

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::*;
use crate::{
    index::tests::{index, key},
    ruleset::State,
};

fn around() -> Surroundings {
    let node = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
    Surroundings { node: Arc::new(node), pod_cidr: "10.244.0.0/16".into(), dns_address: "10.96.0.10".parse().unwrap() }
}

fn service(extra: Value) -> Value {
    let port = json!({"name": "http", "protocol": "TCP", "port": 80, "nodePort": extra["nodePort"].as_u64().unwrap_or(0)});
    let mut spec = json!({"clusterIP": "10.96.0.7", "ports": [port]});
    for (name, value) in extra.as_object().unwrap() {
        if !["nodePort", "labels", "status"].contains(&name.as_str()) {
            spec[name] = value.clone();
        }
    }
    json!({"metadata": {"name": "web", "namespace": "n", "labels": extra["labels"]}, "spec": spec, "status": extra["status"]})
}

fn two() -> Value {
    json!([{"addresses": ["10.244.0.2"], "nodeName": "a"}, {"addresses": ["10.244.1.3"], "nodeName": "b"}])
}

fn fragment_of(extra: Value, endpoints: Value) -> Fragment {
    let mut service = service(extra);
    if service["metadata"]["labels"].is_null() {
        service["metadata"]["labels"] = json!({});
    }
    if service["status"].is_null() {
        service["status"] = json!({});
    }
    let ports = json!([{"name": "http", "protocol": "TCP", "port": 8080}, {"name": "talk", "protocol": "UDP", "port": 8080}]);
    let index = index(&[service], &[("web", json!({"endpoints": endpoints, "ports": ports}))]);
    fragment(index.service(&key("web")).unwrap(), index.slices_of(&key("web")), &around(), Family::V4)
}

/// The elements, one a line, hairpins left out.
fn check(extra: Value, endpoints: Value, wanted: &[&str]) {
    let found = fragment_of(extra.clone(), endpoints);
    let line = |((map, key), value): (&(&'static str, String), &Option<String>)| match value {
        Some(value) => format!("{map} {key} : {value}"),
        None => format!("{map} {key}"),
    };
    let lines: Vec<String> = found.elements.iter().map(line).filter(|line| !line.starts_with("hairpins")).collect();
    assert_eq!(lines, wanted, "{extra}");
}

#[test]
fn a_service_is_elements_alone() {
    check(
        json!({}),
        two(),
        &[
            "endpoints 10.96.0.7 . tcp . 80 . 0 : 10.244.0.2 . 8080",
            "endpoints 10.96.0.7 . tcp . 80 . 1 : 10.244.1.3 . 8080",
            "services 10.96.0.7 . tcp . 80 : goto pick-tcp-2",
        ],
    );
    check(json!({}), json!([]), &["unanswered 10.96.0.7 . tcp . 80 : goto reject_all"]);
    check(json!({"clusterIP": "10.96.0.10"}), two(), &[]);
    for label in ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"] {
        check(json!({"labels": {label: "other"}}), two(), &[]);
    }
    check(json!({"type": "ExternalName", "externalName": "example.org"}), two(), &[]);
}

#[test]
fn policies_keep_traffic_on_its_node() {
    check(
        json!({"internalTrafficPolicy": "Local"}),
        two(),
        &[
            "local_endpoints 10.96.0.7 . tcp . 80 . 0 : 10.244.0.2 . 8080",
            "services 10.96.0.7 . tcp . 80 : goto pick-local-tcp-1",
        ],
    );
    let elsewhere = json!([{"addresses": ["10.244.1.3"], "nodeName": "b"}]);
    check(json!({"internalTrafficPolicy": "Local"}), elsewhere.clone(), &["unanswered 10.96.0.7 . tcp . 80 : drop"]);
    let found = fragment_of(json!({"nodePort": 30080, "externalTrafficPolicy": "Local"}), elsewhere);
    assert_eq!(found.chains["outside-port-tcp-1-none"].last().unwrap(), "drop");
    let found = fragment_of(json!({"nodePort": 30080, "externalTrafficPolicy": "Local"}), two());
    assert_eq!(
        found.elements[&("node_ports", "tcp . 30080".to_owned())].as_deref(),
        Some("goto outside-port-tcp-2-port-local-tcp-1")
    );
    assert!(found.elements.contains_key(&("local_port_endpoints", "tcp . 30080 . 0".to_owned())));
}

#[test]
fn addresses_from_outside_lead_here_too() {
    let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "ipMode": "Proxy"}]}});
    check(
        json!({"externalIPs": ["198.51.100.1"], "status": status, "loadBalancerSourceRanges": ["203.0.113.0/24"]}),
        json!([{"addresses": ["10.244.0.2"]}]),
        &[
            "allowed 192.0.2.1 . tcp . 80 . 203.0.113.0/24",
            "endpoints 10.96.0.7 . tcp . 80 . 0 : 10.244.0.2 . 8080",
            "endpoints 192.0.2.1 . tcp . 80 . 0 : 10.244.0.2 . 8080",
            "endpoints 198.51.100.1 . tcp . 80 . 0 : 10.244.0.2 . 8080",
            "guarded 192.0.2.1 . tcp . 80",
            "services 10.96.0.7 . tcp . 80 : goto pick-tcp-1",
            "services 192.0.2.1 . tcp . 80 : goto outside-pick-tcp-1",
            "services 198.51.100.1 . tcp . 80 : goto outside-pick-tcp-1",
        ],
    );
}

#[test]
fn an_endpoint_that_stays_keeps_its_clients() {
    let affinity = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}});
    let both = fragment_of(affinity.clone(), two());
    let one = fragment_of(affinity, json!([{"addresses": ["10.244.0.2"], "nodeName": "a"}]));
    assert_eq!(both.sets.len(), 2);
    assert!(one.sets.iter().all(|(name, definition)| both.sets.get(name) == Some(definition)));
    assert!(one.sets.values().next().unwrap().contains("timeout 60s"));
}

/// Runs nft, and then a program, in a network namespace that ends with them. Only root may make one; the end-to-end
/// tests run as root.
fn in_a_kernel(script: &str, program: &str) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(script.as_bytes()).unwrap();
    let set_up = format!("set -e; ip link set lo up; nft -f {}; {program}", file.path().display());
    let output = Command::new("unshare").args(["--net", "bash", "-c", &set_up]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}\n{script}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn whole(services: &[(Value, Value)]) -> String {
    let mut state = State::new(Family::V4);
    for (number, (extra, endpoints)) in services.iter().enumerate() {
        state.change(vec![(key(&number.to_string()), fragment_of(extra.clone(), endpoints.clone()))]);
    }
    state.whole("10.244.0.0/16")
}

#[test]
fn the_kernel_takes_every_kind_of_service() {
    let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    let mut state = State::new(Family::V4);
    let mut script = String::new();
    for (number, extra) in [
        json!({"nodePort": 30080}),
        json!({"nodePort": 30081, "clusterIP": "10.96.0.8", "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}),
        json!({"clusterIP": "10.96.0.9", "sessionAffinity": "ClientIP", "nodePort": 30082, "externalTrafficPolicy": "Local"}),
        json!({"clusterIP": "10.96.0.11", "status": status, "loadBalancerSourceRanges": ["203.0.113.0/24", "198.51.100.7/32"]}),
    ]
    .into_iter()
    .enumerate()
    {
        let full = state.change(vec![(key(&number.to_string()), fragment_of(extra.clone(), two()))]);
        let empty = state.change(vec![(key(&number.to_string()), fragment_of(extra.clone(), json!([])))]);
        let again = state.change(vec![(key(&number.to_string()), fragment_of(extra, two()))]);
        // Each as a transaction of its own, as the proxy does it.
        script += &format!("nft -f - <<'END'\n{full}END\nnft -f - <<'END'\n{empty}END\nnft -f - <<'END'\n{again}END\n");
    }
    in_a_kernel(&State::new(Family::V4).whole("10.244.0.0/16"), &script);
    in_a_kernel(&State::new(Family::V6).whole(""), "true");
    in_a_kernel(&whole(&[(json!({"nodePort": 30080}), two())]), "nft list ruleset");
}

/// Servers that tell their address, on addresses of the namespace; then what a client gets.
const SERVERS: &str = r#"
for n in 2 3; do ip address add 10.244.0.$n/32 dev lo; done
ip address add 192.168.7.1/32 dev lo; ip route add 10.96.0.0/16 dev lo
serve() { python3 - "$@" <<'END'
import socket, sys, threading
def serve(address):
    listener = socket.socket(); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, 8080)); listener.listen(64)
    def loop():
        while True:
            connection, _ = listener.accept(); connection.sendall(address.encode()); connection.close()
    threading.Thread(target=loop, daemon=True).start()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); datagrams.bind((address, 8080))
    def answer():
        while True: datagrams.sendto(address.encode(), datagrams.recvfrom(64)[1])
    threading.Thread(target=answer, daemon=True).start()
for address in ("10.244.0.2", "10.244.0.3"): serve(address)
def ask(address, port, kind):
    client = socket.socket(socket.AF_INET, kind); client.settimeout(2)
    try:
        client.connect((address, port))
        if kind == socket.SOCK_DGRAM: client.send(b"who")
        return client.recv(64).decode()
    except ConnectionRefusedError: return "refused"
    except TimeoutError: return "timeout"
for line in sys.argv[1:]:
    address, port, times, *kind = line.split(":")
    kind = socket.SOCK_DGRAM if kind else socket.SOCK_STREAM
    print(line, *sorted({ask(address, int(port), kind) for _ in range(int(times))}))
END
}
"#;

#[test]
fn connections_arrive_where_they_should() {
    let here = json!([{"addresses": ["10.244.0.2"], "nodeName": "a"}, {"addresses": ["10.244.0.3"], "nodeName": "b"}]);
    let port = |name: &str, protocol: &str, node: u16| json!({"name": name, "protocol": protocol, "port": 80, "nodePort": node});
    let both = [port("http", "TCP", 0), port("talk", "UDP", 30084)];
    let script = whole(&[
        (json!({"nodePort": 30080}), here.clone()),
        (json!({"clusterIP": "10.96.0.8", "internalTrafficPolicy": "Local"}), here.clone()),
        (json!({"clusterIP": "10.96.0.9", "sessionAffinity": "ClientIP", "nodePort": 30082}), here.clone()),
        (json!({"clusterIP": "10.96.0.11", "nodePort": 30083}), json!([])),
        (json!({"clusterIP": "10.96.0.12", "ports": both}), here),
    ]);
    let asked = [
        ("10.96.0.7:80:40", "10.244.0.2 10.244.0.3"),
        ("192.168.7.1:30080:40", "10.244.0.2 10.244.0.3"),
        ("10.96.0.8:80:20", "10.244.0.2"),
        ("10.96.0.11:80:1", "refused"),
        ("10.96.0.12:80:40", "10.244.0.2 10.244.0.3"),
        ("10.96.0.12:80:40:udp", "10.244.0.2 10.244.0.3"),
        ("192.168.7.1:30084:40:udp", "10.244.0.2 10.244.0.3"),
        ("192.168.7.1:30083:1", "refused"),
    ];
    let all: Vec<&str> = asked.iter().map(|(asked, _)| *asked).chain(["10.96.0.9:80:20"]).collect();
    let Some(found) = in_a_kernel(&script, &format!("{SERVERS} serve {}", all.join(" "))) else { return };
    let of = |asked: &str| found.lines().find_map(|line| line.strip_prefix(asked)).unwrap().trim().to_owned();
    for (asked, wanted) in asked {
        assert_eq!(of(asked), wanted, "{asked}");
    }
    let kept = of("10.96.0.9:80:20");
    assert!(["10.244.0.2", "10.244.0.3"].contains(&kept.as_str()), "one client, one endpoint: {kept}");
}
