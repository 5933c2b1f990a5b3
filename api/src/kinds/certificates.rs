//! Kinds of the group `certificates.k8s.io`: CertificateSigningRequest.

use serde_json::{Value, json};

use super::{
    check::At,
    common::{AGE, NAME, age, column, items, keep, name},
    kind::{Errors, Kind},
};
use crate::{duration, names, object::text};

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// Shortest life of a certificate.
const SECONDS_MIN: i64 = 600;
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";

/// CertificateSigningRequest.
pub static CERTIFICATE_SIGNING_REQUEST: Kind = Kind {
    update: |new, old| keep(new, old, "spec"),
    validate: |object, errors| {
        let spec = At::root(object).get("spec");
        if spec.get("request").is_empty() {
            let detail = "PEM block type must be CERTIFICATE REQUEST";
            At { value: &json!(""), ..spec.get("request") }.invalid(detail, errors);
        }
        let usages = spec.get("usages");
        if usages.is_empty() {
            usages.required("usages must contain at least one value", errors);
        }
        usages.each().for_each(|usage| usage.one_of(USAGES, errors));
        check_signer(&spec.get("signerName"), errors);
        let seconds = spec.get("expirationSeconds");
        if seconds.number().is_some_and(|number| number < SECONDS_MIN) {
            seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)", errors);
        }
        check_conditions(object, errors);
    },
    validate_status: |new, old, errors| {
        check_conditions(new, errors);
        let certificate = At::root(new).get("status.certificate");
        let before = &old["status"]["certificate"];
        if !before.is_null() && before != certificate.value {
            certificate.invalid("field is immutable", errors);
        }
        keep_decision(new, old, errors);
    },
    part: approve,
    validate_part: |_part, new, old, errors| {
        check_conditions(new, errors);
        keep_decision(new, old, errors);
    },
    fields: &["spec.signerName"],
    columns: &[
        NAME,
        AGE,
        column("SignerName", "string", 0, "Who shall sign."),
        column("Requestor", "string", 0, "Who asked."),
        column("RequestedDuration", "string", 0, "How long the certificate shall be valid."),
        column("Condition", "string", 0, "Where the request stands."),
    ],
    cells: |object, now| {
        let none = |value: &str| json!(if value.is_empty() { "<none>" } else { value });
        let seconds = object["spec"]["expirationSeconds"].as_i64();
        vec![
            name(object),
            age(object, now),
            none(text(object, "/spec/signerName")),
            json!(text(object, "/spec/username")),
            none(&seconds.map(duration::human_seconds).unwrap_or_default()),
            json!(state(object)),
        ]
    },
    ..Kind::WITH_STATUS
};

/// Through `/approval` only the conditions change.
fn approve(_part: &str, new: &mut Value, old: &Value) {
    let conditions = new.pointer("/status/conditions").cloned();
    keep(new, old, "spec");
    keep(new, old, "status");
    if let Some(conditions) = conditions {
        new["status"]["conditions"] = conditions;
    }
}

fn check_signer(at: &At<'_>, errors: &mut Errors) {
    let signer = at.text();
    if !at.must_be_set(errors) {
        return;
    }
    if signer == LEGACY_SIGNER {
        return at.invalid("the legacy signerName is not allowed via this API version", errors);
    }
    let wrong = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
    match signer.split_once('/') {
        Some((domain, path)) if !path.is_empty() && !path.contains('/') && domain.contains('.') => {
            at_part(at, domain, names::dns_subdomain, errors);
            at_part(at, path, names::dns_subdomain, errors);
        }
        _ => at.invalid(wrong, errors),
    }
}

fn at_part(at: &At<'_>, part: &str, rule: fn(&str) -> Vec<String>, errors: &mut Errors) {
    rule(part).into_iter().for_each(|reason| at.invalid(format!("validating label {part:?}: {reason}"), errors));
}

fn check_conditions(object: &Value, errors: &mut Errors) {
    let at = At::root(object).get("status.conditions");
    for condition in at.each() {
        let (type_, status) = (condition.get("type"), condition.get("status"));
        type_.must_be_set(errors);
        if matches!(type_.text(), "Approved" | "Denied" | "Failed") {
            status.required_one_of(&["True"], errors);
        } else {
            status.required_one_of(&["False", "True", "Unknown"], errors);
        }
    }
    let has = |type_: &str| at.each().any(|condition| condition.get("type").text() == type_);
    if has("Approved") && has("Denied") {
        at.invalid_unquoted("Approved and Denied conditions are mutually exclusive", errors);
    }
}

/// What was decided is not taken back.
fn keep_decision(new: &Value, old: &Value, errors: &mut Errors) {
    let has = |object: &Value, type_: &str| items(object, "/status/conditions").any(|condition| condition["type"] == type_);
    for type_ in ["Approved", "Denied", "Failed"].into_iter().filter(|type_| has(old, type_) && !has(new, type_)) {
        let detail = format!("updates may not remove a condition of type {type_:?}");
        At::root(new).get("status.conditions").forbidden(detail, errors);
    }
}

fn state(object: &Value) -> String {
    let has = |type_: &str| items(object, "/status/conditions").any(|condition| condition["type"] == type_);
    let mut state = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        state += ",Failed";
    }
    if !text(object, "/status/certificate").is_empty() {
        state += ",Issued";
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn approval_changes_conditions_and_nothing_else() {
        let old = json!({"spec": {"signerName": "a.b/c"}, "status": {"certificate": "x"}});
        let mut new =
            json!({"spec": {"signerName": "d.e/f"}, "status": {"conditions": [{"type": "Approved", "status": "True"}]}});
        CERTIFICATE_SIGNING_REQUEST.prepare_for_part_update("approval", &mut new, &old);
        assert_eq!((&new["spec"], &new["status"]["certificate"]), (&old["spec"], &json!("x")));
        assert_eq!(CERTIFICATE_SIGNING_REQUEST.validate_part_update("approval", &new, &old), vec![]);
        assert_eq!(state(&new), "Approved,Issued");
        assert_eq!(CERTIFICATE_SIGNING_REQUEST.validate_part_update("approval", &old, &new).len(), 1);
    }
}
