//! JSON over HTTP for every call: etcd's gRPC gateway, from the descriptors of the services.
//!
//! In comes `POST /v3/kv/put` with a JSON body; it becomes the gRPC request that it stands for and
//! takes the same way. Byte fields are base64, 64-bit numbers are text, as protobuf's JSON has it.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use kontiki_proto::FILE_DESCRIPTOR_SET;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::Service;

use super::http::page;
use crate::limits::REQUEST_BYTES_MAX;

/// Paths below `/v3`, and the calls that they stand for.
const PATHS: &[(&str, &str, &str)] = &[
    ("kv/range", "etcdserverpb.KV", "Range"),
    ("kv/put", "etcdserverpb.KV", "Put"),
    ("kv/deleterange", "etcdserverpb.KV", "DeleteRange"),
    ("kv/txn", "etcdserverpb.KV", "Txn"),
    ("kv/compaction", "etcdserverpb.KV", "Compact"),
    ("watch", "etcdserverpb.Watch", "Watch"),
    ("lease/grant", "etcdserverpb.Lease", "LeaseGrant"),
    ("lease/revoke", "etcdserverpb.Lease", "LeaseRevoke"),
    ("kv/lease/revoke", "etcdserverpb.Lease", "LeaseRevoke"),
    ("lease/keepalive", "etcdserverpb.Lease", "LeaseKeepAlive"),
    ("lease/timetolive", "etcdserverpb.Lease", "LeaseTimeToLive"),
    ("kv/lease/timetolive", "etcdserverpb.Lease", "LeaseTimeToLive"),
    ("lease/leases", "etcdserverpb.Lease", "LeaseLeases"),
    ("kv/lease/leases", "etcdserverpb.Lease", "LeaseLeases"),
    ("cluster/member/add", "etcdserverpb.Cluster", "MemberAdd"),
    ("cluster/member/remove", "etcdserverpb.Cluster", "MemberRemove"),
    ("cluster/member/update", "etcdserverpb.Cluster", "MemberUpdate"),
    ("cluster/member/list", "etcdserverpb.Cluster", "MemberList"),
    ("cluster/member/promote", "etcdserverpb.Cluster", "MemberPromote"),
    ("maintenance/alarm", "etcdserverpb.Maintenance", "Alarm"),
    ("maintenance/status", "etcdserverpb.Maintenance", "Status"),
    ("maintenance/defragment", "etcdserverpb.Maintenance", "Defragment"),
    ("maintenance/hash", "etcdserverpb.Maintenance", "HashKV"),
    ("maintenance/snapshot", "etcdserverpb.Maintenance", "Snapshot"),
    ("maintenance/transfer-leadership", "etcdserverpb.Maintenance", "MoveLeader"),
    ("maintenance/downgrade", "etcdserverpb.Maintenance", "Downgrade"),
    ("auth/enable", "etcdserverpb.Auth", "AuthEnable"),
    ("auth/disable", "etcdserverpb.Auth", "AuthDisable"),
    ("auth/status", "etcdserverpb.Auth", "AuthStatus"),
    ("auth/authenticate", "etcdserverpb.Auth", "Authenticate"),
    ("auth/user/add", "etcdserverpb.Auth", "UserAdd"),
    ("auth/user/get", "etcdserverpb.Auth", "UserGet"),
    ("auth/user/list", "etcdserverpb.Auth", "UserList"),
    ("auth/user/delete", "etcdserverpb.Auth", "UserDelete"),
    ("auth/user/changepw", "etcdserverpb.Auth", "UserChangePassword"),
    ("auth/user/grant", "etcdserverpb.Auth", "UserGrantRole"),
    ("auth/user/revoke", "etcdserverpb.Auth", "UserRevokeRole"),
    ("auth/role/add", "etcdserverpb.Auth", "RoleAdd"),
    ("auth/role/get", "etcdserverpb.Auth", "RoleGet"),
    ("auth/role/list", "etcdserverpb.Auth", "RoleList"),
    ("auth/role/delete", "etcdserverpb.Auth", "RoleDelete"),
    ("auth/role/grant", "etcdserverpb.Auth", "RoleGrantPermission"),
    ("auth/role/revoke", "etcdserverpb.Auth", "RoleRevokePermission"),
    ("lock/lock", "v3lockpb.Lock", "Lock"),
    ("lock/unlock", "v3lockpb.Lock", "Unlock"),
    ("election/campaign", "v3electionpb.Election", "Campaign"),
    ("election/proclaim", "v3electionpb.Election", "Proclaim"),
    ("election/leader", "v3electionpb.Election", "Leader"),
    ("election/observe", "v3electionpb.Election", "Observe"),
    ("election/resign", "v3electionpb.Election", "Resign"),
];
/// JSON is larger than what it stands for.
const BODY_BYTES_MAX: usize = 3 * REQUEST_BYTES_MAX;
const JSON: &str = "application/json";

