//! Answers: JSON, Status, streams of pieces.

use std::{
    collections::VecDeque,
    io::Write,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use futures::Stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body as _, Frame, SizeHint};
use kontiki_api::status::Status;
use serde_json::Value;

use crate::negotiate;

/// What a body may fail with while it streams.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// Body of an answer.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Shorter answers are not compressed; kube-apiserver's threshold.
const GZIP_BYTES_MIN: u64 = 128 * 1024;
/// Pieces up to so many bytes are sent together, in one frame of HTTP/2 of the usual size: a frame costs more than a copy of it.
const TOGETHER_BYTES: usize = 16 * 1024;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A body that is there as a whole.
#[must_use]
pub fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A body of pieces. Those that wait are sent together.
pub fn stream(pieces: impl Stream<Item = Bytes> + Send + Unpin + 'static) -> Body {
    use futures::StreamExt;
    let together = Together { pieces: pieces.fuse(), next: None };
    StreamBody::new(together.map(|piece| Ok(Frame::data(piece)))).boxed_unsync()
}

/// Small pieces as one, as far as they are there already.
struct Together<S> {
    pieces: futures::stream::Fuse<S>,
    /// What no longer fitted.
    next: Option<Bytes>,
}

impl<S: Stream<Item = Bytes> + Unpin> Stream for Together<S> {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let first = match self.next.take() {
            Some(first) => first,
            None => match ready!(Pin::new(&mut self.pieces).poll_next(context)) {
                Some(first) => first,
                None => return Poll::Ready(None),
            },
        };
        let more = std::iter::from_fn(|| match Pin::new(&mut self.pieces).poll_next(context) {
            Poll::Ready(piece) => piece,
            // The task is woken for it; then it is the first.
            Poll::Pending => None,
        });
        let (piece, left) = together(first, more);
        self.next = left;
        Poll::Ready(Some(piece))
    }
}

/// A piece and those after it that fit beside it; and the one that did not fit.
fn together(first: Bytes, mut more: impl Iterator<Item = Bytes>) -> (Bytes, Option<Bytes>) {
    if first.len() >= TOGETHER_BYTES {
        return (first, None);
    }
    let Some(second) = more.next() else { return (first, None) };
    if first.len() + second.len() > TOGETHER_BYTES {
        return (first, Some(second));
    }
    let mut all = BytesMut::with_capacity(TOGETHER_BYTES);
    all.extend_from_slice(&first);
    all.extend_from_slice(&second);
    for piece in more {
        if all.len() + piece.len() > TOGETHER_BYTES {
            return (all.freeze(), Some(piece));
        }
        all.extend_from_slice(&piece);
    }
    (all.freeze(), None)
}

/// A body of pieces that are all there: its length is known.
#[must_use]
pub fn pieces(pieces: Vec<Bytes>) -> Body {
    Pieces { rest: pieces.into() }.map_err(|never| match never {}).boxed_unsync()
}

struct Pieces {
    rest: VecDeque<Bytes>,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(first) = self.rest.pop_front() else { return Poll::Ready(None) };
        let (piece, left) = together(first, std::iter::from_fn(|| self.rest.pop_front()));
        if let Some(left) = left {
            self.rest.push_front(left);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.iter().map(|piece| piece.len() as u64).sum())
    }
}

/// The answer compressed, where the client takes that and it is large enough to pay.
#[must_use]
pub fn compress(request: &http::HeaderMap, response: Response<Body>) -> Response<Body> {
    let large = response.body().size_hint().exact().is_some_and(|length| length > GZIP_BYTES_MIN);
    if !large || response.headers().contains_key(header::CONTENT_ENCODING) || !negotiate::accepts_gzip(request) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    head.headers.remove(header::CONTENT_LENGTH);
    let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    let compressed = futures::stream::try_unfold((body, encoder), async |(mut body, mut encoder)| {
        loop {
            let Some(gzip) = encoder.as_mut() else { return Ok(None) };
            let piece = match body.frame().await.transpose()? {
                Some(frame) => {
                    gzip.write_all(&frame.into_data().unwrap_or_default())?;
                    std::mem::take(gzip.get_mut())
                }
                None => match encoder.take() {
                    Some(gzip) => gzip.finish()?,
                    None => return Ok(None),
                },
            };
            if !piece.is_empty() {
                return Ok::<_, BodyError>(Some((Frame::data(Bytes::from(piece)), (body, encoder))));
            }
        }
    });
    Response::from_parts(head, StreamBody::new(compressed).boxed_unsync())
}

/// An answer with any body.
#[must_use]
pub fn with_body(code: StatusCode, content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// JSON that is there as bytes.
#[must_use]
pub fn json_bytes(code: StatusCode, bytes: Bytes) -> Response<Body> {
    with_body(code, JSON, full(bytes))
}

/// JSON.
#[must_use]
pub fn json(code: StatusCode, value: &Value) -> Response<Body> {
    json_bytes(code, Bytes::from(value.to_string()))
}

/// Plain text.
#[must_use]
pub fn text(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    with_body(code, HeaderValue::from_static("text/plain; charset=utf-8"), full(Bytes::from(text.into())))
}

/// A failure.
#[must_use]
pub fn status(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(status).unwrap_or_default();
    let mut response = json_bytes(code, Bytes::from(body));
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if seconds > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Adds `Warning:` headers, as RFC 7234 has them.
pub fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::StreamExt;

    use super::*;

    fn piece(length: usize) -> Bytes {
        Bytes::from(vec![b'x'; length])
    }

    async fn lengths(mut body: Body) -> Vec<usize> {
        let mut lengths = Vec::new();
        while let Some(frame) = body.frame().await {
            lengths.push(frame.unwrap().into_data().unwrap().len());
        }
        lengths
    }

    #[tokio::test]
    async fn small_pieces_travel_together_and_none_is_lost() {
        let sent = [10, 20, TOGETHER_BYTES - 30, 1, 3 * TOGETHER_BYTES, 5, TOGETHER_BYTES, 7];
        let received = [TOGETHER_BYTES, 1, 3 * TOGETHER_BYTES, 5, TOGETHER_BYTES, 7];
        let whole = pieces(sent.map(piece).to_vec());
        assert_eq!(whole.size_hint().exact().unwrap(), sent.iter().sum::<usize>() as u64);
        assert_eq!(lengths(whole).await, received);
        assert_eq!(lengths(stream(futures::stream::iter(sent.map(piece)))).await, received);
    }

    #[tokio::test]
    async fn a_piece_does_not_wait_for_the_next() {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let mut body = stream(tokio_stream::wrappers::ReceiverStream::new(receiver).boxed());
        for length in [3, 4] {
            sender.send(piece(length)).await.unwrap();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), length);
        }
    }
}
