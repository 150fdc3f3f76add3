//! Looks keys up, and remembers for a while what they open.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use cfr_billing::audit_log::Act;
use cfr_billing::identity::{ApiKey, KeyBudget, KeyContext, KeyKind, KeyMac, KeyRules, KeyStatus, NewKey, NewSecret};
use cfr_billing::store::{CatalogStore, StoreError};
use cfr_core::broadcast::{Broadcast, Notice};
use cfr_core::gateway::Caller;
use cfr_core::id::{KeyId, TenantId, UserId};
use cfr_core::time::{Clock, Timestamp};
use hmac::Hmac;
use quick_cache::sync::Cache;
use sha2::Sha256;

use super::caller::caller;
use super::pepper::Sha256Digest;
use super::text::{is_foreign, is_well_formed};
use super::{AuthError, KeyText, OwnedIds, Pepper, PepperError, presented};

/// How long a known key is believed without another look. Changes through the management API of any replica hold at once.
const KNOWN_FOR: Duration = Duration::from_secs(30);
/// The same while the notices of other replicas do not arrive.
const KNOWN_FOR_UNTOLD: Duration = Duration::from_secs(1);
/// How long a key that is remembered waits for that look: a store that is away must not hold up who is known.
const LOOK_PATIENCE: Duration = Duration::from_millis(250);
/// How long an unknown key stays unknown.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// Uses are noted once a minute.
const SECONDS_PER_MINUTE: i64 = 60;
/// Keys that are remembered.
const KEYS_REMEMBERED: usize = 100_000;

/// Who a key belongs to, and what its requests may do.
#[derive(Debug)]
pub struct Principal {
    /// The key with all that belongs to it.
    pub context: Arc<KeyContext>,
    caller: Result<Arc<Caller>, AuthError>,
    /// The minute, since 1970, in which its use was last noted.
    used_minute: AtomicI64,
}

impl Principal {
    fn new(context: KeyContext, now: Timestamp) -> Self {
        let caller = caller(&context, now).map(Arc::new);
        Self { context: Arc::new(context), caller, used_minute: AtomicI64::new(0) }
    }

    /// What calls to models may do, worked out once.
    ///
    /// # Errors
    /// When the key makes no calls to models: its kind, its user, its tenant or its budgets do not allow it.
    pub fn caller(&self) -> Result<&Arc<Caller>, AuthError> {
        self.caller.as_ref().map_err(Clone::clone)
    }

    /// Whether the key opens the whole management API.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.context.key.kind == KeyKind::Admin && self.context.key.tenant.is_none()
    }

    /// Whether it is the key that the operator's environment names, which is in no store.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.context.key.id == OPERATORS_KEY
    }

    /// Until when the secret works that was presented, where a newer one has replaced it.
    #[must_use]
    pub fn superseded_until(&self) -> Option<Timestamp> {
        self.context.key.grace_until.filter(|_| self.context.superseded)
    }

    fn admit(&self, now: Timestamp, address: Option<IpAddr>) -> Result<(), AuthError> {
        let key = &self.context.key;
        let superseded = self.context.superseded && key.grace_until.is_none_or(|end| end <= now);
        if key.status != KeyStatus::Active || superseded {
            return Err(AuthError::Unknown);
        }
        if key.expires_at.is_some_and(|end| end <= now) {
            return Err(AuthError::Expired);
        }
        match is_from(&key.rules, address) {
            true => Ok(()),
            false => Err(AuthError::ForeignAddress),
        }
    }

    /// Whether this is its first use in this minute.
    fn is_first_use(&self, now: Timestamp) -> bool {
        let minute = now.as_second().div_euclid(SECONDS_PER_MINUTE);
        self.used_minute.load(Ordering::Relaxed) < minute
            && self.used_minute.fetch_max(minute, Ordering::Relaxed) < minute
    }
}

/// Whether a key may be used from an address. One that is bound to networks is not used from nowhere.
fn is_from(rules: &KeyRules, address: Option<IpAddr>) -> bool {
    rules.networks.is_empty()
        || address.is_some_and(|address| {
            let address = address.to_canonical(); // an IPv4 address may come as an IPv6 one
            rules.networks.iter().any(|network| network.contains(&address))
        })
}

/// What is remembered of one key.
#[derive(Debug, Clone)]
struct Memory {
    principal: Option<Arc<Principal>>,
    /// When it was read, in uptime.
    read_at: Duration,
    /// When somebody last set out to read it.
    looked_at: Duration,
    generation: u64,
}

