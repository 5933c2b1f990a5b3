//! Commands inside running containers: probes that are waited for, sessions with streams.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use kontiki_shim::protocol::{ExecProcess, Reply, Request};
use nix::{fcntl::OFlag, unistd::pipe2};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, unix::AsyncFd},
    net::unix::pipe,
    sync::{mpsc, oneshot},
};

use super::{Embedded, failed, shim::Replies};
use crate::runtime::{ExecRequest, ExecResult, ExecSession, RuntimeError};

/// Output of a command that is waited for is cut here.
const OUTPUT_BYTES_MAX: usize = 16 * 1024;
/// Pieces of a stream that wait for a slow reader.
pub(super) const PIECES_MAX: usize = 16;
/// Bytes of one piece.
const PIECE_BYTES: usize = 32 * 1024;

pub(super) fn pipe_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe2(OFlag::O_CLOEXEC)?)
}

pub(super) fn reader(descriptor: OwnedFd) -> io::Result<pipe::Receiver> {
    set_nonblocking(&descriptor)?;
    pipe::Receiver::from_owned_fd(descriptor)
}

pub(super) fn set_nonblocking(descriptor: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, fcntl};
    fcntl(descriptor, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The exit code that the shim tells at the end.
async fn exit_code(replies: &mut Replies) -> anyhow::Result<i32> {
    match replies.next().await? {
        Some(Reply::ExecExited { code }) => Ok(code),
        Some(Reply::Failed { message }) => bail!(message),
        _ => bail!("the shim ended before the command did"),
    }
}

/// Reads a stream to its end and keeps its beginning.
async fn keep(mut from: pipe::Receiver) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        let room = OUTPUT_BYTES_MAX - kept.len();
        kept.extend_from_slice(&piece[..read.min(room)]);
    }
    kept
}

impl Embedded {
    fn exec_request(&self, id: &str, command: Vec<String>, stdin: bool, tty: bool) -> Result<(String, Request), RuntimeError> {
        let record = self.shared.state.container(id).ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))?;
        let process = ExecProcess { id: id.to_owned(), command, stdin, tty, kill_on_close: true };
        Ok((record.sandbox_id, Request::Exec(process)))
    }

    /// Runs a command and waits for it, at most `timeout`.
    pub(super) async fn run_command(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecResult, RuntimeError> {
        let (sandbox, request) = self.exec_request(id, command, false, false)?;
        let run = async {
            let ((out, out_far), (err, err_far)) = (pipe_pair()?, pipe_pair()?);
            let (out, err) = (reader(out)?, reader(err)?);
            let answer = self.shim(&sandbox).ask(request, vec![out_far, err_far]).await?;
            let mut replies = Replies::new(answer)?;
            // A process that the command left behind may hold the streams open: only its own end counts.
            let (stdout, stderr) = (tokio::spawn(keep(out)), tokio::spawn(keep(err)));
            let exit_code = exit_code(&mut replies).await?;
            let drained = async { (stdout.await.unwrap_or_default(), stderr.await.unwrap_or_default()) };
            let (stdout, stderr) = tokio::time::timeout(Duration::from_secs(1), drained).await.unwrap_or_default();
            anyhow::Ok(ExecResult { stdout, stderr, exit_code })
        };
        match tokio::time::timeout(timeout, run).await {
            Ok(result) => result.map_err(|error| failed("exec", error)),
            // Dropping the connection made the shim kill the command.
            Err(_) => Err(RuntimeError::Timeout(timeout)),
        }
    }

    /// Runs a command with its streams attached.
    pub(super) async fn open_session(&self, id: &str, request: ExecRequest) -> Result<ExecSession, RuntimeError> {
        let (sandbox, wire) = self.exec_request(id, request.command, request.stdin, request.tty)?;
        let shim = self.shim(&sandbox);
        let opened = async {
            if request.tty {
                let answer = shim.ask(wire, Vec::new()).await?;
                return terminal_session(answer, request.stdin);
            }
            let ((out, out_far), (err, err_far)) = (pipe_pair()?, pipe_pair()?);
            let (out, err) = (reader(out)?, reader(err)?);
            let mut descriptors = Vec::new();
            let mut stdin = None;
            if request.stdin {
                let (far, near) = pipe_pair()?;
                set_nonblocking(&near)?;
                descriptors.push(far);
                stdin = Some(feed(pipe::Sender::from_owned_fd(near)?));
            }
            descriptors.extend([out_far, err_far]);
            let answer = shim.ask(wire, descriptors).await?;
            let (stdout, stderr) = (drain(out), drain(err));
            Ok(ExecSession { stdin, stdout, stderr, resize: None, exit: wait(Replies::new(answer)?) })
        };
        opened.await.map_err(|error: anyhow::Error| failed("exec", error))
    }
}

