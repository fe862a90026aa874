//! What is stored of a password for SCRAM.

use std::fmt;
use std::str::FromStr;

use pbkdf2::pbkdf2_hmac_array;
use sha2::{Digest as _, Sha256};

use super::message::{from_base64, to_base64};
use super::sign;

/// Iterations of a new verifier. OWASP asks for 600,000 of PBKDF2-HMAC-SHA-256; the client pays them
/// at each connect, and devices are slow, so that it is the least that RFC 7677 leads to, eight
/// times over.
const ITERATIONS: u32 = 32_768;
/// The least that RFC 7677 allows.
const ITERATIONS_MIN: u32 = 4096;
/// More would stop the client, not us.
const ITERATIONS_MAX: u32 = 10_000_000;
const SALT_BYTES: usize = 16;
const SALT_BYTES_MAX: usize = 64;

/// Salt, iterations and two keys, written `SCRAM-SHA-256$ITERATIONS:SALT$STORED:SERVER` with base64
/// parts. It proves a password and does not reveal it, but is quicker to guess against than an
/// argon2id hash.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: [u8; 32],
    pub(super) server_key: [u8; 32],
}

/// A text that is no verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "scram must be SCRAM-SHA-256$ITERATIONS:SALT$STORED:SERVER, as `bifrust user add --scram` makes it"
)]
pub struct VerifierError;

impl ScramVerifier {
    /// Of a password, with a fresh salt.
    pub fn new(password: &[u8]) -> Result<Self, getrandom::Error> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt)?;
        Ok(Self::derive(password, &salt, ITERATIONS))
    }

    pub(super) fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let salted: [u8; 32] = pbkdf2_hmac_array::<Sha256, 32>(password, salt, iterations);
        let client_key = sign(&salted, b"Client Key");
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: Sha256::digest(client_key).into(),
            server_key: sign(&salted, b"Server Key"),
        }
    }

    /// What a user that does not exist is challenged with: always the same for one name, and no proof
    /// fits it.
    pub(crate) fn of_nobody(key: &[u8; 32], tenant: &str, user: &str) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(tenant.as_bytes()).update(&[0]);
        hasher.update(user.as_bytes());
        let mut bytes = [0; SALT_BYTES + 64];
        hasher.finalize_xof().fill(&mut bytes);
        let (salt, keys) = bytes.split_at(SALT_BYTES);
        let mut stored_key = [0; 32];
        let mut server_key = [0; 32];
        stored_key.copy_from_slice(&keys[..32]);
        server_key.copy_from_slice(&keys[32..]);
        Self {
            iterations: ITERATIONS,
            salt: salt.to_vec(),
            stored_key,
            server_key,
        }
    }

    pub(super) fn salt_base64(&self) -> String {
        to_base64(&self.salt)
    }
}

impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, stored, server) = (
            to_base64(&self.salt),
            to_base64(&self.stored_key),
            to_base64(&self.server_key),
        );
        let iterations = self.iterations;
        write!(f, "SCRAM-SHA-256${iterations}:{salt}${stored}:{server}")
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl FromStr for ScramVerifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        parse(text).ok_or(VerifierError)
    }
}

fn parse(text: &str) -> Option<ScramVerifier> {
    let rest = text.strip_prefix("SCRAM-SHA-256$")?;
    let (cost, keys) = rest.split_once('$')?;
    let (iterations, salt) = cost.split_once(':')?;
    let (stored, server) = keys.split_once(':')?;
    let iterations = iterations.parse().ok()?;
    let salt = from_base64(salt)?;
    let is_sane = (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations)
        && (1..=SALT_BYTES_MAX).contains(&salt.len());
    is_sane.then_some(())?;
    Some(ScramVerifier {
        iterations,
        salt,
        stored_key: from_base64(stored)?.try_into().ok()?,
        server_key: from_base64(server)?.try_into().ok()?,
    })
}
