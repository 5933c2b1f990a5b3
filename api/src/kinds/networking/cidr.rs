//! Address ranges as several kinds write them.

use std::net::IpAddr;

use crate::kinds::{check::At, kind::Errors};

/// An address range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    address: IpAddr,
    length: u8,
}

impl Cidr {
    /// Reads `10.0.0.0/8`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let cidr = Self { address: address.parse().ok()?, length: length.parse().ok()? };
        (cidr.length <= cidr.width() && !length.starts_with('+')).then_some(cidr)
    }

    fn width(self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }

    fn bits(self) -> u128 {
        match self.address {
            IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
            IpAddr::V6(address) => u128::from(address),
        }
    }

    fn mask(self) -> u128 {
        if self.length == 0 { 0 } else { u128::MAX << (128 - u32::from(self.length)) }
    }

    /// Whether it is of version 6.
    pub(super) fn is_v6(self) -> bool {
        self.address.is_ipv6()
    }

    /// Whether `other` lies in it and is smaller.
    pub(super) fn strictly_contains(self, other: Self) -> bool {
        self.is_v6() == other.is_v6() && self.length < other.length && (self.bits() ^ other.bits()) & self.mask() == 0
    }

    /// Whether no bit behind the prefix is set.
    pub(super) fn is_network(self) -> bool {
        self.bits() & !self.mask() == 0
    }
}

/// Whether text is an address range.
#[must_use]
pub fn is_cidr(text: &str) -> bool {
    Cidr::parse(text).is_some()
}

/// A range must be one; Kubernetes has always taken those with bits behind the prefix.
pub(super) fn check(at: &At<'_>, errors: &mut Errors) -> Option<Cidr> {
    let cidr = Cidr::parse(at.text());
    if cidr.is_none() {
        at.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)", errors);
    }
    cidr
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_contain_smaller_ones() {
        let cidr = |text: &str| Cidr::parse(text).unwrap();
        assert!(cidr("10.0.0.0/8").strictly_contains(cidr("10.1.0.0/16")));
        assert!(!cidr("10.0.0.0/8").strictly_contains(cidr("10.0.0.0/8")));
        assert!(!cidr("10.0.0.0/8").strictly_contains(cidr("11.0.0.0/16")));
        assert!(cidr("::/0").strictly_contains(cidr("fd00::/8")) && !cidr("::/0").strictly_contains(cidr("10.0.0.0/8")));
        assert!(cidr("10.0.0.0/8").is_network() && !cidr("10.0.0.1/8").is_network());
        assert!(Cidr::parse("10.0.0.0/33").is_none() && Cidr::parse("10.0.0.0").is_none());
    }
}
