//! Which files of a log to pack and which to remove. Pure: names in, steps out.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// End of a packed file's name.
pub const PACKED: &str = ".gz";
/// End of the name of a file that is being packed.
pub const HALF: &str = ".tmp";

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Remove a file.
    Remove(PathBuf),
    /// Pack a file.
    Pack(PathBuf),
}

/// Name of a log that goes on elsewhere from `now` on: names sort as times do.
pub fn rotated(log: &Path, now: Timestamp) -> PathBuf {
    PathBuf::from(format!("{}.{}", log.display(), now.strftime("%Y%m%d-%H%M%S")))
}

/// What to do before a log goes on in a new file, so that afterwards there are no more than `files_max`: the new one, the
/// one before it as it is (somebody may read it still), and packed ones.
pub fn tidy(there: &[PathBuf], files_max: usize) -> Vec<Step> {
    let ends = |path: &Path, end: &str| path.as_os_str().as_encoded_bytes().ends_with(end.as_bytes());
    let packed = |path: &Path| PathBuf::from(format!("{}{PACKED}", path.display()));
    let (mut used, unused): (Vec<&PathBuf>, Vec<&PathBuf>) =
        there.iter().partition(|path| !ends(path, HALF) && (ends(path, PACKED) || !there.contains(&packed(path))));
    used.sort();
    let excess = used.len().saturating_sub(files_max.saturating_sub(2));
    let gone = unused.into_iter().chain(used.iter().copied().take(excess));
    let mut steps: Vec<Step> = gone.map(|path| Step::Remove(path.clone())).collect();
    let kept = used.iter().skip(excess).filter(|path| !ends(path, PACKED));
    steps.extend(kept.map(|path| Step::Pack((*path).clone())));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(there: &[&str], files_max: usize, expected: &[&str]) {
        let there: Vec<PathBuf> = there.iter().map(PathBuf::from).collect();
        let steps = tidy(&there, files_max);
        let words = steps.iter().map(|step| match step {
            Step::Remove(path) => format!("remove {}", path.display()),
            Step::Pack(path) => format!("pack {}", path.display()),
        });
        assert_eq!(words.collect::<Vec<_>>(), expected, "{there:?}");
    }

    #[test]
    fn the_newest_stay_and_are_packed() {
        check(&[], 5, &[]);
        check(&["l.1"], 5, &["pack l.1"]);
        check(&["l.3", "l.1.gz", "l.2.gz"], 5, &["pack l.3"]);
        check(&["l.4", "l.1.gz", "l.3.gz", "l.2.gz"], 5, &["remove l.1.gz", "pack l.4"]);
        check(&["l.1", "l.2"], 2, &["remove l.1", "remove l.2"]);
    }

    #[test]
    fn what_was_left_in_the_middle_goes() {
        check(&["l.1.tmp", "l.1"], 5, &["remove l.1.tmp", "pack l.1"]);
        check(&["l.1", "l.1.gz"], 5, &["remove l.1"]);
    }

    #[test]
    fn names_sort_as_times_do() {
        let at = |text: &str| text.parse::<Timestamp>().map(|now| rotated(Path::new("/l/0.log"), now)).unwrap_or_default();
        assert_eq!(at("2026-01-02T03:04:05Z"), Path::new("/l/0.log.20260102-030405"));
    }
}
