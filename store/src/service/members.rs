//! The rules by which a cluster's membership may change: etcd's, as pure functions.
//!
//! In comes what the leader knows of each member; out comes a yes or etcd's error. What counts is
//! that the next configuration has a quorum of members that are started and reachable.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::error::Error;
use crate::place::Place;

/// A member counts as reachable once it was so for this long. etcd's 5 s begin when members connect;
/// here they begin with the first answer to a leader, which is an election later.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(4);
/// Part of the log that a learner must have to become a voter.
const READY_PERCENT: u64 = 90;

/// What the leader knows of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The member.
    pub id: u64,
    /// Its peer URLs.
    pub urls: Vec<String>,
    /// It was added as a learner and not promoted.
    pub learner: bool,
    /// It introduced itself once.
    pub started: bool,
    /// For how long it answers without a break.
    pub reachable: Option<Duration>,
}

fn quorum(members: usize) -> usize {
    members / 2 + 1
}

fn voters(known: &[Known]) -> impl Iterator<Item = &Known> {
    known.iter().filter(|member| !member.learner)
}

fn healthy(known: &[Known]) -> usize {
    voters(known).filter(|member| member.reachable.is_some_and(|since| since >= HEALTHY_AFTER)).count()
}

/// Whether a member at these URLs may be added.
pub fn may_add(known: &[Known], urls: &[String], learner: bool, learners_max: usize, strict: bool) -> Result<(), Error> {
    let (all, started) = (voters(known).count(), voters(known).filter(|member| member.started).count());
    // One member alone may always get a second one: so is a cluster restored.
    let restoring = started == 1 && all == 1;
    if strict && !learner && !restoring && started < quorum(all + 1) {
        return Err(Error::MemberNotEnoughStarted);
    }
    if strict && all > 1 && healthy(known) < quorum(all + 1) {
        return Err(Error::Unhealthy);
    }
    distinct(known, urls, None)?;
    if learner && known.iter().filter(|member| member.learner).count() >= learners_max {
        return Err(Error::TooManyLearners);
    }
    Ok(())
}

/// Whether a member may go.
pub fn may_remove(known: &[Known], id: u64, strict: bool) -> Result<(), Error> {
    let member = known.iter().find(|member| member.id == id).ok_or(Error::MemberNotFound)?;
    let all = voters(known).count();
    if !member.learner && all == 1 {
        return Err(Error::MemberNotEnoughStarted);
    }
    if !strict || member.learner {
        return Ok(());
    }
    let started = voters(known).filter(|member| member.id != id && member.started).count();
    if started < quorum(all - 1) {
        return Err(Error::MemberNotEnoughStarted);
    }
    // One that is down is no part of the quorum at work.
    if member.reachable.is_none() {
        return Ok(());
    }
    if healthy(known) - usize::from(healthy(known) > 0) < quorum(all - 1) { Err(Error::Unhealthy) } else { Ok(()) }
}

/// Whether a learner that has `matched` of `last` entries may become a voter.
pub fn may_promote(known: &[Known], id: u64, matched: u64, last: u64, strict: bool) -> Result<(), Error> {
    let member = known.iter().find(|member| member.id == id).ok_or(Error::MemberNotFound)?;
    if !member.learner {
        return Err(Error::MemberNotLearner);
    }
    if !is_ready(matched, last) {
        return Err(Error::LearnerNotReady);
    }
    let (all, started) = (voters(known).count() + 1, voters(known).filter(|member| member.started).count() + 1);
    if strict && started < quorum(all) { Err(Error::MemberNotEnoughStarted) } else { Ok(()) }
}

/// Whether a member has enough of the log to vote.
#[must_use]
pub fn is_ready(matched: u64, last: u64) -> bool {
    matched.saturating_mul(100) >= last.saturating_mul(READY_PERCENT)
}

/// Whether a member may get these URLs.
pub fn may_update(known: &[Known], id: u64, urls: &[String]) -> Result<(), Error> {
    if !known.iter().any(|member| member.id == id) {
        return Err(Error::MemberNotFound);
    }
    distinct(known, urls, Some(id))
}

