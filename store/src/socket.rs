//! Sockets that listen, on a port or in a file, and the files' life.
//!
//! In comes an [`Address`]; out come connections. Invariant: a socket's file is there as long as its
//! listener, and goes with it; one that a killed process left behind hinders nobody, and what belongs
//! to somebody else is not touched.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixSocket, UnixStream};

use crate::place::Address;

/// Bytes that the kernel has room for in a socket's name.
const PATH_BYTES_MAX: usize = 107;

/// Connections that may wait until they are taken, as many as Linux allows by itself. With Rust's 128 some of a few hundred
/// clients that come at once would wait a second for their next try.
pub const BACKLOG: u32 = 4096;

/// Listens on a port, with room for many that come at once.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Who starts again finds connections of its former life in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Why nothing listens at an address.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The port is taken, or the host is not this machine's.
    #[error(transparent)]
    Port(#[from] io::Error),
    /// The file is something that only its owner may take away.
    #[error("what lies there is no socket: move it away, or name another file")]
    NoSocket,
    /// A process answers there.
    #[error("another process listens there: end it, or name another file")]
    Taken,
    /// The kernel does not take such a long name.
    #[error("the path of a socket has at most {PATH_BYTES_MAX} bytes: name a shorter one, or one in the working directory")]
    TooLong,
    /// The file cannot be made.
    #[error("the socket's file cannot be made: its folder must be there, and this user must be allowed to write in it")]
    File(#[source] io::Error),
}

/// What has an address already; it takes connections on the runtime on which [`Bound::listen`] is called.
pub enum Bound {
    /// On a port.
    Port(std::net::TcpListener),
    /// In a file.
    File(StdUnixListener, SocketFile),
}

impl Bound {
    /// Takes an address.
    pub async fn to(address: &Address) -> Result<Self, BindError> {
        match address {
            Address::Port(address) => Ok(Self::Port(listen_on_one(address).await?.into_std()?)),
            Address::File(path) => {
                make_room(path).await?;
                // As with etcd, the process' umask says who may connect.
                let listener = listen_in_file(path).map_err(BindError::File)?;
                let file = SocketFile::new(path).map_err(BindError::File)?;
                Ok(Self::File(listener, file))
            }
        }
    }

    /// Takes connections from now on.
    pub fn listen(self) -> io::Result<Listener> {
        match self {
            Self::Port(listener) => TcpListener::from_std(listener).map(Listener::Port),
            Self::File(listener, file) => Ok(Listener::File(UnixListener::from_std(listener)?, file)),
        }
    }
}

/// On the first of the addresses that a name stands for that can be had.
async fn listen_on_one(name: &str) -> io::Result<TcpListener> {
    let mut refused = io::Error::new(io::ErrorKind::InvalidInput, "the host has no address");
    for address in tokio::net::lookup_host(name).await? {
        match listen(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn listen_in_file(path: &Path) -> io::Result<StdUnixListener> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Takes away the socket of a process that is no more.
async fn make_room(path: &Path) -> Result<(), BindError> {
    if path.as_os_str().len() > PATH_BYTES_MAX {
        return Err(BindError::TooLong);
    }
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BindError::File(error)),
        // etcd takes away whatever lies there; a mistyped path would cost a file.
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::NoSocket),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        // A queue that is full has an owner, if a slow one.
        Ok(_) => Err(BindError::Taken),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(BindError::Taken),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => remove(path).map_err(BindError::File),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(BindError::File(error)),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A file that a socket of this process listens in; it goes when this is dropped.
pub struct SocketFile {
    path: PathBuf,
    /// Device and number, by which it is known from one that another process put there since.
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = remove(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a socket's file");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    path.symlink_metadata().map(|found| (found.dev(), found.ino()))
}

/// What takes connections.
pub enum Listener {
    /// On a port.
    Port(TcpListener),
    /// In a file.
    File(UnixListener, SocketFile),
}

/// A connection that came in.
pub enum Accepted {
    /// On a port.
    Port(TcpStream),
    /// In a file.
    File(UnixStream),
}

impl Listener {
    /// The address, with the port that was found if any was wanted.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Port(listener) => listener.local_addr().map(|address| Address::Port(address.to_string())),
            Self::File(_, file) => Ok(Address::File(file.path.clone())),
        }
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Port(listener) => listener.accept().await.map(|(stream, _)| Accepted::Port(stream)),
            Self::File(listener, _) => listener.accept().await.map(|(stream, _)| Accepted::File(stream)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    async fn refusal(path: &Path) -> BindError {
        match Bound::to(&Address::File(path.to_owned())).await {
            Ok(_) => panic!("{} was taken", path.display()),
            Err(error) => error,
        }
    }

    #[tokio::test]
    async fn a_thousand_clients_come_at_once_and_none_has_to_try_again() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut connected = Vec::new();
        // Nobody takes them: they wait in the kernel, which tells a client without a place to try again a second later.
        for number in 0..1_000 {
            let connecting = tokio::time::timeout(Duration::from_millis(800), TcpStream::connect(address)).await;
            connected.push(connecting.unwrap_or_else(|_| panic!("client {number} has no place")).unwrap());
        }
    }

    #[tokio::test]
    async fn a_file_lives_as_long_as_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = Bound::to(&Address::File(path.clone())).await.unwrap().listen().unwrap();
        assert_eq!(listener.address().unwrap(), Address::File(path.clone()));
        assert!(matches!(refusal(&path).await, BindError::Taken));
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_a_dead_process_left_goes_and_anything_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        // The standard library leaves the file behind, as a process does that is killed.
        drop(StdUnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = Bound::to(&Address::File(path.clone())).await.unwrap();
        // Somebody took the file away and put another there: it is not this listener's to remove.
        std::fs::remove_file(&path).unwrap();
        let other = StdUnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists());
        drop(other);

        let text = folder.path().join("text");
        std::fs::write(&text, "precious").unwrap();
        assert!(matches!(refusal(&text).await, BindError::NoSocket));
        assert_eq!(std::fs::read_to_string(&text).unwrap(), "precious");
        assert!(matches!(refusal(&folder.path().join("none/s")).await, BindError::File(_)));
        assert!(matches!(refusal(&folder.path().join("s".repeat(PATH_BYTES_MAX))).await, BindError::TooLong));
    }
}
