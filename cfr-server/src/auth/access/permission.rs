//! The table: which permission there is, and who holds it.

use std::fmt;
use std::ops::{BitAnd, BitOr};

/// Who may hold permissions: the roles of people (money.md §5.1), and kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// A guest who is signed in: their own things.
    Guest,
    /// A user who is signed in: their own things.
    User,
    /// An administrator of a tenant who is signed in: the tenant's things.
    TenantAdmin,
    /// An administrator of the platform who is signed in, an admin key, the operator: everything.
    PlatformAdmin,
    /// A service key: those that its scopes name, over the tenant's things.
    Service,
    /// A key of any kind.
    AnyKey,
}

impl Holder {
    /// All of them, in the order of the table in the documentation.
    pub const ALL: [Self; 6] =
        [Self::Guest, Self::User, Self::TenantAdmin, Self::PlatformAdmin, Self::Service, Self::AnyKey];
}

macro_rules! permissions {
    ($($(#[doc = $doc:literal])* $variant:ident => $name:literal: [$($holder:ident)*],)*) => {
        /// Something that a route asks for. Its name is what a key's scope says.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Permission { $($(#[doc = $doc])* $variant,)* }

        impl Permission {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name, which stands in scopes, in errors and in the API document.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it allows.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)*).trim_ascii(),)* }
            }

            /// Who holds it.
            #[must_use]
            pub const fn holders(self) -> &'static [Holder] {
                match self { $(Self::$variant => &[$(Holder::$holder,)*],)* }
            }
        }
    };
}

permissions! {
    /// See tenants.
    TenantsRead => "tenants:read": [TenantAdmin PlatformAdmin Service],
    /// Change how a tenant is called and how people join it; the platform also its state and size.
    TenantsWrite => "tenants:write": [TenantAdmin PlatformAdmin Service],
    /// Make tenants.
    TenantsCreate => "tenants:create": [PlatformAdmin],
    /// Forget a tenant for good, with all of its people.
    TenantsErase => "tenants:erase": [PlatformAdmin],
    /// See what is sold.
    ProductsRead => "products:read": [User TenantAdmin PlatformAdmin Service],
    /// Publish products, open and close them.
    ProductsWrite => "products:write": [PlatformAdmin],
    /// See users and invitations.
    UsersRead => "users:read": [TenantAdmin PlatformAdmin Service],
    /// Invite, make, activate, suspend and change users.
    UsersWrite => "users:write": [TenantAdmin PlatformAdmin Service],
    /// Download everything that is kept of a user.
    UsersExport => "users:export": [User TenantAdmin PlatformAdmin Service],
    /// Forget a user for good.
    UsersErase => "users:erase": [TenantAdmin PlatformAdmin Service],
    /// See for a quarter of an hour what a user sees.
    UsersImpersonate => "users:impersonate": [PlatformAdmin],
    /// See subscriptions.
    SubscriptionsRead => "subscriptions:read": [TenantAdmin PlatformAdmin Service],
    /// Make, change and end subscriptions.
    SubscriptionsWrite => "subscriptions:write": [PlatformAdmin],
    /// See keys, without their secrets.
    KeysRead => "keys:read": [User TenantAdmin PlatformAdmin Service],
    /// Make, change, rotate and revoke keys. A user does so where the product has the feature `api_access`.
    KeysWrite => "keys:write": [User TenantAdmin PlatformAdmin Service],
    /// See the key that asks.
    KeysSelf => "keys:self": [AnyKey],
    /// See budgets, balances and grants.
    BudgetsRead => "budgets:read": [Guest User TenantAdmin PlatformAdmin Service],
    /// Set budgets; a tenant's administrator gives shares of the tenant's budget.
    BudgetsWrite => "budgets:write": [TenantAdmin PlatformAdmin Service],
    /// Grant money to budgets, or take some, and decide on what another person proposed.
    LedgerAdjust => "ledger:adjust": [PlatformAdmin Service],
    /// See usage.
    UsageRead => "usage:read": [Guest User TenantAdmin PlatformAdmin Service],
    /// Ask for holds, and tell what was used, for calls that another program makes.
    UsageWrite => "usage:write": [PlatformAdmin Service],
    /// See what providers charge.
    PricesRead => "prices:read": [PlatformAdmin],
    /// Import prices.
    PricesWrite => "prices:write": [PlatformAdmin],
    /// See the accounts at providers, without their secrets.
    AccountsRead => "accounts:read": [TenantAdmin PlatformAdmin],
    /// Make and change accounts at providers.
    AccountsWrite => "accounts:write": [TenantAdmin PlatformAdmin],
    /// Replace and check the keys under which secrets are sealed.
    SecretsWrite => "secrets:write": [PlatformAdmin],
    /// See the applications that people sign in to with their account here.
    ClientsRead => "clients:read": [TenantAdmin PlatformAdmin],
    /// Make and change such applications.
    ClientsWrite => "clients:write": [TenantAdmin PlatformAdmin],
    /// See who asked to be told more.
    LeadsRead => "leads:read": [PlatformAdmin],
    /// Note what became of them, and forget them.
    LeadsWrite => "leads:write": [PlatformAdmin],
    /// See the audit log: a user their own acts.
    AuditRead => "audit:read": [User TenantAdmin PlatformAdmin Service],
    /// See the processes that share the database.
    NodesRead => "nodes:read": [PlatformAdmin],
    /// Declare such a process dead.
    NodesWrite => "nodes:write": [PlatformAdmin],
}

impl Permission {
    /// The permission with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|permission| permission.name() == name)
    }

    const fn bit(self) -> u64 {
        1 << self as u64
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Some permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions(u64);

impl Permissions {
    /// None at all.
    pub const NONE: Self = Self(0);

    /// What a holder has by the table.
    #[must_use]
    pub const fn of(holder: Holder) -> Self {
        let (mut bits, mut index) = (0, 0);
        while index < Permission::ALL.len() {
            let permission = Permission::ALL[index];
            let (holders, mut at) = (permission.holders(), 0);
            while at < holders.len() {
                if holders[at] as u8 == holder as u8 {
                    bits |= permission.bit();
                }
                at += 1;
            }
            index += 1;
        }
        Self(bits)
    }

    /// Those with these names. A name that nobody knows gives nothing.
    #[must_use]
    pub fn named<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self(names.filter_map(Permission::named).fold(0, |bits, permission| bits | permission.bit()))
    }

    /// Whether this one is among them.
    #[must_use]
    pub const fn has(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }

    /// Whether all of the others are among them.
    #[must_use]
    pub const fn has_all(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    /// Each of them, in the order of the table.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |permission| self.has(*permission))
    }
}

impl BitAnd for Permissions {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Permissions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

const _: () = assert!(Permission::ALL.len() <= 64, "permissions are bits of one word");
