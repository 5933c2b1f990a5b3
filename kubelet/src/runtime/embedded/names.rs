//! Identifiers and where things lie.

use std::path::PathBuf;

use rand::RngCore;

use super::Options;

/// Digits of an identifier that name a sandbox's folder: a socket's path must be short.
const FOLDER_DIGITS: usize = 24;

/// A new identifier: 64 hexadecimal digits, as other runtimes have them.
pub fn identifier() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes)
}

impl Options {
    /// Folder of a sandbox; gone after a reboot.
    pub(super) fn sandbox(&self, id: &str) -> PathBuf {
        self.run.join("sandboxes").join(&id[..id.len().min(FOLDER_DIGITS)])
    }

    /// Folder of a container within its sandbox's.
    pub(super) fn container(&self, sandbox: &str, id: &str) -> PathBuf {
        self.sandbox(sandbox).join("containers").join(id)
    }

    /// Folder of what a container writes, on disk.
    pub(super) fn writable(&self, id: &str) -> PathBuf {
        self.data.join("containers").join(id)
    }
}

/// Number of a signal by the name or number that an image gives it; SIGTERM where it says nothing sensible.
pub fn stop_signal(name: &str) -> i32 {
    let terminate = nix::libc::SIGTERM;
    if let Ok(number) = name.parse::<i32>() {
        return if (1..=64).contains(&number) { number } else { terminate };
    }
    let whole = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    if let Some(offset) = whole.strip_prefix("SIGRTMIN+").and_then(|offset| offset.parse::<i32>().ok()) {
        return 34 + offset.clamp(0, 30);
    }
    whole.parse::<nix::sys::signal::Signal>().map_or(terminate, |signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        let cases = [("SIGQUIT", 3), ("QUIT", 3), ("15", 15), ("", 15), ("nonsense", 15), ("900", 15), ("SIGRTMIN+3", 37)];
        for (name, number) in cases {
            assert_eq!(stop_signal(name), number, "{name}");
        }
    }

    #[test]
    fn identifiers_are_64_digits() {
        assert_eq!(identifier().len(), 64);
        assert_ne!(identifier(), identifier());
    }
}
