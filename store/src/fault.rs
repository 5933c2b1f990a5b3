//! Mistakes that production code makes on request, so that the simulation can prove that its checks
//! find them. Without the feature `simulation`, which no release has, nobody can ask for one and the
//! compiler removes them all.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mistake {
    /// A linearizable read answers from what is here, without asking anyone.
    StaleRead = 1,
    /// A watch leaves an event out now and then.
    SkippedEvent,
    /// A watch tells an event twice now and then.
    RepeatedEvent,
    /// A follower acknowledges entries before it has them.
    EarlyAcknowledgement,
    /// The log is purged up to where the state machine is, flushed or not.
    PurgeUnflushed,
    /// Proposals are forwarded to the leader twice.
    ForwardedTwice,
    /// A lease ends before its time.
    EarlyExpiry,
    /// A leader that starts again goes on as if it had not been away.
    LeaderRestored,
    /// Proposals are sent again when an earlier leader refuses them late.
    LateRefusal,
    /// Compaction takes the version that was current at its revision as well.
    CleansTooMuch,
    /// A record of the log is believed whatever its checksum says.
    BelievesRecords,
}

#[cfg(feature = "simulation")]
static MADE: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Makes a mistake from now on, in this whole process.
#[cfg(feature = "simulation")]
pub fn make(mistake: Mistake) {
    MADE.store(mistake as u8, std::sync::atomic::Ordering::SeqCst);
}

/// Whether a mistake is to be made.
#[cfg(feature = "simulation")]
#[must_use]
pub fn makes(mistake: Mistake) -> bool {
    MADE.load(std::sync::atomic::Ordering::SeqCst) == mistake as u8
}

/// Whether a mistake is to be made: never.
#[cfg(not(feature = "simulation"))]
#[must_use]
pub const fn makes(_: Mistake) -> bool {
    false
}
