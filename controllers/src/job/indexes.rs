//! Sets of completion indexes, as a Job's status spells them: `1,3-5,7`. Pure.

use std::{collections::BTreeMap, fmt};

/// A set of indexes: first and last of each run. Runs never touch, so its size is not that of what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(BTreeMap<i64, i64>);

impl Indexes {
    /// Reads a set; what is not below `completions`, or no number, is left out.
    pub fn parse(text: &str, completions: i64) -> Self {
        let mut found = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>()) {
                found.add(first.max(0), last.min(completions - 1));
            }
        }
        found
    }

    fn add(&mut self, mut first: i64, mut last: i64) {
        if first > last {
            return;
        }
        // Runs that overlap or touch become one.
        let near: Vec<_> = self
            .0
            .range(..=last + 1)
            .rev()
            .take_while(|(_, end)| **end + 1 >= first)
            .map(|(begin, end)| (*begin, *end))
            .collect();
        for (begin, end) in near {
            self.0.remove(&begin);
            (first, last) = (first.min(begin), last.max(end));
        }
        self.0.insert(first, last);
    }

    /// Whether an index is in it.
    pub fn has(&self, index: i64) -> bool {
        self.0.range(..=index).next_back().is_some_and(|(_, last)| index <= *last)
    }

    /// Puts an index in.
    pub fn insert(&mut self, index: i64) {
        self.add(index, index);
    }

    /// Number of indexes.
    pub fn len(&self) -> i64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many are in both.
    pub fn common(&self, other: &Self) -> i64 {
        let overlap = |(first, last): (&i64, &i64)| -> i64 {
            let near = other.0.range(..=*last).rev().take_while(|(_, end)| **end >= *first);
            near.map(|(begin, end)| *last.min(end) - *first.max(begin) + 1).sum()
        };
        self.0.iter().map(overlap).sum()
    }

    /// Indexes below `completions` that are not in it, in order.
    pub fn absent(&self, completions: i64) -> impl Iterator<Item = i64> {
        let ends = self.0.values().map(|last| last + 1);
        let starts = self.0.keys().copied().chain([completions]);
        let gaps = std::iter::once(0).chain(ends).zip(starts);
        gaps.flat_map(move |(from, to)| from..to.min(completions))
    }
}

impl FromIterator<i64> for Indexes {
    fn from_iter<I: IntoIterator<Item = i64>>(indexes: I) -> Self {
        let mut found = Self::default();
        indexes.into_iter().for_each(|index| found.insert(index));
        found
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (first, last)) in self.0.iter().enumerate() {
            formatter.write_str(if number > 0 { "," } else { "" })?;
            match last - first {
                0 => write!(formatter, "{first}")?,
                1 => write!(formatter, "{first},{last}")?,
                _ => write!(formatter, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_three_and_more_are_spelt_as_ranges() {
        let cases =
            [("", ""), ("0", "0"), ("0,1", "0,1"), ("0-1", "0,1"), ("1,2,3,5", "1-3,5"), ("3-9", "3-6"), ("x,2", "2"), ("7", "")];
        for (text, wanted) in cases {
            assert_eq!(Indexes::parse(text, 7).to_string(), wanted, "{text}");
        }
        assert_eq!(Indexes::parse("0-3,7", 9).common(&Indexes::parse("2-5,7,8", 9)), 3);
        assert_eq!(Indexes::parse("1,3-4", 9).absent(7).collect::<Vec<_>>(), [0, 2, 5, 6]);
        assert_eq!(Indexes::parse("0-1999999999", 2_000_000_000).len(), 2_000_000_000);
    }
}
