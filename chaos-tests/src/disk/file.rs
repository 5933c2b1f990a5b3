//! One file: what readers see, what the disk surely has, and the changes between the two.

use rand::{Rng, rngs::StdRng};

/// A change that no fsync has covered yet.
#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Resize(usize),
}

/// Contents of a file.
#[derive(Clone, Debug, Default)]
pub struct File {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, data } => {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(data);
        }
        Change::Resize(length) => bytes.resize(*length, 0),
    }
}

impl File {
    /// Bytes that readers see.
    pub fn seen(&self) -> &[u8] {
        &self.seen
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.seen, &change);
        self.unsynced.push(change);
    }

    /// Writes, growing the file as needed.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        self.change(Change::Write { offset, data: data.to_vec() });
    }

    /// Cuts the file off or fills it up with zeros.
    pub fn resize(&mut self, length: usize) {
        self.change(Change::Resize(length));
    }

    /// What an fsync does.
    pub fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    /// What a power cut does: any number of unsynced changes reached the disk, in order, the last one perhaps in part.
    pub fn lose(&mut self, luck: &mut StdRng) {
        let kept = luck.random_range(0..=self.unsynced.len());
        for change in &self.unsynced[..kept] {
            apply(&mut self.durable, change);
        }
        if let Some(Change::Write { offset, data }) = self.unsynced.get(kept) {
            let torn = data[..luck.random_range(0..=data.len())].to_vec();
            apply(&mut self.durable, &Change::Write { offset: *offset, data: torn });
        }
        self.unsynced.clear();
        self.seen.clone_from(&self.durable);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn what_was_synced_stays_and_of_the_rest_a_beginning() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut file = File::default();
            file.write(0, b"safe");
            file.sync();
            file.write(4, b"-first");
            file.write(10, b"-second");
            file.lose(&mut StdRng::seed_from_u64(seed));
            assert!(b"safe-first-second".starts_with(file.seen()) && file.seen().len() >= 4, "{:?}", file.seen());
            outcomes.insert(file.seen().len());
        }
        assert!(outcomes.contains(&4) && outcomes.iter().any(|length| (11..17).contains(length)), "{outcomes:?}");
    }

    #[test]
    fn a_file_grows_and_shrinks() {
        let mut file = File::default();
        file.write(2, b"x");
        assert_eq!(file.seen(), b"\0\0x");
        file.resize(1);
        assert_eq!(file.seen(), b"\0");
    }
}
