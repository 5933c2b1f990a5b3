//! Client certificates, and the TLS configuration that asks for them.
//!
//! rustls verifies a client's chain against the client CA during the handshake; a client may come
//! without a certificate, and is then nobody in particular. What is left to do here is reading the
//! name: CN is the user, each O is a group.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    server::{ResolvesServerCert, WebPkiClientVerifier},
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::UserInfo;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA is no PEM of certificates.
    #[error("client CA: no certificates in PEM")]
    NotPem(#[source] rustls_pki_types::pem::Error),
    /// The CA cannot be used.
    #[error("client CA")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// rustls refuses a certificate, a key or a protocol version.
    #[error("server TLS")]
    Tls(#[from] rustls::Error),
}

/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, client certificates verified where shown. The resolver
/// gives the server's own certificate, so that it can be renewed without a restart.
pub fn server_config(client_ca_pem: &[u8], resolver: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(client_ca_pem) {
        roots.add(certificate.map_err(TlsError::NotPem)?)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier.allow_unauthenticated().build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The user whom a verified certificate names; `None` if it names nobody.
#[must_use]
pub fn user(certificate: &CertificateDer<'_>) -> Option<UserInfo> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups: Vec<&str> = subject.iter_organization().filter_map(|group| group.as_str().ok()).collect();
    if name.is_empty() {
        return None;
    }
    let mut user = UserInfo::authenticated(name, groups);
    let fingerprint = hex::encode(Sha256::digest(certificate));
    user.extra.insert("authentication.kubernetes.io/credential-id".into(), vec![format!("X509SHA256={fingerprint}")]);
    Some(user)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    #[test]
    fn the_common_name_is_the_user_and_organizations_are_groups() {
        let key = KeyPair::generate().unwrap();
        let issue = |names: &[(DnType, &str)]| {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            for (kind, value) in names {
                params.distinguished_name.push(kind.clone(), *value);
            }
            params.self_signed(&key).unwrap().der().clone()
        };
        let admin =
            user(&issue(&[(DnType::OrganizationName, "system:masters"), (DnType::CommonName, "kubernetes-admin")])).unwrap();
        assert_eq!(admin.name, "kubernetes-admin");
        assert_eq!(admin.groups, ["system:masters", "system:authenticated"]);
        assert_eq!(user(&issue(&[(DnType::OrganizationName, "system:masters")])), None);
        assert_eq!(user(&CertificateDer::from(b"no certificate".to_vec())), None);
    }
}
