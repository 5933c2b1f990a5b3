//! The ciphers of encryption at rest: bytes in, bytes with their nonce before them out, as Kubernetes lays them out.
//!
//! What goes wrong is told in the words that a user of Kubernetes finds when searching for them.

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::{
    AesGcm,
    aead::{Aead, AeadInPlace, KeyInit, Payload, consts::U12},
};
use cbc::cipher::{
    BlockCipher, BlockDecryptMut, BlockEncryptMut, BlockSizeUser, InnerIvInit,
    block_padding::{NoPadding, Pkcs7},
    consts::U16,
};
use crypto_secretbox::XSalsa20Poly1305;

const BLOCK: usize = 16;
const GCM_NONCE: usize = 12;
const SECRETBOX_NONCE: usize = 24;
const SECRETBOX_TAG: usize = 16;
const TOO_SHORT: &str = "the stored data was shorter than the required size";

/// One cipher with its key.
pub trait Cipher: Send + Sync {
    /// Encrypts under a fresh nonce; `place` is where the bytes will lie, for ciphers that can hold them to it.
    fn encrypt(&self, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, &'static str>;
    /// Decrypts what lay there.
    fn decrypt(&self, stored: &[u8], place: &[u8]) -> Result<Vec<u8>, &'static str>;
}

/// A provider whose keys are written in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// AES in Galois/Counter Mode; the place is authenticated.
    AesGcm,
    /// AES with cipher block chaining and PKCS#7 padding; nothing is authenticated.
    AesCbc,
    /// NaCl's XSalsa20 and Poly1305; the bytes are authenticated, their place is not.
    Secretbox,
}

impl Algorithm {
    /// What stored values of the provider begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::AesGcm => "k8s:enc:aesgcm:v1:",
            Self::AesCbc => "k8s:enc:aescbc:v1:",
            Self::Secretbox => "k8s:enc:secretbox:v1:",
        }
    }

    /// Lengths that a key may have.
    pub fn key_lengths(self) -> &'static [usize] {
        match self {
            Self::AesGcm | Self::AesCbc => &[16, 24, 32],
            Self::Secretbox => &[32],
        }
    }

    /// Why a value of the provider is not read: no key has its name.
    pub fn unmatched(self) -> &'static str {
        match self {
            Self::AesGcm | Self::AesCbc => "no matching key was found for the provided AES transformer",
            Self::Secretbox => "no matching key was found for the provided Secretbox transformer",
        }
    }

    /// The cipher with a key; `None` where the key has another length than [`Algorithm::key_lengths`] allows.
    pub fn with_key(self, key: &[u8]) -> Option<Box<dyn Cipher>> {
        Some(match (self, key.len()) {
            (Self::AesGcm, 16) => Box::new(Gcm(AesGcm::<Aes128, U12>::new_from_slice(key).ok()?)),
            (Self::AesGcm, 24) => Box::new(Gcm(AesGcm::<Aes192, U12>::new_from_slice(key).ok()?)),
            (Self::AesGcm, 32) => Box::new(Gcm(AesGcm::<Aes256, U12>::new_from_slice(key).ok()?)),
            (Self::AesCbc, 16) => Box::new(Cbc(Aes128::new_from_slice(key).ok()?)),
            (Self::AesCbc, 24) => Box::new(Cbc(Aes192::new_from_slice(key).ok()?)),
            (Self::AesCbc, 32) => Box::new(Cbc(Aes256::new_from_slice(key).ok()?)),
            (Self::Secretbox, 32) => Box::new(Secretbox(XSalsa20Poly1305::new_from_slice(key).ok()?)),
            _ => return None,
        })
    }
}

/// Nonce, text, tag.
struct Gcm<C>(C);

impl<C: Aead<NonceSize = U12> + Send + Sync> Cipher for Gcm<C> {
    fn encrypt(&self, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, &'static str> {
        let nonce: [u8; GCM_NONCE] = rand::random();
        let sealed = self.0.encrypt(&nonce.into(), Payload { msg: plain, aad: place });
        Ok([&nonce[..], &sealed.map_err(|_| "cipher: message too large for GCM")?].concat())
    }

    fn decrypt(&self, stored: &[u8], place: &[u8]) -> Result<Vec<u8>, &'static str> {
        let (nonce, sealed) = stored.split_first_chunk::<GCM_NONCE>().ok_or(TOO_SHORT)?;
        let opened = self.0.decrypt(nonce.into(), Payload { msg: sealed, aad: place });
        opened.map_err(|_| "cipher: message authentication failed")
    }
}

