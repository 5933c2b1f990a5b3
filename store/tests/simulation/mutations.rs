//! Mistakes made on purpose, and the checks that must find them.

use kontiki_store::fault::Mistake;

/// A mistake of the store, or of the machine under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// By production code.
    Store(Mistake),
    /// The disks say that they synced, and did not.
    LyingDisks,
}

/// One mistake, under a name, and how what finds it begins.
pub struct Mutation {
    /// Its name.
    pub name: &'static str,
    /// What is wrong.
    pub made: Made,
    /// The checks of which one must find it.
    pub found_by: &'static [&'static str],
}

const fn store(name: &'static str, mistake: Mistake, found_by: &'static [&'static str]) -> Mutation {
    Mutation { name, made: Made::Store(mistake), found_by }
}

/// All of them.
pub const MUTATIONS: [Mutation; 12] = [
    store("stale-read", Mistake::StaleRead, &["linearizability"]),
    store("skipped-event", Mistake::SkippedEvent, &["watch"]),
    store("repeated-event", Mistake::RepeatedEvent, &["watch"]),
    // openraft's own assertions are often the first to notice.
    store("early-acknowledgement", Mistake::EarlyAcknowledgement, &["linearizability", "watch", "panic"]),
    store("purge-unflushed", Mistake::PurgeUnflushed, &["start", "panic"]),
    store("forwarded-twice", Mistake::ForwardedTwice, &["linearizability"]),
    store("early-expiry", Mistake::EarlyExpiry, &["lease"]),
    store("leader-restored", Mistake::LeaderRestored, &["linearizability", "watch", "agreement"]),
    store("late-refusal", Mistake::LateRefusal, &["linearizability"]),
    store("cleans-too-much", Mistake::CleansTooMuch, &["past", "linearizability", "watch"]),
    store("believes-records", Mistake::BelievesRecords, &["start", "linearizability", "watch", "past", "hash_kv"]),
    Mutation { name: "lying-disks", made: Made::LyingDisks, found_by: &["linearizability", "watch"] },
];

/// The mutation of a name.
pub fn named(name: &str) -> Option<&'static Mutation> {
    MUTATIONS.iter().find(|mutation| mutation.name == name)
}
