//! Takes clients' connections and leads each request to the service or the page that answers it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ::http::{Request, Response, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use kontiki_proto::FILE_DESCRIPTOR_SET;
use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::v3electionpb::election_server::ElectionServer;
use kontiki_proto::v3lockpb::lock_server::LockServer;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

use super::http::Pages;
use super::meter::Meter;
use super::{CommonName, Services};
use crate::error::Error;
use crate::limits::CLIENT_ANSWER_BYTES_MAX;
use crate::service::Handle;
use crate::tls::{self, Connection};

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    /// gRPC and HTTP.
    Everything,
    /// gRPC alone.
    Grpc,
    /// HTTP alone.
    Http,
    /// Metrics and health alone.
    Metrics,
}

/// A socket that clients reach.
pub(crate) struct Listener {
    pub(crate) socket: crate::socket::Listener,
    pub(crate) tls: bool,
    pub(crate) serves: Serves,
}

/// What learners answer too.
const FOR_LEARNERS: [&str; 5] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Snapshot",
    "/grpc.health.",
    "/grpc.reflection.",
];
/// Metadata of clients that would rather hear at once that nobody leads.
const REQUIRE_LEADER: &str = "hasleader";
/// How tonic begins to say that a message is larger than it takes.
const TOO_LARGE: &str = "Error, decoded message length too large";

/// Serves clients until the member stops.
pub(crate) fn serve(handle: &Handle, listeners: Vec<Listener>, config: Option<Arc<rustls::ServerConfig>>) {
    let stop = handle.core.stop.clone();
    let services = Services { handle: handle.clone() };
    // As with etcd, a member that serves says so, with a leader or without: a client that minds asks for one.
    let (_, health_service) = tonic_health::server::health_reporter();
    let routes = routes(&services, health_service);
    let meter = Arc::new(Meter::new());
    let pages = Arc::new(Pages::new(services, routes.clone(), &meter));
    for listener in listeners {
        let config = config.clone().filter(|_| listener.tls);
        let front =
            Front { serves: listener.serves, routes: routes.clone(), pages: pages.clone(), meter: meter.clone(), name: None };
        tokio::spawn(accept(front, listener, config, stop.clone()));
    }
}

fn routes<H>(services: &Services, health: tonic_health::pb::health_server::HealthServer<H>) -> Routes
where
    H: tonic_health::pb::health_server::Health,
{
    // Room for what surrounds the values of a request.
    let largest = services.handle.core.options.request_bytes_max + 512 * 1024;
    let services = || services.clone();
    let mut routes = Routes::new(
        pb::kv_server::KvServer::new(services())
            .max_decoding_message_size(largest)
            .max_encoding_message_size(CLIENT_ANSWER_BYTES_MAX),
    )
    .add_service(
        pb::watch_server::WatchServer::new(services())
            .max_decoding_message_size(largest)
            .max_encoding_message_size(CLIENT_ANSWER_BYTES_MAX),
    )
    .add_service(pb::lease_server::LeaseServer::new(services()))
    .add_service(pb::cluster_server::ClusterServer::new(services()))
    .add_service(pb::maintenance_server::MaintenanceServer::new(services()))
    .add_service(pb::auth_server::AuthServer::new(services()))
    .add_service(LockServer::new(services()))
    .add_service(ElectionServer::new(services()))
    .add_service(health);
    let reflection = tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET);
    match reflection.build_v1() {
        Ok(reflection) => routes = routes.add_service(reflection),
        Err(error) => tracing::error!(%error, "there is no server reflection"),
    }
    routes.prepare()
}

