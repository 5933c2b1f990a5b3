//! Whose certificate is accepted beyond the question of who signed it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, CipherSuite, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsFiles;

/// The name by which etcd's flags know a suite.
pub(super) fn of_suite(suite: CipherSuite) -> String {
    let name = format!("{suite:?}");
    // For these two the shorter name is the one in use.
    name.strip_suffix("_SHA256").filter(|name| name.ends_with("CHACHA20_POLY1305")).map_or(name.clone(), str::to_owned)
}

/// The common name in a certificate's subject.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

/// A failed handshake in the words of Go's TLS, which people search logs for.
pub(super) fn handshake_error(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(reason)) => format!("client certificate authentication failed: {reason:?}"),
        Some(Error::NoCertificatesPresented) => "tls: client didn't provide a certificate".to_owned(),
        Some(Error::AlertReceived(alert)) => format!("remote error: tls: {}", alert_text(&format!("{alert:?}"))),
        _ => error.to_string(),
    }
}

/// `BadCertificate` as `bad certificate`.
fn alert_text(name: &str) -> String {
    let mut text = String::new();
    for (at, character) in name.char_indices() {
        if character.is_uppercase() && at > 0 {
            text.push(' ');
        }
        text.extend(character.to_lowercase());
    }
    text
}

/// Whether a certificate bears a name that is allowed.
fn allowed(certificate: &CertificateDer<'_>, common_names: &[String], host_names: &[String]) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    if !common_names.is_empty() {
        return common_name(certificate).is_some_and(|name| common_names.contains(&name));
    }
    if host_names.is_empty() {
        return true;
    }
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return false;
    };
    names.value.general_names.iter().any(|name| match name {
        GeneralName::DNSName(name) => host_names.iter().any(|allowed| host_matches(name, allowed)),
        GeneralName::IPAddress(bytes) => host_names.iter().any(|allowed| address_matches(bytes, allowed)),
        _ => false,
    })
}

fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(rest) => host.split_once('.').is_some_and(|(_, parent)| parent.eq_ignore_ascii_case(rest)),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

fn address_matches(bytes: &[u8], host: &str) -> bool {
    match host.parse() {
        Ok(std::net::IpAddr::V4(address)) => address.octets() == bytes,
        Ok(std::net::IpAddr::V6(address)) => address.octets() == bytes,
        Err(_) => false,
    }
}

/// A verifier that also looks at names, if any are demanded.
pub(super) fn only(verifier: Arc<dyn ClientCertVerifier>, files: &TlsFiles) -> Arc<dyn ClientCertVerifier> {
    if files.common_names.is_empty() && files.host_names.is_empty() {
        return verifier;
    }
    Arc::new(Named { verifier, common_names: files.common_names.clone(), host_names: files.host_names.clone() })
}

#[derive(Debug)]
struct Named {
    verifier: Arc<dyn ClientCertVerifier>,
    common_names: Vec<String>,
    host_names: Vec<String>,
}

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(end_entity, intermediates, now)?;
        if allowed(end_entity, &self.common_names, &self.host_names) {
            return Ok(verified);
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Trusts whichever server answers: for certificates that members make themselves.
pub(super) fn anyone(provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Anyone(provider))
}

#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_compared_as_etcd_does() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params =
            rcgen::CertificateParams::new(vec!["localhost".into(), "*.example.com".into(), "10.0.0.1".into()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "member");
        let certificate = params.self_signed(&key).unwrap();
        let check = |common: &[&str], hosts: &[&str], expected: bool| {
            let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            assert_eq!(allowed(certificate.der(), &own(common), &own(hosts)), expected, "{common:?} {hosts:?}");
        };
        check(&[], &[], true);
        check(&["other", "member"], &[], true);
        check(&["other"], &[], false);
        check(&[], &["localhost"], true);
        check(&[], &["a.example.com"], true);
        check(&[], &["a.b.example.com"], false);
        check(&[], &["10.0.0.1"], true);
        check(&[], &["10.0.0.2"], false);
    }

    #[test]
    fn suites_have_the_names_that_flags_use() {
        let names: Vec<_> =
            rustls::crypto::ring::default_provider().cipher_suites.iter().map(|suite| of_suite(suite.suite())).collect();
        for wanted in ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"] {
            assert!(names.iter().any(|name| name == wanted), "{names:?}");
        }
        assert_eq!(alert_text("BadCertificate"), "bad certificate");
    }
}
