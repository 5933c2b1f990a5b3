//! Windows, snapshots, and who hears of what.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::{cache::decode_object, encryption::Encryption};
use kontiki_api::registry;

fn cache() -> ResourceCache {
    ResourceCache::new(registry::find("", "v1", "configmaps").unwrap(), "/registry/configmaps/".into())
}

fn put(cache: &ResourceCache, name: &str, revision: i64) {
    let stored = format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"a"}}}}"#);
    let key = format!("/registry/configmaps/a/{name}");
    cache.put(decode_object(&Encryption::default(), cache.resource, &key, &stored.into(), revision).unwrap());
}

#[test]
fn a_position_sees_each_later_event_once() {
    let cache = cache();
    put(&cache, "x", 5);
    let mut window = cache.window_after(5).unwrap();
    put(&cache, "y", 6);
    cache.delete("/registry/configmaps/a/x", 7);
    let events = cache.read(&mut window, 10).unwrap();
    assert_eq!(events.iter().map(|event| event.revision).collect::<Vec<_>>(), [6, 7]);
    assert!(cache.read(&mut window, 10).unwrap().is_empty());
    assert!(cache.get("/registry/configmaps/a/x").is_none());
}

#[test]
fn what_has_left_the_window_is_too_old() {
    let cache = cache();
    let mut slow = cache.window_after(0).unwrap();
    for revision in 1..=(WINDOW_EVENTS_MAX as i64 + 1) {
        put(&cache, "x", revision);
    }
    assert_eq!(cache.read(&mut slow, 1).unwrap_err(), WindowError::TooOld);
    assert_eq!(cache.window_after(0).unwrap_err(), WindowError::TooOld);
    assert!(cache.window_after(1).is_ok());
}

#[test]
fn a_snapshot_does_not_move() {
    let cache = cache();
    put(&cache, "x", 1);
    let (before, revision) = cache.snapshot_and_revision();
    put(&cache, "y", 2);
    assert_eq!((before.len(), revision, cache.snapshot().len()), (1, 1, 2));
}

fn taken(subscription: &Subscription) -> Vec<i64> {
    subscription.take(10).unwrap().iter().map(|event| event.revision).collect()
}

#[test]
fn a_watcher_hears_of_what_it_watches_and_of_nothing_else() {
    let cache = Arc::new(cache());
    put(&cache, "x", 1);
    let name = |name: &str| Interest::Object(format!("/registry/configmaps/a/{name}"));
    let x = cache.subscribe(name("x"), 0).unwrap();
    let y = cache.subscribe(name("y"), 0).unwrap();
    let namespace = cache.subscribe(Interest::Namespace("/registry/configmaps/a/".into()), 1).unwrap();
    let other = cache.subscribe(Interest::Namespace("/registry/configmaps/b/".into()), 1).unwrap();
    put(&cache, "y", 2);
    cache.delete("/registry/configmaps/a/x", 3);
    assert_eq!((taken(&x), taken(&y)), (vec![1, 3], vec![2]));
    assert_eq!((taken(&namespace), taken(&other)), (vec![2, 3], vec![]));
}

/// Aim: a write costs what its watchers cost, not what all watchers cost. Method: count who is told, with the pods
/// of a thousand nodes watched.
#[test]
fn a_write_touches_the_watchers_that_want_it() {
    let resource = registry::find("", "v1", "pods").unwrap();
    let cache = Arc::new(ResourceCache::new(resource, "/registry/pods/".into()));
    let field = resource.strategy.selectable_fields().iter().position(|field| *field == "spec.nodeName").unwrap();
    let of_node = |node: usize| cache.subscribe(Interest::Field(field, format!("n{node}")), 0).unwrap();
    let watchers: Vec<_> = (0..1000).map(of_node).collect();
    let pod = |node: &str, revision: i64| {
        let stored = serde_json::json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "namespace": "a"}, "spec": {"nodeName": node}});
        let stored = stored.to_string().into();
        cache.put(decode_object(&Encryption::default(), resource, "/registry/pods/a/p", &stored, revision).unwrap());
    };
    pod("n7", 1);
    assert_eq!(cache.watchers_told(), 1);
    // It moves: who had it and who gets it are told.
    pod("n8", 2);
    assert_eq!(cache.watchers_told(), 3);
    assert_eq!((taken(&watchers[7]), taken(&watchers[8]), taken(&watchers[9])), (vec![1, 2], vec![2], vec![]));
    drop(watchers);
    pod("n8", 3);
    assert_eq!(cache.watchers_told(), 3);
}

#[test]
fn who_is_too_slow_is_told_so() {
    let cache = Arc::new(cache());
    let slow = cache.subscribe(Interest::Everything, 0).unwrap();
    for revision in 1..=(WINDOW_EVENTS_MAX as i64 + 2) {
        put(&cache, "x", revision);
    }
    assert_eq!(slow.take(1).unwrap_err(), WindowError::TooOld);
}

#[test]
fn who_watched_before_the_cache_began_anew_is_told_so() {
    let cache = Arc::new(cache());
    let watcher = cache.subscribe(Interest::Everything, 0).unwrap();
    // What happened between the two states is in no window.
    cache.reset(Vec::new(), BTreeMap::new(), 9);
    put(&cache, "x", 10);
    assert_eq!(watcher.take(10).unwrap_err(), WindowError::TooOld);
}
