//! Connections to pods and nodes.

use std::{sync::LazyLock, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{pass::Outgoing, target::Target};
use crate::{
    outbound::tls::{self, Trust},
    service::ApiServer,
};

/// How long a connection may take to come about.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Sends a request; returns with the head of the answer.
pub async fn send(server: &ApiServer, target: &Target, request: Request<Outgoing>) -> Result<Response<Incoming>, String> {
    let stream = within(&target.host, target.port, async {
        let stream = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(|error| error.to_string())?;
        // Slower is not wrong.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    })
    .await?;
    let connector = match (target.tls, target.kubelet, &server.options.kubelet) {
        (false, ..) => return over(stream, request).await,
        (true, true, Some(kubelet)) => kubelet.connector(),
        _ => ANY.clone()?,
    };
    let name = ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
    let stream =
        within(&target.host, target.port, async { connector.connect(name, stream).await.map_err(|error| error.to_string()) })
            .await?;
    over(stream, request).await
}

async fn within<T>(host: &str, port: u16, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let done = tokio::time::timeout(CONNECT_DEADLINE, work).await.unwrap_or_else(|_| Err("i/o timeout".to_owned()));
    done.map_err(|error| format!("dial tcp {host}:{port}: {error}"))
}

async fn over<S>(stream: S, request: Request<Outgoing>) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.map_err(|error| error.to_string())
}

/// TLS with whatever certificate a pod has: users' own servers have no authority that this server could know. The
/// address comes from the API's objects, and what is asked was allowed to the caller.
static ANY: LazyLock<Result<TlsConnector, String>> = LazyLock::new(|| tls::config(Trust::Anyone, None).map(TlsConnector::from));
