//! The API over gRPC, on the port of REST and by the same path: a call becomes the request that REST would have
//! got, and goes through authorization and the handlers with it.
//!
//! In: calls of `kontiki.api.v1.Resources`, health, reflection. Out: the same objects, as the same JSON; errors carry
//! Kubernetes' Status in their details.

use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use http::{Request as HttpRequest, Response as HttpResponse, StatusCode, header};
use http_body_util::BodyExt;
use kontiki_api::status::Status as KubernetesError;
use kontiki_proto::{FILE_DESCRIPTOR_SET, kontiki::api::v1 as pb};
use pb::resources_server::{Resources, ResourcesServer};
use prost::Message;
use serde_json::Value;
use tonic::{Code, Request, Response, Status, service::Routes};
use tower::ServiceExt;

use crate::{
    auth::UserInfo,
    handlers,
    response::Body,
    service::{ApiServer, Handle},
};

/// Most bytes of one answer that is not streamed.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Type of the detail that holds Kubernetes' Status.
const DETAIL: &str = "type.googleapis.com/kontiki.api.v1.KubernetesStatus";

/// The services.
#[derive(Clone)]
pub struct Grpc {
    routes: Routes,
}

struct Service {
    handle: Handle,
}

/// Whether a request is a gRPC call.
pub fn is_grpc<B>(request: &HttpRequest<B>) -> bool {
    let media = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media.is_some_and(|media| media.starts_with("application/grpc"))
}

impl Grpc {
    /// The services over an API server.
    pub fn new(handle: Handle) -> Self {
        let resources = ResourcesServer::new(Service { handle: handle.clone() }).max_encoding_message_size(ANSWER_BYTES_MAX);
        let (health, health_service) = tonic_health::server::health_reporter();
        tokio::spawn(report_health(handle, health));
        let mut routes = Routes::new(resources).add_service(health_service);
        match reflection() {
            Ok(service) => routes = routes.add_service(service),
            Err(error) => tracing::error!(error, "there is no server reflection"),
        }
        Self { routes: routes.prepare() }
    }

    /// Answers a call of that user.
    pub async fn call<B>(&self, user: UserInfo, mut request: HttpRequest<B>) -> HttpResponse<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        request.extensions_mut().insert(user);
        let answered = self.routes.clone().oneshot(request.map(tonic::body::Body::new)).await;
        let response = answered.unwrap_or_else(|never| match never {});
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

/// Reflection tells of what is served here, not of the store's services.
fn reflection()
-> Result<tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection>, String> {
    let mut set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).map_err(|error| error.to_string())?;
    set.file.retain(|file| file.package().starts_with("kontiki.api"));
    let builder = tonic_reflection::server::Builder::configure().register_file_descriptor_set(set);
    let builder = builder.register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    builder.build_v1().map_err(|error| error.to_string())
}

/// Healthy is who would answer `/readyz` with 200.
async fn report_health(handle: Handle, health: tonic_health::server::HealthReporter) {
    let server = handle.server();
    let mut last = None;
    while !server.shutdown.is_cancelled() {
        let ready = handlers::health::readiness(server).iter().all(|(_, problem)| problem.is_none());
        if last != Some(ready) {
            let status = if ready { tonic_health::ServingStatus::Serving } else { tonic_health::ServingStatus::NotServing };
            health.set_service_status("", status).await;
            health.set_service_status("kontiki.api.v1.Resources", status).await;
            last = Some(ready);
        }
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {}
            () = server.shutdown.cancelled() => {}
        }
    }
}

/// The gRPC code for a Status.
fn code(status: &KubernetesError) -> Code {
    match status.code {
        400 | 422 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        405 => Code::Unimplemented,
        409 => Code::Aborted,
        410 => Code::OutOfRange,
        429 => Code::ResourceExhausted,
        503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        _ => Code::Internal,
    }
}

fn failure(body: &[u8]) -> Status {
    let Ok(status) = serde_json::from_slice::<KubernetesError>(body) else {
        return Status::internal(String::from_utf8_lossy(body).into_owned());
    };
    let code = code(&status);
    let detail = pb::Detail {
        type_url: DETAIL.to_owned(),
        value: pb::KubernetesStatus { json: Bytes::copy_from_slice(body) }.encode_to_vec().into(),
    };
    let details = pb::ErrorDetails { code: code.into(), message: status.message.clone(), details: vec![detail] };
    Status::with_details(code, status.message, details.encode_to_vec().into())
}

