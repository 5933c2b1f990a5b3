//! What stands for a user after the password was checked: simple tokens, which the members remember,
//! or JSON web tokens, which they verify.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use rand::Rng;
use rand::distr::Alphabetic;
use serde::{Deserialize, Serialize};

use super::Caller;
use crate::error::Error;

/// How long a simple token lives unused: etcd's default.
const SIMPLE_TTL: Duration = Duration::from_secs(300);
/// Letters of a simple token.
const LETTERS: usize = 16;
/// Simple tokens that are remembered; the one unused for longest goes first.
const TOKENS_MAX: usize = 10_000;

/// How tokens are made and read.
pub enum Tokens {
    /// Remembered by each member, for as long as they are used.
    Simple(Simple),
    /// Signed.
    Jwt(Box<Jwt>),
}

impl Default for Tokens {
    fn default() -> Self {
        Self::Simple(Simple { ttl: SIMPLE_TTL, known: Mutex::default() })
    }
}

/// Why tokens cannot be made as asked for.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// An unknown kind or option.
    #[error("invalid --auth-token: {0}")]
    Option(String),
    /// A key is unusable.
    #[error("cannot use the key {path}: {reason}")]
    Key {
        /// The file.
        path: String,
        /// The reason.
        reason: String,
    },
}

impl Tokens {
    /// Reads etcd's `--auth-token`: `simple`, or `jwt,sign-method=RS256,priv-key=FILE,pub-key=FILE,ttl=10m`.
    pub fn new(option: &str, simple_ttl: Duration) -> Result<Self, TokenError> {
        let mut parts = option.split(',');
        match parts.next().unwrap_or_default() {
            "" | "simple" => Ok(Self::Simple(Simple { ttl: simple_ttl, known: Mutex::default() })),
            "jwt" => Jwt::new(parts).map(|jwt| Self::Jwt(Box::new(jwt))),
            other => Err(TokenError::Option(format!("unknown kind {other:?}"))),
        }
    }

    /// Makes a token; a simple one counts once all members heard of it.
    pub fn make(&self, user: &str, revision: u64, index: u64, now_unix: u64) -> Result<String, Error> {
        match self {
            Self::Simple(_) => {
                let letters: String = rand::rng().sample_iter(Alphabetic).take(LETTERS).map(char::from).collect();
                Ok(format!("{letters}.{index}"))
            }
            Self::Jwt(jwt) => jwt.make(user, revision, now_unix),
        }
    }

    /// Whether the members have to hear of a token.
    #[must_use]
    pub fn are_remembered(&self) -> bool {
        matches!(self, Self::Simple(_))
    }

    /// Remembers a token.
    pub fn remember(&self, user: &str, token: &str, now: Instant) {
        if let Self::Simple(simple) = self {
            simple.remember(user, token, now);
        }
    }

    /// Forgets the tokens of a user, or of all.
    pub fn forget(&self, user: Option<&str>) {
        if let Self::Simple(simple) = self {
            simple.known.lock().retain(|_, (name, _)| user.is_some_and(|user| name.as_ref() != user));
        }
    }

    /// The user behind a token. A simple one goes with the permissions of the moment.
    pub fn read(&self, token: &str, now: Instant) -> Result<Caller, Error> {
        match self {
            Self::Simple(simple) => simple.read(token, now),
            Self::Jwt(jwt) => jwt.read(token),
        }
    }
}

/// Tokens that are remembered, with the time until which they live.
pub struct Simple {
    ttl: Duration,
    known: Mutex<HashMap<String, (Arc<str>, Instant)>>,
}

impl Simple {
    fn remember(&self, user: &str, token: &str, now: Instant) {
        let mut known = self.known.lock();
        if known.len() >= TOKENS_MAX {
            known.retain(|_, (_, until)| *until > now);
        }
        if known.len() >= TOKENS_MAX
            && let Some(oldest) = known.iter().min_by_key(|(_, (_, until))| *until).map(|(token, _)| token.clone())
        {
            known.remove(&oldest);
        }
        known.insert(token.to_owned(), (Arc::from(user), now + self.ttl));
    }

    fn read(&self, token: &str, now: Instant) -> Result<Caller, Error> {
        let mut known = self.known.lock();
        match known.get_mut(token) {
            Some((user, until)) if *until > now => {
                *until = now + self.ttl;
                Ok(Caller::User { name: user.clone(), revision: None })
            }
            _ => {
                known.remove(token);
                Err(Error::InvalidAuthToken)
            }
        }
    }
}

/// Signs and verifies.
pub struct Jwt {
    algorithm: Algorithm,
    sign: Option<EncodingKey>,
    verify: DecodingKey,
    ttl: Duration,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    username: String,
    revision: u64,
    exp: u64,
}

