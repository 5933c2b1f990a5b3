//! The server: hickory's sockets and messages around our answers.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use hickory_proto::op::{Edns, Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::{
    Server as HickoryServer,
    net::{runtime::Time, xfer::Protocol},
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use parking_lot::{Mutex, RwLock};
use tokio::{
    net::{TcpListener, UdpSocket},
    process::Command,
};
use tokio_util::sync::CancellationToken;

use super::{
    cache::Cache,
    metrics::{self, Asked},
    resolve::{Reply, Resolver},
};
use crate::{Error, Options, http, index::Index};

/// A connection that is silent for this long is closed.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers that wait for a slow reader of one connection.
const STREAM_BUFFER: usize = 32;
/// Port of DNS.
const PORT: u16 = 53;
/// Largest datagram that arrives everywhere without being cut.
const DATAGRAM_BYTES_MAX: u16 = 1232;

/// The server, listening.
pub struct Server {
    server: HickoryServer<Handler>,
    metrics: Option<TcpListener>,
    address: Ipv4Addr,
}

struct Handler {
    resolver: Resolver,
}

impl Server {
    /// Takes the address on this node, and listens.
    pub async fn bind(options: &Options, index: Arc<RwLock<Index>>) -> Result<Self, Error> {
        let address = options.dns_address;
        let failed = |message: String| Error::Dns { address, message };
        set_address("replace", address).await.map_err(failed)?;
        let resolver = Resolver {
            index,
            domain: options.cluster_domain.to_lowercase(),
            server: IpAddr::V4(address),
            upstream: options.upstream.clone(),
            cache: Mutex::new(Cache::default()),
        };
        let mut server = HickoryServer::new(Handler { resolver });
        let datagrams = UdpSocket::bind((address, PORT)).await.map_err(|error| failed(error.to_string()))?;
        let streams = TcpListener::bind((address, PORT)).await.map_err(|error| failed(error.to_string()))?;
        server.register_socket(datagrams);
        server.register_listener(streams, STREAM_TIMEOUT, STREAM_BUFFER);
        let metrics = match TcpListener::bind((address, metrics::PORT)).await {
            Ok(listener) => Some(listener),
            Err(error) => {
                tracing::warn!(%error, "no metrics of DNS");
                None
            }
        };
        Ok(Self { server, metrics, address })
    }

    /// Serves until `cancel`, then gives the address back.
    pub async fn serve(mut self, cancel: CancellationToken) {
        if let Some(listener) = self.metrics.take() {
            let registry = metrics::registry();
            tokio::spawn(http::serve(listener, move |path| http::metrics(path, &registry), cancel.clone()));
        }
        cancel.cancelled().await;
        if let Err(error) = self.server.shutdown_gracefully().await {
            tracing::debug!(%error, "the DNS server did not end cleanly");
        }
        if let Err(error) = set_address("del", self.address).await {
            tracing::debug!(error, "the DNS server's address stays");
        }
    }
}

/// The address belongs to every node at once; pods reach their own node's.
async fn set_address(verb: &str, address: Ipv4Addr) -> Result<(), String> {
    let output = Command::new("ip").args(["address", verb, &format!("{address}/32"), "dev", "lo"]).output().await;
    let output = output.map_err(|error| format!("start ip (Debian and Ubuntu: apt-get install iproute2): {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut response_handle: R) -> ResponseInfo {
        let began = Instant::now();
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        let reply = self.reply(request).await;
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        // Whoever speaks of larger datagrams gets them, within what arrives everywhere.
        let mut edns = Edns::new();
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(asked) = &request.edns {
            edns.set_max_payload(asked.max_payload().clamp(512, DATAGRAM_BYTES_MAX));
            builder.edns(&edns);
        }
        let soa: [&hickory_proto::rr::Record; 0] = [];
        let response = builder.build(metadata, &reply.answers, &reply.authorities, soa, &reply.additionals);
        self.count(request, reply.code, began.elapsed());
        match response_handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "cannot answer a query");
                metadata.response_code = ResponseCode::ServFail;
                ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
            }
        }
    }
}

impl Handler {
    async fn reply(&self, request: &Request) -> Reply {
        let Ok(info) = request.request_info() else {
            let code = ResponseCode::FormErr;
            return Reply { code, authoritative: false, answers: vec![], authorities: vec![], additionals: vec![] };
        };
        let asked = info.query.original().name().clone();
        self.resolver.reply(&asked, info.query.query_type(), request.as_slice()).await
    }

    fn count(&self, request: &Request, code: ResponseCode, took: Duration) {
        let Ok(info) = request.request_info() else { return };
        let own = self.resolver.is_own(info.query.original().name());
        let asked = Asked {
            zone: if own { format!("{}.", self.resolver.domain) } else { ".".to_owned() },
            datagram: request.protocol() == Protocol::Udp,
            v4: request.src().is_ipv4(),
            kind: info.query.query_type().to_string(),
            code: name_of(code),
        };
        metrics::count(asked, took);
    }
}

/// A code as CoreDNS writes it.
fn name_of(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => u16::from(other).to_string(),
    }
}
