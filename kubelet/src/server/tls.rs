//! Who may speak to the kubelet: the API servers and the cluster's administrators, by certificate.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Error, Options};

/// The API servers' name.
const API_SERVER: &str = "kube-apiserver-kubelet-client";
/// Users who may do everything.
const MASTERS: &str = "system:masters";

/// Sets TLS up. A client without a certificate may ask for health alone.
pub fn acceptor(options: &Options) -> Result<TlsAcceptor, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_slice_iter(options.server_certificate_pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| wrong(&error))?;
    let key = PrivateKeyDer::from_pem_slice(options.server_key_pem.as_bytes()).map_err(|error| wrong(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(options.client_ca_pem.as_bytes()) {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| wrong(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| wrong(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Whether the other side showed the certificate of an API server or an administrator.
pub fn is_trusted(connection: &ServerConnection) -> bool {
    let Some(leaf) = connection.peer_certificates().and_then(|chain| chain.first()) else { return false };
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return false };
    let subject = certificate.subject();
    let is =
        |value: &x509_parser::prelude::AttributeTypeAndValue<'_>, wanted: &str| value.as_str().is_ok_and(|text| text == wanted);
    subject.iter_common_name().any(|name| is(name, API_SERVER)) || subject.iter_organization().any(|group| is(group, MASTERS))
}
