//! Decides who a request comes from.

use std::sync::Arc;

use http::{HeaderMap, header};
use jiff::Timestamp;
use kontiki_api::status::Status;

use super::{Objects, UserInfo, bound, claims::Claims, keys::Keys};

/// Why a token speaks for nobody.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenError {
    /// The token is bad; the text says why, for logs and token reviews.
    Invalid(&'static str),
    /// It could not be found out.
    Unknown(Box<Status>),
}

/// Service accounts' keys and the rules of their tokens.
pub struct Authenticator {
    keys: Arc<Keys>,
    issuer: String,
    audiences: Vec<String>,
    objects: Arc<dyn Objects>,
}

impl Authenticator {
    /// `audiences` are the API server's own: what a token must be meant for to be good here.
    #[must_use]
    pub fn new(keys: Arc<Keys>, issuer: String, audiences: Vec<String>, objects: Arc<dyn Objects>) -> Self {
        let audiences = if audiences.is_empty() { vec![issuer.clone()] } else { audiences };
        Self { keys, issuer, audiences, objects }
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Who issues tokens here.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The API server's own audiences.
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// Where bound objects are looked up.
    #[must_use]
    pub fn objects(&self) -> &dyn Objects {
        self.objects.as_ref()
    }

    /// The user of a request. `certified` is whom the connection's certificate names.
    pub async fn authenticate(
        &self,
        certified: Option<&UserInfo>,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<UserInfo, Status> {
        if let Some(user) = certified {
            return Ok(user.clone());
        }
        let Some(token) = bearer_token(headers) else { return Ok(UserInfo::anonymous()) };
        match self.token(token, &self.audiences, now).await {
            Ok(claims) => Ok(claims.user()),
            Err(TokenError::Invalid(reason)) => {
                tracing::debug!(reason, "refused a bearer token");
                Err(Status::unauthorized())
            }
            Err(TokenError::Unknown(status)) => Err(*status),
        }
    }

    /// Checks a token for some audiences, its bound objects included.
    pub async fn token(&self, token: &str, audiences: &[String], now: Timestamp) -> Result<Arc<Claims>, TokenError> {
        let claims = self.keys.verify(token).ok_or(TokenError::Invalid("invalid bearer token"))?;
        claims.check(&self.issuer, audiences, now).map_err(TokenError::Invalid)?;
        let stands =
            bound::check(&claims.bound, self.objects(), now).await.map_err(|status| TokenError::Unknown(Box::new(status)))?;
        if stands { Ok(claims) } else { Err(TokenError::Invalid("service account token has been invalidated")) }
    }
}

/// The bearer token of a request. Another scheme is no token: the request is anonymous.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests;
