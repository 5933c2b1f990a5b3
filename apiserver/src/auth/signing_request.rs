//! What a certificate signing request asks for: whose certificate, with which names.
//!
//! In: PEM in base64, as `spec.request` of a CertificateSigningRequest carries it. Out: names, or why it cannot be read.

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject};
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

/// Longest request that is read.
const BYTES_MAX: usize = 64 * 1024;

/// The names of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningRequest {
    /// CN: the user.
    pub common_name: String,
    /// O: the groups.
    pub organizations: Vec<String>,
    /// Alternative names that are DNS names.
    pub dns_names: Vec<String>,
    /// Alternative names that are addresses, as bytes.
    pub addresses: usize,
    /// Alternative names of other kinds: mail addresses and URIs.
    pub other_names: usize,
}

/// Reads a request.
pub fn parse(encoded: &str) -> Result<SigningRequest, &'static str> {
    if encoded.len() > BYTES_MAX {
        return Err("the request is too large");
    }
    let pem = BASE64_STANDARD.decode(encoded).map_err(|_| "illegal base64 data")?;
    let der = CertificateSigningRequestDer::from_pem_slice(&pem).map_err(|_| "PEM block type must be CERTIFICATE REQUEST")?;
    let (_, parsed) = X509CertificationRequest::from_der(&der).map_err(|_| "asn1: structure error")?;
    let subject = &parsed.certification_request_info.subject;
    let names = |values: Vec<Option<&str>>| -> Vec<String> { values.into_iter().flatten().map(str::to_owned).collect() };
    let mut request = SigningRequest {
        common_name: subject.iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned(),
        organizations: names(subject.iter_organization().map(|name| name.as_str().ok()).collect()),
        ..SigningRequest::default()
    };
    for extension in parsed.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(alternative) = extension else { continue };
        for name in &alternative.general_names {
            match name {
                GeneralName::DNSName(name) => request.dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(_) => request.addresses += 1,
                _ => request.other_names += 1,
            }
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    #[test]
    fn a_request_names_a_user_groups_and_hosts() {
        let mut parameters = CertificateParams::new(vec!["node.local".to_owned()]).unwrap();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        parameters.distinguished_name.push(DnType::CommonName, "system:node:a");
        let pem = parameters.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let request = parse(&BASE64_STANDARD.encode(pem)).unwrap();
        let expected = SigningRequest {
            common_name: "system:node:a".into(),
            organizations: vec!["system:nodes".into()],
            dns_names: vec!["node.local".into()],
            ..SigningRequest::default()
        };
        assert_eq!(request, expected);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bad in [
            "",
            "!",
            "Zm9v",
            &BASE64_STANDARD.encode("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
