//! Who else than an API server may ask: the bearer of a token whom the API server knows and lets.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/>

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, StatusCode, header};
use kontiki_client::{Client, Error};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// How long an answer of the API server counts.
const CACHE: Duration = Duration::from_secs(30);
/// Answers that are kept.
const CACHE_MAX: usize = 256;

/// A refusal: code and words.
pub type Refusal = (StatusCode, String);

/// A token, a verb, a subresource of the node.
type Question = (String, &'static str, &'static str);

/// What was answered, and when.
type Answer = (Instant, Result<(), Refusal>);

/// Asks the API server, and remembers for a little while.
pub struct Authorizer {
    client: Client,
    node: String,
    known: Mutex<HashMap<Question, Answer>>,
}

/// Verb of a request.
fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// Subresource of the node that a path stands for.
fn subresource(path: &str) -> &'static str {
    match path.trim_matches('/').split('/').next().unwrap_or_default() {
        "stats" => "stats",
        "metrics" => "metrics",
        "logs" => "log",
        "pods" | "runningpods" => "pods",
        "healthz" => "healthz",
        "configz" => "configz",
        _ => "proxy",
    }
}

impl Authorizer {
    pub fn new(client: Client, node: &str) -> Self {
        Self { client, node: node.to_owned(), known: Mutex::default() }
    }

    /// Lets a request in, or says why not.
    pub async fn admit(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let unknown = || (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let token = bearer.ok_or_else(unknown)?.trim().to_owned();
        let key = (token, verb(method), subresource(path));
        let now = Instant::now();
        if let Some((at, answer)) = self.known.lock().get(&key)
            && now.duration_since(*at) < CACHE
        {
            return answer.clone();
        }
        let answer = match self.ask(&key).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "cannot ask who may see this node's figures");
                return Err((StatusCode::INTERNAL_SERVER_ERROR, "Authorization error".to_owned()));
            }
        };
        let mut known = self.known.lock();
        known.retain(|_, (at, _)| now.duration_since(*at) < CACHE);
        if known.len() < CACHE_MAX {
            known.insert(key, (now, answer.clone()));
        }
        answer
    }

    async fn ask(&self, (token, verb, subresource): &Question) -> Result<Result<(), Refusal>, Error> {
        let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": token } });
        let known = self.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await?;
        if known["status"]["authenticated"] != true {
            return Ok(Err((StatusCode::UNAUTHORIZED, "Unauthorized".to_owned())));
        }
        let user = &known["status"]["user"];
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user["username"], "uid": user["uid"], "groups": user["groups"], "extra": user["extra"],
                "resourceAttributes": {
                    "verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": self.node,
                },
            },
        });
        let decided = self.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review).await?;
        if decided["status"]["allowed"] == true {
            return Ok(Ok(()));
        }
        let name = user["username"].as_str().unwrap_or_default();
        let words = format!("Forbidden (user={name}, verb={verb}, resource=nodes, subresource(s)=[{subresource}])");
        Ok(Err((StatusCode::FORBIDDEN, words)))
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let body = body.to_string().into();
        let answer = self.client.request(Method::POST, path.to_owned(), "application/json", body).await?;
        // An answer that makes no sense lets nobody in.
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stand_for_subresources_of_the_node() {
        let cases = [
            ("/metrics/resource", "metrics"),
            ("/stats/summary", "stats"),
            ("/pods", "pods"),
            ("/exec/n/p/c", "proxy"),
            ("/containerLogs/n/p/c", "proxy"),
        ];
        for (path, wanted) in cases {
            assert_eq!(subresource(path), wanted, "{path}");
        }
        assert_eq!((verb(&Method::GET), verb(&Method::POST)), ("get", "create"));
    }
}
