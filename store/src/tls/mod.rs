//! Transport security: certificates from files, mutual authentication, one crypto provider.
//!
//! In come the files that the flags name; out come rustls' configurations and connections.
//! Invariant: where authorities are given, nobody is served or trusted without a certificate of theirs.

mod connection;
mod names;
pub mod self_signed;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

pub use self::connection::{Connection, Connector, Dial, Dialing, Io, accept};

/// PEM files of one identity, and whom it trusts.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Certificate authorities of the other side. Without them no client is asked for a certificate
    /// and no server's is checked: traffic is encrypted, nobody is known.
    pub ca: Option<PathBuf>,
    /// Chain and key towards servers, where they are others than towards clients.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Certificates that were revoked.
    pub revoked: Option<PathBuf>,
    /// Common names that a client's certificate may have; none means any.
    pub common_names: Vec<String>,
    /// Host names of which a client's certificate must have one; none means any.
    pub host_names: Vec<String>,
    /// Names of cipher suites; none means all that are sound.
    pub cipher_suites: Vec<String>,
    /// TLS 1.2 is refused.
    pub only_tls13: bool,
    /// TLS 1.3 is refused.
    pub only_tls12: bool,
}

impl TlsFiles {
    /// An identity and the authorities of everyone else.
    #[must_use]
    pub fn mutual(cert: PathBuf, key: PathBuf, ca: PathBuf) -> Self {
        Self { cert, key, ca: Some(ca), ..Self::default() }
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let old = (!self.only_tls13).then_some(&rustls::version::TLS12);
        let new = (!self.only_tls12).then_some(&rustls::version::TLS13);
        new.into_iter().chain(old).collect()
    }

    fn provider(&self) -> Result<Arc<CryptoProvider>, TlsError> {
        let mut provider = rustls::crypto::ring::default_provider();
        if !self.cipher_suites.is_empty() {
            let all = provider.cipher_suites.clone();
            let known = |name: &String| all.iter().find(|suite| names::of_suite(suite.suite()) == *name).copied();
            let wanted = self.cipher_suites.iter().map(|name| known(name).ok_or_else(|| TlsError::CipherSuite(name.clone())));
            provider.cipher_suites = wanted.collect::<Result<_, _>>()?;
            // etcd's list is of TLS 1.2; those of 1.3 cannot be chosen there either.
            provider.cipher_suites.extend(all.iter().filter(|suite| suite.tls13().is_some()));
        }
        Ok(Arc::new(provider))
    }
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("cannot read {path}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: rustls_pki_types::pem::Error,
    },
    /// A cipher suite that is unknown here.
    #[error("unexpected TLS cipher suite {0:?}")]
    CipherSuite(String),
    /// The parts do not fit together.
    #[error("unusable certificate or key")]
    Rustls(#[from] rustls::Error),
    /// The certificate authorities are unusable.
    #[error("unusable certificate authorities")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// A certificate of one's own cannot be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// A file cannot be read or written.
    #[error("cannot read or write a certificate's file")]
    File(#[from] std::io::Error),
}

fn pem(path: &Path) -> impl Fn(rustls_pki_types::pem::Error) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::Pem { path: path.clone(), source }
}

type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn chain(cert: &Path, key: &Path) -> Result<Chain, TlsError> {
    let private = PrivateKeyDer::from_pem_file(key).map_err(pem(key))?;
    Ok((certificates(cert)?, private))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path).map_err(pem(path))?.collect::<Result<_, _>>().map_err(pem(path))
}

fn roots(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(Arc::new(roots))
}

fn revoked(files: &TlsFiles) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let Some(path) = &files.revoked else {
        return Ok(vec![]);
    };
    let content = std::fs::read(path)?;
    // etcd takes both forms; a list that is not understood must not mean that nothing is revoked.
    if !content.windows(PEM_BEGIN.len()).any(|part| part == PEM_BEGIN) {
        return Ok(vec![CertificateRevocationListDer::from(content)]);
    }
    let lists = CertificateRevocationListDer::pem_slice_iter(&content);
    lists.collect::<Result<_, _>>().map_err(pem(path))
}

/// How every PEM file begins a part.
const PEM_BEGIN: &[u8] = b"-----BEGIN";

/// What clients, or peers, meet.
pub fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = chain(&files.cert, &files.key)?;
    let provider = files.provider()?;
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&files.versions())?;
    let builder = match &files.ca {
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider)
                .with_crls(revoked(files)?)
                .allow_unknown_revocation_status()
                .build()?;
            builder.with_client_cert_verifier(names::only(verifier, files))
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let (cert, key) = files.client.as_ref().map_or((&files.cert, &files.key), |(cert, key)| (cert, key));
    let (chain, key) = chain(cert, key)?;
    let provider = files.provider()?;
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&files.versions())?;
    let builder = match &files.ca {
        Some(ca) => builder.with_webpki_verifier(WebPkiServerVerifier::builder_with_provider(roots(ca)?, provider).build()?),
        None => builder.dangerous().with_custom_certificate_verifier(names::anyone(provider)),
    };
    let mut config = builder.with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lists_of_revoked_certificates_come_in_both_forms() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(vec![]).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let list = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 1),
            next_update: rcgen::date_time_ymd(2036, 1, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&rcgen::Issuer::new(authority, key)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("crl");
        for content in [list.pem().unwrap().into_bytes(), list.der().to_vec()] {
            std::fs::write(&path, content).unwrap();
            let files = TlsFiles { revoked: Some(path.clone()), ..TlsFiles::default() };
            assert_eq!(revoked(&files).unwrap(), [list.der().clone()]);
        }
    }
}
