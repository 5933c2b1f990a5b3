//! A watch: frames of one JSON event each, cut out of the body as it arrives.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use kontiki_api::status::Status;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{error::Error, params::push, transport::ResponseBody};

/// Largest event that is taken: an object of 3 MiB with room for its frame.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// What to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchParams {
    /// Label selector; empty selects all.
    pub label_selector: String,
    /// Field selector; empty selects all.
    pub field_selector: String,
    /// Version after which changes are wanted.
    pub resource_version: String,
    /// Seconds after which the server ends the watch.
    pub timeout_seconds: u32,
}

impl WatchParams {
    /// The query string, without a question mark.
    #[must_use]
    pub fn query(&self) -> String {
        let mut query = "watch=true&allowWatchBookmarks=true".to_owned();
        let timeout = if self.timeout_seconds == 0 { String::new() } else { self.timeout_seconds.to_string() };
        for (name, value) in [
            ("labelSelector", &self.label_selector),
            ("fieldSelector", &self.field_selector),
            ("resourceVersion", &self.resource_version),
            ("timeoutSeconds", &timeout),
        ] {
            push(&mut query, name, value);
        }
        query
    }
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// It is there, or selected now.
    Added(Bytes),
    /// It changed.
    Modified(Bytes),
    /// It is gone, or no longer selected; the object as it was last.
    Deleted(Bytes),
    /// Nothing happened up to the version in this object.
    Bookmark(Bytes),
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    type_: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// Events of one watch, in order.
pub struct WatchStream {
    path: String,
    body: ResponseBody,
    buffer: BytesMut,
    scanned: usize,
}

impl WatchStream {
    pub(crate) fn new(path: String, body: ResponseBody) -> Self {
        Self { path, body, buffer: BytesMut::new(), scanned: 0 }
    }

    /// The next event; `None` once the server has ended the watch. An `ERROR` event is an error.
    /// Cancellation-safe: what has arrived stays in the buffer.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, Error> {
        loop {
            if let Some(end) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.scanned + end + 1).freeze();
                self.scanned = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return self.parse(&line).map(Some);
            }
            self.scanned = self.buffer.len();
            if self.scanned > EVENT_BYTES_MAX {
                return Err(self.broken("an event is larger than 4 MiB"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.broken(&error.to_string())),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
            }
        }
    }

    fn parse(&self, line: &Bytes) -> Result<WatchEvent, Error> {
        let frame: Frame<'_> = serde_json::from_slice(line).map_err(|error| self.broken(&error.to_string()))?;
        let object = line.slice_ref(frame.object.get().as_bytes());
        match frame.type_ {
            "ADDED" => Ok(WatchEvent::Added(object)),
            "MODIFIED" => Ok(WatchEvent::Modified(object)),
            "DELETED" => Ok(WatchEvent::Deleted(object)),
            "BOOKMARK" => Ok(WatchEvent::Bookmark(object)),
            "ERROR" => {
                let status: Status = serde_json::from_slice(&object).map_err(|error| self.broken(&error.to_string()))?;
                Err(Error::Status(Box::new(status)))
            }
            other => Err(self.broken(&format!("unknown event type {other:?}"))),
        }
    }

    fn broken(&self, message: &str) -> Error {
        Error::Decode { path: self.path.clone(), message: message.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    fn stream(parts: &'static [&'static str]) -> WatchStream {
        let frames = futures::stream::iter(parts.iter().map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))));
        WatchStream::new("/x".into(), StreamBody::new(frames).boxed_unsync())
    }

    #[tokio::test]
    async fn events_are_cut_out_however_the_bytes_arrive() {
        let mut watch = stream(&["{\"type\":\"ADD", "ED\",\"object\":{\"a\":1}}\n{\"type\":\"BOOKMARK\",\"object\":{}}", "\n"]);
        assert_eq!(watch.next().await.unwrap(), Some(WatchEvent::Added(Bytes::from_static(b"{\"a\":1}"))));
        assert_eq!(watch.next().await.unwrap(), Some(WatchEvent::Bookmark(Bytes::from_static(b"{}"))));
        assert_eq!(watch.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_error_event_is_an_error_with_its_status() {
        let mut watch = stream(&["{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\"}}\n"]);
        assert!(watch.next().await.unwrap_err().is_gone());
    }
}
