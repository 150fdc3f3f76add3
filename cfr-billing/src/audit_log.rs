//! The audit log: who changed what, when, and from where.
//!
//! A store writes an [`Event`] in the transaction of the change that it tells of, sealed with the hash of the event before
//! it: one chain per store, so that an edited, missing or added event is found by [`Chain`]. Names and addresses of people
//! are not in it, only that they changed: an event outlives the person. Where somebody acted from is sealed only by a salted
//! hash, so that it can be forgotten with the person: then the salt goes too, and the chain still holds.

use std::net::IpAddr;
use std::sync::Arc;

use cfr_core::id::{RequestId, TenantId};
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::budget::{Budget, Grant};
use crate::identity::{ApiKey, Tenant, User};
use crate::outside::OutsideName;
use crate::people::OneTimeToken;
use crate::plan::{Product, ProductVersion};
use crate::store::Correction;

/// Bytes of a user agent that are kept.
pub const AGENT_BYTES_MAX: usize = 256;
/// What stands in place of a personal value.
const PERSONAL: &str = "[personal]";

/// Who does something, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// What kind of actor.
    pub kind: ActorKind,
    /// The key or user; none for the operator and for the server itself.
    pub id: Option<Arc<str>>,
    /// The address that the request came from.
    pub address: Option<IpAddr>,
    /// What the client calls itself, cut to [`AGENT_BYTES_MAX`].
    pub agent: Option<Arc<str>>,
    /// The request.
    pub request: Option<RequestId>,
}

/// Kinds of actors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ActorKind {
    /// Somebody who opened the database itself, or holds the operator's own key.
    Operator,
    /// A person who signed in.
    User,
    /// A program with a key.
    Key,
    /// The server by itself.
    System,
}

/// One act: who, and when. Every change but the spending of money is one.
#[derive(Debug, Clone)]
pub struct Act {
    /// Who acts.
    pub by: Arc<Actor>,
    /// When.
    pub at: Timestamp,
}

impl Actor {
    /// An actor of whom no more is known than its kind.
    #[must_use]
    pub const fn of_kind(kind: ActorKind) -> Self {
        Self { kind, id: None, address: None, agent: None, request: None }
    }

    /// A word for columns that have room for one: the id, or the kind of who has none.
    #[must_use]
    pub fn label(&self) -> Arc<str> {
        let kind = match self.kind {
            ActorKind::Operator => "operator",
            ActorKind::User => "user",
            ActorKind::Key => "key",
            ActorKind::System => "system",
        };
        self.id.clone().unwrap_or_else(|| kind.into())
    }
}

