//! The rest of what people get wrong in pods: handlers of probes and hooks, sources of variables, identities, names.

use std::{collections::HashSet, net::IpAddr, sync::LazyLock};

use regex::Regex;
use serde_json::json;

use super::volumes::check_relative;
use crate::{
    kinds::{check::At, kind::Errors},
    names,
};

/// Highest number of a user or group.
const ID_MAX: i64 = 2_147_483_647;
/// Longest name of a kernel parameter.
const SYSCTL_BYTES_MAX: usize = 253;
#[expect(clippy::expect_used, reason = "a constant expression, compiled by a test")]
static SYSCTL_NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$").expect("a valid expression")
});
const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];
const VARIABLE_SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

/// Details of a pod's specification.
pub(super) fn check(spec: &At<'_>, errors: &mut Errors) {
    let deadline = spec.get("activeDeadlineSeconds");
    if deadline.number().is_some_and(|seconds| !(1..=ID_MAX).contains(&seconds)) {
        deadline.invalid("must be between 1 and 2147483647, inclusive", errors);
    }
    for field in ["hostname", "subdomain"] {
        spec.get(field).named(names::dns_label, errors);
    }
    for field in ["priorityClassName", "runtimeClassName"] {
        spec.get(field).named(names::dns_subdomain, errors);
    }
    for secret in spec.items("imagePullSecrets").filter(|secret| secret.get("name").is_empty()) {
        secret.get("name").required("", errors);
    }
    for gate in spec.items("schedulingGates").map(|gate| gate.get("name")) {
        names::qualified_name(gate.text()).into_iter().for_each(|reason| gate.invalid(reason, errors));
    }
    for gate in spec.items("readinessGates").map(|gate| gate.get("conditionType")) {
        names::qualified_name(gate.text()).into_iter().for_each(|reason| gate.invalid(reason, errors));
    }
    for alias in spec.items("hostAliases") {
        let address = alias.get("ip");
        if address.text().parse::<IpAddr>().is_err() {
            address.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)", errors);
        }
        for host in alias.items("hostnames") {
            names::dns_subdomain(host.text()).into_iter().for_each(|reason| host.invalid(reason, errors));
        }
    }
    check_dns(spec, errors);
    check_ids(&spec.get("securityContext"), &["runAsUser", "runAsGroup", "fsGroup"], errors);
    check_sysctls(&spec.get("securityContext"), errors);
    for list in ["containers", "initContainers"] {
        spec.items(list).for_each(|container| check_container(&container, list == "initContainers", errors));
    }
}

fn check_dns(spec: &At<'_>, errors: &mut Errors) {
    let servers = spec.get("dnsConfig").get("nameservers");
    if spec.get("dnsPolicy").text() == "None" && servers.is_empty() {
        servers.required("must provide at least one DNS nameserver when `dnsPolicy` is None", errors);
    }
    for server in servers.each().filter(|server| server.text().parse::<IpAddr>().is_err()) {
        server.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)", errors);
    }
}

/// Names of kernel parameters, in either notation (`man 5 sysctl.d`).
fn check_sysctls(context: &At<'_>, errors: &mut Errors) {
    let mut names = HashSet::new();
    for name in context.items("sysctls").map(|sysctl| sysctl.get("name")) {
        if name.text().is_empty() {
            name.required("", errors);
        } else if name.text().len() > SYSCTL_BYTES_MAX || !SYSCTL_NAME.is_match(name.text()) {
            let detail = format!("must have at most {SYSCTL_BYTES_MAX} characters and match regex {}", SYSCTL_NAME.as_str());
            name.invalid(detail, errors);
        } else if !names.insert(name.text()) {
            name.duplicate(errors);
        }
    }
}

fn check_ids(context: &At<'_>, fields: &[&str], errors: &mut Errors) {
    for id in fields.iter().map(|field| context.get(field)) {
        if id.number().is_some_and(|number| !(0..=ID_MAX).contains(&number)) {
            id.invalid("must be between 0 and 2147483647, inclusive", errors);
        }
    }
}

