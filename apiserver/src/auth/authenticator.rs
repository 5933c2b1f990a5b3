//! Decides who a request comes from.

use std::sync::Arc;

use http::{HeaderMap, header};
use jiff::Timestamp;
use kontiki_api::{
    resources::{SECRETS, SERVICE_ACCOUNTS},
    status::Status,
};

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
        let Some(claims) = self.keys.verify(token) else { return self.legacy_token(token, audiences).await };
        claims.check(&self.issuer, audiences, now).map_err(TokenError::Invalid)?;
        let stands =
            bound::check(&claims.bound, self.objects(), now).await.map_err(|status| TokenError::Unknown(Box::new(status)))?;
        if stands { Ok(claims) } else { Err(TokenError::Invalid("service account token has been invalidated")) }
    }
}

impl Authenticator {
    /// Checks a token that lives in a Secret. It is meant for the API server's own audiences.
    async fn legacy_token(&self, token: &str, audiences: &[String]) -> Result<Arc<Claims>, TokenError> {
        let claims = self.keys.verify_legacy(token).ok_or(TokenError::Invalid("invalid bearer token"))?;
        if !audiences.iter().any(|audience| self.audiences.contains(audience)) {
            return Err(TokenError::Invalid("token audiences do not match"));
        }
        let namespace = claims.namespace.as_str();
        let cached = |key, name| self.objects.cached(key, namespace, name);
        let (secret, account) = (cached(&SECRETS, &claims.secret), cached(&SERVICE_ACCOUNTS, &claims.account));
        let mut stands = claims.stands(token, secret.as_ref(), account.as_ref());
        if !stands {
            let fresh = async |key, name: &str| {
                self.objects.fresh(key, namespace, name).await.map_err(|status| TokenError::Unknown(Box::new(status)))
            };
            let (secret, account) = (fresh(&SECRETS, &claims.secret).await?, fresh(&SERVICE_ACCOUNTS, &claims.account).await?);
            stands = claims.stands(token, secret.as_ref(), account.as_ref());
        }
        if !stands {
            return Err(TokenError::Invalid("service account token has been invalidated"));
        }
        Ok(Arc::new(claims.into_claims(&self.audiences)))
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