impl Act {
    /// An act of the server itself.
    #[must_use]
    pub fn of_system(at: Timestamp) -> Self {
        Self { by: Arc::new(Actor::of_kind(ActorKind::System)), at }
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// What was done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Action { $($(#[$doc])* $variant,)* }

        impl Action {
            /// A stable name: the kind of thing, a dot, and what happened to it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

actions! {
    /// A tenant was made.
    TenantCreated => "tenant.created",
    /// A tenant was changed.
    TenantChanged => "tenant.changed",
    /// A product got a version, its first or another one.
    ProductPublished => "product.published",
    /// A product was opened or closed for new customers.
    ProductChanged => "product.changed",
    /// A user was made.
    UserCreated => "user.created",
    /// A user was changed.
    UserChanged => "user.changed",
    /// A pending user was admitted.
    UserActivated => "user.activated",
    /// A user proved that they read their address.
    EmailVerified => "user.email_verified",
    /// A one-time token was made: an invitation, a password reset.
    TokenIssued => "token.issued",
    /// A one-time token was made void.
    TokenRevoked => "token.revoked",
    /// Somebody signed in.
    SessionOpened => "session.opened",
    /// Somebody did not get in: a wrong password or code, an account that is closed for now or not active.
    SessionRefused => "session.refused",
    /// Somebody who is signed in proved again who they are.
    SessionProved => "session.proved",
    /// A user got another password.
    PasswordChanged => "password.changed",
    /// A user got a second factor.
    FactorAdded => "factor.added",
    /// A user gave a second factor another name.
    FactorRenamed => "factor.renamed",
    /// A user lost a second factor, by themselves or by an administrator.
    FactorRemoved => "factor.removed",
    /// A user got new recovery codes; the ones before are void.
    RecoveryCodesMade => "recovery_codes.created",
    /// A session was ended by its user or for them.
    SessionEnded => "session.ended",
    /// All sessions of a user, or all but one, were ended.
    SessionsEnded => "sessions.ended",
    /// A user got an identity at another provider.
    IdentityLinked => "identity.linked",
    /// A user lost an identity at another provider.
    IdentityUnlinked => "identity.unlinked",
    /// A user was erased.
    UserErased => "user.erased",
    /// A key was made.
    KeyCreated => "key.created",
    /// A key was revoked.
    KeyRevoked => "key.revoked",
    /// A key was changed, switched off or on.
    KeyChanged => "key.changed",
    /// A key got a new secret.
    KeyRotated => "key.rotated",
    /// An administrator of the platform began to see what a user sees.
    ImpersonationBegun => "impersonation.begun",
    /// The administrator is themselves again.
    ImpersonationEnded => "impersonation.ended",
    /// Somebody reported a secret of a key as found: it stopped working.
    KeyLeaked => "key.leaked",
    /// A budget was made.
    BudgetCreated => "budget.created",
    /// A budget's limit was changed.
    BudgetChanged => "budget.changed",
    /// Money was granted, or taken.
    GrantBooked => "grant.booked",
    /// A name under which another program knows a thing was kept, or what is noted with it.
    OutsideNameKept => "outside_name.kept",
    /// A price table was imported.
    PricesImported => "prices.imported",
    /// An account at a provider was made.
    ProviderAccountCreated => "provider_account.created",
    /// An account at a provider was changed.
    ProviderAccountChanged => "provider_account.changed",
    /// An account at a provider was removed.
    ProviderAccountRemoved => "provider_account.removed",
    /// A key that seals secrets was made.
    DataKeyCreated => "data_key.created",
    /// A key that seals secrets was wrapped by another master key.
    DataKeyRewrapped => "data_key.rewrapped",
    /// A key that seals secrets was forgotten for good.
    DataKeyShredded => "data_key.shredded",
    /// A client of OpenID Connect was registered.
    ClientCreated => "oidc_client.created",
    /// A client was changed.
    ClientChanged => "oidc_client.changed",
    /// A client got another secret.
    ClientSecretChanged => "oidc_client.secret_changed",
    /// Somebody called themselves a client without its secret, or with one that was shut out.
    ClientRefused => "oidc_client.refused",
    /// A client was shut out.
    ClientRevoked => "oidc_client.revoked",
    /// A key that signs tokens was made.
    SigningKeyAdded => "signing_key.created",
    /// Somebody signed in to a client.
    ClientSessionOpened => "client_session.opened",
    /// A client's hold of somebody ended.
    ClientSessionEnded => "client_session.ended",
    /// A subscription was made.
    SubscriptionCreated => "subscription.created",
    /// A subscription got another state, other terms or other seats.
    SubscriptionChanged => "subscription.changed",
    /// Money was to be granted or taken, and waits for a second person.
    ProposalMade => "proposal.created",
    /// A second person agreed: the money was booked.
    ProposalApproved => "proposal.approved",
    /// A second person did not agree.
    ProposalRejected => "proposal.rejected",
    /// Somebody asked to be told more.
    LeadReceived => "lead.created",
    /// What is noted of such a person was changed.
    LeadChanged => "lead.changed",
    /// Such a person was forgotten.
    LeadRemoved => "lead.removed",
    /// A server's life was declared dead.
    NodeFenced => "node.fenced",
    /// A sum of the books that was wrong was set right.
    LedgerCorrected => "ledger.corrected",
    /// A server was started; the configuration that it read is told by its hash.
    ServerStarted => "server.started",
}

/// Something that is done to one thing, as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What was done.
    pub action: Action,
    /// The tenant that it concerns; none for what concerns the platform.
    pub tenant: Option<TenantId>,
    /// The id of the thing.
    pub target: Arc<str>,
    /// A JSON object: of a new thing its fields, of a changed one `[before, after]` for each field that changed.
    pub changes: Arc<str>,
}

/// An event as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditEvent {
    /// Its place in the log, from 1, without gaps.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    #[serde(flatten)]
    pub actor: Actor,
    /// The tenant that it concerns.
    pub tenant: Option<TenantId>,
    /// What was done: the name of an [`Action`], or of one that a newer version knows.
    pub action: Arc<str>,
    /// The id of the thing.
    pub target: Arc<str>,
    /// A JSON object; see [`Event::changes`].
    pub changes: Arc<str>,
    /// What the seal knows of the actor's address and agent: see [`Origin`]. None where there was neither.
    #[serde(skip)]
    pub origin: Option<Origin>,
    /// SHA-256 over the hash before it and everything above, but of address and agent only what `origin` says.
    #[serde(skip)]
    pub hash: Hash,
}

/// Address and agent of an actor, as they are sealed: SHA-256 over a random salt and both. Nobody can guess an address from
/// it once the salt is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The hash.
    pub hash: Hash,
    /// The salt; none when address and agent were forgotten.
    pub salt: Option<Salt>,
}

