//! Forwarded ports: each connection of the client is a pair of SPDY streams, one for the data, one for an error.
//!
//! kubectl 1.31 and later carry SPDY inside WebSocket messages, earlier ones take the connection over for it.

use std::{collections::HashMap, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::Incoming as RequestBody;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use super::{STREAM_PROTOCOL, spdy, switch, websocket};
use crate::{
    runtime::Runtime,
    server::{Body, text},
};

const PROTOCOL: &str = "portforward.k8s.io";
const TUNNELED: &str = "SPDY/3.1+portforward.k8s.io";
/// Bytes that are read at once.
const PIECE_BYTES: usize = 32 * 1024;
/// Pairs of which one stream has come.
const PENDING_MAX: usize = 256;

/// A pod whose ports are forwarded.
#[derive(Clone)]
pub struct Target {
    /// What runs it.
    pub runtime: Arc<dyn Runtime>,
    /// Its sandbox.
    pub sandbox: String,
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod.
    pub uid: String,
}

fn protocol(headers: &HeaderMap) -> Result<&'static str, String> {
    let (name, wanted): (header::HeaderName, _) = if websocket::key(headers).is_some() {
        (header::SEC_WEBSOCKET_PROTOCOL, TUNNELED)
    } else if super::upgrades_to(headers, "SPDY/3.1") {
        (header::HeaderName::from_static(STREAM_PROTOCOL), PROTOCOL)
    } else {
        return Err("Upgrade request required".to_owned());
    };
    let offered = super::offered(headers, name);
    let common = offered.iter().any(|one| one == wanted);
    common.then_some(wanted).ok_or_else(|| {
        format!("unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts [{wanted}]")
    })
}

/// Takes a connection over for forwarded ports.
pub fn answer(target: Target, mut request: Request<RequestBody>) -> Response<Body> {
    let protocol = match protocol(request.headers()) {
        Ok(protocol) => protocol,
        Err(refusal) => return text(StatusCode::BAD_REQUEST, refusal),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let response = switch(request.headers(), protocol);
    tokio::spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => return tracing::debug!(%error, "ports are not forwarded"),
        };
        let streams = if protocol == TUNNELED { spdy::serve(websocket::tunnel(upgraded).await) } else { spdy::serve(upgraded) };
        forward(target, streams).await;
    });
    response
}

/// Pairs streams up, and connects each pair to the pod.
async fn forward(target: Target, mut streams: mpsc::Receiver<spdy::Stream>) {
    let mut pending: HashMap<String, spdy::Stream> = HashMap::new();
    while let Some(stream) = streams.recv().await {
        let request = stream.header("requestid").to_owned();
        let Some(other) = pending.remove(&request) else {
            if pending.len() < PENDING_MAX {
                pending.insert(request, stream);
            }
            continue;
        };
        let (data, error) = if stream.header("streamtype") == "data" { (stream, other) } else { (other, stream) };
        let target = target.clone();
        tokio::spawn(async move {
            let port = data.header("port").to_owned();
            if let Err(reason) = join(&target, &port, data).await {
                let words = format!("error forwarding port {port} to pod {}, uid {}: {reason}", target.pod, target.uid);
                // Whoever asked may have gone.
                error.sender.send(Bytes::from(words)).await;
            }
        });
    }
}

async fn join(target: &Target, port: &str, data: spdy::Stream) -> Result<(), String> {
    let number: u16 = port.parse().map_err(|_| format!("{port:?} is no port"))?;
    let connection = target.runtime.connect(&target.sandbox, number).await.map_err(|error| error.to_string())?;
    copy(connection, data).await;
    Ok(())
}

/// Copies both ways until the pod has said everything. A client that ends its side still gets the answer; one that keeps
/// its side open, as kubectl does, waits for the end of both streams.
async fn copy(connection: TcpStream, data: spdy::Stream) {
    let spdy::Stream { mut contents, sender, .. } = data;
    let (mut from, mut to) = connection.into_split();
    let inward = async {
        while let Some(piece) = contents.recv().await {
            if to.write_all(&piece).await.is_err() {
                break;
            }
        }
        // The pod may have closed it already.
        let _ = to.shutdown().await;
        std::future::pending::<()>().await;
    };
    let outward = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE_BYTES);
            match from.read_buf(&mut buffer).await {
                Ok(1..) if sender.send(buffer.split().freeze()).await => {}
                _ => break,
            }
        }
        drop(sender);
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_ways_to_ask() {
        let mut headers = HeaderMap::new();
        headers.insert("upgrade", "SPDY/3.1".parse().unwrap());
        headers.insert(STREAM_PROTOCOL, PROTOCOL.parse().unwrap());
        assert_eq!(protocol(&headers).unwrap(), PROTOCOL);
        headers.insert("upgrade", "websocket".parse().unwrap());
        headers.insert("sec-websocket-key", "a".parse().unwrap());
        headers.insert("sec-websocket-protocol", TUNNELED.parse().unwrap());
        assert_eq!(protocol(&headers).unwrap(), TUNNELED);
    }
}
