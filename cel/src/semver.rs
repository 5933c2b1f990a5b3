//! `kubernetes.Semver`: semantic versions, in their order.

use std::{cmp::Ordering, fmt};

/// A version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    /// First number.
    pub major: u64,
    /// Second number.
    pub minor: u64,
    /// Third number.
    pub patch: u64,
    pre: Vec<String>,
    build: String,
}

impl Semver {
    /// Reads a version; a lenient reading takes a leading `v`, missing numbers and leading zeros.
    #[must_use]
    pub fn parse(text: &str, lenient: bool) -> Option<Self> {
        let text = if lenient { text.strip_prefix('v').unwrap_or(text) } else { text };
        let (text, build) = text.split_once('+').unwrap_or((text, ""));
        let (numbers, pre) = text.split_once('-').map_or((text, None), |(numbers, pre)| (numbers, Some(pre)));
        let mut parts: Vec<u64> = Vec::new();
        for part in numbers.split('.') {
            let zeros = part.len() > 1 && part.starts_with('0');
            if part.is_empty() || zeros && !lenient || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            parts.push(part.parse().ok()?);
        }
        if lenient {
            parts.resize(parts.len().max(3), 0);
        }
        let [major, minor, patch] = parts.try_into().ok()?;
        let pre: Vec<String> = pre.map(|pre| pre.split('.').map(str::to_owned).collect()).unwrap_or_default();
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let fits = pre.iter().all(|part| plain(part)) && (build.is_empty() || build.split('.').all(plain));
        fits.then(|| Self { major, minor, patch, pre, build: build.to_owned() })
    }

    /// Order of versions; build data does not count.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        let numbers = |version: &Self| (version.major, version.minor, version.patch);
        numbers(self).cmp(&numbers(other)).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self.compare_pre(other),
        })
    }

    fn compare_pre(&self, other: &Self) -> Ordering {
        for (left, right) in self.pre.iter().zip(&other.pre) {
            let order = match (left.parse::<u64>(), right.parse::<u64>()) {
                (Ok(left), Ok(right)) => left.cmp(&right),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => left.cmp(right),
            };
            if order.is_ne() {
                return order;
            }
        }
        self.pre.len().cmp(&other.pre.len())
    }
}

impl fmt::Display for Semver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.pre.is_empty() {
            write!(formatter, "-{}", self.pre.join("."))?;
        }
        if !self.build.is_empty() {
            write!(formatter, "+{}", self.build)?;
        }
        Ok(())
    }
}
