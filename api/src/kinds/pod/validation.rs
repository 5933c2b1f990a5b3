//! The mistakes that people make in pods, in Kubernetes' words.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{details, placement, volumes};
use crate::{
    field::FieldError,
    kinds::{
        check::At,
        common::items,
        validate::{self, NOT_NEGATIVE},
    },
    names,
    object::text,
};

const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];
const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// A pod's specification below `path`.
#[must_use]
pub fn validate_spec(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let names_of_volumes = validate_volumes(spec, path, &mut errors);
    let containers: Vec<_> = items(spec, "/containers").collect();
    if containers.is_empty() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    let mut seen = BTreeSet::new();
    for list in ["containers", "initContainers"] {
        for (index, container) in items(spec, &format!("/{list}")).enumerate() {
            let path = format!("{path}.{list}[{index}]");
            let name = text(container, "/name");
            if !name.is_empty() && !seen.insert(name.to_owned()) {
                errors.push(FieldError::duplicate(format!("{path}.name"), &json!(name)));
            }
            validate_container(container, &path, &names_of_volumes, &mut errors);
        }
    }
    for (field, supported) in [("restartPolicy", RESTART_POLICIES), ("dnsPolicy", DNS_POLICIES)] {
        let value = text(spec, &format!("/{field}"));
        if !value.is_empty() && !supported.contains(&value) {
            errors.push(FieldError::not_supported(format!("{path}.{field}"), &json!(value), supported));
        }
    }
    let grace = &spec["terminationGracePeriodSeconds"];
    if grace.as_i64().is_some_and(|seconds| seconds < 0) {
        errors.push(FieldError::invalid(format!("{path}.terminationGracePeriodSeconds"), grace, NOT_NEGATIVE));
    }
    validate::labels(spec.get("nodeSelector"), &format!("{path}.nodeSelector"), &mut errors);
    for field in ["nodeName", "serviceAccountName"] {
        let value = text(spec, &format!("/{field}"));
        let reasons = if value.is_empty() { Vec::new() } else { names::dns_subdomain(value) };
        errors.extend(reasons.into_iter().map(|reason| FieldError::invalid(format!("{path}.{field}"), &json!(value), reason)));
    }
    let at = At::new(spec, path);
    volumes::check(&at, &mut errors);
    placement::check(&at, &mut errors);
    details::check(&at, &mut errors);
    errors
}

fn validate_volumes(spec: &Value, path: &str, errors: &mut Vec<FieldError>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for (index, volume) in items(spec, "/volumes").enumerate() {
        let (name, field) = (text(volume, "/name"), format!("{path}.volumes[{index}].name"));
        if name.is_empty() {
            errors.push(FieldError::required(field, ""));
            continue;
        }
        errors.extend(names::dns_label(name).into_iter().map(|reason| FieldError::invalid(&field, &json!(name), reason)));
        if !seen.insert(name.to_owned()) {
            errors.push(FieldError::duplicate(field, &json!(name)));
        }
        if volume.as_object().is_some_and(|fields| fields.len() > 2) {
            errors.push(FieldError::forbidden(format!("{path}.volumes[{index}]"), "may not specify more than 1 volume type"));
        }
    }
    seen
}

fn validate_container(container: &Value, path: &str, volumes: &BTreeSet<String>, errors: &mut Vec<FieldError>) {
    let name = text(container, "/name");
    if name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    } else {
        errors.extend(
            names::dns_label(name).into_iter().map(|reason| FieldError::invalid(format!("{path}.name"), &json!(name), reason)),
        );
    }
    let image = text(container, "/image");
    if image.is_empty() {
        errors.push(FieldError::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(format!("{path}.image"), &json!(image), detail));
    }
    let policy = text(container, "/imagePullPolicy");
    if !policy.is_empty() && !PULL_POLICIES.contains(&policy) {
        errors.push(FieldError::not_supported(format!("{path}.imagePullPolicy"), &json!(policy), PULL_POLICIES));
    }
    validate_ports(container, path, errors);
    validate_environment(container, path, errors);
    validate_mounts(container, path, volumes, errors);
    validate_resources(container, path, errors);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(value) = container.get(probe) {
            validate_probe(value, &format!("{path}.{probe}"), probe != "readinessProbe", errors);
        }
    }
}

