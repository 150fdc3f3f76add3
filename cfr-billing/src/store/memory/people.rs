//! [`PeopleStore`] over maps that are ordered by id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use cfr_core::id::{MailId, SessionId, TenantId, TokenId, UserId};
use cfr_core::time::Timestamp;
use serde_json::json;

use super::tables::{check_free, check_version, page};
use super::{MemoryStore, State, oidc};
use crate::audit_log::{Act, Action, Event};
use crate::identity::{ApiKey, User};
use crate::oidc::Ending;
use crate::people::{
    Activation, Admission, AttemptCount, Credentials, Mail, OneTimeToken, OutsideIdentity, SecretHash, Session,
    SignedIn, TokenKind,
};
use crate::store::{MAILS_MAX, Page, PageRequest, PeopleStore, StoreError};

#[derive(Debug, Default)]
pub(super) struct People {
    credentials: BTreeMap<UserId, Credentials>,
    identities: BTreeMap<(Arc<str>, Arc<str>), UserId>,
    sessions: BTreeMap<SessionId, Session>,
    tokens: BTreeMap<TokenId, OneTimeToken>,
    mails: BTreeMap<MailId, Mail>,
    attempts: BTreeMap<SecretHash, AttemptCount>,
}

impl People {
    pub(super) fn queue(&mut self, mail: &Mail) {
        self.mails.insert(mail.id, mail.clone());
    }

    fn epoch(&self, user: UserId) -> i64 {
        self.credentials.get(&user).map_or(0, |known| known.epoch)
    }

    /// Nothing of a user is left but the epoch, which voids what they still hold.
    fn erase(&mut self, user: &User) {
        let known = self.credentials.get(&user.id).cloned().unwrap_or_else(|| Credentials::none(user.id));
        let erased = known.erased();
        self.credentials.insert(user.id, Credentials { version: erased.version + 1, ..erased });
        self.identities.retain(|_, owner| *owner != user.id);
        self.sessions.retain(|_, session| session.user != user.id);
        let is_theirs = |email: &str| email.trim().to_lowercase() == user.email.trim().to_lowercase();
        self.tokens.retain(|_, token| token.user != Some(user.id) && !token.email.as_deref().is_some_and(is_theirs));
        self.mails.retain(|_, mail| !is_theirs(&mail.to));
    }

    fn set_credentials(&mut self, new: &Credentials) -> Result<Credentials, StoreError> {
        check_version(self.credentials.get(&new.user).map_or(0, |known| known.version), new.version)?;
        let others = self.credentials.values().filter(|known| known.user != new.user);
        let theirs: BTreeSet<&str> = others.flat_map(|known| &known.passkeys).map(|passkey| &*passkey.id).collect();
        let taken = new.passkeys.iter().any(|passkey| theirs.contains(&*passkey.id));
        check_free(taken, "the passkey")?;
        let written = Credentials { version: new.version + 1, ..new.clone() };
        self.credentials.insert(new.user, written.clone());
        self.sessions.retain(|_, session| session.user != new.user || session.epoch >= new.epoch);
        Ok(written)
    }

    fn link(&mut self, user: UserId, identity: &OutsideIdentity) -> Result<(), StoreError> {
        check_free(self.identities.contains_key(&key_of(identity)), "the identity")?;
        self.identities.insert(key_of(identity), user);
        Ok(())
    }

    fn session_of(&self, hash: &SecretHash) -> Option<&Session> {
        self.sessions.values().find(|session| session.hash == *hash)
    }

    fn works(&self, token: &OneTimeToken, now: Timestamp) -> bool {
        token.expires_at > now && token.user.is_none_or(|user| token.epoch >= self.epoch(user))
    }

    fn token(&self, kind: TokenKind, hash: &SecretHash, now: Timestamp) -> Option<&OneTimeToken> {
        let is_it = |token: &&OneTimeToken| token.kind == kind && token.hash == *hash && self.works(token, now);
        self.tokens.values().find(is_it)
    }

    fn issue(&mut self, token: OneTimeToken, mail: Option<&Mail>) {
        self.tokens.retain(|_, earlier| !earlier.is_replaced_by(&token));
        self.tokens.insert(token.id, token);
        self.mails.extend(mail.map(|mail| (mail.id, mail.clone())));
    }
}

