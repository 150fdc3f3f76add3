//! [`PeopleStore`]: documents as JSON, beside the columns that they are found by.

use async_trait::async_trait;
use cfr_billing::audit_log::{Act, Action, Event};
use cfr_billing::identity::{ApiKey, User};
use cfr_billing::oidc::Ending;
use cfr_billing::people::{
    Activation, Admission, AttemptCount, Credentials, Mail, OneTimeToken, OutsideIdentity, SecretHash, Session,
    SignedIn, TokenKind,
};
use cfr_billing::store::{Page, PageRequest, PeopleStore, StoreError};
use cfr_core::id::{MailId, SessionId, TenantId, TokenId, UserId};
use cfr_core::time::Timestamp;

use crate::PostgresStore;
use crate::audit_log;
use crate::error::Fault;
use crate::identity::{key, user};
use crate::oidc;
use crate::writer::{Tx, write};

mod attempts;
pub(crate) mod credential;
mod erasure;
pub(crate) mod identity;
pub(crate) mod mail;
mod session;
mod token;

#[async_trait]
impl PeopleStore for PostgresStore {
    async fn credentials(&self, user: UserId) -> Result<Credentials, StoreError> {
        Ok(credential::read(&mut *self.reader().await?, user).await?)
    }

    async fn set_credentials(
        &self,
        new: &Credentials,
        event: Option<&Event>,
        act: &Act,
    ) -> Result<Credentials, StoreError> {
        write!(self, act.at, |tx| set_credentials(tx, new, event, act)).await
    }

    async fn admit(&self, new: &Admission, act: &Act) -> Result<User, StoreError> {
        write!(self, act.at, |tx| admit(tx, new, act)).await
    }

    async fn activate(&self, new: &Activation, act: &Act) -> Result<(User, Option<ApiKey>), StoreError> {
        write!(self, act.at, |tx| activate(tx, new, act)).await
    }

    async fn verify_email(&self, user: UserId, email: &str, act: &Act) -> Result<User, StoreError> {
        write!(self, act.at, |tx| user::verify_email(tx, user, email, act)).await
    }

    async fn erase_user(&self, user: UserId, version: i64, act: &Act) -> Result<User, StoreError> {
        write!(self, act.at, |tx| erasure::erase(tx, user, version, act)).await
    }

    async fn user_of_identity(&self, identity: &OutsideIdentity) -> Result<Option<UserId>, StoreError> {
        Ok(identity::owner(&mut *self.reader().await?, identity).await?)
    }

    async fn identities(&self, user: UserId) -> Result<Vec<OutsideIdentity>, StoreError> {
        Ok(identity::of_user(&mut *self.reader().await?, user).await?)
    }

