//! What the kernel holds, and the shortest way to what it is to hold. Pure.
//!
//! A Service is a [`Fragment`]: elements of maps, and for some Services chains and sets of their own. Fragments may
//! share all of these; what several want is there once, and goes with the last of them. Where two fragments want
//! the same key of a map for different things, the one that comes first by name has it.
//! The base (maps, hooks, masquerading) never changes, so that a change costs what it concerns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

use crate::{conntrack::Frontends, endpoints::Family, index::Key};

/// Name of the table; everything of ours lies in it.
const TABLE: &str = "kontiki";
/// Mark of packets whose source must become the node's.
const MASQUERADE: &str = "0x4000";
/// Elements of one command.
const ELEMENTS_MAX: usize = 512;

/// Protocols of Services, as the kernel's language names them.
pub const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];
/// Maps of endpoints, one for each of [`PROTOCOLS`]: a rule that looks an endpoint up must say whose port it finds.
pub const ENDPOINTS: [&str; 3] = ["endpoints", "endpoints_udp", "endpoints_sctp"];
/// The same for endpoints of this node.
pub const LOCAL_ENDPOINTS: [&str; 3] = ["local_endpoints", "local_endpoints_udp", "local_endpoints_sctp"];
/// The same for node ports.
pub const PORT_ENDPOINTS: [&str; 3] = ["port_endpoints", "port_endpoints_udp", "port_endpoints_sctp"];
/// The same for node ports and endpoints of this node.
pub const LOCAL_PORT_ENDPOINTS: [&str; 3] = ["local_port_endpoints", "local_port_endpoints_udp", "local_port_endpoints_sctp"];

/// A map or set of the base, and the key of an element in it.
pub type Element = (&'static str, String);

/// What one Service needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Rules by chain. A chain's name says what it does: fragments that share the name share the rules.
    pub chains: BTreeMap<String, Vec<String>>,
    /// Definitions by set.
    pub sets: BTreeMap<String, String>,
    /// Elements, with the value of a map's.
    pub elements: BTreeMap<Element, Option<String>>,
    /// Where datagrams may go; no rules, but what the kernel must forget when it changes.
    pub datagrams: Frontends,
}

impl Fragment {
    /// Whether nothing is needed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

struct Shared {
    body: Vec<String>,
    users: usize,
}

/// What the kernel holds of one family.
pub struct State {
    family: Family,
    fragments: HashMap<Key, Fragment>,
    chains: HashMap<String, Shared>,
    sets: HashMap<String, usize>,
    elements: HashMap<Element, BTreeMap<Key, Option<String>>>,
}

impl State {
    /// Nothing yet.
    #[must_use]
    pub fn new(family: Family) -> Self {
        Self { family, fragments: HashMap::new(), chains: HashMap::new(), sets: HashMap::new(), elements: HashMap::new() }
    }

    /// What a Service needs now.
    #[must_use]
    pub fn fragment(&self, key: &Key) -> Option<&Fragment> {
        self.fragments.get(key)
    }

    /// Whether no Service needs anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    /// Takes changes in, and gives the script that makes them in the kernel; empty if there is nothing to do. A Service
    /// that is gone needs an empty fragment.
    pub fn change(&mut self, changes: Vec<(Key, Fragment)>) -> String {
        let mut script = Script::new(self.family);
        let (mut chains, mut sets) = (BTreeSet::new(), BTreeSet::new());
        let mut touched: BTreeMap<Element, Option<Option<String>>> = BTreeMap::new();
        for (key, fragment) in changes {
            let before = self.fragments.get(&key).cloned().unwrap_or_default();
            if before == fragment {
                continue;
            }
            self.count_chains(&before, &fragment, &mut chains, &mut script);
            for set in fragment.sets.keys().filter(|set| !before.sets.contains_key(*set)) {
                *self.sets.entry(set.clone()).or_default() += 1;
                script.set(set, &fragment.sets[set]);
            }
            for set in before.sets.keys().filter(|set| !fragment.sets.contains_key(*set)) {
                if let Some(users) = self.sets.get_mut(set) {
                    *users -= 1;
                }
                sets.insert(set.clone());
            }
            self.claim(&key, &before, &fragment, &mut touched);
            if fragment.is_empty() {
                self.fragments.remove(&key);
            } else {
                self.fragments.insert(key, fragment);
            }
        }
        for (element, before) in touched {
            let after = self.elements.get(&element).and_then(|owners| owners.values().next().cloned());
            script.element(element, before, after);
        }
        for name in chains {
            if self.chains.get(&name).is_some_and(|chain| chain.users == 0) {
                self.chains.remove(&name);
                script.drop_chain(&name);
            }
        }
        for name in sets {
            if self.sets.get(&name) == Some(&0) {
                self.sets.remove(&name);
                script.drop_set(&name);
            }
        }
        script.text()
    }

