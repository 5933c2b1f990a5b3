//! Endpoints.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{
    kinds::{
        check::At,
        common::{AGE, NAME, age, column, default, items, items_mut, name},
        kind::{Errors, Kind},
    },
    names,
    object::text,
};

/// Endpoints that a table names before it only counts.
const SHOWN_MAX: usize = 3;

/// Endpoints.
pub static ENDPOINTS: Kind = Kind {
    defaults: |object| {
        for subset in items_mut(object, "/subsets") {
            for port in items_mut(subset, "/ports").filter_map(Value::as_object_mut) {
                default(port, "protocol", "TCP");
            }
        }
    },
    validate: check,
    columns: &[NAME, column("Endpoints", "string", 0, "Addresses and ports."), AGE],
    cells: |object, now| vec![name(object), json!(shown(object)), age(object, now)],
    warnings: |_| vec!["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned()],
    ..Kind::NEW
};

fn check(object: &Value, errors: &mut Errors) {
    for subset in At::root(object).items("subsets") {
        if subset.get("addresses").is_empty() && subset.get("notReadyAddresses").is_empty() {
            subset.required("must specify `addresses` or `notReadyAddresses`", errors);
        }
        for address in subset.items("addresses").chain(subset.items("notReadyAddresses")) {
            check_address(&address.get("ip"), errors);
            address.get("hostname").named(names::dns_label, errors);
            address.get("nodeName").named(names::dns_subdomain, errors);
        }
        let several = subset.get("ports").len() > 1;
        for port in subset.items("ports") {
            match several {
                true => port.get("name").must_be_named(names::dns_label, errors),
                false => port.get("name").named(names::dns_label, errors),
            }
            port.get("port").port(errors);
            port.get("protocol").required_one_of(&["SCTP", "TCP", "UDP"], errors);
            port.get("appProtocol").named(names::qualified_name, errors);
        }
    }
}

/// An address that endpoints may have.
pub fn check_address(at: &At<'_>, errors: &mut Errors) {
    let Ok(address) = at.text().parse::<IpAddr>() else {
        return at.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)", errors);
    };
    let (link_local, multicast) = match address {
        IpAddr::V4(address) => (address.is_link_local(), address.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(address) => (address.is_unicast_link_local(), address.segments()[0] == 0xff02),
    };
    if address.is_unspecified() {
        at.invalid(format!("may not be unspecified ({})", at.text()), errors);
    }
    if address.is_loopback() {
        at.invalid("may not be in the loopback range (127.0.0.0/8, ::1/128)", errors);
    }
    if link_local {
        at.invalid("may not be in the link-local range (169.254.0.0/16, fe80::/10)", errors);
    }
    if multicast {
        at.invalid("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)", errors);
    }
}

fn shown(object: &Value) -> String {
    let mut list = Vec::new();
    for subset in items(object, "/subsets") {
        let ports: Vec<_> = items(subset, "/ports").map(|port| port["port"].to_string()).collect();
        let addresses = || items(subset, "/addresses").map(|address| text(address, "/ip"));
        if ports.is_empty() {
            list.extend(addresses().map(str::to_owned));
        }
        for port in &ports {
            list.extend(addresses().map(|ip| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }));
        }
    }
    match list.len() {
        0 => "<none>".to_owned(),
        count if count > SHOWN_MAX => format!("{} + {} more...", list[..SHOWN_MAX].join(","), count - SHOWN_MAX),
        _ => list.join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn a_table_names_three_and_counts_the_rest() {
        let addresses: Vec<_> = (1..=4).map(|last| json!({"ip": format!("10.0.0.{last}")})).collect();
        let object = json!({"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]});
        assert_eq!(shown(&object), "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 1 more...");
        assert_eq!(shown(&json!({})), "<none>");
    }

    #[test]
    fn addresses_lead_to_somebody() {
        for (ip, good) in [("10.0.0.1", true), ("fd00::1", true), ("127.0.0.1", false), ("169.254.1.1", false), ("x", false)] {
            let object = json!({"subsets": [{"addresses": [{"ip": ip}]}]});
            assert_eq!(ENDPOINTS.validate(&object).is_empty(), good, "{ip}");
        }
    }
}