fn distinct(known: &[Known], urls: &[String], except: Option<u64>) -> Result<(), Error> {
    let taken: BTreeSet<&String> =
        known.iter().filter(|member| Some(member.id) != except).flat_map(|member| &member.urls).collect();
    if urls.iter().any(|url| taken.contains(url)) { Err(Error::PeerUrlExists) } else { Ok(()) }
}

/// Checks what a client gives as peer URLs.
pub fn check_urls(urls: &[String]) -> Result<(), Error> {
    let sound = |url: &String| {
        // Peers have to be told where: a port of no host says nothing to them.
        url.parse::<Place>().is_ok_and(|place| !place.host().is_empty())
    };
    if !urls.is_empty() && urls.iter().all(sound) { Ok(()) } else { Err(Error::MemberBadUrls) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Option<Duration> = Some(Duration::from_secs(60));
    const SHORT: Option<Duration> = Some(Duration::from_secs(1));

    fn known(id: u64, started: bool, reachable: Option<Duration>) -> Known {
        Known { id, urls: vec![format!("http://{id}:1")], learner: false, started, reachable }
    }

    fn three(third: Option<Duration>) -> Vec<Known> {
        vec![known(1, true, LONG), known(2, true, LONG), known(3, true, third)]
    }

    #[test]
    fn a_member_is_added_only_to_a_healthy_cluster() {
        let url = ["http://9:1".to_owned()];
        let check = |known: &[Known], learner: bool, strict: bool, expected: Result<(), Error>| {
            assert_eq!(may_add(known, &url, learner, 1, strict), expected, "{known:?}");
        };
        check(&[known(1, true, LONG)], false, true, Ok(()));
        check(&three(LONG), false, true, Ok(()));
        check(&three(SHORT), false, true, Err(Error::Unhealthy));
        check(&three(None), true, true, Err(Error::Unhealthy));
        check(&three(None), false, false, Ok(()));
        check(&[known(1, true, LONG), known(2, false, None)], false, true, Err(Error::MemberNotEnoughStarted));
        let learner = Known { learner: true, ..known(4, true, LONG) };
        check(&[known(1, true, LONG), learner], true, true, Err(Error::TooManyLearners));
        assert_eq!(may_add(&three(LONG), &["http://2:1".to_owned()], false, 1, false), Err(Error::PeerUrlExists));
    }

    #[test]
    fn a_member_goes_only_if_a_quorum_stays() {
        assert_eq!(may_remove(&[known(1, true, LONG)], 1, true), Err(Error::MemberNotEnoughStarted));
        assert_eq!(may_remove(&[known(1, true, LONG)], 1, false), Err(Error::MemberNotEnoughStarted), "nobody would be left");
        assert_eq!(may_remove(&three(LONG), 3, true), Ok(()));
        assert_eq!(may_remove(&three(None), 3, true), Ok(()), "it is down");
        assert_eq!(may_remove(&three(None), 2, true), Err(Error::Unhealthy));
        assert_eq!(may_remove(&three(None), 2, false), Ok(()));
        assert_eq!(may_remove(&three(LONG), 9, true), Err(Error::MemberNotFound));
    }

    #[test]
    fn a_learner_votes_once_it_has_caught_up() {
        let learner = Known { learner: true, ..known(4, true, LONG) };
        let members = [known(1, true, LONG), learner];
        assert_eq!(may_promote(&members, 4, 95, 100, true), Ok(()));
        assert_eq!(may_promote(&members, 4, 5, 100, true), Err(Error::LearnerNotReady));
        assert_eq!(may_promote(&members, 1, 100, 100, true), Err(Error::MemberNotLearner));
        assert_eq!(may_promote(&members, 7, 100, 100, true), Err(Error::MemberNotFound));
    }

    #[test]
    fn urls_are_http_with_a_port_or_a_sockets_file() {
        for sound in ["http://localhost:123", "https://[::1]:123", "unix://localhost:123", "unixs:///run/peer"] {
            assert_eq!(check_urls(&[sound.into()]), Ok(()), "{sound}");
        }
        for bad in ["localhost:123", "http://localhost", "ftp://a:1", "http://:1", "http://a:b", "unix://"] {
            assert_eq!(check_urls(&[bad.into()]), Err(Error::MemberBadUrls), "{bad}");
        }
        assert_eq!(check_urls(&[]), Err(Error::MemberBadUrls));
    }
}
