//! Ingress.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::ingress_class::check_reference;
use crate::{
    kinds::{
        check::At,
        common::{AGE, NAME, age, column, items, name},
        kind::{Errors, Kind},
    },
    names,
    object::{meta, text},
};

/// Older way to name a class.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const FORBIDDEN_IN_PATHS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const FORBIDDEN_ENDS: [&str; 2] = ["/..", "/."];
/// Hosts that a table names before it only counts.
const HOSTS_MAX: usize = 3;
/// Letters of addresses that a narrow table shows.
const ADDRESS_WIDTH: usize = 16;

/// Ingress.
pub static INGRESS: Kind = Kind {
    create: |object, _now| object["status"] = json!({"loadBalancer": {}}),
    validate: check,
    validate_status: |new, _old, errors| {
        for entry in At::root(new).items("status.loadBalancer.ingress") {
            let (address, host) = (entry.get("ip"), entry.get("hostname"));
            if !address.is_empty() && address.text().parse::<IpAddr>().is_err() {
                address.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)", errors);
            }
            host.named(names::dns_subdomain, errors);
            if host.text().parse::<IpAddr>().is_ok() {
                host.invalid("must be a DNS name, not an IP address", errors);
            }
        }
    },
    columns: &[
        NAME,
        column("Class", "string", 0, "Class of the controller that serves it."),
        column("Hosts", "string", 0, "Host names that it serves."),
        column("Address", "string", 0, "Where it is reached."),
        column("Ports", "string", 0, "Ports that it serves."),
        AGE,
    ],
    cells: |object, now| {
        let class = text(object, "/spec/ingressClassName");
        let encrypted = items(object, "/spec/tls").next().is_some();
        vec![
            name(object),
            json!(if class.is_empty() { "<none>" } else { class }),
            json!(hosts(object)),
            json!(addresses(object)),
            json!(if encrypted { "80, 443" } else { "80" }),
            age(object, now),
        ]
    },
    warnings: |object| {
        let old = meta::annotation(object, CLASS_ANNOTATION).is_some() && object["spec"].get("ingressClassName").is_none();
        let text = format!("annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead");
        old.then_some(text).into_iter().collect()
    },
    ..Kind::COUNTED_WITH_STATUS
};

fn check(object: &Value, errors: &mut Errors) {
    let spec = At::root(object).get("spec");
    let (rules, backend) = (spec.get("rules"), spec.get("defaultBackend"));
    if rules.is_empty() && backend.is_absent() {
        let rules = if rules.is_absent() { At::new(&Value::Null, "") } else { rules.clone() };
        At::new(rules.value, &spec.path).invalid("either `defaultBackend` or `rules` must be specified", errors);
    }
    if backend.is_set() {
        check_backend(&backend, errors);
    }
    for rule in rules.each() {
        let host = rule.get("host");
        if host.text().parse::<IpAddr>().is_ok() {
            host.invalid("must be a DNS name, not an IP address", errors);
        }
        check_host(&host, errors);
        let http = rule.get("http");
        if http.is_set() {
            if http.get("paths").is_empty() {
                http.get("paths").required("", errors);
            }
            http.items("paths").for_each(|path| check_path(&path, errors));
        }
    }
    for tls in spec.items("tls") {
        tls.items("hosts").for_each(|host| check_host(&host, errors));
        tls.get("secretName").named(names::dns_subdomain, errors);
    }
    let class = spec.get("ingressClassName");
    class.named(names::dns_subdomain, errors);
    if let Some(older) = meta::annotation(object, CLASS_ANNOTATION)
        && class.is_set()
        && older != class.text()
    {
        At::new(&json!(older), format!("annotations.{CLASS_ANNOTATION}"))
            .invalid("must match `ingressClassName` when both are specified", errors);
    }
}

/// A host name, or one with a wildcard for its first part.
fn check_host(host: &At<'_>, errors: &mut Errors) {
    match host.text().contains('*') {
        true => host.named(names::wildcard_dns_subdomain, errors),
        false => host.named(names::dns_subdomain, errors),
    }
}

