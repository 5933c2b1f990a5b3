//! Signs with the cluster's authority.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use rcgen::{CertificateSigningRequestParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::Value;

use super::request;

/// Longest and usual life of a certificate, in seconds.
const SECONDS_MAX: i64 = 365 * 24 * 3600;
/// Shortest.
const SECONDS_MIN: i64 = 600;
/// Seconds that a clock may be behind.
const BACKDATE: i64 = 300;

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The authority cannot be used, or the request not be read.
    #[error("{0}")]
    Certificate(#[from] rcgen::Error),
    /// The request is no request.
    #[error("unable to parse csr")]
    NoRequest,
    /// The signer does not sign this.
    #[error("{0}")]
    Refused(&'static str),
    /// No certificate can say when it ends.
    #[error("the time is out of range")]
    Time,
}

/// The authority.
pub struct Signer {
    issuer: Issuer<'static, KeyPair>,
}

impl Signer {
    /// From certificate and key in PEM.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, SignerError> {
        Ok(Self { issuer: Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)? })
    }

    /// The certificate for an approved request, as its status carries it: PEM in base64.
    pub fn sign(&self, object: &Value, now: Timestamp) -> Result<String, SignerError> {
        let names = request::names(object).ok_or(SignerError::NoRequest)?;
        if let Some(why) = request::refuse(object, &names) {
            return Err(SignerError::Refused(why));
        }
        let pem = request::pem(object).ok_or(SignerError::NoRequest)?;
        let mut asked = CertificateSigningRequestParams::from_pem(&pem)?;
        let seconds = object["spec"]["expirationSeconds"].as_i64().unwrap_or(SECONDS_MAX).clamp(SECONDS_MIN, SECONDS_MAX);
        let begin = now.as_second() - BACKDATE;
        let time = |second: i64| time::OffsetDateTime::from_unix_timestamp(second).map_err(|_| SignerError::Time);
        asked.params.not_before = time(begin)?;
        asked.params.not_after = time(now.as_second() + seconds)?;
        asked.params.is_ca = rcgen::IsCa::ExplicitNoCa;
        asked.params.use_authority_key_identifier_extension = true;
        let usages = request::usages(object);
        asked.params.key_usages = usages.iter().filter_map(|usage| key_usage(usage)).collect();
        asked.params.extended_key_usages = usages.iter().filter_map(|usage| extended_usage(usage)).collect();
        Ok(BASE64_STANDARD.encode(asked.signed_by(&self.issuer)?.pem()))
    }
}

fn key_usage(usage: &str) -> Option<KeyUsagePurpose> {
    Some(match usage {
        "signing" | "digital signature" => KeyUsagePurpose::DigitalSignature,
        "content commitment" => KeyUsagePurpose::ContentCommitment,
        "key encipherment" => KeyUsagePurpose::KeyEncipherment,
        "data encipherment" => KeyUsagePurpose::DataEncipherment,
        "key agreement" => KeyUsagePurpose::KeyAgreement,
        "encipher only" => KeyUsagePurpose::EncipherOnly,
        "decipher only" => KeyUsagePurpose::DecipherOnly,
        _ => return None,
    })
}

fn extended_usage(usage: &str) -> Option<ExtendedKeyUsagePurpose> {
    Some(match usage {
        "any" => ExtendedKeyUsagePurpose::Any,
        "server auth" => ExtendedKeyUsagePurpose::ServerAuth,
        "client auth" => ExtendedKeyUsagePurpose::ClientAuth,
        "code signing" => ExtendedKeyUsagePurpose::CodeSigning,
        "email protection" | "s/mime" => ExtendedKeyUsagePurpose::EmailProtection,
        "timestamping" => ExtendedKeyUsagePurpose::TimeStamping,
        "ocsp signing" => ExtendedKeyUsagePurpose::OcspSigning,
        _ => return None,
    })
}

/// When the certificate of a status ends.
pub fn expiry(encoded: &str) -> Option<Timestamp> {
    let pem = BASE64_STANDARD.decode(encoded).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let certificate = pem.parse_x509().ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa};
    use serde_json::json;

    use super::*;

    fn signer() -> Signer {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = parameters.self_signed(&key).unwrap().pem();
        Signer::from_pem(&certificate, &key.serialize_pem()).unwrap()
    }

    fn object(signer: &str, name: &str, organization: &str, usages: &[&str]) -> Value {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::OrganizationName, organization);
        parameters.distinguished_name.push(DnType::CommonName, name);
        let pem = parameters.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let request = BASE64_STANDARD.encode(pem);
        json!({"spec": {"request": request, "signerName": signer, "usages": usages, "expirationSeconds": 3600, "username": name}})
    }

    #[test]
    fn an_approved_user_gets_a_certificate_for_its_time() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let usages = ["digital signature", "key encipherment", "client auth"];
        let asked = object(request::CLIENT, "jane", "developers", &usages);
        let certificate = signer().sign(&asked, now).unwrap();
        assert_eq!(expiry(&certificate), Some("2026-01-01T01:00:00Z".parse().unwrap()));
        let pem = BASE64_STANDARD.decode(certificate).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let parsed = pem.parse_x509().unwrap();
        assert_eq!(parsed.subject().iter_common_name().next().unwrap().as_str().unwrap(), "jane");
        assert!(parsed.extended_key_usage().unwrap().unwrap().value.client_auth);
    }

    #[test]
    fn a_signer_signs_what_it_is_for() {
        let refused = |object: &Value| signer().sign(object, Timestamp::UNIX_EPOCH).unwrap_err().to_string();
        let server = object(request::CLIENT, "jane", "developers", &["server auth"]);
        assert_eq!(refused(&server), "expected usages to contain \"client auth\"");
        let usages = ["digital signature", "client auth"];
        let stranger = object(request::KUBELET_CLIENT, "system:node:a", "developers", &usages);
        assert_eq!(refused(&stranger), "subject organization is not system:nodes");
        let node = object(request::KUBELET_CLIENT, "system:node:a", "system:nodes", &usages);
        assert!(signer().sign(&node, Timestamp::UNIX_EPOCH).is_ok());
        let permissions: Vec<&str> = request::kubelet_permissions(&node).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(permissions, ["selfnodeclient", "nodeclient"]);
        assert_eq!(request::kubelet_permissions(&stranger), None);
    }
}
