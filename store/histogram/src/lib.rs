//! How often numbers of each size were seen, in the place of the crate of the same name.
//!
//! openraft notes so how many entries it sends at a time. The crate that it names makes tables for
//! sixteen precisions at its first use, 26 MB in every process, of which openraft reads the smallest.
//! This one has what openraft calls, and one precision: powers of two.

mod chart;
mod percentiles;

use std::marker::PhantomData;

pub use chart::AsciiChart;
pub use percentiles::PercentileStats;

/// Zero has a place of its own; every other number shares one with those that need as many bits.
const PLACES: usize = u64::BITS as usize + 1;

/// How often numbers of each size were seen. The parameter is what the original can keep beside the
/// counts; here nothing is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    seen: [u64; PLACES],
    beside: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// Nothing was seen yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { seen: [0; PLACES], beside: PhantomData }
    }

    /// Counts a number.
    pub fn record(&mut self, number: u64) {
        self.record_n(number, 1);
    }

    /// Counts a number several times.
    pub fn record_n(&mut self, number: u64, times: u64) {
        let bits = u64::BITS - number.leading_zeros();
        if let Some(seen) = usize::try_from(bits).ok().and_then(|bits| self.seen.get_mut(bits)) {
            *seen = seen.saturating_add(times);
        }
    }

    /// How often each size was seen, with the least number of that size.
    pub fn sizes(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let least = std::iter::once(0).chain((0..u64::BITS).map(|bit| 1 << bit));
        least.zip(self.seen.iter().copied())
    }

    /// What shares of the numbers are below which size; the least number of a size stands for it.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats::of(self)
    }
}
