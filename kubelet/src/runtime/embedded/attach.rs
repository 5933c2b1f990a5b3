//! Attaching to running containers, and connections into a pod's network.

use std::{fs::File, net::IpAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use kontiki_shim::protocol::Request;
use nix::sched::{CloneFlags, setns};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, unix::pipe},
    sync::{mpsc, oneshot},
};

use super::{
    Embedded, blocking,
    exec::{PIECES_MAX, control, drain, pipe_pair, reader, set_nonblocking, watched},
    failed,
    records::ContainerRecord,
};
use crate::{
    network::namespace::on_thread,
    runtime::{ExecSession, RuntimeError},
};

/// How long a connection inside a pod may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Loopback addresses, in the order in which they are tried.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];

impl Embedded {
    /// Attaches to a container.
    pub(super) async fn open_attached(&self, id: &str, stdin: bool) -> Result<ExecSession, RuntimeError> {
        let record = self.shared.state.container(id).ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))?;
        let opened = async {
            let ((out, out_far), (err, err_far)) = (pipe_pair()?, pipe_pair()?);
            let (out, err) = (reader(out)?, reader(err)?);
            let request = Request::Attach { id: id.to_owned() };
            let mut answer = self.shim(&record.sandbox_id).ask(request, vec![out_far, err_far]).await?;
            let input = answer.descriptors.pop();
            let (stdin, resize) = match input {
                Some(terminal) if record.tty => {
                    set_nonblocking(&terminal)?;
                    let (input, resize) = control(Arc::new(watched(terminal)?), stdin);
                    (input, Some(resize))
                }
                Some(input) if stdin => (Some(self.input(input, &record)?), None),
                _ => (None, None),
            };
            anyhow::Ok(ExecSession { stdin, stdout: drain(out), stderr: drain(err), resize, exit: self.end_of(id) })
        };
        opened.await.map_err(|error| failed("attach", error))
    }

    /// The way to a container's input; closed for good after its first client where the container says so.
    fn input(&self, input: OwnedFd, record: &ContainerRecord) -> anyhow::Result<mpsc::Sender<Bytes>> {
        set_nonblocking(&input)?;
        let mut pipe = pipe::Sender::from_owned_fd(input)?;
        let (sender, mut receiver) = mpsc::channel::<Bytes>(PIECES_MAX);
        let (shim, once, id) = (self.shim(&record.sandbox_id), record.stdin_once, record.id.clone());
        tokio::spawn(async move {
            while let Some(piece) = receiver.recv().await {
                if pipe.write_all(&piece).await.is_err() {
                    break;
                }
            }
            if once {
                // It may have ended meanwhile.
                let _ = shim.ask(Request::CloseInput { id }, Vec::new()).await;
            }
        });
        Ok(sender)
    }

    /// Told once a container has ended: an attached client is not told its exit code.
    fn end_of(&self, id: &str) -> oneshot::Receiver<Result<i32, RuntimeError>> {
        let (mut sender, exit) = oneshot::channel();
        let (runtime, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            tokio::select! {
                () = runtime.wait_for_end(&id) => {
                    // The receiver may have gone at the same moment.
                    let _ = sender.send(Ok(0));
                }
                () = sender.closed() => {}
            }
        });
        exit
    }

    /// Connects to a port on a pod's loopback address.
    pub(super) async fn connect_inside(&self, sandbox: &str, port: u16) -> Result<TcpStream, RuntimeError> {
        let record = self.shared.state.sandbox(sandbox).ok_or_else(|| RuntimeError::NotFound(format!("sandbox {sandbox}")))?;
        let connected = blocking("forward port", move || {
            let namespace = format!("/proc/{}/ns/net", record.shim_pid);
            on_thread(move || {
                setns(File::open(&namespace).context("open the pod's network namespace")?, CloneFlags::CLONE_NEWNET)?;
                let mut last = None;
                for address in LOOPBACK {
                    match std::net::TcpStream::connect_timeout(&(address, port).into(), CONNECT_DEADLINE) {
                        Ok(stream) => return Ok(stream),
                        Err(error) => last = last.or(Some(error)),
                    }
                }
                let refused = last.as_ref().is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
                let words = if refused {
                    "connect: connection refused".to_owned()
                } else {
                    last.map(|error| error.to_string()).unwrap_or_default()
                };
                anyhow::bail!(
                    "failed to execute portforward in network namespace {namespace:?}: failed to connect to localhost:{port} inside namespace: dial tcp4 127.0.0.1:{port}: {words}"
                )
            })
        });
        let stream = connected.await?;
        let adopted = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        adopted.map_err(|error| failed("forward port", error))
    }
}