impl Memory {
    /// Whether it still holds, when other replicas could tell of changes or could not.
    fn holds(&self, generation: u64, now: Duration, told: bool) -> bool {
        self.outlasts(generation, now) && (told || self.principal.is_none() || now < self.looked_at + KNOWN_FOR_UNTOLD)
    }

    /// Whether it holds as long as the store cannot be read: then nobody can change there what it says.
    fn outlasts(&self, generation: u64, now: Duration) -> bool {
        let patience = if self.principal.is_some() { KNOWN_FOR } else { UNKNOWN_FOR };
        self.generation == generation && now < self.read_at + patience
    }
}

/// Every key, by way of its MAC.
#[derive(Debug)]
pub struct Keys {
    store: Arc<dyn CatalogStore>,
    clock: Arc<dyn Clock>,
    /// None, with the reason, where keys are not looked up nor made.
    pepper: Result<Pepper, PepperError>,
    broadcast: Arc<dyn Broadcast>,
    operator: Option<(KeyMac, Arc<Principal>)>,
    memories: Cache<KeyMac, Memory>,
    /// Counts management changes. What was read before the last one is not believed.
    generation: AtomicU64,
    /// Counts ends of sessions, in the same way.
    sessions_generation: AtomicU64,
    /// When keys were last used, until that is written down.
    used: Mutex<HashMap<KeyId, Timestamp>>,
}

impl Keys {
    /// Keys of this store, hashed under this pepper. Without one they can be listed and changed, but not looked up nor made.
    /// What changes is told to the other replicas.
    #[must_use]
    pub fn new(
        store: Arc<dyn CatalogStore>,
        clock: Arc<dyn Clock>,
        pepper: Result<Pepper, PepperError>,
        broadcast: Arc<dyn Broadcast>,
    ) -> Self {
        let memories = Cache::new(KEYS_REMEMBERED);
        Self {
            store,
            clock,
            pepper,
            broadcast,
            operator: None,
            memories,
            generation: AtomicU64::new(0),
            sessions_generation: AtomicU64::new(0),
            used: Mutex::default(),
        }
    }

    /// Also accepts this key, which is in no store, for the management API.
    #[must_use]
    pub fn with_operator(mut self, key: &KeyText) -> Self {
        let now = self.clock.now();
        let context = operator_context(key, now);
        self.operator =
            self.pepper.as_ref().ok().map(|pepper| (pepper.mac(key), Arc::new(Principal::new(context, now))));
        self
    }

    /// Ids of what providers keep, good for one caller only; none where keys are not looked up.
    #[must_use]
    pub fn owned_ids(&self) -> Option<OwnedIds> {
        OwnedIds::new(self.pepper.as_ref().ok()?)
    }

    /// A secret of its own for one purpose, which is the same on every server; none where keys are not looked up.
    #[must_use]
    pub fn secret_for(&self, purpose: &'static str) -> Option<Hmac<Sha256>> {
        self.pepper.as_ref().ok()?.for_purpose(purpose)
    }

    /// Counts the changes that this server knows of: what was read before the last one is not to be believed.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The same for what is known of whoever calls in a session: it also counts the sessions that ended.
    #[must_use]
    pub fn generation_of_sessions(&self) -> u64 {
        self.generation().wrapping_add(self.sessions_generation.load(Ordering::Acquire))
    }

