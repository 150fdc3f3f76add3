//! Where the books are: one URL, whose password never shows.

use std::fmt;
use std::path::{Path, PathBuf};

use cfr_core::secret::Secret;

/// The database inside the data folder.
pub const FILE: &str = "cfr.db";
/// The key of the configuration that names a database.
pub(super) const FILE_KEY: &str = "database.url";
/// The variable that does.
pub(super) const VARIABLE: &str = "CFR_DATABASE_URL";
/// The option of commands that does.
pub(super) const OPTION: &str = "--database";
/// Connections to a Postgres server when nobody says.
pub(super) const POOL: u32 = 8;
/// Characters of a node's name: it is a key in the database and a word in logs.
pub(super) const NODE_CHARS_MAX: usize = 64;

/// Schemes of a Postgres server.
const POSTGRES: [&str; 2] = ["postgres://", "postgresql://"];
/// Beginnings of an SQLite file, the longer one first.
const SQLITE: [&str; 2] = ["sqlite://", "sqlite:"];

/// Where the books are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// One file, which one process owns.
    Sqlite(PathBuf),
    /// A server, which many processes share.
    Postgres(PostgresUrl),
}

impl DatabaseUrl {
    /// The file of a data folder.
    #[must_use]
    pub fn of_folder(data: &Path) -> Self {
        Self::Sqlite(data.join(FILE))
    }

    /// Reads `postgres://…` or `sqlite:path`.
    ///
    /// # Errors
    /// When it is neither, in words that do not repeat it.
    pub fn parse(text: &Secret) -> Result<Self, &'static str> {
        let text = text.expose().trim();
        if POSTGRES.iter().any(|scheme| text.starts_with(scheme)) {
            return Ok(Self::Postgres(PostgresUrl(text.into())));
        }
        match SQLITE.iter().find_map(|scheme| text.strip_prefix(scheme)) {
            Some("" | ":memory:") => Err("name a file, as in sqlite:cfr-data/cfr.db: books in memory would be lost"),
            Some(path) => Ok(Self::Sqlite(path.into())),
            None => Err("a database is postgres://user@host:5432/name or sqlite:path"),
        }
    }

    /// Whether many processes may use it at the same time.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }
}

/// As somebody may read it: without a password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

/// The address of a Postgres database. It prints without its password and parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(Box<str>);

impl PostgresUrl {
    /// All of it, for the one place that connects.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("postgres", &self.0));
        let (authority, place) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if place.contains('@') {
            return write!(f, "{scheme}://…"); // a password with unescaped characters may stand anywhere before it
        }
        let place = place.split(['?', '#']).next().unwrap_or_default();
        match authority.rsplit_once('@') {
            Some((user, host)) => write!(f, "{scheme}://{}@{host}{place}", user.split(':').next().unwrap_or_default()),
            None => write!(f, "{scheme}://{authority}{place}"),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who brings the schema up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Migration {
    /// Whoever starts first.
    #[default]
    Auto,
    /// `cfr-server migrate`: a server refuses a schema that is not up to date.
    Check,
}

/// How the database is used.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// Where it is, when not in the data folder.
    pub url: Option<DatabaseUrl>,
    /// What said so: a variable, a key of the file, or an option.
    pub named_by: &'static str,
    /// Connections to a Postgres server at most.
    pub pool: u32,
    /// Whether statements stay prepared; not behind a pooler that shares connections between transactions.
    pub prepared_statements: bool,
    /// Who brings the schema up to date.
    pub migration: Migration,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { url: None, named_by: FILE_KEY, pool: POOL, prepared_statements: true, migration: Migration::Auto }
    }
}

/// The name of this machine, when it has one that can be a node's.
pub(super) fn host_name(environment: super::Environment<'_>) -> Option<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = kernel.or_else(|| environment("HOSTNAME")).or_else(|| environment("COMPUTERNAME"))?;
    Some(name.trim().to_owned()).filter(|name| is_node_name(name))
}

/// Letters, digits, `-`, `_` and `.`.
pub(super) fn is_node_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=NODE_CHARS_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DatabaseUrl, &'static str> {
        DatabaseUrl::parse(&Secret::new(text))
    }

    #[test]
    fn a_file_is_named_with_or_without_slashes() {
        for (text, path) in [("sqlite:a/b.db", "a/b.db"), ("sqlite:///a.db", "/a.db"), ("sqlite://a.db", "a.db")] {
            assert_eq!(parse(text), Ok(DatabaseUrl::Sqlite(path.into())), "{text}");
        }
    }

    #[test]
    fn what_is_no_database_is_refused_without_repeating_it() {
        for text in ["mysql://root:secret@x/y", "cfr.db", "sqlite:", "sqlite::memory:", "secret"] {
            assert!(!parse(text).expect_err("no database").contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_password_never_shows() {
        for (text, shown) in [
            ("postgres://cfr:secret@db:5432/books?sslmode=require", "postgres://cfr@db:5432/books"),
            ("postgres://db/books?user=cfr&password=secret", "postgres://db/books"),
            ("postgresql://cfr:secret@@db/books", "postgresql://cfr@db/books"),
            ("postgresql://cfr:secret@@secret/x@db/books", "postgresql://…"),
            ("postgres://db/books?user=cfr&password=sec@secret", "postgres://…"),
            ("postgres://:secret@db/books", "postgres://@db/books"),
            ("postgres://cfr:sec?secret@db/books", "postgres://…"),
        ] {
            let url = parse(text).expect("a database");
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("secret"), "{url:?}");
        }
    }

    #[test]
    fn a_node_is_named_in_plain_characters() {
        assert!(is_node_name("gateway-1.example_x"));
        assert!(!is_node_name("") && !is_node_name("a b") && !is_node_name(&"x".repeat(NODE_CHARS_MAX + 1)));
    }
}
