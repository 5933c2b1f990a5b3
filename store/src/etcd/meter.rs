//! Counts calls and bytes, under the names that etcd's dashboards know.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use kontiki_proto::FILE_DESCRIPTOR_SET;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use prost_reflect::DescriptorPool;
use tonic::Code;
use tonic::body::Body;

type Labels = Vec<(&'static str, String)>;

/// What is counted under a name beside this crate's own services.
const BESIDE: [(&str, &str); 3] = [
    ("/grpc.health.v1.Health/Check", "unary"),
    ("/grpc.health.v1.Health/Watch", "server_stream"),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "bidi_stream"),
];

/// The counters.
pub(super) struct Meter {
    /// What there is to call, and how each is called. Names that somebody made up must not fill the memory.
    kinds: BTreeMap<String, &'static str>,
    started: Family<Labels, Counter>,
    handled: Family<Labels, Counter>,
    received: Counter,
    sent: Counter,
}

impl Meter {
    /// Nothing was called yet.
    pub(super) fn new() -> Self {
        let (started, handled) = (Family::default(), Family::default());
        Self { kinds: kinds(), started, handled, received: Counter::default(), sent: Counter::default() }
    }

    /// Adds them to a registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("grpc_server_started", "Calls that began", self.started.clone());
        registry.register("grpc_server_handled", "Calls that ended", self.handled.clone());
        let network = registry.sub_registry_with_prefix("etcd_network");
        network.register("client_grpc_received_bytes", "Bytes from clients", self.received.clone());
        network.register("client_grpc_sent_bytes", "Bytes to clients", self.sent.clone());
    }

    /// A call begins.
    pub(super) fn begin(self: &Arc<Self>, path: &str) -> Call {
        let labels = self.labels(path);
        self.started.get_or_create(&labels).inc();
        Call { meter: self.clone(), labels }
    }

    fn labels(&self, path: &str) -> Labels {
        let named = self.kinds.get(path).and_then(|kind| Some((*kind, path.strip_prefix('/')?.split_once('/')?)));
        let (kind, (service, method)) = named.unwrap_or(("unary", ("unknown", "unknown")));
        vec![("grpc_type", kind.into()), ("grpc_service", service.into()), ("grpc_method", method.into())]
    }
}

/// The paths of all methods, each with its kind.
fn kinds() -> BTreeMap<String, &'static str> {
    let mut kinds: BTreeMap<String, &'static str> = BESIDE.iter().map(|(path, kind)| ((*path).to_owned(), *kind)).collect();
    let Ok(pool) = DescriptorPool::decode(FILE_DESCRIPTOR_SET) else { return kinds };
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let kind = match (method.is_client_streaming(), method.is_server_streaming()) {
            (true, true) => "bidi_stream",
            (true, false) => "client_stream",
            (false, true) => "server_stream",
            (false, false) => "unary",
        };
        kinds.insert(format!("/{}/{}", method.parent_service().full_name(), method.name()), kind);
    }
    kinds
}

/// A call that is counted when it ends.
pub(super) struct Call {
    meter: Arc<Meter>,
    labels: Labels,
}

impl Call {
    /// Counts what comes in.
    pub(super) fn request<B: HttpBody<Data = Bytes>>(&self, body: B) -> Counted<B> {
        Counted { body, bytes: self.meter.received.clone(), ending: None }
    }

    /// Counts what goes out, and how the call ends.
    pub(super) fn response(self, response: Response<Body>) -> Response<Body> {
        let bytes = self.meter.sent.clone();
        let mut ending = Ending { call: self, code: None };
        ending.note(response.headers());
        response.map(|body| Body::new(Counted { body, bytes, ending: Some(ending) }))
    }
}

/// Waits for a call's status; without one the client went away.
struct Ending {
    call: Call,
    code: Option<Code>,
}

impl Ending {
    fn note(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let code = match self.code.unwrap_or(Code::Cancelled) {
            Code::Ok => "OK".to_owned(),
            Code::Cancelled => "Canceled".to_owned(),
            other => format!("{other:?}"),
        };
        let mut labels = std::mem::take(&mut self.call.labels);
        labels.push(("grpc_code", code));
        self.call.meter.handled.get_or_create(&labels).inc();
    }
}

/// A body whose bytes are counted.
pub(super) struct Counted<B> {
    body: B,
    bytes: Counter,
    ending: Option<Ending>,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            if let Some(data) = frame.data_ref() {
                self.bytes.inc_by(u64::try_from(data.len()).unwrap_or(u64::MAX));
            }
            if let (Some(trailers), Some(ending)) = (frame.trailers_ref(), &mut self.ending) {
                ending.note(trailers);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_named_as_grpc_names_them() {
        let meter = Meter::new();
        let text = |path: &str| meter.labels(path).into_iter().map(|(_, value)| value).collect::<Vec<_>>().join(" ");
        assert_eq!(text("/etcdserverpb.KV/Put"), "unary etcdserverpb.KV Put");
        assert_eq!(text("/etcdserverpb.Watch/Watch"), "bidi_stream etcdserverpb.Watch Watch");
        assert_eq!(text("/etcdserverpb.Maintenance/Snapshot"), "server_stream etcdserverpb.Maintenance Snapshot");
        assert_eq!(text("/etcdserverpb.KV/Thing"), "unary unknown unknown");
        assert_eq!(text("/made.up/Thing"), "unary unknown unknown");
    }
}
