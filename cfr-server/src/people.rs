//! People who sign in: passwords, second factors, sessions; routes under `/auth`.
//!
//! In reading order: [`sign_in`] says who gets in, [`session`] what a browser then has and how it ends, [`step_up`] how somebody
//! proves again who they are, [`factors`], [`passkeys`], [`account`] and [`reset`] what people change about themselves,
//! [`setup`] how the first administrator comes to be. [`routes`] has every path, [`page`] the pages for browsers without the portal.
//!
//! Whoever is not known gets the same answers as who is, for the same work.

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::{HeaderMap, Method};
use cfr_billing::audit_log::{Act, Event};
use cfr_billing::people::{Credentials, SignedIn};
use cfr_billing::store::{Store, StoreError};
use cfr_core::id::UserId;
use cfr_core::secret::Secret;
use cfr_core::time::{Clock, Timestamp};

pub mod account;
pub mod attempts;
pub mod browser;
pub mod codes;
pub mod cookie;
pub mod factors;
pub mod hash;
pub mod join;
mod letters;
pub mod page;
#[cfg(feature = "passkeys")]
pub mod passkeys;
pub mod password;
mod refusal;
pub mod reset;
pub mod routes;
pub mod secret;
pub mod session;
pub mod setup;
pub mod sign_in;
pub mod step_up;
mod sweeper;
mod view;
mod visitor;

pub use browser::check_browser;
pub use refusal::Refusal;
pub(crate) use sign_in::totp_place;
pub use step_up::require_recent_proof;
pub use sweeper::Sweeper;
pub use visitor::Visitor;

use self::attempts::Attempts;
use self::hash::{Hasher, Match};
use crate::api::SignIns;
use crate::api::problem::Problem;
use crate::auth::Keys;
use crate::mail::Letters;
use crate::secrets::Vault;

/// How often a change is made again when somebody else changed the same at the same moment.
const TRIES_MAX: usize = 8;

/// A way to sign in elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// How the provider is called.
    pub name: Arc<str>,
    /// Where a browser begins there.
    pub path: Arc<str>,
}

impl Door {
    /// Where a browser begins there that is to come back to a path of ours.
    fn path_back_to(&self, path: &str) -> String {
        let path: String = form_urlencoded::byte_serialize(path.as_bytes()).collect();
        format!("{}?return_to={path}", self.path)
    }
}

/// Everything that people who sign in need.
#[derive(Debug)]
pub struct People {
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
    /// Know who is signed in on other servers, too, and hear when sessions end.
    keys: Arc<Keys>,
    hasher: Hasher,
    attempts: Attempts,
    letters: Letters,
    doors: Vec<Door>,
    #[cfg(feature = "passkeys")]
    relying_party: Option<passkeys::RelyingParty>,
}

impl People {
    /// People of a store, whose seeds of second factors this vault seals. What their sessions opened elsewhere, these keys
    /// forget when they end.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        vault: Arc<Vault>,
        keys: Arc<Keys>,
        letters: Letters,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let attempts = Attempts::new(Arc::clone(&store) as _, Arc::clone(&clock));
        #[cfg(feature = "passkeys")]
        let relying_party = letters.public_url().and_then(passkeys::RelyingParty::at);
        Self {
            store,
            vault,
            clock,
            keys,
            hasher: Hasher::default(),
            attempts,
            letters,
            doors: Vec::new(),
            #[cfg(feature = "passkeys")]
            relying_party,
        }
    }

    /// The same with other providers that the page to sign in leads to.
    #[must_use]
    pub fn with_doors(mut self, doors: Vec<Door>) -> Self {
        self.doors = doors;
        self
    }

    pub(crate) fn doors(&self) -> &[Door] {
        &self.doors
    }

    /// Whether people can use passkeys here: keys are bound to the name under which browsers reach the server.
    #[must_use]
    pub const fn takes_passkeys(&self) -> bool {
        #[cfg(feature = "passkeys")]
        return self.relying_party.is_some();
        #[cfg(not(feature = "passkeys"))]
        return false;
    }

    /// Hashes a password as it is kept.
    ///
    /// # Errors
    /// When too many wait for the same.
    pub async fn hash_password(&self, password: &Secret) -> Result<Arc<str>, Refusal> {
        Ok(self.hasher.hash(&password::prepare(password)).await?)
    }

    /// Notes that somebody was turned away whom nobody here knows, as far as not too many come from there.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn note_refused(&self, visitor: &Visitor, event: &Event) -> Result<(), Refusal> {
        match self.attempts.admit(visitor.address).await {
            Err(Refusal::Throttled { .. }) => Ok(()),
            admitted => {
                admitted?;
                Ok(self.store.record(event, &visitor.act(None, self.now())).await?)
            }
        }
    }

    /// How many passwords were hashed or compared so far.
    pub fn hashes_made(&self) -> u64 {
        self.hasher.made()
    }

    /// Ends every session of a user: what they may do has changed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sign_out_everywhere(&self, user: UserId, act: &Act) -> Result<u64, Refusal> {
        let ended = self.store.end_sessions(user, None, act).await?;
        self.keys.sessions_ended().await;
        Ok(ended)
    }

    /// What somebody proves who they are with.
    async fn credentials(&self, signed_in: &SignedIn) -> Result<Credentials, Refusal> {
        Ok(self.store.credentials(signed_in.user.id).await?)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn compare(&self, password: &Secret, kept: Option<Arc<str>>) -> Result<Match, Refusal> {
        // What nobody can have is compared with nothing: the same work, and no more for a longer text.
        let (password, kept) = match password::is_too_long(password) {
            true => (Secret::new(""), None),
            false => (password::prepare(password), kept),
        };
        Ok(self.hasher.compare(&password, kept).await?)
    }

    /// Changes how a user proves who they are, from what is there at this moment. `change` is asked again when somebody else
    /// was faster, and says which event tells of it.
    async fn amend<T>(
        &self,
        user: UserId,
        act: &Act,
        mut change: impl FnMut(&mut Credentials) -> Result<(T, Option<Event>), Refusal> + Send,
    ) -> Result<(Credentials, T), Refusal> {
        let mut conflict = StoreError::conflict("the credentials were changed meanwhile");
        for _ in 0..TRIES_MAX {
            let mut credentials = self.store.credentials(user).await?;
            let before = credentials.clone();
            let (done, event) = change(&mut credentials)?;
            if credentials == before && event.is_none() {
                return Ok((credentials, done));
            }
            match self.store.set_credentials(&credentials, event.as_ref(), act).await {
                Ok(written) => {
                    if written.epoch != before.epoch {
                        self.keys.sessions_ended().await;
                    }
                    return Ok((written, done));
                }
                Err(error @ StoreError::Conflict { .. }) => conflict = error,
                Err(error) => return Err(error.into()),
            }
        }
        Err(conflict.into())
    }
}

#[async_trait]
impl SignIns for People {
    async fn signed_in(&self, headers: &HeaderMap) -> Result<Option<SignedIn>, Problem> {
        Ok(Self::signed_in(self, headers).await?)
    }

    fn check_browser(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        Ok(check_browser(method, headers)?)
    }
}
