//! Who a connection proves to be. Handled when the packet is read, out of order with other replies.
//! Spec: client-protocol 8.2, 12.4, 12.5; semantics 8.1, 8.7. Java: `ProviderRegistry`, `DigestAuthenticationProvider`,
//! `EnsembleAuthenticationProvider`.

use crate::core::node::{Node, Slot};
use crate::core::tree::acl;
use crate::limits;
use crate::wire::client::{OpCode, Request};

pub(super) enum Authenticated {
    Accepted,
    /// Answered AUTHFAILED, then the connection closes.
    Refused,
    /// Closes without an answer: it cannot be read, or its client has lost its way.
    Malformed,
}

impl Node {
    pub(super) fn authenticate(&mut self, slot: Slot, opcode: OpCode, body: &[u8]) -> Authenticated {
        let connection = &mut self.connections[slot];
        match Request::decode(opcode.number(), body, &self.limits) {
            // Without a SASL configuration the exchange ends at once and proves nothing (client-protocol 12.5). Java looks
            // at the token first, and a null one is no token.
            Ok(Request::Sasl { token }) if token.is_some() => Authenticated::Accepted,
            Ok(Request::Auth { scheme, auth }) => match (scheme.as_deref(), auth) {
                _ if connection.identities().len() >= limits::CLIENT_IDENTITIES => Authenticated::Refused,
                (_, auth)
                    if connection.identity_bytes() + auth.map_or(0, <[u8]>::len) > limits::CLIENT_IDENTITIES_BYTES =>
                {
                    Authenticated::Refused
                }
                (Some("digest"), Some(auth)) if self.settings.digest_auth_enabled => {
                    let mut identities = connection.identities().to_vec();
                    let super_digest = self.settings.super_digest.as_deref();
                    acl::authenticate_digest(auth, self.settings.password_hash, super_digest, &mut identities);
                    connection.set_identities(identities);
                    Authenticated::Accepted
                }
                // A client that is sure of the wrong ensemble is sent away; one that does not say is let in. It proves nothing.
                (Some("ensemble"), auth) if let Some(names) = &self.settings.ensemble_names => {
                    let said = String::from_utf8_lossy(auth.unwrap_or_default());
                    let is_right = said.is_empty() || names.is_empty() || names.iter().any(|name| *name == said);
                    if is_right { Authenticated::Accepted } else { Authenticated::Malformed }
                }
                // Every connection has its address from the start.
                (Some("ip"), _) => Authenticated::Accepted,
                _ => Authenticated::Refused,
            },
            _ => Authenticated::Malformed,
        }
    }

    /// `enforce.auth.enabled`: whether this connection has none of the schemes that a request needs.
    pub(super) fn lacks_enforced_identity(&self, slot: Slot) -> bool {
        let schemes = &self.settings.enforce_auth_schemes;
        let identities = &self.connections[slot].identities();
        !schemes.is_empty()
            && !identities.iter().any(|identity| schemes.iter().any(|scheme| identity.scheme == scheme.as_str()))
    }
}
