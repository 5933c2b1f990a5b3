//! What a request may cost.

use std::time::Duration;

use kontiki_api::status::Status;

/// Largest body: what kube-apiserver takes.
pub const BODY_BYTES_MAX: usize = 3 << 20;
/// How long a request that is no watch may take.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
/// Requests that are worked on at once; watches do not count.
pub const REQUESTS_MAX: u32 = 600;
/// Events that a watch takes from the window at a time.
pub const WATCH_BATCH: usize = 256;
/// Pieces of a watch's body that wait for the connection.
pub const WATCH_QUEUE: usize = 64;
/// Watches that all clients together may have open.
pub const WATCHES_MAX: usize = 100_000;
/// Watches that one user may have open: a controller manager has some hundreds.
pub const WATCHES_OF_USER_MAX: usize = 5_000;
/// How long a member may be without a leader before it ends its watches: three election timeouts.
pub const CUT_OFF_AFTER: Duration = Duration::from_millis(1800);
/// Wait between two bookmarks.
pub const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// Shortest life of a watch that names none; the longest is twice this.
pub const WATCH_SECONDS: u64 = 1800;
/// Seconds that an Event lives.
pub const EVENT_SECONDS: i64 = 3600;

const _: () = assert!(WATCH_QUEUE < WATCH_BATCH * 3, "a batch waits for the connection, not the other way round");

/// How long a request may take that says so itself: never longer than others.
pub fn deadline(asked: &str) -> Result<Duration, Status> {
    if asked.is_empty() {
        return Ok(REQUEST_DEADLINE);
    }
    let wrong = || Status::bad_request(format!("invalid timeout specified in the request URL: time: invalid duration {asked:?}"));
    let asked = parse_duration(asked).ok_or_else(wrong)?;
    Ok(if asked.is_zero() { REQUEST_DEADLINE } else { asked.min(REQUEST_DEADLINE) })
}

/// A span as Go writes it: numbers with units, such as `1m30s`; `None` for anything else.
fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (mut rest, mut seconds) = (text, 0.0);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len()));
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        seconds += number.parse::<f64>().ok()? * factor;
        rest = after;
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_may_shorten_its_time() {
        for (asked, seconds) in [("", 60.0), ("5s", 5.0), ("1m30s", 60.0), ("500ms", 0.5), ("0", 60.0), ("0s", 60.0)] {
            assert_eq!(deadline(asked).unwrap(), Duration::from_secs_f64(seconds), "{asked}");
        }
        for wrong in ["5", "x", "5y", "-5s", "1e9s"] {
            assert_eq!(deadline(wrong).unwrap_err().code, 400, "{wrong}");
        }
    }
}
