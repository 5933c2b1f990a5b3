//! Several histograms side by side, as text.

use std::fmt;

use crate::Histogram;

/// Histograms with names; each is printed as a line of sizes and counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsciiChart {
    rows: Vec<(String, Histogram)>,
}

impl AsciiChart {
    /// Without any.
    #[must_use]
    pub const fn new() -> Self {
        Self { rows: Vec::new() }
    }

    /// With one more.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.rows.push((name.into(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.rows {
            write!(formatter, "{name}:")?;
            for (least, seen) in histogram.sizes().filter(|(_, seen)| *seen > 0) {
                write!(formatter, " {least}+ {seen}")?;
            }
            writeln!(formatter)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_histogram_is_a_line() {
        let mut histogram = Histogram::<()>::new();
        [0, 3, 3, 9].into_iter().for_each(|number| histogram.record(number));
        let chart = AsciiChart::new().add("sent", histogram).add("idle", Histogram::new());
        assert_eq!(chart.to_string(), "sent: 0+ 1 2+ 2 8+ 1\nidle:\n");
    }
}
