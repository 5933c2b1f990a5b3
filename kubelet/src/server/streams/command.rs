//! Which transport a client of a command speaks, and the streams of one that speaks SPDY.

use std::time::Duration;

use http::HeaderMap;
use tokio::sync::mpsc;

use super::{Connection, Incoming, MESSAGES_MAX, Outgoing, Remote, STREAM_PROTOCOL, Wanted, spdy, websocket};

/// Of SPDY, the best one first. The version before sends plain words for a result, the first one cannot resize.
const PROTOCOLS: [&str; 3] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io"];
/// How long a client may take to open its streams.
const STREAMS_DEADLINE: Duration = Duration::from_secs(30);

/// A transport that both sides know.
pub enum Transport {
    /// WebSocket, with its channels.
    WebSocket(websocket::Protocol),
    /// SPDY, with its version of the streams.
    Spdy(&'static str),
}

impl Transport {
    /// What the client asks for; a refusal in words.
    pub fn choose(headers: &HeaderMap) -> Result<Self, String> {
        if websocket::key(headers).is_some() {
            return websocket::Protocol::choose(headers).map(Self::WebSocket);
        }
        if !super::upgrades_to(headers, "SPDY/3.1") {
            return Err("Upgrade request required".to_owned());
        }
        let offered = super::offered(headers, STREAM_PROTOCOL);
        let known = PROTOCOLS.into_iter().find(|known| offered.iter().any(|one| one == known));
        known.map(Self::Spdy).ok_or_else(|| {
            format!("unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {PROTOCOLS:?}")
        })
    }

    /// As the handshake names it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::WebSocket(protocol) => protocol.name,
            Self::Spdy(protocol) => protocol,
        }
    }

    /// The client, once it has opened what it needs.
    pub async fn connect(self, connection: Connection, wanted: Wanted) -> Option<Remote> {
        match self {
            Self::WebSocket(protocol) => Some(websocket::connect(connection, protocol, wanted).await),
            Self::Spdy(protocol) => {
                let streams = spdy::serve(connection);
                let opened = tokio::time::timeout(STREAMS_DEADLINE, Streams::collect(streams, protocol, wanted)).await;
                opened.ok().flatten().map(|streams| streams.join(protocol))
            }
        }
    }
}

/// The streams of one command.
#[derive(Default)]
struct Streams {
    error: Option<spdy::Stream>,
    stdin: Option<spdy::Stream>,
    stdout: Option<spdy::Stream>,
    stderr: Option<spdy::Stream>,
    resize: Option<spdy::Stream>,
    more: Option<mpsc::Receiver<spdy::Stream>>,
}

impl Streams {
    /// Waits for the streams that were asked for.
    async fn collect(mut opened: mpsc::Receiver<spdy::Stream>, protocol: &str, wanted: Wanted) -> Option<Self> {
        let mut streams = Self::default();
        let resizes = wanted.tty && protocol != "v2.channel.k8s.io";
        let expected = [true, wanted.stdin, wanted.stdout, wanted.stderr, resizes].into_iter().filter(|wanted| *wanted).count();
        for _ in 0..expected {
            let stream = opened.recv().await?;
            let slot = match stream.header("streamtype") {
                "error" => &mut streams.error,
                "stdin" => &mut streams.stdin,
                "stdout" => &mut streams.stdout,
                "stderr" => &mut streams.stderr,
                "resize" => &mut streams.resize,
                _ => return None,
            };
            *slot = Some(stream);
        }
        // The connection lives as long as somebody could hear of a further stream.
        streams.more = Some(opened);
        Some(streams)
    }

    fn join(self, protocol: &str) -> Remote {
        let (sender, incoming) = mpsc::channel(MESSAGES_MAX);
        let (outgoing, mut said) = mpsc::channel(MESSAGES_MAX);
        let Self { error, stdin, stdout, stderr, resize, more } = self;
        if let Some(spdy::Stream { mut contents, sender: back, .. }) = stdin {
            let sender = sender.clone();
            tokio::spawn(async move {
                // A client whose input stream ends on this side stops sending at once.
                let _back = back;
                while let Some(piece) = contents.recv().await {
                    if sender.send(Incoming::Input(piece)).await.is_err() {
                        return;
                    }
                }
                // Nobody needs to be told that a session which has ended has no input.
                let _ = sender.send(Incoming::EndOfInput).await;
            });
        }
        if let Some(spdy::Stream { contents: mut sizes, sender: back, .. }) = resize {
            let sender = sender.clone();
            tokio::spawn(async move {
                let _back = back;
                while let Some(contents) = sizes.recv().await {
                    if let Some(size) = websocket::size(&contents)
                        && sender.send(size).await.is_err()
                    {
                        return;
                    }
                }
            });
        }
        if let Some(mut more) = more {
            // A client that hangs up ends the session.
            tokio::spawn(async move {
                tokio::select! {
                    () = sender.closed() => {}
                    () = async { while more.recv().await.is_some() {} } => {}
                }
            });
        }
        let status = protocol == PROTOCOLS[0];
        tokio::spawn(async move {
            while let Some(said) = said.recv().await {
                let (stream, piece) = match said {
                    Outgoing::Output(piece) => (&stdout, piece),
                    Outgoing::Errors(piece) => (&stderr, piece),
                    Outgoing::Result(result) if status => (&error, result.to_string().into()),
                    Outgoing::Result(result) if result["status"] == "Success" => continue,
                    Outgoing::Result(result) => (&error, result["message"].as_str().unwrap_or_default().to_owned().into()),
                };
                if let Some(stream) = stream
                    && !stream.sender.send(piece).await
                {
                    return;
                }
            }
        });
        Remote { incoming, outgoing }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_transport_goes_by_the_headers() {
        let mut headers = HeaderMap::new();
        assert!(Transport::choose(&headers).is_err());
        headers.insert("upgrade", "SPDY/3.1".parse().unwrap());
        headers.append(STREAM_PROTOCOL, "v4.channel.k8s.io".parse().unwrap());
        headers.append(STREAM_PROTOCOL, "v3.channel.k8s.io".parse().unwrap());
        assert_eq!(Transport::choose(&headers).unwrap().name(), "v4.channel.k8s.io");
        headers.insert(STREAM_PROTOCOL, "v1.other".parse().unwrap());
        assert!(Transport::choose(&headers).is_err());
    }

    /// kubectl stops sending once the server has ended its side of the input.
    #[tokio::test]
    async fn the_input_stays_open_while_the_client_sends() {
        let (frames, mut written) = mpsc::channel(MESSAGES_MAX);
        let (typed, contents) = mpsc::channel(1);
        let stdin = spdy::Stream { headers: Vec::new(), contents, sender: spdy::Sender { id: 3, frames } };
        let mut remote = Streams { stdin: Some(stdin), ..Streams::default() }.join(PROTOCOLS[0]);
        typed.send("one".into()).await.unwrap();
        assert_eq!(remote.incoming.recv().await, Some(Incoming::Input("one".into())));
        assert!(written.try_recv().is_err(), "something was said on the input stream");
        drop(typed);
        assert_eq!(remote.incoming.recv().await, Some(Incoming::EndOfInput));
        assert!(matches!(written.recv().await, Some(spdy::Frame::Data { id: 3, fin: true, .. })));
    }
}