    fn count_chains(&mut self, before: &Fragment, after: &Fragment, unused: &mut BTreeSet<String>, script: &mut Script) {
        for (name, body) in &after.chains {
            let chain = self.chains.entry(name.clone()).or_insert_with(|| {
                script.add_chain(name);
                Shared { body: Vec::new(), users: 0 }
            });
            chain.users += usize::from(!before.chains.contains_key(name));
            if chain.body != *body {
                script.rules(name, !chain.body.is_empty(), body);
                chain.body.clone_from(body);
            }
        }
        for name in before.chains.keys().filter(|name| !after.chains.contains_key(*name)) {
            if let Some(chain) = self.chains.get_mut(name) {
                chain.users -= 1;
            }
            unused.insert(name.clone());
        }
    }

    /// Notes what the first owner of each element that changes wanted, and who wants it now.
    fn claim(&mut self, key: &Key, before: &Fragment, after: &Fragment, touched: &mut BTreeMap<Element, Option<Option<String>>>) {
        let changed = before.elements.keys().chain(after.elements.keys()).collect::<BTreeSet<_>>().into_iter();
        for element in changed.filter(|element| before.elements.get(*element) != after.elements.get(*element)) {
            let owners = self.elements.entry(element.clone()).or_default();
            touched.entry(element.clone()).or_insert_with(|| owners.values().next().cloned());
            match after.elements.get(element) {
                Some(value) => owners.insert(key.clone(), value.clone()),
                None => owners.remove(key),
            };
            if owners.is_empty() {
                self.elements.remove(element);
            }
        }
    }

    /// The script that makes the table anew, whatever was there, with everything that this holds.
    #[must_use]
    pub fn whole(&self, pod_cidr: &str) -> String {
        let mut fresh = Self::new(self.family);
        let fragments = self.fragments.iter().map(|(key, fragment)| (key.clone(), fragment.clone())).collect();
        base(self.family, pod_cidr) + &fresh.change(fragments)
    }
}

/// Commands in the order in which the kernel must get them: what is led to before what leads there, and the other way
/// round at the end.
struct Script {
    table: String,
    begin: String,
    rules: String,
    removed: BTreeMap<&'static str, Vec<String>>,
    added: BTreeMap<&'static str, Vec<String>>,
    flushed: String,
    dropped: String,
}

impl Script {
    fn new(family: Family) -> Self {
        Self {
            table: table(family),
            begin: String::new(),
            rules: String::new(),
            removed: BTreeMap::new(),
            added: BTreeMap::new(),
            flushed: String::new(),
            dropped: String::new(),
        }
    }

    // Writing to a String cannot fail.
    fn add_chain(&mut self, name: &str) {
        let _ = writeln!(self.begin, "add chain {} {name}", self.table);
    }

    fn set(&mut self, name: &str, definition: &str) {
        let _ = writeln!(self.begin, "add set {} {name} {{ {definition} }}", self.table);
    }

    fn rules(&mut self, chain: &str, flush: bool, rules: &[String]) {
        if flush {
            let _ = writeln!(self.rules, "flush chain {} {chain}", self.table);
        }
        for rule in rules {
            let _ = writeln!(self.rules, "add rule {} {chain} {rule}", self.table);
        }
    }

    fn element(&mut self, (set, key): Element, before: Option<Option<String>>, after: Option<Option<String>>) {
        if before == after {
            return;
        }
        let text = |value: &Option<String>| value.as_ref().map_or_else(|| key.clone(), |value| format!("{key} : {value}"));
        if let Some(value) = &before {
            self.removed.entry(set).or_default().push(text(value));
        }
        if let Some(value) = &after {
            self.added.entry(set).or_default().push(text(value));
        }
    }

    fn drop_chain(&mut self, name: &str) {
        let _ = writeln!(self.flushed, "flush chain {} {name}", self.table);
        let _ = writeln!(self.dropped, "delete chain {} {name}", self.table);
    }

    fn drop_set(&mut self, name: &str) {
        let _ = writeln!(self.dropped, "delete set {} {name}", self.table);
    }

