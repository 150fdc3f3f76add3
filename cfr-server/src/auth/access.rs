//! What somebody may do in the management API: one table of permissions, and how far each holder of them reaches.
//!
//! The guard works an [`Access`] out once per request, from a key or from a session. Every route names its [`Permission`], and
//! every handler sees the catalog through a view that is bound to the [`Reach`].

use std::fmt;
use std::time::Duration;

use cfr_billing::identity::{ApiKey, KeyKind, Role, User};
use cfr_billing::people::SignedIn;
use cfr_billing::store::Reach;
use cfr_core::id::{KeyId, SessionId, UserId};
use cfr_core::time::Timestamp;

mod permission;

pub use permission::{Holder, Permission, Permissions};

/// How old the proof of who somebody is may be for what is dangerous (money.md §5.2).
pub const PROOF_LASTS: Duration = Duration::from_mins(5);

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// Somebody who opened the database itself, or holds the operator's own key.
    Operator,
    /// A program with a key.
    Key(KeyId),
    /// A person who signed in.
    User(UserId, SessionId),
}

/// Under this name answers are kept for repetitions, so that nobody gets somebody else's.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("operator"),
            Self::Key(id) => id.fmt(f),
            Self::User(id, _) => id.fmt(f),
        }
    }
}

/// What one request may do.
#[derive(Debug, Clone)]
pub struct Access {
    /// Who asks.
    pub subject: Subject,
    /// What they may do.
    pub permissions: Permissions,
    /// Where they may do it.
    pub reach: Reach,
    /// When a person last proved who they are; none for keys, which prove it with every request.
    pub proved_at: Option<Timestamp>,
    /// Whom an administrator looks like. They see what the user sees, and change nothing.
    pub impersonated: Option<UserId>,
}

impl Access {
    /// Of the operator.
    #[must_use]
    pub const fn of_operator() -> Self {
        Self::new(Subject::Operator, Permissions::of(Holder::PlatformAdmin), Reach::All)
    }

    /// Of a key: an admin key may do everything or what its scopes say, a service key what its scopes say in its tenant, and
    /// every other key no more than look at itself. None for a key that belongs to nobody.
    #[must_use]
    pub fn of_key(key: &ApiKey) -> Option<Self> {
        let scopes = Permissions::named(key.rules.scopes.iter().map(|scope| &**scope));
        let all = Permissions::of(Holder::PlatformAdmin);
        let (permissions, reach) = match (key.kind, key.tenant, key.user) {
            (KeyKind::Admin, None, _) if key.rules.scopes.is_empty() => (all, Reach::All),
            (KeyKind::Admin, None, _) => (scopes & all, Reach::All),
            (KeyKind::Service, Some(tenant), _) => (scopes & Permissions::of(Holder::Service), Reach::Tenant(tenant)),
            (_, Some(tenant), Some(user)) => (Permissions::NONE, Reach::User { user, tenant }),
            _ => return None,
        };
        Some(Self::new(Subject::Key(key.id), permissions | Permissions::of(Holder::AnyKey), reach))
    }

    /// Of a person who signed in.
    #[must_use]
    pub fn of_session(signed_in: &SignedIn) -> Self {
        let SignedIn { session, user, .. } = signed_in;
        let access = Self::new(Subject::User(user.id, session.id), Permissions::of(holder(user)), reach(user));
        Self { proved_at: Some(session.proved_at), ..access }
    }

    /// The same session while it looks like somebody else.
    #[must_use]
    pub fn impersonating(&self, user: &User) -> Self {
        let access = Self::new(self.subject, Permissions::of(holder(user)), reach(user));
        Self { proved_at: self.proved_at, impersonated: Some(user.id), ..access }
    }

    const fn new(subject: Subject, permissions: Permissions, reach: Reach) -> Self {
        Self { subject, permissions, reach, proved_at: None, impersonated: None }
    }

    /// Whether this was granted.
    #[must_use]
    pub const fn may(&self, permission: Permission) -> bool {
        self.permissions.has(permission)
    }

    /// Whether who asks proved recently who they are. A key does so with every request.
    #[must_use]
    pub fn is_proved(&self, now: Timestamp) -> bool {
        self.proved_at.is_none_or(|at| now.duration_since(at).unsigned_abs() < PROOF_LASTS)
    }
}

const fn holder(user: &User) -> Holder {
    match user.role {
        Role::Admin => Holder::PlatformAdmin,
        Role::TenantAdmin => Holder::TenantAdmin,
        Role::User => Holder::User,
        _ => Holder::Guest,
    }
}

const fn reach(user: &User) -> Reach {
    match user.role {
        Role::Admin => Reach::All,
        Role::TenantAdmin => Reach::Tenant(user.tenant),
        _ => Reach::User { user: user.id, tenant: user.tenant },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_more_than_who_runs_the_platform_and_a_guest_has_least() {
        let all = Permissions::of(Holder::PlatformAdmin);
        for holder in [Holder::TenantAdmin, Holder::User, Holder::Guest, Holder::Service] {
            assert!(all.has_all(Permissions::of(holder)), "{holder:?}");
        }
        assert!(Permissions::of(Holder::TenantAdmin).has_all(Permissions::of(Holder::User)));
        assert!(Permissions::of(Holder::User).has_all(Permissions::of(Holder::Guest)));
        assert_eq!(Permissions::of(Holder::Guest).iter().count(), 2, "their budget and their usage");
    }

    #[test]
    fn a_scope_is_the_name_of_a_permission_and_nothing_else() {
        for permission in Permission::ALL {
            assert_eq!(Permission::named(permission.name()), Some(*permission));
        }
        assert_eq!(Permissions::named(["users:*", "all", ""].into_iter()), Permissions::NONE);
    }
}
