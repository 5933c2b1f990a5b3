//! The keys that sign and verify service accounts' tokens.
//!
//! In: a private key in PEM (ECDSA P-256 in PKCS#8, or RSA), shared by all servers. Out: tokens, and
//! the claims of tokens whose signature is right. A signature is checked once and its claims are
//! remembered by the token's hash; time and bound objects are checked on every request.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RsaKeyPair};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{claims::Claims, legacy::LegacyClaims};

/// Signatures remembered as good: enough for every pod of a large cluster's busiest server.
const REMEMBERED_MAX: usize = 4096;
/// Longer tokens are refused unread.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Why keys cannot be used, or a token not be signed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not the PEM of a private key.
    #[error("service account key: no private key in PEM")]
    NotPem(#[source] rustls_pki_types::pem::Error),
    /// A private key of another kind.
    #[error("service account key: neither ECDSA P-256 in PKCS#8 nor RSA")]
    Unsupported,
    /// The library refused.
    #[error("service account key: {0}")]
    Token(#[from] jsonwebtoken::errors::Error),
}

/// Signs and verifies tokens.
pub struct Keys {
    signing: EncodingKey,
    algorithm: Algorithm,
    verifying: DecodingKey,
    key_id: String,
    web_key: Value,
    remembered: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

impl Keys {
    /// Reads the private key; the public one follows from it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let private = PrivateKeyDer::from_pem_slice(pem).map_err(KeyError::NotPem)?;
        let random = ring::rand::SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private.secret_der(), &random);
        if let Ok(pair) = pair {
            let point = pair.public_key().as_ref();
            let (x, y) = point.get(1..).and_then(|xy| xy.split_at_checked(32)).ok_or(KeyError::Unsupported)?;
            let web_key = json!({"kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y)});
            let (signing, verifying) = (EncodingKey::from_ec_der(private.secret_der()), DecodingKey::from_ec_der(point));
            return Ok(Self::new(signing, verifying, Algorithm::ES256, point, web_key));
        }
        let pair = RsaKeyPair::from_pkcs8(private.secret_der()).or_else(|_| RsaKeyPair::from_der(private.secret_der()));
        let pair = pair.map_err(|_| KeyError::Unsupported)?;
        let public = pair.public_key();
        let numbers = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(public);
        let web_key = json!({"kty": "RSA", "n": base64(&numbers.n), "e": base64(&numbers.e)});
        let verifying = DecodingKey::from_rsa_der(public.as_ref());
        Ok(Self::new(EncodingKey::from_rsa_pem(pem)?, verifying, Algorithm::RS256, public.as_ref(), web_key))
    }

    fn new(signing: EncodingKey, verifying: DecodingKey, algorithm: Algorithm, public: &[u8], mut web_key: Value) -> Self {
        let key_id = base64(&Sha256::digest(public));
        web_key["use"] = json!("sig");
        web_key["kid"] = json!(key_id);
        web_key["alg"] = json!(if algorithm == Algorithm::ES256 { "ES256" } else { "RS256" });
        Self { signing, algorithm, verifying, key_id, web_key, remembered: Mutex::default() }
    }

    /// Signs claims.
    pub fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        let header = Header { kid: Some(self.key_id.clone()), typ: None, ..Header::new(self.algorithm) };
        Ok(jsonwebtoken::encode(&header, claims, &self.signing)?)
    }

    /// Signs the claims of a token that lives in a Secret.
    pub fn sign_legacy(&self, claims: &LegacyClaims) -> Result<String, KeyError> {
        let header = Header { kid: Some(self.key_id.clone()), typ: None, ..Header::new(self.algorithm) };
        Ok(jsonwebtoken::encode(&header, claims, &self.signing)?)
    }

    /// Claims of a token that this key signed for a Secret.
    #[must_use]
    pub fn verify_legacy(&self, token: &str) -> Option<LegacyClaims> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        jsonwebtoken::decode::<LegacyClaims>(token, &self.verifying, &self.validation()).ok().map(|decoded| decoded.claims)
    }

    /// The signature alone: what claims mean is looked at elsewhere.
    fn validation(&self) -> Validation {
        let mut validation = Validation::new(self.algorithm);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        validation
    }

    /// Claims of a token that this key signed; `None` for any other text. Time, audience and bound
    /// objects are not looked at.
    #[must_use]
    pub fn verify(&self, token: &str) -> Option<Arc<Claims>> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = self.remembered.lock().get(&hash) {
            return Some(Arc::clone(claims));
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation()).ok()?.claims;
        let claims = Arc::new(claims);
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(hash, Arc::clone(&claims));
        Some(claims)
    }

    /// The JSON web key set, as `/openid/v1/jwks` serves it.
    #[must_use]
    pub fn web_keys(&self) -> Value {
        json!({"keys": [self.web_key]})
    }
}

/// The discovery document at `/.well-known/openid-configuration`.
#[must_use]
pub fn discovery_document(issuer: &str, keys: &Keys) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{}/openid/v1/jwks", issuer.trim_end_matches('/')),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [keys.web_key["alg"]],
    })
}

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn keys() -> Keys {
        Keys::from_pem(rcgen::KeyPair::generate().unwrap().serialize_pem().as_bytes()).unwrap()
    }

    #[test]
    fn only_its_own_tokens_are_good() {
        let (keys, others) = (keys(), keys());
        let claims = Claims { sub: "a".into(), ..Claims::default() };
        let token = keys.sign(&claims).unwrap();
        for _ in 0..2 {
            assert_eq!(keys.verify(&token).as_deref(), Some(&claims));
        }
        assert_eq!(others.verify(&token), None);
        let mut parts: Vec<&str> = token.split('.').collect();
        let forged = base64(serde_json::to_string(&Claims { sub: "b".into(), ..claims }).unwrap().as_bytes());
        parts[1] = &forged;
        for bad in [parts.join("."), String::new(), "a.b.c".into(), format!("{}.{}.", base64(b"{\"alg\":\"none\"}"), parts[1])] {
            assert_eq!(keys.verify(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_public_key_is_published() {
        let keys = keys();
        assert_eq!(keys.web_keys()["keys"][0]["alg"], "ES256");
        assert_eq!(discovery_document("https://a/", &keys)["jwks_uri"], "https://a/openid/v1/jwks");
        assert!(Keys::from_pem(b"no key").is_err());
    }
}
