//! Tokens that live in Secrets: what they say, when they are good, and the Secrets that want one.
//!
//! Such a token has no end of its own: it is good while its Secret holds it and its account is there.
//! <https://kubernetes.io/docs/concepts/configuration/secret/#serviceaccount-token-secrets>

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{Timestamp, tz::TimeZone};
use kontiki_api::object::{meta, text};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    claims::{Bound, Claims, Reference},
    user,
};

/// Type of the Secrets.
pub const SECRET_TYPE: &str = "kubernetes.io/service-account-token";
const ISSUER: &str = "kubernetes/serviceaccount";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// What such a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyClaims {
    iss: String,
    /// Namespace of account and Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    /// The Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    /// The account.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    /// The account's UID.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub uid: String,
    sub: String,
}

impl LegacyClaims {
    /// For a Secret and its account.
    #[must_use]
    pub fn new(namespace: &str, secret: &str, account: &str, uid: &str) -> Self {
        Self {
            iss: ISSUER.to_owned(),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            account: account.to_owned(),
            uid: uid.to_owned(),
            sub: user::service_account_name(namespace, account),
        }
    }

    /// Whether the objects that it names, as they are now, stand behind the token.
    #[must_use]
    pub fn stands(&self, token: &str, secret: Option<&Value>, account: Option<&Value>) -> bool {
        let holds = |secret: &Value| {
            let held = BASE64_STANDARD.decode(text(secret, "/data/token")).unwrap_or_default();
            !meta::is_deleting(secret) && held == token.as_bytes()
        };
        self.iss == ISSUER
            && self.sub == user::service_account_name(&self.namespace, &self.account)
            && secret.is_some_and(holds)
            && account.is_some_and(|account| !meta::is_deleting(account) && meta::uid(account) == self.uid)
    }

    /// The same as claims of a token for these audiences.
    #[must_use]
    pub fn into_claims(self, audiences: &[String]) -> Claims {
        let bound = Bound {
            namespace: self.namespace,
            serviceaccount: Reference { name: self.account, uid: self.uid },
            secret: Some(Reference { name: self.secret, uid: String::new() }),
            ..Bound::default()
        };
        Claims { aud: audiences.to_vec(), iss: self.iss, sub: self.sub, exp: i64::MAX, bound, ..Claims::default() }
    }
}

/// Day on which a token was used last, on its Secret.
pub const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// Day since which a token is good no more, on its Secret.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// What a user of a token is told that nobody has asked for.
pub const GENERATED: &str =
    "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.";

/// What is to be known, and done, when a token is used that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Why it is good no more, if it was marked so.
    pub invalid: Option<String>,
    /// Whether the account has it from a time when every account got one.
    pub is_generated: bool,
    /// The day that its Secret is to be labelled with, unless it is already.
    pub day: Option<String>,
}

/// A day as the labels have it.
#[must_use]
pub fn day(now: Timestamp) -> String {
    now.to_zoned(TimeZone::UTC).date().to_string()
}

/// What the use of a Secret's token comes to.
#[must_use]
pub fn used(secret: &Value, account: &Value, now: Timestamp) -> Usage {
    let label = |name: &str| meta::label(secret, name).unwrap_or_default();
    let (namespace, name) = (meta::namespace(secret), meta::name(secret));
    let invalid = (!label(INVALID_SINCE).is_empty()).then(|| {
        format!(
            "the token in secret {namespace}/{name} for service account {namespace}/{} has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token",
            meta::name(account)
        )
    });
    let named = |reference: &Value| reference["name"].as_str() == Some(name);
    let is_generated = account["secrets"].as_array().is_some_and(|secrets| secrets.iter().any(named));
    let today = now.to_zoned(TimeZone::UTC).date();
    // Another server's clock may be ahead of this one's.
    let known = [today.to_string(), today.tomorrow().map(|day| day.to_string()).unwrap_or_default()];
    let day = (!known.iter().any(|day| day == label(LAST_USED))).then(|| today.to_string());
    Usage { invalid, is_generated, day }
}

/// What is to become of a Secret that holds a token.
#[derive(Clone, Debug, PartialEq)]
pub enum Filling {
    /// It is as it must be.
    Nothing,
    /// Its account is gone, and so is its use.
    Remove,
    /// It is stored so.
    Store(Value),
}

/// Name of the account that a Secret is for; empty for Secrets of other types.
#[must_use]
pub fn account_of(secret: &Value) -> &str {
    if text(secret, "/type") == SECRET_TYPE { meta::annotation(secret, ACCOUNT_NAME).unwrap_or_default() } else { "" }
}

