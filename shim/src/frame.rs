//! Frames: a length in four bytes, least first, then JSON; descriptors travel beside the first byte.
//!
//! In: values to send. Out: bytes, and values again. A frame longer than [`FRAME_BYTES_MAX`] is refused
//! before anything is allocated for it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::{Serialize, de::DeserializeOwned};

/// Longest frame: a command line may have 128 KiB per argument.
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// Most descriptors beside a frame: input, output, error.
pub const DESCRIPTORS_MAX: usize = 3;

/// The bytes of one value.
pub fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(value)?;
    if body.len() > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "frame too long"));
    }
    let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Takes one whole frame from the front of `buffer`; `None` while it is incomplete.
pub fn decode<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some(head) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*head) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too long"));
    }
    let Some(body) = buffer.get(4..4 + length) else {
        return Ok(None);
    };
    let value = serde_json::from_slice(body)?;
    buffer.drain(..4 + length);
    Ok(Some(value))
}

/// Sends one value and the descriptors that belong to it.
pub fn send<T: Serialize>(stream: &UnixStream, value: &T, descriptors: &[RawFd]) -> io::Result<()> {
    let bytes = encode(value)?;
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control: &[ControlMessage<'_>] = if descriptors.is_empty() { &[] } else { &rights };
    let sent = sendmsg::<UnixAddr>(stream.as_raw_fd(), &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    let mut rest = &bytes[sent..];
    while !rest.is_empty() {
        let sent = sendmsg::<UnixAddr>(stream.as_raw_fd(), &[IoSlice::new(rest)], &[], MsgFlags::MSG_NOSIGNAL, None)?;
        rest = &rest[sent..];
    }
    Ok(())
}

/// Reads what is there into `buffer`, and descriptors into `descriptors`. 0 means the end.
pub fn receive(stream: &UnixStream, buffer: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut chunk = [0_u8; 4096];
    let mut control = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let mut slices = [IoSliceMut::new(&mut chunk)];
    let message = recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = part {
            for descriptor in received {
                descriptors.push(adopt(descriptor));
            }
        }
    }
    let read = message.bytes;
    buffer.extend_from_slice(&chunk[..read]);
    Ok(read)
}

/// Reads one value from a blocking stream, with the descriptors that came along; what follows stays in `buffer`.
pub fn read<T: DeserializeOwned>(stream: &UnixStream, buffer: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> io::Result<T> {
    loop {
        if let Some(value) = decode(buffer)? {
            return Ok(value);
        }
        if receive(stream, buffer, descriptors)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Takes over a descriptor that the kernel has just handed to this process.
#[allow(unsafe_code)]
fn adopt(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the number comes from SCM_RIGHTS of a message received in this call, so it is open, belongs to
    // this process and has no other owner.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        fs::File,
        io::{Read, Write},
    };

    use super::*;
    use crate::protocol::Request;

    #[test]
    fn a_frame_is_taken_only_when_whole() {
        let bytes = encode(&Request::Kill { id: "a".into(), signal: 15 }).unwrap();
        let mut buffer = bytes[..bytes.len() - 1].to_vec();
        assert!(decode::<Request>(&mut buffer).unwrap().is_none());
        buffer.push(bytes[bytes.len() - 1]);
        buffer.push(7);
        assert!(matches!(decode::<Request>(&mut buffer).unwrap(), Some(Request::Kill { signal: 15, .. })));
        assert_eq!(buffer, [7]);
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused() {
        let mut buffer = u32::MAX.to_le_bytes().to_vec();
        assert!(decode::<Request>(&mut buffer).is_err());
    }

    #[test]
    fn descriptors_travel_with_the_frame() {
        let (left, right) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        send(&left, &Request::State, &[file.as_raw_fd()]).unwrap();
        let mut descriptors = Vec::new();
        assert!(matches!(read::<Request>(&right, &mut Vec::new(), &mut descriptors).unwrap(), Request::State));
        let mut received = File::from(descriptors.pop().unwrap());
        received.write_all(b"through").unwrap();
        let mut text = String::new();
        io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }
}
