//! A connection pool in front of a Postgres.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;

use crate::place;
use crate::postgres::{Postgres, blocking};
use crate::supervisor::{Program, Supervisor};

const PACKAGE: &str = "pgbouncer";
/// Ports that are tried before starting is given up.
const START_ATTEMPTS_MAX: u32 = 8;
/// Server connections per database and user.
const POOL_CONNECTIONS: u32 = 8;
/// How long a server connection outlives its use: every test has a database of its own, and so a pool of its own.
const IDLE_SECONDS: u32 = 2;

/// How long a client keeps a server connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolMode {
    /// Until it disconnects.
    Session,
    /// Until its transaction ends.
    Transaction,
}

impl PoolMode {
    const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
        }
    }
}

/// A PgBouncer that lets every role of its Postgres in. Dropping it stops it.
#[derive(Debug, Clone)]
pub struct PgBouncer {
    server: Arc<Supervisor>,
    port: u16,
}

impl PgBouncer {
    /// Starts a pool before a server.
    pub async fn start(postgres: &Postgres, mode: PoolMode) -> Self {
        let postgres_port = postgres.port();
        blocking(move || Self::start_now(postgres_port, mode)).await
    }

    fn start_now(postgres_port: u16, mode: PoolMode) -> Self {
        let mut log = String::new();
        for _ in 0..START_ATTEMPTS_MAX {
            let port = place::free_port();
            let server = Supervisor::new(program(port, postgres_port, mode));
            if server.start(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()) {
                return Self { server: Arc::new(server), port };
            }
            log = server.log();
        }
        panic!("pgbouncer does not start:\n{log}");
    }

    /// The address of a database through the pool.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Where the pool listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends the pool and every connection through it.
    pub async fn stop(&self) {
        let server = Arc::clone(&self.server);
        blocking(move || server.stop("KILL")).await;
    }
}

fn program(port: u16, postgres_port: u16, mode: PoolMode) -> Program {
    let folder = place::folder("pgbouncer");
    let users = folder.join("users");
    place::write(&users, "\"postgres\" \"\"\n");
    let settings = [
        "[databases]".to_owned(),
        format!("* = host=127.0.0.1 port={postgres_port} auth_user=postgres"),
        "[pgbouncer]".to_owned(),
        "listen_addr = 127.0.0.1".to_owned(),
        format!("listen_port = {port}"),
        "unix_socket_dir =".to_owned(),
        format!("pool_mode = {}", mode.name()),
        format!("default_pool_size = {POOL_CONNECTIONS}"),
        "max_client_conn = 200".to_owned(),
        format!("server_idle_timeout = {IDLE_SECONDS}"),
        "auth_type = trust".to_owned(),
        format!("auth_file = {}", users.display()),
        "ignore_startup_parameters = extra_float_digits".to_owned(),
    ];
    let file = folder.join("pgbouncer.ini");
    place::write(&file, &settings.join("\n"));
    let command = [place::program("pgbouncer", PACKAGE), file].map(|path| path.to_string_lossy().into_owned());
    Program { name: "pgbouncer", folder, command: command.into(), last_signal: "KILL" }
}
