//! Connections with or without TLS, over ports or sockets' files: accepted in tasks of their own, opened
//! when first used.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};

use super::{TlsError, TlsFiles, client_config};
use crate::place::{Address, Place};
use crate::socket::{Accepted, Listener};

/// A handshake that takes longer is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that wait to be taken.
const ACCEPTED_MAX: usize = 64;

/// A stream with or without TLS.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A stream that is about to be.
pub type Dialing = Pin<Box<dyn Future<Output = std::io::Result<Box<dyn Io>>> + Send>>;

/// How a stream to a host and port comes to be.
pub trait Dial: Send + Sync + 'static {
    /// Opens one.
    fn dial(&self, host: String, port: u16) -> Dialing;
}

/// Over TCP.
struct Tcp;

impl Dial for Tcp {
    fn dial(&self, host: String, port: u16) -> Dialing {
        Box::pin(async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            let stream: Box<dyn Io> = Box::new(stream);
            Ok(stream)
        })
    }
}

/// An accepted or opened connection.
pub struct Connection {
    io: Box<dyn Io>,
    peer: Option<Arc<str>>,
}

impl Connection {
    /// In the clear.
    #[must_use]
    pub fn clear(io: Box<dyn Io>) -> Self {
        Self { io, peer: None }
    }

    /// The common name in the certificate that the other side showed.
    #[must_use]
    pub fn common_name(&self) -> Option<Arc<str>> {
        self.peer.clone()
    }
}

impl Connected for Connection {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Accepts connections in a task of its own, so that a slow handshake holds up nobody.
#[must_use]
pub fn accept(
    listener: Listener,
    config: Option<Arc<ServerConfig>>,
    stop: tokio_util::sync::CancellationToken,
) -> mpsc::Receiver<std::io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(ACCEPTED_MAX);
    let acceptor = config.map(TlsAcceptor::from);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
                () = sender.closed() => return,
            };
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            match accepted {
                Ok(Accepted::Port(stream)) => {
                    // Without it small answers would wait for the other side's acknowledgement.
                    drop(stream.set_nodelay(true));
                    let remote = stream.peer_addr().map(|address| address.to_string()).unwrap_or_default();
                    drop(tokio::spawn(shake_hands(stream, remote, acceptor, sender)));
                }
                Ok(Accepted::File(stream)) => {
                    let remote = process(&stream);
                    drop(tokio::spawn(shake_hands(stream, remote, acceptor, sender)));
                }
                // Out of descriptors, or gone already: let others finish first.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    });
    receiver
}

/// Who is at the other end of a socket's file, which has no address.
fn process(stream: &UnixStream) -> String {
    let Ok(other) = stream.peer_cred() else { return String::new() };
    let process = other.pid().map_or_else(|| "a process".to_owned(), |process| format!("process {process}"));
    format!("{process} of user {}", other.uid())
}

async fn shake_hands<S: Io + 'static>(
    stream: S,
    remote: String,
    acceptor: Option<TlsAcceptor>,
    sender: mpsc::Sender<std::io::Result<Connection>>,
) {
    let connection = match acceptor {
        None => Connection::clear(Box::new(stream)),
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let peer = shown.and_then(super::names::common_name).map(Arc::from);
                Connection { io: Box::new(stream), peer }
            }
            Ok(Err(error)) => {
                tracing::warn!(remote = %remote, error = %super::names::handshake_error(&error), "rejected connection");
                return;
            }
            Err(_) => return,
        },
    };
    drop(sender.send(Ok(connection)).await);
}

/// Opens connections to peers.
#[derive(Clone)]
pub struct Connector {
    config: Option<Arc<ClientConfig>>,
    dial: Arc<dyn Dial>,
}

impl Connector {
    /// With an identity, or in the clear for tests.
    pub fn new(files: Option<&TlsFiles>) -> Result<Self, TlsError> {
        Ok(Self { config: files.map(client_config).transpose()?, dial: Arc::new(Tcp) })
    }

    /// In the clear, over streams of the caller's.
    #[must_use]
    pub fn over(dial: Arc<dyn Dial>) -> Self {
        Self { config: None, dial }
    }

    /// A channel that connects when first used, and again when it broke.
    #[must_use]
    pub fn channel(&self, url: &str) -> Channel {
        let target = Target::of(url);
        let address = match &target {
            Target::Port => url.split_once("://").map_or(url, |(_, address)| address).trim_end_matches('/'),
            // What HTTP calls the other side matters to nobody there.
            Target::File { .. } => "localhost",
        };
        // This connector does the TLS itself, so the channel must not ask for it.
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.unwrap_or_else(|_| Endpoint::from_static("http://0.0.0.0:0"));
        endpoint
            .http2_keep_alive_interval(Duration::from_secs(1))
            .keep_alive_timeout(Duration::from_secs(1))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(8 << 20)
            .connect_with_connector_lazy(tower_connector(self.clone(), target))
    }
}

/// What a channel leads to.
#[derive(Clone)]
enum Target {
    /// The host and port that the request names.
    Port,
    /// A socket's file.
    File {
        path: PathBuf,
        /// The name in the certificate that is expected, if there is TLS.
        host: Option<String>,
    },
}

impl Target {
    fn of(url: &str) -> Self {
        let Ok(place) = url.parse::<Place>() else { return Self::Port };
        let host = place.tls.then(|| place.host().to_owned());
        match place.address {
            Address::Port(_) => Self::Port,
            Address::File(path) => Self::File { path, host },
        }
    }
}

type Opening = Pin<Box<dyn Future<Output = std::io::Result<TokioIo<Connection>>> + Send>>;

fn tower_connector(
    connector: Connector,
    target: Target,
) -> impl tower::Service<Uri, Response = TokioIo<Connection>, Error = std::io::Error, Future = Opening> + Send + Clone {
    tower::service_fn(move |uri: Uri| -> Opening {
        let (connector, target) = (connector.clone(), target.clone());
        Box::pin(async move {
            let opening = open(uri, target, connector);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, opening).await {
                Ok(connection) => connection.map(TokioIo::new),
                Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
            }
        })
    })
}

async fn open(uri: Uri, target: Target, connector: Connector) -> std::io::Result<Connection> {
    let (stream, host): (Box<dyn Io>, _) = match target {
        Target::Port => {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            (connector.dial.dial(host.clone(), uri.port_u16().unwrap_or(2380)).await?, Some(host))
        }
        Target::File { path, host } => (Box::new(UnixStream::connect(path).await?), host),
    };
    let Some((config, host)) = connector.config.zip(host) else {
        return Ok(Connection::clear(stream));
    };
    let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok(Connection { io: Box::new(stream), peer: None })
}