/// The gateway.
pub(super) struct Gateway {
    routes: Routes,
    methods: BTreeMap<&'static str, MethodDescriptor>,
}

impl Gateway {
    /// Over the services; `None` if their descriptors cannot be read.
    pub(super) fn new(routes: Routes) -> Option<Self> {
        let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok()?;
        let mut methods = BTreeMap::new();
        for (path, service, method) in PATHS {
            let service = pool.get_service_by_name(service)?;
            methods.insert(*path, service.methods().find(|known| known.name() == *method)?);
        }
        Some(Self { routes, methods })
    }

    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let rest = path.strip_prefix("/v3/").or_else(|| path.strip_prefix("/v3beta/"));
        let Some(method) = rest.and_then(|rest| self.methods.get(rest)) else {
            return refused(&Status::new(Code::NotFound, "Not Found"));
        };
        if request.method() != Method::POST {
            return refused(&Status::new(Code::Unimplemented, "Method Not Allowed"));
        }
        match self.call(method, request).await {
            Ok(response) => response,
            Err(status) => refused(&status),
        }
    }

    async fn call(&self, method: &MethodDescriptor, request: Request<Incoming>) -> Result<Response<Body>, Status> {
        let (head, body) = request.into_parts();
        let body = http_body_util::Limited::new(body, BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Status::invalid_argument(error.to_string()))?.to_bytes();
        let messages = messages(&method.input(), &body)?;
        let service = method.parent_service().full_name().to_owned();
        // A watch goes on when its requests end; a keep-alive ends with them.
        let open = method.name() == "Watch";
        let mut call = Request::new(request_body(&messages, open));
        *call.method_mut() = Method::POST;
        let uri = format!("/{service}/{}", method.name()).parse();
        *call.uri_mut() = uri.map_err(|_| Status::internal("a method has an impossible name"))?;
        *call.version_mut() = http::Version::HTTP_2;
        call.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        for name in ["authorization", "grpc-metadata-authorization", "hasleader"] {
            if let Some(value) = head.headers.get(name) {
                call.headers_mut().insert(
                    name.trim_start_matches("grpc-metadata-")
                        .parse::<header::HeaderName>()
                        .map_err(|_| Status::internal("header"))?,
                    value.clone(),
                );
            }
        }
        let Ok(response) = self.routes.clone().call(call).await;
        if let Some(status) = Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok) {
            return Err(status);
        }
        let frames = frames(response.into_body(), method.output());
        if method.is_server_streaming() {
            return Ok(stream(frames));
        }
        let mut frames = std::pin::pin!(frames);
        let mut answer = None;
        while let Some(frame) = frames.next().await {
            answer = Some(frame?);
        }
        let answer = answer.ok_or_else(|| Status::internal("no answer"))?;
        Ok(page(StatusCode::OK, JSON, json(&answer)?))
    }
}

/// The JSON values of a body, as messages.
fn messages(kind: &MessageDescriptor, body: &[u8]) -> Result<Vec<DynamicMessage>, Status> {
    let body = if body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { body };
    let values = serde_json::Deserializer::from_slice(body).into_iter::<serde_json::Value>();
    let message = |value: Result<serde_json::Value, serde_json::Error>| {
        let invalid = |error: &dyn std::fmt::Display| Status::invalid_argument(error.to_string());
        let value = value.map_err(|error| invalid(&error))?;
        DynamicMessage::deserialize(kind.clone(), value).map_err(|error| invalid(&error))
    };
    values.map(message).collect()
}