/// Fills in what is missing. `sign` makes a token, `authority` is the certificate that clients need.
pub fn fill(
    secret: &Value,
    account: Option<&Value>,
    authority: &str,
    sign: impl FnOnce(&LegacyClaims) -> Option<String>,
) -> Filling {
    let Some(account) = account.filter(|account| !meta::is_deleting(account)) else { return Filling::Remove };
    let (namespace, uid) = (meta::namespace(secret), meta::uid(account));
    match meta::annotation(secret, ACCOUNT_UID) {
        Some(own) if !own.is_empty() && own != uid => return Filling::Remove,
        _ => {}
    }
    let mut filled = secret.clone();
    let mut annotations = meta::get(secret, "annotations").and_then(Value::as_object).cloned().unwrap_or_default();
    annotations.insert(ACCOUNT_UID.to_owned(), json!(uid));
    meta::set(&mut filled, "annotations", annotations);
    let mut data = secret.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
    let missing =
        |data: &serde_json::Map<String, Value>, key: &str| data.get(key).and_then(Value::as_str).is_none_or(str::is_empty);
    if missing(&data, "token") {
        let claims = LegacyClaims::new(namespace, meta::name(secret), meta::name(account), uid);
        let Some(token) = sign(&claims) else { return Filling::Nothing };
        data.insert("token".to_owned(), json!(BASE64_STANDARD.encode(token)));
    }
    if missing(&data, "namespace") {
        data.insert("namespace".to_owned(), json!(BASE64_STANDARD.encode(namespace)));
    }
    if missing(&data, "ca.crt") && !authority.is_empty() {
        data.insert("ca.crt".to_owned(), json!(BASE64_STANDARD.encode(authority)));
    }
    filled["data"] = Value::Object(data);
    if filled == *secret { Filling::Nothing } else { Filling::Store(filled) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_gets_its_accounts_token_once() {
        let secret = json!({
            "metadata": {"name": "s", "namespace": "a", "annotations": {(ACCOUNT_NAME): "builder"}}, "type": SECRET_TYPE,
        });
        let account = json!({"metadata": {"name": "builder", "uid": "1"}});
        assert_eq!(account_of(&secret), "builder");
        let sign = |claims: &LegacyClaims| Some(format!("token of {}", claims.sub));
        let Filling::Store(filled) = fill(&secret, Some(&account), "CERT", sign) else { panic!("nothing was filled in") };
        assert_eq!(filled["data"]["token"], BASE64_STANDARD.encode("token of system:serviceaccount:a:builder"));
        assert_eq!(filled["data"]["namespace"], BASE64_STANDARD.encode("a"));
        assert_eq!(filled["metadata"]["annotations"][ACCOUNT_UID], "1");
        assert_eq!(fill(&filled, Some(&account), "CERT", sign), Filling::Nothing);
        assert_eq!(fill(&filled, None, "CERT", sign), Filling::Remove);
        let namesake = json!({"metadata": {"name": "builder", "uid": "2"}});
        assert_eq!(fill(&filled, Some(&namesake), "CERT", sign), Filling::Remove);
    }

    #[test]
    fn the_use_of_a_token_is_written_down_once_a_day() {
        let now: Timestamp = "2026-03-01T23:30:00Z".parse().expect("a time");
        let account = json!({"metadata": {"name": "builder"}, "secrets": [{"name": "s"}]});
        let secret = |labels: Value| json!({"metadata": {"name": "s", "namespace": "a", "labels": labels}});
        let first = used(&secret(json!({})), &account, now);
        assert_eq!(first, Usage { invalid: None, is_generated: true, day: Some("2026-03-01".to_owned()) });
        for (last, again) in [("2026-02-28", true), ("2026-03-01", false), ("2026-03-02", false), ("2026-03-03", true)] {
            let labels = json!({(LAST_USED): last});
            assert_eq!(used(&secret(labels), &account, now).day.is_some(), again, "{last}");
        }
        let marked = used(&secret(json!({(INVALID_SINCE): "2026-01-01"})), &json!({"metadata": {"name": "builder"}}), now);
        assert!(!marked.is_generated && marked.day.is_some());
        let why = marked.invalid.unwrap_or_default();
        assert!(why.starts_with("the token in secret a/s for service account a/builder has been marked invalid."), "{why}");
    }

    #[test]
    fn a_token_is_good_while_its_secret_holds_it() {
        let claims = LegacyClaims::new("a", "s", "builder", "1");
        let secret = |token: &str| json!({"metadata": {}, "data": {"token": BASE64_STANDARD.encode(token)}});
        let account = |uid: &str| json!({"metadata": {"uid": uid}});
        assert!(claims.stands("t", Some(&secret("t")), Some(&account("1"))));
        assert!(!claims.stands("t", Some(&secret("other")), Some(&account("1"))));
        assert!(!claims.stands("t", Some(&secret("t")), Some(&account("2"))));
        assert!(!claims.stands("t", None, Some(&account("1"))));
    }
}
