//! Container logs: CRI's format in, what the container wrote out.

mod reader;

use std::{
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use tokio::sync::mpsc;

use self::reader::Reader;
use super::{Body, Query, text};
use crate::runtime::{Container, ContainerState, Runtime};

/// How often a followed log is looked at.
const FOLLOW_PERIOD: Duration = Duration::from_millis(100);
/// Pieces that wait for a slow reader.
const PIECES_MAX: usize = 8;

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    follow: bool,
    timestamps: bool,
    tail: Option<usize>,
    since: Option<Timestamp>,
    limit: Option<u64>,
}

impl Wanted {
    fn parse(query: &Query, now: Timestamp) -> Result<Self, String> {
        let number = |name: &str| match query.get(name) {
            None | Some("") => Ok(None),
            Some(value) => value.parse::<i64>().map(Some).map_err(|_| format!("invalid {name}: {value:?}")),
        };
        let since_seconds =
            number("sinceSeconds")?.and_then(|seconds| now.checked_sub(jiff::SignedDuration::from_secs(seconds)).ok());
        let since_time = match query.get("sinceTime") {
            None | Some("") => None,
            Some(value) => Some(value.parse::<Timestamp>().map_err(|_| format!("invalid sinceTime: {value:?}"))?),
        };
        Ok(Self {
            follow: query.is(&["follow"]),
            timestamps: query.is(&["timestamps"]),
            tail: number("tailLines")?.and_then(|lines| usize::try_from(lines).ok()),
            since: since_seconds.or(since_time),
            limit: number("limitBytes")?.and_then(|limit| u64::try_from(limit).ok()),
        })
    }
}

/// Turns entries into what is shown.
struct Printer {
    wanted: Wanted,
    /// Whether the next entry begins a line.
    line_start: bool,
    left: u64,
}

impl Printer {
    fn new(wanted: Wanted) -> Self {
        let left = wanted.limit.unwrap_or(u64::MAX);
        Self { wanted, line_start: true, left }
    }

    /// Appends one entry; one that is damaged is skipped.
    fn entry(&mut self, entry: &[u8], out: &mut Vec<u8>) {
        let mut fields = entry.splitn(4, |byte| *byte == b' ');
        let (Some(time), Some(_), Some(tag), Some(contents)) = (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return;
        };
        if let Some(since) = self.wanted.since {
            let written = std::str::from_utf8(time).ok().and_then(|time| time.parse::<Timestamp>().ok());
            if written.is_none_or(|written| written < since) {
                return;
            }
        }
        let before = out.len();
        if self.wanted.timestamps && self.line_start {
            out.extend_from_slice(time);
            out.push(b' ');
        }
        out.extend_from_slice(contents);
        self.line_start = tag == b"F";
        if self.line_start {
            out.push(b'\n');
        }
        let added = (out.len() - before) as u64;
        if added > self.left {
            out.truncate(before + usize::try_from(self.left).unwrap_or(0));
        }
        self.left = self.left.saturating_sub(added);
    }
}

/// Offset at which the last `lines` whole lines begin. An entry marked `P` does not end a line.
fn tail_offset(file: &mut (impl Read + Seek), lines: usize) -> io::Result<u64> {
    let mut contents = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    // Rotation keeps a log file small; one read is simpler than going backwards.
    file.read_to_end(&mut contents)?;
    if lines == 0 {
        return Ok(contents.len() as u64);
    }
    let mut starts = Vec::new();
    let (mut offset, mut line_start) = (0, 0);
    for entry in contents.split_inclusive(|byte| *byte == b'\n') {
        offset += entry.len();
        let partial = entry.splitn(4, |byte| *byte == b' ').nth(2) == Some(b"P");
        if !partial {
            starts.push(line_start);
            line_start = offset;
        }
    }
    let first = starts.len().saturating_sub(lines);
    Ok(starts.get(first).copied().unwrap_or(0) as u64)
}

/// Answers with the log of a container.
pub fn answer(runtime: &Arc<dyn Runtime>, container: Container, query: &Query) -> Response<Body> {
    let wanted = match Wanted::parse(query, Timestamp::now()) {
        Ok(wanted) => wanted,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    tokio::spawn(send(Arc::clone(runtime), container, wanted, sender));
    let pieces = stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|piece| (piece, receiver)));
    let body = StreamBody::new(futures::StreamExt::map(pieces, |piece: io::Result<Bytes>| piece.map(Frame::data)));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/plain"));
    response
}

