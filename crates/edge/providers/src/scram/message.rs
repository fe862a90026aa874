//! The client's two messages (RFC 5802 section 7).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ScramError;

/// `n,,n=USER,r=NONCE`.
pub(super) struct ClientFirst {
    pub(super) user: String,
    pub(super) nonce: String,
    /// What the signature covers.
    pub(super) bare: String,
    /// What the second message has to repeat of the header.
    pub(super) binding: String,
}

impl ClientFirst {
    pub(super) fn parse(text: &str) -> Result<Self, ScramError> {
        let mut parts = text.splitn(3, ',');
        let (flag, authzid, bare) = (parts.next(), parts.next(), parts.next());
        let (Some(flag), Some(authzid), Some(bare)) = (flag, authzid, bare) else {
            return Err(ScramError::Malformed);
        };
        match flag {
            "n" | "y" => {}
            flag if flag.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Malformed),
        }
        // Nobody acts for somebody else here.
        if !authzid.is_empty() {
            return Err(ScramError::Malformed);
        }
        // A mandatory extension (`m=`) takes the place of the name and is refused with it.
        let mut fields = bare.split(',');
        let user = fields.next().and_then(|field| field.strip_prefix("n="));
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        let (Some(user), Some(nonce)) = (user, nonce) else {
            return Err(ScramError::Malformed);
        };
        if nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ScramError::Malformed);
        }
        Ok(Self {
            user: unescape(user)?,
            nonce: nonce.to_owned(),
            bare: bare.to_owned(),
            binding: to_base64(format!("{flag},,").as_bytes()),
        })
    }
}

/// `c=BINDING,r=NONCE,p=PROOF`.
pub(super) struct ClientFinal<'a> {
    pub(super) binding: &'a str,
    pub(super) nonce: &'a str,
    pub(super) proof: [u8; 32],
    pub(super) without_proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, ScramError> {
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|field| field.strip_prefix("c="));
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        let (Some(binding), Some(nonce)) = (binding, nonce) else {
            return Err(ScramError::Malformed);
        };
        let proof = from_base64(proof).ok_or(ScramError::Malformed)?;
        Ok(Self {
            binding,
            nonce,
            proof: proof.try_into().map_err(|_| ScramError::Malformed)?,
            without_proof,
        })
    }
}

/// `=2C` is a comma and `=3D` an equals sign; nothing else may follow `=`.
fn unescape(name: &str) -> Result<String, ScramError> {
    let mut plain = String::with_capacity(name.len());
    let mut parts = name.split('=');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (escaped, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            (None, None) => return Err(ScramError::Malformed),
        };
        plain.push(escaped);
        plain.push_str(rest);
    }
    match plain.is_empty() {
        true => Err(ScramError::Malformed),
        false => Ok(plain),
    }
}

pub(super) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