/// What keeps an address from being guessed.
pub type Salt = [u8; 16];

impl Origin {
    fn of(actor: &Actor, salt: Salt) -> Self {
        Self { hash: Self::seal(actor, &salt), salt: Some(salt) }
    }

    fn seal(actor: &Actor, salt: &Salt) -> Hash {
        let mut hash = Sha256::new_with_prefix(salt);
        hash.update(serde_json::to_vec(&(actor.address, &actor.agent)).unwrap_or_default());
        hash.finalize().into()
    }

    /// Whether this is where the actor acted from, or that was forgotten.
    fn is_of(&self, actor: &Actor) -> bool {
        match &self.salt {
            Some(salt) => Self::seal(actor, salt) == self.hash,
            None => actor.address.is_none() && actor.agent.is_none(),
        }
    }
}

/// The seal of an event.
pub type Hash = [u8; 32];

/// Which events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only those of this tenant.
    pub tenant: Option<TenantId>,
    /// Only those of the actor with this id.
    pub actor: Option<Arc<str>>,
    /// Only those of this action, or of all whose name begins so: `key.`.
    pub action: Option<Arc<str>>,
    /// Only those about the thing with this id.
    pub target: Option<Arc<str>>,
    /// Only those at or after this moment.
    pub from: Option<Timestamp>,
    /// Only those before this moment.
    pub until: Option<Timestamp>,
}

impl AuditFilter {
    /// Whether it wants an event.
    #[must_use]
    pub fn wants(&self, event: &AuditEvent) -> bool {
        self.tenant.is_none_or(|tenant| event.tenant == Some(tenant))
            && self.actor.as_ref().is_none_or(|actor| event.actor.id.as_ref() == Some(actor))
            && self.action.as_ref().is_none_or(|action| event.action.starts_with(&**action))
            && self.target.as_ref().is_none_or(|target| event.target == *target)
            && self.from.is_none_or(|from| event.at >= from)
            && self.until.is_none_or(|until| event.at < until)
    }
}

/// A thing whose changes are told.
pub trait Subject: Serialize {
    /// Fields that say something about a person.
    const PERSONAL: &'static [&'static str] = &[];

    /// Its id.
    fn target(&self) -> Arc<str>;

    /// The tenant that it belongs to.
    fn tenant(&self) -> Option<TenantId>;
}

impl Event {
    /// A thing was made.
    #[must_use]
    pub fn created<S: Subject>(action: Action, made: &S) -> Self {
        let fields = fields(made).into_iter().map(|(name, value)| (name.clone(), shown::<S>(&name, value)));
        Self::of(action, made, fields.collect())
    }

    /// A thing was changed.
    #[must_use]
    pub fn changed<S: Subject>(action: Action, before: &S, after: &S) -> Self {
        let mut old = fields(before);
        let changed = fields(after).into_iter().filter_map(|(name, new)| {
            let old = old.remove(&name).unwrap_or_default();
            (old != new).then(|| {
                let pair = [shown::<S>(&name, old), shown::<S>(&name, new)];
                (name, Value::from_iter(pair))
            })
        });
        Self::of(action, after, changed.collect())
    }

    /// A price table was imported; `version` is its SHA-256.
    #[must_use]
    pub fn prices_imported(version: &[u8; 32], source: &str) -> Self {
        let target = version.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
        let changes = serde_json::json!({ "source": source }).to_string().into();
        Self { action: Action::PricesImported, tenant: None, target, changes }
    }

    /// A server's life was declared dead.
    #[must_use]
    pub fn node_fenced(node: &str) -> Self {
        Self { action: Action::NodeFenced, tenant: None, target: node.into(), changes: "{}".into() }
    }

