//! The gateway under test: its configuration, its caller, its process.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use cfr_core::time::{Clock as _, SystemClock};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tempfile::TempDir;

use crate::Failure;
use crate::body::MODEL;
use crate::process::Pinned;

/// What the hold's commit may delay, with the name in tables.
pub const DURABILITIES: [(&str, &str); 3] =
    [("overlap", "cfr overlap"), ("strict", "cfr strict"), ("relaxed", "cfr relaxed")];

/// The caller, on a path of three budgets: the user's, the tenant's and the product's.
const USER: &str = "bench@example.org";
/// A server that is not ready after this long is broken.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// The gateway's binary, from the environment or where a release build puts it.
#[must_use]
pub fn binary() -> Option<OsString> {
    let built = PathBuf::from("target/release/cfr-server");
    std::env::var_os("CFR_SERVER_BIN").or_else(|| built.is_file().then(|| built.into_os_string()))
}

/// A data folder with a caller in it, and a configuration that names the provider.
#[derive(Debug)]
pub struct Gateway {
    server: OsString,
    name: &'static str,
    address: SocketAddr,
    folder: TempDir,
    key: String,
}

impl Gateway {
    /// Writes the configuration and makes a caller.
    ///
    /// # Errors
    /// When the folder cannot be written, or a management command of the binary fails.
    pub fn prepare(server: &OsStr, provider: SocketAddr, durability: (&str, &'static str)) -> Result<Self, Failure> {
        let folder = TempDir::new()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?; // free now, and soon taken by the gateway
        let (mode, name) = durability;
        fs::write(folder.path().join("cfr.toml"), config(address, provider, mode))?;
        let mut gateway = Self { server: server.to_owned(), name, address, folder, key: String::new() };
        gateway.key = gateway.make_caller()?;
        Ok(gateway)
    }

    /// Starts the server on a core and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start or does not become ready.
    pub fn start(&self, core: u32) -> Result<Pinned, Failure> {
        self.start_on(core, self.folder.path().join("data")).map(|(process, _)| process)
    }

    /// Microseconds from the start of the process to its readiness, on the file that it has.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub fn time_to_ready(&self, core: u32) -> Result<u64, Failure> {
        let (process, took_us) = self.start_on(core, self.folder.path().join("data"))?;
        process.stop()?; // in good order, so that the next start has nothing to check
        Ok(took_us)
    }

    /// The same in an empty folder.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub fn time_to_ready_on_a_new_file(&self, core: u32) -> Result<u64, Failure> {
        let empty = TempDir::new()?;
        self.start_on(core, empty.path().join("data")).map(|(_, took_us)| took_us)
    }

    /// What the caller sends.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The name in tables.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    fn start_on(&self, core: u32, data: PathBuf) -> Result<(Pinned, u64), Failure> {
        let config = self.folder.path().join("cfr.toml");
        let arguments =
            ["serve".as_ref(), "--config".as_ref(), config.as_os_str(), "--data".as_ref(), data.as_os_str()];
        let clock = SystemClock::new();
        let mut process = Pinned::spawn(core, &self.server, &arguments)?;
        while !is_ready(self.address)? {
            process.ensure_running()?;
            if clock.uptime() > READY_TIMEOUT {
                return Err("the server does not become ready".into());
            }
        }
        Ok((process, u64::try_from(clock.uptime().as_micros())?))
    }

    fn make_caller(&self) -> Result<String, Failure> {
        let limit = ["--limit", "1000000"];
        let terms = ["--name", "bench", "--price", "0", "--budget", "1000000", "--confirm-loss"];
        self.run(&["migrate"])?;
        self.manage(&["tenant", "create", "bench"], &[])?;
        self.manage(&["product", "create", "bench"], &terms)?;
        self.manage(&["user", "create", USER], &["--tenant", "bench", "--product", "bench"])?;
        self.manage(&["budget", "create", "--scope", "tenant", "--subject", "bench"], &limit)?;
        self.manage(&["budget", "create", "--scope", "product", "--subject", "bench"], &limit)?;
        let key = self.manage(&["key", "create", "bench"], &["--user", USER])?;
        Ok(key["secret"].as_str().ok_or("a key without a secret")?.to_owned())
    }

    /// Runs a management command and reads its answer.
    fn manage(&self, words: &[&str], options: &[&str]) -> Result<Value, Failure> {
        Ok(serde_json::from_slice(&self.run(&[words, options, &["--json"]].concat())?)?)
    }

    /// Runs the binary on the data folder.
    fn run(&self, words: &[&str]) -> Result<Vec<u8>, Failure> {
        let data = self.folder.path().join("data");
        let output = Command::new(&self.server).args(words).arg("--data").arg(data).output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(format!("cfr-server {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr)).into())
    }
}

fn config(address: SocketAddr, provider: SocketAddr, durability: &str) -> String {
    format!(
        r#"listen = "{address}"

[money]
fx_usd_per_unit = "1.16"

[ledger]
durability = "{durability}"

[[upstream]]
name = "mock"
kind = "openai-compatible"
base_url = "http://{provider}/v1"
provider = "openai"
expose = false

[[model]]
name = "{MODEL}"
targets = [{{ upstream = "mock", model = "{MODEL}" }}]
"#
    )
}

/// Asks once. A server that does not listen yet is not ready.
fn is_ready(address: SocketAddr) -> Result<bool, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request = Request::get(format!("http://{address}/health/ready")).body(Full::<Bytes>::default())?;
    Ok(runtime.block_on(async {
        let client = Client::builder(TokioExecutor::new()).build_http();
        match client.request(request).await {
            Ok(response) => response.status() == 200 && response.into_body().collect().await.is_ok(),
            Err(_) => false,
        }
    }))
}
