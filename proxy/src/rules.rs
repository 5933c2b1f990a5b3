//! From a Service and its endpoints to what the kernel needs. Pure.
//!
//! Most Services are elements alone: the address leads to a chain that all Services with as many endpoints share, and
//! that chain looks the chosen endpoint up by address and a random number. Only a Service whose clients stay with
//! their endpoints has chains and sets of its own.
//! <https://kubernetes.io/docs/reference/networking/virtual-ips/>

use std::{net::IpAddr, sync::Arc};

use crate::{
    endpoints::{self, Endpoints, Family, Target},
    model::{Meta, Node, Service, ServicePort, Slice},
    ruleset::{ENDPOINTS, Fragment, LOCAL_ENDPOINTS, LOCAL_PORT_ENDPOINTS, PORT_ENDPOINTS, PROTOCOLS, mark, word},
};

/// What holds for every Service of the node.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The node.
    pub node: Arc<Node>,
    /// Network of pods, such as `10.244.0.0/16`.
    pub pod_cidr: String,
    /// Address of the DNS server: every node answers there itself.
    pub dns_address: IpAddr,
}

/// What a Service needs of one family.
pub fn fragment<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a Arc<Slice>> + Clone,
    around: &Surroundings,
    family: Family,
) -> Fragment {
    let mut fragment = Fragment::default();
    if !service.is_ours() {
        return fragment;
    }
    let of_family = |address: &IpAddr| Family::of(address) == family;
    let addresses: Vec<IpAddr> =
        service.addresses().into_iter().filter(|address| of_family(address) && *address != around.dns_address).collect();
    if addresses.is_empty() {
        return fragment;
    }
    for port in &service.spec.ports {
        let found = endpoints::of(slices.clone(), port, family, &around.node);
        let mut writer = Writer { fragment: &mut fragment, service, port, family, around, found: &found };
        addresses.iter().for_each(|address| writer.inside(*address));
        let external = service.spec.external_ips.iter().filter_map(|text| text.parse().ok()).filter(of_family);
        external.for_each(|address| writer.outside(Some(address)));
        for address in service.load_balancers().filter(of_family) {
            writer.outside(Some(address));
            writer.guard(address);
        }
        if port.node_port != 0 {
            writer.outside(None);
        }
        for (address, _) in found.cluster.iter().chain(&found.local) {
            fragment.elements.insert(("hairpins", format!("{address} . {address}")), None);
        }
    }
    fragment
}

/// A name that the kernel has room for: a digest, the same on every node and in every version (FNV-1a).
fn digest(text: &str) -> String {
    let digest =
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{digest:016x}")
}

struct Writer<'a> {
    fragment: &'a mut Fragment,
    service: &'a Service,
    port: &'a ServicePort,
    family: Family,
    around: &'a Surroundings,
    found: &'a Endpoints,
}

