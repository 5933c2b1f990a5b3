//! Where each entry of the log lies: pure, from what was written in the order in which it was written.
//!
//! Invariant: the entries have no gap, and none is at or below the purged position.

use std::collections::VecDeque;

use super::device::Record;
use super::frame::{Part, Place};

/// Entries of one segment that are not cut off: the first one's index, and where each lies.
#[derive(Debug, Default)]
struct Run {
    first: u64,
    places: Vec<(u32, u32)>,
}

impl Run {
    fn next(&self) -> u64 {
        self.first + self.places.len() as u64
    }
}

/// Segments from the oldest on, with the entries of each, and the newest record of each other kind.
#[derive(Debug, Default)]
pub struct Index {
    runs: VecDeque<Run>,
    /// Number of the oldest segment.
    oldest: u64,
    purged_upto: Option<u64>,
    /// The vote.
    pub vote: Option<Vec<u8>>,
    /// The last entry known to be committed.
    pub committed: Option<Vec<u8>>,
    /// The last purged entry.
    pub purged: Option<Vec<u8>>,
}

/// An entry in the log, and the segment that it is in.
pub type Located = (u64, Place);

impl Index {
    /// Begins with that segment.
    #[must_use]
    pub fn new(oldest: u64) -> Self {
        Self { runs: VecDeque::from([Run::default()]), oldest, ..Self::default() }
    }

    /// From now on it is the next segment.
    pub fn next_segment(&mut self) {
        self.runs.push_back(Run::default());
    }

    /// Takes in a part of a frame of the newest segment. `None` where it does not fit to what came before.
    pub fn part(&mut self, part: Part) -> Option<()> {
        match part {
            Part::Begin(_) => Some(()),
            Part::Entry(place) => self.entry(place),
            Part::Record(record) => {
                self.record(record);
                Some(())
            }
        }
    }

    /// Takes in an entry of the newest segment. `None` where one before it is missing.
    pub fn entry(&mut self, place: Place) -> Option<()> {
        let next = self.next();
        if next.is_some_and(|next| place.index < next) {
            self.truncate(place.index);
        }
        if self.next().is_some_and(|next| place.index > next) {
            return None;
        }
        let run = self.runs.back_mut()?;
        if run.places.is_empty() {
            run.first = place.index;
        }
        run.places.push((place.offset, place.length));
        Some(())
    }

    /// Takes in anything else.
    pub fn record(&mut self, record: Record) {
        match record {
            Record::Entry(..) => {}
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Committed(position) => self.committed = Some(position),
            Record::Truncated(from) => self.truncate(from),
            Record::Purged(upto, position) => {
                self.purged = Some(position);
                self.purged_upto = Some(upto);
                if self.next().is_some_and(|next| next <= upto + 1) {
                    self.runs.iter_mut().for_each(|run| run.places.clear());
                }
            }
        }
    }

    /// The newest record of each other kind, for the beginning of a segment.
    #[must_use]
    pub fn positions(&self) -> Vec<Record> {
        let vote = self.vote.clone().map(Record::Vote);
        let purged = self.purged_upto.zip(self.purged.clone()).map(|(upto, position)| Record::Purged(upto, position));
        let committed = self.committed.clone().map(Record::Committed);
        [vote, purged, committed].into_iter().flatten().collect()
    }

    /// The index after the last entry; none without entries.
    fn next(&self) -> Option<u64> {
        self.runs.iter().rev().find(|run| !run.places.is_empty()).map(Run::next)
    }

    fn truncate(&mut self, from: u64) {
        for run in self.runs.iter_mut().rev().filter(|run| !run.places.is_empty()) {
            if run.next() <= from {
                return;
            }
            let kept = usize::try_from(from.saturating_sub(run.first)).unwrap_or(usize::MAX);
            run.places.truncate(kept);
        }
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> Option<Located> {
        let next = self.next()?;
        self.range(next - 1, next).into_iter().next()
    }

    /// Entries from one index up to before another.
    #[must_use]
    pub fn range(&self, start: u64, end: u64) -> Vec<Located> {
        let start = start.max(self.purged_upto.map_or(0, |upto| upto + 1));
        let mut found = Vec::new();
        for (segment, run) in (self.oldest..).zip(&self.runs) {
            let (from, to) = (start.max(run.first), end.min(run.next()));
            for index in from..to.max(from) {
                let Some((offset, length)) = usize::try_from(index - run.first).ok().and_then(|at| run.places.get(at)) else {
                    break;
                };
                found.push((segment, Place { index, offset: *offset, length: *length }));
            }
        }
        found
    }

    /// Forgets segments from the oldest on that hold nothing any more, the newest apart; returns their numbers.
    pub fn drop_useless(&mut self) -> Vec<u64> {
        let upto = self.purged_upto;
        let mut dropped = Vec::new();
        while self.runs.len() > 1
            && self.runs.front().is_some_and(|run| run.places.is_empty() || upto.is_some_and(|upto| run.next() <= upto + 1))
        {
            self.runs.pop_front();
            dropped.push(self.oldest);
            self.oldest += 1;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn place(index: u64) -> Place {
        Place { index, offset: u32::try_from(index).unwrap() * 10, length: 5 }
    }

    /// Segments 3, 4 and 5 with the entries 10 to 13, 14 to 16 and 17.
    fn index() -> Index {
        let mut index = Index::new(3);
        (10..14).for_each(|entry| index.entry(place(entry)).unwrap());
        index.next_segment();
        (14..17).for_each(|entry| index.entry(place(entry)).unwrap());
        index.next_segment();
        index.entry(place(17)).unwrap();
        index
    }

    fn found(index: &Index, start: u64, end: u64) -> Vec<(u64, u64)> {
        index.range(start, end).into_iter().map(|(segment, place)| (segment, place.index)).collect()
    }

    #[test]
    fn entries_are_found_in_their_segments() {
        let index = index();
        assert_eq!(found(&index, 12, 15), [(3, 12), (3, 13), (4, 14)]);
        assert_eq!(found(&index, 16, u64::MAX), [(4, 16), (5, 17)]);
        assert_eq!(index.last(), Some((5, place(17))));
        assert!(found(&index, 18, 30).is_empty() && found(&index, 0, 10).is_empty());
    }

    #[test]
    fn what_was_cut_off_is_gone_and_written_anew() {
        let mut index = index();
        index.record(Record::Truncated(13));
        assert_eq!(index.last(), Some((3, place(12))));
        index.entry(place(13)).unwrap();
        assert_eq!(found(&index, 12, 20), [(3, 12), (5, 13)]);
        index.entry(place(12)).unwrap();
        assert_eq!(found(&index, 11, 20), [(3, 11), (5, 12)], "an entry replaces what comes from it on");
        assert_eq!(index.entry(place(14)), None, "13 is missing");
    }

    #[test]
    fn segments_go_once_all_of_them_is_purged() {
        let mut index = index();
        index.record(Record::Purged(15, b"p".to_vec()));
        assert_eq!(index.drop_useless(), [3]);
        assert_eq!(found(&index, 0, 20), [(4, 16), (5, 17)]);
        index.record(Record::Purged(16, b"p".to_vec()));
        assert_eq!(index.drop_useless(), [4]);
        assert_eq!(index.drop_useless(), [0; 0], "the newest stays");
        index.record(Record::Purged(40, b"p".to_vec()));
        assert_eq!(index.last(), None);
        index.entry(place(41)).unwrap();
        assert_eq!(found(&index, 0, 50), [(5, 41)], "what follows a snapshot begins anew");
    }
}
