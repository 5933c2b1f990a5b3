//! Service. Its addresses and node ports are given out by the API server, not here.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    common::{AGE, NAME, age, column, default, items, items_mut, joined, keep, map_of, map_text, name},
    validate,
};
use crate::{
    field::FieldError,
    names,
    object::text,
    strategy::{Column, Strategy},
};

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
        let kind = spec["type"].clone();
        if kind != "ExternalName" {
            default(spec, "internalTrafficPolicy", "Cluster");
            default(spec, "ipFamilies", json!(["IPv4"]));
            default(spec, "ipFamilyPolicy", "SingleStack");
        }
        if kind == "NodePort" || kind == "LoadBalancer" {
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
        errors
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        // What was given out stays unless the client says otherwise; clients may leave it out.
        for field in ["clusterIP", "clusterIPs"] {
            if new["spec"].get(field).is_none_or(|value| value == "")
                && let Some(value) = old["spec"].get(field)
                && new["spec"]["type"] != "ExternalName"
            {
                new["spec"][field] = value.clone();
            }
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
    let (mut seen_names, mut seen_ports) = (BTreeSet::new(), BTreeSet::new());
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
        if !seen_ports.insert((port["port"].to_string(), protocol)) {
            errors.push(FieldError::duplicate(path, &json!({ "port": port["port"], "protocol": protocol })));
        }
    }
}
