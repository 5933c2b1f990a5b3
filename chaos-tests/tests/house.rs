//! The house checks itself: imports one way, heads, no leftovers, no overlong file, a true coverage page.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files that may have more than 500 lines, each with its reason.
const LONG_FILES: [(&str, &str); 0] = [];
const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && name != ".git" {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(&root(), &mut found);
    let name = |path: &PathBuf| path.strip_prefix(root()).unwrap().display().to_string();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// What each crate may use of the others.
const ARROWS: [(&str, &[&str]); 14] = [
    ("proto", &[]),
    ("cel", &[]),
    ("api", &["cel"]),
    ("store", &["proto"]),
    ("apiserver", &["proto", "cel", "api", "store"]),
    ("client", &["api"]),
    ("controllers", &["api", "client"]),
    ("scheduler", &["api", "client"]),
    ("proxy", &["api", "client"]),
    ("kubelet", &["api", "client", "shim"]),
    ("shim", &[]),
    ("deploy", &["api", "client", "kubelet"]),
    ("cli", &["api", "store", "apiserver", "client", "controllers", "scheduler", "proxy", "kubelet", "deploy"]),
    ("chaos-tests", &[]),
];

#[test]
fn imports_point_one_way() {
    for (name, allowed) in ARROWS {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        for line in manifest.lines() {
            let Some(other) = line.strip_prefix("kontiki-").and_then(|rest| rest.split('.').next()) else { continue };
            assert!(allowed.contains(&other), "{name} may not use {other}");
        }
    }
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let without: Vec<_> = sources().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(name, _)| name).collect();
    assert!(without.is_empty(), "no head: {without:?}");
}

#[test]
fn nothing_is_left_over() {
    let words = ["TO\u{200b}DO", "FIX\u{200b}ME", "dbg\u{200b}!(", "todo\u{200b}!(", "unimplemented\u{200b}!("];
    for (name, text) in sources() {
        for word in words.map(|word| word.replace('\u{200b}', "")) {
            assert!(!text.contains(&word), "{name} has a leftover {word}");
        }
    }
}

#[test]
fn no_file_is_too_long_to_hold_in_the_head() {
    for (name, text) in sources() {
        let listed = LONG_FILES.iter().any(|(file, _)| *file == name);
        assert!(listed || text.lines().count() <= LINES_MAX, "{name} has more than {LINES_MAX} lines");
    }
}

/// A row is `| thing | works, thin or missing | tests |`; a test is `path` or `path::name`.
#[test]
fn the_coverage_page_names_tests_that_exist() {
    let page = fs::read_to_string(root().join("docs/coverage.md")).unwrap();
    let mut rows = 0;
    for line in page.lines().filter(|line| line.starts_with("| ") && !line.contains("| state |")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [thing, state, tests] = cells.as_slice() else { panic!("a row has three cells: {line}") };
        rows += 1;
        assert!(["works", "thin", "missing"].contains(state), "{thing}: {state}");
        assert!(*state == "missing" || !tests.is_empty(), "{thing} {state} without a test");
        for test in tests.split(',').map(|test| test.trim().trim_matches('`')).filter(|test| !test.is_empty()) {
            let (file, name) = test.split_once("::").unwrap_or((test, ""));
            let text = fs::read_to_string(root().join(file)).unwrap_or_else(|_| panic!("{thing}: no file {file}"));
            assert!(text.contains(name), "{thing}: {file} has no test {name}");
        }
    }
    assert!(rows > 0, "the page has no rows");
}