/// Initial vector, padded text.
struct Cbc<C>(C);

impl<C> Cipher for Cbc<C>
where
    C: BlockCipher + BlockEncryptMut + BlockDecryptMut + BlockSizeUser<BlockSize = U16> + Clone + Send + Sync,
{
    fn encrypt(&self, plain: &[u8], _place: &[u8]) -> Result<Vec<u8>, &'static str> {
        let vector: [u8; BLOCK] = rand::random();
        let chain = cbc::Encryptor::inner_iv_init(self.0.clone(), &vector.into());
        Ok([&vector[..], &chain.encrypt_padded_vec_mut::<Pkcs7>(plain)].concat())
    }

    fn decrypt(&self, stored: &[u8], _place: &[u8]) -> Result<Vec<u8>, &'static str> {
        let (vector, text) = stored.split_first_chunk::<BLOCK>().ok_or(TOO_SHORT)?;
        let chain = cbc::Decryptor::inner_iv_init(self.0.clone(), vector.into());
        // The padding is looked at here, as wrong blocks and wrong padding have words of their own.
        let padded = chain.decrypt_padded_vec_mut::<NoPadding>(text);
        let mut plain = padded.map_err(|_| "the stored data is not a multiple of the block size")?;
        let padding = plain.last().map_or(0, |byte| usize::from(*byte));
        if padding == 0 || padding > plain.len() {
            return Err("invalid PKCS7 data (empty or not padded)");
        }
        let length = plain.len() - padding;
        if plain[length..].iter().any(|byte| usize::from(*byte) != padding) {
            return Err("invalid padding on input");
        }
        plain.truncate(length);
        Ok(plain)
    }
}

/// Nonce, tag, text.
struct Secretbox(XSalsa20Poly1305);