fn validate_ports(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, port) in items(container, "/ports").enumerate() {
        let path = format!("{path}.ports[{index}]");
        let name = text(port, "/name");
        if !name.is_empty() && !seen.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &json!(name)));
        }
        match port.get("containerPort") {
            None => errors.push(FieldError::required(format!("{path}.containerPort"), "")),
            Some(number) if number == 0 => errors.push(FieldError::required(format!("{path}.containerPort"), "")),
            Some(number) => validate::port(number, &format!("{path}.containerPort"), errors),
        }
        let protocol = text(port, "/protocol");
        if !protocol.is_empty() && !PROTOCOLS.contains(&protocol) {
            errors.push(FieldError::not_supported(format!("{path}.protocol"), &json!(protocol), PROTOCOLS));
        }
    }
}

fn validate_environment(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (index, variable) in items(container, "/env").enumerate() {
        let (name, field) = (text(variable, "/name"), format!("{path}.env[{index}]"));
        if name.is_empty() {
            errors.push(FieldError::required(format!("{field}.name"), ""));
        } else if name.contains('=') || !name.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            let detail = "a valid environment variable name must consist only of printable ASCII characters other than '='";
            errors.push(FieldError::invalid(format!("{field}.name"), &json!(name), detail));
        }
        if variable.get("valueFrom").is_some() && !text(variable, "/value").is_empty() {
            errors.push(FieldError::invalid(
                format!("{field}.valueFrom"),
                &json!(""),
                "may not be specified when `value` is not empty",
            ));
        }
    }
}

fn validate_mounts(container: &Value, path: &str, volumes: &BTreeSet<String>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, mount) in items(container, "/volumeMounts").enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        let (name, target) = (text(mount, "/name"), text(mount, "/mountPath"));
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !volumes.contains(name) {
            let error = FieldError {
                type_: crate::field::ErrorType::NotFound,
                ..FieldError::duplicate(format!("{path}.name"), &json!(name))
            };
            errors.push(error);
        }
        if target.is_empty() {
            errors.push(FieldError::required(format!("{path}.mountPath"), ""));
        } else if !seen.insert(target) {
            errors.push(FieldError::invalid(format!("{path}.mountPath"), &json!(target), "must be unique"));
        }
    }
}

fn validate_resources(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for field in ["limits", "requests"] {
        let list = container.pointer(&format!("/resources/{field}")).and_then(Value::as_object);
        for (name, value) in list.into_iter().flatten() {
            let path = format!("{path}.resources.{field}[{name}]");
            let Some(amount) = validate::quantity(value, &path, errors) else { continue };
            let limit = container.pointer(&format!("/resources/limits/{name}")).filter(|_| field == "requests");
            let limit = limit.and_then(Value::as_str).and_then(|limit| limit.parse().ok());
            if limit.is_some_and(|limit| amount > limit) {
                let path = path.replace(&format!("requests[{name}]"), "requests");
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let limit = container.pointer(&format!("/resources/limits/{name}")).and_then(Value::as_str).unwrap_or_default();
                errors.push(FieldError::invalid(
                    path,
                    &json!(text),
                    format!("must be less than or equal to {name} limit of {limit}"),
                ));
            }
        }
    }
}

fn validate_probe(probe: &Value, path: &str, success_is_one: bool, errors: &mut Vec<FieldError>) {
    let handlers = ["exec", "httpGet", "tcpSocket", "grpc"].iter().filter(|handler| probe.get(**handler).is_some()).count();
    match handlers {
        0 => errors.push(FieldError::required(path, "must specify a handler type")),
        1 => {}
        _ => errors.push(FieldError::forbidden(path, "may not specify more than 1 handler type")),
    }
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        let value = &probe[field];
        if value.as_i64().is_some_and(|number| number < 0) {
            errors.push(FieldError::invalid(format!("{path}.{field}"), value, NOT_NEGATIVE));
        }
    }
    let success = &probe["successThreshold"];
    if success_is_one && success.as_i64().is_some_and(|number| number != 1) {
        errors.push(FieldError::invalid(format!("{path}.successThreshold"), success, "must be 1"));
    }
}