    /// A sum of the books was set right; `reason` is what the books say, too.
    #[must_use]
    pub fn ledger_corrected(correction: &Correction, reason: &str) -> Self {
        let Correction { account, budget, sum, from, to } = *correction;
        let changes = serde_json::json!({
            "account": account.to_string(),
            (sum.name()): [from.to_string(), to.to_string()],
            "reason": reason,
        });
        let target = budget.to_string().into();
        Self { action: Action::LedgerCorrected, tenant: None, target, changes: changes.to_string().into() }
    }

    /// A server was started; `changes` is a JSON object.
    #[must_use]
    pub fn server_started(node: &str, changes: &Value) -> Self {
        let (target, changes) = (node.into(), changes.to_string().into());
        Self { action: Action::ServerStarted, tenant: None, target, changes }
    }

    /// Something was done about a user that is not one of their fields; `changes` is a JSON object.
    #[must_use]
    pub fn about(action: Action, user: &User, changes: &Value) -> Self {
        Self {
            action,
            tenant: Some(user.tenant),
            target: user.id.to_string().into(),
            changes: changes.to_string().into(),
        }
    }

    /// A one-time token was made or revoked. Neither the secret nor the address is told.
    #[must_use]
    pub fn of_token(action: Action, token: &OneTimeToken) -> Self {
        let offer = token.offer.as_ref();
        let changes = serde_json::json!({
            "kind": token.kind,
            "user": token.user,
            "role": offer.map(|offer| offer.role),
            "product_version": offer.and_then(|offer| offer.product_version),
            "expires_at": token.expires_at,
        });
        let target = token.id.to_string().into();
        Self { action, tenant: token.tenant, target, changes: changes.to_string().into() }
    }

    fn of<S: Subject>(action: Action, subject: &S, changes: Map<String, Value>) -> Self {
        let changes = Value::Object(changes).to_string().into();
        Self { action, tenant: subject.tenant(), target: subject.target(), changes }
    }
}

fn fields(subject: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(subject) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn shown<S: Subject>(name: &str, value: Value) -> Value {
    if S::PERSONAL.contains(&name) && !value.is_null() { PERSONAL.into() } else { value }
}

/// What an event is sealed by, in this order. The names are part of the seal.
#[derive(Debug, Serialize)]
struct SealedEvent<'a> {
    seq: i64,
    at: Timestamp,
    kind: ActorKind,
    actor: Option<&'a str>,
    request: Option<RequestId>,
    origin: Option<Hash>,
    tenant: Option<TenantId>,
    action: &'a str,
    target: &'a str,
    changes: &'a str,
}

/// The end of a log: what the next event is sealed with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chain {
    /// Events so far.
    pub seq: i64,
    /// The hash of the last one; zeros before the first.
    pub hash: Hash,
}

impl Chain {
    /// The next event of the log, sealed; the chain ends with it then.
    #[must_use]
    pub fn append(&mut self, act: &Act, event: &Event) -> AuditEvent {
        let known = act.by.address.is_some() || act.by.agent.is_some();
        let mut sealed = AuditEvent {
            seq: self.seq.saturating_add(1),
            at: act.at,
            actor: Actor::clone(&act.by),
            tenant: event.tenant,
            action: event.action.name().into(),
            target: Arc::clone(&event.target),
            changes: Arc::clone(&event.changes),
            origin: known.then(|| Origin::of(&act.by, rand::random())),
            hash: Hash::default(),
        };
        sealed.hash = self.seal(&sealed);
        *self = Self { seq: sealed.seq, hash: sealed.hash };
        sealed
    }

    /// Goes on to an event that a store kept.
    ///
    /// # Errors
    /// When it is not the one that was sealed here.
    pub fn follow(&mut self, event: &AuditEvent) -> Result<(), BrokenChain> {
        let seq = self.seq.saturating_add(1);
        if event.seq != seq {
            return Err(BrokenChain::Missing { seq });
        }
        let known = event.actor.address.is_some() || event.actor.agent.is_some();
        let origin_holds = event.origin.map_or(!known, |origin| origin.is_of(&event.actor));
        if !origin_holds || self.seal(event) != event.hash {
            return Err(BrokenChain::Changed { seq });
        }
        *self = Self { seq, hash: event.hash };
        Ok(())
    }

