//! `cfr-server demo`: everything that a stranger needs to try the router, without a key or a network.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cfr_billing::identity::KeyKind;
use cfr_core::time::TimeZone;
use serde::{Deserialize, Serialize};

use crate::auth::{KeyText, KeyWish};
use crate::config::{Config, DatabaseConfig, Environment, Problems};
use crate::files::replace_private;
use crate::seed;
use crate::state::{Books, StartError};

/// The configuration, as an operator could write it.
const CONFIG: &str = include_str!("demo/demo.toml");
/// The file in the data folder that scripts read.
pub const CARD_FILE: &str = "demo.json";
/// The tenant of the demo.
pub const TENANT: &str = "demo";
/// Where the demo's months begin.
const ZONE: &str = "Europe/Berlin";

/// What scripts need to use the demo. Written into the data folder, readable by its owner only.
#[derive(Clone, Serialize, Deserialize)]
pub struct Card {
    /// The address, without `/v1`.
    pub base_url: String,
    /// One key of a user on each product.
    pub keys: Keys,
    /// A key for the management API.
    pub admin_key: String,
}

/// One key for each product.
#[derive(Clone, Serialize, Deserialize)]
pub struct Keys {
    /// Starter.
    pub starter: String,
    /// Professional.
    pub professional: String,
    /// Enterprise.
    pub enterprise: String,
}

impl std::fmt::Debug for Card {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Card").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys([redacted])")
    }
}

/// The demo's configuration, listening here and with its data there.
///
/// # Errors
/// When the environment says something that makes no sense.
pub fn config(listen: String, data: PathBuf, environment: Environment<'_>) -> Result<Config, Problems> {
    let mut config = Config::parse(None, CONFIG, environment)?;
    config.listen = listen;
    config.data = data;
    config.database = DatabaseConfig::default(); // a demo needs no server, whatever the environment says
    Ok(config)
}

/// Makes what the demo needs and is not there yet, and writes it down. A second start finds the same keys and money.
///
/// # Errors
/// When the store or the data folder cannot be written.
pub async fn prepare(books: &Books, data: &Path, address: SocketAddr) -> Result<Card, StartError> {
    let path = data.join(CARD_FILE);
    let known = read_card(&path);
    let zone: TimeZone = ZONE.parse().unwrap_or(TimeZone::UTC);
    let tenant = seed::tenant(books, TENANT, "Demo", zone).await?;
    let mut keys = Vec::new();
    for (code, terms) in seed::products() {
        let person = format!("{} user", terms.name);
        let version = seed::product(books, code, terms).await?;
        let user = seed::user(books, tenant.id, &format!("{code}@demo.example"), &person, version.id).await?;
        let wish = KeyWish { tenant: Some(tenant.id), user: Some(user.id), ..KeyWish::new(KeyKind::Live, "demo") };
        let before = known.as_ref().and_then(|card| KeyText::parse(card.keys.of(code)));
        keys.push(seed::key(books, before, wish).await?.expose().to_owned());
    }
    let before = known.as_ref().and_then(|card| KeyText::parse(&card.admin_key));
    let admin_key = seed::key(books, before, seed::admin_wish("demo")).await?.expose().to_owned();
    let [starter, professional, enterprise] = keys.try_into().unwrap_or_default();
    let card = Card { base_url: base_url(address), keys: Keys { starter, professional, enterprise }, admin_key };
    write_card(&path, &card)?;
    Ok(card)
}

impl Keys {
    fn of(&self, code: &str) -> &str {
        match code {
            "starter" => &self.starter,
            "professional" => &self.professional,
            _ => &self.enterprise,
        }
    }
}

/// A card that cannot be read is written anew.
fn read_card(path: &Path) -> Option<Card> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn write_card(path: &Path, card: &Card) -> Result<(), StartError> {
    let written = serde_json::to_vec_pretty(card).map_err(std::io::Error::from);
    let written = written.and_then(|json| replace_private(path, &json));
    written.map_err(|source| StartError::File { path: path.into(), source })
}

/// What a client on this machine connects to.
fn base_url(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        return format!("http://127.0.0.1:{}", address.port());
    }
    format!("http://{address}")
}

/// This program as a shell in the same folder finds it.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_else(|_| "cfr-server".into());
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(&path).display().to_string()
}

impl Card {
    /// What to paste next.
    #[must_use]
    pub fn instructions(&self, data: &Path) -> String {
        let Self { base_url, keys, admin_key } = self;
        let card = data.join(CARD_FILE);
        format!(
            r#"CloudFreedom Router, demo: a built-in provider, real prices, hard budgets.

  address   {base_url}
  keys      {card} (starter, professional, enterprise, admin)

Paste into another terminal:

  curl -s {base_url}/v1/chat/completions \
    -H 'authorization: Bearer {starter}' -H 'content-type: application/json' \
    -d '{{"model":"gpt-5.4-mini","messages":[{{"role":"user","content":"Say hello."}}]}}'

With the OpenAI SDK for Python:

  from openai import OpenAI
  client = OpenAI(base_url="{base_url}/v1", api_key="{starter}")
  for chunk in client.chat.completions.create(
      model="gpt-5.4-mini", messages=[{{"role": "user", "content": "Say hello."}}], stream=True
  ):
      print(chunk.choices[0].delta.content or "", end="", flush=True)

What is left of the budget:

  {program} budget show starter@demo.example --server {base_url} --admin-key {admin_key}

Ctrl-C stops it. Starting it again continues with the same money and the same keys.
"#,
            card = card.display(),
            program = program(),
            starter = keys.starter,
        )
    }
}
