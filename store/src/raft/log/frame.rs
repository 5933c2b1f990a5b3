//! One write of the log as bytes in a segment: a frame. Pure.
//!
//! A frame is a head of 16 bytes (length of the body, checksums of body and head, a mark), the body, and one byte that is
//! never zero; frames begin at multiples of 16. The rest of a segment is zeros. So an incomplete last write, which leaves zeros
//! where it did not come, is told from damage, which does not. The head's checksum covers where the frame lies: what
//! was copied from elsewhere is none.
//! Invariant: only what no later frame follows, and what has a part missing, is taken for an incomplete last write. (Damage to
//! the very last write is taken for it too where that write holds a whole sector of zeros.)

use super::device::Record;

/// Frames begin at multiples of it; a divisor of the sector, so that no head lies in two of them.
pub const ALIGNMENT: usize = 16;
const HEAD: usize = 16;
const MARK: [u8; 4] = *b"Klog";
const END: u8 = 0xff;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// The layout, in the first frame of each segment.
const VERSION: u8 = 1;

const BEGIN: u8 = 0;
const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const TRUNCATED: u8 = 4;
const PURGED: u8 = 5;

/// Where an entry's record lies in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the entry.
    pub index: u64,
    /// Bytes before the record.
    pub offset: u32,
    /// Bytes of the record.
    pub length: u32,
}

/// One part of a frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The beginning of a segment: where the one before it ended.
    Begin(u32),
    /// An entry.
    Entry(Place),
    /// Something else, as it was written.
    Record(Record),
}

/// What lies at a place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A frame, and where the next one begins.
    Frame(Vec<Part>, usize),
    /// Nothing was ever written from here on.
    Nothing,
    /// The last write did not come to its end.
    Incomplete,
    /// Something that was written is no longer what it was.
    Damaged(&'static str),
}

/// A frame in the making.
pub struct Frame {
    bytes: Vec<u8>,
    places: Vec<Place>,
    offset: u32,
}

impl Frame {
    /// An empty one, to be written at an offset.
    #[must_use]
    pub fn new(offset: u32, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEAD + capacity + ALIGNMENT);
        bytes.resize(HEAD, 0);
        Self { bytes, places: Vec::new(), offset }
    }

    /// Begins a segment.
    pub fn begin(&mut self, previous_end: u32) {
        self.bytes.extend([BEGIN, VERSION]);
        self.bytes.extend(previous_end.to_le_bytes());
    }

    /// Adds a record.
    pub fn add(&mut self, record: &Record) {
        match record {
            Record::Entry(index, entry) => {
                self.bytes.push(ENTRY);
                self.bytes.extend(index.to_le_bytes());
                let length = self.sized(entry);
                let offset = self.offset + length32(self.bytes.len()) - length;
                self.places.push(Place { index: *index, offset, length });
            }
            Record::Vote(vote) => {
                self.bytes.push(VOTE);
                self.sized(vote);
            }
            Record::Committed(position) => {
                self.bytes.push(COMMITTED);
                self.sized(position);
            }
            Record::Truncated(from) => {
                self.bytes.push(TRUNCATED);
                self.bytes.extend(from.to_le_bytes());
            }
            Record::Purged(upto, position) => {
                self.bytes.push(PURGED);
                self.bytes.extend(upto.to_le_bytes());
                self.sized(position);
            }
        }
    }

    fn sized(&mut self, bytes: &[u8]) -> u32 {
        let length = length32(bytes.len());
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend_from_slice(bytes);
        length
    }

    /// The bytes for that segment, and where its entries will lie.
    #[must_use]
    pub fn seal(mut self, sequence: u64) -> (Vec<u8>, Vec<Place>) {
        let (head, body) = self.bytes.split_at_mut(HEAD);
        let length = length32(body.len()).to_le_bytes();
        let sum = crc32fast::hash(body).to_le_bytes();
        head[..4].copy_from_slice(&length);
        head[4..8].copy_from_slice(&sum);
        let sum = head_sum(&head[..8], sequence, self.offset).to_le_bytes();
        head[8..12].copy_from_slice(&sum);
        head[12..].copy_from_slice(&MARK);
        self.bytes.push(END);
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        (self.bytes, self.places)
    }
}