impl Cipher for Secretbox {
    fn encrypt(&self, plain: &[u8], _place: &[u8]) -> Result<Vec<u8>, &'static str> {
        let nonce: [u8; SECRETBOX_NONCE] = rand::random();
        let mut text = plain.to_vec();
        self.0.encrypt_in_place(&nonce.into(), b"", &mut text).map_err(|_| "the data cannot be sealed")?;
        Ok([&nonce[..], &text].concat())
    }

    fn decrypt(&self, stored: &[u8], _place: &[u8]) -> Result<Vec<u8>, &'static str> {
        let (nonce, sealed) = stored.split_first_chunk::<SECRETBOX_NONCE>().ok_or(TOO_SHORT)?;
        if sealed.len() < SECRETBOX_TAG {
            return Err(TOO_SHORT);
        }
        let mut text = sealed.to_vec();
        // Kubernetes says of every box that does not open that an array was too small.
        let opened = self.0.decrypt_in_place(nonce.into(), b"", &mut text);
        opened.map_err(|_| "output array was not large enough for encryption")?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::*;

    const PLAIN: &[u8] = br#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"s"},"data":{"a":"dmFsdWU="}}"#;
    const PLACE: &[u8] = b"/registry/secrets/default/s";

    fn cipher(algorithm: Algorithm, length: u8) -> Box<dyn Cipher> {
        algorithm.with_key(&(0..length).collect::<Vec<u8>>()).unwrap()
    }

    /// Made by the transformers of Kubernetes v1.36 from the text above, at the place above, with the keys 0, 1, 2, ….
    const FROM_KUBERNETES: [(Algorithm, u8, &str); 7] = [
        (
            Algorithm::AesGcm,
            16,
            "yYrl8vhDCzKUcvASlzjAtVnzIvGtBY4W9QfV75ucc3Co7odJj/GysUvTDNwrk3wKPQ9h7MODkMYb8LQimzhuIA6lGswbA+Nfbvfp1RvvSggl5Gd8rgCRdKjXwJpIEWolsqyhVATRWsW1CEhunKqK",
        ),
        (
            Algorithm::AesGcm,
            24,
            "oBFvdJMR9b3xeQMu6kn3mPy9dIpeh65tABvEG1brTEH/sds4Xa6H9oZtc7tMd1JZMJ8+sawCDaADo8eES4LzPfFtikyeFvNwT52If6BD6z+OB0lx84j+SAg/V6a+J0egYhdzdbCqsPO/nAYiuf8H",
        ),
        (
            Algorithm::AesGcm,
            32,
            "bvF8L188/7sz/1hvx5HlXBm2QNUwJ9x8YujicTDFyNvjlqSli0UF9+lS9UJ5e0yU3v6PG8KR/c3tvNwYdG5K2/mnKStnPDx+AsHGSQVd1g68rCfEh4LxaOGBWU8SVksWt7Z6o/b0UGoUYRaFYSBd",
        ),
        (
            Algorithm::AesCbc,
            16,
            "RlASD1TlfGbsFExfXNU6d0oHrTf46/1J2f6TRlmBFu/k1TGSqsAOG73X9HS0Itd36FukKG7zmkbUgBuEXZGr1hX7MUfzmUtcW9QHriVk1TLjHfBrKcnlAyVeOYJDjFSZ4Eb5KhEmw3FL4CA1E228OA==",
        ),
        (
            Algorithm::AesCbc,
            24,
            "L2jJOP/mV2x6legD1TIpV6Rp8iufjXboployrmESIJI/Rqkv2jAgp+fsfbV6X2Gnw5HkLJxZ9u0/94SB7vLnBLnyjBu2xqrNAQpHK2038XWcHqPTm/R3MUPKdu9yxLrDxgDEmu71UzwBGVV9zFg92g==",
        ),
        (
            Algorithm::AesCbc,
            32,
            "OiFYPamAvjGXCoWU32TKO7HJsM/QkDILkvKQWlcqtUIzA1hH+hSP5n1n/8hKN+lApWgEe/4XRjC0oFPGAv928O2E+8a1MmEFkzA2lZ/401v1FfD542xljkkfo1Fniv7EPrGRdq9QKoiZOS4QtNi1Ow==",
        ),
        (
            Algorithm::Secretbox,
            32,
            "nZxTXaHqdaW+xoMCIQLT1MWPF0KCnQ6mQ401KwoFmESQD5j9OvFJhG4A8+LWnVa7AvWTVtGxu0yaePwcXAS6jSMg7CMeYVtDqFkVqM+G2wfhxuuQmICX/r3IQ0Z38crQDV54/740+l9kcb4eFz1t74uAeEKeqJtv0K+k",
        ),
    ];

    #[test]
    fn what_kubernetes_has_encrypted_is_read() {
        for (algorithm, length, stored) in FROM_KUBERNETES {
            let stored = BASE64_STANDARD.decode(stored).unwrap();
            assert_eq!(cipher(algorithm, length).decrypt(&stored, PLACE).unwrap(), PLAIN, "{algorithm:?} {length}");
        }
    }

    #[test]
    fn what_is_encrypted_is_read_again_and_is_never_the_same() {
        for (algorithm, length, kubernetes) in FROM_KUBERNETES {
            let cipher = cipher(algorithm, length);
            let (once, again) = (cipher.encrypt(PLAIN, PLACE).unwrap(), cipher.encrypt(PLAIN, PLACE).unwrap());
            assert_ne!(once, again);
            assert_eq!(once.len(), BASE64_STANDARD.decode(kubernetes).unwrap().len());
            assert_eq!(cipher.decrypt(&once, PLACE).unwrap(), PLAIN);
            assert_eq!(cipher.decrypt(&cipher.encrypt(b"", PLACE).unwrap(), PLACE).unwrap(), b"");
        }
    }

    #[test]
    fn what_was_changed_or_moved_is_refused_where_the_cipher_can_tell() {
        let other = b"/registry/secrets/default/other";
        for (algorithm, moved, changed) in [
            (Algorithm::AesGcm, Some("cipher: message authentication failed"), "cipher: message authentication failed"),
            (Algorithm::Secretbox, None, "output array was not large enough for encryption"),
        ] {
            let cipher = cipher(algorithm, 32);
            let mut stored = cipher.encrypt(PLAIN, PLACE).unwrap();
            assert_eq!(cipher.decrypt(&stored, other).err(), moved, "{algorithm:?}");
            *stored.last_mut().unwrap() ^= 1;
            assert_eq!(cipher.decrypt(&stored, PLACE).unwrap_err(), changed);
        }
        let cipher = cipher(Algorithm::AesCbc, 32);
        let stored = cipher.encrypt(PLAIN, PLACE).unwrap();
        assert_eq!(cipher.decrypt(&stored, other).unwrap(), PLAIN);
        assert_eq!(cipher.decrypt(&stored[..40], PLACE).unwrap_err(), "the stored data is not a multiple of the block size");
        assert_eq!(cipher.decrypt(&stored[..16], PLACE).unwrap_err(), "invalid PKCS7 data (empty or not padded)");
        assert_eq!(cipher.decrypt(&stored[..9], PLACE).unwrap_err(), TOO_SHORT);
    }
}