async fn path(server: &ApiServer, resource: Option<&pb::Resource>, name: &str) -> Result<String, Status> {
    let resource = resource.ok_or_else(|| Status::invalid_argument("resource is required"))?;
    let found = server.find(&resource.group, &resource.version, &resource.resource).await;
    let found = found.map_err(|_| Status::not_found("the server could not find the requested resource"))?;
    Ok(found.key.path(&resource.namespace, name))
}

fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut serializer = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
        serializer.append_pair(name, &value);
    }
    serializer.finish()
}

fn flag(value: bool) -> String {
    if value { "true".to_owned() } else { String::new() }
}

impl Service {
    async fn ask<T>(&self, request: &Request<T>, path: &str, query: &str) -> Result<HttpResponse<Body>, Status> {
        let user = request.extensions().get::<UserInfo>().cloned().unwrap_or_else(UserInfo::anonymous);
        let asked = HttpRequest::get(format!("{path}?{query}")).header(header::ACCEPT, "application/json").body(Bytes::new());
        let asked = asked.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let response = self.handle.call(user, asked).await;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        Err(failure(&whole(response).await?))
    }
}

async fn whole(response: HttpResponse<Body>) -> Result<Bytes, Status> {
    Ok(response.into_body().collect().await.map_err(|error| Status::internal(error.to_string()))?.to_bytes())
}

/// The part of JSON that a field holds, as it stands.
#[derive(serde::Deserialize)]
struct RawList<'a> {
    metadata: Value,
    #[serde(borrow)]
    items: Vec<&'a serde_json::value::RawValue>,
}

#[derive(serde::Deserialize)]
struct RawEvent<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a serde_json::value::RawValue,
}

#[tonic::async_trait]
impl Resources for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchEvent, Status>> + Send>>;

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::Object>, Status> {
        let asked = request.get_ref();
        if asked.name.is_empty() {
            return Err(Status::invalid_argument("name is required"));
        }
        let path = path(self.handle.server(), asked.resource.as_ref(), &asked.name).await?;
        let query = query([("resourceVersion", asked.resource_version.clone())]);
        let json = whole(self.ask(&request, &path, &query).await?).await?;
        Ok(Response::new(pb::Object { json }))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListResponse>, Status> {
        let asked = request.get_ref();
        let path = path(self.handle.server(), asked.resource.as_ref(), "").await?;
        let query = query([
            ("labelSelector", asked.label_selector.clone()),
            ("fieldSelector", asked.field_selector.clone()),
            ("limit", if asked.limit > 0 { asked.limit.to_string() } else { String::new() }),
            ("continue", asked.r#continue.clone()),
            ("resourceVersion", asked.resource_version.clone()),
            ("resourceVersionMatch", asked.resource_version_match.clone()),
        ]);
        let body = whole(self.ask(&request, &path, &query).await?).await?;
        let list: RawList<'_> = serde_json::from_slice(&body).map_err(|error| Status::internal(error.to_string()))?;
        let text = |name: &str| list.metadata[name].as_str().unwrap_or_default().to_owned();
        // Each item is a part of the list's bytes: nothing is copied.
        let item = |item: &&serde_json::value::RawValue| pb::Object { json: body.slice_ref(item.get().as_bytes()) };
        Ok(Response::new(pb::ListResponse {
            resource_version: text("resourceVersion"),
            r#continue: text("continue"),
            remaining_item_count: list.metadata["remainingItemCount"].as_i64().unwrap_or(0),
            items: list.items.iter().map(item).collect(),
        }))
    }

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let asked = request.get_ref();
        let path = path(self.handle.server(), asked.resource.as_ref(), "").await?;
        let initial = asked.send_initial_events;
        let query = query([
            ("watch", flag(true)),
            ("labelSelector", asked.label_selector.clone()),
            ("fieldSelector", asked.field_selector.clone()),
            ("resourceVersion", asked.resource_version.clone()),
            ("allowWatchBookmarks", flag(asked.allow_bookmarks || initial)),
            ("sendInitialEvents", flag(initial)),
            ("resourceVersionMatch", if initial { "NotOlderThan".to_owned() } else { String::new() }),
        ]);
        let body = self.ask(&request, &path, &query).await?.into_body();
        let pieces = body.into_data_stream().map_err(|error| Status::unavailable(error.to_string()));
        Ok(Response::new(Box::pin(events(pieces))))
    }
}