    /// Whether other servers could tell of changes that they make.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.broadcast.is_connected()
    }

    /// Who sends these headers, from this address.
    ///
    /// # Errors
    /// When there is no key, or the key is not valid now or from there, or it cannot be looked up.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        address: Option<IpAddr>,
    ) -> Result<Arc<Principal>, AuthError> {
        let text = presented(headers).ok_or(AuthError::Missing)?;
        if !is_well_formed(text) {
            return Err(AuthError::Unknown);
        }
        let principal = self.find_text(text).await?.ok_or(AuthError::Unknown)?;
        let now = self.clock.now();
        principal.admit(now, address)?;
        if principal.is_first_use(now) {
            self.used().insert(principal.context.key.id, now);
        }
        Ok(principal)
    }

    /// The key with this text, whatever became of it; of a key that was imported by its SHA-256, also by those 64 digits.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn look_up(&self, text: &str) -> Result<Option<Arc<Principal>>, StoreError> {
        if let Some(digest) = Sha256Digest::from_hex(text)
            && let Some(known) = self.find(self.pepper()?.mac_of_digest(&digest)).await?
        {
            return Ok(Some(known));
        }
        if is_well_formed(text) { self.find_text(text).await } else { Ok(None) }
    }

    /// A key of another gateway may be known by its SHA-256 only.
    async fn find_text(&self, text: &str) -> Result<Option<Arc<Principal>>, StoreError> {
        let pepper = self.pepper()?;
        match self.find(pepper.mac_of(text)).await? {
            None if is_foreign(text) => self.find(pepper.mac_of_digest(&Sha256Digest::of(text))).await,
            found => Ok(found),
        }
    }

    /// Stores a key of another gateway that kept no more of it than its SHA-256. It works as it did there.
    ///
    /// # Errors
    /// As [`CatalogStore::create_key`].
    pub async fn import_digest(
        &self,
        wish: KeyWish,
        digest: &Sha256Digest,
        (prefix, last4): (Arc<str>, Arc<str>),
        act: &Act,
    ) -> Result<ApiKey, StoreError> {
        let secret = NewSecret { mac: self.pepper()?.mac_of_digest(digest), prefix, last4 };
        let key = self.store.create_key(&new_key(wish, secret), act).await?;
        self.changed().await;
        Ok(key)
    }

    /// Writes down when keys were last used. What cannot be written is forgotten: the next use is noted again.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn write_uses(&self) -> Result<(), StoreError> {
        let mut used = std::mem::take(&mut *self.used());
        used.remove(&OPERATORS_KEY);
        let used: Vec<_> = used.into_iter().collect();
        if used.is_empty() { Ok(()) } else { self.store.touch_keys(&used).await }
    }

    fn used(&self) -> std::sync::MutexGuard<'_, HashMap<KeyId, Timestamp>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything that was read before.
    pub fn forget(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Something about keys, users, tenants, products or budgets was changed here: forgets everything that was read before
    /// and tells the other replicas. When they cannot be told, they believe what they know for its usual time.
    pub async fn changed(&self) {
        self.forget();
        self.tell(Notice::Access).await;
    }

    /// Forgets who calls in a session. What is known of keys stays: people sign out all day long.
    pub fn forget_sessions(&self) {
        self.sessions_generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Sessions ended here: what was given out in them opens nothing any longer, here and on the other replicas.
    pub async fn sessions_ended(&self) {
        self.forget_sessions();
        self.tell(Notice::Sessions).await;
    }

    async fn tell(&self, notice: Notice) {
        if let Err(error) = self.broadcast.publish(notice).await {
            tracing::warn!(%error, "other replicas may honour what was changed for another {KNOWN_FOR:?}");
        }
    }

    /// Makes a key and stores its MAC. The text is shown once and kept nowhere.
    ///
    /// # Errors
    /// As [`CatalogStore::create_key`].
    pub async fn issue(&self, wish: KeyWish, act: &Act) -> Result<(KeyText, ApiKey), StoreError> {
        let text = KeyText::generate(wish.kind);
        let key = self.import(wish, &text, act).await?;
        Ok((text, key))
    }

    /// Stores the MAC of a key that exists already, here or in another gateway.
    ///
    /// # Errors
    /// As [`CatalogStore::create_key`].
    pub async fn import(&self, wish: KeyWish, text: &KeyText, act: &Act) -> Result<ApiKey, StoreError> {
        let key = self.store.create_key(&self.new_key(wish, text)?, act).await?;
        self.changed().await;
        Ok(key)
    }

    /// A key with a new secret, to be stored.
    ///
    /// # Errors
    /// When there is no secret to hash keys with.
    pub fn prepare(&self, wish: KeyWish) -> Result<(KeyText, NewKey), StoreError> {
        let text = KeyText::generate(wish.kind);
        let new = self.new_key(wish, &text)?;
        Ok((text, new))
    }

    /// Another secret for a key of this kind, to be stored.
    ///
    /// # Errors
    /// As [`Keys::prepare`].
    pub fn prepare_secret(&self, kind: KeyKind) -> Result<(KeyText, NewSecret), StoreError> {
        let text = KeyText::generate(kind);
        let secret = self.secret(&text)?;
        Ok((text, secret))
    }

    fn new_key(&self, wish: KeyWish, text: &KeyText) -> Result<NewKey, StoreError> {
        Ok(new_key(wish, self.secret(text)?))
    }

    fn secret(&self, text: &KeyText) -> Result<NewSecret, StoreError> {
        Ok(NewSecret { mac: self.pepper()?.mac(text), prefix: text.prefix().into(), last4: text.last4().into() })
    }

    /// Ends a secret that somebody found, on every replica.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn revoke_found(&self, text: &KeyText, act: &Act) -> Result<(), StoreError> {
        if self.store.revoke_secret(&self.pepper()?.mac(text), act).await?.is_some() {
            self.changed().await;
        }
        Ok(())
    }

    /// Whether the store knows this key.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn knows(&self, text: &KeyText) -> Result<bool, StoreError> {
        Ok(self
            .store
            .key_context(&self.pepper()?.mac(text))
            .await?
            .is_some_and(|context| context.key.status == KeyStatus::Active))
    }

    fn pepper(&self) -> Result<&Pepper, StoreError> {
        self.pepper.as_ref().map_err(StoreError::invalid)
    }

    async fn find(&self, mac: KeyMac) -> Result<Option<Arc<Principal>>, StoreError> {
        if let Some((operator, principal)) = &self.operator
            && *operator == mac
        {
            return Ok(Some(Arc::clone(principal)));
        }
        let generation = self.generation.load(Ordering::Acquire);
        let now = self.clock.uptime();
        let Some(memory) = self.memories.get(&mac).filter(|memory| memory.outlasts(generation, now)) else {
            return self.read(mac, generation, now).await;
        };
        if memory.holds(generation, now, self.broadcast.is_connected()) {
            return Ok(memory.principal);
        }
        self.memories.insert(mac, Memory { looked_at: now, ..memory.clone() });
        match tokio::time::timeout(LOOK_PATIENCE, self.read(mac, generation, now)).await {
            Ok(Err(StoreError::Unavailable { .. } | StoreError::Unwritable { .. })) | Err(_) => Ok(memory.principal),
            Ok(read) => read,
        }
    }

    async fn read(&self, mac: KeyMac, generation: u64, now: Duration) -> Result<Option<Arc<Principal>>, StoreError> {
        let principal =
            self.store.key_context(&mac).await?.map(|context| Arc::new(Principal::new(context, self.clock.now())));
        let memory = Memory { principal: principal.clone(), read_at: now, looked_at: now, generation };
        self.memories.insert(mac, memory);
        Ok(principal)
    }
}

