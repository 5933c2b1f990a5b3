//! Blocks of headers: names and values, compressed with a dictionary that both sides know.
//!
//! One compressed stream runs through all blocks of a connection in one direction. What goes out is stored and not
//! compressed, which every reader of the format takes; what comes in is inflated. Pure.

use std::{io, sync::LazyLock};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress};

/// Bytes of headers in one block, inflated.
const BLOCK_BYTES_MAX: usize = 64 * 1024;
/// Longest piece that deflate stores at once.
const STORED_MAX: usize = 0xffff;

/// Words of the dictionary, each of which is led by its length in four bytes.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age \
    allow authorization cache-control connection content-base content-encoding content-language content-length \
    content-location content-md5 content-range content-type date etag expect expires from host if-match if-modified-since \
    if-none-match if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate \
    proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning \
    www-authenticate method get status 200+OK version HTTP/1.1 url public set-cookie keep-alive origin";
/// What follows the words.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
    Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
    Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec \
    00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
    application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
    utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut dictionary = Vec::new();
    for word in WORDS.split_whitespace() {
        let word = word.replace('+', " ");
        dictionary.put_u32(u32::try_from(word.len()).unwrap_or(0));
        dictionary.put_slice(word.as_bytes());
    }
    dictionary.put_slice(TAIL.as_bytes());
    dictionary
});

/// Names and values, in their order.
pub type Headers = Vec<(String, String)>;

fn damaged(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("damaged headers: {what}"))
}

/// Reads the blocks of one direction.
pub struct Reader(Decompress);

impl Reader {
    pub fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// The headers of the next block.
    pub fn read(&mut self, block: &[u8]) -> io::Result<Headers> {
        let mut plain = Vec::with_capacity(BLOCK_BYTES_MAX);
        let begin = self.0.total_in();
        loop {
            let used = usize::try_from(self.0.total_in() - begin).map_err(damaged)?;
            let rest = block.get(used..).unwrap_or_default();
            match self.0.decompress_vec(rest, &mut plain, FlushDecompress::Sync) {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(damaged)?;
                }
                Err(error) => return Err(damaged(error)),
                Ok(_) if usize::try_from(self.0.total_in() - begin).map_err(damaged)? == block.len() => break,
                Ok(_) if plain.len() == plain.capacity() => return Err(damaged("too many")),
                Ok(flate2::Status::Ok) => {}
                Ok(_) => return Err(damaged("incomplete")),
            }
        }
        parse(Bytes::from(plain))
    }
}

fn parse(mut plain: Bytes) -> io::Result<Headers> {
    let count = plain.try_get_u32().map_err(damaged)?;
    let text = |plain: &mut Bytes| {
        let length = plain.try_get_u32().map_err(damaged)? as usize;
        if length > plain.len() {
            return Err(damaged("too short"));
        }
        String::from_utf8(plain.split_to(length).to_vec()).map_err(damaged)
    };
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut plain)?;
        headers.push((name, text(&mut plain)?));
    }
    Ok(headers)
}

/// Writes the blocks of one direction.
#[derive(Default)]
pub struct Writer {
    begun: bool,
}

impl Writer {
    /// The next block.
    pub fn write(&mut self, headers: &Headers) -> Bytes {
        let mut plain = BytesMut::new();
        let length = |text: &str| u32::try_from(text.len()).unwrap_or(0);
        plain.put_u32(u32::try_from(headers.len()).unwrap_or(0));
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(length(text));
            plain.put_slice(text.as_bytes());
        }
        let mut block = BytesMut::new();
        if !std::mem::replace(&mut self.begun, true) {
            // Deflate with a window of 32 KiB, no dictionary, least effort; a check of these two bytes is in them.
            block.put_u16(0x7801);
        }
        for piece in plain.chunks(STORED_MAX) {
            let length = u16::try_from(piece.len()).unwrap_or(0);
            block.put_u8(0);
            block.put_u16_le(length);
            block.put_u16_le(!length);
            block.put_slice(piece);
        }
        // An empty piece is the mark of a flush: readers hold back what no mark follows.
        block.put_slice(&[0, 0, 0, 0xff, 0xff]);
        block.freeze()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    fn headers(list: &[(&str, &str)]) -> Headers {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_dictionary_is_the_protocols() {
        assert_eq!(DICTIONARY.len(), 1423);
        assert_eq!(DICTIONARY[..11], *b"\0\0\0\x07options");
    }

    #[test]
    fn stored_blocks_are_read_back() {
        let (mut reader, mut writer) = (Reader::new(), Writer::default());
        for sent in [headers(&[("a", "1")]), headers(&[]), headers(&[("streamtype", "stdout"), ("b", &"x".repeat(9000))])] {
            assert_eq!(reader.read(&writer.write(&sent)).unwrap(), sent);
        }
    }

    /// Go's reader shows nothing of a stored piece before the next piece begins.
    #[test]
    fn every_block_ends_with_a_flush() {
        let block = Writer::default().write(&headers(&[("a", "1")]));
        assert!(block.ends_with(&[0, 0, 0, 0xff, 0xff]));
    }

    /// As clients write them: deflated with the dictionary, one stream through all blocks.
    #[test]
    fn blocks_deflated_with_the_dictionary_are_read() {
        let mut compress = Compress::new(Compression::best(), true);
        compress.set_dictionary(&DICTIONARY).unwrap();
        let mut reader = Reader::new();
        for sent in [headers(&[("streamtype", "error"), ("port", "80")]), headers(&[("streamtype", "data"), ("port", "80")])] {
            let stored = Writer { begun: true }.write(&sent);
            let mut deflated = Vec::with_capacity(4096);
            compress.compress_vec(&stored[5..stored.len() - 5], &mut deflated, FlushCompress::Sync).unwrap();
            assert_eq!(reader.read(&deflated).unwrap(), sent);
        }
    }

    #[test]
    fn damage_is_told() {
        assert!(Reader::new().read(b"nonsense").is_err());
        assert!(parse(Bytes::from_static(b"\0\0\0\x01\0\0\0\x09a")).is_err());
    }
}
