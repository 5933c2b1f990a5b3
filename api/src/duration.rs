//! Spans of time as kubectl prints them in tables.

use jiff::Timestamp;

/// `5s`, `3m4s`, `17m`, `2h5m`, `4d`, ... as client-go's `HumanDuration`; negative spans are 0s,
/// and those further off are not known.
#[must_use]
pub fn human_seconds(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".into();
    }
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let pair = |large: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
    };
    match (minutes, hours) {
        (0 | 1, _) => format!("{seconds}s"),
        (2..10, _) => pair(minutes, "m", seconds % 60, "s"),
        (10..180, _) => format!("{minutes}m"),
        (_, 3..8) => pair(hours, "h", minutes % 60, "m"),
        (_, 8..48) => format!("{hours}h"),
        (_, 48..192) => pair(hours / 24, "d", hours % 24, "h"),
        (_, 192..17520) => format!("{}d", hours / 24),
        (_, 17520..70080) => pair(hours / 8760, "y", hours / 24 % 365, "d"),
        _ => format!("{}y", hours / 8760),
    }
}

/// Time since an RFC 3339 text; `<unknown>` where there is none.
#[must_use]
pub fn since(text: &str, now: Timestamp) -> String {
    match text.parse::<Timestamp>() {
        Ok(then) => human_seconds(now.as_second() - then.as_second()),
        Err(_) => "<unknown>".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_printed_as_kubectl_does() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (185, "3m5s"),
            (1020, "17m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (36_000, "10h"),
            (200_000, "2d7h"),
            (1_000_000, "11d"),
            (70_000_000, "2y80d"),
        ] {
            assert_eq!(human_seconds(seconds), text);
        }
    }
}