fn new_key(wish: KeyWish, secret: NewSecret) -> NewKey {
    let NewSecret { mac, prefix, last4 } = secret;
    let KeyWish { kind, tenant, user, name, models, rules, budget, expires_at } = wish;
    NewKey { tenant, user, name, kind, mac, prefix, last4, models, rules, budget, expires_at }
}

/// A key to make.
#[derive(Debug, Clone)]
pub struct KeyWish {
    /// What it opens.
    pub kind: KeyKind,
    /// The tenant that owns it; none for keys of the operator.
    pub tenant: Option<TenantId>,
    /// The user that it acts for; none for a service.
    pub user: Option<UserId>,
    /// For people.
    pub name: Arc<str>,
    /// Public model names that it may use, within the product's; empty for all of them.
    pub models: Vec<Arc<str>>,
    /// What else it is bound to.
    pub rules: KeyRules,
    /// A budget of its own.
    pub budget: Option<KeyBudget>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

impl KeyWish {
    /// A key that nobody has, is bound to nothing and never ends.
    #[must_use]
    pub fn new(kind: KeyKind, name: &str) -> Self {
        Self {
            kind,
            tenant: None,
            user: None,
            name: name.into(),
            models: Vec::new(),
            rules: KeyRules::default(),
            budget: None,
            expires_at: None,
        }
    }
}

/// An id that no store gives.
const OPERATORS_KEY: KeyId = KeyId::from_u128(0);

/// The key that the operator's environment names, as if it were in the store.
fn operator_context(text: &KeyText, now: Timestamp) -> KeyContext {
    let key = ApiKey {
        id: OPERATORS_KEY,
        tenant: None,
        user: None,
        name: "CFR_ADMIN_KEY".into(),
        kind: KeyKind::Admin,
        prefix: text.prefix().into(),
        last4: text.last4().into(),
        models: Vec::new(),
        status: KeyStatus::Active,
        rules: KeyRules::default(),
        expires_at: None,
        grace_until: None,
        used_at: None,
        created_by: None,
        version: 1,
        created_at: now,
    };
    KeyContext {
        key,
        superseded: false,
        user: None,
        tenant: None,
        product: None,
        subscription: None,
        budgets: Vec::new(),
    }
}
