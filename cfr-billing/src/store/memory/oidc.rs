//! [`OidcStore`] over maps that are ordered by id.

use std::collections::BTreeMap;

use async_trait::async_trait;
use cfr_core::id::{ClientId, ClientSessionId, TenantId};
use cfr_core::time::Timestamp;

use super::tables::{check_free, check_version, page};
use super::{MemoryStore, State};
use crate::audit_log::{Act, Action, Event};
use crate::oidc::{Client, ClientSession, Ending, SigningKey};
use crate::people::SecretHash;
use crate::store::{LOGOUTS_MAX, OidcStore, Page, PageRequest, SIGNING_KEYS_PUBLISHED, StoreError};

#[derive(Debug, Default)]
pub(super) struct Oidc {
    clients: BTreeMap<ClientId, (Client, SecretHash)>,
    keys: BTreeMap<i64, SigningKey>,
    sessions: BTreeMap<ClientSessionId, ClientSession>,
}

#[async_trait]
impl OidcStore for MemoryStore {
    async fn add_client(&self, client: &Client, secret: &SecretHash, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        check_free(state.oidc.clients.contains_key(&client.id), "the id of the client")?;
        state.catalog.tenant(client.tenant)?;
        state.oidc.clients.insert(client.id, (client.clone(), *secret));
        state.log.record(&Event::created(Action::ClientCreated, client), act);
        Ok(())
    }

    async fn client(&self, id: ClientId) -> Result<Client, StoreError> {
        let known = self.state().oidc.clients.get(&id).map(|(client, _)| client.clone());
        known.ok_or(StoreError::NotFound { what: "client" })
    }

    async fn client_secret(&self, id: ClientId) -> Result<SecretHash, StoreError> {
        let known = self.state().oidc.clients.get(&id).map(|(_, secret)| *secret);
        known.ok_or(StoreError::NotFound { what: "client" })
    }

    async fn clients(&self, tenant: Option<TenantId>, request: PageRequest) -> Result<Page<Client>, StoreError> {
        let state = self.state();
        let all = state.oidc.clients.values().map(|(client, _)| client);
        let wanted = all.filter(|client| tenant.is_none_or(|tenant| client.tenant == tenant));
        Ok(page(wanted.map(|client| (client.id.as_u128(), client.clone())), request, false))
    }

    async fn update_client(&self, new: &Client, secret: Option<&SecretHash>, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        let known = state.oidc.clients.get_mut(&new.id).ok_or(StoreError::NotFound { what: "client" })?;
        check_version(known.0.version.saturating_add(1), new.version)?;
        state.log.record(&Client::changed(&known.0, new, secret.is_some()), act);
        *known = (new.clone(), secret.copied().unwrap_or(known.1));
        if new.revoked_at.is_some() {
            end(state, Ending::Client(new.id), act);
        }
        Ok(())
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        Ok(self.state().oidc.keys.values().rev().take(SIGNING_KEYS_PUBLISHED).cloned().collect())
    }

    async fn add_signing_key(&self, key: &SigningKey, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        check_free(state.oidc.keys.contains_key(&key.seq), "the number of the key")?;
        state.oidc.keys.insert(key.seq, key.clone());
        state.log.record(&key.added(), act);
        Ok(())
    }

    async fn reseal_signing_key(&self, seq: i64, private: &str) -> Result<(), StoreError> {
        let state = &mut *self.state();
        let key = state.oidc.keys.get_mut(&seq).ok_or(StoreError::NotFound { what: "signing key" })?;
        key.private = private.into();
        Ok(())
    }

    async fn open_client_session(&self, session: &ClientSession, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        check_free(state.oidc.sessions.contains_key(&session.id), "the id of the client's session")?;
        state.oidc.sessions.insert(session.id, session.clone());
        state.log.record(&session.event(Action::ClientSessionOpened), act);
        Ok(())
    }

    async fn client_session(&self, id: ClientSessionId) -> Result<ClientSession, StoreError> {
        let known = self.state().oidc.sessions.get(&id).cloned();
        known.ok_or(StoreError::NotFound { what: "client's session" })
    }

    async fn update_client_session(&self, new: &ClientSession, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        let known = state.oidc.sessions.get_mut(&new.id);
        let known = known.ok_or(StoreError::NotFound { what: "client's session" })?;
        check_version(known.version.saturating_add(1), new.version)?;
        if new.ended_at.is_some() && known.ended_at.is_none() {
            state.log.record(&new.event(Action::ClientSessionEnded), act);
        }
        *known = new.clone();
        Ok(())
    }

    async fn end_client_sessions(&self, ending: Ending, act: &Act) -> Result<u64, StoreError> {
        Ok(end(&mut self.state(), ending, act))
    }

    async fn claim_logouts(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<ClientSession>, StoreError> {
        let mut state = self.state();
        let due =
            |session: &&mut ClientSession| session.ended_at.is_some() && session.due_at.is_some_and(|at| at <= now);
        let mut due: Vec<&mut ClientSession> = state.oidc.sessions.values_mut().filter(due).collect();
        due.sort_by_key(|session| (session.due_at, session.id));
        let claim = |session: &mut ClientSession| {
            session.due_at = Some(until);
            session.tries = session.tries.saturating_add(1);
            session.clone()
        };
        Ok(due.into_iter().take(limit.min(LOGOUTS_MAX) as usize).map(claim).collect())
    }

    async fn logout_told(&self, id: ClientSessionId) -> Result<(), StoreError> {
        if let Some(session) = self.state().oidc.sessions.get_mut(&id) {
            session.due_at = None;
        }
        Ok(())
    }

    async fn sweep_client_sessions(&self, before: Timestamp) -> Result<u64, StoreError> {
        let sessions = &mut self.state().oidc.sessions;
        let known = sessions.len();
        sessions.retain(|_, session| session.due_at.is_some() || session.over_at() >= before);
        Ok((known - sessions.len()) as u64)
    }
}

/// Ends what is meant and has not ended.
pub(super) fn end(state: &mut State, ending: Ending, act: &Act) -> u64 {
    let open = |session: &&mut ClientSession| session.ended_at.is_none() && ending.means(session);
    let mut count = 0;
    for session in state.oidc.sessions.values_mut().filter(open) {
        *session = session.clone().ended(act.at);
        state.log.record(&session.event(Action::ClientSessionEnded), act);
        count += 1;
    }
    count
}
