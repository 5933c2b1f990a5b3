//! How many watches a user, and all users, may have open at once.

use std::{collections::HashMap, sync::Arc};

use kontiki_api::status::Status;
use parking_lot::Mutex;

use crate::limits::{WATCHES_MAX, WATCHES_OF_USER_MAX};

/// Open watches of each user.
#[derive(Debug, Default)]
pub struct Watches {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    of_user: HashMap<String, usize>,
}

/// One open watch; it is over when this is dropped.
pub struct Place {
    watches: Arc<Watches>,
    user: String,
}

/// Takes a place.
///
/// # Errors
/// 429: the user, or all together, have as many as they may.
pub fn take(watches: &Arc<Watches>, user: &str) -> Result<Place, Status> {
    let mut open = watches.open.lock();
    let count = open.of_user.get(user).copied().unwrap_or_default();
    if open.all >= WATCHES_MAX || count >= WATCHES_OF_USER_MAX {
        return Err(Status::too_many_requests("Too many requests, please try again later.", 1));
    }
    open.of_user.insert(user.to_owned(), count + 1);
    open.all += 1;
    drop(open);
    Ok(Place { watches: Arc::clone(watches), user: user.to_owned() })
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.watches.open.lock();
        open.all -= 1;
        if let Some(count) = open.of_user.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                open.of_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_user_cannot_take_every_place() {
        let watches = Arc::new(Watches::default());
        let mut places: Vec<Place> = (0..WATCHES_OF_USER_MAX).map(|_| take(&watches, "greedy").unwrap()).collect();
        assert_eq!(take(&watches, "greedy").err().unwrap().code, 429);
        assert!(take(&watches, "other").is_ok());
        places.pop();
        assert!(take(&watches, "greedy").is_ok());
    }
}
