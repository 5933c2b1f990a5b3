//! WebSocket: handshakes, the channels of commands, and bytes carried in messages.
//!
//! Each message of a command begins with the number of its channel: 0 input, 1 output, 2 errors, 3 the result, 4 the
//! size of the terminal; 255 (version 5) closes the channel that it names. Before version 4 the result is plain words,
//! and the variants with base64 send text. KEP-4006.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, header};
use serde_json::Value;
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, sync::mpsc};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use super::{Connection, Incoming, MESSAGES_MAX, Outgoing, Remote, Wanted};

const INPUT: u8 = 0;
const OUTPUT: u8 = 1;
const ERRORS: u8 = 2;
const RESULT: u8 = 3;
const SIZE: u8 = 4;
const CLOSE: u8 = 255;
/// Bytes in flight between a tunnel and what speaks through it.
const TUNNEL_BYTES: usize = 64 * 1024;

/// How channels and results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// As in the handshake.
    pub name: &'static str,
    /// Text messages with base64 in place of binary ones.
    base64: bool,
    /// The result as a Status, not as words.
    status: bool,
}

const fn protocol(name: &'static str, base64: bool, status: bool) -> Protocol {
    Protocol { name, base64, status }
}

/// The best one first.
const PROTOCOLS: [Protocol; 5] = [
    protocol("v5.channel.k8s.io", false, true),
    protocol("v4.channel.k8s.io", false, true),
    protocol("v4.base64.channel.k8s.io", true, true),
    protocol("channel.k8s.io", false, false),
    protocol("base64.channel.k8s.io", true, false),
];
/// Of a client that offers nothing.
const NONE: Protocol = protocol("", false, false);

impl Protocol {
    /// The best protocol that both sides know.
    pub fn choose(headers: &HeaderMap) -> Result<Self, String> {
        let offered = super::offered(headers, header::SEC_WEBSOCKET_PROTOCOL);
        if offered.is_empty() {
            return Ok(NONE);
        }
        let known = PROTOCOLS.into_iter().find(|known| offered.iter().any(|one| one == known.name));
        known.ok_or_else(|| format!("unable to upgrade: no common protocol of {offered:?}"))
    }

    fn message(self, channel: u8, contents: &[u8]) -> Message {
        if self.base64 {
            return Message::text(format!("{channel}{}", STANDARD.encode(contents)));
        }
        let mut bytes = BytesMut::with_capacity(contents.len() + 1);
        bytes.put_u8(channel);
        bytes.put_slice(contents);
        Message::Binary(bytes.freeze())
    }

    fn outgoing(self, said: &Outgoing) -> Option<Message> {
        match said {
            Outgoing::Output(piece) => Some(self.message(OUTPUT, piece)),
            Outgoing::Errors(piece) => Some(self.message(ERRORS, piece)),
            Outgoing::Result(status) if self.status => Some(self.message(RESULT, status.to_string().as_bytes())),
            Outgoing::Result(status) if status["status"] == "Success" => None,
            Outgoing::Result(status) => Some(self.message(RESULT, status["message"].as_str().unwrap_or_default().as_bytes())),
        }
    }

    fn incoming(self, message: Message) -> Option<Incoming> {
        match message {
            Message::Binary(bytes) if !self.base64 => take(*bytes.first()?, bytes.slice(1..)),
            Message::Text(text) if self.base64 => {
                let (channel, contents) = text.as_str().split_at_checked(1)?;
                take(channel.parse().ok()?, STANDARD.decode(contents).ok()?.into())
            }
            _ => None,
        }
    }
}

fn take(channel: u8, contents: Bytes) -> Option<Incoming> {
    match channel {
        INPUT if !contents.is_empty() => Some(Incoming::Input(contents)),
        SIZE => size(&contents),
        CLOSE if contents.first() == Some(&INPUT) => Some(Incoming::EndOfInput),
        _ => None,
    }
}

/// The size of a terminal, as clients write it.
pub fn size(contents: &[u8]) -> Option<Incoming> {
    let size: Value = serde_json::from_slice(contents).ok()?;
    let number = |name: &str| size[name].as_u64().and_then(|value| u16::try_from(value).ok());
    Some(Incoming::Size(number("Width")?, number("Height")?))
}

/// The key of a handshake, if the request is one.
pub fn key(headers: &HeaderMap) -> Option<String> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.to_str().ok()?;
    super::upgrades_to(headers, "websocket").then(|| key.to_owned())
}