    fn text(self) -> String {
        let mut text = self.begin + &self.rules;
        for (verb, elements) in [("delete", self.removed), ("add", self.added)] {
            for (set, keys) in elements {
                for keys in keys.chunks(ELEMENTS_MAX) {
                    let _ = writeln!(text, "{verb} element {} {set} {{ {} }}", self.table, keys.join(", "));
                }
            }
        }
        text + &self.flushed + &self.dropped
    }
}

fn table(family: Family) -> String {
    format!("{} {TABLE}", word(family))
}

/// The family as the kernel's language has it.
#[must_use]
pub fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// The rule that marks packets for masquerading.
#[must_use]
pub fn mark() -> String {
    format!("meta mark set meta mark or {MASQUERADE}")
}

/// The maps of endpoints. Their ports are declared as those of one protocol: `nft` 1.0 does not find its way back to
/// `th dport` where it stands for the value of a map that it reads from the kernel, and a rule that uses such a map
/// holds for that protocol alone.
fn endpoint_maps(ip: &str) -> String {
    let service = format!("{ip} daddr . meta l4proto . th dport");
    let port = "meta l4proto . th dport".to_owned();
    let kinds = [(ENDPOINTS, &service), (LOCAL_ENDPOINTS, &service), (PORT_ENDPOINTS, &port), (LOCAL_PORT_ENDPOINTS, &port)];
    let mut text = String::new();
    for (maps, key) in kinds {
        for (map, protocol) in maps.into_iter().zip(PROTOCOLS) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "map {map} {{ typeof {key} . numgen random mod 2 : {ip} daddr . {protocol} dport; }}");
        }
    }
    text
}

