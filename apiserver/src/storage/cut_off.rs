//! Whether this member has been without a leader for too long: what it has may be old, and it may not say so.

use kontiki_store::kv::Leadership;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::limits::CUT_OFF_AFTER;

/// Tells when this member has been without a leader for too long, and when it has one again.
pub fn follow(mut leadership: watch::Receiver<Leadership>, shutdown: CancellationToken) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let mut lost_at = None;
        loop {
            if leadership.borrow_and_update().leader_id.is_some() {
                lost_at = None;
                sender.send_replace(false);
            } else {
                lost_at.get_or_insert_with(tokio::time::Instant::now);
            }
            let waiting = lost_at.filter(|_| !*sender.borrow());
            let too_long = waiting.map(|lost_at| lost_at + CUT_OFF_AFTER).unwrap_or_else(tokio::time::Instant::now);
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(too_long), if waiting.is_some() => {
                    sender.send_replace(true);
                }
                () = shutdown.cancelled() => return,
            }
        }
    });
    receiver
}
