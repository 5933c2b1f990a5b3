//! The port: TLS, HTTP/1.1 and HTTP/2, a body within its limit, a user, then the one request path, for REST and
//! gRPC alike.

use std::{net::SocketAddr, sync::Arc};

use http::{Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use jiff::Timestamp;
use kontiki_api::status::Status;
use rustls_pki_types::UnixTime;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{
        Authenticated, Peer, UserInfo,
        certificate::{Clients, Tls},
    },
    grpc::{self, Grpc},
    limits::BODY_BYTES_MAX,
    proxy::StreamedBody,
    request::RequestInfo,
    response::{self, Body},
    service::{DRAIN, Handle},
};

/// How long a client may take to complete the TLS handshake.
const HANDSHAKE_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);
/// How long a client may take to send a request's headers.
const HEADER_DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);
/// Headers of one request.
const HEADERS_MAX: usize = 100;
/// Bytes of the headers of one request.
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// How long a client may take to send a request's body.
const BODY_DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);
/// Streams that one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 1000;

/// Why the port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not this machine's.
    #[error("listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
}

/// Serves a port until `shutdown`.
pub async fn serve(handle: Handle, address: SocketAddr, tls: Tls, shutdown: CancellationToken) -> Result<(), ServeError> {
    let listener = kontiki_store::socket::listen(address).map_err(|error| ServeError::Listen(address, error))?;
    let acceptor = Acceptor { tls: TlsAcceptor::from(Arc::new(tls.config)), clients: tls.clients };
    let connections = TaskTracker::new();
    let grpc = Grpc::new(handle.clone());
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, acceptor.clone(), handle.clone(), grpc.clone(), shutdown.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
    connections.close();
    let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
    Ok(())
}

/// Takes connections, and says who is at their other end.
#[derive(Clone)]
struct Acceptor {
    tls: TlsAcceptor,
    clients: Clients,
}

async fn connection(stream: TcpStream, acceptor: Acceptor, handle: Handle, grpc: Grpc, shutdown: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let peer = stream.peer_addr().ok();
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.tls.accept(stream)).await else { return };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let client = Arc::new(acceptor.clients.peer(chain, UnixTime::now()));
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let (handle, grpc, client) = (handle.clone(), grpc.clone(), Arc::clone(&client));
        async move { Ok::<_, std::convert::Infallible>(answer(&handle, &grpc, &client, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE).max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(Some(std::time::Duration::from_secs(30)));
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        () = shutdown.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

async fn answer(handle: &Handle, grpc: &Grpc, client: &Peer, mut request: Request<Incoming>) -> Response<Body> {
    let authenticator = &handle.server().authenticator;
    let found = authenticator.authenticate(client, request.headers(), Timestamp::now()).await;
    let Authenticated { user, warning } = match found {
        Ok(found) => found,
        Err(status) => return response::status(&status),
    };
    authenticator.clear_headers(request.headers_mut());
    let mut answer = answer_user(handle, grpc, user, request).await;
    if let Some(warning) = warning {
        response::warn(&mut answer, &[warning.to_owned()]);
    }
    answer
}

async fn answer_user(handle: &Handle, grpc: &Grpc, user: UserInfo, request: Request<Incoming>) -> Response<Body> {
    if grpc::is_grpc(&request) {
        return grpc.call(user, request).await;
    }
    let (mut head, body) = request.into_parts();
    if handle.server().passes_on(&RequestInfo::parse(&head.method, &head.uri)) {
        head.extensions.insert(Arc::new(StreamedBody(parking_lot::Mutex::new(Some(body)))));
        return handle.call(user, Request::from_parts(head, bytes::Bytes::new())).await;
    }
    let collected = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    let Ok(collected) = collected else {
        return response::status(&Status::timeout("the body of the request did not come in time", 0));
    };
    let body = match collected {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return response::status(&Status::request_entity_too_large(BODY_BYTES_MAX));
        }
        Err(error) => return response::status(&Status::bad_request(error.to_string())),
    };
    handle.call(user, Request::from_parts(head, body)).await
}
