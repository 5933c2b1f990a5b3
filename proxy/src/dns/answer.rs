//! What a name of the cluster stands for. Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{
    index::Index,
    model::{Service, Slice},
};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Ports and names.
    Srv,
    /// Names of an address.
    Ptr,
    /// Text.
    Txt,
    /// Who answers for the zone.
    Soa,
    /// Servers of the zone.
    Ns,
    /// Anything else: nothing is known of it.
    Other,
}

/// One record; names are whole, without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Record {
    /// An address.
    Address(IpAddr),
    /// Another name.
    Cname(String),
    /// A port and the name of who has it.
    Srv(u16, String),
    /// A name.
    Ptr(String),
    /// Text.
    Txt(String),
    /// Who answers for the zone.
    Soa,
    /// A server of the zone.
    Ns(String),
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
    /// Address of the server itself.
    pub server: IpAddr,
    /// Services and endpoints.
    pub index: &'a Index,
}

fn is_of(kind: Kind, address: &IpAddr) -> bool {
    (kind == Kind::A && address.is_ipv4()) || (kind == Kind::Aaaa && address.is_ipv6())
}

fn addresses(kind: Kind, all: impl Iterator<Item = IpAddr>) -> BTreeSet<Record> {
    all.filter(|address| is_of(kind, address)).map(Record::Address).collect()
}