impl Writer<'_> {
    fn protocol(&self) -> String {
        self.port.protocol.to_lowercase()
    }

    /// Traffic to an address, or to the node port: as the maps' keys have it.
    fn key(&self, address: Option<IpAddr>) -> String {
        match address {
            Some(address) => format!("{address} . {} . {}", self.protocol(), self.port.port),
            None => format!("{} . {}", self.protocol(), self.port.node_port),
        }
    }

    /// Notes where datagrams may go.
    fn note(&mut self, address: Option<IpAddr>, targets: &[Target]) {
        if self.port.protocol == "UDP" {
            let number = if address.is_some() { self.port.port } else { self.port.node_port };
            let endpoints = targets.iter().map(|(target, _)| *target).collect();
            self.fragment.datagrams.insert((address, number), endpoints);
        }
    }

    fn refuse(&mut self, address: Option<IpAddr>, verdict: &str) {
        let map = if address.is_some() { "unanswered" } else { "unanswered_ports" };
        self.fragment.elements.insert((map, self.key(address)), Some(verdict.to_owned()));
    }

    fn lead(&mut self, address: Option<IpAddr>, chain: &str) {
        let map = if address.is_some() { "services" } else { "node_ports" };
        self.fragment.elements.insert((map, self.key(address)), Some(format!("goto {chain}")));
    }

    fn chain(&mut self, name: String, rules: Vec<String>) -> String {
        self.fragment.chains.insert(name.clone(), rules);
        name
    }

    /// Traffic from inside to the Service's own address.
    fn inside(&mut self, address: IpAddr) {
        let local = self.service.spec.internal_traffic_policy == "Local";
        let found = self.found;
        let targets = if local { &found.local } else { &found.cluster };
        self.note(Some(address), targets);
        if targets.is_empty() {
            // Others could answer, and the policy forbids to ask them.
            let verdict = if found.cluster.is_empty() { "goto reject_all" } else { "drop" };
            return self.refuse(Some(address), verdict);
        }
        let chain = self.pick(Some(address), targets, local);
        self.lead(Some(address), &chain);
    }

    /// Traffic from outside to an address, or to the node port.
    fn outside(&mut self, address: Option<IpAddr>) {
        let local = self.service.spec.external_traffic_policy == "Local";
        let found = self.found;
        self.note(address, &[found.cluster.as_slice(), found.local.as_slice()].concat());
        if found.cluster.is_empty() && (!local || found.local.is_empty()) {
            return self.refuse(address, "goto reject_all");
        }
        let everywhere = self.pick(address, &found.cluster, false);
        if !local {
            // Who comes from outside must get its answer from the node that it asked.
            let name = format!("outside-{everywhere}");
            let chain = self.chain(name, vec![mark(), format!("goto {everywhere}")]);
            return self.lead(address, &chain);
        }
        let ip = word(self.family);
        // The cluster's own pods and the node itself reach every endpoint.
        let mut rules = Vec::new();
        if self.family == Family::V4 && !self.around.pod_cidr.is_empty() {
            rules.push(format!("{ip} saddr {} goto {everywhere}", self.around.pod_cidr));
        }
        rules.push(format!("fib saddr type local {}", mark()));
        rules.push(format!("fib saddr type local goto {everywhere}"));
        let here = if found.local.is_empty() {
            rules.push("drop".to_owned());
            "none".to_owned()
        } else {
            let here = self.pick(address, &found.local, true);
            rules.push(format!("goto {here}"));
            here
        };
        let chain = self.chain(format!("outside-{everywhere}-{here}"), rules);
        self.lead(address, &chain);
    }

    /// The chain that picks one of these endpoints.
    fn pick(&mut self, address: Option<IpAddr>, targets: &[Target], local: bool) -> String {
        if let Some(seconds) = self.service.affinity() {
            return self.pick_with_affinity(targets, local, seconds);
        }
        let protocol = self.protocol();
        let (maps, prefix) = match (address.is_some(), local) {
            (true, false) => (&ENDPOINTS, "pick"),
            (true, true) => (&LOCAL_ENDPOINTS, "pick-local"),
            (false, false) => (&PORT_ENDPOINTS, "port"),
            (false, true) => (&LOCAL_PORT_ENDPOINTS, "port-local"),
        };
        let map = maps[PROTOCOLS.iter().position(|known| *known == protocol).unwrap_or(0)];
        let key = self.key(address);
        for (index, (target, number)) in targets.iter().enumerate() {
            self.fragment.elements.insert((map, format!("{key} . {index}")), Some(format!("{target} . {number}")));
        }
        let ip = word(self.family);
        let what = if address.is_some() { format!("{ip} daddr . ") } else { String::new() };
        let rule = format!("dnat {ip} to {what}meta l4proto . th dport . numgen random mod {} map @{map}", targets.len());
        self.chain(format!("{prefix}-{protocol}-{}", targets.len()), vec![rule])
    }

    /// A client that came before goes where it went; each endpoint remembers its clients in a set of its own, which
    /// goes with the endpoint.
    fn pick_with_affinity(&mut self, targets: &[Target], local: bool, seconds: u32) -> String {
        let Meta { name, namespace, .. } = &self.service.metadata;
        let own = format!("{namespace}/{name}:{}/{}", self.port.name, self.port.protocol);
        let ip = word(self.family);
        let address_type = if self.family == Family::V4 { "ipv4_addr" } else { "ipv6_addr" };
        let (mut rules, mut choices) = (Vec::new(), Vec::new());
        for (index, (target, number)) in targets.iter().enumerate() {
            let id = digest(&format!("{own}>{target}:{number}"));
            let (set, chain) = (format!("clients-{id}"), format!("endpoint-{id}"));
            let definition = format!("type {address_type}; size 65535; flags dynamic,timeout; timeout {seconds}s;");
            self.fragment.sets.insert(set.clone(), definition);
            let to = if self.family == Family::V4 { format!("{target}:{number}") } else { format!("[{target}]:{number}") };
            let remember = format!("update @{set} {{ {ip} saddr }}");
            self.chain(chain.clone(), vec![remember, format!("meta l4proto {} dnat to {to}", self.protocol())]);
            rules.push(format!("{ip} saddr @{set} goto {chain}"));
            choices.push(format!("{index} : goto {chain}"));
        }
        rules.push(format!("numgen random mod {} vmap {{ {} }}", targets.len(), choices.join(", ")));
        let prefix = if local { "local" } else { "service" };
        self.chain(format!("{prefix}-{}", digest(&own)), rules)
    }

    /// Lets only some networks to a load balancer's address.
    fn guard(&mut self, address: IpAddr) {
        let of_family = |range: &&String| range.trim().contains(':') == (self.family == Family::V6);
        let ranges: Vec<&String> = self.service.spec.load_balancer_source_ranges.iter().filter(of_family).collect();
        if ranges.is_empty() {
            return;
        }
        let key = self.key(Some(address));
        for range in ranges {
            self.fragment.elements.insert(("allowed", format!("{key} . {}", range.trim())), None);
        }
        self.fragment.elements.insert(("guarded", key), None);
    }
}

#[cfg(test)]
mod tests;
