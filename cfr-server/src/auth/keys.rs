//! Looks keys up, and remembers for a while what they open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::HeaderMap;
use cfr_billing::audit_log::Act;
use cfr_billing::identity::{ApiKey, KeyContext, KeyKind, KeyMac, KeyStatus, NewKey};
use cfr_billing::store::{CatalogStore, StoreError};
use cfr_core::broadcast::{Broadcast, Notice};
use cfr_core::gateway::Caller;
use cfr_core::id::{KeyId, TenantId, UserId};
use cfr_core::time::{Clock, Timestamp};
use quick_cache::sync::Cache;

use super::caller::caller;
use super::text::is_well_formed;
use super::{AuthError, KeyText, OwnedIds, Pepper, PepperError, presented};

/// How long a known key is believed without another look. Changes through the management API of any replica hold at once.
const KNOWN_FOR: Duration = Duration::from_secs(30);
/// The same while the notices of other replicas do not arrive.
const KNOWN_FOR_UNTOLD: Duration = Duration::from_secs(1);
/// How long a key that is remembered waits for that look: a store that is away must not hold up who is known.
const LOOK_PATIENCE: Duration = Duration::from_millis(250);
/// How long an unknown key stays unknown.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// Keys that are remembered.
const KEYS_REMEMBERED: usize = 100_000;

/// Who a key belongs to, and what its requests may do.
#[derive(Debug)]
pub struct Principal {
    /// The key with all that belongs to it.
    pub context: Arc<KeyContext>,
    caller: Result<Arc<Caller>, AuthError>,
}

impl Principal {
    fn new(context: KeyContext) -> Self {
        let caller = caller(&context).map(Arc::new);
        Self { context: Arc::new(context), caller }
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

    fn admit(&self, now: Timestamp) -> Result<(), AuthError> {
        let key = &self.context.key;
        if key.status != KeyStatus::Active {
            return Err(AuthError::Unknown);
        }
        if key.expires_at.is_some_and(|end| end <= now) {
            return Err(AuthError::Expired);
        }
        Ok(())
    }
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
        Self { store, clock, pepper, broadcast, operator: None, memories, generation: AtomicU64::new(0) }
    }

    /// Also accepts this key, which is in no store, for the management API.
    #[must_use]
    pub fn with_operator(mut self, key: &KeyText) -> Self {
        let context = operator_context(key, self.clock.now());
        self.operator = self.pepper.as_ref().ok().map(|pepper| (pepper.mac(key), Arc::new(Principal::new(context))));
        self
    }

    /// Ids of what providers keep, good for one caller only; none where keys are not looked up.
    #[must_use]
    pub fn owned_ids(&self) -> Option<OwnedIds> {
        OwnedIds::new(self.pepper.as_ref().ok()?)
    }

    /// Who sends these headers.
    ///
    /// # Errors
    /// When there is no key, or the key is not valid now, or it cannot be looked up.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<Principal>, AuthError> {
        let text = presented(headers).ok_or(AuthError::Missing)?;
        if !is_well_formed(text) {
            return Err(AuthError::Unknown);
        }
        let principal = self.find(self.pepper()?.mac_of(text)).await?.ok_or(AuthError::Unknown)?;
        principal.admit(self.clock.now())?;
        Ok(principal)
    }

    /// Forgets everything that was read before.
    pub fn forget(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Something about keys, users, tenants, products or budgets was changed here: forgets everything that was read before
    /// and tells the other replicas. When they cannot be told, they believe what they know for its usual time.
    pub async fn changed(&self) {
        self.forget();
        if let Err(error) = self.broadcast.publish(Notice::Access).await {
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
        let new = NewKey {
            tenant: wish.tenant,
            user: wish.user,
            name: wish.name,
            kind: wish.kind,
            mac: self.pepper()?.mac(text),
            prefix: text.prefix().into(),
            last4: text.last4().into(),
            models: wish.models,
            expires_at: wish.expires_at,
        };
        let key = self.store.create_key(&new, act).await?;
        self.changed().await;
        Ok(key)
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
        let principal = self.store.key_context(&mac).await?.map(|context| Arc::new(Principal::new(context)));
        let memory = Memory { principal: principal.clone(), read_at: now, looked_at: now, generation };
        self.memories.insert(mac, memory);
        Ok(principal)
    }
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
    /// When it ends.
    pub expires_at: Option<Timestamp>,
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
        expires_at: None,
        created_at: now,
    };
    KeyContext { key, user: None, tenant: None, product: None, budgets: Vec::new() }
}