    /// The seal is over JSON, whose texts are quoted: no two events look alike.
    fn seal(&self, event: &AuditEvent) -> Hash {
        let sealed = SealedEvent {
            seq: event.seq,
            at: event.at,
            kind: event.actor.kind,
            actor: event.actor.id.as_deref(),
            request: event.actor.request,
            origin: event.origin.map(|origin| origin.hash),
            tenant: event.tenant,
            action: &event.action,
            target: &event.target,
            changes: &event.changes,
        };
        let mut hash = Sha256::new_with_prefix(self.hash);
        hash.update(serde_json::to_vec(&sealed).unwrap_or_default());
        hash.finalize().into()
    }
}

/// Where a log is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokenChain {
    /// An event is not there.
    #[error("event {seq} of the audit log is missing")]
    Missing {
        /// Its place.
        seq: i64,
    },
    /// An event, or one before it, was changed or put in.
    #[error("event {seq} of the audit log is not the one that was sealed")]
    Changed {
        /// Its place.
        seq: i64,
    },
}

impl Subject for Tenant {
    fn target(&self) -> Arc<str> {
        self.id.to_string().into()
    }

    fn tenant(&self) -> Option<TenantId> {
        Some(self.id)
    }
}

impl Subject for User {
    const PERSONAL: &'static [&'static str] = &["email", "name"];

    fn target(&self) -> Arc<str> {
        self.id.to_string().into()
    }

    fn tenant(&self) -> Option<TenantId> {
        Some(self.tenant)
    }
}

impl Subject for ApiKey {
    fn target(&self) -> Arc<str> {
        self.id.to_string().into()
    }

    fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }
}

impl Subject for ProductVersion {
    fn target(&self) -> Arc<str> {
        self.product.to_string().into()
    }

    fn tenant(&self) -> Option<TenantId> {
        None
    }
}

impl Subject for Product {
    fn target(&self) -> Arc<str> {
        self.id.to_string().into()
    }

    fn tenant(&self) -> Option<TenantId> {
        None
    }
}

impl Subject for Budget {
    fn target(&self) -> Arc<str> {
        self.spec.id.to_string().into()
    }

    fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }
}

impl Subject for OutsideName {
    const PERSONAL: &'static [&'static str] = &["name", "notes"];

    fn target(&self) -> Arc<str> {
        self.named.to_string().into()
    }

    fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }
}

/// A grant, and the tenant of its budget.
#[derive(Debug, Serialize)]
pub struct GrantOf<'a> {
    /// The grant.
    #[serde(flatten)]
    pub grant: &'a Grant,
    /// The budget's tenant.
    #[serde(skip)]
    pub tenant: Option<TenantId>,
}

impl Subject for GrantOf<'_> {
    fn target(&self) -> Arc<str> {
        self.grant.id.to_string().into()
    }

    fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }
}

#[cfg(test)]
mod tests {
    use cfr_core::id::UserId;

    use super::*;
    use crate::identity::{Role, UserStatus};

    fn user(name: &str, status: UserStatus) -> User {
        let at = Timestamp::UNIX_EPOCH;
        User {
            id: UserId::from_u128(1),
            tenant: TenantId::from_u128(2),
            email: "ada@example.org".into(),
            name: name.into(),
            role: Role::User,
            status,
            product_version: None,
            email_verified_at: None,
            locale: None,
            version: 1,
            created_at: at,
            updated_at: at,
        }
    }

    fn log() -> Vec<AuditEvent> {
        let act = Act::of_system(Timestamp::UNIX_EPOCH);
        let mut chain = Chain::default();
        let statuses = [UserStatus::Pending, UserStatus::Active, UserStatus::Suspended];
        statuses.map(|status| chain.append(&act, &Event::created(Action::UserCreated, &user("Ada", status)))).to_vec()
    }

