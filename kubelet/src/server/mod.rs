//! The kubelet's API on :10250: logs, commands, forwarded ports, figures, health.
//!
//! In: requests of API servers, with a client certificate of the cluster, and of others with a token whom the API
//! server lets ([`auth`]). Out: logs as they are written, the streams of sessions ([`streams`]), figures of pods and
//! node ([`figures`]). Who is not known or may not is refused before anything is looked at.

mod auth;
mod figures;
mod logs;
mod streams;
mod tls;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Pod;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use self::logs::last_lines;
use crate::{
    Error, Options,
    pods::{Pods, model},
    runtime::{Container, ContainerState, ExecRequest, Runtime, SandboxState},
};

/// Connections at the same time.
const CONNECTIONS_MAX: usize = 512;
/// A handshake that takes longer is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A command without a session that takes longer is given up.
const RUN_TIMEOUT: Duration = Duration::from_secs(120);

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The server, listening.
pub struct Server {
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
}

struct Shared {
    runtime: Arc<dyn Runtime>,
    pods: Pods,
    options: Options,
    auth: auth::Authorizer,
}

/// Plain text with a status.
fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    let body = Full::new(Bytes::from(message.into())).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = text(StatusCode::OK, value.to_string());
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

impl Server {
    /// Takes the port.
    pub fn bind(options: &Options, pods: Pods) -> Result<Self, Error> {
        let acceptor = tls::acceptor(options)?;
        let listen = |source| Error::Listen { address: options.listen, source };
        let listener = std::net::TcpListener::bind(options.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let auth = auth::Authorizer::new(options.client.clone(), &options.node_name);
        let shared = Arc::new(Shared { runtime: Arc::clone(&options.runtime), pods, options: options.clone(), auth });
        Ok(Self { listener, acceptor, shared })
    }

    /// Serves until `cancel`.
    pub async fn serve(self, cancel: CancellationToken) {
        let listener = match TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "the kubelet's API cannot be served"),
        };
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = cancel.cancelled() => return,
            };
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let (acceptor, shared) = (self.acceptor.clone(), Arc::clone(&self.shared));
            tokio::spawn(async move {
                if let Err(error) = connection(acceptor, shared, stream).await {
                    tracing::debug!(%peer, error, "a connection ended");
                }
                drop(permit);
            });
        }
    }
}

async fn connection(acceptor: TlsAcceptor, shared: Arc<Shared>, stream: tokio::net::TcpStream) -> Result<(), String> {
    // Slower is not wrong.
    let _ = stream.set_nodelay(true);
    let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let stream = shaken.map_err(|_| "no handshake in time")?.map_err(|error| error.to_string())?;
    let trusted = tls::is_trusted(stream.get_ref().1);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, std::convert::Infallible>(shared.answer(request, trusted).await) }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await.map_err(|error| error.to_string())
}

