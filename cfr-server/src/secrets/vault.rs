//! Seals and opens secrets, with keys that come and go.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cfr_billing::audit_log::Act;
use cfr_billing::secrets::DataKey;
use cfr_billing::store::{PageRequest, SecretStore, StoreError};
use cfr_core::id::{DataKeyId, TenantId};
use cfr_core::time::Clock;
use quick_cache::sync::Cache;
use zeroize::Zeroizing;

use super::VaultError;
use super::master::{MasterKey, MasterKeySource, MasterKeys};
use super::sealed::{self, Cipher, PLAIN_BYTES_MAX, Place};

/// How long an opened data key is kept in memory.
const OPENED_FOR: Duration = Duration::from_secs(300);
/// Opened data keys that are kept.
const OPENED_MAX: usize = 10_000;
/// Bytes of a data key.
const KEY_BYTES: usize = 32;

/// Seals secrets before they go into the database, and opens them again.
#[derive(Debug)]
pub struct Vault {
    store: Arc<dyn SecretStore>,
    clock: Arc<dyn Clock>,
    source: MasterKeySource,
    /// None until one is needed.
    masters: Mutex<Option<Arc<MasterKeys>>>,
    /// Data keys by id, and those that seal by their owner.
    opened: Cache<DataKeyId, Arc<OpenKey>>,
    current: Cache<Option<TenantId>, Arc<OpenKey>>,
}

/// A data key that was unwrapped.
#[derive(Debug)]
struct OpenKey {
    row: DataKey,
    cipher: Cipher,
    /// When it was read, in uptime.
    read_at: Duration,
}

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The master key that wraps all data keys now.
    pub master: Arc<str>,
    /// Data keys that it wraps since.
    pub rewrapped: u64,
    /// Data keys that it wrapped before.
    pub already: u64,
}

impl Vault {
    /// A vault over these data keys. The master key is looked for when it is needed.
    #[must_use]
    pub fn new(store: Arc<dyn SecretStore>, clock: Arc<dyn Clock>, source: MasterKeySource) -> Self {
        let (opened, current) = (Cache::new(OPENED_MAX), Cache::new(OPENED_MAX));
        Self { store, clock, source, masters: Mutex::default(), opened, current }
    }

    /// Seals a secret of a tenant, or of the platform, for the place where it will be kept.
    ///
    /// # Errors
    /// When there is no master key, or not the one that is needed; when the store fails.
    pub async fn seal(&self, tenant: Option<TenantId>, place: Place<'_>, plain: &[u8]) -> Result<Arc<str>, VaultError> {
        if plain.len() > PLAIN_BYTES_MAX {
            return Err(VaultError::TooLong);
        }
        let key = self.current(tenant).await?;
        let text = key.cipher.seal(place, plain).ok_or(VaultError::TooLong)?;
        Ok(sealed::format(&key.row.master, key.row.id, &text).into())
    }

    /// Opens what was sealed for this tenant and this place.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] when it was sealed for another one, [`VaultError::Shredded`] when its key is gone, and as
    /// [`Vault::seal`].
    pub async fn open(
        &self,
        tenant: Option<TenantId>,
        place: Place<'_>,
        text: &str,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let damaged = || VaultError::damaged(place);
        let (id, text) = sealed::parse(text).ok_or_else(damaged)?;
        let key = self.by_id(id).await?;
        let opened = key.cipher.open(place, text).filter(|_| key.row.tenant == tenant);
        opened.ok_or_else(damaged)
    }

    /// Finds out at the start whether the secrets in the database can be read: looks at the oldest data keys, a page of
    /// them. Makes the master key of a data folder that has none and needs none yet.
    ///
    /// # Errors
    /// As [`Vault::seal`], but not when nothing needs a master key.
    pub async fn check(&self) -> Result<(), VaultError> {
        let keys = self.store.data_keys(PageRequest::default()).await?;
        if keys.items.is_empty() {
            return match self.masters_or_new().await {
                Err(VaultError::NoMasterKey) => Ok(()),
                masters => masters.map(drop),
            };
        }
        keys.items.into_iter().try_for_each(|key| self.unwrap(key).map(drop))
    }

    /// Unwraps every data key, and says how many there are.
    ///
    /// # Errors
    /// Names the first one that cannot be unwrapped.
    pub async fn verify(&self) -> Result<u64, VaultError> {
        let keys = self.all_keys().await?;
        let count = keys.len() as u64;
        keys.into_iter().try_for_each(|key| self.unwrap(key).map(drop))?;
        Ok(count)
    }