impl Zone<'_> {
    /// Answers. `name` is in lower case, without a final dot.
    #[must_use]
    pub fn answer(&self, name: &str, kind: Kind) -> Answer {
        if let Some(address) = reverse(name) {
            return self.names_of(address, kind);
        }
        let Some(inner) = name.strip_suffix(self.domain) else { return Answer::Elsewhere };
        let inner = match (inner.is_empty(), inner.strip_suffix('.')) {
            (true, _) => return self.apex(kind),
            (_, Some(inner)) => inner,
            // Another domain that ends alike.
            _ => return Answer::Elsewhere,
        };
        let labels: Vec<&str> = inner.split('.').collect();
        match labels.as_slice() {
            ["dns-version"] => Answer::Found(if kind == Kind::Txt { vec![Record::Txt(VERSION.to_owned())] } else { Vec::new() }),
            ["ns", "dns"] => Answer::Found(addresses(kind, std::iter::once(self.server)).into_iter().collect()),
            ["dns"] => Answer::Found(Vec::new()),
            [.., "pod"] => pod(&labels, kind),
            ["svc"] => Answer::Found(Vec::new()),
            [rest @ .., namespace, "svc"] => self.service(rest, namespace, kind),
            _ => Answer::NoSuchName,
        }
    }

    fn apex(&self, kind: Kind) -> Answer {
        Answer::Found(match kind {
            Kind::Soa => vec![Record::Soa],
            Kind::Ns => vec![Record::Ns(format!("ns.dns.{}", self.domain))],
            _ => Vec::new(),
        })
    }

    fn service(&self, rest: &[&str], namespace: &str, kind: Kind) -> Answer {
        let find = |name: &str| self.index.service(&(namespace.to_owned(), name.to_owned()));
        match rest {
            [] if self.index.has_namespace(namespace) => Answer::Found(Vec::new()),
            [] => Answer::NoSuchName,
            [name] => find(name).map_or(Answer::NoSuchName, |service| self.of_service(service, kind)),
            // What lies between a port and its service is a name too, without records.
            [protocol, name] if protocol.starts_with('_') => {
                find(name).map_or(Answer::NoSuchName, |service| of_protocol(service, &protocol[1..]))
            }
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

    /// Addresses, host names and slices of a Service's endpoints that are published.
    fn endpoints(&self, service: &Service) -> Vec<(IpAddr, String, &Slice)> {
        let key = (service.metadata.namespace.clone(), service.metadata.name.clone());
        let mut found = Vec::new();
        for slice in self.index.slices_of(&key) {
            let published = slice.endpoints.iter().filter(|one| one.is_ready() || service.spec.publish_not_ready_addresses);
            for (endpoint, address) in published.filter_map(|endpoint| Some((endpoint, endpoint.address()?))) {
                let made = || address.to_string().replace(['.', ':'], "-");
                let host = if endpoint.hostname.is_empty() { made() } else { endpoint.hostname.clone() };
                found.push((address, host, slice.as_ref()));
            }
        }
        found
    }

    fn of_service(&self, service: &Service, kind: Kind) -> Answer {
        if service.spec.r#type == "ExternalName" {
            return Answer::Found(vec![Record::Cname(service.spec.external_name.trim_end_matches('.').to_lowercase())]);
        }
        let own = service.addresses();
        let endpoints = if service.is_headless() { self.endpoints(service) } else { Vec::new() };
        if own.is_empty() && endpoints.is_empty() {
            return Answer::NoSuchName;
        }
        let all = own.iter().copied().chain(endpoints.iter().map(|(address, _, _)| *address));
        let records = match kind {
            Kind::A | Kind::Aaaa => addresses(kind, all),
            Kind::Srv if service.is_headless() => self.ports_of(service, &endpoints, |_, _| true),
            Kind::Srv => service.spec.ports.iter().map(|port| Record::Srv(port.port, self.whole(service))).collect(),
            _ => BTreeSet::new(),
        };
        Answer::Found(records.into_iter().collect())
    }

    fn ports_of(
        &self,
        service: &Service,
        endpoints: &[(IpAddr, String, &Slice)],
        wanted: impl Fn(&str, &str) -> bool,
    ) -> BTreeSet<Record> {
        let whole = self.whole(service);
        let mut records = BTreeSet::new();
        for (_, host, slice) in endpoints {
            let ports = slice.ports.iter().filter(|port| wanted(&port.name, &port.protocol)).filter_map(|port| port.port);
            records.extend(ports.map(|port| Record::Srv(port, format!("{host}.{whole}"))));
        }
        records
    }

    /// `_port._protocol.service`.
    fn of_port(&self, service: &Service, name: &str, protocol: &str, kind: Kind) -> Answer {
        let matches = |own: &str, own_protocol: &str| own == name && own_protocol.eq_ignore_ascii_case(protocol);
        let named = || service.spec.ports.iter().filter(|port| matches(&port.name, &port.protocol));
        let of_endpoints =
            if service.is_headless() { self.ports_of(service, &self.endpoints(service), matches) } else { BTreeSet::new() };
        if named().next().is_none() && of_endpoints.is_empty() {
            return Answer::NoSuchName;
        }
        if kind != Kind::Srv {
            return Answer::Found(Vec::new());
        }
        if service.is_headless() {
            return Answer::Found(of_endpoints.into_iter().collect());
        }
        Answer::Found(named().map(|port| Record::Srv(port.port, self.whole(service))).collect())
    }

    /// `host.service`.
    fn of_endpoint(&self, service: &Service, host: &str, kind: Kind) -> Answer {
        let endpoints = self.endpoints(service);
        let named = || endpoints.iter().filter(|(_, own, _)| own == host);
        if named().next().is_none() {
            return Answer::NoSuchName;
        }
        Answer::Found(addresses(kind, named().map(|(address, _, _)| *address)).into_iter().collect())
    }

    fn names_of(&self, address: IpAddr, kind: Kind) -> Answer {
        let mut names = BTreeSet::new();
        for service in self.index.with_address(address) {
            let whole = self.whole(service);
            if service.addresses().contains(&address) {
                names.insert(whole);
            } else if service.is_headless() {
                let own = self.endpoints(service).into_iter().filter(|(own, _, _)| *own == address);
                names.extend(own.map(|(_, host, _)| format!("{host}.{whole}")));
            }
        }
        if names.is_empty() {
            return Answer::Elsewhere;
        }
        Answer::Found(if kind == Kind::Ptr { names.into_iter().map(Record::Ptr).collect() } else { Vec::new() })
    }

    /// Addresses of the names that records lead to, for whoever will ask next.
    #[must_use]
    pub fn beside(&self, records: &[Record]) -> Vec<(String, IpAddr)> {
        let mut names = BTreeSet::new();
        for record in records {
            if let Record::Srv(_, target) = record {
                names.insert(target.as_str());
            }
        }
        let mut found = Vec::new();
        for name in names {
            for kind in [Kind::A, Kind::Aaaa] {
                let Answer::Found(records) = self.answer(name, kind) else { continue };
                found.extend(records.into_iter().filter_map(|record| match record {
                    Record::Address(address) => Some((name.to_owned(), address)),
                    _ => None,
                }));
            }
        }
        found
    }
}

