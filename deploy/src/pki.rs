//! Keys and certificates of a cluster.
//!
//! Three authorities: one for the API and the nodes; one for the store's members and clients, so
//! that a node's certificate opens no store; one for what API servers show to those that extend them. Leaf certificates name a user in the common name and
//! groups in the organization, as Kubernetes reads them:
//! <https://kubernetes.io/docs/setup/best-practices/certificates/>.

use std::{net::IpAddr, path::Path};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::files::{PUBLIC, SECRET, write_atomically};

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Certificate, PEM.
    pub certificate: String,
    /// Private key, PKCS #8 PEM.
    pub key: String,
}

impl Pair {
    /// Writes `NAME.crt` and `NAME.key`.
    pub fn write(&self, folder: &Path, name: &str) -> Result<()> {
        write_atomically(&folder.join(format!("{name}.crt")), self.certificate.as_bytes(), PUBLIC)?;
        write_atomically(&folder.join(format!("{name}.key")), self.key.as_bytes(), SECRET)
    }

    /// Reads what [`Pair::write`] wrote.
    pub fn read(folder: &Path, name: &str) -> Result<Self> {
        let read = |extension: &str| {
            let path = folder.join(format!("{name}.{extension}"));
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        Ok(Self { certificate: read("crt")?, key: read("key")? })
    }
}

/// What a leaf certificate is for.
#[derive(Clone, Debug, Default)]
pub struct Leaf<'a> {
    /// User.
    pub common_name: &'a str,
    /// Groups.
    pub organizations: &'a [&'a str],
    /// Names that the holder serves; empty for a client alone.
    pub dns_names: &'a [String],
    /// Addresses that the holder serves.
    pub addresses: &'a [IpAddr],
}

/// A certificate authority that signs leaves.
pub struct Authority {
    pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority of that name.
    pub fn generate(common_name: &str) -> Result<Self> {
        let key = KeyPair::generate().context("generate the key of an authority")?;
        let mut parameters = parameters(common_name, &[])?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = parameters.self_signed(&key).context("sign the certificate of an authority")?;
        let pair = Pair { certificate: certificate.pem(), key: key.serialize_pem() };
        Ok(Self { issuer: Issuer::new(parameters, key), pair })
    }

    /// Reads an authority, or makes and writes it where there is none.
    pub fn read_or_generate(folder: &Path, name: &str, common_name: &str) -> Result<Self> {
        if folder.join(format!("{name}.key")).exists() {
            let pair = Pair::read(folder, name)?;
            let key = KeyPair::from_pem(&pair.key).with_context(|| format!("parse {name}.key"))?;
            let issuer = Issuer::from_ca_cert_pem(&pair.certificate, key).with_context(|| format!("parse {name}.crt"))?;
            return Ok(Self { pair, issuer });
        }
        let authority = Self::generate(common_name)?;
        authority.pair.write(folder, name)?;
        Ok(authority)
    }

    /// Certificate of the authority, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.pair.certificate
    }

    /// Key of the authority, PEM; only servers may have it.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.pair.key
    }

    /// Signs a certificate for a client and, where it has names or addresses, a server.
    pub fn sign(&self, leaf: &Leaf<'_>) -> Result<Pair> {
        let key = KeyPair::generate().context("generate a key")?;
        let mut parameters = parameters(leaf.common_name, leaf.organizations)?;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !(leaf.dns_names.is_empty() && leaf.addresses.is_empty()) {
            parameters.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        for name in leaf.dns_names {
            let name = name.as_str().try_into().with_context(|| format!("name {name} for a certificate"))?;
            parameters.subject_alt_names.push(SanType::DnsName(name));
        }
        parameters.subject_alt_names.extend(leaf.addresses.iter().map(|address| SanType::IpAddress(*address)));
        parameters.use_authority_key_identifier_extension = true;
        let certificate =
            parameters.signed_by(&key, &self.issuer).with_context(|| format!("sign a certificate for {}", leaf.common_name))?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// A key for service-account tokens: private PKCS #8 and public PEM.
pub fn service_account_key() -> Result<(String, String)> {
    let key = KeyPair::generate().context("generate the service-account key")?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

fn parameters(common_name: &str, organizations: &[&str]) -> Result<CertificateParams> {
    let mut parameters = CertificateParams::new(Vec::new()).context("certificate parameters")?;
    let mut name = DistinguishedName::new();
    for organization in organizations {
        name.push(DnType::OrganizationName, *organization);
    }
    name.push(DnType::CommonName, common_name);
    parameters.distinguished_name = name;
    // A laptop's clock may be behind the one that signed; rotation, not expiry, ends these.
    parameters.not_before = date_time_ymd(2024, 1, 1);
    parameters.not_after = date_time_ymd(2044, 1, 1);
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use x509_parser::prelude::*;

    #[test]
    fn a_leaf_carries_user_groups_and_addresses_and_is_signed_by_its_authority() {
        let folder = tempfile::tempdir().unwrap();
        let made = Authority::read_or_generate(folder.path(), "ca", "kubernetes").unwrap();
        let read = Authority::read_or_generate(folder.path(), "ca", "kubernetes").unwrap();
        assert_eq!(made.certificate(), read.certificate());
        let leaf = read
            .sign(&Leaf {
                common_name: "system:node:a",
                organizations: &["system:nodes"],
                dns_names: &["a".to_owned()],
                addresses: &["10.0.0.1".parse().unwrap()],
            })
            .unwrap();
        let (_, pem) = parse_x509_pem(leaf.certificate.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let subject = certificate.subject();
        assert_eq!(subject.iter_common_name().next().unwrap().as_str().unwrap(), "system:node:a");
        assert_eq!(subject.iter_organization().next().unwrap().as_str().unwrap(), "system:nodes");
        assert!(certificate.extended_key_usage().unwrap().unwrap().value.server_auth);
        let (_, authority) = parse_x509_pem(made.certificate().as_bytes()).unwrap();
        let authority = authority.parse_x509().unwrap();
        assert_eq!(certificate.issuer(), authority.subject());
    }
}
