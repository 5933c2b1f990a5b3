//! The one loop of the shim: socket, ends of processes, output of containers.
//!
//! In: connections of root. Out: replies. Nothing here waits except `poll`.

use std::{
    collections::BTreeMap,
    fs,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::net::{UnixListener, UnixStream},
    },
};

use anyhow::Context;
use kontiki_shim::{
    frame,
    protocol::{ExecProcess, Reply, Request, SOCKET},
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, SigmaskHow, Signal, killpg, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        socket::{getsockopt, sockopt::PeerCredentials},
        stat::{Mode, umask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::{containers::Containers, exec};

/// Most connections at once; a probe or a session has one each.
const CONNECTIONS_MAX: usize = 256;

/// One peer.
struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    watching: bool,
    command: Option<Command>,
}

/// The command that a connection waits for.
struct Command {
    pid: Pid,
    kill_on_close: bool,
}

/// What `poll` can be ready for.
enum Source {
    Listener,
    Signals,
    Connection(u64),
    Output(String, usize),
}

/// The shim's state.
pub struct Server {
    listener: UnixListener,
    signals: SignalFd,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    containers: Containers,
    /// The process whose PID namespace the containers share.
    pause: Option<Pid>,
    ending: bool,
}

impl Server {
    /// Listens in the sandbox's folder, for root only.
    pub fn bind(pause: Option<Pid>) -> anyhow::Result<Server> {
        let mut children = SigSet::empty();
        children.add(Signal::SIGCHLD);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&children), None)?;
        let signals = SignalFd::with_flags(&children, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        // Of an earlier shim of this sandbox; two cannot run, the kubelet starts one.
        let _ = fs::remove_file(SOCKET);
        let mask = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(SOCKET).context("cannot listen")?;
        umask(mask);
        listener.set_nonblocking(true)?;
        Ok(Server {
            listener,
            signals,
            connections: BTreeMap::new(),
            next_connection: 0,
            containers: Containers::default(),
            pause,
            ending: false,
        })
    }

    /// Serves until the kubelet says that it is over.
    pub fn serve(&mut self) -> anyhow::Result<()> {
        while !self.ending || self.containers.any_running() {
            for (source, closed) in self.wait()? {
                match source {
                    Source::Listener => self.accept(),
                    Source::Signals => self.reap(),
                    Source::Connection(number) => self.hear(number, closed),
                    Source::Output(id, index) => self.containers.pump(&id, index),
                }
            }
        }
        // Gone before the process is: whoever finds no socket knows that there is no shim.
        let _ = fs::remove_file(SOCKET);
        Ok(())
    }

    /// Waits until something is ready. Outputs come last to first, so that removing one moves no other.
    fn wait(&self) -> anyhow::Result<Vec<(Source, bool)>> {
        let mut sources = vec![Source::Listener, Source::Signals];
        let mut polled =
            vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN), PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        for (number, connection) in &self.connections {
            sources.push(Source::Connection(*number));
            polled.push(PollFd::new(connection.stream.as_fd(), PollFlags::POLLIN));
        }
        let mut outputs: Vec<_> = self.containers.outputs().collect();
        outputs.reverse();
        for (id, index, descriptor) in outputs {
            sources.push(Source::Output(id.to_owned(), index));
            polled.push(PollFd::new(descriptor, PollFlags::POLLIN));
        }
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("poll failed"),
        }
        let ready = polled.iter().map(|entry| entry.revents().unwrap_or(PollFlags::empty())).collect::<Vec<_>>();
        Ok(sources
            .into_iter()
            .zip(ready)
            .filter(|(_, events)| !events.is_empty())
            .map(|(source, events)| (source, !events.contains(PollFlags::POLLIN)))
            .collect())
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        let trusted = getsockopt(&stream, PeerCredentials).is_ok_and(|peer| peer.uid() == 0);
        if !trusted || self.connections.len() >= CONNECTIONS_MAX || stream.set_nonblocking(true).is_err() {
            return;
        }
        let connection = Connection { stream, buffer: Vec::new(), descriptors: Vec::new(), watching: false, command: None };
        self.connections.insert(self.next_connection, connection);
        self.next_connection += 1;
    }

    /// Reads from a connection and does what it asks; drops it at its end or when it makes no sense.
    fn hear(&mut self, number: u64, closed: bool) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let read = frame::receive(&connection.stream, &mut connection.buffer, &mut connection.descriptors);
        let ended = match read {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => closed || error.kind() != std::io::ErrorKind::WouldBlock,
        };
        if ended {
            return self.hang_up(number);
        }
        match frame::decode::<Request>(&mut connection.buffer) {
            Ok(None) => {}
            Ok(Some(request)) => self.answer(number, request),
            Err(error) => {
                eprintln!("cannot understand a request: {error}");
                self.hang_up(number);
            }
        }
    }

    fn hang_up(&mut self, number: u64) {
        let Some(connection) = self.connections.remove(&number) else {
            return;
        };
        if let Some(Command { pid, kill_on_close: true }) = connection.command {
            // The command leads a group of its own; it may have ended already.
            let _ = killpg(pid, Signal::SIGKILL);
        }
    }

    fn answer(&mut self, number: u64, request: Request) {
        let outcome = match request {
            Request::Start(container) => self.containers.start(container),
            Request::Kill { id, signal } => self.containers.kill(&id, signal),
            Request::Delete { id } => self.containers.delete(&id),
            Request::ReopenLog { id } => self.containers.reopen_log(&id),
            Request::Exec(process) => return self.exec(number, &process),
            Request::Attach { id } => return self.attach(number, &id),
            Request::CloseInput { id } => {
                self.containers.close_input(&id);
                Ok(())
            }
            Request::State => {
                let containers = self.containers.statuses();
                return self.reply(number, &Reply::State { containers }, &[]);
            }
            Request::Watch => {
                if let Some(connection) = self.connections.get_mut(&number) {
                    connection.watching = true;
                }
                Ok(())
            }
            Request::Shutdown => {
                self.containers.kill_all();
                self.ending = true;
                Ok(())
            }
        };
        self.reply(number, &outcome.map_or_else(|message| Reply::Failed { message }, |()| Reply::Done), &[]);
    }

    fn exec(&mut self, number: u64, process: &ExecProcess) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let descriptors = std::mem::take(&mut connection.descriptors);
        let Some(bundle) = self.containers.running_bundle(&process.id) else {
            let message = format!("container {} is not running", process.id);
            return self.reply(number, &Reply::Failed { message }, &[]);
        };
        match exec::exec(process, &bundle, descriptors) {
            Ok((pid, terminal)) => {
                connection.command = Some(Command { pid, kill_on_close: process.kill_on_close });
                let terminal: Vec<RawFd> = terminal.iter().map(AsRawFd::as_raw_fd).collect();
                self.reply(number, &Reply::ExecStarted, &terminal);
            }
            Err(message) => self.reply(number, &Reply::Failed { message }, &[]),
        }
    }

    fn attach(&mut self, number: u64, id: &str) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let pipes = std::mem::take(&mut connection.descriptors);
        match self.containers.attach(id, pipes) {
            Ok(input) => {
                let input: Vec<RawFd> = input.iter().map(AsRawFd::as_raw_fd).collect();
                self.reply(number, &Reply::Done, &input);
            }
            Err(message) => self.reply(number, &Reply::Failed { message }, &[]),
        }
    }

    fn reply(&mut self, number: u64, reply: &Reply, descriptors: &[RawFd]) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        if frame::send(&connection.stream, reply, descriptors).is_err() {
            // It has gone, or does not read: the kubelet connects again.
            self.hang_up(number);
        }
    }

    /// Collects every process that has ended, orphans included.
    fn reap(&mut self) {
        // One signal may stand for many; what counts is what wait says.
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            let (pid, code, signal) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code, 0),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 0, signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if self.pause == Some(pid) {
                // The kernel has killed all containers with it.
                self.ending = true;
            }
            if let Some(status) = self.containers.exited(pid, code, signal) {
                self.tell_watchers(&Reply::Exited(status));
            }
            self.command_ended(pid, if signal == 0 { code } else { 128 + signal });
        }
    }

    fn tell_watchers(&mut self, reply: &Reply) {
        let watchers: Vec<u64> =
            self.connections.iter().filter(|(_, connection)| connection.watching).map(|(number, _)| *number).collect();
        for number in watchers {
            self.reply(number, reply, &[]);
        }
    }

    fn command_ended(&mut self, pid: Pid, code: i32) {
        let waiting = self
            .connections
            .iter_mut()
            .find(|(_, connection)| connection.command.as_ref().is_some_and(|command| command.pid == pid));
        let Some((number, connection)) = waiting else {
            return;
        };
        connection.command = None;
        let number = *number;
        self.reply(number, &Reply::ExecExited { code }, &[]);
    }
}
