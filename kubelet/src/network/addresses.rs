//! Addresses for pods, from the node's range.
//!
//! In: a range, what is taken, what was given last. Out: the next free address. Pure: taken is what the
//! sandboxes on disk have, so nothing leaks when the kubelet ends in the middle.

use std::{collections::BTreeSet, net::Ipv4Addr};

/// A range of pod addresses, such as `10.244.1.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodRange {
    first: u32,
    prefix: u8,
}

impl PodRange {
    /// Reads `address/prefix`; a range has at least four addresses.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let (address, prefix): (Ipv4Addr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        (1..=30).contains(&prefix).then(|| {
            let mask = u32::MAX << (32 - prefix);
            Self { first: u32::from(address) & mask, prefix }
        })
    }

    /// The next address after `last` that is not taken, in a circle: one that was just given back is used
    /// again as late as possible. The network's own address, its first and its last are never given.
    #[must_use]
    pub fn next(&self, taken: &BTreeSet<Ipv4Addr>, last: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let size = 1_u32 << (32 - self.prefix);
        let usable = 2..size - 1;
        let start = last.map(u32::from).and_then(|last| last.checked_sub(self.first)).map_or(2, |offset| offset + 1);
        let in_order = (start..usable.end).chain(usable.start..start.min(usable.end));
        in_order
            .filter(|offset| usable.contains(offset))
            .map(|offset| Ipv4Addr::from(self.first + offset))
            .find(|a| !taken.contains(a))
    }

    /// Address and prefix of the whole range.
    #[must_use]
    pub fn network(&self) -> (Ipv4Addr, u8) {
        (Ipv4Addr::from(self.first), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_go_round_and_are_never_given_twice() {
        let range = PodRange::parse("10.244.1.0/29").unwrap();
        let mut taken = BTreeSet::new();
        let mut last = None;
        let mut given = Vec::new();
        while let Some(address) = range.next(&taken, last) {
            taken.insert(address);
            last = Some(address);
            given.push(address.octets()[3]);
        }
        assert_eq!(given, [2, 3, 4, 5, 6]);
        taken.remove(&Ipv4Addr::new(10, 244, 1, 3));
        assert_eq!(range.next(&taken, last), Some(Ipv4Addr::new(10, 244, 1, 3)));
    }

    #[test]
    fn an_address_that_was_given_back_rests() {
        let range = PodRange::parse("10.244.1.0/24").unwrap();
        let last = Some(Ipv4Addr::new(10, 244, 1, 9));
        assert_eq!(range.next(&BTreeSet::new(), last), Some(Ipv4Addr::new(10, 244, 1, 10)));
        let last = Some(Ipv4Addr::new(10, 244, 1, 254));
        assert_eq!(range.next(&BTreeSet::new(), last), Some(Ipv4Addr::new(10, 244, 1, 2)));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/31", "10.0.0.0/0", "x/24"] {
            assert_eq!(PodRange::parse(text), None, "{text}");
        }
    }
}