/// Lines of JSON as events; an event that says ERROR ends the stream with that error.
fn events(
    pieces: impl Stream<Item = Result<Bytes, Status>> + Send + Unpin + 'static,
) -> impl Stream<Item = Result<pb::WatchEvent, Status>> + Send {
    let lines = futures::stream::try_unfold((pieces, Vec::<u8>::new()), async |(mut pieces, mut rest)| {
        loop {
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                return Ok(Some((line, (pieces, rest))));
            }
            match pieces.next().await {
                Some(piece) => rest.extend_from_slice(&piece?),
                None => return Ok(None),
            }
        }
    });
    lines.and_then(|line: Vec<u8>| async move {
        let event: RawEvent<'_> = serde_json::from_slice(&line).map_err(|error| Status::internal(error.to_string()))?;
        if event.r#type == "ERROR" {
            return Err(failure(event.object.get().as_bytes()));
        }
        let json = Bytes::copy_from_slice(event.object.get().as_bytes());
        Ok(pb::WatchEvent { r#type: event.r#type, object: Some(pb::Object { json }) })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn events_are_lines_however_they_are_cut() {
        let text =
            "{\"type\":\"ADDED\",\"object\":{\"a\":1}}\n{\"type\":\"ERROR\",\"object\":{\"code\":410,\"message\":\"too old\"}}\n";
        let pieces: Vec<Result<Bytes, Status>> =
            text.as_bytes().chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let mut found = Box::pin(events(futures::stream::iter(pieces)));
        let first = found.next().await.unwrap().unwrap();
        assert_eq!((first.r#type.as_str(), &first.object.unwrap().json[..]), ("ADDED", &b"{\"a\":1}"[..]));
        let error = found.next().await.unwrap().unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::OutOfRange, "too old"));
    }

    fn namespaces() -> pb::Resource {
        pb::Resource { version: "v1".into(), resource: "namespaces".into(), ..Default::default() }
    }

    #[tokio::test]
    async fn a_client_gets_lists_and_watches_what_its_user_may() {
        let handle = crate::testing::server().await;
        let grpc = Grpc::new(handle.clone());
        let client = |user: UserInfo| {
            let grpc = grpc.clone();
            let service = tower::service_fn(move |request: HttpRequest<tonic::body::Body>| {
                let (grpc, user) = (grpc.clone(), user.clone());
                async move { Ok::<_, std::convert::Infallible>(grpc.call(user, request).await) }
            });
            pb::resources_client::ResourcesClient::new(service)
        };
        let mut admin = client(UserInfo::apiserver());
        let get = |name: &str| pb::GetRequest { resource: Some(namespaces()), name: name.into(), ..Default::default() };
        let object = admin.get(get("default")).await.unwrap().into_inner();
        assert_eq!(serde_json::from_slice::<Value>(&object.json).unwrap()["metadata"]["name"], "default");
        assert_eq!(admin.get(get("nothing")).await.unwrap_err().code(), Code::NotFound);
        let page = pb::ListRequest { resource: Some(namespaces()), limit: 3, ..Default::default() };
        let first = admin.list(page.clone()).await.unwrap().into_inner();
        assert_eq!((first.items.len(), first.remaining_item_count), (3, 1));
        let rest = admin.list(pb::ListRequest { r#continue: first.r#continue, ..page }).await.unwrap().into_inner();
        assert_eq!(rest.items.len(), 1);
        let watch = pb::WatchRequest { resource: Some(namespaces()), send_initial_events: true, ..Default::default() };
        let mut events = admin.watch(watch.clone()).await.unwrap().into_inner();
        for _ in 0..4 {
            assert_eq!(events.message().await.unwrap().unwrap().r#type, "ADDED");
        }
        assert_eq!(events.message().await.unwrap().unwrap().r#type, "BOOKMARK");
        let mut nobody = client(UserInfo::anonymous());
        assert_eq!(nobody.get(get("default")).await.unwrap_err().code(), Code::PermissionDenied);
        assert_eq!(nobody.watch(watch).await.unwrap_err().code(), Code::PermissionDenied);
    }

    #[test]
    fn an_error_carries_kubernetes_status() {
        let status = KubernetesError::not_found("", "pods", "x");
        let body = serde_json::to_vec(&status).unwrap();
        let error = failure(&body);
        assert_eq!(error.code(), Code::NotFound);
        let details = pb::ErrorDetails::decode(error.details()).unwrap();
        let inner = pb::KubernetesStatus::decode(&details.details[0].value[..]).unwrap();
        assert_eq!(inner.json, body);
    }
}
