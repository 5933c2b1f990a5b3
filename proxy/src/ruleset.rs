//! What the kernel is to hold, and the shortest way there. Pure.
//!
//! A ruleset is chains of rules, and elements of named maps and sets. The base (maps, hooks, masquerading) never
//! changes; a Service is a few elements and a chain, so that a change costs what it concerns.

use std::collections::BTreeMap;

/// The table; everything of ours lies in it.
pub const TABLE: &str = "ip kontiki";
/// Mark of packets whose source must become the node's.
const MASQUERADE: &str = "0x4000";

/// The changing part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Rules by chain.
    pub chains: BTreeMap<String, Vec<String>>,
    /// Elements by map or set: key, and the verdict of a map's.
    pub elements: BTreeMap<(&'static str, String), Option<String>>,
}

/// The script that makes the table anew, whatever was there.
pub fn whole(wanted: &Ruleset, pod_cidr: &str) -> String {
    format!(
        "add table {TABLE}\n\
         delete table {TABLE}\n\
         table {TABLE} {{\n\
           map services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}\n\
           map node_ports {{ type inet_proto . inet_service : verdict; }}\n\
           set unanswered {{ type ipv4_addr . inet_proto . inet_service; }}\n\
           set hairpins {{ type ipv4_addr . ipv4_addr; }}\n\
           chain dispatch {{\n\
             ip daddr . meta l4proto . th dport vmap @services\n\
             fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @node_ports\n\
           }}\n\
           chain prerouting {{ type nat hook prerouting priority dstnat; policy accept; jump dispatch; }}\n\
           chain output {{ type nat hook output priority -100; policy accept; jump dispatch; }}\n\
           chain postrouting {{\n\
             type nat hook postrouting priority srcnat; policy accept;\n\
             meta mark & {MASQUERADE} == {MASQUERADE} masquerade\n\
             ip saddr . ip daddr @hairpins ct status dnat masquerade\n\
             ip saddr {pod_cidr} ip daddr != {pod_cidr} fib daddr type != local masquerade\n\
           }}\n\
           chain refuse {{\n\
             ip daddr . meta l4proto . th dport @unanswered meta l4proto tcp reject with tcp reset\n\
             ip daddr . meta l4proto . th dport @unanswered reject with icmp type port-unreachable\n\
           }}\n\
           chain forward {{ type filter hook forward priority filter; policy accept; ct state new jump refuse; }}\n\
           chain local {{ type filter hook output priority filter; policy accept; ct state new jump refuse; }}\n\
         }}\n{}",
        difference(&Ruleset::default(), wanted)
    )
}

/// The rule that marks packets for masquerading.
pub fn mark() -> String {
    format!("meta mark set meta mark or {MASQUERADE}")
}

/// The script that leads from one ruleset to another; empty if they are equal.
pub fn difference(before: &Ruleset, after: &Ruleset) -> String {
    let mut script = String::new();
    let mut line = |text: String| {
        script += &text;
        script.push('\n');
    };
    // Chains first: elements and rules lead to them.
    for name in after.chains.keys().filter(|name| !before.chains.contains_key(*name)) {
        line(format!("add chain {TABLE} {name}"));
    }
    for (name, rules) in after.chains.iter().filter(|(name, rules)| before.chains.get(*name) != Some(rules)) {
        if before.chains.contains_key(name) {
            line(format!("flush chain {TABLE} {name}"));
        }
        rules.iter().for_each(|rule| line(format!("add rule {TABLE} {name} {rule}")));
    }
    for ((set, key), verdict) in before.elements.iter().filter(|(key, verdict)| after.elements.get(*key) != Some(verdict)) {
        let verdict = verdict.as_ref().map(|verdict| format!(" : {verdict}")).unwrap_or_default();
        line(format!("delete element {TABLE} {set} {{ {key}{verdict} }}"));
    }
    for ((set, key), verdict) in after.elements.iter().filter(|(key, verdict)| before.elements.get(*key) != Some(verdict)) {
        let verdict = verdict.as_ref().map(|verdict| format!(" : {verdict}")).unwrap_or_default();
        line(format!("add element {TABLE} {set} {{ {key}{verdict} }}"));
    }
    let gone: Vec<_> = before.chains.keys().filter(|name| !after.chains.contains_key(*name)).collect();
    gone.iter().for_each(|name| line(format!("flush chain {TABLE} {name}")));
    gone.iter().for_each(|name| line(format!("delete chain {TABLE} {name}")));
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruleset(chain: &str, rule: &str) -> Ruleset {
        Ruleset {
            chains: BTreeMap::from([(chain.to_owned(), vec![rule.to_owned()])]),
            elements: BTreeMap::from([(("services", "10.0.0.1 . tcp . 80".to_owned()), Some(format!("goto {chain}")))]),
        }
    }

    #[test]
    fn equal_rulesets_need_nothing() {
        assert_eq!(difference(&ruleset("a", "accept"), &ruleset("a", "accept")), "");
    }

    #[test]
    fn only_what_changed_is_touched() {
        let script = difference(&ruleset("a", "accept"), &ruleset("a", "drop"));
        assert_eq!(script, "flush chain ip kontiki a\nadd rule ip kontiki a drop\n");
    }

    #[test]
    fn a_chain_is_there_before_and_gone_after_what_leads_to_it() {
        let script = difference(&ruleset("a", "accept"), &ruleset("b", "accept"));
        let lines: Vec<_> = script.lines().map(|line| line.replace("ip kontiki ", "")).collect();
        assert_eq!(
            lines,
            [
                "add chain b",
                "add rule b accept",
                "delete element services { 10.0.0.1 . tcp . 80 : goto a }",
                "add element services { 10.0.0.1 . tcp . 80 : goto b }",
                "flush chain a",
                "delete chain a",
            ]
        );
    }
}