/// The part that never changes.
fn base(family: Family, pod_cidr: &str) -> String {
    let (table, ip) = (table(family), word(family));
    let (address, loopback, unreachable) = match family {
        Family::V4 => ("ipv4_addr", "127.0.0.0/8", "icmp type port-unreachable"),
        Family::V6 => ("ipv6_addr", "::1", "icmpv6 type port-unreachable"),
    };
    let way_out = if pod_cidr.is_empty() {
        String::new()
    } else {
        format!("{ip} saddr {pod_cidr} {ip} daddr != {pod_cidr} fib daddr type != local masquerade")
    };
    let service = format!("{ip} daddr . meta l4proto . th dport");
    let endpoints = endpoint_maps(ip);
    let node_port = format!("fib daddr type local {ip} daddr != {loopback} meta l4proto . th dport");
    format!(
        "add table {table}\n\
         delete table {table}\n\
         table {table} {{\n\
           map services {{ type {address} . inet_proto . inet_service : verdict; }}\n\
           map node_ports {{ type inet_proto . inet_service : verdict; }}\n\
           {endpoints}\
           map unanswered {{ type {address} . inet_proto . inet_service : verdict; }}\n\
           map unanswered_ports {{ type inet_proto . inet_service : verdict; }}\n\
           set guarded {{ type {address} . inet_proto . inet_service; }}\n\
           set allowed {{ type {address} . inet_proto . inet_service . {address}; flags interval; }}\n\
           set hairpins {{ type {address} . {address}; }}\n\
           chain dispatch {{\n\
             {service} vmap @services\n\
             {node_port} vmap @node_ports\n\
           }}\n\
           chain prerouting {{ type nat hook prerouting priority dstnat; policy accept; jump dispatch; }}\n\
           chain output {{ type nat hook output priority -100; policy accept; jump dispatch; }}\n\
           chain postrouting {{\n\
             type nat hook postrouting priority srcnat; policy accept;\n\
             meta mark & {MASQUERADE} == {MASQUERADE} masquerade\n\
             {ip} saddr . {ip} daddr @hairpins ct status dnat masquerade\n\
             {way_out}\n\
           }}\n\
           chain reject_all {{\n\
             meta l4proto tcp reject with tcp reset\n\
             reject with {unreachable}\n\
           }}\n\
           chain refuse {{\n\
             {service} vmap @unanswered\n\
             {node_port} vmap @unanswered_ports\n\
           }}\n\
           chain guard {{\n\
             type filter hook prerouting priority -110; policy accept;\n\
             ct state new {service} @guarded {service} . {ip} saddr != @allowed drop\n\
           }}\n\
           chain input {{ type filter hook input priority filter; policy accept; ct state new jump refuse; }}\n\
           chain forward {{ type filter hook forward priority filter; policy accept; ct state new jump refuse; }}\n\
           chain local {{ type filter hook output priority filter; policy accept; ct state new jump refuse; }}\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(name: &str) -> Key {
        ("n".to_owned(), name.to_owned())
    }

    fn fragment(chain: &str, rule: &str) -> Fragment {
        Fragment {
            chains: BTreeMap::from([(chain.to_owned(), vec![rule.to_owned()])]),
            sets: BTreeMap::new(),
            elements: BTreeMap::from([(("services", "10.0.0.1 . tcp . 80".to_owned()), Some(format!("goto {chain}")))]),
            datagrams: Frontends::new(),
        }
    }

    fn lines(script: &str) -> Vec<String> {
        script.lines().map(|line| line.replace("ip kontiki ", "")).collect()
    }

    #[test]
    fn only_what_changed_is_touched() {
        let mut state = State::new(Family::V4);
        state.change(vec![(key("a"), fragment("c", "accept"))]);
        assert_eq!(state.change(vec![(key("a"), fragment("c", "accept"))]), "");
        assert_eq!(lines(&state.change(vec![(key("a"), fragment("c", "drop"))])), ["flush chain c", "add rule c drop"]);
    }

    #[test]
    fn a_chain_is_there_before_and_gone_after_what_leads_to_it() {
        let mut state = State::new(Family::V4);
        state.change(vec![(key("a"), fragment("c", "accept"))]);
        assert_eq!(
            lines(&state.change(vec![(key("a"), fragment("d", "accept"))])),
            [
                "add chain d",
                "add rule d accept",
                "delete element services { 10.0.0.1 . tcp . 80 : goto c }",
                "add element services { 10.0.0.1 . tcp . 80 : goto d }",
                "flush chain c",
                "delete chain c",
            ]
        );
    }

    #[test]
    fn what_two_want_is_there_until_the_last_goes() {
        let mut state = State::new(Family::V4);
        state.change(vec![(key("a"), fragment("c", "accept"))]);
        assert_eq!(state.change(vec![(key("b"), fragment("c", "accept"))]), "");
        assert_eq!(state.change(vec![(key("a"), Fragment::default())]), "");
        assert_eq!(
            lines(&state.change(vec![(key("b"), Fragment::default())])),
            ["delete element services { 10.0.0.1 . tcp . 80 : goto c }", "flush chain c", "delete chain c"]
        );
        assert!(state.is_empty());
    }

    /// A kernel that understands the commands of a script and refuses what the real one would.
    #[derive(Default, PartialEq, Debug)]
    struct Kernel {
        chains: BTreeMap<String, Vec<String>>,
        elements: BTreeMap<String, String>,
    }

    impl Kernel {
        fn leads_to(&self, chain: &str) -> bool {
            self.elements.values().any(|value| value == &format!("goto {chain}"))
        }

        fn run(&mut self, script: &str) {
            for line in lines(script) {
                let words: Vec<&str> = line.split(' ').collect();
                let inside = || line[line.find('{').unwrap_or(0)..].trim_matches(['{', '}', ' ']).split(", ").map(str::to_owned);
                match words[..2] {
                    ["add", "chain"] => assert!(self.chains.insert(words[2].to_owned(), Vec::new()).is_none(), "{line}"),
                    ["add", "rule"] => self.chains.entry(words[2].to_owned()).or_default().push(words[3..].join(" ")),
                    ["flush", "chain"] => self.chains.entry(words[2].to_owned()).or_default().clear(),
                    ["delete", "chain"] => {
                        assert!(!self.leads_to(words[2]), "{line}: in use");
                        assert!(self.chains.remove(words[2]).is_some(), "{line}");
                    }
                    ["add", "element"] => {
                        for element in inside() {
                            let (key, value) = element.split_once(" : ").unwrap_or((&element, ""));
                            assert!(value.strip_prefix("goto ").is_none_or(|chain| self.chains.contains_key(chain)), "{line}");
                            assert!(self.elements.insert(format!("{} {key}", words[2]), value.to_owned()).is_none(), "{line}");
                        }
                    }
                    ["delete", "element"] => {
                        for element in inside() {
                            let key = element.split_once(" : ").map_or(element.as_str(), |(key, _)| key);
                            assert!(self.elements.remove(&format!("{} {key}", words[2])).is_some(), "{line}");
                        }
                    }
                    _ => panic!("{line}"),
                }
            }
        }
    }

    proptest! {
        /// However changes come, the kernel takes each script and holds in the end what it would hold from the start.
        #[test]
        fn any_way_leads_to_the_same_rules(
            changes in proptest::collection::vec((0_u8..5, 0_u8..4, proptest::collection::vec(0_u8..6, 0..4)), 1..25),
        ) {
            let mut state = State::new(Family::V4);
            let mut kernel = Kernel::default();
            for (service, chain, elements) in changes {
                let chain = format!("c{chain}");
                let mut fragment = Fragment::default();
                for element in elements {
                    fragment.chains.insert(chain.clone(), vec![format!("rule of {chain}")]);
                    fragment.elements.insert(("services", element.to_string()), Some(format!("goto {chain}")));
                }
                kernel.run(&state.change(vec![(key(&service.to_string()), fragment)]));
            }
            let whole = state.whole("");
            let fresh = &whole[base(Family::V4, "").len()..];
            let mut from_nothing = Kernel::default();
            from_nothing.run(fresh);
            prop_assert_eq!(kernel, from_nothing);
        }
    }
}