    #[test]
    fn where_somebody_acted_from_can_be_forgotten_but_not_changed() {
        let by = Actor {
            id: Some("usr_1".into()),
            address: Some("192.0.2.7".parse().expect("an address")),
            agent: Some("curl/8".into()),
            ..Actor::of_kind(ActorKind::User)
        };
        let act = Act { by: Arc::new(by), at: Timestamp::UNIX_EPOCH };
        let mut chain = Chain::default();
        let event = Event::created(Action::UserCreated, &user("Ada", UserStatus::Active));
        let log = [chain.append(&act, &event), chain.append(&act, &event)];
        assert!(follow(&log).is_ok());
        assert_ne!(log[0].origin, log[1].origin, "equal places do not look alike");
        let with = |change: fn(&mut AuditEvent)| {
            let mut log = log.clone();
            change(&mut log[0]);
            follow(&log)
        };
        let forgotten = with(|event| {
            (event.actor.address, event.actor.agent) = (None, None);
            event.origin = event.origin.map(|origin| Origin { salt: None, ..origin });
        });
        assert!(forgotten.is_ok(), "{forgotten:?}");
        for broken in [
            with(|event| event.actor.address = None),
            with(|event| event.actor.agent = Some("wget".into())),
            with(|event| event.origin = None),
            with(|event| event.origin = event.origin.map(|origin| Origin { salt: None, ..origin })),
            with(|event| event.origin = event.origin.map(|_| Origin { hash: [0; 32], salt: None })),
        ] {
            assert!(matches!(broken, Err(BrokenChain::Changed { seq: 1 })), "{broken:?}");
        }
    }

    fn follow(log: &[AuditEvent]) -> Result<Chain, BrokenChain> {
        let mut chain = Chain::default();
        log.iter().try_for_each(|event| chain.follow(event)).map(|()| chain)
    }

    #[test]
    fn a_change_names_what_changed_and_nobody() {
        let event = Event::changed(
            Action::UserChanged,
            &user("Ada", UserStatus::Active),
            &user("Countess Lovelace", UserStatus::Suspended),
        );
        assert_eq!(&*event.changes, r#"{"name":["[personal]","[personal]"],"status":["active","suspended"]}"#);
        let made = Event::created(Action::UserCreated, &user("Ada", UserStatus::Active));
        assert!(made.changes.contains(r#""email":"[personal]""#) && !made.changes.contains("example.org"));
        assert_eq!(
            (made.tenant, &*made.target),
            (Some(TenantId::from_u128(2)), &*user("", UserStatus::Active).target())
        );
    }

    #[test]
    fn a_log_as_it_was_written_is_followed_to_its_end() {
        let log = log();
        assert_eq!(follow(&log).map(|chain| (chain.seq, chain.hash)), Ok((3, log[2].hash)));
    }

    #[test]
    fn an_event_that_was_changed_removed_or_moved_is_found() {
        type Edit = fn(&mut Vec<AuditEvent>);
        let edits: [(Edit, BrokenChain); 6] = [
            (|log| log[1].changes = "{}".into(), BrokenChain::Changed { seq: 2 }),
            (|log| log[1].at = Timestamp::from_second(1).unwrap(), BrokenChain::Changed { seq: 2 }),
            (|log| log[2].actor.kind = ActorKind::Operator, BrokenChain::Changed { seq: 3 }),
            (|log| log[0].hash = [1; 32], BrokenChain::Changed { seq: 1 }),
            (|log| drop(log.remove(0)), BrokenChain::Missing { seq: 1 }),
            (|log| log.swap(1, 2), BrokenChain::Missing { seq: 2 }),
        ];
        for (edit, expected) in edits {
            let mut log = log();
            edit(&mut log);
            assert_eq!(follow(&log), Err(expected));
        }
    }

    #[test]
    fn a_filter_wants_what_it_names() {
        let log = log();
        let wanted = |filter: AuditFilter| log.iter().filter(|event| filter.wants(event)).count();
        assert_eq!(wanted(AuditFilter::default()), 3);
        assert_eq!(wanted(AuditFilter { action: Some("user.".into()), ..AuditFilter::default() }), 3);
        assert_eq!(wanted(AuditFilter { action: Some("key.".into()), ..AuditFilter::default() }), 0);
        assert_eq!(wanted(AuditFilter { tenant: Some(TenantId::from_u128(3)), ..AuditFilter::default() }), 0);
        assert_eq!(wanted(AuditFilter { actor: Some("key_1".into()), ..AuditFilter::default() }), 0);
        assert_eq!(wanted(AuditFilter { until: Some(Timestamp::UNIX_EPOCH), ..AuditFilter::default() }), 0);
        assert_eq!(wanted(AuditFilter { from: Some(Timestamp::UNIX_EPOCH), ..AuditFilter::default() }), 3);
    }
}
