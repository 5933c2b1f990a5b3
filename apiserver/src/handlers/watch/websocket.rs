//! Watches over WebSocket: an event a message, text for JSON, binary for protobuf.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kontiki_api::status::Status;
use tokio::sync::mpsc;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use crate::{
    negotiate::{Accepted, Encoding},
    response::{self, Body},
    service::Call,
};

/// A client that waits for its connection to become a WebSocket.
pub(super) struct Socket {
    upgrade: OnUpgrade,
    accept_key: HeaderValue,
    protocol: Option<HeaderValue>,
}

/// The socket that a call offers; `None` for an ordinary one.
///
/// # Errors
/// 400: the offer is malformed.
pub(super) fn offered(call: &Call) -> Result<Option<Socket>, Status> {
    let text = |name: header::HeaderName| call.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !text(header::UPGRADE).eq_ignore_ascii_case("websocket") {
        return Ok(None);
    }
    let refuse = |why: &str| Status::bad_request(why.to_owned());
    let upgrade = call.upgrade.lock().take().ok_or_else(|| refuse("Upgrade request required"))?;
    let key = call.headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| refuse("missing Sec-WebSocket-Key"))?;
    let accept_key = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|error| refuse(&error.to_string()))?;
    // A client that offers one protocol gets it; frames are the same in all.
    let protocol = call.headers.get(header::SEC_WEBSOCKET_PROTOCOL).cloned();
    let protocol = protocol.filter(|value| !value.as_bytes().contains(&b','));
    Ok(Some(Socket { upgrade, accept_key, protocol }))
}

impl Socket {
    /// Sends frames until they or the client end.
    pub(super) fn serve(self, frames: mpsc::Receiver<Bytes>, accepted: &Accepted) -> Response<Body> {
        let encoding = accepted.encoding;
        let upgrade = self.upgrade;
        tokio::spawn(async move {
            match upgrade.await {
                Ok(connection) => {
                    let socket = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, None).await;
                    send(socket, frames, encoding).await;
                }
                Err(error) => tracing::debug!(%error, "a WebSocket did not come about"),
            }
        });
        let mut answer = Response::new(response::full(Bytes::new()));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept_key);
        if let Some(protocol) = self.protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        answer
    }
}

async fn send<S>(socket: WebSocketStream<S>, mut frames: mpsc::Receiver<Bytes>, encoding: Encoding)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut sink, mut source) = socket.split();
    loop {
        tokio::select! {
            frame = frames.recv() => {
                let Some(frame) = frame else { break };
                if sink.send(message(frame, encoding)).await.is_err() {
                    return;
                }
            }
            // What the client says is not listened to, only that it is there.
            said = source.next() => if !matches!(said, Some(Ok(_))) {
                return;
            }
        }
    }
    let _ = sink.close().await;
}

/// A message has its own length: a frame of protobuf is sent without the one that it begins with.
fn message(frame: Bytes, encoding: Encoding) -> Message {
    match (encoding, String::from_utf8(frame.to_vec())) {
        (Encoding::Json | Encoding::Yaml, Ok(line)) => Message::text(line),
        _ => Message::binary(frame.slice(4.min(frame.len())..)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_an_event() {
        assert_eq!(message(Bytes::from_static(b"{}\n"), Encoding::Json), Message::text("{}\n"));
        assert_eq!(message(Bytes::from_static(b"\0\0\0\x01x"), Encoding::Protobuf), Message::binary("x"));
    }

    #[tokio::test]
    async fn frames_arrive_as_messages_until_they_end() {
        let (near, far) = tokio::io::duplex(1024);
        let (sender, frames) = mpsc::channel(4);
        let server = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
        tokio::spawn(send(server, frames, Encoding::Json));
        let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        assert!(sender.send(Bytes::from_static(b"{\"type\":\"ADDED\"}\n")).await.is_ok());
        let first = client.next().await;
        assert!(matches!(first, Some(Ok(Message::Text(text))) if text.as_str() == "{\"type\":\"ADDED\"}\n"));
        drop(sender);
        assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
    }
}
