//! Frames of SPDY/3: bytes in, frames out, and back. Pure.
//!
//! <https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Longest frame that is taken: clients write pieces of 32 KiB.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Flag of the last frame that a side sends on a stream.
pub const FIN: u8 = 1;
const CONTROL: u16 = 0x8000;
const VERSION: u16 = 3;
const HEAD_BYTES: usize = 8;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;

/// One frame; headers are still compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The other side opens a stream.
    SynStream {
        /// Number.
        id: u32,
        /// Whether it sends nothing on it.
        fin: bool,
        /// Headers.
        block: Bytes,
    },
    /// An opened stream is accepted.
    SynReply {
        /// Number.
        id: u32,
        /// Headers.
        block: Bytes,
    },
    /// A stream ends at once.
    Reset {
        /// Number.
        id: u32,
        /// Why.
        status: u32,
    },
    /// Is anybody there?
    Ping(u32),
    /// The connection is about to end.
    GoAway,
    /// Contents of a stream.
    Data {
        /// Number.
        id: u32,
        /// Whether nothing follows.
        fin: bool,
        /// The contents.
        contents: Bytes,
    },
    /// Something that does not matter here: settings, windows, further headers.
    Other,
}

/// Takes one whole frame from the front of `buffer`; `None` while it is incomplete.
pub fn decode(buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
    let Some(head) = buffer.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let [a, b, c, d, flags, l1, l2, l3] = *head;
    let length = u32::from_be_bytes([0, l1, l2, l3]) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too long"));
    }
    if buffer.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    buffer.advance(HEAD_BYTES);
    let mut body = buffer.split_to(length).freeze();
    let first = u16::from_be_bytes([a, b]);
    if first & CONTROL == 0 {
        let id = u32::from_be_bytes([a, b, c, d]);
        return Ok(Some(Frame::Data { id, fin: flags & FIN != 0, contents: body }));
    }
    if first & !CONTROL != VERSION {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not SPDY/3"));
    }
    let short = || io::Error::new(io::ErrorKind::InvalidData, "frame too short");
    let number = |body: &mut Bytes| body.try_get_u32().map_err(|_| short());
    Ok(Some(match u16::from_be_bytes([c, d]) {
        SYN_STREAM => {
            let id = number(&mut body)? & 0x7fff_ffff;
            // The stream it belongs to, priority and slot.
            number(&mut body)?;
            body.try_get_u16().map_err(|_| short())?;
            Frame::SynStream { id, fin: flags & FIN != 0, block: body }
        }
        SYN_REPLY => Frame::SynReply { id: number(&mut body)? & 0x7fff_ffff, block: body },
        RST_STREAM => Frame::Reset { id: number(&mut body)? & 0x7fff_ffff, status: number(&mut body)? },
        PING => Frame::Ping(number(&mut body)?),
        GO_AWAY => Frame::GoAway,
        _ => Frame::Other,
    }))
}

/// Appends one frame to `buffer`.
pub fn encode(frame: &Frame, buffer: &mut BytesMut) {
    match frame {
        Frame::SynStream { id, fin, block } => {
            control(SYN_STREAM, u8::from(*fin) * FIN, 10 + block.len(), buffer);
            buffer.put_u32(*id);
            buffer.put_u32(0);
            buffer.put_u16(0);
            buffer.put_slice(block);
        }
        Frame::SynReply { id, block } => {
            control(SYN_REPLY, 0, 4 + block.len(), buffer);
            buffer.put_u32(*id);
            buffer.put_slice(block);
        }
        Frame::Reset { id, status } => {
            control(RST_STREAM, 0, 8, buffer);
            buffer.put_u32(*id);
            buffer.put_u32(*status);
        }
        Frame::Ping(id) => {
            control(PING, 0, 4, buffer);
            buffer.put_u32(*id);
        }
        Frame::GoAway => {
            control(GO_AWAY, 0, 8, buffer);
            buffer.put_u64(0);
        }
        Frame::Data { id, fin, contents } => {
            buffer.put_u32(*id);
            flags_and_length(u8::from(*fin) * FIN, contents.len(), buffer);
            buffer.put_slice(contents);
        }
        Frame::Other => {}
    }
}

fn control(kind: u16, flags: u8, length: usize, buffer: &mut BytesMut) {
    buffer.put_u16(CONTROL | VERSION);
    buffer.put_u16(kind);
    flags_and_length(flags, length, buffer);
}

fn flags_and_length(flags: u8, length: usize, buffer: &mut BytesMut) {
    buffer.put_u8(flags);
    // Pieces are far shorter than three bytes can say.
    buffer.put_uint(length as u64, 3);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written_and_only_when_whole() {
        let block = Bytes::from_static(b"headers");
        let frames = [
            Frame::SynStream { id: 1, fin: false, block: block.clone() },
            Frame::SynReply { id: 1, block },
            Frame::Data { id: 3, fin: true, contents: Bytes::from_static(b"hello") },
            Frame::Reset { id: 5, status: 1 },
            Frame::Ping(7),
            Frame::GoAway,
        ];
        for frame in frames {
            let mut whole = BytesMut::new();
            encode(&frame, &mut whole);
            let mut buffer = BytesMut::from(&whole[..whole.len() - 1]);
            assert_eq!(decode(&mut buffer).unwrap(), None);
            buffer.put_u8(whole[whole.len() - 1]);
            assert_eq!(decode(&mut buffer).unwrap(), Some(frame));
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(decode(&mut BytesMut::from(&[0_u8, 0, 0, 1, 0, 0xff, 0xff, 0xff][..])).is_err());
        assert!(decode(&mut BytesMut::from(&[0x80_u8, 2, 0, 1, 0, 0, 0, 0][..])).is_err());
        assert!(decode(&mut BytesMut::from(&[0x80_u8, 3, 0, 1, 0, 0, 0, 2, 0, 0][..])).is_err());
    }
}
