//! Enhanced authentication of users that have a SCRAM verifier.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bifrust_model::TenantName;
use bifrust_plugin_api::{AuthError, ExchangeAnswer, ExchangeRequest, Exchanged, Granted, Refusal};
use bytes::Bytes;

use super::Shared;
use crate::scram::{self, METHOD, Pending, ScramError, ScramVerifier};

/// Random bytes of our part of the nonce.
const NONCE_BYTES: usize = 18;

impl Shared {
    /// Two short steps; neither hashes a password, so neither needs a thread.
    pub(super) fn exchange(&self, request: &ExchangeRequest) -> ExchangeAnswer {
        if request.method != METHOD {
            return Ok(Err(Refusal::BadMethod));
        }
        let data = request.data.as_deref().unwrap_or_default();
        let step = match &request.state {
            None => self.challenge(data, request.connect.listener_tenant.as_ref())?,
            Some(state) => self.judge(data, state)?,
        };
        Ok(step.map_err(|error| match error {
            ScramError::Wrong => Refusal::BadUserOrPassword,
            ScramError::Malformed | ScramError::ChannelBinding => Refusal::NotAuthorized,
        }))
    }

    fn challenge(
        &self,
        data: &[u8],
        listener: Option<&TenantName>,
    ) -> Result<Result<Exchanged, ScramError>, AuthError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| AuthError::Failed(error.to_string()))?;
        let named = match scram::first(data, listener) {
            Ok(named) => named,
            Err(error) => return Ok(Err(error)),
        };
        let verifier = self.verifier(&named.tenant, &named.user);
        let (challenge, pending) = named.challenge(&verifier, &STANDARD_NO_PAD.encode(nonce));
        Ok(Ok(Exchanged::Challenge {
            data: challenge.into(),
            state: pending.encode().into(),
        }))
    }

    fn judge(
        &self,
        data: &[u8],
        state: &Bytes,
    ) -> Result<Result<Exchanged, ScramError>, AuthError> {
        let Some(pending) = Pending::decode(state) else {
            return Err(AuthError::Failed("an exchange lost its state".to_owned()));
        };
        let verifier = self.verifier(&pending.tenant, &pending.user);
        Ok(pending
            .finish(data, &verifier)
            .map(|proof| Exchanged::Granted {
                granted: Granted {
                    tenant: pending.tenant,
                    user: Some(pending.user.into()),
                },
                data: Some(proof.into()),
            }))
    }

    /// The user's verifier. One that does not exist, or has none, is challenged all the same and
    /// fails, so that names cannot be tried out.
    fn verifier(&self, tenant: &TenantName, user: &str) -> ScramVerifier {
        let table = self.table.load();
        let account = table.find(tenant, user);
        let verifier = account.and_then(|account| account.scram.clone());
        verifier.unwrap_or_else(|| ScramVerifier::of_nobody(&self.cache_key, tenant.as_str(), user))
    }
}