/// A template within a workload.
#[must_use]
pub fn validate_template(template: &Value, path: &str) -> Vec<FieldError> {
    validate_spec(&template["spec"], &format!("{path}.spec"))
}

/// A template whose pods run for ever; `kind` is the workload's.
#[must_use]
pub fn validate_lasting_template(template: &Value, path: &str, kind: &str) -> Vec<FieldError> {
    let mut errors = validate_template(template, path);
    let spec = At::new(template, path).get("spec");
    let policy = spec.get("restartPolicy");
    if RESTART_POLICIES.contains(&policy.text()) {
        policy.one_of(&["Always"], &mut errors);
    }
    let deadline = spec.get("activeDeadlineSeconds");
    if deadline.is_set() {
        deadline.forbidden(format!("activeDeadlineSeconds in {kind} is not Supported"), &mut errors);
    }
    errors
}

/// What an update of a pod may change: images, the deadline, more tolerations.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate_spec(&new["spec"], "spec");
    let mut allowed = new["spec"].clone();
    for list in ["containers", "initContainers"] {
        let (before, after) = (items(&old["spec"], &format!("/{list}")).count(), items(&allowed, &format!("/{list}")).count());
        if before != after {
            errors.push(FieldError::forbidden(format!("spec.{list}"), "pod updates may not add or remove containers"));
            return errors;
        }
        for (index, container) in items(&old["spec"], &format!("/{list}")).enumerate() {
            allowed[list][index]["image"] = container["image"].clone();
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates"] {
        match old["spec"].get(field) {
            Some(value) => allowed[field] = value.clone(),
            None => {
                if let Some(spec) = allowed.as_object_mut() {
                    spec.remove(field);
                }
            }
        }
    }
    if allowed != old["spec"] {
        let detail = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
                      `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
                      `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        errors.push(FieldError::forbidden("spec", detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named_with_their_paths() {
        let good = json!({"containers": [{"name": "a", "image": "b"}]});
        assert!(validate_spec(&good, "spec").is_empty());
        for (spec, error) in [
            (json!({}), "spec.containers: Required value"),
            (
                json!({"containers": [{"name": "A_", "image": "b"}]}),
                "spec.containers[0].name: Invalid value: \"A_\": a lowercase RFC 1123 label",
            ),
            (json!({"containers": [{"name": "a"}]}), "spec.containers[0].image: Required value"),
            (
                json!({"containers": [{"name": "a", "image": "b"}, {"name": "a", "image": "b"}]}),
                "spec.containers[1].name: Duplicate value: \"a\"",
            ),
            (
                json!({"containers": [{"name": "a", "image": "b", "volumeMounts": [{"name": "v", "mountPath": "/x"}]}]}),
                "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
            ),
            (
                json!({"containers": [{"name": "a", "image": "b", "ports": [{"containerPort": 70000}]}]}),
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ),
            (
                json!({"containers": [{"name": "a", "image": "b", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}]}),
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ),
            (
                json!({"containers": [{"name": "a", "image": "b"}], "restartPolicy": "Sometimes"}),
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ),
        ] {
            let errors: Vec<_> = validate_spec(&spec, "spec").iter().map(ToString::to_string).collect();
            assert!(errors.iter().any(|found| found.starts_with(error)), "{errors:?} lacks {error}");
        }
    }

    #[test]
    fn only_the_image_may_change() {
        let old = json!({"spec": {"containers": [{"name": "a", "image": "b"}]}});
        let mut new = old.clone();
        new["spec"]["containers"][0]["image"] = json!("c");
        assert!(validate_update(&new, &old).is_empty());
        new["spec"]["containers"][0]["command"] = json!(["x"]);
        assert_eq!(validate_update(&new, &old).len(), 1);
    }
}