fn wait(mut replies: Replies) -> oneshot::Receiver<Result<i32, RuntimeError>> {
    let (mut sender, exit) = oneshot::channel();
    tokio::spawn(async move {
        let code = tokio::select! {
            code = exit_code(&mut replies) => code,
            // Nobody waits any more: hanging up kills the command.
            () = sender.closed() => return,
        };
        // The receiver may have gone at the same moment.
        let _ = sender.send(code.map_err(|error| failed("exec", error)));
    });
    exit
}

pub(super) fn drain(mut from: pipe::Receiver) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    tokio::spawn(async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE_BYTES);
            match from.read_buf(&mut buffer).await {
                Ok(1..) if sender.send(buffer.split().freeze()).await.is_ok() => {}
                _ => return,
            }
        }
    });
    receiver
}

fn feed(mut to: pipe::Sender) -> mpsc::Sender<Bytes> {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(PIECES_MAX);
    tokio::spawn(async move {
        while let Some(piece) = receiver.recv().await {
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    });
    sender
}

/// A session whose streams are one terminal.
fn terminal_session(mut answer: super::shim::Answer, stdin: bool) -> anyhow::Result<ExecSession> {
    let descriptor = answer.descriptors.pop().context("no terminal came with the answer")?;
    set_nonblocking(&descriptor)?;
    let terminal = Arc::new(watched(descriptor)?);
    let (output, stdout) = mpsc::channel(PIECES_MAX);
    let screen = terminal.clone();
    tokio::spawn(async move {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(read @ 1..) = read_terminal(&screen, &mut piece).await {
            if output.send(Bytes::copy_from_slice(&piece[..read])).await.is_err() {
                return;
            }
        }
    });
    let (input, resize) = control(terminal, stdin);
    let (_, stderr) = mpsc::channel(1);
    Ok(ExecSession { stdin: input, stdout, stderr, resize: Some(resize), exit: wait(Replies::new(answer)?) })
}

/// The way to a terminal's input, if it is wanted, and to its size.
pub(super) fn control(terminal: Arc<AsyncFd<OwnedFd>>, stdin: bool) -> (Option<mpsc::Sender<Bytes>>, mpsc::Sender<(u16, u16)>) {
    let (resize, mut sizes) = mpsc::channel::<(u16, u16)>(PIECES_MAX);
    let screen = Arc::clone(&terminal);
    tokio::spawn(async move {
        while let Some((columns, rows)) = sizes.recv().await {
            set_size(screen.get_ref(), columns, rows);
        }
    });
    let input = stdin.then(|| {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(PIECES_MAX);
        tokio::spawn(async move {
            while let Some(piece) = receiver.recv().await {
                if write_terminal(&terminal, &piece).await.is_err() {
                    return;
                }
            }
        });
        sender
    });
    (input, resize)
}

#[allow(unsafe_code)]
pub(super) fn watched(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor stays open as long as it is watched, because what watches it owns it.
    unsafe { AsyncFd::register(descriptor) }.map_err(Into::into)
}

async fn read_terminal(terminal: &AsyncFd<OwnedFd>, into: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut ready = terminal.readable().await?;
        match ready.try_io(|terminal| Ok(nix::unistd::read(terminal.get_ref().as_fd(), into)?)) {
            Ok(result) => return result,
            Err(_) => continue,
        }
    }
}

async fn write_terminal(terminal: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = terminal.writable().await?;
        if let Ok(written) = ready.try_io(|terminal| Ok(nix::unistd::write(terminal.get_ref().as_fd(), bytes)?)) {
            bytes = &bytes[written?..];
        }
    }
    Ok(())
}

#[allow(unsafe_code)]
fn set_size(terminal: &OwnedFd, columns: u16, rows: u16) {
    let size = nix::libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize from the pointer, which lives through the call; the descriptor is
    // open because it is borrowed. A terminal that refuses keeps its size, which harms nobody.
    let _ = unsafe { nix::libc::ioctl(terminal.as_raw_fd(), nix::libc::TIOCSWINSZ, &size) };
}