fn key_of(identity: &OutsideIdentity) -> (Arc<str>, Arc<str>) {
    (identity.issuer.clone(), identity.subject.clone())
}

impl State {
    fn erase_user(&mut self, id: UserId, version: i64, act: &Act) -> Result<User, StoreError> {
        let before = self.catalog.user(id)?.clone();
        check_version(before.version, version)?;
        before.check_not_erased()?;
        self.erase_keys(id, act);
        self.people.erase(&before);
        self.outside.forget_user(id);
        oidc::end(self, Ending::User(id), act);
        let erased = before.erased(act.at);
        self.catalog.keep_user(erased.clone());
        self.log.record(&Event::changed(Action::UserErased, &before, &erased), act);
        self.log.forget_origins(&id.to_string());
        Ok(erased)
    }

    fn admit(&mut self, new: &Admission, act: &Act) -> Result<User, StoreError> {
        let token = new.token.map(|hash| self.admitting_token(&hash, act.at)).transpose()?;
        if let Some(identity) = &new.identity {
            check_free(self.people.identities.contains_key(&key_of(identity)), "the identity")?;
        }
        let verified = new.email_verified.then_some(act.at);
        let user = self.catalog.insert_user(&new.user, new.status, verified, act.at)?;
        token.map(|id| self.people.tokens.remove(&id));
        if let Some(password) = &new.password {
            self.people.set_credentials(&Credentials::of_password(user.id, password, act.at))?;
        }
        if let Some(identity) = &new.identity {
            self.people.link(user.id, identity)?;
        }
        self.log.record(&Event::created(Action::UserCreated, &user), act);
        Ok(user)
    }

    fn admitting_token(&self, hash: &SecretHash, now: Timestamp) -> Result<TokenId, StoreError> {
        let found = TokenKind::ADMITTING.into_iter().find_map(|kind| self.people.token(kind, hash, now));
        found.map(|token| token.id).ok_or(StoreError::NotFound { what: "token" })
    }

    fn activate(&mut self, new: &Activation, act: &Act) -> Result<(User, Option<ApiKey>), StoreError> {
        let before = self.catalog.user(new.user)?.clone();
        let user = self.catalog.activate(new, act.at)?;
        let key = new.first_key.as_ref().map(|key| self.catalog.insert_key(key, act)).transpose()?;
        self.people.mails.extend(new.letter.iter().map(|mail| (mail.id, mail.clone())));
        self.log.record(&Event::changed(Action::UserActivated, &before, &user), act);
        if let Some(key) = &key {
            self.log.record(&Event::created(Action::KeyCreated, key), act);
        }
        Ok((user, key))
    }
}

#[async_trait]
impl PeopleStore for MemoryStore {
    async fn credentials(&self, user: UserId) -> Result<Credentials, StoreError> {
        let state = self.state();
        state.catalog.user(user)?;
        Ok(state.people.credentials.get(&user).cloned().unwrap_or_else(|| Credentials::none(user)))
    }

    async fn set_credentials(
        &self,
        new: &Credentials,
        event: Option<&Event>,
        act: &Act,
    ) -> Result<Credentials, StoreError> {
        let state = &mut *self.state();
        state.catalog.user(new.user)?;
        let written = state.people.set_credentials(new)?;
        oidc::end(state, Ending::Before(new.user, new.epoch), act);
        if let Some(event) = event {
            state.log.record(event, act);
        }
        Ok(written)
    }

    async fn admit(&self, new: &Admission, act: &Act) -> Result<User, StoreError> {
        self.state().admit(new, act)
    }

    async fn activate(&self, new: &Activation, act: &Act) -> Result<(User, Option<ApiKey>), StoreError> {
        self.state().activate(new, act)
    }

    async fn verify_email(&self, user: UserId, email: &str, act: &Act) -> Result<User, StoreError> {
        let state = &mut *self.state();
        let before = state.catalog.user(user)?.clone();
        let after = state.catalog.verify_email(user, email, act.at)?;
        state.log.record(&Event::changed(Action::EmailVerified, &before, &after), act);
        Ok(after)
    }

