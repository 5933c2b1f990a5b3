//! `CertificateApproval`, `CertificateSigning` and `CertificateSubjectRestriction`; and who has asked for a certificate,
//! which the server alone writes down.
//! <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/>

use async_trait::async_trait;
use kontiki_api::{object::text, resources::CERTIFICATE_SIGNING_REQUESTS, status::Status};
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};
use crate::{
    auth::{UserInfo, signing_request},
    authorization::{Attributes, Authorizer},
    service::ApiServer,
};

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Writes down who asks.
pub struct CertificateRequester;

#[async_trait]
impl Plugin for CertificateRequester {
    fn name(&self) -> &'static str {
        "CertificateRequester"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.is(&CERTIFICATE_SIGNING_REQUESTS)
    }

    async fn mutate(&self, _: &ApiServer, request: &Request<'_>, object: &mut Value, _: &Value) -> Result<(), Status> {
        write_down(request.user, object);
        Ok(())
    }
}

fn write_down(user: &UserInfo, object: &mut Value) {
    let spec = &mut object["spec"];
    spec["username"] = json!(user.name);
    spec["groups"] = json!(user.groups);
    let optional = [
        ("uid", (!user.uid.is_empty()).then(|| json!(user.uid))),
        ("extra", (!user.extra.is_empty()).then(|| json!(user.extra))),
    ];
    for (field, value) in optional {
        match (value, spec.as_object_mut()) {
            (Some(value), _) => spec[field] = value,
            (None, Some(spec)) => {
                spec.remove(field);
            }
            (None, None) => {}
        }
    }
}

/// Who may do something with certificates of a signer: of that one, or of its whole domain.
fn may(authorizer: &Authorizer, user: &UserInfo, verb: &str, signer: &str) -> bool {
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    [signer.to_owned(), format!("{domain}/*")].into_iter().any(|name| {
        let attributes = Attributes {
            verb: verb.to_owned(),
            group: "certificates.k8s.io".to_owned(),
            version: "*".to_owned(),
            resource: "signers".to_owned(),
            name,
            ..Attributes::default()
        };
        authorizer.authorize(user, &attributes).is_allowed()
    })
}

/// Approving needs a permission on the signer.
pub struct CertificateApproval;

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Update && request.is_part(&CERTIFICATE_SIGNING_REQUESTS, "approval")
    }

    async fn validate(&self, server: &ApiServer, request: &Request<'_>, _: &Value, old: &Value) -> Result<(), Status> {
        let signer = text(old, "/spec/signerName");
        if may(&server.authorizer, request.user, "approve", signer) {
            return Ok(());
        }
        Err(request.forbidden(format!("user not permitted to approve requests with signerName {signer:?}")))
    }
}

/// So does signing.
pub struct CertificateSigning;

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Update && request.is_part(&CERTIFICATE_SIGNING_REQUESTS, "status")
    }

    async fn validate(&self, server: &ApiServer, request: &Request<'_>, new: &Value, old: &Value) -> Result<(), Status> {
        let signer = text(old, "/spec/signerName");
        if !is_signed_or_failed(new, old) || may(&server.authorizer, request.user, "sign", signer) {
            return Ok(());
        }
        Err(request.forbidden(format!("user not permitted to sign requests with signerName {signer:?}")))
    }
}

/// Whether a status brings a certificate, or a condition beside those that only say how it came.
fn is_signed_or_failed(new: &Value, old: &Value) -> bool {
    new.pointer("/status/certificate") != old.pointer("/status/certificate")
        || new.pointer("/status/conditions") != old.pointer("/status/conditions")
}

/// Nobody becomes a master by a certificate.
pub struct CertificateSubjectRestriction;

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.is(&CERTIFICATE_SIGNING_REQUESTS)
    }

    async fn validate(&self, _: &ApiServer, request: &Request<'_>, object: &Value, _: &Value) -> Result<(), Status> {
        if text(object, "/spec/signerName") != CLIENT_SIGNER {
            return Ok(());
        }
        let asked = signing_request::parse(text(object, "/spec/request"))
            .map_err(|error| request.forbidden(format!("failed to parse CSR: {error}")))?;
        if asked.organizations.iter().any(|group| group == "system:masters") {
            let why = format!("use of {CLIENT_SIGNER} signer with system:masters group is not allowed");
            return Err(request.forbidden(why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorization::Index;

    #[test]
    fn a_permission_may_be_for_a_whole_domain() {
        let mut index = Index::default();
        for (name, signer) in [("one", "a.io/b"), ("domain", "c.io/*")] {
            let rule = json!({"verbs": ["approve"], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": [signer]});
            index.set_role("", name, Some(json!({"rules": [rule]}).to_string().as_bytes()));
            let binding =
                json!({"roleRef": {"kind": "ClusterRole", "name": name}, "subjects": [{"kind": "User", "name": "jane"}]});
            index.set_binding("", name, Some(binding.to_string().as_bytes()));
        }
        let (authorizer, jane) = (Authorizer::with_roles(index), UserInfo::authenticated("jane", [""; 0]));
        let approves = |signer: &str| may(&authorizer, &jane, "approve", signer);
        assert_eq!([approves("a.io/b"), approves("a.io/x"), approves("c.io/x")], [true, false, true]);
        assert!(!may(&authorizer, &jane, "sign", "a.io/b"));
    }

    #[test]
    fn who_asks_is_written_down_whatever_was_sent() {
        let mut object = json!({"spec": {"username": "root", "uid": "0", "extra": {"a": ["b"]}}});
        write_down(&UserInfo::authenticated("jane", ["dev"]), &mut object);
        assert_eq!(object["spec"], json!({"username": "jane", "groups": ["dev", "system:authenticated"]}));
    }
}
