//! A netlink socket to the kernel's flow table.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
        sockopt::ReceiveTimeout,
    },
    time::TimeVal,
};

use super::message::{self, Answer, Flow};
use crate::endpoints::Family;

/// The kernel answers at once or never.
const DEADLINE_SECONDS: i64 = 5;
/// Bytes of one answer at most; the kernel sends 32 KiB.
const BUFFER_BYTES: usize = 64 << 10;
/// The flow is gone already.
const NO_SUCH_ENTRY: i32 = -2;

/// The socket.
pub struct Socket {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens one.
    pub fn open() -> io::Result<Self> {
        let protocol = SockProtocol::NetlinkNetFilter;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(DEADLINE_SECONDS, 0))?;
        Ok(Self { socket, buffer: vec![0; BUFFER_BYTES] })
    }

    fn receive(&mut self) -> io::Result<Vec<Answer>> {
        let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
        Ok(message::parse(&self.buffer[..length]))
    }

    fn ask(&mut self, request: &[u8], mut each: impl FnMut(Flow)) -> io::Result<i32> {
        send(self.socket.as_raw_fd(), request, MsgFlags::empty())?;
        loop {
            for answer in self.receive()? {
                match answer {
                    Answer::Flow(flow) => each(flow),
                    Answer::Other => {}
                    Answer::End(error) => return Ok(error),
                }
            }
        }
    }

    /// All flows of a family.
    pub fn flows(&mut self, family: Family) -> io::Result<Vec<Flow>> {
        let mut flows = Vec::new();
        match self.ask(&message::dump(family), |flow| flows.push(flow))? {
            0 => Ok(flows),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }

    /// Forgets a flow.
    pub fn delete(&mut self, family: Family, flow: &Flow) -> io::Result<()> {
        match self.ask(&message::delete(family, flow), |_| {})? {
            0 | NO_SUCH_ENTRY => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}
