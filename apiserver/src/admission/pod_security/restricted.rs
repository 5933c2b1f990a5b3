//! The checks of the level `restricted`: hardened pods.
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>

use std::collections::BTreeSet;

use kontiki_api::object::text;
use serde_json::Value;

use super::{
    baseline::{self, confines},
    pod::{Finding, Pod, counted, finding, plural, quoted, sorted},
};

const VOLUMES: [&str; 9] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"];

pub fn privilege_escalation(pod: &Pod<'_>) -> Option<Finding> {
    let containers = pod.containers_where(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    if containers.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", counted("container", &containers));
    finding("allowPrivilegeEscalation != false", detail)
}

pub fn capabilities(pod: &Pod<'_>) -> Option<Finding> {
    let list = |container: &Value, field: &str| -> Vec<String> {
        let list = container["securityContext"]["capabilities"][field].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let added = |container: &Value| -> Vec<String> {
        list(container, "add").into_iter().filter(|name| name != "NET_BIND_SERVICE").collect()
    };
    let keeping = pod.containers_where(|container| !list(container, "drop").iter().any(|name| name == "ALL"));
    let adding = pod.containers_where(|container| !added(container).is_empty());
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", counted("container", &keeping)));
    }
    if !adding.is_empty() {
        let names: BTreeSet<String> = pod.containers.iter().flat_map(|container| added(container)).collect();
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            counted("container", &adding),
            quoted(&names)
        ));
    }
    if details.is_empty() { None } else { finding("unrestricted capabilities", details.join("; ")) }
}

pub fn volumes(pod: &Pod<'_>) -> Option<Finding> {
    let kind = |volume: &Value| -> Option<String> {
        let sources = volume.as_object()?.iter().filter(|(field, value)| *field != "name" && !value.is_null());
        let kinds: Vec<&String> = sources.map(|(field, _)| field).collect();
        if kinds.iter().any(|kind| VOLUMES.contains(&kind.as_str())) {
            return None;
        }
        Some(kinds.first().map_or_else(|| "unknown".to_owned(), |kind| (*kind).clone()))
    };
    let volumes = pod.spec["volumes"].as_array().into_iter().flatten();
    let bad: Vec<(&str, String)> = volumes.filter_map(|volume| Some((text(volume, "/name"), kind(volume)?))).collect();
    if bad.is_empty() {
        return None;
    }
    let names: Vec<&str> = bad.iter().map(|(name, _)| *name).collect();
    let kinds: BTreeSet<&String> = bad.iter().map(|(_, kind)| kind).collect();
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let noun = plural("restricted volume type", kinds.len());
    finding("restricted volume types", format!("{} {verb} {noun} {}", counted("volume", &names), quoted(kinds)))
}

pub fn run_as_non_root(pod: &Pod<'_>) -> Option<Finding> {
    let reason = "runAsNonRoot != true";
    if let Some(setters) = pod.setters("runAsNonRoot", |value| *value == false) {
        return finding(reason, format!("{setters} must not set securityContext.runAsNonRoot=false"));
    }
    if pod.spec["securityContext"]["runAsNonRoot"] == true {
        return None;
    }
    let silent = pod.containers_where(|container| container["securityContext"]["runAsNonRoot"] != true);
    if silent.is_empty() {
        return None;
    }
    finding(reason, format!("pod or {} must set securityContext.runAsNonRoot=true", counted("container", &silent)))
}

pub fn run_as_user(pod: &Pod<'_>) -> Option<Finding> {
    let setters = pod.setters("runAsUser", |value| *value == 0)?;
    finding("runAsUser=0", format!("{setters} must not set runAsUser=0"))
}

pub fn seccomp(pod: &Pod<'_>) -> Option<Finding> {
    if let Some(found) = baseline::seccomp(pod) {
        return Some(found);
    }
    if pod.spec["securityContext"].get("seccompProfile").is_some_and(confines) {
        return None;
    }
    let silent = pod.containers_where(|container| container["securityContext"].get("seccompProfile").is_none_or(Value::is_null));
    if silent.is_empty() {
        return None;
    }
    let options = quoted(sorted(["RuntimeDefault"].into_iter()));
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to {options} or \"Localhost\"",
        counted("container", &silent)
    );
    finding("seccompProfile", detail)
}