/// Messages in gRPC's frames, and whether more may come.
fn request_body(messages: &[DynamicMessage], open: bool) -> Body {
    use prost::Message;
    let mut framed = BytesMut::new();
    for message in messages {
        let bytes = message.encode_to_vec();
        framed.put_u8(0);
        framed.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        framed.put_slice(&bytes);
    }
    let first = futures::stream::iter([Ok::<_, Status>(Frame::data(framed.freeze()))]);
    if open {
        return Body::new(http_body_util::StreamBody::new(first.chain(futures::stream::pending())));
    }
    Body::new(http_body_util::StreamBody::new(first))
}

/// The messages of an answer; an error ends them.
fn frames(mut body: Body, kind: MessageDescriptor) -> impl futures::Stream<Item = Result<DynamicMessage, Status>> + Send {
    async_stream(move |sender| async move {
        let mut buffer = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let sent = match frame {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => {
                        buffer.extend_from_slice(&data);
                        send_whole(&mut buffer, &kind, &sender).await
                    }
                    Err(frame) => match frame.trailers_ref().and_then(Status::from_header_map) {
                        Some(status) if status.code() != Code::Ok => sender.send(Err(status)).await.is_ok(),
                        _ => true,
                    },
                },
                Err(error) => sender.send(Err(Status::internal(error.to_string()))).await.is_ok(),
            };
            if !sent {
                return;
            }
        }
    })
}

type Frames = tokio::sync::mpsc::Sender<Result<DynamicMessage, Status>>;

/// Sends the messages that are whole.
async fn send_whole(buffer: &mut BytesMut, kind: &MessageDescriptor, sender: &Frames) -> bool {
    while let Some(length) = buffer.get(1..5).and_then(|length| length.first_chunk::<4>()) {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if buffer.len() < length.saturating_add(5) {
            break;
        }
        let message: Bytes = buffer.split_to(5 + length).freeze().slice(5..);
        let message = DynamicMessage::decode(kind.clone(), message).map_err(|error| Status::internal(error.to_string()));
        if sender.send(message).await.is_err() {
            return false;
        }
    }
    true
}

/// A stream that a task feeds.
fn async_stream<T, F, Fut>(task: F) -> tokio_stream::wrappers::ReceiverStream<T>
where
    T: Send + 'static,
    F: FnOnce(tokio::sync::mpsc::Sender<T>) -> Fut,
    Fut: std::future::Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(task(sender));
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

fn json(message: &DynamicMessage) -> Result<String, Status> {
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true).stringify_64_bit_integers(true);
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut text);
    message.serialize_with_options(&mut serializer, &options).map_err(|error| Status::internal(error.to_string()))?;
    String::from_utf8(text).map_err(|error| Status::internal(error.to_string()))
}

/// One JSON object a line, each in `result`.
fn stream(frames: impl futures::Stream<Item = Result<DynamicMessage, Status>> + Send + 'static) -> Response<Body> {
    let line = |frame: Result<DynamicMessage, Status>| {
        let text = match frame.and_then(|message| json(&message)) {
            Ok(text) => format!("{{\"result\":{text}}}\n"),
            Err(status) => format!("{}\n", serde_json::json!({ "error": error(&status) })),
        };
        Ok::<_, Status>(Frame::data(Bytes::from(text)))
    };
    let mut response = Response::new(Body::new(http_body_util::StreamBody::new(frames.map(line))));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

fn error(status: &Status) -> serde_json::Value {
    serde_json::json!({ "error": status.message(), "code": i32::from(status.code()), "message": status.message() })
}

fn refused(status: &Status) -> Response<Body> {
    let code = match status.code() {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    page(code, JSON, error(status).to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn json_stands_for_messages() {
        let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
        let kind = pool.get_message_by_name("etcdserverpb.PutRequest").unwrap();
        let put = messages(&kind, br#"{"key":"Zm9v","value":"YmFy","lease":"7","prev_kv":true}"#).unwrap();
        assert_eq!(json(&put[0]).unwrap(), r#"{"key":"Zm9v","value":"YmFy","lease":"7","prev_kv":true}"#);
        assert_eq!(messages(&kind, b" ").unwrap().len(), 1, "an empty body is an empty message");
        assert!(messages(&kind, br#"{"key":"not base64!"}"#).is_err());
        assert!(Gateway::new(Routes::default()).is_some(), "every path has its method");
    }
}
