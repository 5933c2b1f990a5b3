//! Whether text is a cron schedule: five fields, or a word such as `@daily`.
//!
//! In: the text of `spec.schedule`. Out: what is wrong with it, in the words of the library that
//! Kubernetes uses.

/// A field: its name for people, its smallest and largest number, words that stand for numbers.
struct Range {
    min: u32,
    max: u32,
    words: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const RANGES: [Range; 5] = [
    Range { min: 0, max: 59, words: &[] },
    Range { min: 0, max: 23, words: &[] },
    Range { min: 1, max: 31, words: &[] },
    Range { min: 1, max: 12, words: MONTHS },
    Range { min: 0, max: 6, words: DAYS },
];
const DESCRIPTORS: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// What is wrong with a schedule.
pub(super) fn problem(text: &str) -> Option<String> {
    let schedule = match text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        Some(rest) => rest.split_once(' ').map_or("", |(_, rest)| rest).trim(),
        None => text,
    };
    if schedule.starts_with('@') {
        let every = schedule.strip_prefix("@every ");
        let known = DESCRIPTORS.contains(&schedule) || every.is_some_and(is_go_duration);
        return (!known).then(|| match every {
            Some(rest) => format!("failed to parse duration @every {rest}: time: invalid duration {rest:?}"),
            None => format!("unrecognized descriptor: {schedule}"),
        });
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != RANGES.len() {
        let found = format!("[{}]", fields.join(" "));
        return Some(format!("expected exactly 5 fields, found {}: {found}", fields.len()));
    }
    fields.iter().zip(&RANGES).find_map(|(field, range)| field.split(',').find_map(|part| part_problem(part, range)))
}

fn is_go_duration(text: &str) -> bool {
    let mut rest = text;
    let mut units = 0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let unit = ["ns", "us", "ms", "s", "m", "h"].into_iter().find(|unit| rest[digits..].starts_with(unit));
        let Some(unit) = unit.filter(|_| digits > 0) else { return false };
        rest = &rest[digits + unit.len()..];
        units += 1;
    }
    units > 0
}

/// One of the parts between commas: `*`, `3`, `mon-fri`, `*/15`.
fn part_problem(part: &str, range: &Range) -> Option<String> {
    let (limits, step) = match part.split_once('/') {
        Some((limits, step)) => (limits, Some(step)),
        None => (part, None),
    };
    if limits.matches('-').count() > 1 {
        return Some(format!("too many hyphens: {part}"));
    }
    if step.is_some_and(|step| step.contains('/')) {
        return Some(format!("too many slashes: {part}"));
    }
    let number = |text: &str| number(text, range);
    let (first, mut last) = match limits.split_once('-') {
        _ if limits == "*" || limits == "?" => (range.min, range.max),
        Some((first, last)) => match (number(first), number(last)) {
            (Ok(first), Ok(last)) => (first, last),
            (Err(problem), _) | (_, Err(problem)) => return Some(problem),
        },
        None => match number(limits) {
            Ok(only) => (only, only),
            Err(problem) => return Some(problem),
        },
    };
    let step = match step {
        None => 1,
        Some(text) => {
            if first == last {
                last = range.max;
            }
            match text.parse::<u32>() {
                Ok(step) => step,
                Err(_) => return Some(not_an_integer(text)),
            }
        }
    };
    if first < range.min {
        Some(format!("beginning of range ({first}) below minimum ({}): {part}", range.min))
    } else if last > range.max {
        Some(format!("end of range ({last}) above maximum ({}): {part}", range.max))
    } else if first > last {
        Some(format!("beginning of range ({first}) beyond end of range ({last}): {part}"))
    } else if step == 0 {
        Some(format!("step of range should be a positive number: {part}"))
    } else {
        None
    }
}

fn number(text: &str, range: &Range) -> Result<u32, String> {
    let word = range.words.iter().position(|word| *word == text.to_ascii_lowercase());
    match word.and_then(|index| u32::try_from(index).ok()) {
        Some(index) => Ok(index + range.min),
        None => text.parse().map_err(|_| not_an_integer(text)),
    }
}

fn not_an_integer(text: &str) -> String {
    format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_crons() {
        for good in ["* * * * *", "*/15 0-6 1,15 jan-MAR sun", "@daily", "@every 1h30m", "0 0 * * ?", "5/10 * * * *"] {
            assert_eq!(problem(good), None, "{good}");
        }
        for (bad, wanted) in [
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("@often", "unrecognized descriptor: @often"),
            ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
        ] {
            assert_eq!(problem(bad).as_deref(), Some(wanted));
        }
    }
}
