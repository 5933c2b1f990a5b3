//! Decides who a request comes from.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, header};
use jiff::Timestamp;
use kontiki_api::{
    resources::{SECRETS, SERVICE_ACCOUNTS},
    status::Status,
};
use serde_json::Value;

use super::{
    FrontProxy, Objects, Peer, UserInfo, bound,
    claims::Claims,
    front_proxy::UserHeaders,
    keys::Keys,
    legacy::{self, LegacyClaims},
    metrics::TokenMetrics,
};

/// What is said of a token whose objects are gone.
const INVALIDATED: &str = "service account token has been invalidated";

/// Why a token speaks for nobody.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenError {
    /// The token is bad; the text says why, for logs and token reviews.
    Invalid(Cow<'static, str>),
    /// It could not be found out.
    Unknown(Box<Status>),
}

impl TokenError {
    fn invalid(reason: &'static str) -> Self {
        Self::Invalid(Cow::Borrowed(reason))
    }

    fn unknown(status: Status) -> Self {
        Self::Unknown(Box::new(status))
    }
}

/// Who a request comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Authenticated {
    /// The user.
    pub user: UserInfo,
    /// What that user is told beside the answer.
    pub warning: Option<&'static str>,
}

impl From<UserInfo> for Authenticated {
    fn from(user: UserInfo) -> Self {
        Self { user, warning: None }
    }
}

/// A token that is good: what it says, and what its user is told.
#[derive(Clone, Debug)]
pub struct Token {
    /// What it says.
    pub claims: Arc<Claims>,
    /// What its user is told.
    pub warning: Option<&'static str>,
}

/// Service accounts' keys and the rules of their tokens.
pub struct Authenticator {
    keys: Arc<Keys>,
    issuer: String,
    audiences: Vec<String>,
    objects: Arc<dyn Objects>,
    /// Where front proxies name users.
    front_proxy: Option<Arc<FrontProxy>>,
    /// What is counted.
    pub metrics: TokenMetrics,
}

impl Authenticator {
    /// `audiences` are the API server's own: what a token must be meant for to be good here.
    #[must_use]
    pub fn new(keys: Arc<Keys>, issuer: String, audiences: Vec<String>, objects: Arc<dyn Objects>) -> Self {
        let audiences = if audiences.is_empty() { vec![issuer.clone()] } else { audiences };
        Self { keys, issuer, audiences, objects, front_proxy: None, metrics: TokenMetrics::default() }
    }

    /// Believes front proxies.
    #[must_use]
    pub fn with_front_proxy(mut self, front_proxy: Option<Arc<FrontProxy>>) -> Self {
        self.front_proxy = front_proxy;
        self
    }

    /// Takes away the headers that a user could stand in: nobody behind this server is to believe them.
    pub fn clear_headers(&self, headers: &mut HeaderMap) {
        UserHeaders::default().clear(headers);
        if let Some(front_proxy) = &self.front_proxy {
            front_proxy.headers.clear(headers);
        }
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

    /// The user of a request.
    pub async fn authenticate(&self, peer: &Peer, headers: &HeaderMap, now: Timestamp) -> Result<Authenticated, Status> {
        if let Some(front_proxy) = self.front_proxy.as_ref().filter(|_| peer.is_front_proxy)
            && let Some(user) = front_proxy.headers.user(headers)
        {
            return Ok(user.into());
        }
        if let Some(user) = &peer.user {
            return Ok(user.clone().into());
        }
        let Some(token) = bearer_token(headers) else {
            // Who shows something that is not believed is refused, and not taken for somebody who shows nothing.
            return if peer.is_stranger { Err(Status::unauthorized()) } else { Ok(UserInfo::anonymous().into()) };
        };
        match self.token(token, &self.audiences, now).await {
            Ok(token) => Ok(Authenticated { user: token.claims.user(), warning: token.warning }),
            Err(TokenError::Invalid(reason)) => {
                tracing::debug!(%reason, "refused a bearer token");
                Err(Status::unauthorized())
            }
            Err(TokenError::Unknown(status)) => Err(*status),
        }
    }

    /// Checks a token for some audiences, its bound objects included.
    pub async fn token(&self, token: &str, audiences: &[String], now: Timestamp) -> Result<Token, TokenError> {
        let Some(claims) = self.keys.verify(token) else { return self.legacy_token(token, audiences, now).await };
        claims.check(&self.issuer, audiences, now).map_err(TokenError::invalid)?;
        let stands = bound::check(&claims.bound, self.objects(), now).await.map_err(TokenError::unknown)?;
        if stands { Ok(Token { claims, warning: None }) } else { Err(TokenError::invalid(INVALIDATED)) }
    }
}

impl Authenticator {
    /// Checks a token that lives in a Secret. It is meant for the API server's own audiences.
    async fn legacy_token(&self, token: &str, audiences: &[String], now: Timestamp) -> Result<Token, TokenError> {
        let claims = self.keys.verify_legacy(token).ok_or(TokenError::invalid("invalid bearer token"))?;
        if !audiences.iter().any(|audience| self.audiences.contains(audience)) {
            return Err(TokenError::invalid("token audiences do not match"));
        }
        let (secret, account) = self.behind(&claims, token).await?;
        let usage = legacy::used(&secret, &account, now);
        if let Some(day) = &usage.day
            && let Err(status) = self.objects.label(&SECRETS, &secret, (legacy::LAST_USED, day)).await
        {
            tracing::warn!(namespace = claims.namespace, name = claims.secret, %status, "cannot write down that a token was used");
        }
        if let Some(reason) = usage.invalid {
            self.metrics.invalid.inc();
            return Err(TokenError::Invalid(Cow::Owned(reason)));
        }
        self.metrics.legacy.inc();
        if usage.is_generated {
            self.metrics.generated.inc()
        } else {
            self.metrics.manual.inc()
        };
        let warning = usage.is_generated.then_some(legacy::GENERATED);
        Ok(Token { claims: Arc::new(claims.into_claims(&self.audiences)), warning })
    }

    /// The Secret and the account that stand behind a token.
    async fn behind(&self, claims: &LegacyClaims, token: &str) -> Result<(Value, Value), TokenError> {
        let namespace = claims.namespace.as_str();
        let both = |secret: Option<Value>, account: Option<Value>| {
            if claims.stands(token, secret.as_ref(), account.as_ref()) { secret.zip(account) } else { None }
        };
        let cached = |key, name| self.objects.cached(key, namespace, name);
        if let Some(found) = both(cached(&SECRETS, &claims.secret), cached(&SERVICE_ACCOUNTS, &claims.account)) {
            return Ok(found);
        }
        let fresh = async |key, name: &str| self.objects.fresh(key, namespace, name).await.map_err(TokenError::unknown);
        let (secret, account) = (fresh(&SECRETS, &claims.secret).await?, fresh(&SERVICE_ACCOUNTS, &claims.account).await?);
        both(secret, account).ok_or(TokenError::invalid(INVALIDATED))
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