    /// Wraps every data key with the first master key that is given now. Can be interrupted and begun again at any time;
    /// servers that know both keys work on meanwhile.
    ///
    /// # Errors
    /// When a data key is under a master key that is not given. What was wrapped anew before stays so.
    pub async fn rotate_master_key(&self, act: &Act) -> Result<Rotation, VaultError> {
        self.forget();
        let masters = self.masters_or_new().await?;
        let first = masters.first().ok_or(VaultError::NoMasterKey)?;
        let mut rotation = Rotation { master: first.id().into(), rewrapped: 0, already: 0 };
        for key in self.all_keys().await? {
            match self.rewrap(key, first, act).await? {
                true => rotation.rewrapped += 1,
                false => rotation.already += 1,
            }
        }
        self.forget();
        Ok(rotation)
    }

    /// Gives a tenant, or the platform, a new data key. What the old one sealed can still be opened.
    ///
    /// # Errors
    /// As [`Vault::seal`].
    pub async fn rotate_data_key(&self, tenant: Option<TenantId>, act: &Act) -> Result<DataKeyId, VaultError> {
        let old = self.store.current_data_key(tenant).await?;
        let key = self.make(tenant, old.map(|key| key.id), act).await?;
        self.forget();
        Ok(key.row.id)
    }

    /// The data key that seals for a tenant, or for the platform, if it has one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn current_data_key(&self, tenant: Option<TenantId>) -> Result<Option<DataKeyId>, VaultError> {
        Ok(self.store.current_data_key(tenant).await?.map(|key| key.id))
    }

    /// The same secret, sealed by the key that seals now; none where `newest` sealed it already.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub async fn renewed(
        &self,
        tenant: Option<TenantId>,
        place: Place<'_>,
        text: &str,
        newest: DataKeyId,
    ) -> Result<Option<Arc<str>>, VaultError> {
        if sealed::parse(text).is_some_and(|(id, _)| id == newest) {
            return Ok(None);
        }
        let plain = self.open(tenant, place, text).await?;
        self.seal(tenant, place, &plain).await.map(Some)
    }

    /// Destroys the data keys of a tenant, and says how many: nobody can open any more what they sealed.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn shred(&self, tenant: TenantId, act: &Act) -> Result<u64, VaultError> {
        let gone = self.store.shred_data_keys(tenant, act).await?;
        self.forget();
        Ok(gone)
    }

    /// Forgets every key that was read: the next secret looks again.
    pub fn forget(&self) {
        *self.masters.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.opened.clear();
        self.current.clear();
    }

    /// The key that seals for an owner, made now if it has none.
    async fn current(&self, tenant: Option<TenantId>) -> Result<Arc<OpenKey>, VaultError> {
        if let Some(key) = self.current.get(&tenant).filter(|key| self.is_fresh(key)) {
            return Ok(key);
        }
        let key = match self.store.current_data_key(tenant).await? {
            Some(row) => self.unwrap(row)?,
            None => self.make(tenant, None, &Act::of_system(self.clock.now())).await?,
        };
        let key = Arc::new(key);
        self.current.insert(tenant, Arc::clone(&key));
        Ok(key)
    }

    async fn by_id(&self, id: DataKeyId) -> Result<Arc<OpenKey>, VaultError> {
        if let Some(key) = self.opened.get(&id).filter(|key| self.is_fresh(key)) {
            return Ok(key);
        }
        let row = match self.store.data_key(id).await {
            Err(StoreError::NotFound { .. }) => return Err(VaultError::Shredded),
            row => row?,
        };
        let key = Arc::new(self.unwrap(row)?);
        self.opened.insert(id, Arc::clone(&key));
        Ok(key)
    }

    fn is_fresh(&self, key: &OpenKey) -> bool {
        self.clock.uptime().saturating_sub(key.read_at) < OPENED_FOR
    }

    /// Makes a data key in place of `old`; somebody else may have been faster.
    async fn make(&self, tenant: Option<TenantId>, old: Option<DataKeyId>, act: &Act) -> Result<OpenKey, VaultError> {
        let masters = self.masters_or_new().await?;
        let master = masters.first().ok_or(VaultError::NoMasterKey)?;
        let now = self.clock.now();
        let id = DataKeyId::generate(now);
        let key = Zeroizing::new(rand::random::<[u8; KEY_BYTES]>());
        let wrapped = wrap(master, id, tenant, &*key)?;
        let new = DataKey { id, tenant, master: master.id().into(), wrapped, current: true, made_at: now };
        self.unwrap(self.store.add_data_key(&new, old, act).await?)
    }

    /// Whether it was necessary.
    async fn rewrap(&self, key: DataKey, master: &MasterKey, act: &Act) -> Result<bool, VaultError> {
        if *key.master == *master.id() {
            return Ok(false);
        }
        let plain = self.unwrapped(&key)?;
        let wrapped = wrap(master, key.id, key.tenant, &plain)?;
        let new = DataKey { master: master.id().into(), wrapped, ..key.clone() };
        match self.store.rewrap_data_key(&new, &key.master, act).await {
            Err(StoreError::Conflict { .. }) => Ok(false), // somebody else does the same
            written => Ok(written.map(|()| true)?),
        }
    }

    fn unwrap(&self, row: DataKey) -> Result<OpenKey, VaultError> {
        let plain = self.unwrapped(&row)?;
        let key =
            <&[u8; KEY_BYTES]>::try_from(plain.as_slice()).map_err(|_| VaultError::DamagedDataKey { id: row.id })?;
        Ok(OpenKey { cipher: Cipher::new(key), row, read_at: self.clock.uptime() })
    }

    fn unwrapped(&self, row: &DataKey) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let masters = self.masters_with(&row.master)?;
        let master = masters.find(&row.master).ok_or_else(|| self.unknown_master(&row.master, Some(&masters)))?;
        let owner = owner(row.id, row.tenant);
        let opened = master.cipher().open(place(&owner), &row.wrapped);
        opened.ok_or(VaultError::DamagedDataKey { id: row.id })
    }

    /// The master keys, read again if this one is not among those that were read before.
    fn masters_with(&self, wanted: &str) -> Result<Arc<MasterKeys>, VaultError> {
        let mut masters = self.masters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = masters.as_ref().filter(|known| known.find(wanted).is_some()) {
            return Ok(Arc::clone(known));
        }
        let read = MasterKeys::read(&self.source)?.ok_or_else(|| self.unknown_master(wanted, None))?;
        Ok(Arc::clone(masters.insert(Arc::new(read))))
    }

    /// The master keys. Those of a data folder are made when nothing was ever sealed.
    async fn masters_or_new(&self) -> Result<Arc<MasterKeys>, VaultError> {
        if let Some(known) = &*self.masters.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(known));
        }
        let keys = match MasterKeys::read(&self.source)? {
            Some(keys) => keys,
            None => self.make_masters().await?,
        };
        let mut masters = self.masters.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(masters.insert(Arc::new(keys))))
    }

    async fn make_masters(&self) -> Result<MasterKeys, VaultError> {
        let first = self.store.data_keys(PageRequest { after: None, limit: 1 }).await?.items.pop();
        match (&self.source, first) {
            (MasterKeySource::Folder(data), None) => MasterKeys::create(data),
            (_, Some(key)) => Err(self.unknown_master(&key.master, None)),
            _ => Err(VaultError::NoMasterKey),
        }
    }

    fn unknown_master(&self, wanted: &str, known: Option<&MasterKeys>) -> VaultError {
        let known = known.map(MasterKeys::ids).unwrap_or_default();
        VaultError::UnknownMasterKey { wanted: wanted.into(), place: self.source.place().into(), known }
    }

    async fn all_keys(&self) -> Result<Vec<DataKey>, VaultError> {
        let (mut all, mut request) = (Vec::new(), PageRequest::default());
        loop {
            let page = self.store.data_keys(request).await?;
            all.extend(page.items);
            request.after = page.next;
            if request.after.is_none() {
                return Ok(all);
            }
        }
    }
}

/// A data key under a master key. It opens for its owner only.
fn wrap(master: &MasterKey, id: DataKeyId, tenant: Option<TenantId>, key: &[u8]) -> Result<Arc<str>, VaultError> {
    let wrapped = master.cipher().seal(place(&owner(id, tenant)), key);
    Ok(wrapped.ok_or(VaultError::TooLong)?.into())
}

fn owner(id: DataKeyId, tenant: Option<TenantId>) -> String {
    format!("{id}/{}", tenant.map_or_else(|| "platform".into(), |tenant| tenant.to_string()))
}

const fn place(owner: &str) -> Place<'_> {
    Place { table: "data_keys", row: owner, column: "wrapped" }
}

#[cfg(test)]
mod tests;
