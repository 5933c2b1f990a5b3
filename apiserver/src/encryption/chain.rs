//! Providers in their order: the first writes, whichever knows a value's prefix reads.
//!
//! A value that another than the first has read is stale: the next write of its object replaces it, also where nothing
//! in the object has changed.

use std::time::Instant;

use bytes::Bytes;

use super::{cipher::Cipher, metrics::Metrics};

/// What no plain value begins with: objects in JSON begin with a brace, in protobuf with `k8s` and a zero.
pub const ENCRYPTED: &[u8] = b"k8s:enc:";
/// Why plain values cannot be read from encrypted ones.
pub const NOT_PLAIN: &str = "identity transformer tried to read encrypted data";

/// A value as it was before it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The value.
    pub value: Bytes,
    /// Whether it is to be written anew.
    pub stale: bool,
}

/// What one provider does with values.
pub enum Provider {
    /// Nothing.
    Identity,
    /// A key has encrypted them.
    Key(Box<dyn Cipher>),
    /// One of several keys, by its name.
    Keys(Chain),
}

/// Providers, each with what its values begin with.
pub struct Chain {
    links: Vec<(String, Provider)>,
    /// Why a value is not read: nobody knows how it begins.
    unmatched: &'static str,
}

/// Where a value lies, and who counts what is done with it.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The key in the store.
    pub key: &'a str,
    /// The resource, as `deployments.apps`.
    pub resource: &'a str,
    /// The counters.
    pub metrics: &'a Metrics,
}

impl Chain {
    /// Providers in their order.
    pub fn new(links: Vec<(String, Provider)>, unmatched: &'static str) -> Self {
        Self { links, unmatched }
    }

    /// Adds further ones.
    pub fn extend(&mut self, other: Self) {
        self.links.extend(other.links);
    }

    /// A value as the first provider stores it.
    pub fn seal(&self, value: &Bytes, place: Place<'_>) -> Result<Bytes, String> {
        let Some((prefix, provider)) = self.links.first() else { return Ok(value.clone()) };
        let began = Instant::now();
        let sealed = match provider {
            Provider::Identity => Ok(value.clone()),
            Provider::Key(cipher) => cipher.encrypt(value, place.key.as_bytes()).map(Bytes::from).map_err(str::to_owned),
            Provider::Keys(keys) => keys.seal(value, place),
        };
        place.metrics.transformed(place.resource, "to_storage", prefix, began.elapsed(), sealed.is_ok());
        let sealed = sealed?;
        Ok(if prefix.is_empty() { sealed } else { [prefix.as_bytes(), &sealed].concat().into() })
    }

    /// A stored value as it was. One prefix may be that of several providers: each that has it tries.
    pub fn open(&self, stored: &Bytes, place: Place<'_>) -> Result<Opened, String> {
        let began = Instant::now();
        let mut errors: Vec<String> = Vec::new();
        for (index, (prefix, provider)) in self.links.iter().enumerate() {
            if !stored.starts_with(prefix.as_bytes()) {
                continue;
            }
            let opened = provider.open(&stored.slice(prefix.len()..), place);
            // Plain values are looked for also where others are stored: that is how encryption begins and ends.
            if prefix.is_empty() && opened.is_err() {
                continue;
            }
            let name = if prefix.is_empty() { "identity" } else { prefix };
            place.metrics.transformed(place.resource, "from_storage", name, began.elapsed(), opened.is_ok());
            match opened {
                Ok(opened) => return Ok(Opened { stale: opened.stale || index > 0, ..opened }),
                Err(error) if errors.contains(&error) => {}
                Err(error) => errors.push(error),
            }
        }
        match errors.as_slice() {
            [] => {
                place.metrics.transformed(place.resource, "from_storage", "unknown", began.elapsed(), false);
                Err(self.unmatched.to_owned())
            }
            [error] => Err(error.clone()),
            several => Err(format!("[{}]", several.join(", "))),
        }
    }
}

impl Provider {
    fn open(&self, stored: &Bytes, place: Place<'_>) -> Result<Opened, String> {
        match self {
            Self::Identity => open_plain(stored),
            Self::Key(cipher) => {
                let value = cipher.decrypt(stored, place.key.as_bytes())?;
                Ok(Opened { value: value.into(), stale: false })
            }
            Self::Keys(keys) => keys.open(stored, place),
        }
    }
}

/// A value that nobody has encrypted.
pub fn open_plain(stored: &Bytes) -> Result<Opened, String> {
    if stored.starts_with(ENCRYPTED) {
        return Err(NOT_PLAIN.to_owned());
    }
    Ok(Opened { value: stored.clone(), stale: false })
}
