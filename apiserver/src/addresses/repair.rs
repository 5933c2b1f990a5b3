//! Compares Services with the node ports that are taken, and mends what differs.
//!
//! Ports are taken in the transaction that writes their Service, so a difference is nobody's ordinary doing: a store that was
//! restored, a key that somebody has removed. In: Services and taken ports, both at one revision. Out: ports taken that
//! lacked it, ports given back that no Service has, and events about what only the Service's owner can mend. The server
//! beside the store's leader does it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request};
use jiff::Timestamp;
use kontiki_api::{
    object::meta,
    registry,
    resources::{EVENTS_V1, SERVICES},
};
use kontiki_proto::etcdserverpb as pb;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::ports;
use crate::{
    auth::UserInfo,
    service::Handle,
    storage::{Condition, ListOptions, VersionMatch, keys},
};

/// Time between two comparisons.
const PERIOD: Duration = Duration::from_secs(180);
/// Wait before the first one.
const FIRST: Duration = Duration::from_secs(10);
const CONTROLLER: &str = "portallocator-repair-controller";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    r#type: &'static str,
}

/// What is counted, under kube-apiserver's names.
#[derive(Clone, Default)]
pub struct Metrics {
    ports: Family<Labels, Counter>,
    failures: Counter,
}

impl Metrics {
    /// Makes them part of `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        let name = |name: &str| format!("apiserver_nodeport_repair_{name}");
        registry.register(name("port_errors"), "Node ports that were found wrong", self.ports.clone());
        registry.register(name("reconcile_errors"), "Comparisons that failed", self.failures.clone());
    }
}

/// What is wrong with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Problem {
    NotAllocated,
    Duplicate,
    OutOfRange,
}

impl Problem {
    /// Label of the counter, and the event's reason and note.
    fn words(self, port: u16) -> (&'static str, &'static str, String) {
        match self {
            Self::NotAllocated => ("repair", "PortNotAllocated", format!("Port {port} is not allocated; repairing")),
            Self::Duplicate => (
                "duplicate",
                "PortAlreadyAllocated",
                format!("Port {port} was assigned to multiple services; please recreate service"),
            ),
            Self::OutOfRange => {
                let (first, last) = (ports::NODE_PORTS.start(), ports::NODE_PORTS.end());
                let note = format!("Port {port} is not within the port range {first}-{last}; please recreate service");
                ("outOfRange", "PortOutOfRange", note)
            }
        }
    }
}

/// What differs: problems with the position of their Service, and ports that are taken and no Service has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    problems: Vec<(usize, u16, Problem)>,
    leaked: Vec<u16>,
}

/// Compares Services, oldest first, with what is taken. Pure.
fn compare(services: &[Value], taken: &BTreeSet<u16>) -> Findings {
    let mut seen = BTreeSet::new();
    let mut findings = Findings::default();
    for (index, service) in services.iter().enumerate() {
        for port in ports::held(service) {
            let problem = if !ports::NODE_PORTS.contains(&port) {
                Problem::OutOfRange
            } else if !seen.insert(port) {
                Problem::Duplicate
            } else if !taken.contains(&port) {
                Problem::NotAllocated
            } else {
                continue;
            };
            findings.problems.push((index, port, problem));
        }
    }
    findings.leaked = taken.difference(&seen).copied().collect();
    findings
}

/// Compares again and again until `cancel`.
pub async fn run(handle: Handle, metrics: Metrics, cancel: CancellationToken) {
    let mut wait = FIRST;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(wait) => wait = PERIOD,
        }
        let leadership = *handle.server().options.kv.leadership().borrow();
        if leadership.leader_id != Some(leadership.member_id) {
            continue;
        }
        if let Err(message) = once(&handle, &metrics, Timestamp::now()).await {
            metrics.failures.inc();
            tracing::warn!(message, "cannot compare Services with the node ports that are taken");
        }
    }
}