/// Bytes of a frame with a body of that many at most.
#[must_use]
pub const fn bytes_of(body: usize) -> usize {
    HEAD + body + 1 + ALIGNMENT
}

/// Segments are far smaller than 4 GiB, and so is everything in them.
fn length32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn head_sum(start: &[u8], sequence: u64, offset: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(start);
    hasher.update(&sequence.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.finalize()
}

/// Length and checksum of the body, if a whole head lies there.
fn head(segment: &[u8], offset: usize, sequence: u64) -> Option<(usize, u32)> {
    let head = segment.get(offset..offset + HEAD)?;
    let number = |at: usize| head[at..].first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
    let is_whole = head[12..] == MARK && number(8)? == head_sum(&head[..8], sequence, length32(offset));
    is_whole.then_some((usize::try_from(number(0)?).ok()?, number(4)?))
}

/// The body of a whole frame.
fn body(segment: &[u8], offset: usize, sequence: u64) -> Option<&[u8]> {
    let (length, sum) = head(segment, offset, sequence)?;
    let body = segment.get(offset + HEAD..offset + HEAD + length)?;
    let end = *segment.get(offset + HEAD + length)?;
    (end == END && crc32fast::hash(body) == sum).then_some(body)
}

/// Looks at a place where a frame may begin.
#[must_use]
pub fn look(segment: &[u8], offset: usize, sequence: u64) -> Found {
    if let Some(body) = body(segment, offset, sequence) {
        let next = (offset + HEAD + body.len() + 1).next_multiple_of(ALIGNMENT);
        return parts(body, offset + HEAD)
            .map_or(Found::Damaged("a part of it makes no sense"), |parts| Found::Frame(parts, next));
    }
    let rest = segment.get(offset..).unwrap_or_default();
    if is_zero(rest) {
        return Found::Nothing;
    }
    let followed = (offset + ALIGNMENT..segment.len()).step_by(ALIGNMENT).any(|later| body(segment, later, sequence).is_some());
    if followed {
        return Found::Damaged("its checksum does not match, and more was written after it");
    }
    if lacks_something(segment, offset, sequence) { Found::Incomplete } else { Found::Damaged("its checksum does not match") }
}

/// Whether a part of the last write, which is no whole frame, never came.
fn lacks_something(segment: &[u8], offset: usize, sequence: u64) -> bool {
    let rest = &segment[offset..];
    match head(segment, offset, sequence) {
        Some((length, _)) => {
            let end = HEAD + length;
            rest.get(end).is_none_or(|byte| *byte == 0) || has_zero_sector(segment, offset, offset + end)
        }
        // Its sector did not come, or it was cut within the head.
        None => is_zero(&rest[..HEAD.min(rest.len())]) || rest.len() < HEAD || (rest[12..HEAD] != MARK && is_zero(&rest[HEAD..])),
    }
}

fn has_zero_sector(segment: &[u8], from: usize, to: usize) -> bool {
    let first = from / SECTOR * SECTOR;
    (first..to).step_by(SECTOR).any(|sector| is_zero(&segment[sector.max(from)..(sector + SECTOR).min(to)]))
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Takes a body apart; it begins at `base` of its segment.
fn parts(body: &[u8], base: usize) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = Rest { bytes: body, taken: base };
    while let [kind] = *rest.take(1).unwrap_or_default() {
        parts.push(match kind {
            BEGIN if *rest.take(1)? == [VERSION] => Part::Begin(u32::from_le_bytes(*rest.take(4)?.first_chunk()?)),
            ENTRY => {
                let index = rest.number()?;
                let length = rest.length()?;
                let offset = length32(rest.taken);
                rest.take(length)?;
                Part::Entry(Place { index, offset, length: length32(length) })
            }
            VOTE => Part::Record(Record::Vote(rest.sized()?)),
            COMMITTED => Part::Record(Record::Committed(rest.sized()?)),
            TRUNCATED => Part::Record(Record::Truncated(rest.number()?)),
            PURGED => Part::Record(Record::Purged(rest.number()?, rest.sized()?)),
            _ => return None,
        });
    }
    Some(parts)
}

/// What is left of a body.
struct Rest<'a> {
    bytes: &'a [u8],
    taken: usize,
}

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        self.taken += count;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        self.take(8)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(*self.take(4)?.first_chunk()?)).ok()
    }

    fn sized(&mut self) -> Option<Vec<u8>> {
        let length = self.length()?;
        self.take(length).map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQUENCE: u64 = 7;

    fn frame(offset: usize, records: &[Record]) -> Vec<u8> {
        let mut frame = Frame::new(length32(offset), 0);
        records.iter().for_each(|record| frame.add(record));
        frame.seal(SEQUENCE).0
    }

    /// Three writes, of which the last one has several sectors; and where each begins.
    fn segment() -> (Vec<u8>, [usize; 3]) {
        let writes = [
            vec![Record::Vote(b"vote".to_vec())],
            vec![Record::Entry(1, vec![1; 40])],
            vec![Record::Entry(2, vec![2; 900]), Record::Entry(3, (1..=250).cycle().take(700).collect())],
        ];
        let mut bytes = Vec::new();
        let begins = writes.map(|records| {
            let begin = bytes.len();
            bytes.extend(frame(begin, &records));
            begin
        });
        bytes.resize(4096, 0);
        (bytes, begins)
    }

    #[test]
    fn what_was_written_is_read() {
        let records = [
            Record::Vote(b"v".to_vec()),
            Record::Committed(b"c".to_vec()),
            Record::Truncated(9),
            Record::Purged(3, b"p".to_vec()),
        ];
        let mut whole = Frame::new(0, 0);
        whole.begin(4711);
        records.iter().for_each(|record| whole.add(record));
        whole.add(&Record::Entry(8, b"entry".to_vec()));
        let (bytes, places) = whole.seal(SEQUENCE);
        let Found::Frame(parts, next) = look(&bytes, 0, SEQUENCE) else { panic!("no frame") };
        let expected = [Part::Begin(4711)].into_iter().chain(records.map(Part::Record)).chain([Part::Entry(places[0])]);
        assert_eq!(parts, expected.collect::<Vec<_>>());
        assert_eq!(next, bytes.len());
        let (from, length) = (places[0].offset as usize, places[0].length as usize);
        assert_eq!(&bytes[from..from + length], b"entry");
        assert_eq!(look(&bytes, 0, SEQUENCE + 1), Found::Damaged("its checksum does not match"), "of another segment");
    }

    #[test]
    fn a_last_write_that_was_cut_anywhere_is_incomplete() {
        let (whole, [_, _, last]) = segment();
        let end = whole.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        for cut in last + 1..=end {
            let mut bytes = whole.clone();
            bytes[cut..].fill(0);
            assert_eq!(look(&bytes, last, SEQUENCE), Found::Incomplete, "cut at {cut} of {end}");
        }
        let mut bytes = whole;
        bytes[last..].fill(0);
        assert_eq!(look(&bytes, last, SEQUENCE), Found::Nothing);
    }

    #[test]
    fn a_last_write_of_which_a_sector_never_came_is_incomplete() {
        let (whole, [_, _, last]) = segment();
        for sector in (0..4).map(|number| number * SECTOR) {
            let mut bytes = whole.clone();
            bytes[sector.max(last)..sector + SECTOR].fill(0);
            assert_eq!(look(&bytes, last, SEQUENCE), Found::Incomplete, "the sector at {sector}");
        }
    }

    #[test]
    fn a_flipped_bit_is_damage_wherever_it_is() {
        let (whole, begins) = segment();
        for (number, begin) in begins.into_iter().enumerate() {
            let end = begins.get(number + 1).copied().unwrap_or(whole.len());
            let Found::Frame(..) = look(&whole, begin, SEQUENCE) else { panic!("no frame at {begin}") };
            let used = whole[begin..end].iter().rposition(|byte| *byte != 0).unwrap_or(0);
            for bit in 0..(used + 1) * 8 {
                let mut bytes = whole.clone();
                bytes[begin + bit / 8] ^= 1 << (bit % 8);
                assert!(matches!(look(&bytes, begin, SEQUENCE), Found::Damaged(_)), "bit {bit} of write {number}");
            }
        }
    }
}
