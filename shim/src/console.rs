//! Terminals: libcontainer makes one inside the container and hands its descriptor over a socket.
//!
//! In: a connection of the new process. Out: the terminal's descriptor.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
};

use kontiki_shim::frame;

const SOCKET: &str = "console.sock";

/// A socket that waits for one terminal.
pub struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    /// Listens in the sandbox's folder.
    pub fn bind() -> io::Result<Console> {
        // Left over from an attempt that failed.
        let _ = fs::remove_file(SOCKET);
        let listener = UnixListener::bind(SOCKET)?;
        // libcontainer makes a link to it from a folder of its own, so the path must be whole.
        Ok(Console { listener, path: std::env::current_dir()?.join(SOCKET) })
    }

    /// What libcontainer is to connect to.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The terminal, once the container has been made: the message lies in the queue by then.
    pub fn terminal(&self) -> io::Result<OwnedFd> {
        self.listener.set_nonblocking(true)?;
        let (stream, _): (UnixStream, _) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        let mut descriptors = Vec::new();
        frame::receive(&stream, &mut Vec::new(), &mut descriptors)?;
        descriptors.pop().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no terminal came"))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // The next one removes it as well.
        let _ = fs::remove_file(SOCKET);
    }
}
