//! How many seats a request takes: a list takes more, by the number of objects that it looks at.

use kontiki_api::registry;

use crate::{request::RequestInfo, storage::Storage};

/// Objects that one seat is good for.
const OBJECTS_A_SEAT: usize = 100;
/// Most seats of one list.
const SEATS_MAX: usize = 10;

/// Seats of a request.
#[must_use]
pub fn seats(info: &RequestInfo, storage: &Storage) -> u32 {
    if info.verb != "list" {
        return 1;
    }
    let cache = registry::find(&info.group, &info.version, &info.resource).and_then(|resource| storage.caches.of(resource));
    let objects = cache.map_or(0, |cache| cache.len());
    of_list(objects, info.parameter("limit").parse().unwrap_or(0))
}

fn of_list(objects: usize, limit: usize) -> u32 {
    let looked_at = if limit == 0 { objects } else { objects.min(limit) };
    let seats = looked_at.div_ceil(OBJECTS_A_SEAT).clamp(1, SEATS_MAX);
    u32::try_from(seats).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_list_is_wide() {
        let widths = [(0, 0), (100, 0), (101, 0), (5000, 0), (5000, 150)].map(|(objects, limit)| of_list(objects, limit));
        assert_eq!(widths, [1, 1, 2, 10, 2]);
    }
}