/// What the server answers to a key.
pub fn accept(key: &str) -> String {
    derive_accept_key(key.as_bytes())
}

/// The regular end, said as such: clients take any other end for a failure.
fn closing() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Default::default() }))
}

/// The client of a command.
pub async fn connect(connection: Connection, protocol: Protocol, wanted: Wanted) -> Remote {
    let socket = WebSocketStream::from_raw_socket(connection, Role::Server, None).await;
    let (mut sink, mut source) = socket.split();
    let (sender, incoming) = mpsc::channel(MESSAGES_MAX);
    let (outgoing, mut said) = mpsc::channel::<Outgoing>(MESSAGES_MAX);
    tokio::spawn(async move {
        while let Some(Ok(message)) = source.next().await {
            if matches!(message, Message::Close(_)) {
                return;
            }
            if let Some(incoming) = protocol.incoming(message)
                && sender.send(incoming).await.is_err()
            {
                return;
            }
        }
    });
    tokio::spawn(async move {
        // An empty message says that the session has come about.
        let first = if wanted.stdout { OUTPUT } else { RESULT };
        let mut open = sink.send(protocol.message(first, b"")).await.is_ok();
        while let (true, Some(said)) = (open, said.recv().await) {
            if let Some(message) = protocol.outgoing(&said) {
                open = sink.send(message).await.is_ok();
            }
        }
        // The client may be gone.
        let _ = sink.send(closing()).await;
        let _ = sink.close().await;
    });
    Remote { incoming, outgoing }
}

/// A connection of bytes that travel in binary messages.
pub async fn tunnel(connection: Connection) -> tokio::io::DuplexStream {
    let socket = WebSocketStream::from_raw_socket(connection, Role::Server, None).await;
    let (mut sink, mut source) = socket.split();
    let (near, far) = tokio::io::duplex(TUNNEL_BYTES);
    let (mut from, mut to) = tokio::io::split(far);
    tokio::spawn(async move {
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(bytes) if to.write_all(&bytes).await.is_err() => return,
                Message::Close(_) => break,
                _ => {}
            }
        }
        // Whoever read may have gone.
        let _ = to.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(TUNNEL_BYTES / 2);
            match from.read_buf(&mut buffer).await {
                Ok(1..) if sink.send(Message::Binary(buffer.split().freeze())).await.is_ok() => {}
                _ => break,
            }
        }
        // The client may be gone.
        let _ = sink.send(closing()).await;
        let _ = sink.close().await;
    });
    near
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn chosen(offer: &str) -> Result<&'static str, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offer.parse().unwrap());
        Protocol::choose(&headers).map(|protocol| protocol.name)
    }

    #[test]
    fn the_best_common_protocol_is_taken() {
        assert_eq!(chosen("v4.channel.k8s.io, v5.channel.k8s.io").unwrap(), "v5.channel.k8s.io");
        assert_eq!(chosen("channel.k8s.io").unwrap(), "channel.k8s.io");
        assert!(chosen("v9.channel.k8s.io").is_err());
        assert_eq!(Protocol::choose(&HeaderMap::new()).unwrap(), NONE);
    }

    #[test]
    fn messages_of_each_protocol() {
        let success = Outgoing::Result(json!({"status": "Success"}));
        let failed = Outgoing::Result(json!({"status": "Failure", "message": "no"}));
        let [v5, _, _, old, old_base64] = PROTOCOLS;
        assert_eq!(v5.outgoing(&success).unwrap().into_data()[0], RESULT);
        assert!(old.outgoing(&success).is_none(), "an old client takes any word for a failure");
        assert_eq!(old.outgoing(&failed).unwrap().into_data(), "\u{3}no");
        assert_eq!(old_base64.outgoing(&Outgoing::Output("hi".into())).unwrap(), Message::text("1aGk="));
        assert_eq!(old_base64.incoming(Message::text("0aGk=")), Some(Incoming::Input("hi".into())));
        let size = Message::binary(b"\x04{\"Width\":80,\"Height\":24}".to_vec());
        assert_eq!(v5.incoming(size), Some(Incoming::Size(80, 24)));
        assert_eq!(v5.incoming(Message::binary(b"\xff\x00".to_vec())), Some(Incoming::EndOfInput));
        assert_eq!(v5.incoming(Message::binary(Vec::new())), None);
    }
}