fn check_path(path: &At<'_>, errors: &mut Errors) {
    let (type_, text) = (path.get("pathType"), path.get("path"));
    if type_.is_absent() {
        return type_.required("pathType must be specified", errors);
    }
    let exact = matches!(type_.text(), "Exact" | "Prefix");
    if !text.text().starts_with('/') && (exact || !text.is_empty()) {
        At::new(&json!(text.text()), &text.path).invalid("must be an absolute path", errors);
    }
    if exact {
        for part in FORBIDDEN_IN_PATHS.iter().filter(|part| text.text().contains(**part)) {
            text.invalid(format!("must not contain '{part}'"), errors);
        }
        for end in FORBIDDEN_ENDS.iter().filter(|end| text.text().ends_with(**end)) {
            text.invalid(format!("cannot end with '{end}'"), errors);
        }
    } else {
        type_.one_of(&["Exact", "ImplementationSpecific", "Prefix"], errors);
    }
    check_backend(&path.get("backend"), errors);
}

fn check_backend(backend: &At<'_>, errors: &mut Errors) {
    let empty = At { value: &json!(""), path: backend.path.clone() };
    let (resource, service) = (backend.get("resource"), backend.get("service"));
    match (resource.is_set(), service.is_set()) {
        (true, true) => empty.invalid("cannot set both resource and service backends", errors),
        (true, false) => check_reference(&resource, errors),
        (false, true) => {
            service.get("name").must_be_named(names::dns_label, errors);
            let (port, number) = (service.get("port.name"), service.get("port.number"));
            match (!port.is_empty(), number.number().is_some_and(|number| number != 0)) {
                (true, true) => empty.invalid("cannot set both port name & port number", errors),
                (true, false) => port.named(names::port_name, errors),
                (false, true) => number.port(errors),
                (false, false) => backend.required("port name or number is required", errors),
            }
        }
        (false, false) => empty.invalid("resource or service backend is required", errors),
    }
}

fn hosts(object: &Value) -> String {
    let rules = items(object, "/spec/rules").count();
    let all: Vec<&str> = items(object, "/spec/rules").map(|rule| text(rule, "/host")).filter(|host| !host.is_empty()).collect();
    match all.len() {
        0 => "*".to_owned(),
        count if count > HOSTS_MAX => format!("{} + {} more...", all[..HOSTS_MAX].join(","), rules - HOSTS_MAX),
        _ => all.join(","),
    }
}

fn addresses(object: &Value) -> String {
    let address = |entry: &Value| {
        let text = [text(entry, "/ip"), text(entry, "/hostname")].into_iter().find(|text| !text.is_empty());
        text.map(str::to_owned)
    };
    let all: BTreeSet<String> = items(object, "/status/loadBalancer/ingress").filter_map(address).collect();
    let text = all.into_iter().collect::<Vec<_>>().join(",");
    match text.get(..ADDRESS_WIDTH - 3) {
        Some(start) if text.len() > ADDRESS_WIDTH => format!("{start}..."),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    fn texts(spec: Value) -> Vec<String> {
        INGRESS.validate(&json!({"metadata": {"name": "a"}, "spec": spec})).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_rule_leads_somewhere() {
        let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
        let with = |path: Value| json!({"rules": [{"host": "*.example.com", "http": {"paths": [path]}}]});
        assert_eq!(texts(with(json!({"path": "/", "pathType": "Prefix", "backend": backend}))), Vec::<String>::new());
        assert_eq!(texts(json!({}))[0], "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified");
        let path = "spec.rules[0].http.paths[0]";
        for (value, error) in [
            (
                json!({"path": "x", "pathType": "Exact", "backend": backend}),
                format!("{path}.path: Invalid value: \"x\": must be an absolute path"),
            ),
            (json!({"path": "/", "backend": backend}), format!("{path}.pathType: Required value: pathType must be specified")),
            (
                json!({"path": "/", "pathType": "Prefix"}),
                format!("{path}.backend: Invalid value: \"\": resource or service backend is required"),
            ),
            (
                json!({"path": "/a/../b", "pathType": "Prefix", "backend": backend}),
                format!("{path}.path: Invalid value: \"/a/../b\": must not contain '/../'"),
            ),
        ] {
            assert_eq!(texts(with(value))[0], error);
        }
    }

    #[test]
    fn a_table_names_three_hosts() {
        let rules: Vec<_> = ["a", "b", "c", "d"].map(|host| json!({"host": host})).into();
        assert_eq!(hosts(&json!({"spec": {"rules": rules}})), "a,b,c + 1 more...");
        assert_eq!(hosts(&json!({})), "*");
    }
}
