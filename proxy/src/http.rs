//! A small HTTP server for what is asked now and then: health checks, metrics.

use std::{convert::Infallible, sync::Arc, time::Duration};

use ::http::{HeaderValue, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

/// How long a client may take to ask.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// Connections to one port at the same time.
const CONNECTIONS_MAX: usize = 64;
/// Pause after a connection that could not be accepted.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Answer to a request for a path.
pub type Answer = Response<Full<Bytes>>;

/// Answers until `cancel`.
pub async fn serve(listener: TcpListener, answer: impl Fn(&str) -> Answer + Send + Sync + 'static, cancel: CancellationToken) {
    let (connections, answer) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Arc::new(answer));
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_RETRY).await;
            continue;
        };
        // Who comes when all are busy is turned away.
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(request.uri().path());
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).keep_alive(false);
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a request broke off");
            }
            drop(permit);
        });
    }
}

/// Counters as Prometheus reads them.
#[must_use]
pub fn metrics(path: &str, registry: &Registry) -> Answer {
    let mut text = String::new();
    let encoded = prometheus_client::encoding::text::encode(&mut text, registry);
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    if path != "/metrics" {
        *answer.status_mut() = StatusCode::NOT_FOUND;
        *answer.body_mut() = Full::default();
    } else if encoded.is_err() {
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    let media = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, media);
    answer
}
