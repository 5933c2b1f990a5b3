//! The keys a request speaks of: one key, an interval, or everything from a key on.

use bytes::Bytes;

/// An interval of keys as etcd writes it with `key` and `range_end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key.
    pub start: Bytes,
    /// Where it ends.
    pub end: RangeEnd,
}

/// The end of a [`KeyRange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeEnd {
    /// Only the first key itself.
    Single,
    /// Up to this key, exclusive.
    Before(Bytes),
    /// All keys from the first on.
    Unbounded,
}

impl KeyRange {
    /// Reads etcd's convention: no end is one key, an end of one zero byte is no bound.
    #[must_use]
    pub fn new(key: &Bytes, range_end: &Bytes) -> Self {
        let end = match range_end.as_ref() {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Unbounded,
            _ => RangeEnd::Before(range_end.clone()),
        };
        Self { start: key.clone(), end }
    }

    /// Whether the interval holds a key.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start,
            RangeEnd::Before(end) => key >= self.start.as_ref() && key < end.as_ref(),
            RangeEnd::Unbounded => key >= self.start.as_ref(),
        }
    }

    /// Whether a key lies behind the interval, so that an ascending scan may stop.
    #[must_use]
    pub fn is_before(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key > self.start.as_ref(),
            RangeEnd::Before(end) => key >= end.as_ref(),
            RangeEnd::Unbounded => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &'static str, end: &'static str, inside: &[&str], outside: &[&str]) {
        let range = KeyRange::new(&Bytes::from_static(key.as_bytes()), &Bytes::from_static(end.as_bytes()));
        for key in inside {
            assert!(range.contains(key.as_bytes()), "{range:?} should hold {key}");
        }
        for key in outside {
            assert!(!range.contains(key.as_bytes()), "{range:?} should not hold {key}");
        }
    }

    #[test]
    fn intervals_follow_the_convention_of_etcd() {
        check("a", "", &["a"], &["b", "aa", ""]);
        check("a", "c", &["a", "b", "bzz"], &["c", "A", ""]);
        check("b", "\0", &["b", "c", "zz"], &["a", "az"]);
        check("c", "a", &[], &["a", "b", "c"]);
    }
}
