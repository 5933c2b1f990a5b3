//! Durations as Go writes them: `300ms`, `1h30m`, `1.5s`.

use std::time::Duration;

/// Reads one; `None` where it is none.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|character: char| character.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = tail;
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(total).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(parse(text), expected.map(Duration::from_millis), "{text}");
        check("0", Some(0));
        check("300ms", Some(300));
        check("1h30m", Some(5_400_000));
        check("1.5s", Some(1500));
        for bad in ["", "5", "m", "1x", "-1s", "1.2.3s"] {
            check(bad, None);
        }
    }
}
