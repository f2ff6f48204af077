//! Passwords as kept: an argon2 hash, or the text itself.
//!
//! Checking a hash takes 19 MiB and some 20 ms on purpose, so a hash that a
//! password has matched once keeps a cheap fingerprint of it, in memory only
//! and keyed at random: clients that come back after a broken network do not
//! cost that again. A wrong password always costs the full check.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use argon2::password_hash::phc::PasswordHash as PhcHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

use super::secret::Secret;

/// Checks one user's password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Password {
    /// As it is.
    Plain(Secret),
    /// By its hash.
    Hashed(PasswordHash),
}

/// An argon2 hash in PHC form, as `leveret hash-password` prints it.
#[derive(Clone)]
pub struct PasswordHash(Arc<Hash>);

struct Hash {
    phc: PhcHash,
    text: String,
    /// Of the password that matched before.
    fingerprint: OnceLock<Fingerprint>,
}

/// Not an argon2 hash in PHC form.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an argon2 hash in PHC form")]
pub struct NotAHash;

/// No random salt or no memory for hashing.
#[derive(Debug, thiserror::Error)]
#[error("cannot hash the password: {0}")]
pub struct HashFailed(String);

/// Hashes a password with a fresh salt and argon2id's recommended costs.
///
/// # Errors
/// If the system gives no random salt, or no memory.
pub fn hash_password(password: &[u8]) -> Result<String, HashFailed> {
    let hash: PhcHash = Argon2::default()
        .hash_password(password)
        .map_err(|error| HashFailed(error.to_string()))?;
    Ok(hash.to_string())
}

impl Password {
    /// Whether this is the password. May take tens of milliseconds and 19 MiB.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Plain(secret) => constant_time_eq(secret.reveal().as_bytes(), password),
            Self::Hashed(hash) => hash.verify(password),
        }
    }
}

impl PasswordHash {
    /// The PHC string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Whether this is the hash of the password.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        if let Some(fingerprint) = self.0.fingerprint.get()
            && fingerprint.matches(password)
        {
            return true;
        }
        let matches = self.verify_slowly(password);
        if matches && let Some(fingerprint) = Fingerprint::of(password) {
            // Lost only to another check of the same password.
            let _ = self.0.fingerprint.set(fingerprint);
        }
        matches
    }

    /// The full work, whatever matched before.
    #[must_use]
    pub fn verify_slowly(&self, password: &[u8]) -> bool {
        Argon2::default()
            .verify_password(password, &self.0.phc)
            .is_ok()
    }
}

impl FromStr for PasswordHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let hash = PhcHash::new(text).map_err(|_| NotAHash)?;
        let usable = hash.salt.is_some()
            && hash.hash.is_some()
            && Algorithm::try_from(hash.algorithm.as_str()).is_ok()
            && hash
                .version
                .is_none_or(|version| Version::try_from(version).is_ok())
            && Params::try_from(&hash).is_ok();
        if !usable {
            return Err(NotAHash);
        }
        Ok(Self(Arc::new(Hash {
            phc: hash,
            text: text.to_owned(),
            fingerprint: OnceLock::new(),
        })))
    }
}

impl PartialEq for PasswordHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for PasswordHash {}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A keyed digest that tells one password from another in microseconds.
struct Fingerprint {
    salt: [u8; 16],
    digest: [u8; 32],
}

impl Fingerprint {
    fn of(password: &[u8]) -> Option<Self> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).ok()?;
        let digest = Self::digest(password, &salt)?;
        Some(Self { salt, digest })
    }

    fn matches(&self, password: &[u8]) -> bool {
        Self::digest(password, &self.salt)
            .is_some_and(|digest| constant_time_eq(&digest, &self.digest))
    }

    fn digest(password: &[u8], salt: &[u8; 16]) -> Option<[u8; 32]> {
        let params = Params::new(Params::MIN_M_COST, Params::MIN_T_COST, 1, None).ok()?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut digest = [0; 32];
        argon2
            .hash_password_into(password, salt, &mut digest)
            .ok()?;
        Some(digest)
    }
}

/// Compares without telling by its time where the first difference is.
fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    let difference = left
        .iter()
        .zip(right)
        .fold(0, |difference, (left, right)| difference | (left ^ right));
    std::hint::black_box(difference) == 0 && left.len() == right.len()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Hashes as the tests can afford it: the format with the lowest costs.
    pub(crate) fn cheap_hash(password: &str) -> PasswordHash {
        let params = Params::new(Params::MIN_M_COST, 1, 1, None).expect("the lowest costs");
        let hash: PhcHash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password(password.as_bytes())
            .expect("a hash");
        hash.to_string().parse().expect("a hash that was just made")
    }

    #[test]
    fn a_hash_takes_its_password_only() {
        let password = Password::Hashed(cheap_hash("hunter2"));
        for (shows, given, accepted) in [
            ("a wrong password first", "hunter3", false),
            ("the password", "hunter2", true),
            ("the password again, by its fingerprint", "hunter2", true),
            (
                "a wrong one after the fingerprint was taken",
                "hunter3",
                false,
            ),
            ("a prefix", "hunter", false),
            ("nothing", "", false),
        ] {
            assert_eq!(password.verify(given.as_bytes()), accepted, "{shows}");
        }
    }

    #[test]
    fn a_plain_password_takes_itself_only() {
        let password = Password::Plain(Secret::from("guest"));
        for (given, accepted) in [
            ("guest", true),
            ("gues", false),
            ("guest1", false),
            ("", false),
        ] {
            assert_eq!(password.verify(given.as_bytes()), accepted, "{given:?}");
        }
    }

    #[test]
    fn hashes_are_salted_and_read_back() {
        let first = hash_password(b"secret").expect("a hash");
        let second = hash_password(b"secret").expect("a hash");
        assert_ne!(first, second);
        assert!(
            first.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{first}"
        );
        let hash: PasswordHash = first.parse().expect("a hash that was just made");
        assert!(hash.verify_slowly(b"secret"));
    }

    #[test]
    fn only_whole_argon2_hashes_are_hashes() {
        for text in [
            "",
            "hunter2",
            "$argon2id$v=19$m=19456,t=2,p=1",
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ",
            "$argon2id$v=19$m=1,t=2,p=1$c29tZXNhbHRzYWx0$d5zvgXAcXYKZUJdqYdIGnQ",
            "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
        ] {
            assert_eq!(text.parse::<PasswordHash>(), Err(NotAHash), "{text:?}");
        }
    }

    #[test]
    fn debug_shows_neither_password_nor_hash() {
        let hash = cheap_hash("hunter2");
        for password in [
            Password::Plain(Secret::from("hunter2")),
            Password::Hashed(hash),
        ] {
            let shown = format!("{password:?}");
            assert!(shown.contains("[redacted]"), "{shown}");
            assert!(
                !shown.contains("hunter2") && !shown.contains("argon2"),
                "{shown}"
            );
        }
    }
}
