//! What a watch asks for: where it begins, what it selects, how long it lasts.

use std::time::Duration;

use kontiki_api::{
    field::FieldError,
    registry::Resource,
    selector::{FieldSelector, LabelSelector},
    status::Status,
};

use crate::{handlers::read, limits::WATCH_SECONDS, request::RequestInfo};

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// With what is true now.
    Newest {
        /// Whether the state is sent.
        state: bool,
        /// Whether its end is marked.
        end_mark: bool,
    },
    /// With what this member has, at least a version.
    NotOlderThan {
        /// The version.
        version: i64,
        /// Whether the state is sent.
        state: bool,
        /// Whether its end is marked.
        end_mark: bool,
    },
    /// With the changes after a version.
    After(i64),
}

/// What a watch asks for.
#[derive(Debug)]
pub(super) struct Options {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    pub start: Start,
    pub bookmarks: bool,
    pub timeout: Duration,
}

impl Options {
    /// Reads the query.
    ///
    /// # Errors
    /// 422 for words that do not go together, 400 for what cannot be read.
    pub(super) fn of(resource: &Resource, info: &RequestInfo) -> Result<Self, Status> {
        let start = start(info)?;
        let (labels, fields) = read::selectors(resource, info)?;
        let seconds = match info.parameter("timeoutSeconds") {
            "" => 0,
            text => read::parse_integer(text)?,
        };
        let timeout = match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
            _ => Duration::from_secs(rand::random_range(WATCH_SECONDS..2 * WATCH_SECONDS)),
        };
        // Nobody watches for longer than a week, and deadlines must stay within what a clock can hold.
        let timeout = timeout.min(Duration::from_secs(7 * 24 * 3600));
        Ok(Self { labels, fields, start, bookmarks: info.flag("allowWatchBookmarks"), timeout })
    }
}

fn start(info: &RequestInfo) -> Result<Start, Status> {
    let (given, matched) = (info.parameter("resourceVersion"), info.parameter("resourceVersionMatch"));
    let sent = info.query.contains_key("sendInitialEvents");
    let mut errors = Vec::new();
    let mut forbid = |detail: &str| errors.push(FieldError::forbidden("resourceVersionMatch", detail));
    if sent && matched != "NotOlderThan" {
        forbid("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if !matched.is_empty() {
        if !sent {
            forbid("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
        }
        if matched != "NotOlderThan" {
            errors.push(FieldError::not_supported("resourceVersionMatch", &matched.into(), &["NotOlderThan"]));
        }
        if !info.parameter("continue").is_empty() {
            errors.push(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
    }
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors));
    }
    let version = read::parse_version(given)?;
    // Without a word about it, a watch from no version begins with the state.
    let state = if sent { info.flag("sendInitialEvents") } else { version == 0 };
    let end_mark = state && info.flag("allowWatchBookmarks");
    Ok(match given {
        "" => Start::Newest { state, end_mark },
        _ if version == 0 || state => Start::NotOlderThan { version, state, end_mark },
        _ => Start::After(version),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;

    use super::*;

    fn asked(query: &str) -> Result<Start, Status> {
        start(&RequestInfo::parse(&Method::GET, &format!("/api/v1/pods?watch=1&{query}").parse().unwrap()))
    }

    #[test]
    fn a_watch_begins_where_it_is_told() {
        let newest = |state, end_mark| Start::Newest { state, end_mark };
        let at_least = |version, state, end_mark| Start::NotOlderThan { version, state, end_mark };
        for (query, expected) in [
            ("", newest(true, false)),
            ("allowWatchBookmarks=true", newest(true, true)),
            ("resourceVersion=0", at_least(0, true, false)),
            ("resourceVersion=7", Start::After(7)),
            ("sendInitialEvents=false&resourceVersionMatch=NotOlderThan", newest(false, false)),
            ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1", newest(true, true)),
            (
                "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1&resourceVersion=9",
                at_least(9, true, true),
            ),
            ("sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=9", Start::After(9)),
        ] {
            assert_eq!(asked(query).unwrap(), expected, "{query}");
        }
    }

    #[test]
    fn words_that_do_not_go_together_are_refused() {
        for (query, message) in [
            (
                "sendInitialEvents=true",
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ),
            (
                "resourceVersionMatch=NotOlderThan",
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ),
        ] {
            let refused = asked(query).unwrap_err();
            assert_eq!((refused.code, refused.message), (422, format!("ListOptions.meta.k8s.io \"\" is invalid: {message}")));
        }
    }
}
