//! Cron schedules as Kubernetes understands them: five fields, names, ranges, steps, `@daily` and the like,
//! `@every`, and a time zone. Pure.
//!
//! Hours that a clock jumps over in spring do not come; hours that it repeats in autumn come twice.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, ToSpan, tz::TimeZone};

/// A schedule.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// Whenever the clock of a zone shows one of these.
    Clock(Box<Fields>, TimeZone),
    /// Again after each such time.
    Every(Duration),
}

/// Sets of numbers, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether any day of the month, or of the week, will do.
    any_day: (bool, bool),
}

/// How far ahead a time is looked for: what does not come within it does not come.
const YEARS: i32 = 5;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Reads one number or name.
fn number(text: &str, names: &[&str], first: u32) -> Result<u32, String> {
    let lower = text.to_lowercase();
    if let Some(position) = names.iter().position(|name| *name == lower) {
        return Ok(first + u32::try_from(position).unwrap_or(0));
    }
    text.parse().map_err(|_| format!("failed to parse int from {text}"))
}

/// Reads one field; also says whether it is a star.
fn field(text: &str, (low, high): (u32, u32), names: &[&str]) -> Result<(u64, bool), String> {
    let (mut bits, mut star) = (0_u64, false);
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let (mut any, mut single) = (false, false);
        let (from, mut to) = match range.split_once('-') {
            _ if range == "*" || range == "?" => {
                any = true;
                (low, high)
            }
            Some((from, to)) => (number(from, names, low)?, number(to, names, low)?),
            None => {
                single = true;
                let value = number(range, names, low)?;
                (value, value)
            }
        };
        let step = match step {
            None => 1,
            Some(step) => {
                let step: u32 = step.parse().map_err(|_| format!("failed to parse int from {step}"))?;
                if single {
                    to = high;
                }
                any &= step <= 1;
                step
            }
        };
        if from < low {
            return Err(format!("beginning of range ({from}) below minimum ({low}): {part}"));
        }
        if to > high {
            return Err(format!("end of range ({to}) above maximum ({high}): {part}"));
        }
        if from > to {
            return Err(format!("beginning of range ({from}) beyond end of range ({to}): {part}"));
        }
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        for value in (from..=to).step_by(usize::try_from(step).unwrap_or(1)) {
            bits |= 1 << value;
        }
        star |= any;
    }
    Ok((bits, star))
}

/// Reads a duration such as `1h30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("failed to parse duration @every {text}");
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').ok_or_else(bad)?;
        let value: f64 = rest[..digits].parse().map_err(|_| bad())?;
        let tail = &rest[digits..];
        let unit = tail.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(tail.len());
        total += value
            * match &tail[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                _ => return Err(bad()),
            };
        rest = &tail[unit..];
    }
    // Never more often than every second.
    Duration::try_from_secs_f64(total.max(1.0).trunc()).map_err(|_| bad())
}

impl Schedule {
    /// Reads a schedule; `zone` is the one that the CronJob names.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, String> {
        let mut text = text.trim();
        let mut zone = zone.map(str::to_owned);
        for prefix in ["TZ=", "CRON_TZ="] {
            if let Some((named, rest)) = text.strip_prefix(prefix).and_then(|rest| rest.split_once(' ')) {
                zone = Some(named.to_owned());
                text = rest.trim();
            }
        }
        let zone = match zone.as_deref() {
            None | Some("" | "UTC") => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| format!("provided bad location {name}: unknown time zone {name}"))?,
        };
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            _ => match text.strip_prefix("@every ") {
                Some(every) => return Ok(Self::Every(duration(every)?)),
                None if text.starts_with('@') => return Err(format!("unrecognized descriptor: {text}")),
                None => text,
            },
        };
        let parts: Vec<_> = fields.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts[..] else {
            return Err(format!("expected exactly 5 fields, found {}: {parts:?}", parts.len()));
        };
        let (days, any_day) = field(day, (1, 31), &[])?;
        let (weekdays, any_weekday) = field(weekday, (0, 6), &WEEKDAYS)?;
        let fields = Fields {
            minutes: field(minute, (0, 59), &[])?.0,
            hours: field(hour, (0, 23), &[])?.0,
            days,
            months: field(month, (1, 12), &MONTHS)?.0,
            weekdays,
            any_day: (any_day, any_weekday),
        };
        Ok(Self::Clock(Box::new(fields), zone))
    }

    /// The first time after `after`, if there ever is one.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(every) => {
                let next = after.checked_add(SignedDuration::try_from(*every).ok()?).ok()?;
                Timestamp::from_second(next.as_second()).ok()
            }
            Self::Clock(fields, zone) => fields.next(after, zone),
        }
    }
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits & (1 << value) != 0)
}