impl Jwt {
    fn new<'a>(options: impl Iterator<Item = &'a str>) -> Result<Self, TokenError> {
        let mut values: HashMap<&str, &str> = HashMap::new();
        for option in options {
            let (key, value) = option.split_once('=').ok_or_else(|| TokenError::Option(format!("{option:?} is no KEY=VALUE")))?;
            values.insert(key, value);
        }
        let missing = |what: &str| TokenError::Option(format!("{what} is missing"));
        let method = values.get("sign-method").ok_or_else(|| missing("sign-method"))?;
        let algorithm: Algorithm = method.parse().map_err(|_| TokenError::Option(format!("unknown sign-method {method:?}")))?;
        let ttl = values.get("ttl").map_or(Ok(Duration::from_secs(300)), |ttl| {
            crate::duration::parse(ttl).ok_or_else(|| TokenError::Option(format!("ttl {ttl:?} is no duration")))
        })?;
        let private = values.get("priv-key").copied();
        let public = values.get("pub-key").copied();
        if is_symmetric(algorithm) {
            let path = private.or(public).ok_or_else(|| missing("priv-key"))?;
            let secret = read(path)?;
            let (sign, verify) = (EncodingKey::from_secret(&secret), DecodingKey::from_secret(&secret));
            return Ok(Self { algorithm, sign: Some(sign), verify, ttl });
        }
        let sign = private.map(|path| signing_key(algorithm, path)).transpose()?;
        let verify = verifying_key(algorithm, public.ok_or_else(|| missing("pub-key"))?)?;
        Ok(Self { algorithm, sign, verify, ttl })
    }

    fn make(&self, username: &str, revision: u64, now_unix: u64) -> Result<String, Error> {
        let sign = self.sign.as_ref().ok_or(Error::AuthFailed)?;
        let claims = Claims { username: username.to_owned(), revision, exp: now_unix + self.ttl.as_secs() };
        jsonwebtoken::encode(&Header::new(self.algorithm), &claims, sign).map_err(|_| Error::AuthFailed)
    }

    fn read(&self, token: &str) -> Result<Caller, Error> {
        let mut validation = Validation::new(self.algorithm);
        validation.leeway = 0;
        let data = jsonwebtoken::decode::<Claims>(token, &self.verify, &validation).map_err(|_| Error::InvalidAuthToken)?;
        Ok(Caller::User { name: data.claims.username.into(), revision: Some(data.claims.revision) })
    }
}

fn is_symmetric(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

fn read(path: &str) -> Result<Vec<u8>, TokenError> {
    std::fs::read(Path::new(path)).map_err(|error| TokenError::Key { path: path.to_owned(), reason: error.to_string() })
}

fn signing_key(algorithm: Algorithm, path: &str) -> Result<EncodingKey, TokenError> {
    let pem = read(path)?;
    let key = match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(&pem),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(&pem),
        _ => EncodingKey::from_rsa_pem(&pem),
    };
    key.map_err(|error| TokenError::Key { path: path.to_owned(), reason: error.to_string() })
}

fn verifying_key(algorithm: Algorithm, path: &str) -> Result<DecodingKey, TokenError> {
    let pem = read(path)?;
    let key = match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(&pem),
        Algorithm::EdDSA => DecodingKey::from_ed_pem(&pem),
        _ => DecodingKey::from_rsa_pem(&pem),
    };
    key.map_err(|error| TokenError::Key { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TTL: Duration = Duration::from_secs(300);

    #[test]
    fn a_simple_token_lives_while_it_is_used() {
        let tokens = Tokens::new("simple", TTL).unwrap();
        let now = Instant::now();
        let token = tokens.make("u", 1, 7, 0).unwrap();
        assert!(token.ends_with(".7"));
        assert_eq!(tokens.read(&token, now), Err(Error::InvalidAuthToken), "nobody heard of it");
        tokens.remember("u", &token, now);
        let user = Caller::User { name: "u".into(), revision: None };
        assert_eq!(tokens.read(&token, now + TTL / 2), Ok(user.clone()));
        assert_eq!(tokens.read(&token, now + TTL), Ok(user));
        assert_eq!(tokens.read(&token, now + 3 * TTL), Err(Error::InvalidAuthToken));
        tokens.remember("u", &token, now);
        tokens.forget(Some("u"));
        assert_eq!(tokens.read(&token, now), Err(Error::InvalidAuthToken));
    }

    #[test]
    fn a_signed_token_says_who_and_when() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "a secret").unwrap();
        let tokens = Tokens::new(&format!("jwt,sign-method=HS256,priv-key={},ttl=10m", path.display()), TTL).unwrap();
        let far_ahead = 40_000_000_000;
        let token = tokens.make("u", 4, 0, far_ahead).unwrap();
        assert_eq!(tokens.read(&token, Instant::now()), Ok(Caller::User { name: "u".into(), revision: Some(4) }));
        let old = tokens.make("u", 4, 0, 0).unwrap();
        assert_eq!(tokens.read(&old, Instant::now()), Err(Error::InvalidAuthToken));
        for bad in ["jwt", "jwt,sign-method=XX", "jwt,sign-method=RS256", "other", "jwt,x"] {
            assert!(Tokens::new(bad, TTL).is_err(), "{bad}");
        }
    }
}