    async fn erase_user(&self, user: UserId, version: i64, act: &Act) -> Result<User, StoreError> {
        self.state().erase_user(user, version, act)
    }

    async fn user_of_identity(&self, identity: &OutsideIdentity) -> Result<Option<UserId>, StoreError> {
        Ok(self.state().people.identities.get(&key_of(identity)).copied())
    }

    async fn identities(&self, user: UserId) -> Result<Vec<OutsideIdentity>, StoreError> {
        let state = self.state();
        let mine = state.people.identities.iter().filter(|(_, owner)| **owner == user);
        Ok(mine.map(|((issuer, subject), _)| OutsideIdentity::new(issuer, subject)).collect())
    }

    async fn link_identity(&self, user: UserId, identity: &OutsideIdentity, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        let owner = state.catalog.user(user)?;
        state.people.link(user, identity)?;
        let event = Event::about(Action::IdentityLinked, owner, &json!({ "issuer": identity.issuer }));
        state.log.record(&event, act);
        Ok(())
    }

    async fn unlink_identity(&self, user: UserId, identity: &OutsideIdentity, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        let owner = state.catalog.user(user)?;
        let not_found = StoreError::NotFound { what: "identity" };
        let known = state.people.identities.get(&key_of(identity)).filter(|owner| **owner == user);
        known.ok_or(not_found)?;
        state.people.identities.remove(&key_of(identity));
        let event = Event::about(Action::IdentityUnlinked, owner, &json!({ "issuer": identity.issuer }));
        state.log.record(&event, act);
        Ok(())
    }

    async fn open_session(&self, session: &Session, event: Option<&Event>, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        state.catalog.user(session.user)?;
        state.people.sessions.insert(session.id, session.clone());
        if let Some(event) = event {
            state.log.record(event, act);
        }
        Ok(())
    }

    async fn session(&self, hash: &SecretHash, now: Timestamp) -> Result<Option<SignedIn>, StoreError> {
        let state = self.state();
        let Some(session) = state.people.session_of(hash).filter(|session| session.expires_at > now) else {
            return Ok(None);
        };
        let epoch = state.people.epoch(session.user);
        if session.epoch < epoch {
            return Ok(None);
        }
        let user = state.catalog.user(session.user)?.clone();
        let tenant = state.catalog.tenant(user.tenant)?.clone();
        Ok(Some(SignedIn { session: session.clone(), user, tenant, epoch }))
    }

    async fn update_session(&self, hash: &SecretHash, session: &Session) -> Result<(), StoreError> {
        let sessions = &mut self.state().people.sessions;
        if let Some(known) = sessions.get_mut(&session.id).filter(|known| known.hash == *hash) {
            *known = session.clone();
        }
        Ok(())
    }

    async fn sessions(&self, user: UserId, now: Timestamp) -> Result<Vec<Session>, StoreError> {
        let state = self.state();
        let epoch = state.people.epoch(user);
        let mine = |session: &&Session| session.user == user && session.expires_at > now && session.epoch >= epoch;
        Ok(state.people.sessions.values().rev().filter(mine).cloned().collect())
    }

    async fn end_session(&self, user: UserId, id: SessionId, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        let owner = state.catalog.user(user)?.clone();
        let known = state.people.sessions.get(&id).filter(|session| session.user == user);
        known.ok_or(StoreError::NotFound { what: "session" })?;
        state.people.sessions.remove(&id);
        oidc::end(state, Ending::Session(id), act);
        state.log.record(&Event::about(Action::SessionEnded, &owner, &json!({ "session": id })), act);
        Ok(())
    }

    async fn end_sessions(&self, user: UserId, but: Option<SessionId>, act: &Act) -> Result<u64, StoreError> {
        let state = &mut *self.state();
        let owner = state.catalog.user(user)?.clone();
        let sessions = &mut state.people.sessions;
        let before = sessions.len();
        sessions.retain(|id, session| session.user != user || Some(*id) == but);
        let ended = (before - sessions.len()) as u64;
        oidc::end(state, but.map_or(Ending::User(user), |but| Ending::Others(user, but)), act);
        if ended > 0 {
            state.log.record(&Event::about(Action::SessionsEnded, &owner, &json!({ "sessions": ended })), act);
        }
        Ok(ended)
    }

