//! Quantities: exact decimal numbers with a suffix, such as `500m`, `512Mi`, `1e3`.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>

use std::{
    cmp::Ordering,
    fmt,
    ops::{Add, Sub},
    str::FromStr,
};

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It has another form.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// It cannot be held.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// An amount, exact to a billionth; finer ones are rounded up, as Kubernetes does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Quantity {
    nano: i128,
}

const NANO: i128 = 1_000_000_000;

impl Quantity {
    /// That many thousandths.
    #[must_use]
    pub fn from_milli(milli: i64) -> Self {
        Self { nano: i128::from(milli) * (NANO / 1000) }
    }

    /// A whole number.
    #[must_use]
    pub fn from_whole(whole: i64) -> Self {
        Self { nano: i128::from(whole) * NANO }
    }

    /// Thousandths, rounded up.
    #[must_use]
    pub fn milli(self) -> i64 {
        clamp(ceiling(self.nano, NANO / 1000))
    }

    /// Whole number, rounded up.
    #[must_use]
    pub fn whole(self) -> i64 {
        clamp(ceiling(self.nano, NANO))
    }

    /// With the largest binary suffix that leaves a whole number; decimal where it is small or no whole number.
    #[must_use]
    pub fn to_binary(self) -> String {
        const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        if self.nano % NANO != 0 || self.nano.abs() < 1024 * NANO {
            return self.to_string();
        }
        let (mut number, mut index) = (self.nano / NANO, 0);
        while number % 1024 == 0 && index + 1 < SUFFIXES.len() {
            number /= 1024;
            index += 1;
        }
        format!("{number}{}", SUFFIXES[index])
    }

    /// Whether it is less than nothing.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.nano < 0
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.nano == 0
    }
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { nano: self.nano.saturating_add(other.nano) }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { nano: self.nano.saturating_sub(other.nano) }
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

fn clamp(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

/// Division that rounds away from zero, so that no amount becomes smaller by being held.
fn ceiling(number: i128, by: i128) -> i128 {
    let quotient = number / by;
    if number % by == 0 { quotient } else { quotient + number.signum() }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        let (multiplier, exponent) = scale(suffix)?;
        let digits = format!("{whole}{fraction}");
        let mantissa: i128 = digits.parse().map_err(|_| QuantityError::Suffix)?;
        let places = i32::try_from(fraction.len()).map_err(|_| QuantityError::Format)?;
        let power = 9 + exponent - places;
        let value = mantissa.checked_mul(multiplier).ok_or(QuantityError::Suffix)?;
        let magnitude = 10_i128.checked_pow(power.unsigned_abs());
        let nano = match (magnitude, power >= 0) {
            (Some(factor), true) => value.checked_mul(factor).unwrap_or(i128::MAX),
            (Some(factor), false) => ceiling(value, factor),
            (None, true) => i128::MAX,
            (None, false) => i128::from(value != 0),
        };
        Ok(Self { nano: if negative { -nano } else { nano } })
    }
}

/// Binary multiplier and decimal exponent of a suffix.
fn scale(suffix: &str) -> Result<(i128, i32), QuantityError> {
    Ok(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        other => {
            let exponent = other.strip_prefix(['e', 'E']).ok_or(QuantityError::Format)?;
            (1, exponent.parse().map_err(|_| QuantityError::Format)?)
        }
    })
}

/// The text that Kubernetes stores for a quantity: the same amount in the form it was given in (binary, decimal or
/// exponent), with the largest suffix that leaves a whole number.
///
/// # Errors
/// The text is no quantity.
pub fn canonical(text: &str) -> Result<String, QuantityError> {
    let quantity: Quantity = text.parse()?;
    if text.ends_with('i') {
        return Ok(quantity.to_binary());
    }
    let exponent_form = text.find(['e', 'E']).is_some_and(|at| at + 1 < text.len());
    if exponent_form && quantity.nano != 0 {
        let (mut number, mut exponent) = (quantity.nano, -9);
        while number % 1000 == 0 {
            number /= 1000;
            exponent += 3;
        }
        return Ok(if exponent == 0 { number.to_string() } else { format!("{number}e{exponent}") });
    }
    Ok(quantity.to_string())
}

/// Decimal, with the largest suffix that leaves a whole number.
impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut number, mut index) = (self.nano, 0);
        if number == 0 {
            return formatter.write_str("0");
        }
        const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        while number % 1000 == 0 && index + 1 < SUFFIXES.len() {
            number /= 1000;
            index += 1;
        }
        write!(formatter, "{number}{}", SUFFIXES[index])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_are_read_exactly() {
        for (text, milli) in
            [("500m", 500), ("0.5", 500), ("1", 1000), ("1k", 1_000_000), (".1", 100), ("1e3", 1_000_000), ("100u", 1)]
        {
            assert_eq!(text.parse::<Quantity>().unwrap().milli(), milli, "{text}");
        }
        assert_eq!("512Mi".parse::<Quantity>().unwrap().whole(), 512 << 20);
        assert_eq!("1.5Gi".parse::<Quantity>().unwrap().whole(), 3 << 29);
        for text in ["", "x", "1x", "1.2.3", "--1", "1ee"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn canonical_texts_are_those_of_kubernetes() {
        for (text, expected) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("512", "512"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("1000000e-3", "1e3"),
            ("1500", "1500"),
            ("2000", "2k"),
            ("0Gi", "0"),
            ("-1024Ki", "-1Mi"),
            ("1E", "1E"),
        ] {
            assert_eq!(canonical(text).unwrap(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_as_the_same_amount(milli in any::<i64>()) {
            let quantity = Quantity::from_milli(milli);
            prop_assert_eq!(quantity.to_string().parse::<Quantity>().unwrap(), quantity);
        }

        #[test]
        fn adding_keeps_the_order(a in any::<i32>(), b in any::<i32>(), c in any::<i32>()) {
            let [a, b, c] = [a, b, c].map(|number| Quantity::from_milli(number.into()));
            prop_assert_eq!(a < b, a + c < b + c);
        }
    }
}
