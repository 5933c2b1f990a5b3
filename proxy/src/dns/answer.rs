//! What a name of the cluster stands for. Pure.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use crate::model::{Service, Slice};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Addresses.
    A,
    /// Ports and names.
    Srv,
    /// Names of an address.
    Ptr,
    /// Text.
    Txt,
    /// Anything else: nothing is known of it.
    Other,
}

/// One record; names are whole, without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Record {
    /// An address.
    A(Ipv4Addr),
    /// Another name.
    Cname(String),
    /// A port and the name of who has it.
    Srv(u16, String),
    /// A name.
    Ptr(String),
    /// Text.
    Txt(String),
}

/// What there is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name is there; there may be no records of that kind.
    Found(Vec<Record>),
    /// There is no such name.
    NoSuchName,
    /// The name is not of this cluster.
    Elsewhere,
}

/// Version of the specification, under `dns-version`.
const VERSION: &str = "1.1.0";

/// All that answers are made from.
pub struct Zone<'a> {
    /// Domain of the cluster's names.
    pub domain: &'a str,
    /// Services.
    pub services: &'a [Arc<Service>],
    /// Their endpoints.
    pub slices: &'a [Arc<Slice>],
}

impl Zone<'_> {
    /// Answers. `name` is in lower case, without a final dot.
    pub fn answer(&self, name: &str, kind: Kind) -> Answer {
        if let Some(address) = reverse(name) {
            return self.names_of(address, kind);
        }
        let Some(inner) = name.strip_suffix(self.domain) else { return Answer::Elsewhere };
        let inner = match (inner.is_empty(), inner.strip_suffix('.')) {
            (true, _) => return Answer::Found(Vec::new()),
            (_, Some(inner)) => inner,
            // Another domain that ends alike.
            _ => return Answer::Elsewhere,
        };
        let labels: Vec<&str> = inner.split('.').collect();
        match labels.as_slice() {
            ["dns-version"] => Answer::Found(if kind == Kind::Txt { vec![Record::Txt(VERSION.to_owned())] } else { Vec::new() }),
            [.., "pod"] => pod(&labels, kind),
            ["svc"] => Answer::Found(Vec::new()),
            [rest @ .., namespace, "svc"] => self.service(rest, namespace, kind),
            _ => Answer::NoSuchName,
        }
    }

    fn service(&self, rest: &[&str], namespace: &str, kind: Kind) -> Answer {
        let find = |name: &str| {
            self.services.iter().find(|service| service.metadata.name == name && service.metadata.namespace == namespace)
        };
        match rest {
            [] => {
                let any = self.services.iter().any(|service| service.metadata.namespace == namespace);
                if any { Answer::Found(Vec::new()) } else { Answer::NoSuchName }
            }
            [name] => find(name).map_or(Answer::NoSuchName, |service| self.of_service(service, kind)),
            [port, protocol, name] if port.starts_with('_') && protocol.starts_with('_') => {
                find(name).map_or(Answer::NoSuchName, |service| self.of_port(service, &port[1..], &protocol[1..], kind))
            }
            [host, name] => find(name).map_or(Answer::NoSuchName, |service| self.of_endpoint(service, host, kind)),
            _ => Answer::NoSuchName,
        }
    }

    fn whole(&self, service: &Service) -> String {
        format!("{}.{}.svc.{}", service.metadata.name, service.metadata.namespace, self.domain)
    }

    /// Addresses, host names and ports of a Service's endpoints that are published.
    fn endpoints<'b>(&'b self, service: &'b Service) -> impl Iterator<Item = (Ipv4Addr, String, &'b Slice)> {
        let slices = self.slices.iter().filter(|slice| slice.is_of(&service.metadata) && slice.address_type == "IPv4");
        slices.flat_map(move |slice| {
            let published = slice.endpoints.iter().filter(move |one| one.is_ready() || service.spec.publish_not_ready_addresses);
            published.filter_map(move |endpoint| {
                let address = endpoint.address()?;
                let host =
                    if endpoint.hostname.is_empty() { address.to_string().replace('.', "-") } else { endpoint.hostname.clone() };
                Some((address, host, slice.as_ref()))
            })
        })
    }

    fn of_service(&self, service: &Service, kind: Kind) -> Answer {
        if service.spec.r#type == "ExternalName" {
            return Answer::Found(vec![Record::Cname(service.spec.external_name.trim_end_matches('.').to_owned())]);
        }
        if service.is_headless() && self.endpoints(service).next().is_none() {
            return Answer::NoSuchName;
        }
        let records: BTreeSet<Record> = match (kind, service.address()) {
            (Kind::A, Some(address)) => BTreeSet::from([Record::A(address)]),
            (Kind::A, None) => self.endpoints(service).map(|(address, _, _)| Record::A(address)).collect(),
            (Kind::Srv, Some(_)) => service.spec.ports.iter().map(|port| Record::Srv(port.port, self.whole(service))).collect(),
            (Kind::Srv, None) => self.ports_of_endpoints(service, |_, _| true),
            _ => BTreeSet::new(),
        };
        Answer::Found(records.into_iter().collect())
    }

    fn ports_of_endpoints(&self, service: &Service, wanted: impl Fn(&str, &str) -> bool) -> BTreeSet<Record> {
        let whole = self.whole(service);
        let mut records = BTreeSet::new();
        for (_, host, slice) in self.endpoints(service) {
            let ports = slice.ports.iter().filter(|port| wanted(&port.name, &port.protocol));
            records.extend(ports.map(|port| Record::Srv(port.port, format!("{host}.{whole}"))));
        }
        records
    }

    /// `_port._protocol.service`.
    fn of_port(&self, service: &Service, name: &str, protocol: &str, kind: Kind) -> Answer {
        let matches = |own: &str, own_protocol: &str| own == name && own_protocol.eq_ignore_ascii_case(protocol);
        let mut named = service.spec.ports.iter().filter(|port| matches(&port.name, &port.protocol)).peekable();
        if named.peek().is_none() {
            return Answer::NoSuchName;
        }
        if kind != Kind::Srv {
            return Answer::Found(Vec::new());
        }
        if service.is_headless() {
            return Answer::Found(self.ports_of_endpoints(service, matches).into_iter().collect());
        }
        Answer::Found(named.map(|port| Record::Srv(port.port, self.whole(service))).collect())
    }

    /// `host.service`.
    fn of_endpoint(&self, service: &Service, host: &str, kind: Kind) -> Answer {
        let addresses: BTreeSet<Record> =
            self.endpoints(service).filter(|(_, own, _)| own == host).map(|(address, _, _)| Record::A(address)).collect();
        match (addresses.is_empty(), kind) {
            (true, _) => Answer::NoSuchName,
            (false, Kind::A) => Answer::Found(addresses.into_iter().collect()),
            (false, _) => Answer::Found(Vec::new()),
        }
    }

    fn names_of(&self, address: Ipv4Addr, kind: Kind) -> Answer {
        let mut names: BTreeSet<String> = self
            .services
            .iter()
            .filter(|service| service.address() == Some(address))
            .map(|service| self.whole(service))
            .collect();
        for service in self.services.iter().filter(|service| service.is_headless()) {
            let own = self.endpoints(service).filter(|(own, _, _)| *own == address);
            names.extend(own.map(|(_, host, _)| format!("{host}.{}", self.whole(service))));
        }
        if names.is_empty() {
            return Answer::Elsewhere;
        }
        Answer::Found(if kind == Kind::Ptr { names.into_iter().map(Record::Ptr).collect() } else { Vec::new() })
    }
}