    async fn link_identity(&self, user: UserId, identity: &OutsideIdentity, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| identity::link(tx, user, identity, act)).await
    }

    async fn unlink_identity(&self, user: UserId, identity: &OutsideIdentity, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| identity::unlink(tx, user, identity, act)).await
    }

    async fn open_session(&self, session: &Session, event: Option<&Event>, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| session::open(tx, session, event, act)).await
    }

    async fn session(&self, hash: &SecretHash, now: Timestamp) -> Result<Option<SignedIn>, StoreError> {
        Ok(session::signed_in(&mut *self.reader().await?, hash, now).await?)
    }

    async fn update_session(&self, hash: &SecretHash, session: &Session) -> Result<(), StoreError> {
        write!(self, Timestamp::MIN, |tx| session::update(tx, hash, session)).await
    }

    async fn sessions(&self, user: UserId, now: Timestamp) -> Result<Vec<Session>, StoreError> {
        Ok(session::of_user(&mut *self.reader().await?, user, now).await?)
    }

    async fn end_session(&self, user: UserId, id: SessionId, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| session::end(tx, user, id, act)).await
    }

    async fn end_sessions(&self, user: UserId, but: Option<SessionId>, act: &Act) -> Result<u64, StoreError> {
        write!(self, act.at, |tx| session::end_all(tx, user, but, act)).await
    }

    async fn issue_token(&self, token: &OneTimeToken, mail: Option<&Mail>, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| token::issue(tx, token, mail, act)).await
    }

    async fn token(
        &self,
        kind: TokenKind,
        hash: &SecretHash,
        now: Timestamp,
    ) -> Result<Option<OneTimeToken>, StoreError> {
        Ok(token::by_hash(&mut *self.reader().await?, kind, hash, now).await?)
    }

    async fn take_token(
        &self,
        kind: TokenKind,
        hash: &SecretHash,
        now: Timestamp,
    ) -> Result<Option<OneTimeToken>, StoreError> {
        write!(self, now, |tx| token::take(tx, kind, hash)).await
    }

    async fn tokens(
        &self,
        kind: TokenKind,
        tenant: Option<TenantId>,
        now: Timestamp,
        page: PageRequest,
    ) -> Result<Page<OneTimeToken>, StoreError> {
        Ok(token::list(&mut *self.reader().await?, kind, tenant, now, page).await?)
    }

    async fn token_by_id(
        &self,
        kind: TokenKind,
        id: TokenId,
        now: Timestamp,
    ) -> Result<Option<OneTimeToken>, StoreError> {
        Ok(token::by_id(&mut *self.reader().await?, kind, id, now).await?)
    }

    async fn revoke_token(&self, id: TokenId, act: &Act) -> Result<(), StoreError> {
        write!(self, act.at, |tx| token::revoke(tx, id, act)).await
    }

    async fn queue_mail(&self, mail: &Mail) -> Result<(), StoreError> {
        write!(self, Timestamp::MIN, |tx| mail::insert(tx, mail)).await
    }

    async fn claim_mails(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Mail>, StoreError> {
        write!(self, Timestamp::MIN, |tx| mail::claim(tx, now, until, limit)).await
    }

    async fn forget_mail(&self, id: MailId) -> Result<(), StoreError> {
        write!(self, Timestamp::MIN, |tx| mail::delete(tx, id)).await
    }

    async fn count_attempts(
        &self,
        subject: &SecretHash,
        more: u32,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<AttemptCount, StoreError> {
        write!(self, Timestamp::MIN, |tx| attempts::count(tx, subject, more, now, until)).await
    }

    async fn sweep(&self, now: Timestamp) -> Result<u64, StoreError> {
        write!(self, Timestamp::MIN, |tx| sweep(tx, now)).await
    }
}

async fn set_credentials(
    tx: &mut Tx<'_>,
    new: &Credentials,
    event: Option<&Event>,
    act: &Act,
) -> Result<Credentials, Fault> {
    let written = credential::write(tx, new).await?;
    session::end_before(tx, new.user, new.epoch).await?;
    oidc::end_sessions(tx, Ending::Before(new.user, new.epoch), act).await?;
    audit_log::record_opt(tx, act, event).await?;
    Ok(written)
}

/// The token is taken first: of many who bring it at once the others wait, and find it gone.
async fn admit(tx: &mut Tx<'_>, new: &Admission, act: &Act) -> Result<User, Fault> {
    if let Some(hash) = &new.token {
        token::take_admitting(tx, hash).await?;
    }
    let user = user::insert(tx, &new.user, new.status, new.email_verified).await?;
    if let Some(password) = &new.password {
        credential::write(tx, &Credentials::of_password(user.id, password, tx.now)).await?;
    }
    if let Some(identity) = &new.identity {
        identity::insert(tx, user.id, identity).await?;
    }
    audit_log::created(tx, act, Action::UserCreated, user).await
}

async fn activate(tx: &mut Tx<'_>, new: &Activation, act: &Act) -> Result<(User, Option<ApiKey>), Fault> {
    if let Some(mail) = &new.letter {
        mail::insert(tx, mail).await?;
    }
    let user = user::activate(tx, new, act).await?;
    let key = match &new.first_key {
        Some(key) => Some(key::create(tx, key, act).await?),
        None => None,
    };
    Ok((user, key))
}

async fn sweep(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, Fault> {
    Ok(session::sweep(tx, now).await? + token::sweep(tx, now).await? + attempts::sweep(tx, now).await?)
}
