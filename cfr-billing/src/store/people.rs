//! Durable credentials, sessions, one-time tokens and letters.

use std::fmt::Debug;

use async_trait::async_trait;
use cfr_core::id::{MailId, SessionId, TenantId, TokenId, UserId};
use cfr_core::time::Timestamp;

use super::{Page, PageRequest, StoreError};
use crate::audit_log::{Act, Event};
use crate::identity::{ApiKey, User};
use crate::people::{
    Activation, Admission, AttemptCount, Credentials, Mail, OneTimeToken, OutsideIdentity, SecretHash, Session,
    SignedIn, TokenKind,
};

/// Letters that are claimed at once, at most.
pub const MAILS_MAX: u32 = 100;

/// How people sign in, durably. Where a method takes an [`Event`], it writes it in the transaction of the change.
#[async_trait]
pub trait PeopleStore: Debug + Send + Sync + 'static {
    /// How a user proves who they are; [`Credentials::none`] for who never could.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown user.
    async fn credentials(&self, user: UserId) -> Result<Credentials, StoreError>;
    /// Writes credentials if they still have the version that `new` names, and counts it up. When the epoch grows, the
    /// sessions of smaller epochs are over.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when they were changed meanwhile.
    async fn set_credentials(
        &self,
        new: &Credentials,
        event: Option<&Event>,
        act: &Act,
    ) -> Result<Credentials, StoreError>;

    /// Makes a user of somebody: see [`Admission`].
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the address or identity is taken or the tenant is full; [`StoreError::NotFound`] when
    /// the token does not work (any more). Then nothing is changed, and the token still works.
    async fn admit(&self, new: &Admission, act: &Act) -> Result<User, StoreError>;
    /// Makes a pending user an active one: see [`Activation`]. Places are counted while nobody else can take one.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the user is not pending, was changed meanwhile, or there is no room.
    async fn activate(&self, new: &Activation, act: &Act) -> Result<(User, Option<ApiKey>), StoreError>;
    /// Notes that a user reads this address, and makes it theirs when it is another one.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when somebody else has it.
    async fn verify_email(&self, user: UserId, email: &str, act: &Act) -> Result<User, StoreError>;

    /// Erases a user (GDPR, Article 17), if their version is still `version`: name, address, credentials, identities,
    /// sessions, tokens, letters and the names that other programs know them by are gone, and from where they acted is gone
    /// from the audit log; their keys are revoked and have no name any more. The id stays, in usage and in the books.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the user was changed meanwhile, or erased before.
    async fn erase_user(&self, user: UserId, version: i64, act: &Act) -> Result<User, StoreError>;

    /// The user with this identity at another provider.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn user_of_identity(&self, identity: &OutsideIdentity) -> Result<Option<UserId>, StoreError>;
    /// The identities of a user.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn identities(&self, user: UserId) -> Result<Vec<OutsideIdentity>, StoreError>;
    /// Adds an identity to a user.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is somebody's.
    async fn link_identity(&self, user: UserId, identity: &OutsideIdentity, act: &Act) -> Result<(), StoreError>;
    /// Takes an identity from a user.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the user does not have it.
    async fn unlink_identity(&self, user: UserId, identity: &OutsideIdentity, act: &Act) -> Result<(), StoreError>;

    /// Writes a session down.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn open_session(&self, session: &Session, event: Option<&Event>, act: &Act) -> Result<(), StoreError>;
    /// Who is signed in by this session, if it is not over at `now`.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn session(&self, hash: &SecretHash, now: Timestamp) -> Result<Option<SignedIn>, StoreError>;
    /// Writes what became of a session, under a new hash when `session` has another one than `hash`. Nothing happens to one
    /// that is over.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn update_session(&self, hash: &SecretHash, session: &Session) -> Result<(), StoreError>;
    /// The sessions of a user that are not over, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn sessions(&self, user: UserId, now: Timestamp) -> Result<Vec<Session>, StoreError>;
    /// Ends a session of a user.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the user has none with this id.
    async fn end_session(&self, user: UserId, id: SessionId, act: &Act) -> Result<(), StoreError>;
    /// Ends the sessions of a user, all or all but one, and says how many.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn end_sessions(&self, user: UserId, but: Option<SessionId>, act: &Act) -> Result<u64, StoreError>;

    /// Writes a token down, and the letter that brings it. Earlier tokens of the same kind for the same user are void; of
    /// tokens for nobody who is a user yet, those for the same address in the same tenant.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn issue_token(&self, token: &OneTimeToken, mail: Option<&Mail>, act: &Act) -> Result<(), StoreError>;
    /// A token that works at `now`, without using it up.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn token(
        &self,
        kind: TokenKind,
        hash: &SecretHash,
        now: Timestamp,
    ) -> Result<Option<OneTimeToken>, StoreError>;
    /// Uses a token up. Of many who try at once, one gets it.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn take_token(
        &self,
        kind: TokenKind,
        hash: &SecretHash,
        now: Timestamp,
    ) -> Result<Option<OneTimeToken>, StoreError>;
    /// Tokens of one kind, of one tenant or of all, that work at `now`, in the order in which they were made.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn tokens(
        &self,
        kind: TokenKind,
        tenant: Option<TenantId>,
        now: Timestamp,
        page: PageRequest,
    ) -> Result<Page<OneTimeToken>, StoreError>;
    /// The token with this id, if it works at `now`.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn token_by_id(
        &self,
        kind: TokenKind,
        id: TokenId,
        now: Timestamp,
    ) -> Result<Option<OneTimeToken>, StoreError>;
    /// Makes a token void.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none with this id.
    async fn revoke_token(&self, id: TokenId, act: &Act) -> Result<(), StoreError>;

    /// Writes a letter down, or what became of one that is known.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn queue_mail(&self, mail: &Mail) -> Result<(), StoreError>;
    /// Letters that are due by `now`, the longest due first, at most `limit` and [`MAILS_MAX`]. Nobody else gets them before
    /// `until`; each counts one try more.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn claim_mails(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Mail>, StoreError>;
    /// Forgets a letter: it was sent, or never will be.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn forget_mail(&self, id: MailId) -> Result<(), StoreError>;

    /// Counts `more` attempts of a subject, and says how many there are by now. The first one says with `until` when the count
    /// begins anew; one that is over at `now` begins with these.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn count_attempts(
        &self,
        subject: &SecretHash,
        more: u32,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<AttemptCount, StoreError>;

    /// Forgets sessions, tokens and counts of attempts that are over at `now`, and says how many.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn sweep(&self, now: Timestamp) -> Result<u64, StoreError>;
}

const _: fn(&dyn PeopleStore) = |_| {};