/// Query parameters; the last of a name counts, `command` keeps all.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(request: &Request<Incoming>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn is(&self, names: &[&str]) -> bool {
        names.iter().any(|name| matches!(self.get(name), Some("1" | "true")))
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>, trusted: bool) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        if parts == ["healthz"] {
            return text(StatusCode::OK, "ok");
        }
        if !trusted && let Err(refusal) = self.auth.admit(request.method(), &path, request.headers()).await {
            return text(refusal.0, refusal.1);
        }
        let query = Query::of(&request);
        match (request.method(), parts.as_slice()) {
            (&Method::GET, ["pods"]) => self.list(),
            (&Method::GET, ["containerLogs", namespace, pod, container]) => {
                match self.container(namespace, pod, container, query.is(&["previous"])).await {
                    Ok(found) => logs::answer(&self.runtime, found, &query),
                    Err(refusal) => refusal,
                }
            }
            (&Method::GET | &Method::POST, ["exec", namespace, pod, container]) => {
                match self.container(namespace, pod, container, false).await {
                    Ok(found) => self.exec(found, &query, request),
                    Err(refusal) => refusal,
                }
            }
            (&Method::GET | &Method::POST, ["attach", namespace, pod, container]) => {
                match self.container(namespace, pod, container, false).await {
                    Ok(found) => self.attach(found, &query, request),
                    Err(refusal) => refusal,
                }
            }
            (&Method::POST, ["run", namespace, pod, container]) => match self.container(namespace, pod, container, false).await {
                Ok(found) => self.run(&found, &query).await,
                Err(refusal) => refusal,
            },
            (&Method::GET | &Method::POST, ["portForward", namespace, pod]) => match self.sandbox(namespace, pod).await {
                Ok(target) => streams::port_forward::answer(target, request),
                Err(refusal) => refusal,
            },
            (&Method::GET, ["runningpods"]) => self.list(),
            (&Method::GET, ["configz"]) => json(&figures::configuration(&self.options)),
            (&Method::GET, ["stats", "summary"]) => json(&figures::summary(&self.options, &self.pods.list()).await),
            (&Method::GET, ["metrics", "resource"]) => figures::text(&figures::resource(&self.options, &self.pods.list()).await),
            (&Method::GET, ["metrics", "cadvisor"]) => figures::text(&figures::cadvisor(&self.options, &self.pods.list()).await),
            (&Method::GET, ["metrics"]) => figures::text(&figures::kubelet(&self.options, &self.pods.list()).await),
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    fn list(&self) -> Response<Body> {
        let items: Vec<_> = self.pods.list().iter().filter_map(|pod| serde_json::to_value(pod.as_ref()).ok()).collect();
        json(&serde_json::json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items }))
    }

    fn exec(&self, container: Container, query: &Query, request: Request<Incoming>) -> Response<Body> {
        let command = query.all("command");
        if command.is_empty() {
            return text(StatusCode::BAD_REQUEST, "you must specify at least 1 of command");
        }
        let wanted = streams::Wanted::of(query);
        let (runtime, asked) = (Arc::clone(&self.runtime), ExecRequest { command, stdin: wanted.stdin, tty: wanted.tty });
        let begin = async move { runtime.exec(&container.id, asked).await };
        streams::answer(wanted, request, Box::new(|| Box::pin(begin)))
    }

    fn attach(&self, container: Container, query: &Query, request: Request<Incoming>) -> Response<Body> {
        if container.state != ContainerState::Running {
            let message = format!("container {} not found in pod: it is not running", container.name);
            return text(StatusCode::BAD_REQUEST, message);
        }
        let wanted = streams::Wanted::of(query);
        let runtime = Arc::clone(&self.runtime);
        let begin = async move { runtime.attach(&container.id, wanted.stdin).await };
        streams::answer(wanted, request, Box::new(|| Box::pin(begin)))
    }

    /// A command that is waited for; its output alone.
    async fn run(&self, container: &Container, query: &Query) -> Response<Body> {
        let command = query.all("cmd").iter().flat_map(|cmd| cmd.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
        match self.runtime.exec_sync(&container.id, command, RUN_TIMEOUT).await {
            Ok(result) => {
                let output = [result.stdout, result.stderr].concat();
                text(StatusCode::OK, String::from_utf8_lossy(&output).into_owned())
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    /// The pod's sandbox, for connections into it.
    async fn sandbox(&self, namespace: &str, pod: &str) -> Result<streams::port_forward::Target, Response<Body>> {
        let Some(found) = self.pods.get(namespace, pod) else {
            return Err(text(StatusCode::NOT_FOUND, format!("pods \"{pod}\" not found")));
        };
        let uid = model::uid(&found).to_owned();
        let sandboxes = self.runtime.list_sandboxes().await.unwrap_or_default();
        let ready = sandboxes.into_iter().find(|sandbox| sandbox.pod_uid == uid && sandbox.state == SandboxState::Ready);
        let Some(sandbox) = ready else {
            return Err(text(StatusCode::BAD_REQUEST, format!("unable to forward port because pod {pod} is not running")));
        };
        let runtime = Arc::clone(&self.runtime);
        Ok(streams::port_forward::Target { runtime, sandbox: sandbox.id, pod: pod.to_owned(), uid })
    }

    /// The newest container of that name, or the one before it; a refusal in Kubernetes' words.
    async fn container(&self, namespace: &str, pod: &str, name: &str, previous: bool) -> Result<Container, Response<Body>> {
        let Some(found) = self.pods.get(namespace, pod) else {
            return Err(text(StatusCode::NOT_FOUND, format!("pods \"{pod}\" not found")));
        };
        if model::container(&found, name).is_none() {
            return Err(text(StatusCode::BAD_REQUEST, format!("container {name} is not valid for pod {pod}")));
        }
        let containers = self.runtime.list_containers().await.unwrap_or_default();
        let uid = model::uid(&found);
        let mut ours: Vec<_> = containers
            .into_iter()
            .filter(|container| {
                container.name == name && container.labels.get("io.kubernetes.pod.uid").is_some_and(|own| own == uid)
            })
            .filter(|container| container.state != ContainerState::Created)
            .collect();
        ours.sort_by_key(|container| std::cmp::Reverse(container.attempt));
        let mut ours = ours.into_iter().skip(usize::from(previous));
        ours.next().ok_or_else(|| {
            let words = if previous {
                format!("previous terminated container \"{name}\" in pod \"{pod}\" not found")
            } else {
                format!("container \"{name}\" in pod \"{pod}\" is waiting to start: {}", waiting_reason(&found, name))
            };
            text(StatusCode::BAD_REQUEST, words)
        })
    }
}

fn waiting_reason(pod: &Pod, name: &str) -> String {
    let status = pod.status.as_ref();
    let all =
        status.into_iter().flat_map(|status| status.container_statuses.iter().chain(&status.init_container_statuses).flatten());
    let own = all.into_iter().find(|status| status.name == name);
    let reason = own.and_then(|own| own.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let trying = ["ErrImagePull", "ImagePullBackOff"];
    match reason {
        Some(reason) if trying.contains(&reason.as_str()) => "trying and failing to pull image".to_owned(),
        Some(reason) => reason,
        None => "ContainerCreating".to_owned(),
    }
}

/// A query, for tests.
#[cfg(test)]
fn query(pairs: &[(&str, &str)]) -> Query {
    Query(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}
