//! `kubernetes.Quantity`: exact decimal numbers with a suffix.

use std::{cmp::Ordering, fmt};

/// Digits after the point that are kept: nano.
const SCALE: u32 = 9;
const ONE: i128 = 1_000_000_000;

/// A quantity: an exact multiple of a billionth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity {
    nanos: i128,
    text: String,
}

impl Quantity {
    /// Reads a quantity.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        let (binary, exponent) = match suffix {
            "" => (0, 0),
            "n" => (0, -9),
            "u" => (0, -6),
            "m" => (0, -3),
            "k" => (0, 3),
            "M" => (0, 6),
            "G" => (0, 9),
            "T" => (0, 12),
            "P" => (0, 15),
            "E" => (0, 18),
            "Ki" => (10, 0),
            "Mi" => (20, 0),
            "Gi" => (30, 0),
            "Ti" => (40, 0),
            "Pi" => (50, 0),
            "Ei" => (60, 0),
            other => (0, other.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?),
        };
        let (sign, unsigned) = match number.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, number.strip_prefix('+').unwrap_or(number)),
        };
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains(['.', '+', '-']) || whole.contains(['+', '-']) {
            return None;
        }
        let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
        let shift = i32::try_from(SCALE).ok()? + exponent - i32::try_from(fraction.len()).ok()?;
        let scaled = mantissa.checked_mul(1i128 << binary)?;
        let nanos = if shift >= 0 {
            scaled.checked_mul(10i128.checked_pow(shift.unsigned_abs())?)?
        } else {
            let divisor = 10i128.checked_pow(shift.unsigned_abs())?;
            // What is finer than a billionth is rounded away from zero.
            (scaled + divisor - 1) / divisor
        };
        Some(Self { nanos: sign * nanos, text: text.to_owned() })
    }

    fn of(nanos: i128) -> Self {
        let (whole, fraction) = (nanos / ONE, (nanos % ONE).unsigned_abs());
        let text = if fraction == 0 {
            whole.to_string()
        } else {
            let sign = if nanos < 0 && whole == 0 { "-" } else { "" };
            format!("{sign}{whole}.{}", format!("{fraction:09}").trim_end_matches('0'))
        };
        Self { nanos, text }
    }

    /// The sum.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Option<Self> {
        self.nanos.checked_add(other.nanos).map(Self::of)
    }

    /// The difference.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Option<Self> {
        self.nanos.checked_sub(other.nanos).map(Self::of)
    }

    /// A quantity of an integer.
    #[must_use]
    pub fn from_int(number: i64) -> Self {
        Self::of(i128::from(number) * ONE)
    }

    /// -1, 0 or 1.
    #[must_use]
    pub fn sign(&self) -> i64 {
        i64::try_from(self.nanos.signum()).unwrap_or(0)
    }

    /// The integer that it is, if it is one.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        if self.nanos % ONE == 0 { i64::try_from(self.nanos / ONE).ok() } else { None }
    }

    /// As a floating-point number.
    #[must_use]
    pub fn as_float(&self) -> f64 {
        self.nanos as f64 / ONE as f64
    }

    /// Order by value.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn quantities_compare_by_value() {
        let parse = |text| Quantity::parse(text).unwrap();
        assert_eq!(parse("1Ki").compare(&parse("1024")), Ordering::Equal);
        assert_eq!(parse("100m").compare(&parse("0.1")), Ordering::Equal);
        assert_eq!(parse("-1.5").sign(), -1);
        assert_eq!(parse("1e3").as_integer(), Some(1000));
        assert_eq!(parse("50k").plus(&parse("20")).unwrap().as_integer(), Some(50020));
        for bad in ["", "x", "1x", "1.2.3", "1Kib", "--1"] {
            assert!(Quantity::parse(bad).is_none(), "{bad}");
        }
    }
}
