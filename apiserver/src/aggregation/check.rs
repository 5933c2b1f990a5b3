//! Whether a server elsewhere can be reached: first by what the objects say, then by asking it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use kontiki_api::kinds::apiregistration;
use rustls::ClientConfig;
use serde_json::Value;

use super::forward;
use crate::{
    auth::UserInfo,
    outbound::{self, Answer, Target},
};

/// How long a server may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Endpoints that are asked at once; one that answers is enough.
const ENDPOINTS_MAX: usize = 5;

/// The condition `Available`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is true.
    pub is_available: bool,
    /// Reason, in kube-aggregator's words.
    pub reason: &'static str,
    /// Message.
    pub message: String,
}

impl Verdict {
    /// All is well.
    pub fn passed() -> Self {
        Self { is_available: true, reason: "Passed", message: "all checks passed".to_owned() }
    }

    /// What is always well.
    pub fn local() -> Self {
        let (reason, message) = apiregistration::LOCAL;
        Self { is_available: true, reason, message: message.to_owned() }
    }

    /// It is not.
    pub fn failed(reason: &'static str, message: String) -> Self {
        Self { is_available: false, reason, message }
    }
}

/// What stands in the way of asking at all: a Service, port or endpoint that is not there. Pure.
pub fn obstacle(target: &Target, service: Option<&Value>, slices: &[Value]) -> Option<Verdict> {
    let (namespace, name) = target.service.as_ref()?;
    let Some(service) = service else {
        return Some(Verdict::failed("ServiceNotFound", format!("service/{name} in {namespace:?} is not present")));
    };
    if service["spec"]["type"].as_str().is_some_and(|kind| kind != "ClusterIP") {
        return None;
    }
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let Some(port) = ports.find(|port| port["port"].as_u64() == Some(u64::from(target.port))) else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {}", target.port);
        return Some(Verdict::failed("ServicePortError", message));
    };
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Some(Verdict::failed("EndpointsNotFound", message));
    }
    let port_name = port["name"].as_str().unwrap_or_default();
    let serves = |slice: &Value| {
        let list = |field: &str| slice[field].as_array().cloned().unwrap_or_default();
        let ready = list("endpoints").iter().any(|endpoint| endpoint["conditions"]["ready"] != false);
        ready && list("ports").iter().any(|port| port["name"].as_str().unwrap_or_default() == port_name && port["port"].is_u64())
    };
    if slices.iter().any(serves) {
        return None;
    }
    let message = format!("endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}");
    Some(Verdict::failed("MissingEndpoints", message))
}

/// A question of this server's own.
pub async fn ask(address: &str, target: &Target, tls: Arc<ClientConfig>, path: &str, accept: &str) -> Result<Answer, String> {
    let request = Request::builder().method(Method::GET).uri(path).header(header::ACCEPT, accept);
    let mut request = request.body(Full::new(Bytes::new())).map_err(|error| error.to_string())?;
    forward::name_user(request.headers_mut(), &UserInfo::aggregator());
    outbound::exchange(address, target, tls, request, DEADLINE).await
}

/// Asks the endpoints for the document of a group version: an address that answers, and the answer.
pub async fn reach(
    addresses: &[String],
    target: &Target,
    tls: &Arc<ClientConfig>,
    path: &str,
) -> Result<(String, Bytes), Verdict> {
    let asked = addresses.iter().take(ENDPOINTS_MAX).map(|address| {
        Box::pin(async move {
            let url = format!("https://{address}/{path}");
            let answer = ask(address, target, Arc::clone(tls), &format!("/{path}"), "application/json").await;
            let answer = answer.map_err(|error| format!("failing or missing response from {url}: Get {url:?}: {error}"))?;
            if (200..300).contains(&answer.code.as_u16()) {
                return Ok((address.clone(), answer.body));
            }
            Err(format!("failing or missing response from {url}: bad status from {url}: {}", answer.code.as_u16()))
        })
    });
    match futures::future::select_ok(asked).await {
        Ok((found, _)) => Ok(found),
        Err(error) => Err(Verdict::failed("FailedDiscoveryCheck", error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_is_told_in_kubernetes_words() {
        let spec = json!({ "spec": { "service": { "namespace": "n", "name": "s", "port": 7443 } } });
        let target = Target::of_api_service(&spec).unwrap().unwrap();
        let service = json!({ "spec": { "type": "ClusterIP", "ports": [{ "name": "https", "port": 7443 }] } });
        let other = json!({ "spec": { "type": "ClusterIP", "ports": [{ "port": 80 }] } });
        let slice = |ready: bool| json!({ "ports": [{ "name": "https", "port": 443 }], "endpoints": [{ "conditions": { "ready": ready } }] });
        let (ready, unready) = ([slice(true)], [slice(false)]);
        let why = |service: Option<&Value>, slices: &[Value]| {
            obstacle(&target, service, slices).map(|found| (found.reason, found.message))
        };
        let missing = |reason, message: &str| Some((reason, message.to_owned()));
        assert_eq!(why(None, &[]), missing("ServiceNotFound", "service/s in \"n\" is not present"));
        assert_eq!(why(Some(&other), &ready), missing("ServicePortError", "service/s in \"n\" is not listening on port 7443"));
        assert_eq!(why(Some(&service), &[]), missing("EndpointsNotFound", "cannot find endpointslices for service/s in \"n\""));
        assert_eq!(
            why(Some(&service), &unready),
            missing("MissingEndpoints", "endpointslices for service/s in \"n\" have no addresses with port name \"https\"")
        );
        assert_eq!(why(Some(&service), &ready), None);
    }
}
