//! Below what size which shares of the numbers are.

use std::fmt;

use crate::Histogram;

/// The sizes below which thousandths of all numbers are, by the names that openraft prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many numbers were seen.
    pub samples: u64,
    /// One in a thousand.
    pub p0_1: u64,
    /// One in a hundred.
    pub p1: u64,
    /// Five in a hundred.
    pub p5: u64,
    /// A tenth.
    pub p10: u64,
    /// Half.
    pub p50: u64,
    /// Nine tenths.
    pub p90: u64,
    /// All but one in a hundred.
    pub p99: u64,
    /// All but one in a thousand.
    pub p99_9: u64,
}

impl PercentileStats {
    pub(crate) fn of<T>(histogram: &Histogram<T>) -> Self {
        let samples = histogram.sizes().fold(0_u64, |sum, (_, seen)| sum.saturating_add(seen));
        let below = |thousandths: u128| {
            let wanted = (u128::from(samples) * thousandths).div_ceil(1000);
            let mut sum = 0;
            let reached = histogram.sizes().find(|(_, seen)| {
                sum += u128::from(*seen);
                *seen > 0 && sum >= wanted
            });
            reached.map_or(0, |(least, _)| least)
        };
        Self {
            samples,
            p0_1: below(1),
            p1: below(10),
            p5: below(50),
            p10: below(100),
            p50: below(500),
            p90: below(900),
            p99: below(990),
            p99_9: below(999),
        }
    }
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} seen; half below {}, 90 % below {}, 99 % below {}", self.samples, self.p50, self.p90, self.p99)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_told_by_the_least_of_their_size() {
        let mut histogram = Histogram::<()>::new();
        histogram.record_n(1, 900);
        histogram.record_n(100, 99);
        histogram.record(u64::MAX);
        let told = histogram.percentile_stats();
        assert_eq!((told.samples, told.p0_1, told.p50, told.p90), (1000, 1, 1, 1));
        assert_eq!((told.p99, told.p99_9), (64, 64));
        assert_eq!(Histogram::<()>::new().percentile_stats().p99, 0);
    }
}
