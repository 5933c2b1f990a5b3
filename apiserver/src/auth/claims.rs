//! What a service account's token says.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens>

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::user::{self, UserInfo};

/// Claims of a token, under the names that Kubernetes gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whom the token may be shown to.
    pub aud: Vec<String>,
    /// Second from which it is void.
    pub exp: i64,
    /// Second of issue.
    pub iat: i64,
    /// Who issued it.
    pub iss: String,
    /// Its identifier.
    pub jti: String,
    /// What it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub bound: Bound,
    /// Second before which it is void.
    pub nbf: i64,
    /// The service account as a user.
    pub sub: String,
}

/// The objects that a token stands and falls with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Namespace of the service account, and of pod and secret.
    pub namespace: String,
    /// The node, or the node of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    /// The pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// The secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// The service account.
    pub serviceaccount: Reference,
}

/// One object by name and UID.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Name.
    pub name: String,
    /// UID; a namesake with another one is another object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

impl Claims {
    /// Whether the token may be used at this second, by this issuer's rule, for one of these
    /// audiences; otherwise why not.
    pub fn check(&self, issuer: &str, audiences: &[String], now: Timestamp) -> Result<(), &'static str> {
        let now = now.as_second();
        if self.iss != issuer {
            return Err("token was issued by somebody else");
        }
        if now >= self.exp {
            return Err("service account token has expired");
        }
        if now < self.nbf {
            return Err("service account token is not valid yet");
        }
        if !self.aud.iter().any(|own| audiences.contains(own)) {
            return Err("token audiences do not match");
        }
        let name = user::service_account_name(&self.bound.namespace, &self.bound.serviceaccount.name);
        if self.sub != name { Err("token subject does not match its service account") } else { Ok(()) }
    }

    /// The user that the token speaks for.
    #[must_use]
    pub fn user(&self) -> UserInfo {
        let account = &self.bound.serviceaccount;
        let mut user = UserInfo::service_account(&self.bound.namespace, &account.name, &account.uid);
        let mut add = |name: &str, value: String| {
            user.extra.insert(format!("authentication.kubernetes.io/{name}"), vec![value]);
        };
        if !self.jti.is_empty() {
            add("credential-id", format!("JTI={}", self.jti));
        }
        for (kind, reference) in [("pod", &self.bound.pod), ("node", &self.bound.node)] {
            if let Some(reference) = reference {
                add(&format!("{kind}-name"), reference.name.clone());
                add(&format!("{kind}-uid"), reference.uid.clone());
            }
        }
        user
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn claims() -> Claims {
        Claims {
            aud: vec!["api".into()],
            exp: 200,
            iat: 100,
            iss: "issuer".into(),
            jti: "1".into(),
            nbf: 100,
            sub: "system:serviceaccount:a:b".into(),
            bound: Bound {
                namespace: "a".into(),
                serviceaccount: Reference { name: "b".into(), uid: "u".into() },
                pod: Some(Reference { name: "p".into(), uid: "v".into() }),
                ..Bound::default()
            },
        }
    }

    #[test]
    fn a_token_is_good_for_its_time_issuer_and_audience() {
        let cases: [(i64, &str, &str, bool); 6] = [
            (100, "issuer", "api", true),
            (199, "issuer", "api", true),
            (99, "issuer", "api", false),
            (200, "issuer", "api", false),
            (150, "other", "api", false),
            (150, "issuer", "vault", false),
        ];
        for (second, issuer, audience, good) in cases {
            let now = Timestamp::from_second(second).unwrap();
            assert_eq!(claims().check(issuer, &[audience.to_owned()], now).is_ok(), good, "{second} {issuer} {audience}");
        }
        let forged = Claims { sub: "system:serviceaccount:kube-system:admin".into(), ..claims() };
        assert!(forged.check("issuer", &["api".into()], Timestamp::from_second(150).unwrap()).is_err());
    }

    #[test]
    fn the_user_carries_what_the_token_is_bound_to() {
        let user = claims().user();
        assert_eq!(user.uid, "u");
        let extra: Vec<_> = user.extra.iter().map(|(name, values)| (name.as_str(), values[0].as_str())).collect();
        let expected = [
            ("authentication.kubernetes.io/credential-id", "JTI=1"),
            ("authentication.kubernetes.io/pod-name", "p"),
            ("authentication.kubernetes.io/pod-uid", "v"),
        ];
        assert_eq!(extra, expected);
    }
}
