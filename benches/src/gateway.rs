//! The gateway under test: its configuration, its caller, its process.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::Failure;
use crate::process::Pinned;

/// What the hold's commit may delay.
pub const DURABILITIES: [&str; 3] = ["overlap", "strict", "relaxed"];

/// The gateway's binary, from the environment or where a release build puts it.
#[must_use]
pub fn binary() -> Option<OsString> {
    let built = PathBuf::from("target/release/cfr-server");
    std::env::var_os("CFR_SERVER_BIN").or_else(|| built.is_file().then(|| built.into_os_string()))
}

/// A prepared gateway: a data folder with a caller in it, and a configuration that names the provider.
#[derive(Debug)]
pub struct Gateway {}

impl Gateway {
    pub fn prepare(_server: &OsString, _provider: SocketAddr, _durability: &'static str) -> Result<Self, Failure> {
        Err("not yet".into())
    }
    pub fn start(&self, _core: u32) -> Result<Pinned, Failure> {
        Err("not yet".into())
    }
    pub fn key(&self) -> &str {
        ""
    }
    pub fn name(&self) -> &'static str {
        ""
    }
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }
    pub fn time_to_ready(&self, _core: u32) -> Result<u64, Failure> {
        Err("not yet".into())
    }
    pub fn time_to_ready_on_a_new_file(&self, _core: u32) -> Result<u64, Failure> {
        Err("not yet".into())
    }
}
