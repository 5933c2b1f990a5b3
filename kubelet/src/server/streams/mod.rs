//! Sessions: commands, attached containers and forwarded ports.
//!
//! In: a request that asks for another protocol, WebSocket or SPDY/3.1. Out: the connection, taken over. A transport
//! turns what the client says into [`Incoming`] and [`Outgoing`] into what the client understands; what happens between
//! ([`run`]) does not know which transport it is.

mod command;
pub mod port_forward;
mod spdy;
mod websocket;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming as RequestBody, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Body, Query, text};
use crate::runtime::{ExecSession, RuntimeError};

/// Messages that wait for a slow side.
const MESSAGES_MAX: usize = 16;
/// Protocol that a SPDY client and this server agree on.
const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
enum Incoming {
    /// For standard input.
    Input(Bytes),
    /// No more of it.
    EndOfInput,
    /// The terminal has this size now: columns, rows.
    Size(u16, u16),
}

/// What a client is told.
#[derive(Debug)]
enum Outgoing {
    /// Standard output, or the terminal.
    Output(Bytes),
    /// Standard error.
    Errors(Bytes),
    /// How it ended, as a Status.
    Result(Value),
}

/// The client of a session. Dropping both ends the connection in an orderly way.
struct Remote {
    incoming: mpsc::Receiver<Incoming>,
    outgoing: mpsc::Sender<Outgoing>,
}

/// The streams that a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error; never with a terminal.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

impl Wanted {
    pub(super) fn of(query: &Query) -> Self {
        let tty = query.is(&["tty"]);
        Self {
            stdin: query.is(&["input", "stdin"]),
            stdout: query.is(&["output", "stdout"]),
            stderr: query.is(&["error", "stderr"]) && !tty,
            tty,
        }
    }
}

/// What begins when the connection has been taken over.
pub type Begin = Box<dyn FnOnce() -> BoxFuture<'static, Result<ExecSession, RuntimeError>> + Send>;

/// Takes a connection over for a session.
pub fn answer(wanted: Wanted, mut request: Request<RequestBody>, begin: Begin) -> Response<Body> {
    let transport = match command::Transport::choose(request.headers()) {
        Ok(transport) => transport,
        Err(refusal) => return text(StatusCode::BAD_REQUEST, refusal),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let response = switch(request.headers(), transport.name());
    tokio::spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => return tracing::debug!(%error, "a session did not come about"),
        };
        let Some(remote) = transport.connect(upgraded, wanted).await else { return };
        match begin().await {
            Ok(session) => run(remote, session).await,
            Err(error) => {
                // Whoever asked may have gone.
                let _ = remote.outgoing.send(Outgoing::Result(failure(&error))).await;
            }
        }
    });
    response
}

/// A connection that was taken over.
type Connection = TokioIo<Upgraded>;

/// The protocols that a client offers in a header.
fn offered(headers: &HeaderMap, name: impl header::AsHeaderName) -> Vec<String> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|list| list.split(',').map(|one| one.trim().to_owned())).collect()
}

fn upgrades_to(headers: &HeaderMap, protocol: &str) -> bool {
    headers.get(header::UPGRADE).and_then(|value| value.to_str().ok()).is_some_and(|value| value.eq_ignore_ascii_case(protocol))
}

/// The answer that lets a connection go to another protocol.
fn switch(headers: &HeaderMap, protocol: &str) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let mut values = vec![(header::CONNECTION, "Upgrade".to_owned())];
    if let Some(key) = websocket::key(headers) {
        values.push((header::UPGRADE, "websocket".to_owned()));
        values.push((header::SEC_WEBSOCKET_ACCEPT, websocket::accept(&key)));
        if !protocol.is_empty() {
            values.push((header::SEC_WEBSOCKET_PROTOCOL, protocol.to_owned()));
        }
    } else {
        values.push((header::UPGRADE, "SPDY/3.1".to_owned()));
        values.push((header::HeaderName::from_static(STREAM_PROTOCOL), protocol.to_owned()));
    }
    for (name, value) in values {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
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

/// Joins a client and a session until the session ends or the client has gone.
async fn run(remote: Remote, session: ExecSession) {
    let Remote { mut incoming, outgoing } = remote;
    let ExecSession { mut stdin, mut stdout, mut stderr, resize, exit } = session;
    let input = async {
        while let Some(said) = incoming.recv().await {
            match said {
                Incoming::Input(piece) => {
                    if let Some(sender) = &stdin
                        && sender.send(piece).await.is_err()
                    {
                        stdin = None;
                    }
                }
                Incoming::EndOfInput => stdin = None,
                Incoming::Size(columns, rows) => {
                    if let Some(resize) = &resize {
                        // A session that has ended has no size.
                        let _ = resize.send((columns, rows)).await;
                    }
                }
            }
        }
    };
    let output = async {
        let (mut out_open, mut err_open) = (true, true);
        while out_open || err_open {
            let message = tokio::select! {
                piece = stdout.recv(), if out_open => piece.map(Outgoing::Output).ok_or(&mut out_open),
                piece = stderr.recv(), if err_open => piece.map(Outgoing::Errors).ok_or(&mut err_open),
            };
            match message {
                Ok(message) => {
                    if outgoing.send(message).await.is_err() {
                        return;
                    }
                }
                Err(open) => *open = false,
            }
        }
        let exit = exit.await.unwrap_or_else(|_| Err(RuntimeError::NotFound("the end of the command".to_owned())));
        // Whoever asked may have gone.
        let _ = outgoing.send(Outgoing::Result(result(exit))).await;
    };
    // The client's end of sending is not its end of listening; only a closed connection ends the session.
    tokio::select! {
        () = output => {}
        () = input => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_exit_code_travels_as_a_cause() {
        assert_eq!(result(Ok(0))["status"], "Success");
        let failed = result(Ok(3));
        assert_eq!(failed["details"]["causes"][0]["message"], "3");
        assert_eq!(failed["reason"], "NonZeroExitCode");
    }

    #[tokio::test]
    async fn input_goes_in_output_comes_out_and_the_result_last() {
        let (client, incoming) = mpsc::channel(4);
        let (outgoing, mut told) = mpsc::channel(4);
        let (stdin, mut typed) = mpsc::channel(4);
        let (output, stdout) = mpsc::channel(4);
        let (_, stderr) = mpsc::channel(1);
        let (ended, exit) = tokio::sync::oneshot::channel();
        let session = ExecSession { stdin: Some(stdin), stdout, stderr, resize: None, exit };
        let session = tokio::spawn(run(Remote { incoming, outgoing }, session));
        client.send(Incoming::Input(Bytes::from_static(b"hello"))).await.unwrap();
        client.send(Incoming::EndOfInput).await.unwrap();
        assert_eq!(typed.recv().await.unwrap(), "hello");
        assert_eq!(typed.recv().await, None);
        output.send(Bytes::from_static(b"out")).await.unwrap();
        drop(output);
        ended.send(Ok(0)).unwrap();
        assert!(matches!(told.recv().await, Some(Outgoing::Output(piece)) if piece == "out"));
        assert!(matches!(told.recv().await, Some(Outgoing::Result(status)) if status["status"] == "Success"));
        session.await.unwrap();
    }
}