async fn send(runtime: Arc<dyn Runtime>, container: Container, wanted: Wanted, sender: mpsc::Sender<io::Result<Bytes>>) {
    let mut log = match Reader::open(container.log_path.clone(), wanted.tail).await {
        Ok(log) => log,
        Err(error) => {
            // Whoever asked may have gone.
            let _ = sender.send(Err(error)).await;
            return;
        }
    };
    let follow = wanted.follow;
    let mut printer = Printer::new(wanted);
    let mut rest = Vec::new();
    loop {
        // Asked before reading, so that what was written before the end is read after it.
        let over = !follow || has_ended(&runtime, &container.id).await;
        loop {
            let Ok(chunk) = log.next().await else { return };
            if chunk.is_empty() {
                break;
            }
            rest.extend_from_slice(&chunk);
            let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            let mut out = Vec::new();
            for entry in rest[..whole].split_inclusive(|byte| *byte == b'\n') {
                printer.entry(entry.strip_suffix(b"\n").unwrap_or(entry), &mut out);
            }
            rest.drain(..whole);
            if !out.is_empty() && sender.send(Ok(Bytes::from(out))).await.is_err() || printer.left == 0 {
                return;
            }
        }
        if over {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(FOLLOW_PERIOD) => {}
            () = sender.closed() => return,
        }
    }
}

async fn has_ended(runtime: &Arc<dyn Runtime>, id: &str) -> bool {
    let containers = runtime.list_containers().await.unwrap_or_default();
    containers.iter().find(|container| container.id == id).is_none_or(|container| container.state != ContainerState::Running)
}

/// The end of a log as text, for a termination message.
pub fn last_lines(path: &Path, lines: usize, bytes: usize) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let offset = tail_offset(&mut file, lines)?;
        file.seek(SeekFrom::Start(offset))?;
        let (mut contents, mut out) = (Vec::new(), Vec::new());
        file.read_to_end(&mut contents)?;
        let mut printer = Printer::new(Wanted::default());
        contents.split(|byte| *byte == b'\n').for_each(|entry| printer.entry(entry, &mut out));
        Ok(out)
    };
    let out = read().unwrap_or_default();
    String::from_utf8_lossy(&out[out.len().saturating_sub(bytes)..]).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LOG: &str = "2026-01-01T00:00:01.000000000Z stdout F one\n\
                       2026-01-01T00:00:02.000000000Z stderr P tw\n\
                       2026-01-01T00:00:02.500000000Z stderr F o\n\
                       2026-01-01T00:00:03.000000000Z stdout F three\n";

    fn show(query: &Query) -> String {
        let wanted = Wanted::parse(query, "2026-01-01T00:00:04Z".parse().unwrap()).unwrap();
        let offset = wanted.tail.map_or(0, |lines| tail_offset(&mut io::Cursor::new(LOG), lines).unwrap());
        let (mut printer, mut out) = (Printer::new(wanted), Vec::new());
        LOG.as_bytes()[usize::try_from(offset).unwrap()..]
            .split(|byte| *byte == b'\n')
            .for_each(|entry| printer.entry(entry, &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_of_a_log_is_shown() {
        let query = super::super::query;
        assert_eq!(show(&query(&[])), "one\ntwo\nthree\n");
        assert_eq!(show(&query(&[("tailLines", "2")])), "two\nthree\n");
        assert_eq!(show(&query(&[("tailLines", "0")])), "");
        assert_eq!(show(&query(&[("sinceTime", "2026-01-01T00:00:03Z")])), "three\n");
        assert_eq!(show(&query(&[("sinceSeconds", "1")])), "three\n");
        assert_eq!(show(&query(&[("limitBytes", "5")])), "one\nt");
        assert!(show(&query(&[("timestamps", "true"), ("tailLines", "1")])).starts_with("2026-01-01T00:00:03.000000000Z three"));
        assert!(Wanted::parse(&query(&[("tailLines", "x")]), Timestamp::UNIX_EPOCH).is_err());
    }
}
