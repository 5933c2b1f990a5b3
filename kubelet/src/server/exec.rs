//! Commands over WebSocket: `v5.channel.k8s.io` and `v4.channel.k8s.io`.
//!
//! Each message begins with the number of its stream: 0 input, 1 output, 2 errors, 3 the result as a Status,
//! 4 the size of the terminal; 255 (version 5) closes the stream that it names.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/> and KEP-4006.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use super::{Body, Query, text};
use crate::runtime::{Container, ExecRequest, ExecSession, Runtime, RuntimeError};

const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const INPUT: u8 = 0;
const OUTPUT: u8 = 1;
const ERRORS: u8 = 2;
const RESULT: u8 = 3;
const SIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Starts the command and takes the connection over.
pub async fn answer(
    runtime: &Arc<dyn Runtime>,
    container: &Container,
    query: &Query,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let headers = request.headers();
    let Some(key) = websocket_key(headers) else {
        return text(StatusCode::BAD_REQUEST, "this command needs a WebSocket connection (kubectl 1.31 or later)");
    };
    let Some(protocol) = protocol(headers) else {
        return text(StatusCode::BAD_REQUEST, format!("unable to upgrade: no common protocol of {PROTOCOLS:?}"));
    };
    let accept = derive_accept_key(key.as_bytes());
    let command = query.all("command");
    if command.is_empty() {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 of command");
    }
    let wanted = ExecRequest { command, stdin: query.is(&["input", "stdin"]), tty: query.is(&["tty"]) };
    let upgrade = hyper::upgrade::on(&mut request);
    let (runtime, id) = (Arc::clone(runtime), container.id.clone());
    tokio::spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => return tracing::debug!(%error, "a session did not come about"),
        };
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await;
        match runtime.exec(&id, wanted).await {
            Ok(session) => run(socket, session).await,
            Err(error) => refuse(socket, &error).await,
        }
    });
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let values = [
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
        (header::SEC_WEBSOCKET_PROTOCOL, protocol.to_owned()),
    ];
    for (name, value) in values {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn websocket_key(headers: &HeaderMap) -> Option<String> {
    let is_websocket = headers.get(header::UPGRADE)?.to_str().ok()?.eq_ignore_ascii_case("websocket");
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.to_str().ok()?;
    is_websocket.then(|| key.to_owned())
}

/// The newest protocol that both sides know.
fn protocol(headers: &HeaderMap) -> Option<&'static str> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|value| value.to_str().ok());
    let offered: Vec<&str> = offered.flat_map(|list| list.split(',').map(str::trim)).collect();
    PROTOCOLS.into_iter().find(|known| offered.contains(known))
}

fn message(stream: u8, contents: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(contents.len() + 1);
    bytes.put_u8(stream);
    bytes.put_slice(contents);
    Message::Binary(bytes.freeze())
}

/// The regular end, said as such: clients take any other end for a failure.
fn closing() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Default::default() }))
}

/// The result as a Status.
fn result(exit: Result<i32, RuntimeError>) -> Value {
    match exit {
        Ok(0) => json!({ "metadata": {}, "status": "Success" }),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
        }),
        Err(error) => failure(&error),
    }
}

fn failure(error: &RuntimeError) -> Value {
    let message = match error {
        RuntimeError::Failed { message, .. } => message.clone(),
        other => other.to_string(),
    };
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: error executing command in container: {message}"),
        "reason": "InternalError",
        "details": { "causes": [{ "message": message }] },
        "code": 500,
    })
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

async fn refuse(mut socket: Socket, error: &RuntimeError) {
    // Whoever asked may have gone.
    let _ = socket.send(message(RESULT, failure(error).to_string().as_bytes())).await;
    let _ = socket.send(closing()).await;
}

async fn run(socket: Socket, session: ExecSession) {
    let (mut sink, mut source) = socket.split();
    let ExecSession { stdin, mut stdout, mut stderr, resize, exit } = session;
    let input = async {
        let mut stdin = stdin;
        while let Some(Ok(received)) = source.next().await {
            match received {
                Message::Binary(bytes) => take(&bytes, &mut stdin, resize.as_ref()).await,
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    let output = async {
        let (mut out_open, mut err_open) = (true, true);
        while out_open || err_open {
            let (stream, piece) = tokio::select! {
                piece = stdout.recv(), if out_open => (OUTPUT, piece),
                piece = stderr.recv(), if err_open => (ERRORS, piece),
            };
            match piece {
                Some(piece) => {
                    if sink.send(message(stream, &piece)).await.is_err() {
                        return;
                    }
                }
                None if stream == OUTPUT => out_open = false,
                None => err_open = false,
            }
        }
        let exit = exit.await.unwrap_or_else(|_| Err(RuntimeError::NotFound("the end of the command".to_owned())));
        // Whoever asked may have gone.
        let _ = sink.send(message(RESULT, result(exit).to_string().as_bytes())).await;
        let _ = sink.send(closing()).await;
        let _ = sink.close().await;
    };
    tokio::pin!(input, output);
    // The client's end of sending is not its end of listening; only a closed connection ends the command.
    tokio::select! {
        () = &mut output => {}
        () = &mut input => {}
    }
}

/// Takes one message of the client.
async fn take(bytes: &Bytes, stdin: &mut Option<mpsc::Sender<Bytes>>, resize: Option<&mpsc::Sender<(u16, u16)>>) {
    match bytes.first() {
        Some(&INPUT) => {
            if let Some(sender) = stdin
                && bytes.len() > 1
                && sender.send(bytes.slice(1..)).await.is_err()
            {
                *stdin = None;
            }
        }
        Some(&SIZE) => {
            let size: Value = serde_json::from_slice(&bytes[1..]).unwrap_or_default();
            let number = |name: &str| size[name].as_u64().and_then(|value| u16::try_from(value).ok());
            if let (Some(resize), Some(columns), Some(rows)) = (resize, number("Width"), number("Height")) {
                // A session that has ended has no size.
                let _ = resize.send((columns, rows)).await;
            }
        }
        Some(&CLOSE) if bytes.get(1) == Some(&INPUT) => *stdin = None,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_newest_common_protocol_is_taken() {
        let mut headers = HeaderMap::new();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, "v4.channel.k8s.io, v5.channel.k8s.io".parse().unwrap());
        assert_eq!(protocol(&headers), Some("v5.channel.k8s.io"));
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, "v1.channel.k8s.io".parse().unwrap());
        assert_eq!(protocol(&headers), None);
    }

    #[test]
    fn an_exit_code_travels_as_a_cause() {
        assert_eq!(result(Ok(0))["status"], "Success");
        let failed = result(Ok(3));
        assert_eq!(failed["details"]["causes"][0]["message"], "3");
        assert_eq!(failed["reason"], "NonZeroExitCode");
    }

    #[tokio::test]
    async fn input_ends_when_the_client_closes_it() {
        let (sender, mut receiver) = mpsc::channel(4);
        let mut stdin = Some(sender);
        take(&Bytes::from_static(b"\x00hello"), &mut stdin, None).await;
        take(&Bytes::from_static(b"\xff\x00"), &mut stdin, None).await;
        assert_eq!(receiver.recv().await.unwrap(), "hello");
        assert_eq!(receiver.recv().await, None);
    }
}
