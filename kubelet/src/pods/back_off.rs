//! How long to wait before something is tried again. Pure.

use std::time::Duration;

/// First and longest wait.
const BOUNDS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// A container that ran this long begins anew: twice the longest wait, as Kubernetes has it.
pub const LONG_RUN: Duration = Duration::from_secs(600);

/// Wait before a start is tried again for which something is missing.
pub const RETRY: Duration = Duration::from_secs(10);

/// The wait after `times` failures in a row: 10 s, doubled each time, at most 5 minutes.
pub fn after(times: u32) -> Duration {
    match times {
        0 => Duration::ZERO,
        times => BOUNDS.0.saturating_mul(1 << (times - 1).min(10)).min(BOUNDS.1),
    }
}

/// As Go writes a duration of whole seconds: `10s`, `2m40s`, `5m0s`.
pub fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_five_minutes() {
        let waits: Vec<_> = (0..8).map(|times| in_words(after(times))).collect();
        assert_eq!(waits, ["0s", "10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]);
    }
}
