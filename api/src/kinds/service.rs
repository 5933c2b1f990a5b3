//! Service. Its addresses and node ports are given out by the API server, not here.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    check::At,
    common::{AGE, NAME, age, column, default, items, items_mut, joined, keep, map_of, map_text, name},
    core::check_endpoint_address,
    kind::Errors,
    networking::is_cidr,
    validate,
};
use crate::{
    field::FieldError,
    names,
    object::text,
    strategy::{Column, Strategy},
};

/// How long a client stays with its endpoint, and how long it may at most.
const AFFINITY_SECONDS: i64 = 10_800;
const AFFINITY_SECONDS_MAX: i64 = 86_400;
const ONLY_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";
const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const COLUMNS: &[Column] = &[
    NAME,
    column("Type", "string", 0, "How the service is reached."),
    column("Cluster-IP", "string", 0, "Address within the cluster."),
    column("External-IP", "string", 0, "Addresses outside the cluster."),
    column("Port(s)", "string", 0, "Ports, with the nodes' ports behind the colon."),
    AGE,
    column("Selector", "string", 1, "Labels of its pods."),
];

/// Service.
pub struct ServiceStrategy;

impl Strategy for ServiceStrategy {
    fn set_defaults(&self, object: &mut Value) {
        let Some(spec) = map_of(object, "spec") else { return };
        default(spec, "type", "ClusterIP");
        default(spec, "sessionAffinity", "None");
        match spec["sessionAffinity"].as_str() {
            Some("None") => drop(spec.remove("sessionAffinityConfig")),
            Some("ClientIP") => {
                let given = spec.get("sessionAffinityConfig").and_then(|config| config.pointer("/clientIP/timeoutSeconds"));
                if given.is_none() {
                    let config = json!({ "clientIP": { "timeoutSeconds": AFFINITY_SECONDS } });
                    spec.insert("sessionAffinityConfig".into(), config);
                }
            }
            _ => {}
        }
        let kind = spec["type"].clone();
        let outside = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        if kind != "ExternalName" {
            default(spec, "internalTrafficPolicy", "Cluster");
            default(spec, "ipFamilies", json!(["IPv4"]));
            default(spec, "ipFamilyPolicy", "SingleStack");
        }
        if kind == "NodePort" || kind == "LoadBalancer" || kind == "ClusterIP" && outside {
            default(spec, "externalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            default(spec, "allocateLoadBalancerNodePorts", true);
        }
        for port in items_mut(object, "/spec/ports") {
            let number = port["port"].clone();
            if let Some(port) = port.as_object_mut() {
                default(port, "protocol", "TCP");
                if port.get("targetPort").is_none_or(|target| *target == 0 || *target == "") {
                    port.insert("targetPort".into(), number);
                }
            }
        }
    }

    fn prepare_for_create(&self, object: &mut Value, _now: Timestamp) {
        object["status"] = json!({ "loadBalancer": {} });
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        validate::one_of(object, "/spec/type", TYPES, &mut errors);
        validate::one_of(object, "/spec/sessionAffinity", &["ClientIP", "None"], &mut errors);
        validate::labels(object.pointer("/spec/selector"), "spec.selector", &mut errors);
        let external = text(object, "/spec/type") == "ExternalName";
        let headless = text(object, "/spec/clusterIP") == "None";
        if external && text(object, "/spec/externalName").is_empty() {
            errors.push(FieldError::required("spec.externalName", ""));
        }
        let ports: Vec<_> = items(object, "/spec/ports").collect();
        if ports.is_empty() && !external && !headless {
            errors.push(FieldError::required("spec.ports", ""));
        }
        validate_ports(&ports, &mut errors);
        check_policies(&At::root(object).get("spec"), &mut errors);
        errors
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        drop_what_the_type_lacks(new, old);
        // What was given out stays unless the client says otherwise; clients may leave it out.
        for field in ["clusterIP", "clusterIPs"] {
            if new["spec"].get(field).is_none_or(|value| value == "")
                && let Some(value) = old["spec"].get(field)
                && new["spec"]["type"] != "ExternalName"
            {
                new["spec"][field] = value.clone();
            }
        }
        let health = new["spec"].get("healthCheckNodePort").is_none_or(|port| *port == 0);
        if health && needs_health_check(new) && needs_health_check(old) {
            keep(&mut new["spec"], &old["spec"], "healthCheckNodePort");
        }
        let old_ports = old["spec"]["ports"].clone();
        let keeps_ports = matches!(text(new, "/spec/type"), "NodePort" | "LoadBalancer");
        for port in items_mut(new, "/spec/ports") {
            let same = |other: &&Value| other["port"] == port["port"] && other["protocol"] == port["protocol"];
            let before = old_ports.as_array().into_iter().flatten().find(same).and_then(|other| other.get("nodePort")).cloned();
            if keeps_ports
                && port.get("nodePort").is_none_or(|number| *number == 0)
                && let Some(before) = before
            {
                port["nodePort"] = before;
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (before, after) = (text(old, "/spec/clusterIP"), text(new, "/spec/clusterIP"));
        if text(old, "/spec/type") != "ExternalName"
            && text(new, "/spec/type") != "ExternalName"
            && !before.is_empty()
            && before != after
        {
            errors.push(FieldError::invalid("spec.clusterIPs[0]", &json!([after]), "may not change once set"));
        }
        let health = |service: &Value| service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0);
        if needs_health_check(old) && needs_health_check(new) && health(old) != health(new) {
            errors.push(FieldError::forbidden("spec.healthCheckNodePort", "field is immutable"));
        }
        errors
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        names::dns_label(name)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let none = |value: &str| json!(if value.is_empty() { "<none>" } else { value });
        let port = |port: &Value| {
            let node = port["nodePort"].as_i64().filter(|number| *number > 0).map(|number| format!(":{number}"));
            format!("{}{}/{}", port["port"], node.unwrap_or_default(), text(port, "/protocol"))
        };
        vec![
            name(object),
            none(text(object, "/spec/type")),
            none(text(object, "/spec/clusterIP")),
            json!(external(object)),
            json!(joined(items(object, "/spec/ports").map(port))),
            age(object, now),
            json!(map_text(object.pointer("/spec/selector"))),
        ]
    }
}

/// Whether nodes, balancers or addresses outside lead to the service.
fn is_reached_from_outside(service: &Value) -> bool {
    let kind = text(service, "/spec/type");
    matches!(kind, "NodePort" | "LoadBalancer") || kind == "ClusterIP" && items(service, "/spec/externalIPs").next().is_some()
}

/// Whether nodes tell a balancer if they have endpoints.
fn needs_health_check(service: &Value) -> bool {
    text(service, "/spec/type") == "LoadBalancer" && text(service, "/spec/externalTrafficPolicy") == "Local"
}

/// What only the old type has goes with it, unless the client has changed it and so means it.
fn drop_what_the_type_lacks(new: &mut Value, old: &Value) {
    let (before, after) = (text(old, "/spec/type").to_owned(), text(new, "/spec/type").to_owned());
    let needs_address = |kind: &str| matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer");
    let mut gone: Vec<&str> = Vec::new();
    if needs_address(&before) && !needs_address(&after) {
        gone.extend(["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]);
    }
    if before == "LoadBalancer" && after != "LoadBalancer" {
        gone.extend(["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
        new["status"]["loadBalancer"] = json!({});
    }
    if needs_health_check(old) && !needs_health_check(new) {
        gone.push("healthCheckNodePort");
    }
    if before == "ExternalName" && after != "ExternalName" {
        gone.push("externalName");
    }
    if is_reached_from_outside(old) && !is_reached_from_outside(new) {
        gone.push("externalTrafficPolicy");
    }
    for field in gone.into_iter().filter(|field| new["spec"][*field] == old["spec"][*field]).collect::<Vec<_>>() {
        new["spec"].as_object_mut().into_iter().for_each(|spec| drop(spec.remove(field)));
    }
    if matches!(before.as_str(), "NodePort" | "LoadBalancer") && !matches!(after.as_str(), "NodePort" | "LoadBalancer") {
        items_mut(new, "/spec/ports").filter_map(Value::as_object_mut).for_each(|port| drop(port.remove("nodePort")));
    }
}

/// Affinity, traffic policies, and what only some types have.
fn check_policies(spec: &At<'_>, errors: &mut Errors) {
    let kind = spec.get("type").text();
    let balancer = kind == "LoadBalancer";
    if kind == "ExternalName" {
        let name = spec.get("externalName");
        let relative = name.text().strip_suffix('.').unwrap_or(name.text());
        if !relative.is_empty() {
            names::dns_subdomain(relative).into_iter().for_each(|reason| name.invalid(reason, errors));
        }
    }
    let timeout = spec.get("sessionAffinityConfig.clientIP.timeoutSeconds");
    if timeout.number().is_some_and(|seconds| seconds <= 0 || seconds > AFFINITY_SECONDS_MAX) {
        timeout.invalid(format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"), errors);
    }
    spec.items("externalIPs").for_each(|address| check_endpoint_address(&address, errors));
    let policy = spec.get("externalTrafficPolicy");
    let outside = matches!(kind, "NodePort" | "LoadBalancer") || kind == "ClusterIP" && !spec.get("externalIPs").is_empty();
    match outside {
        true => policy.one_of(&["Cluster", "Local"], errors),
        false if policy.is_set() => policy.invalid("may only be set for externally-accessible services", errors),
        false => {}
    }
    let health = spec.get("healthCheckNodePort");
    if health.number().is_some_and(|port| port != 0) && !(balancer && policy.text() == "Local") {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        health.invalid(detail, errors);
    }
    spec.get("internalTrafficPolicy").one_of(&["Cluster", "Local"], errors);
    spec.get("ipFamilyPolicy").one_of(&["PreferDualStack", "RequireDualStack", "SingleStack"], errors);
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"].map(|field| spec.get(field)) {
        if field.is_set() && !balancer {
            field.forbidden(ONLY_BALANCERS, errors);
        }
    }
    spec.get("loadBalancerClass").named(names::qualified_name, errors);
    let ranges = spec.get("loadBalancerSourceRanges");
    if !ranges.is_empty() && !balancer {
        At::new(ranges.value, format!("{}.LoadBalancerSourceRanges", spec.path)).forbidden(ONLY_BALANCERS, errors);
    }
    for range in ranges.each().filter(|range| !is_cidr(range.text().trim())) {
        At::new(range.value, ranges.path.clone())
            .invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)", errors);
    }
    for port in spec.items("ports") {
        let (node, target) = (port.get("nodePort"), port.get("targetPort"));
        if node.number().is_some_and(|number| number != 0) && kind == "ClusterIP" {
            node.forbidden("may not be used when `type` is 'ClusterIP'", errors);
        }
        if target.value.is_string() {
            names::port_name(target.text()).into_iter().for_each(|reason| target.invalid(reason, errors));
        }
        port.get("appProtocol").named(names::qualified_name, errors);
    }
}

fn external(object: &Value) -> String {
    if text(object, "/spec/type") == "ExternalName" {
        return text(object, "/spec/externalName").to_owned();
    }
    let balancer = items(object, "/status/loadBalancer/ingress").map(|entry| text(entry, "/ip").to_owned());
    let fixed = items(object, "/spec/externalIPs").map(|address| address.as_str().unwrap_or_default().to_owned());
    let all = joined(balancer.chain(fixed));
    if all == "<none>" && text(object, "/spec/type") == "LoadBalancer" { "<pending>".into() } else { all }
}

fn validate_ports(ports: &[&Value], errors: &mut Vec<FieldError>) {
    let (mut seen_names, mut seen_ports, mut seen_node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let port_name = text(port, "/name");
        if port_name.is_empty() {
            if ports.len() > 1 {
                errors.push(FieldError::required(format!("{path}.name"), ""));
            }
        } else {
            let wrong = |reason| FieldError::invalid(format!("{path}.name"), &json!(port_name), reason);
            errors.extend(names::dns_label(port_name).into_iter().map(wrong));
            if !seen_names.insert(port_name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), &json!(port_name)));
            }
        }
        validate::port(&port["port"], &format!("{path}.port"), errors);
        let protocol = text(port, "/protocol");
        if !["SCTP", "TCP", "UDP"].contains(&protocol) {
            errors.push(FieldError::not_supported(format!("{path}.protocol"), &json!(protocol), &["SCTP", "TCP", "UDP"]));
        }
        if port["targetPort"].is_i64() {
            validate::port(&port["targetPort"], &format!("{path}.targetPort"), errors);
        }
        let node_port = port["nodePort"].as_u64().filter(|number| *number > 0);
        if node_port.is_some_and(|number| !seen_node_ports.insert((number, protocol))) {
            errors.push(FieldError::duplicate(format!("{path}.nodePort"), &port["nodePort"]));
        }
        if !seen_ports.insert((port["port"].to_string(), protocol)) {
            errors.push(FieldError::duplicate(path, &json!({ "port": port["port"], "protocol": protocol })));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(spec: Value) -> Value {
        let mut object = json!({"metadata": {"name": "a"}, "spec": spec});
        ServiceStrategy.set_defaults(&mut object);
        object
    }

    #[test]
    fn a_change_of_type_takes_along_what_only_the_old_one_had() {
        let mut old = service(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_001}], "clusterIP": "10.96.0.9"}));
        old["status"] = json!({ "loadBalancer": {} });
        let mut new = old.clone();
        new["spec"]["type"] = json!("ExternalName");
        new["spec"]["externalName"] = json!("example.com");
        ServiceStrategy.prepare_for_update(&mut new, &old);
        for gone in ["clusterIP", "externalTrafficPolicy", "ipFamilies"] {
            assert!(new["spec"].get(gone).is_none(), "{gone}");
        }
        assert!(new["spec"]["ports"][0].get("nodePort").is_none());
        assert_eq!(ServiceStrategy.validate_update(&new, &old), vec![]);
    }

    #[test]
    fn affinity_and_policies_are_completed_and_checked() {
        let sticky = service(json!({"sessionAffinity": "ClientIP", "ports": [{"port": 80}]}));
        assert_eq!(sticky["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10_800);
        assert_eq!(ServiceStrategy.validate(&sticky), vec![]);
        for (spec, error) in [
            (
                json!({"ports": [{"port": 80, "nodePort": 30_000}]}),
                "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            ),
            (
                json!({"ports": [{"port": 80}], "externalTrafficPolicy": "Local"}),
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
            ),
            (
                json!({"ports": [{"port": 80}], "loadBalancerClass": "a.b/c"}),
                "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ),
        ] {
            assert_eq!(ServiceStrategy.validate(&service(spec))[0].to_string(), error);
        }
    }
}
