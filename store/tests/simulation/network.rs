//! The network: streams between members that carry bytes after a while, or never.
//!
//! A stream keeps its order, as TCP does; different streams overtake each other. A link that is cut
//! in one direction keeps bytes until it is whole again, without a word to either side.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{Error as IoError, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use kontiki_store::tls::{Connection, Dial, Dialing, Io};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

use crate::entropy::mix;
use crate::trace::Trace;

/// Connections that wait to be taken by a member.
const ACCEPTED_MAX: usize = 64;
/// How long a connection is tried over a link that is cut.
const UNANSWERED: Duration = Duration::from_secs(60);

/// How slow the network is.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// At least.
    pub least_ms: u64,
    /// And up to this much more.
    pub spread_ms: u64,
}

/// The network.
pub struct Network {
    seed: u64,
    latency: Latency,
    trace: Arc<Trace>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entrances: BTreeMap<usize, mpsc::Sender<std::io::Result<Connection>>>,
    pipes: BTreeMap<u64, Arc<Pipe>>,
    next: u64,
    cut: BTreeSet<(usize, usize)>,
}

impl Network {
    /// With nobody on it.
    pub fn new(seed: u64, latency: Latency, trace: Arc<Trace>) -> Arc<Self> {
        Arc::new(Self { seed, latency, trace, inner: Mutex::default() })
    }

    /// A member is there from now on; what comes in for it.
    pub fn join(&self, member: usize) -> mpsc::Receiver<std::io::Result<Connection>> {
        let (sender, receiver) = mpsc::channel(ACCEPTED_MAX);
        self.inner.lock().entrances.insert(member, sender);
        receiver
    }

    /// A member is gone. The others notice where the link still carries the news.
    pub fn leave(&self, member: usize) {
        let mut inner = self.inner.lock();
        inner.entrances.remove(&member);
        let pipes: Vec<_> = inner.pipes.values().cloned().collect();
        let due = self.trace.now_ms() + self.latency.least_ms;
        for pipe in pipes.iter().filter(|pipe| pipe.from == member) {
            pipe.flow.lock().flying.push_back((due, Parcel::Reset));
        }
    }

    /// Cuts a link in one direction, or mends it.
    pub fn set_cut(&self, from: usize, to: usize, cut: bool) {
        let mut inner = self.inner.lock();
        if cut {
            inner.cut.insert((from, to))
        } else {
            inner.cut.remove(&(from, to))
        };
    }

    /// Mends all links.
    pub fn mend(&self) {
        self.inner.lock().cut.clear();
    }

    /// Breaks all connections between two members.
    pub fn reset(&self, one: usize, other: usize) {
        let now = self.trace.now_ms();
        for pipe in self.inner.lock().pipes.values() {
            if [(one, other), (other, one)].contains(&(pipe.from, pipe.to)) {
                pipe.flow.lock().flying.push_back((now, Parcel::Reset));
            }
        }
    }

    /// Carries what is due.
    pub fn deliver(&self) {
        let now = self.trace.now_ms();
        let inner = &mut *self.inner.lock();
        inner.pipes.retain(|number, pipe| {
            let carries = !inner.cut.contains(&(pipe.from, pipe.to));
            if carries && pipe.flow.lock().deliver(now) {
                self.trace.note(format_args!("net {}>{} stream {number}", pipe.from, pipe.to));
            }
            !pipe.flow.lock().is_over()
        });
    }

    fn connect(self: &Arc<Self>, from: usize, to: usize) -> std::io::Result<Box<dyn Io>> {
        let inner = &mut *self.inner.lock();
        let entrance = inner.entrances.get(&to).cloned().ok_or(ErrorKind::ConnectionRefused)?;
        let mut pipe = |from, to| {
            let pipe = Arc::new(Pipe { number: inner.next, from, to, network: self.clone(), flow: Mutex::default() });
            inner.pipes.insert(inner.next, pipe.clone());
            inner.next += 1;
            pipe
        };
        let (there, back) = (pipe(from, to), pipe(to, from));
        self.trace.note(format_args!("net {from}>{to} connects"));
        let accepted = Stream { reads: there.clone(), writes: back.clone() };
        entrance.try_send(Ok(Connection::clear(Box::new(accepted)))).map_err(|_| ErrorKind::ConnectionRefused)?;
        Ok(Box::new(Stream { reads: back, writes: there }))
    }

