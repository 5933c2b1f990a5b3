//! Timestamps and durations.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::Result;
use crate::{error::EvalError, value::Value};

/// Calls a function of this library; `None` where it has none.
pub fn call(function: &str, target: Option<&Value>, arguments: &[Value]) -> Option<Result> {
    match (target?, arguments) {
        (Value::Duration(duration), []) => {
            let seconds = duration.as_secs();
            Some(Ok(Value::Int(match function {
                "getHours" => seconds / 3600,
                "getMinutes" => seconds / 60,
                "getSeconds" => seconds,
                "getMilliseconds" => i64::try_from(duration.as_millis()).unwrap_or(i64::MAX),
                _ => return None,
            })))
        }
        (Value::Timestamp(time), []) => part(function, *time, &TimeZone::UTC).map(Ok),
        (Value::Timestamp(time), [Value::String(zone)]) => match parse_zone(zone) {
            Some(zone) => part(function, *time, &zone).map(Ok),
            None => Some(Err(EvalError::new(format!("unknown time zone {zone}")))),
        },
        _ => None,
    }
}

fn part(function: &str, time: Timestamp, zone: &TimeZone) -> Option<Value> {
    let time = time.to_zoned(zone.clone());
    Some(Value::Int(i64::from(match function {
        "getFullYear" => i32::from(time.year()),
        "getMonth" => i32::from(time.month()) - 1,
        "getDate" => i32::from(time.day()),
        "getDayOfMonth" => i32::from(time.day()) - 1,
        "getDayOfWeek" => i32::from(time.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i32::from(time.day_of_year()) - 1,
        "getHours" => i32::from(time.hour()),
        "getMinutes" => i32::from(time.minute()),
        "getSeconds" => i32::from(time.second()),
        "getMilliseconds" => time.subsec_nanosecond() / 1_000_000,
        _ => return None,
    })))
}

/// A zone by its name or as `+01:00`.
fn parse_zone(text: &str) -> Option<TimeZone> {
    if let Some((hours, minutes)) = text.split_once(':') {
        let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
        let sign = if text.starts_with('-') { -1 } else { 1 };
        let seconds = hours.abs() * 3600 + minutes * 60;
        return jiff::tz::Offset::from_seconds(sign * seconds).ok().map(TimeZone::fixed);
    }
    TimeZone::get(text).ok()
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `-3ms`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let length = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        nanos = nanos.checked_add(whole.checked_mul(unit)?)?;
        let mut scale = unit;
        for digit in fraction.chars() {
            scale /= 10;
            nanos += i128::from(digit.to_digit(10)?) * scale;
        }
        rest = after;
    }
    let nanos = i64::try_from(if negative { -nanos } else { nanos }).ok()?;
    Some(SignedDuration::from_nanos(nanos))
}