fn of_protocol(service: &Service, protocol: &str) -> Answer {
    let known = service.spec.ports.iter().any(|port| port.protocol.eq_ignore_ascii_case(protocol));
    if known { Answer::Found(Vec::new()) } else { Answer::NoSuchName }
}

/// `1-2-3-4.namespace.pod`.
fn pod(labels: &[&str], kind: Kind) -> Answer {
    match labels {
        ["pod"] | [_, "pod"] => Answer::Found(Vec::new()),
        [address, _, _] => {
            let v4 = address.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::from);
            let v6 = || address.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::from);
            match v4.or_else(|_| v6()) {
                Ok(address) => Answer::Found(addresses(kind, std::iter::once(address)).into_iter().collect()),
                Err(_) => Answer::NoSuchName,
            }
        }
        _ => Answer::NoSuchName,
    }
}

/// The address of `4.3.2.1.in-addr.arpa`, or of 32 hexadecimal digits under `ip6.arpa`.
fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".ip6.arpa") {
        let digits: Vec<&str> = digits.split('.').collect();
        if digits.len() != 32 || digits.iter().any(|digit| digit.len() != 1) {
            return None;
        }
        let text: String = digits.into_iter().rev().collect();
        return u128::from_str_radix(&text, 16).ok().map(|number| Ipv6Addr::from(number).into());
    }
    let mut parts: Vec<&str> = name.strip_suffix(".in-addr.arpa")?.split('.').collect();
    parts.reverse();
    parts.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::index::tests::index;

    fn ask(name: &str, kind: Kind) -> Answer {
        let port = json!({"name": "http", "protocol": "TCP", "port": 80});
        let services = [
            json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"clusterIP": "10.96.0.7", "ports": [port],
                   "clusterIPs": ["10.96.0.7", "fd00::7"]}}),
            json!({"metadata": {"name": "db", "namespace": "n"}, "spec": {"clusterIP": "None", "ports": [port]}}),
            json!({"metadata": {"name": "out", "namespace": "n"}, "spec": {"type": "ExternalName", "externalName": "Example.org."}}),
        ];
        let slice = json!({
            "endpoints": [
                {"addresses": ["10.244.0.2"], "hostname": "db-0"}, {"addresses": ["10.244.0.3"]},
                {"addresses": ["10.244.0.4"], "conditions": {"ready": false}},
            ],
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        });
        let index = index(&services, &[("db", slice)]);
        Zone { domain: "cluster.local", server: "10.96.0.10".parse().unwrap(), index: &index }.answer(name, kind)
    }

    fn address(last: u8) -> Record {
        Record::Address(Ipv4Addr::new(10, 244, 0, last).into())
    }

    #[test]
    fn services_have_one_address_and_headless_ones_their_endpoints() {
        assert_eq!(
            ask("web.n.svc.cluster.local", Kind::A),
            Answer::Found(vec![Record::Address(Ipv4Addr::new(10, 96, 0, 7).into())])
        );
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

    #[test]
    fn both_families_and_the_zone_itself() {
        assert_eq!(ask("web.n.svc.cluster.local", Kind::Aaaa), Answer::Found(vec![Record::Address("fd00::7".parse().unwrap())]));
        assert_eq!(ask("db.n.svc.cluster.local", Kind::Aaaa), Answer::Found(vec![]));
        let reversed = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(ask(reversed, Kind::Ptr), Answer::Found(vec![Record::Ptr("web.n.svc.cluster.local".into())]));
        assert_eq!(ask("cluster.local", Kind::Soa), Answer::Found(vec![Record::Soa]));
        assert_eq!(ask("cluster.local", Kind::Ns), Answer::Found(vec![Record::Ns("ns.dns.cluster.local".into())]));
        assert_eq!(ask("ns.dns.cluster.local", Kind::A), Answer::Found(vec![Record::Address("10.96.0.10".parse().unwrap())]));
        assert_eq!(ask("_tcp.web.n.svc.cluster.local", Kind::Srv), Answer::Found(vec![]));
        assert_eq!(ask("_udp.web.n.svc.cluster.local", Kind::Srv), Answer::NoSuchName);
    }
}
