//! SCRAM-SHA-256 (RFC 5802, RFC 7677) for enhanced authentication: the password never travels, and
//! what is stored does not let anybody in.
//!
//! ```text
//! client: n,,n=USER,r=NONCE        -> r=NONCE+OURS,s=SALT,i=ITERATIONS
//! client: c=biws,r=...,p=PROOF     -> v=SIGNATURE
//! ```
//!
//! Both steps are functions of what came and what is stored; the caller brings the nonce.

mod message;
mod verifier;

use bifrust_model::TenantName;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

pub use verifier::{ScramVerifier, VerifierError};

use crate::tenant_of::tenant_of;
use message::{ClientFinal, ClientFirst};

/// The name of the method in CONNECT.
pub(crate) const METHOD: &str = "SCRAM-SHA-256";
/// Bytes of one message of the client.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Why an exchange ends without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScramError {
    #[error("the message is not SCRAM-SHA-256")]
    Malformed,
    #[error("channel binding is not served")]
    ChannelBinding,
    #[error("user name or password is wrong")]
    Wrong,
}

/// An exchange between its two steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) tenant: TenantName,
    pub(crate) user: String,
    /// Both messages so far, as the signature covers them.
    transcript: String,
    nonce: String,
    binding: String,
}

/// Whom the first message names. The user may be written as `TENANT/USER`.
pub(crate) struct Named {
    pub(crate) tenant: TenantName,
    pub(crate) user: String,
    first: ClientFirst,
}

/// Reads the first message.
pub(crate) fn first(data: &[u8], listener: Option<&TenantName>) -> Result<Named, ScramError> {
    let first = ClientFirst::parse(text(data)?)?;
    let named = tenant_of(&first.user, listener).ok_or(ScramError::Wrong)?;
    Ok(Named {
        tenant: named.tenant,
        user: named.user.to_owned(),
        first,
    })
}

impl Named {
    /// The challenge, and what has to be kept until it is answered.
    pub(crate) fn challenge(self, verifier: &ScramVerifier, ours: &str) -> (String, Pending) {
        let nonce = format!("{}{ours}", self.first.nonce);
        let challenge = format!(
            "r={nonce},s={},i={}",
            verifier.salt_base64(),
            verifier.iterations
        );
        let pending = Pending {
            tenant: self.tenant,
            user: self.user,
            transcript: format!("{},{challenge}", self.first.bare),
            nonce,
            binding: self.first.binding,
        };
        (challenge, pending)
    }
}

impl Pending {
    /// Judges the answer to the challenge; what the client is sent proves that we know it too.
    pub(crate) fn finish(
        &self,
        data: &[u8],
        verifier: &ScramVerifier,
    ) -> Result<String, ScramError> {
        let answer = ClientFinal::parse(text(data)?)?;
        if answer.binding != self.binding || answer.nonce != self.nonce {
            return Err(ScramError::Wrong);
        }
        let signed = format!("{},{}", self.transcript, answer.without_proof);
        let signature = sign(&verifier.stored_key, signed.as_bytes());
        let mut client_key = [0; 32];
        for (key, (proof, signature)) in client_key
            .iter_mut()
            .zip(answer.proof.iter().zip(signature))
        {
            *key = proof ^ signature;
        }
        // Compared in constant time.
        if blake3::Hash::from_bytes(Sha256::digest(client_key).into())
            != blake3::Hash::from_bytes(verifier.stored_key)
        {
            return Err(ScramError::Wrong);
        }
        let proof = sign(&verifier.server_key, signed.as_bytes());
        Ok(format!("v={}", message::to_base64(&proof)))
    }

    /// As bytes that [`Pending::decode`] reads.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // No field holds NUL: names, nonces and base64 were checked as they came.
        let fields = [
            self.tenant.as_str(),
            &self.user,
            &self.transcript,
            &self.nonce,
            &self.binding,
        ];
        fields.join("\0").into_bytes()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut fields = text.split('\0');
        let mut next = || fields.next().map(str::to_owned);
        Some(Self {
            tenant: TenantName::new(&next()?).ok()?,
            user: next()?,
            transcript: next()?,
            nonce: next()?,
            binding: next()?,
        })
    }
}

fn text(data: &[u8]) -> Result<&str, ScramError> {
    if data.len() > MESSAGE_BYTES_MAX || data.contains(&0) {
        return Err(ScramError::Malformed);
    }
    std::str::from_utf8(data).map_err(|_| ScramError::Malformed)
}

fn sign(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length is taken");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests;
