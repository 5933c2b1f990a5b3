//! The streams of one connection: a task reads, a task writes, each stream has a queue of its own.

use std::{collections::HashMap, io};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};

use super::{
    frame::{self, Frame},
    headers::{Headers, Reader, Writer},
};

/// Pieces that wait for a slow reader of one stream.
const PIECES_MAX: usize = 16;
/// Streams that one connection may have open.
const STREAMS_MAX: usize = 1024;
/// The other side asked for more than is allowed.
const REFUSED_STREAM: u32 = 3;

/// A stream that the client has opened.
pub struct Stream {
    /// What it said of it.
    pub headers: Headers,
    /// What comes in; ends with the client's end of the stream.
    pub contents: mpsc::Receiver<Bytes>,
    /// The way back.
    pub sender: Sender,
}

impl Stream {
    /// A header's value.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    }
}

/// The way back on one stream. Dropping it ends the stream.
pub struct Sender {
    /// The stream's number.
    pub(in crate::server::streams) id: u32,
    /// What goes out on the connection.
    pub(in crate::server::streams) frames: mpsc::Sender<Frame>,
}

impl Sender {
    /// Sends contents; false once the connection is gone.
    pub async fn send(&self, contents: Bytes) -> bool {
        self.frames.send(Frame::Data { id: self.id, fin: false, contents }).await.is_ok()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let end = Frame::Data { id: self.id, fin: true, contents: Bytes::new() };
        if let Err(mpsc::error::TrySendError::Full(end)) = self.frames.try_send(end)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let frames = self.frames.clone();
            // A connection that is gone needs no end of its streams.
            runtime.spawn(async move { frames.send(end).await });
        }
    }
}

/// Serves a connection: each stream that the client opens comes out, accepted. It ends when the client hangs up or
/// when the receiver and all streams are gone.
pub fn serve<S>(io: S) -> mpsc::Receiver<Stream>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (reader, writer) = tokio::io::split(io);
    let (frames, outgoing) = mpsc::channel(PIECES_MAX);
    let (opened, streams) = mpsc::channel(PIECES_MAX);
    tokio::spawn(write(writer, outgoing));
    tokio::spawn(async move {
        let closed = opened.clone();
        tokio::select! {
            read = read(reader, frames.clone(), opened) => if let Err(error) = read {
                tracing::debug!(%error, "a connection of streams ended");
            },
            // Nobody listens any more; what is under way goes on by its senders until they are dropped.
            () = closed.closed() => {}
        }
    });
    streams
}

async fn write(mut writer: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Frame>) {
    let mut buffer = BytesMut::new();
    while let Some(frame) = frames.recv().await {
        frame::encode(&frame, &mut buffer);
        if writer.write_all_buf(&mut buffer).await.is_err() {
            return;
        }
    }
    // The other side may be gone already.
    let _ = writer.shutdown().await;
}

async fn read(mut reader: impl AsyncRead + Unpin, frames: mpsc::Sender<Frame>, opened: mpsc::Sender<Stream>) -> io::Result<()> {
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    let mut buffer = BytesMut::new();
    let (mut headers, mut replies) = (Reader::new(), Writer::default());
    let mut streams: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    loop {
        let Some(frame) = frame::decode(&mut buffer)? else {
            if reader.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        match frame {
            Frame::SynStream { id, fin, block } => {
                // Read in any case: the compressed stream goes on.
                let headers = headers.read(&block)?;
                if streams.len() >= STREAMS_MAX {
                    frames.send(Frame::Reset { id, status: REFUSED_STREAM }).await.map_err(|_| gone())?;
                    continue;
                }
                let (sender, contents) = mpsc::channel(PIECES_MAX);
                if !fin {
                    streams.insert(id, sender);
                }
                let block = replies.write(&Headers::new());
                frames.send(Frame::SynReply { id, block }).await.map_err(|_| gone())?;
                let sender = Sender { id, frames: frames.clone() };
                opened.send(Stream { headers, contents, sender }).await.map_err(|_| gone())?;
            }
            Frame::Data { id, fin, contents } => {
                if let Some(stream) = streams.get(&id)
                    && !contents.is_empty()
                    && stream.send(contents).await.is_err()
                {
                    streams.remove(&id);
                }
                if fin {
                    streams.remove(&id);
                }
            }
            Frame::Reset { id, .. } => {
                streams.remove(&id);
            }
            Frame::Ping(id) => frames.send(Frame::Ping(id)).await.map_err(|_| gone())?,
            Frame::GoAway => return Ok(()),
            Frame::SynReply { .. } | Frame::Other => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn next(io: &mut tokio::io::DuplexStream, buffer: &mut BytesMut) -> Frame {
        loop {
            if let Some(frame) = frame::decode(buffer).unwrap() {
                return frame;
            }
            assert_ne!(io.read_buf(buffer).await.unwrap(), 0, "the connection ended");
        }
    }

    #[tokio::test]
    async fn a_stream_is_accepted_read_answered_and_ended() {
        let (near, mut far) = tokio::io::duplex(4096);
        let mut streams = serve(near);
        let (mut out, mut buffer) = (BytesMut::new(), BytesMut::new());
        let block = Writer::default().write(&vec![("StreamType".into(), "stdin".into())]);
        frame::encode(&Frame::SynStream { id: 1, fin: false, block }, &mut out);
        frame::encode(&Frame::Data { id: 1, fin: true, contents: Bytes::from_static(b"hello") }, &mut out);
        frame::encode(&Frame::Ping(9), &mut out);
        far.write_all(&out).await.unwrap();
        let mut stream = streams.recv().await.unwrap();
        assert_eq!(stream.header("streamtype"), "stdin");
        assert_eq!(stream.contents.recv().await.unwrap(), "hello");
        assert_eq!(stream.contents.recv().await, None);
        assert!(matches!(next(&mut far, &mut buffer).await, Frame::SynReply { id: 1, .. }));
        assert_eq!(next(&mut far, &mut buffer).await, Frame::Ping(9));
        assert!(stream.sender.send(Bytes::from_static(b"back")).await);
        drop(stream);
        let back = Frame::Data { id: 1, fin: false, contents: Bytes::from_static(b"back") };
        assert_eq!(next(&mut far, &mut buffer).await, back);
        assert_eq!(next(&mut far, &mut buffer).await, Frame::Data { id: 1, fin: true, contents: Bytes::new() });
    }
}
