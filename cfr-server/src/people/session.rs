//! What a browser has that is signed in, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use cfr_billing::audit_log::{Action, Event};
use cfr_billing::identity::{MfaRequired, Role, Tenant, TenantStatus, User, UserStatus};
use cfr_billing::people::{Credentials, Session, SignedIn};
use cfr_core::id::SessionId;
use cfr_core::secret::Secret;
use cfr_core::time::Timestamp;
use serde_json::json;

use super::{People, Refusal, Visitor, cookie, secret};

/// How long ago a session may have been used last, and begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lifetime {
    idle: Duration,
    whole: Duration,
}

/// Of most people: a working day without a pause is fine, a week is not.
const USUAL: Lifetime = Lifetime { idle: Duration::from_hours(12), whole: Duration::from_hours(7 * 24) };
/// Of administrators of the platform.
const ADMIN: Lifetime = Lifetime { idle: Duration::from_hours(1), whole: Duration::from_hours(24) };
/// How exactly it is noted when a session was used last: not every request is worth a write.
const SEEN_EVERY: Duration = Duration::from_mins(1);
/// The method of a session that had a second factor.
pub const SECOND_FACTOR: &str = "mfa";
/// The method of a session that another provider vouches for.
pub const FEDERATED: &str = "fed";

/// A session that begins, or goes on under another secret, with what the browser gets.
#[derive(Debug)]
pub struct Opened {
    /// Whose it is, as [`People::signed_in`] will say.
    pub signed_in: SignedIn,
    /// What the cookie holds.
    pub secret: Secret,
}

impl Opened {
    /// What makes the browser keep it.
    #[must_use]
    pub fn cookie(&self, now: Timestamp) -> HeaderValue {
        let left = self.signed_in.session.expires_at.duration_since(now).as_secs();
        cookie::keep(cookie::SESSION, &self.secret, left.max(0))
    }
}

/// Passes users who may sign in. Administrators of a suspended tenant may: somebody has to set things right.
///
/// # Errors
/// [`Refusal::NotActive`] or [`Refusal::TenantNotActive`].
pub fn check_active(user: &User, tenant: &Tenant) -> Result<(), Refusal> {
    if user.status != UserStatus::Active {
        return Err(Refusal::NotActive { status: user.status });
    }
    let sets_right = matches!(user.role, Role::Admin | Role::TenantAdmin);
    match tenant.status {
        TenantStatus::Active => Ok(()),
        TenantStatus::Suspended if sets_right => Ok(()),
        _ => Err(Refusal::TenantNotActive),
    }
}

/// Whether a user of this tenant must have a second factor.
#[must_use]
pub fn needs_second_factor(user: &User, tenant: &Tenant) -> bool {
    matches!(
        (user.role, tenant.settings.mfa_required),
        (Role::Admin, _) | (_, MfaRequired::Everybody) | (Role::TenantAdmin, MfaRequired::Admins)
    )
}

/// Whether a session had all the factors that its user must have. What another provider vouches for is enough, but not for
/// who runs the platform.
pub(super) fn had_factors(signed_in: &SignedIn) -> bool {
    let had = |method: &str| signed_in.session.methods.iter().any(|known| &**known == method);
    had(SECOND_FACTOR)
        || !needs_second_factor(&signed_in.user, &signed_in.tenant)
        || (had(FEDERATED) && signed_in.user.role != Role::Admin)
}

fn lifetime(role: Role) -> Lifetime {
    if role == Role::Admin { ADMIN } else { USUAL }
}

/// Whether a session is over by what is known now: its user may have become an administrator since it began.
fn is_over(signed_in: &SignedIn, now: Timestamp) -> bool {
    let SignedIn { session, user, tenant, epoch } = signed_in;
    let lifetime = lifetime(user.role);
    let age = |since: Timestamp| now.duration_since(since).unsigned_abs();
    session.expires_at <= now
        || age(session.created_at) >= lifetime.whole
        || age(session.seen_at) >= lifetime.idle
        || session.epoch < *epoch
        || check_active(user, tenant).is_err()
}

impl People {
    /// Who is signed in by the cookie of these headers, and may do what they may do; none when nobody is.
    ///
    /// # Errors
    /// [`Refusal::SecondFactorNeeded`] for who has to add a second factor first; when the store fails.
    pub async fn signed_in(&self, headers: &HeaderMap) -> Result<Option<SignedIn>, Refusal> {
        match self.session_of(headers).await? {
            Some(signed_in) if !had_factors(&signed_in) => Err(Refusal::SecondFactorNeeded),
            found => Ok(found),
        }
    }

    /// The same with those who still have to add a second factor: only what is about that is for them.
    pub(super) async fn session_of(&self, headers: &HeaderMap) -> Result<Option<SignedIn>, Refusal> {
        let Some(hash) = cookie::read(headers, cookie::SESSION).and_then(secret::hash_of) else { return Ok(None) };
        let now = self.now();
        let found = self.store.session(&hash, now).await?;
        let Some(mut signed_in) = found.filter(|found| !is_over(found, now)) else { return Ok(None) };
        if now.duration_since(signed_in.session.seen_at).unsigned_abs() >= SEEN_EVERY {
            signed_in.session.seen_at = now;
            self.store.update_session(&hash, &signed_in.session).await?;
        }
        Ok(Some(signed_in))
    }