    async fn issue_token(&self, token: &OneTimeToken, mail: Option<&Mail>, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        state.people.issue(token.clone(), mail);
        state.log.record(&Event::of_token(Action::TokenIssued, token), act);
        Ok(())
    }

    async fn token(
        &self,
        kind: TokenKind,
        hash: &SecretHash,
        now: Timestamp,
    ) -> Result<Option<OneTimeToken>, StoreError> {
        Ok(self.state().people.token(kind, hash, now).cloned())
    }

    async fn take_token(
        &self,
        kind: TokenKind,
        hash: &SecretHash,
        now: Timestamp,
    ) -> Result<Option<OneTimeToken>, StoreError> {
        let people = &mut self.state().people;
        let found = people.token(kind, hash, now).map(|token| token.id);
        Ok(found.and_then(|id| people.tokens.remove(&id)))
    }

    async fn tokens(
        &self,
        kind: TokenKind,
        tenant: Option<TenantId>,
        now: Timestamp,
        request: PageRequest,
    ) -> Result<Page<OneTimeToken>, StoreError> {
        let state = self.state();
        let wanted = |token: &&OneTimeToken| {
            token.kind == kind
                && tenant.is_none_or(|tenant| token.tenant == Some(tenant))
                && state.people.works(token, now)
        };
        let tokens = state.people.tokens.values().filter(wanted);
        Ok(page(tokens.map(|token| (token.id.as_u128(), token.clone())), request, false))
    }

    async fn token_by_id(
        &self,
        kind: TokenKind,
        id: TokenId,
        now: Timestamp,
    ) -> Result<Option<OneTimeToken>, StoreError> {
        let state = self.state();
        let found = state.people.tokens.get(&id);
        Ok(found.filter(|token| token.kind == kind && state.people.works(token, now)).cloned())
    }

    async fn revoke_token(&self, id: TokenId, act: &Act) -> Result<(), StoreError> {
        let state = &mut *self.state();
        let token = state.people.tokens.remove(&id).ok_or(StoreError::NotFound { what: "token" })?;
        state.log.record(&Event::of_token(Action::TokenRevoked, &token), act);
        Ok(())
    }

    async fn queue_mail(&self, mail: &Mail) -> Result<(), StoreError> {
        self.state().people.queue(mail);
        Ok(())
    }

    async fn claim_mails(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Mail>, StoreError> {
        let mut state = self.state();
        let mut due: Vec<&mut Mail> = state.people.mails.values_mut().filter(|mail| mail.due_at <= now).collect();
        due.sort_by_key(|mail| (mail.due_at, mail.id));
        let claim = |mail: &mut Mail| {
            (mail.due_at, mail.tries) = (until, mail.tries.saturating_add(1));
            mail.clone()
        };
        Ok(due.into_iter().take(limit.min(MAILS_MAX) as usize).map(claim).collect())
    }

    async fn forget_mail(&self, id: MailId) -> Result<(), StoreError> {
        self.state().people.mails.remove(&id);
        Ok(())
    }

    async fn count_attempts(
        &self,
        subject: &SecretHash,
        more: u32,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<AttemptCount, StoreError> {
        let attempts = &mut self.state().people.attempts;
        let known = attempts.get(subject).copied().filter(|known| known.until > now);
        let known = known.unwrap_or(AttemptCount { count: 0, until });
        let counted = AttemptCount { count: known.count.saturating_add(more.into()), ..known };
        attempts.insert(*subject, counted);
        Ok(counted)
    }

    async fn sweep(&self, now: Timestamp) -> Result<u64, StoreError> {
        let people = &mut self.state().people;
        let rows = |people: &People| people.sessions.len() + people.tokens.len() + people.attempts.len();
        let before = rows(people);
        people.sessions.retain(|_, session| session.expires_at > now);
        people.tokens.retain(|_, token| token.expires_at > now);
        people.attempts.retain(|_, attempts| attempts.until > now);
        Ok((before - rows(people)) as u64)
    }
}
