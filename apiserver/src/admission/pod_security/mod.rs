//! `PodSecurity`: what pods of a namespace may ask of their node, by the namespace's labels.
//!
//! A pod that breaks the enforced level is refused; what breaks the audited or warned level is noted; of workloads only
//! notes are made. <https://kubernetes.io/docs/concepts/security/pod-security-admission/>

mod baseline;
mod pod;
mod policy;
mod restricted;

use async_trait::async_trait;
use kontiki_api::{
    object::{meta, text},
    resources::{NAMESPACES, PODS},
    status::Status,
};
use serde_json::Value;

use super::{Operation, Plugin, Request, lookup};
use crate::service::ApiServer;
use pod::Pod;
use policy::{Policy, evaluate};

/// Workloads, and where their pods' template is.
const WORKLOADS: [(&str, &str, &str); 9] = [
    ("", "podtemplates", "/template"),
    ("", "replicationcontrollers", "/spec/template"),
    ("apps", "deployments", "/spec/template"),
    ("apps", "replicasets", "/spec/template"),
    ("apps", "statefulsets", "/spec/template"),
    ("apps", "daemonsets", "/spec/template"),
    ("batch", "jobs", "/spec/template"),
    ("batch", "cronjobs", "/spec/jobTemplate/spec/template"),
    ("extensions", "replicationcontrollers", "/spec/template"),
];
/// Pods that a warning about a namespace names.
const NAMED_MAX: usize = 3000;

/// The plugin.
pub struct PodSecurity;

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        let write = matches!(request.operation, Operation::Create | Operation::Update);
        let pods = request.is(&PODS) || request.is_part(&PODS, "ephemeralcontainers");
        write && (pods || request.is(&NAMESPACES) || template_of(request).is_some())
    }

    async fn validate(&self, server: &ApiServer, request: &Request<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        if request.is(&NAMESPACES) {
            return check_namespace(server, request, object, old);
        }
        let is_pod = request.resource.key.plural == PODS.plural && request.resource.key.group.is_empty();
        if is_pod && request.operation == Operation::Update && !pod::differs(object, old) {
            return Ok(());
        }
        let namespace = lookup::find(server, &NAMESPACES, "", request.namespace).await?.unwrap_or_default();
        let (policy, errors) = Policy::of(&namespace);
        if errors.is_empty() && policy.is_privileged() {
            return Ok(());
        }
        let holder = if is_pod { Some(object) } else { template_of(request).and_then(|pointer| object.pointer(pointer)) };
        let Some(holder) = holder else { return Ok(()) };
        judge(request, &policy, &Pod::of(holder), is_pod)
    }
}

/// Where the template of a workload's pods is.
fn template_of(request: &Request<'_>) -> Option<&'static str> {
    let key = &request.resource.key;
    let known = WORKLOADS.iter().find(|(group, plural, _)| *group == key.group && *plural == key.plural);
    known.filter(|_| request.subresource.is_empty()).map(|(_, _, pointer)| *pointer)
}

fn judge(request: &Request<'_>, policy: &Policy, pod: &Pod<'_>, enforce: bool) -> Result<(), Status> {
    if enforce {
        request.annotate("pod-security.kubernetes.io/enforce-policy", policy.enforce.to_string());
    }
    if let Some(violations) = evaluate(policy.audit, pod) {
        let text = format!("would violate PodSecurity \"{}\": {}", policy.audit, violations.details());
        request.annotate("pod-security.kubernetes.io/audit-violations", text);
    }
    if enforce && let Some(violations) = evaluate(policy.enforce, pod) {
        let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, violations.details());
        return Err(request.forbidden(why));
    }
    if let Some(violations) = evaluate(policy.warn, pod) {
        request.warn(format!("would violate PodSecurity \"{}\": {}", policy.warn, violations.details()));
    }
    Ok(())
}

/// Refuses labels that mean nothing, and warns of pods that a stricter level would not let in.
fn check_namespace(server: &ApiServer, request: &Request<'_>, object: &Value, old: &Value) -> Result<(), Status> {
    let (policy, errors) = Policy::of(object);
    let known = Policy::of(old).1;
    if !errors.is_empty() && (request.operation == Operation::Create || errors.iter().any(|error| !known.contains(error))) {
        return Err(Status::invalid("", "Namespace", meta::name(object), &errors));
    }
    let before = Policy::of(old).0;
    if request.operation == Operation::Create || policy.enforce == before.enforce || !policy.enforce.is_stricter(before.enforce) {
        return Ok(());
    }
    let name = meta::name(object);
    let pods = lookup::list(server, &PODS, name);
    warnings_of(&policy, name, &pods).into_iter().for_each(|warning| request.warn(warning));
    Ok(())
}

fn warnings_of(policy: &Policy, namespace: &str, pods: &[Value]) -> Vec<String> {
    let mut groups: Vec<(String, String, usize)> = Vec::new();
    for pod in pods.iter().take(NAMED_MAX) {
        let Some(violations) = evaluate(policy.enforce, &Pod::of(pod)) else { continue };
        let reasons = violations.reasons();
        match groups.iter_mut().find(|(known, ..)| *known == reasons) {
            Some((_, first, count)) => {
                *count += 1;
                if text(pod, "/metadata/name") < first.as_str() {
                    meta::name(pod).clone_into(first);
                }
            }
            None => groups.push((reasons, meta::name(pod).to_owned(), 1)),
        }
    }
    if groups.is_empty() {
        return Vec::new();
    }
    groups.sort_by(|one, other| one.1.cmp(&other.1));
    let head =
        format!("existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{}\"", policy.enforce);
    let line = |(reasons, name, count): &(String, String, usize)| match count {
        1 => format!("{name}: {reasons}"),
        2 => format!("{name} (and 1 other pod): {reasons}"),
        count => format!("{name} (and {} other pods): {reasons}", count - 1),
    };
    std::iter::once(head).chain(groups.iter().map(line)).collect()
}

#[cfg(test)]
mod tests;