    /// Begins a session of somebody who proved who they are by `methods`.
    pub(super) async fn open_session(
        &self,
        visitor: &Visitor,
        user: User,
        tenant: Tenant,
        credentials: &Credentials,
        methods: &[&str],
    ) -> Result<Opened, Refusal> {
        let now = self.now();
        let (secret, hash) = secret::generate();
        let session = Session {
            id: SessionId::generate(now),
            hash,
            user: user.id,
            epoch: credentials.epoch,
            methods: methods.iter().map(|method| Arc::from(*method)).collect(),
            created_at: now,
            proved_at: now,
            seen_at: now,
            expires_at: now + lifetime(user.role).whole,
            address: visitor.address.map(|address| address.to_string().into()),
            agent: visitor.agent.clone(),
            impersonates: None,
        };
        let changes = json!({ "session": session.id, "methods": session.methods });
        let event = Event::about(Action::SessionOpened, &user, &changes);
        self.store.open_session(&session, Some(&event), &visitor.act(Some(user.id), now)).await?;
        Ok(Opened { signed_in: SignedIn { session, user, tenant, epoch: credentials.epoch }, secret })
    }

    /// Begins a session of a user whom something else than a password proves: another provider that they signed in to, an
    /// authenticator. Every other session of the same browser is another one.
    ///
    /// # Errors
    /// When the user or their tenant is not active, or the store fails.
    pub async fn open_session_of(&self, visitor: &Visitor, user: User, methods: &[&str]) -> Result<Opened, Refusal> {
        let tenant = self.admissible(visitor, &user).await?;
        let now = self.now();
        let act = visitor.act(Some(user.id), now);
        let noted = self.amend(user.id, &act, |credentials| {
            credentials.signed_in_at = Some(now);
            Ok(((), None))
        });
        let (credentials, ()) = noted.await?;
        self.open_session(visitor, user, tenant, &credentials, methods).await
    }

    /// The same session under another secret, with what it gained: nobody who knew the old one has it now.
    pub(super) async fn rotate(&self, signed_in: SignedIn, methods: &[&str]) -> Result<Opened, Refusal> {
        let (secret, hash) = secret::generate();
        let old = signed_in.session.hash;
        let now = self.now();
        let mut session = Session { hash, proved_at: now, seen_at: now, ..signed_in.session };
        add(&mut session.methods, methods);
        self.store.update_session(&old, &session).await?;
        Ok(Opened { signed_in: SignedIn { session, ..signed_in }, secret })
    }

    /// Goes on after a change that ended every session: this browser alone is let in again, under another secret.
    pub(super) async fn reopen(
        &self,
        visitor: &Visitor,
        signed_in: SignedIn,
        credentials: &Credentials,
        methods: &[&str],
    ) -> Result<Opened, Refusal> {
        let now = self.now();
        let (secret, hash) = secret::generate();
        let epoch = credentials.epoch;
        let mut session =
            Session { id: SessionId::generate(now), hash, epoch, proved_at: now, seen_at: now, ..signed_in.session };
        add(&mut session.methods, methods);
        self.store.open_session(&session, None, &visitor.act(Some(session.user), now)).await?;
        Ok(Opened { signed_in: SignedIn { session, epoch, ..signed_in }, secret })
    }

    /// The sessions of a user that are not over, the newest first.
    pub(super) async fn sessions_of(&self, signed_in: &SignedIn) -> Result<Vec<Session>, Refusal> {
        let now = self.now();
        let idle = lifetime(signed_in.user.role).idle;
        let mut sessions = self.store.sessions(signed_in.user.id, now).await?;
        sessions.retain(|session| now.duration_since(session.seen_at).unsigned_abs() < idle);
        Ok(sessions)
    }

    /// Ends one session of a user.
    pub(super) async fn end_session(
        &self,
        visitor: &Visitor,
        signed_in: &SignedIn,
        id: SessionId,
    ) -> Result<(), Refusal> {
        let act = visitor.act(Some(signed_in.user.id), self.now());
        self.store.end_session(signed_in.user.id, id, &act).await?;
        self.keys.sessions_ended().await;
        Ok(())
    }

    /// Ends all sessions of a user but this one, and says how many.
    pub(super) async fn end_others(&self, visitor: &Visitor, signed_in: &SignedIn) -> Result<u64, Refusal> {
        let act = visitor.act(Some(signed_in.user.id), self.now());
        let ended = self.store.end_sessions(signed_in.user.id, Some(signed_in.session.id), &act).await?;
        self.keys.sessions_ended().await;
        Ok(ended)
    }
}

fn add(methods: &mut Vec<Arc<str>>, more: &[&str]) {
    for method in more {
        if !methods.iter().any(|known| &**known == *method) {
            methods.push((*method).into());
        }
    }
}