fn check_container(container: &At<'_>, init: bool, errors: &mut Errors) {
    let context = container.get("securityContext");
    check_ids(&context, &["runAsUser", "runAsGroup"], errors);
    if *context.get("allowPrivilegeEscalation").value == json!(false) {
        let admin = context.items("capabilities.add").any(|capability| capability.text() == "CAP_SYS_ADMIN");
        if *context.get("privileged").value == json!(true) {
            context.invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true", errors);
        }
        if admin {
            context.invalid("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN", errors);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| container.get(probe)) {
        check_handler(&probe, errors);
        let grace = probe.get("terminationGracePeriodSeconds");
        match grace.number() {
            Some(_) if probe.path.ends_with("readinessProbe") => {
                grace.invalid("must not be set for readinessProbes", errors);
            }
            Some(seconds) if seconds <= 0 => grace.invalid("must be greater than 0", errors),
            _ => {}
        }
    }
    for hook in ["postStart", "preStop"].map(|hook| container.get("lifecycle").get(hook)).iter().filter(|hook| hook.is_set()) {
        if !HANDLERS.iter().any(|handler| hook.get(handler).is_set()) {
            hook.required("must specify a handler type", errors);
        }
        check_handler(hook, errors);
    }
    for mount in container.items("volumeMounts") {
        let (path, expression) = (mount.get("subPath"), mount.get("subPathExpr"));
        check_relative(&path, errors);
        check_relative(&expression, errors);
        if !path.is_empty() && !expression.is_empty() {
            expression.invalid("subPathExpr and subPath are mutually exclusive", errors);
        }
    }
    container.items("env").for_each(|variable| check_source(&variable.get("valueFrom"), errors));
    for port in container.items("ports") {
        let host = port.get("hostPort");
        if host.number().is_some_and(|number| number != 0) {
            host.port(errors);
        }
        port.get("name").named(names::port_name, errors);
    }
    container.get("terminationMessagePolicy").one_of(&["FallbackToLogsOnError", "File"], errors);
    let restart = container.get("restartPolicy");
    if init && restart.is_set() && container.get("restartPolicyRules").is_empty() {
        restart.one_of(&["Always", "Never", "OnFailure"], errors);
    }
}

fn check_handler(holder: &At<'_>, errors: &mut Errors) {
    let (exec, http, tcp, grpc) = (holder.get("exec"), holder.get("httpGet"), holder.get("tcpSocket"), holder.get("grpc"));
    if exec.is_set() && exec.get("command").is_empty() {
        exec.get("command").required("", errors);
    }
    if http.is_set() {
        if http.get("path").is_empty() {
            http.get("path").required("", errors);
        }
        check_port(&http.get("port"), errors);
        http.get("scheme").one_of(&["HTTP", "HTTPS"], errors);
    }
    if tcp.is_set() {
        check_port(&tcp.get("port"), errors);
    }
    if grpc.is_set() {
        grpc.get("port").port(errors);
    }
}

/// A port by number or by name.
fn check_port(port: &At<'_>, errors: &mut Errors) {
    match port.value.is_string() {
        true => names::port_name(port.text()).into_iter().for_each(|reason| port.invalid(reason, errors)),
        false => At { value: &json!(port.number().unwrap_or(0)), path: port.path.clone() }.port(errors),
    }
}

fn check_source(source: &At<'_>, errors: &mut Errors) {
    if source.is_absent() {
        return;
    }
    let given = VARIABLE_SOURCES.iter().filter(|field| source.get(field).is_set()).count();
    let empty = json!("");
    let at = At { value: &empty, path: source.path.clone() };
    match given {
        0 => at.invalid("must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`", errors),
        1 => {}
        _ => at.invalid("may not have more than one field specified at a time", errors),
    }
    for reference in ["configMapKeyRef", "secretKeyRef"].map(|field| source.get(field)).iter().filter(|at| at.is_set()) {
        let key = reference.get("key");
        if key.must_be_set(errors) {
            key.named(names::config_map_key, errors);
        }
    }
    let resource = source.get("resourceFieldRef");
    if resource.is_set() {
        resource.get("resource").must_be_set(errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn details_are_named_with_their_paths() {
        let first = |spec: Value| {
            let mut errors = Vec::new();
            check(&At::new(&spec, "spec"), &mut errors);
            errors.first().map(ToString::to_string).unwrap_or_default()
        };
        let container = |container: Value| json!({ "containers": [container] });
        let at = "spec.containers[0]";
        for (spec, error) in [
            (
                json!({"activeDeadlineSeconds": 0}),
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive".to_owned(),
            ),
            (
                json!({"dnsPolicy": "None"}),
                "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None"
                    .into(),
            ),
            (
                container(json!({"livenessProbe": {"httpGet": {"path": "/", "port": 0}}})),
                format!("{at}.livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive"),
            ),
            (
                container(json!({"lifecycle": {"preStop": {}}})),
                format!("{at}.lifecycle.preStop: Required value: must specify a handler type"),
            ),
            (
                container(json!({"env": [{"name": "A", "valueFrom": {}}]})),
                format!(
                    "{at}.env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
                ),
            ),
            (
                container(json!({"securityContext": {"runAsUser": -1}})),
                format!("{at}.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive"),
            ),
            (
                container(json!({"volumeMounts": [{"subPath": "../x"}]})),
                format!("{at}.volumeMounts[0].subPath: Invalid value: \"../x\": must not contain '..'"),
            ),
            (
                json!({"securityContext": {"sysctls": [{"name": "kernel/sem"}, {"name": "foo-"}]}}),
                "spec.securityContext.sysctls[1].name: Invalid value: \"foo-\": must have at most 253 characters and match regex \
                 ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
                    .into(),
            ),
            (container(json!({"readinessProbe": {"exec": {"command": ["x"]}}})), String::new()),
        ] {
            assert_eq!(first(spec), error);
        }
    }
}
