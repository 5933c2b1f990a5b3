//! A log over WebSocket, for clients that cannot read a body as it comes: browsers, and the conformance suite.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kontiki_api::status::Status;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use crate::{response::Body, service::Call};

const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

/// Whether the client wants messages.
pub fn is_asked_for(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket")) && headers.contains_key(header::SEC_WEBSOCKET_KEY)
}

/// The protocol that both sides know; none where the client names none.
fn protocol(headers: &HeaderMap) -> Result<&'static str, Status> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|value| value.to_str().ok());
    let offered: Vec<&str> = offered.flat_map(|list| list.split(',').map(str::trim)).collect();
    if offered.is_empty() {
        return Ok("");
    }
    let known = [BINARY, BASE64].into_iter().find(|known| offered.contains(known));
    known.ok_or_else(|| Status::bad_request(format!("unable to upgrade: no common protocol of {offered:?}")))
}

fn message(protocol: &str, piece: Bytes) -> Message {
    if protocol == BASE64 { Message::text(STANDARD.encode(piece)) } else { Message::Binary(piece) }
}

/// Takes the connection over and sends the log's pieces as they come.
pub fn answer(call: &Call, log: Incoming) -> Result<Response<Body>, Status> {
    let protocol = protocol(&call.headers)?;
    let key = call.headers.get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let upgrade = call.upgrade.lock().take();
    let (Some(key), Some(upgrade)) = (key, upgrade) else { return Err(Status::bad_request("Upgrade request required")) };
    let accept = derive_accept_key(key.as_bytes());
    tokio::spawn(async move {
        let connection = match upgrade.await {
            Ok(connection) => TokioIo::new(connection),
            Err(error) => return tracing::debug!(%error, "a log was not taken over"),
        };
        let socket = WebSocketStream::from_raw_socket(connection, Role::Server, None).await;
        let (mut sink, mut source) = socket.split();
        let send = async {
            let mut pieces = log.into_data_stream();
            while let Some(Ok(piece)) = pieces.next().await {
                if sink.send(message(protocol, piece)).await.is_err() {
                    return;
                }
            }
            // The regular end; the client may be gone.
            let _ = sink.send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Default::default() }))).await;
            let _ = sink.close().await;
        };
        tokio::select! {
            () = send => {}
            // A client that hangs up wants no more.
            () = async { while let Some(Ok(_)) = source.next().await {} } => {}
        }
    });
    let mut answer = Response::new(crate::response::full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let mut values = vec![
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    if !protocol.is_empty() {
        values.push((header::SEC_WEBSOCKET_PROTOCOL, protocol.to_owned()));
    }
    for (name, value) in values {
        if let Ok(value) = value.parse() {
            answer.headers_mut().insert(name, value);
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn messages_as_the_client_wants_them() {
        let mut headers = HeaderMap::new();
        assert_eq!(protocol(&headers).unwrap(), "");
        assert!(!is_asked_for(&headers));
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, "binary.k8s.io".parse().unwrap());
        assert_eq!(protocol(&headers).unwrap(), BINARY);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, "channel.k8s.io".parse().unwrap());
        assert!(protocol(&headers).is_err());
        assert_eq!(message(BASE64, Bytes::from_static(b"hi")), Message::text("aGk="));
    }
}
