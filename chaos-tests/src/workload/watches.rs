//! A watch that goes on where it was after each broken connection, as every client's does.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::Record;
use crate::{api::Api, history::Event};

/// Wait before a broken watch is begun again.
const PAUSE: Duration = Duration::from_millis(200);

/// A watch that runs until it is dropped.
pub struct Follower {
    /// What it was told.
    pub events: Record<Event>,
    task: JoinHandle<()>,
}

/// Follows a collection after a version.
#[must_use]
pub fn follow(runtime: &tokio::runtime::Handle, api: &Api, path: &str, after: u64) -> Follower {
    let events = Record::default();
    let (api, path, log, mut after) = (api.clone(), path.to_owned(), Record::clone(&events), after);
    let task = runtime.spawn(async move {
        loop {
            // Any end is answered by going on where it was; what was missed the checkers see.
            let _ = api.watch(&path, &mut after, |event| log.push(event)).await;
            tokio::time::sleep(PAUSE).await;
        }
    });
    Follower { events, task }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}
