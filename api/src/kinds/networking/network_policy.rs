//! NetworkPolicy.

use serde_json::{Value, json};

use super::cidr;
use crate::{
    kinds::{
        check::At,
        common::{AGE, NAME, age, column, default, items, items_mut, map_of, name},
        deployment::selector_text,
        kind::{Errors, Kind},
    },
    names,
};

/// NetworkPolicy.
pub static NETWORK_POLICY: Kind = Kind {
    defaults: |object| {
        for direction in ["/spec/ingress", "/spec/egress"] {
            for rule in items_mut(object, direction) {
                items_mut(rule, "/ports").filter_map(Value::as_object_mut).for_each(|port| default(port, "protocol", "TCP"));
            }
        }
        let leaves = items(object, "/spec/egress").next().is_some();
        if let Some(spec) = map_of(object, "spec") {
            default(spec, "policyTypes", if leaves { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
            default(spec, "podSelector", json!({}));
        }
    },
    validate: |object, errors| {
        let spec = At::root(object).get("spec");
        spec.get("podSelector").label_selector(errors);
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            for rule in spec.items(direction) {
                rule.items("ports").for_each(|port| check_port(&port, errors));
                rule.items(peers).for_each(|peer| check_peer(&peer, errors));
            }
        }
        let types = spec.get("policyTypes");
        if types.len() > 2 {
            return types.invalid("may not specify more than two policyTypes", errors);
        }
        types.each().for_each(|type_| type_.one_of(&["Ingress", "Egress"], errors));
    },
    columns: &[NAME, column("Pod-Selector", "string", 0, "Labels of the pods that it is about."), AGE],
    cells: |object, now| vec![name(object), json!(selector_text(&object["spec"]["podSelector"])), age(object, now)],
    ..Kind::COUNTED
};

fn check_port(at: &At<'_>, errors: &mut Errors) {
    at.get("protocol").one_of(&["TCP", "UDP", "SCTP"], errors);
    let (port, end) = (at.get("port"), at.get("endPort"));
    match port.value {
        Value::Null if end.is_set() => end.invalid("may not be specified when `port` is not specified", errors),
        Value::String(_) => {
            if end.is_set() {
                end.invalid("may not be specified when `port` is non-numeric", errors);
            }
            port.named(names::port_name, errors);
        }
        Value::Number(_) => {
            port.port(errors);
            if end.is_set() {
                if end.number() < port.number() {
                    At::new(port.value, &end.path).invalid("must be greater than or equal to `port`", errors);
                }
                end.port(errors);
            }
        }
        _ => {}
    }
}

fn check_peer(peer: &At<'_>, errors: &mut Errors) {
    let [pods, namespaces, block] = ["podSelector", "namespaceSelector", "ipBlock"].map(|field| peer.get(field));
    pods.label_selector(errors);
    namespaces.label_selector(errors);
    if block.is_set() {
        check_block(&block, errors);
        if pods.is_set() || namespaces.is_set() {
            peer.forbidden("may not specify both ipBlock and another peer", errors);
        }
    } else if pods.is_absent() && namespaces.is_absent() {
        peer.required("must specify a peer", errors);
    }
}

fn check_block(block: &At<'_>, errors: &mut Errors) {
    if !block.get("cidr").must_be_set(errors) {
        return;
    }
    let Some(whole) = cidr::check(&block.get("cidr"), errors) else { return };
    for except in block.items("except") {
        if cidr::check(&except, errors).is_some_and(|part| !whole.strictly_contains(part)) {
            except.invalid("must be a strict subset of `cidr`", errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn a_policy_says_whom_it_means() {
        let policy = |peer: Value| json!({"spec": {"podSelector": {}, "ingress": [{"from": [peer], "ports": [{"port": 80}]}]}});
        let mut good = policy(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}));
        NETWORK_POLICY.set_defaults(&mut good);
        assert_eq!(
            (&good["spec"]["policyTypes"], &good["spec"]["ingress"][0]["ports"][0]["protocol"]),
            (&json!(["Ingress"]), &json!("TCP"))
        );
        assert_eq!(NETWORK_POLICY.validate(&good), vec![]);
        let from = "spec.ingress[0].from[0]";
        for (peer, error) in [
            (json!({}), format!("{from}: Required value: must specify a peer")),
            (
                json!({"podSelector": {}, "ipBlock": {"cidr": "::/0"}}),
                format!("{from}: Forbidden: may not specify both ipBlock and another peer"),
            ),
            (
                json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}),
                format!("{from}.ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`"),
            ),
        ] {
            assert_eq!(NETWORK_POLICY.validate(&policy(peer))[0].to_string(), error);
        }
    }
}
