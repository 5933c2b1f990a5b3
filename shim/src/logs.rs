//! Container logs in CRI format: `2026-01-02T03:04:05.000000000Z stdout F line`.
//!
//! In: bytes of one stream as they come. Out: whole lines marked `F`, and pieces of lines that are longer
//! than [`PIECE_BYTES_MAX`] marked `P`. Every byte is kept, in order.

use jiff::Timestamp;

/// Longest piece of a line in one entry, as containerd cuts them.
pub const PIECE_BYTES_MAX: usize = 16 * 1024;

/// Cuts one stream into log entries.
pub struct Framer {
    stream: &'static str,
    pending: Vec<u8>,
}

impl Framer {
    /// For `stdout` or `stderr`.
    pub fn new(stream: &'static str) -> Framer {
        Framer { stream, pending: Vec::new() }
    }

    /// The stream's name.
    pub fn stream(&self) -> &'static str {
        self.stream
    }

    /// Takes bytes in and appends the entries that are ready to `entries`.
    pub fn push(&mut self, mut bytes: &[u8], now: Timestamp, entries: &mut Vec<u8>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.fill(&bytes[..end], now, entries);
            self.emit('F', now, entries);
            bytes = &bytes[end + 1..];
        }
        self.fill(bytes, now, entries);
        if self.pending.is_empty() {
            // A quiet stream keeps no buffer.
            self.pending = Vec::new();
        }
    }

    /// The stream has ended: what is left is a line without its end.
    pub fn finish(&mut self, now: Timestamp, entries: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            self.emit('P', now, entries);
        }
    }

    fn fill(&mut self, mut bytes: &[u8], now: Timestamp, entries: &mut Vec<u8>) {
        while self.pending.len() + bytes.len() > PIECE_BYTES_MAX {
            let (head, tail) = bytes.split_at(PIECE_BYTES_MAX - self.pending.len());
            self.pending.extend_from_slice(head);
            self.emit('P', now, entries);
            bytes = tail;
        }
        self.pending.extend_from_slice(bytes);
    }

    fn emit(&mut self, tag: char, now: Timestamp, entries: &mut Vec<u8>) {
        entries.extend_from_slice(format!("{now:.9} {} {tag} ", self.stream).as_bytes());
        entries.append(&mut self.pending);
        entries.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&str], expected: &[(char, &str)]) {
        let now = Timestamp::UNIX_EPOCH;
        let mut framer = Framer::new("stdout");
        let mut entries = Vec::new();
        for chunk in chunks {
            framer.push(chunk.as_bytes(), now, &mut entries);
        }
        framer.finish(now, &mut entries);
        let expected: String =
            expected.iter().map(|(tag, text)| format!("1970-01-01T00:00:00.000000000Z stdout {tag} {text}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&entries), expected);
    }

    #[test]
    fn lines_are_whole_whatever_the_chunks() {
        check(&["a\nb\n"], &[('F', "a"), ('F', "b")]);
        check(&["a", "b\n", "\n"], &[('F', "ab"), ('F', "")]);
        check(&["end without newline"], &[('P', "end without newline")]);
        check(&[], &[]);
    }

    #[test]
    fn long_lines_are_cut_into_pieces() {
        let long = "x".repeat(PIECE_BYTES_MAX);
        check(&[&long, "\n"], &[('F', &long)]);
        check(&[&format!("{long}yz\n")], &[('P', &long), ('F', "yz")]);
        check(&[&long, &long, "y"], &[('P', &long), ('P', &long), ('P', "y")]);
    }
}
