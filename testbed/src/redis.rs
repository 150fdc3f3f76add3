//! A private Redis server.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;

use tokio::process::Command;

use crate::place;
use crate::postgres::blocking;
use crate::supervisor::{Program, Supervisor};

const PACKAGE: &str = "redis-server";
/// Ports that are tried before starting is given up.
const START_ATTEMPTS_MAX: u32 = 8;

/// A server that keeps nothing on disk. Dropping it stops it.
#[derive(Debug, Clone)]
pub struct Redis {
    server: Arc<Supervisor>,
    port: u16,
}

impl Redis {
    /// A server of one's own.
    pub async fn start() -> Self {
        blocking(Self::start_now).await
    }

    fn start_now() -> Self {
        let mut log = String::new();
        for _ in 0..START_ATTEMPTS_MAX {
            let port = place::free_port();
            let server = Supervisor::new(program(port));
            if server.start(|| answers(port)) {
                return Self { server: Arc::new(server), port };
            }
            log = server.log();
        }
        panic!("redis does not start:\n{log}");
    }

    /// Its address, as in `redis://127.0.0.1:20001`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where the server listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs one command through `redis-cli` and returns what it prints.
    ///
    /// # Panics
    /// When the server cannot be reached or refuses the command.
    pub async fn command(&self, words: &[&str]) -> String {
        let mut command = Command::new(place::program("redis-cli", "redis-tools"));
        command.args(["-e", "-h", "127.0.0.1", "-p", &self.port.to_string()]).args(words).kill_on_drop(true);
        let output = command.output().await.expect("redis-cli runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let (answer, complaint) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "redis refused {words:?}: {answer} {complaint}");
        answer
    }

    /// Kills the server: everything that it knew is gone.
    pub async fn stop(&self) {
        let server = Arc::clone(&self.server);
        blocking(move || server.stop("KILL")).await;
    }

    /// Starts the server again, empty and on the same port.
    pub async fn start_again(&self) {
        let (server, port) = (Arc::clone(&self.server), self.port);
        blocking(move || server.start_again(|| answers(port))).await;
    }

    /// Sends a signal to the server, as in `STOP`.
    pub async fn signal(&self, signal: &'static str) {
        let server = Arc::clone(&self.server);
        blocking(move || server.signal(signal)).await;
    }
}

fn program(port: u16) -> Program {
    let folder = place::folder("redis");
    let server = place::program("redis-server", PACKAGE).to_string_lossy().into_owned();
    let mut command = vec![server];
    let settings = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no", "--databases", "4"];
    command.extend(settings.map(str::to_owned));
    command.extend(["--port".to_owned(), port.to_string()]);
    Program { name: "redis", folder, command, last_signal: "KILL" }
}

fn answers(port: u16) -> bool {
    let ping = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).map(|()| answer)
    };
    ping().is_ok_and(|answer| &answer == b"+PONG")
}
