//! What a request asks for, whether it is decided, and whether its signer may sign it.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// Names of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub common_name: String,
    pub organizations: Vec<String>,
    /// Alternative names that are DNS names or addresses.
    pub hosts: usize,
    /// Other alternative names.
    pub others: usize,
}

/// The PEM of a request.
pub fn pem(object: &Value) -> Option<String> {
    let encoded = object["spec"]["request"].as_str()?;
    String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()
}

/// Reads the names; `None` where there is no request.
pub fn names(object: &Value) -> Option<Names> {
    let pem = pem(object)?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = &parsed.certification_request_info.subject;
    let mut names = Names {
        common_name: subject.iter_common_name().next()?.as_str().ok()?.to_owned(),
        organizations: subject.iter_organization().filter_map(|name| name.as_str().ok()).map(str::to_owned).collect(),
        ..Names::default()
    };
    for extension in parsed.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(alternative) = extension else { continue };
        for name in &alternative.general_names {
            match name {
                GeneralName::DNSName(_) | GeneralName::IPAddress(_) => names.hosts += 1,
                _ => names.others += 1,
            }
        }
    }
    Some(names)
}

fn has_condition(object: &Value, kinds: &[&str]) -> bool {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| kinds.iter().any(|kind| condition["type"] == *kind))
}

/// Whether somebody has approved or denied it.
pub fn is_decided(object: &Value) -> bool {
    has_condition(object, &["Approved", "Denied"])
}

/// Whether it is approved and waits for one of the cluster's own signers.
pub fn wants_certificate(object: &Value) -> bool {
    let signed = object["status"]["certificate"].as_str().is_some_and(|certificate| !certificate.is_empty());
    let ours = [CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY];
    let signer = object["spec"]["signerName"].as_str().unwrap_or_default();
    has_condition(object, &["Approved"]) && !has_condition(object, &["Denied", "Failed"]) && !signed && ours.contains(&signer)
}

/// Usages of a request.
pub fn usages(object: &Value) -> Vec<&str> {
    let mut usages: Vec<&str> = object["spec"]["usages"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    usages.sort_unstable();
    usages
}

/// Why a signer does not sign a request, if it does not.
pub fn refuse(object: &Value, names: &Names) -> Option<&'static str> {
    let usages = usages(object);
    let is = |sets: [&[&str]; 2]| sets.contains(&usages.as_slice());
    let node = names.common_name.starts_with("system:node:");
    match object["spec"]["signerName"].as_str().unwrap_or_default() {
        CLIENT if !usages.contains(&"client auth") => Some("expected usages to contain \"client auth\""),
        CLIENT if usages.iter().any(|usage| !matches!(*usage, "client auth" | "digital signature" | "key encipherment")) => {
            Some("usages did not match expected [client auth digital signature key encipherment]")
        }
        KUBELET_CLIENT | KUBELET_SERVING if names.organizations != ["system:nodes"] => {
            Some("subject organization is not system:nodes")
        }
        KUBELET_CLIENT | KUBELET_SERVING if !node => Some("subject common name does not begin with system:node: prefix"),
        KUBELET_CLIENT if names.hosts + names.others > 0 => {
            Some("DNS, IP, email and URI subject alternative names are not allowed")
        }
        KUBELET_CLIENT
            if !is([&["client auth", "digital signature", "key encipherment"], &["client auth", "digital signature"]]) =>
        {
            Some("usages did not match expected [client auth digital signature]")
        }
        KUBELET_SERVING if names.hosts == 0 => Some("DNS or IP subjectAltName is required"),
        KUBELET_SERVING if names.others > 0 => Some("email and URI subject alternative names are not allowed"),
        KUBELET_SERVING
            if !is([&["digital signature", "key encipherment", "server auth"], &["digital signature", "server auth"]]) =>
        {
            Some("usages did not match expected [digital signature server auth]")
        }
        _ => None,
    }
}

/// Permissions of which one lets a kubelet have its client certificate at once, with what is said then; `None` for
/// requests that people decide.
pub fn kubelet_permissions(object: &Value) -> Option<Vec<(&'static str, &'static str)>> {
    if object["spec"]["signerName"] != KUBELET_CLIENT {
        return None;
    }
    let names = names(object).filter(|names| refuse(object, names).is_none())?;
    let mut permissions = Vec::new();
    if object["spec"]["username"] == names.common_name.as_str() {
        let message = "Auto approving self kubelet client certificate after SubjectAccessReview.";
        permissions.push(("selfnodeclient", message));
    }
    permissions.push(("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."));
    Some(permissions)
}