/// `1-2-3-4.namespace.pod`.
fn pod(labels: &[&str], kind: Kind) -> Answer {
    match labels {
        ["pod"] | [_, "pod"] => Answer::Found(Vec::new()),
        [address, _, _] => match address.replace('-', ".").parse() {
            Ok(address) if kind == Kind::A => Answer::Found(vec![Record::A(address)]),
            Ok(_) => Answer::Found(Vec::new()),
            Err(_) => Answer::NoSuchName,
        },
        _ => Answer::NoSuchName,
    }
}

/// The address of `4.3.2.1.in-addr.arpa`.
fn reverse(name: &str) -> Option<Ipv4Addr> {
    let mut parts: Vec<&str> = name.strip_suffix(".in-addr.arpa")?.split('.').collect();
    parts.reverse();
    parts.join(".").parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn service(value: serde_json::Value) -> Arc<Service> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn ask(name: &str, kind: Kind) -> Answer {
        let port = json!({"name": "http", "protocol": "TCP", "port": 80});
        let services = [
            service(json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"clusterIP": "10.96.0.7", "ports": [port]}})),
            service(json!({"metadata": {"name": "db", "namespace": "n"}, "spec": {"clusterIP": "None", "ports": [port]}})),
            service(
                json!({"metadata": {"name": "out", "namespace": "n"}, "spec": {"type": "ExternalName", "externalName": "example.org"}}),
            ),
        ];
        let slice = json!({
            "metadata": {"name": "db-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.244.0.2"], "hostname": "db-0"}, {"addresses": ["10.244.0.3"]},
                {"addresses": ["10.244.0.4"], "conditions": {"ready": false}},
            ],
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        });
        let slices = [Arc::new(serde_json::from_value(slice).unwrap())];
        Zone { domain: "cluster.local", services: &services, slices: &slices }.answer(name, kind)
    }

    fn address(last: u8) -> Record {
        Record::A(Ipv4Addr::new(10, 244, 0, last))
    }

    #[test]
    fn services_have_one_address_and_headless_ones_their_endpoints() {
        assert_eq!(ask("web.n.svc.cluster.local", Kind::A), Answer::Found(vec![Record::A(Ipv4Addr::new(10, 96, 0, 7))]));
        assert_eq!(ask("db.n.svc.cluster.local", Kind::A), Answer::Found(vec![address(2), address(3)]));
        assert_eq!(ask("db-0.db.n.svc.cluster.local", Kind::A), Answer::Found(vec![address(2)]));
        assert_eq!(ask("10-244-0-3.db.n.svc.cluster.local", Kind::A), Answer::Found(vec![address(3)]));
        assert_eq!(ask("out.n.svc.cluster.local", Kind::A), Answer::Found(vec![Record::Cname("example.org".into())]));
    }

    #[test]
    fn ports_by_name() {
        let web = Record::Srv(80, "web.n.svc.cluster.local".into());
        assert_eq!(ask("_http._tcp.web.n.svc.cluster.local", Kind::Srv), Answer::Found(vec![web]));
        let Answer::Found(records) = ask("_http._tcp.db.n.svc.cluster.local", Kind::Srv) else { panic!() };
        assert!(records.contains(&Record::Srv(8080, "db-0.db.n.svc.cluster.local".into())));
        assert_eq!(ask("_ftp._tcp.web.n.svc.cluster.local", Kind::Srv), Answer::NoSuchName);
    }

    #[test]
    fn a_name_without_such_records_is_not_a_missing_name() {
        assert_eq!(ask("web.n.svc.cluster.local", Kind::Other), Answer::Found(vec![]));
        assert_eq!(ask("n.svc.cluster.local", Kind::A), Answer::Found(vec![]));
        for name in
            ["nothing.n.svc.cluster.local", "web.other.svc.cluster.local", "x.cluster.local", "a.b.c.d.n.svc.cluster.local"]
        {
            assert_eq!(ask(name, Kind::A), Answer::NoSuchName, "{name}");
        }
        assert_eq!(ask("example.org", Kind::A), Answer::Elsewhere);
        assert_eq!(ask("notcluster.local", Kind::A), Answer::Elsewhere);
    }

    #[test]
    fn pods_reverse_names_and_the_version() {
        assert_eq!(ask("10-244-0-9.n.pod.cluster.local", Kind::A), Answer::Found(vec![address(9)]));
        assert_eq!(ask("7.0.96.10.in-addr.arpa", Kind::Ptr), Answer::Found(vec![Record::Ptr("web.n.svc.cluster.local".into())]));
        assert_eq!(
            ask("2.0.244.10.in-addr.arpa", Kind::Ptr),
            Answer::Found(vec![Record::Ptr("db-0.db.n.svc.cluster.local".into())])
        );
        assert_eq!(ask("1.1.1.1.in-addr.arpa", Kind::Ptr), Answer::Elsewhere);
        assert_eq!(ask("dns-version.cluster.local", Kind::Txt), Answer::Found(vec![Record::Txt("1.1.0".into())]));
    }
}
