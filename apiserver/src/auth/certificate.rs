//! Client certificates, and the TLS configuration that asks for them.
//!
//! rustls verifies a client's chain against the client CA during the handshake; a client may come
//! without a certificate, and is then nobody in particular. What is left to do here is reading the
//! name: CN is the user, each O is a group; and telling users from front proxies, whom another authority
//! signs.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    server::{ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use sha2::{Digest, Sha256};
use x509_parser::{
    der_parser::oid::Oid,
    prelude::{FromDer, X509Certificate},
};

use super::{FrontProxy, UserInfo};

/// Attribute of a subject that is the user's UID.
const UID: [u64; 8] = [1, 3, 6, 1, 4, 1, 57_683, 2];

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

/// How this server speaks TLS, and what it makes of its clients' certificates.
pub struct Tls {
    /// For the handshake.
    pub config: ServerConfig,
    /// For afterwards.
    pub clients: Clients,
}

/// Sorts clients by who has signed their certificates.
#[derive(Clone)]
pub struct Clients {
    users: Arc<dyn ClientCertVerifier>,
    front_proxy: Option<(Arc<dyn ClientCertVerifier>, Arc<FrontProxy>)>,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peer {
    /// The user whom its certificate names.
    pub user: Option<UserInfo>,
    /// Whether it may name users in headers.
    pub is_front_proxy: bool,
    /// Whether it has shown a certificate that makes it no user.
    pub is_stranger: bool,
}

fn roots(pem: &[u8], roots: &mut RootCertStore) -> Result<(), TlsError> {
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(TlsError::NotPem)?)?;
    }
    Ok(())
}

fn verifier(pems: &[&[u8]], provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut store = RootCertStore::empty();
    pems.iter().try_for_each(|pem| roots(pem, &mut store))?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
    Ok(builder.allow_unauthenticated().build()?)
}

/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, client certificates verified where shown. The resolver
/// gives the server's own certificate, so that it can be renewed without a restart.
pub fn server_config(
    client_ca_pem: &[u8],
    front_proxy: Option<Arc<FrontProxy>>,
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<Tls, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let users = verifier(&[client_ca_pem], &provider)?;
    // The handshake takes both authorities' certificates; which of them a client's is decides what it may do.
    let (any, front_proxy) = match front_proxy {
        None => (Arc::clone(&users), None),
        Some(front_proxy) => {
            let authority = front_proxy.authority.as_bytes();
            (verifier(&[client_ca_pem, authority], &provider)?, Some((verifier(&[authority], &provider)?, front_proxy)))
        }
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(any)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Tls { config, clients: Clients { users, front_proxy } })
}

impl Clients {
    /// Who has shown a chain, which the handshake has verified.
    #[must_use]
    pub fn peer(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Peer {
        let Some((leaf, others)) = chain.split_first() else { return Peer::default() };
        let Some((verifier, front_proxy)) = &self.front_proxy else {
            return Peer { user: user(leaf), ..Peer::default() };
        };
        let is_user = self.users.verify_client_cert(leaf, others, now).is_ok();
        let is_front_proxy =
            verifier.verify_client_cert(leaf, others, now).is_ok() && is_allowed(leaf, &front_proxy.allowed_names);
        Peer { user: if is_user { user(leaf) } else { None }, is_front_proxy, is_stranger: !is_user }
    }
}

/// Whether the certificate's common name is one of these, or these are none.
fn is_allowed(certificate: &CertificateDer<'_>, names: &[String]) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default();
    names.is_empty() || names.iter().any(|allowed| allowed == name)
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
    let attribute = Oid::from(&UID).ok()?;
    let mut uids = subject.iter_by_oid(&attribute);
    if let Some(uid) = uids.next() {
        user.uid = uid.as_str().ok()?.to_owned();
        // Of two nobody knows which it is.
        if uids.next().is_some() || user.uid.is_empty() {
            return None;
        }
    }
    let fingerprint = hex::encode(Sha256::digest(certificate));
    user.extra.insert("authentication.kubernetes.io/credential-id".into(), vec![format!("X509SHA256={fingerprint}")]);
    Some(user)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

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

    #[test]
    fn a_subject_may_have_one_uid() {
        let key = KeyPair::generate().unwrap();
        let issue = |uids: &[&str]| {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "ann");
            // A name holds one attribute of a kind; a second one comes by a further set, which rcgen does not make.
            uids.iter().for_each(|uid| params.distinguished_name.push(DnType::CustomDnType(UID.to_vec()), *uid));
            params.self_signed(&key).unwrap().der().clone()
        };
        assert_eq!(user(&issue(&["u-7"])).unwrap().uid, "u-7");
        assert_eq!(user(&issue(&[""])), None);
        assert_eq!(user(&issue(&[])).unwrap().uid, "");
    }

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        pem: String,
    }

    impl Authority {
        fn new(name: &str) -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let pem = params.self_signed(&key).unwrap().pem();
            Self { issuer: Issuer::new(params, key), pem }
        }

        fn leaf(&self, name: &str) -> CertificateDer<'static> {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().clone()
        }
    }

    #[derive(Debug)]
    struct NoCertificate;

    impl ResolvesServerCert for NoCertificate {
        fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
            None
        }
    }

    #[test]
    fn a_front_proxys_certificate_names_no_user_and_a_users_makes_no_front_proxy() {
        let (users, proxies) = (Authority::new("users"), Authority::new("proxies"));
        let peer = |front_proxy: Option<&[&str]>, leaf: CertificateDer<'static>| {
            let front_proxy = front_proxy.map(|names| {
                let allowed_names = names.iter().map(|name| (*name).to_owned()).collect();
                Arc::new(FrontProxy { authority: proxies.pem.clone(), allowed_names, ..FrontProxy::default() })
            });
            let tls = server_config(users.pem.as_bytes(), front_proxy, Arc::new(NoCertificate)).unwrap();
            let peer = tls.clients.peer(&[leaf], UnixTime::now());
            (peer.user.map(|user| user.name), peer.is_front_proxy, peer.is_stranger)
        };
        let ann = || Some("ann".to_owned());
        assert_eq!(peer(Some(&["front"]), users.leaf("ann")), (ann(), false, false));
        assert!(!peer(Some(&["front"]), users.leaf("front")).1);
        assert_eq!(peer(Some(&["front"]), proxies.leaf("front")), (None, true, true));
        assert_eq!(peer(Some(&["front"]), proxies.leaf("ann")), (None, false, true));
        assert_eq!(peer(Some(&[]), proxies.leaf("ann")), (None, true, true));
        assert_eq!(peer(None, users.leaf("ann")), (ann(), false, false));
    }
}
