//! The server: hickory's sockets and messages around our answers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use async_trait::async_trait;
use hickory_proto::{
    op::{Header, HeaderCounts, Message, Metadata, ResponseCode},
    rr::{
        Name, RData, Record as WireRecord, RecordType,
        rdata::{A, CNAME, PTR, SOA, SRV, TXT},
    },
};
use hickory_server::{
    Server as HickoryServer,
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use tokio::{
    net::{TcpListener, UdpSocket},
    process::Command,
};
use tokio_util::sync::CancellationToken;

use super::{
    answer::{Answer, Kind, Record, Zone},
    forward,
};
use crate::{Error, Options, Picture};

/// Seconds that an answer may be remembered: endpoints change fast.
const TTL: u32 = 5;
/// A connection that is silent for this long is closed.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers that wait for a slow reader of one connection.
const STREAM_BUFFER: usize = 32;
/// Port of DNS.
const PORT: u16 = 53;

/// The server, listening.
pub struct Server {
    server: HickoryServer<Handler>,
    address: Ipv4Addr,
}

struct Handler {
    picture: Picture,
    domain: String,
    upstream: Vec<SocketAddr>,
}

impl Server {
    /// Takes the address on this node, and listens.
    pub async fn bind(options: &Options, picture: Picture) -> Result<Self, Error> {
        let address = options.dns_address;
        let failed = |message: String| Error::Dns { address, message };
        set_address("replace", address).await.map_err(failed)?;
        let handler = Handler { picture, domain: options.cluster_domain.to_lowercase(), upstream: options.upstream.clone() };
        let mut server = HickoryServer::new(handler);
        let datagrams = UdpSocket::bind((address, PORT)).await.map_err(|error| failed(error.to_string()))?;
        let streams = TcpListener::bind((address, PORT)).await.map_err(|error| failed(error.to_string()))?;
        server.register_socket(datagrams);
        server.register_listener(streams, STREAM_TIMEOUT, STREAM_BUFFER);
        Ok(Self { server, address })
    }

    /// Serves until `cancel`, then gives the address back.
    pub async fn serve(mut self, cancel: CancellationToken) {
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

/// What goes into a response.
struct Reply {
    metadata: Metadata,
    answers: Vec<WireRecord>,
    authorities: Vec<WireRecord>,
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut response_handle: R) -> ResponseInfo {
        let reply = self.reply(request).await;
        let builder = MessageResponseBuilder::from_message_request(request);
        let soa: [&WireRecord; 0] = [];
        let response = builder.build(reply.metadata, &reply.answers, &reply.authorities, soa, &[]);
        match response_handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "cannot answer a query");
                let mut metadata = reply.metadata;
                metadata.response_code = ResponseCode::ServFail;
                ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
            }
        }
    }
}

impl Handler {
    async fn reply(&self, request: &Request) -> Reply {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        let Ok(info) = request.request_info() else {
            metadata.response_code = ResponseCode::FormErr;
            return Reply { metadata, answers: Vec::new(), authorities: Vec::new() };
        };
        let asked = info.query.original().name().clone();
        let name = asked.to_ascii().to_lowercase();
        let kind = match info.query.query_type() {
            RecordType::A => Kind::A,
            RecordType::SRV => Kind::Srv,
            RecordType::PTR => Kind::Ptr,
            RecordType::TXT => Kind::Txt,
            _ => Kind::Other,
        };
        let (services, slices) = (self.picture.services.list(), self.picture.slices.list());
        let zone = Zone { domain: &self.domain, services: &services, slices: &slices };
        match zone.answer(name.trim_end_matches('.'), kind) {
            Answer::Found(records) => {
                metadata.authoritative = true;
                let answers: Vec<_> = records.iter().filter_map(|record| wire(&asked, record)).collect();
                let authorities = if answers.is_empty() { self.authority() } else { Vec::new() };
                Reply { metadata, answers, authorities }
            }
            Answer::NoSuchName => {
                metadata.authoritative = true;
                metadata.response_code = ResponseCode::NXDomain;
                Reply { metadata, answers: Vec::new(), authorities: self.authority() }
            }
            Answer::Elsewhere => self.elsewhere(request, metadata).await,
        }
    }

    async fn elsewhere(&self, request: &Request, mut metadata: Metadata) -> Reply {
        let answer = forward::forward(&self.upstream, request.as_slice()).await;
        match answer
            .map_err(|error| error.to_string())
            .and_then(|bytes| Message::from_vec(&bytes).map_err(|error| error.to_string()))
        {
            Ok(message) => Reply { metadata: message.metadata, answers: message.answers, authorities: message.authorities },
            Err(error) => {
                tracing::debug!(error, "no resolver answers");
                metadata.response_code = ResponseCode::ServFail;
                Reply { metadata, answers: Vec::new(), authorities: Vec::new() }
            }
        }
    }

    /// Says how long a negative answer may be remembered.
    fn authority(&self) -> Vec<WireRecord> {
        let name = |text: String| Name::from_ascii(text).ok();
        let parts = (
            name(format!("{}.", self.domain)),
            name(format!("ns.dns.{}.", self.domain)),
            name(format!("hostmaster.{}.", self.domain)),
        );
        let (Some(zone), Some(server), Some(mail)) = parts else { return Vec::new() };
        let soa = SOA::new(server, mail, 1, 7200, 1800, 86_400, TTL);
        vec![WireRecord::from_rdata(zone, TTL, RData::SOA(soa))]
    }
}

fn wire(name: &Name, record: &Record) -> Option<WireRecord> {
    let whole = |text: &String| Name::from_ascii(format!("{text}.")).ok();
    let data = match record {
        Record::A(address) => RData::A(A(*address)),
        Record::Cname(target) => RData::CNAME(CNAME(whole(target)?)),
        Record::Srv(port, target) => RData::SRV(SRV::new(0, 100, *port, whole(target)?)),
        Record::Ptr(target) => RData::PTR(PTR(whole(target)?)),
        Record::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
    };
    Some(WireRecord::from_rdata(name.clone(), TTL, data))
}