impl Fields {
    fn has_day(&self, day: i8, weekday: i8) -> bool {
        let (day, weekday) = (has(self.days, day), has(self.weekdays, weekday));
        // Where both are given either will do.
        if self.any_day.0 || self.any_day.1 { day && weekday } else { day || weekday }
    }

    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let minute = after.as_second().div_euclid(60) + 1;
        let mut at = Timestamp::from_second(minute * 60).ok()?.to_zoned(zone.clone());
        let last = at.year() + i16::try_from(YEARS).unwrap_or(0);
        while at.year() <= last {
            let date = at.date();
            if !has(self.months, at.month()) {
                let month = date.first_of_month().checked_add(1.month()).ok()?;
                at = month.to_zoned(zone.clone()).ok()?;
            } else if !self.has_day(at.day(), at.weekday().to_sunday_zero_offset()) {
                at = date.tomorrow().ok()?.to_zoned(zone.clone()).ok()?;
            } else if !has(self.hours, at.hour()) {
                at = at.checked_add((60 - i64::from(at.minute())).minutes()).ok()?;
            } else if !has(self.minutes, at.minute()) {
                at = at.checked_add(1.minute()).ok()?;
            } else {
                return Some(at.timestamp());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn times(schedule: &str, zone: Option<&str>, after: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(schedule, zone).unwrap();
        let mut at: Timestamp = after.parse().unwrap();
        let step = || {
            at = schedule.next(at)?;
            Some(at.to_string())
        };
        std::iter::from_fn(step).take(count).collect()
    }

    #[test]
    fn schedules_come_when_the_clock_says_so() {
        let cases = [
            ("*/15 * * * *", "2026-01-01T00:07:30Z", "2026-01-01T00:15:00Z"),
            ("0 12 * * *", "2026-01-01T12:00:00Z", "2026-01-02T12:00:00Z"),
            ("59 23 31 * *", "2026-02-01T00:00:00Z", "2026-03-31T23:59:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 * * mon-tue", "2026-01-01T00:00:00Z", "2026-01-05T00:00:00Z"),
            ("5,10 8-10/2 * JAN ?", "2026-01-01T08:10:00Z", "2026-01-01T10:05:00Z"),
            ("30/10 * * * *", "2026-01-01T00:31:00Z", "2026-01-01T00:40:00Z"),
            ("@hourly", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            ("@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("@every 1h30m", "2026-01-01T00:00:10Z", "2026-01-01T01:30:10Z"),
        ];
        for (schedule, after, wanted) in cases {
            assert_eq!(times(schedule, None, after, 1), [wanted], "{schedule}");
        }
        assert!(times("0 0 31 2 *", None, "2026-01-01T00:00:00Z", 1).is_empty());
    }

    #[test]
    fn zones_shift_and_their_clocks_jump() {
        assert_eq!(times("0 9 * * *", Some("Asia/Tokyo"), "2026-01-01T00:00:00Z", 1), ["2026-01-02T00:00:00Z"]);
        let berlin = Some("Europe/Berlin");
        assert_eq!(
            times("30 2 * * *", berlin, "2026-03-28T12:00:00Z", 1),
            ["2026-03-30T00:30:00Z"],
            "there is no 2:30 on that day"
        );
        let twice = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"];
        assert_eq!(times("30 2 * * *", berlin, "2026-10-24T12:00:00Z", 3), twice);
        assert_eq!(times("TZ=Asia/Tokyo 0 9 * * *", None, "2026-01-01T00:00:00Z", 1), ["2026-01-02T00:00:00Z"]);
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "* * * * 7",
            "5-1 * * * *",
            "*/0 * * * *",
            "x * * * *",
            "@sometimes",
            "@every x",
            "* * * * * *",
        ] {
            assert!(Schedule::parse(text, None).is_err(), "{text}");
        }
        assert!(Schedule::parse("* * * * *", Some("Nowhere/Town")).is_err());
    }
}