/// One comparison.
async fn once(handle: &Handle, metrics: &Metrics, now: Timestamp) -> Result<(), String> {
    let storage = &handle.server().storage;
    let request = pb::RangeRequest {
        key: Bytes::from_static(ports::PREFIX.as_bytes()),
        range_end: keys::range_end(ports::PREFIX),
        ..pb::RangeRequest::default()
    };
    let found = storage.kv.range(request).await.map_err(|error| error.to_string())?;
    let revision = found.header.as_ref().map_or(0, |header| header.revision);
    let port = |pair: &kontiki_proto::mvccpb::KeyValue| ports::of_key(std::str::from_utf8(&pair.key).ok()?);
    let taken: BTreeMap<u16, i64> = found.kvs.iter().filter_map(|pair| Some((port(pair)?, pair.mod_revision))).collect();
    let resource = registry::of(&SERVICES).ok_or("Services are not served")?;
    let options = ListOptions { version: VersionMatch::Exact(revision), ..ListOptions::default() };
    let page = storage.list(resource, &options).await.map_err(|status| status.message)?;
    let mut services: Vec<Value> = page.objects.iter().map(|object| object.encoded.value()).collect();
    let age = |service: &Value| (meta::text(service, "creationTimestamp").to_owned(), meta::uid(service).to_owned());
    services.sort_by_key(age);
    let findings = compare(&services, &taken.keys().copied().collect());
    for (index, port, problem) in findings.problems {
        let (label, reason, note) = problem.words(port);
        metrics.ports.get_or_create(&Labels { r#type: label }).inc();
        let service = &services[index];
        let (namespace, name) = (meta::namespace(service), meta::name(service));
        tracing::warn!(namespace, name, port, reason, "a node port is not as it must be");
        if problem == Problem::NotAllocated {
            let version = meta::resource_version(service).parse().unwrap_or(0);
            let owner = keys::object(resource, namespace, name);
            let holds = [Condition::At(owner, version), Condition::Absent(ports::key(port))];
            let value = Bytes::from(format!("{namespace}/{name}"));
            storage.put_if(&holds, &ports::key(port), value).await.map_err(|status| status.message)?;
        }
        tell(handle, service, (reason, &note), now).await?;
    }
    for port in findings.leaked {
        metrics.ports.get_or_create(&Labels { r#type: "leak" }).inc();
        tracing::warn!(port, "a node port is taken that no Service has; it is given back");
        let revision = taken.get(&port).copied().unwrap_or(0);
        let holds = [Condition::At(ports::key(port), revision)];
        storage.delete_if(&holds, &ports::key(port)).await.map_err(|status| status.message)?;
    }
    Ok(())
}

/// Records an event about a Service. One and the same is told once while it is kept.
async fn tell(handle: &Handle, service: &Value, (reason, note): (&str, &str), now: Timestamp) -> Result<(), String> {
    let (namespace, name) = (meta::namespace(service), meta::name(service));
    let digest = hex::encode(Sha256::digest(format!("{} {reason} {note}", meta::uid(service))));
    let event = json!({
        "apiVersion": EVENTS_V1.api_version(),
        "kind": EVENTS_V1.kind,
        "metadata": { "name": format!("{name}.{}", &digest[..16]), "namespace": namespace },
        "eventTime": format!("{now:.6}"),
        "type": "Warning",
        "reason": reason,
        "action": "PortAllocation",
        "note": note,
        "reportingController": CONTROLLER,
        "reportingInstance": CONTROLLER,
        "regarding": {
            "apiVersion": "v1", "kind": SERVICES.kind, "namespace": namespace, "name": name,
            "uid": meta::uid(service), "resourceVersion": meta::resource_version(service),
        },
    });
    let request = Request::builder().method(Method::POST).uri(EVENTS_V1.path(namespace, ""));
    let request = request.header("content-type", "application/json").body(Bytes::from(event.to_string()));
    let answer = handle.call(UserInfo::apiserver(), request.map_err(|error| error.to_string())?).await;
    match answer.status().as_u16() {
        201 | 409 => Ok(()),
        code => Err(format!("an event was answered with {code}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;

    fn service(name: &str, port: u16) -> Value {
        json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}})
    }

    #[test]
    fn what_differs_is_found() {
        let services = [service("a", 30_001), service("b", 30_001), service("c", 30_002), service("d", 80)];
        let findings = compare(&services, &BTreeSet::from([30_001, 30_009]));
        let problems = vec![(1, 30_001, Problem::Duplicate), (2, 30_002, Problem::NotAllocated), (3, 80, Problem::OutOfRange)];
        assert_eq!(findings, Findings { problems, leaked: vec![30_009] });
        assert_eq!(compare(&services[..1], &BTreeSet::from([30_001])), Findings::default());
    }

    async fn put(handle: &Handle, key: String, value: String) {
        let put = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        handle.server().options.kv.put(put).await.unwrap();
    }

    async fn exists(handle: &Handle, port: u16) -> bool {
        let request = pb::RangeRequest { key: ports::key(port).into(), ..Default::default() };
        !handle.server().options.kv.range(request).await.unwrap().kvs.is_empty()
    }

    #[tokio::test]
    async fn ports_are_taken_and_given_back_and_owners_are_told() {
        let handle = testing::server().await;
        for (name, port) in [("a", 30_001), ("b", 30_002)] {
            let mut object = service(name, port);
            object["apiVersion"] = json!("v1");
            object["kind"] = json!("Service");
            let path = "/api/v1/namespaces/default/services";
            assert_eq!(testing::send(&handle, Method::POST, path, &[], object.to_string()).await.code, 201);
        }
        // A restored store: one port is not taken, one is nobody's, and one Service has another's.
        let gone = pb::DeleteRangeRequest { key: ports::key(30_001).into(), ..Default::default() };
        handle.server().options.kv.delete_range(gone).await.unwrap();
        put(&handle, ports::key(30_500), "default/gone".to_owned()).await;
        let mut other = testing::send(&handle, Method::GET, "/api/v1/namespaces/default/services/b", &[], "").await.json();
        other["metadata"]["name"] = json!("c");
        other["metadata"]["uid"] = json!("c");
        other["metadata"]["creationTimestamp"] = json!("2999-01-01T00:00:00Z");
        other["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        put(&handle, "/registry/services/specs/default/c".to_owned(), other.to_string()).await;
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        for _ in 0..2 {
            once(&handle, &metrics, Timestamp::now()).await.unwrap();
        }
        assert!(exists(&handle, 30_001).await && exists(&handle, 30_002).await && !exists(&handle, 30_500).await);
        let events =
            testing::send(&handle, Method::GET, "/apis/events.k8s.io/v1/namespaces/default/events", &[], "").await.json();
        let event = |event: &Value| (event["reason"].clone(), event["regarding"]["name"].clone(), event["note"].clone());
        let mut events: Vec<_> = events["items"].as_array().unwrap().iter().map(event).collect();
        events.sort_by_key(|(reason, ..)| reason.to_string());
        let expected = [
            ("PortAlreadyAllocated", "c", "Port 30002 was assigned to multiple services; please recreate service"),
            ("PortNotAllocated", "a", "Port 30001 is not allocated; repairing"),
        ];
        assert_eq!(events, expected.map(|(reason, name, note)| (json!(reason), json!(name), json!(note))));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "apiserver_nodeport_repair_port_errors_total{type=\"repair\"} 1",
            "apiserver_nodeport_repair_port_errors_total{type=\"leak\"} 1",
            "apiserver_nodeport_repair_port_errors_total{type=\"duplicate\"} 2",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