async fn accept(front: Front, listener: Listener, config: Option<Arc<rustls::ServerConfig>>, stop: CancellationToken) {
    // As with etcd, clients wait in the port's queue until the member is ready: what it would answer before may be old.
    if listener.serves != Serves::Metrics && front.pages.services().handle.ready().await.is_err() {
        return;
    }
    let Ok(address) = listener.socket.address() else { return };
    let traffic = match listener.serves {
        Serves::Everything => "grpc+http",
        Serves::Grpc => "grpc",
        Serves::Http => "http",
        Serves::Metrics => "metrics",
    };
    match config {
        Some(_) => tracing::info!(traffic, %address, "serving client traffic securely"),
        None => tracing::info!(traffic, %address, "serving client traffic insecurely; this is strongly discouraged!"),
    }
    if !address.is_callable() {
        tracing::warn!(%address, "clients of etcd cannot call a file of this name; use letters, digits, dots and at most one colon");
    }
    let options = &front.pages.services().handle.core.options;
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.concurrent_streams_max)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    let (interval, patience) = options.client_keep_alive;
    if !interval.is_zero() {
        builder.http2().keep_alive_interval(interval).keep_alive_timeout(patience);
    }
    builder.http1().timer(TokioTimer::new());
    let mut incoming = tls::accept(listener.socket, config, stop.clone());
    while let Some(Ok(connection)) = incoming.recv().await {
        let mut front = front.clone();
        front.name = connection.common_name().map(CommonName);
        tokio::spawn(converse(builder.clone(), connection, front, stop.clone()));
    }
}

async fn converse(builder: Builder<TokioExecutor>, connection: Connection, front: Front, stop: CancellationToken) {
    let serving = builder.serve_connection(TokioIo::new(connection), front);
    tokio::select! {
        // Whoever goes away need not say so.
        ended = serving => drop(ended),
        () = stop.cancelled() => {}
    }
}

/// Looks at each request and leads it on.
#[derive(Clone)]
struct Front {
    serves: Serves,
    routes: Routes,
    pages: Arc<Pages>,
    meter: Arc<Meter>,
    name: Option<CommonName>,
}

impl hyper::service::Service<Request<Incoming>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let kind = request.headers().get(header::CONTENT_TYPE).map(::http::HeaderValue::as_bytes);
        let is_grpc = kind.is_some_and(|kind| kind.starts_with(b"application/grpc"));
        if !is_grpc || matches!(self.serves, Serves::Http | Serves::Metrics) {
            let (pages, serves) = (self.pages.clone(), self.serves);
            return Box::pin(async move { Ok(pages.answer(request, serves).await) });
        }
        if let Err(error) = self.admit(&request) {
            return Box::pin(std::future::ready(Ok(tonic::Status::from(error).into_http())));
        }
        if let Some(name) = &self.name {
            request.extensions_mut().insert(name.clone());
        }
        let call = self.meter.begin(request.uri().path());
        let answering = self.routes.clone().call(request.map(|body| call.request(body)));
        Box::pin(async move {
            let answer = answering.await?;
            Ok(call.response(as_go_says(answer)))
        })
    }
}

/// gRPC's own refusal of a message that is too large, under the code and with the words of the servers that clients know.
fn as_go_says(answer: Response<Body>) -> Response<Body> {
    let too_large = |status: &tonic::Status| status.code() == Code::OutOfRange && status.message().starts_with(TOO_LARGE);
    let Some(status) = tonic::Status::from_header_map(answer.headers()).filter(too_large) else { return answer };
    let numbers: Vec<&str> =
        status.message().split(|letter: char| !letter.is_ascii_digit()).filter(|part| !part.is_empty()).collect();
    let [found, limit] = numbers[..] else { return answer };
    tonic::Status::resource_exhausted(format!("grpc: received message larger than max ({found} vs. {limit})")).into_http()
}

impl Front {
    /// What learners and members without a leader do not answer.
    fn admit(&self, request: &Request<Incoming>) -> Result<(), Error> {
        let handle = &self.pages.services().handle;
        let path = request.uri().path();
        if handle.is_learner() && !FOR_LEARNERS.iter().any(|allowed| path.starts_with(allowed)) {
            return Err(Error::NotSupportedForLearner);
        }
        let wants_leader = request.headers().get(REQUIRE_LEADER).is_some_and(|value| value == "true");
        if wants_leader && handle.core.leader().is_none() { Err(Error::NoLeader) } else { Ok(()) }
    }
}