    /// When something that is sent now arrives. Not drawn from a shared generator: how many pieces a
    /// message is sent in must not matter to anything else.
    fn due(&self, pipe: u64) -> u64 {
        let now = self.trace.now_ms();
        let spread = mix(mix(self.seed, pipe), now) % (self.latency.spread_ms + 1);
        now + self.latency.least_ms + spread
    }
}

/// The network as one member sees it.
pub struct Way {
    /// The network.
    pub network: Arc<Network>,
    /// The member.
    pub member: usize,
}

/// The host name under which a member is found.
pub fn host(member: usize) -> String {
    format!("member-{member}")
}

impl Dial for Way {
    fn dial(&self, host: String, _port: u16) -> Dialing {
        let (network, from) = (self.network.clone(), self.member);
        Box::pin(async move {
            let to = host.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).ok_or(ErrorKind::NotFound)?;
            tokio::time::sleep(Duration::from_millis(2 * network.latency.least_ms)).await;
            let cut = |from, to| network.inner.lock().cut.contains(&(from, to));
            if cut(from, to) || cut(to, from) {
                tokio::time::sleep(UNANSWERED).await;
                return Err(ErrorKind::TimedOut.into());
            }
            network.connect(from, to)
        })
    }
}

/// One direction of a stream.
struct Pipe {
    number: u64,
    from: usize,
    to: usize,
    network: Arc<Network>,
    flow: Mutex<Flow>,
}

enum Parcel {
    Bytes(Bytes),
    End,
    Reset,
}

#[derive(Default)]
struct Flow {
    flying: VecDeque<(u64, Parcel)>,
    arrived: VecDeque<Bytes>,
    reader: Option<Waker>,
    ended: bool,
    reset: bool,
    /// Nobody reads any more.
    abandoned: bool,
}

impl Flow {
    fn deliver(&mut self, now: u64) -> bool {
        let mut any = false;
        while self.flying.front().is_some_and(|(due, _)| *due <= now) {
            match self.flying.pop_front() {
                Some((_, Parcel::Bytes(bytes))) => self.arrived.push_back(bytes),
                Some((_, Parcel::End)) => self.ended = true,
                Some((_, Parcel::Reset)) => self.reset = true,
                None => {}
            }
            any = true;
        }
        if any && let Some(reader) = self.reader.take() {
            reader.wake();
        }
        any
    }

    fn is_over(&self) -> bool {
        self.abandoned && (self.ended || self.reset)
    }
}

/// One side of a connection.
struct Stream {
    reads: Arc<Pipe>,
    writes: Arc<Pipe>,
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let mut flow = self.reads.flow.lock();
        if flow.reset {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        while buffer.remaining() > 0
            && let Some(bytes) = flow.arrived.front_mut()
        {
            let length = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..length]);
            bytes.advance(length);
            if bytes.is_empty() {
                flow.arrived.pop_front();
            }
        }
        if !buffer.filled().is_empty() || flow.ended {
            return Poll::Ready(Ok(()));
        }
        flow.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        if self.reads.flow.lock().reset {
            return Poll::Ready(Err(IoError::from(ErrorKind::BrokenPipe)));
        }
        self.writes.push(Parcel::Bytes(Bytes::copy_from_slice(bytes)));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.writes.push(Parcel::End);
        Poll::Ready(Ok(()))
    }
}

impl Pipe {
    fn push(&self, parcel: Parcel) {
        let due = self.network.due(self.number);
        let mut flow = self.flow.lock();
        let due = flow.flying.back().map_or(due, |(last, _)| due.max(*last));
        flow.flying.push_back((due, parcel));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reads.flow.lock().abandoned = true;
        self.writes.push(Parcel::End);
    }
}
