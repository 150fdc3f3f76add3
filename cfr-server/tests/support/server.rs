//! The server as a process of its own, so that it can be killed.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::client::{Client, expect_status};

/// A server that is not ready after this long is broken.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// A server that has not stopped after this long is broken.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The binary under test.
pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_cfr-server"))
}

/// A running server. Dropping it kills it; when the test fails, its log is shown.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    reader: JoinSet<()>,
}

impl Server {
    /// Starts the binary with these arguments and waits until it is ready. It must listen on a port of its choice.
    pub async fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_through(&[], arguments, environment).await
    }

    /// The same through a program that becomes the server, such as `env`.
    pub async fn start_through(program: &[&str], arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let words = program.iter().map(Into::into).chain([binary().into_os_string()]);
        let words: Vec<OsString> = words.chain(arguments.iter().map(Into::into)).collect();
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .envs(environment.iter().copied())
            .env("CFR_LOG_FORMAT", "text")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (announce, announced) = oneshot::channel();
        let mut reader = JoinSet::new();
        reader.spawn(read_log(child.stderr.take().expect("piped"), log.clone(), announce));
        let announced = tokio::time::timeout(START_TIMEOUT, announced).await;
        let Ok(Ok(address)) = announced else {
            panic!("the server does not listen:\n{}", log.lock().expect("no panic"));
        };
        let server = Self { child, address, log, reader };
        expect_status(&server.client("").get("/health/ready").await, http::StatusCode::OK);
        server
    }

    /// A client with a key.
    pub fn client(&self, key: &str) -> Client {
        Client::new(self.address, key)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends a signal to it, as in `STOP`.
    pub async fn signal(&self, name: &str) {
        let id = self.pid().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), id.as_str()]).status().await.expect("kill");
        assert!(sent.success(), "the server had ended already");
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    /// Ends it as a power cut of the process would: at once and without a word.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it runs");
    }

    /// Asks it to end, and waits until it has drained.
    pub async fn stop(mut self) {
        self.signal("TERM").await;
        let ended = tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await.expect("it drains in time");
        assert_eq!(ended.ok().and_then(|status: ExitStatus| status.code()), Some(0), "a clean end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.reader.abort_all();
        if std::thread::panicking() {
            eprintln!("--- log of the server ---\n{}", self.log.lock().expect("no panic"));
        }
    }
}

/// Keeps the log, and reports the address from the line that names it.
async fn read_log(errors: ChildStderr, log: Arc<Mutex<String>>, announce: oneshot::Sender<SocketAddr>) {
    let mut announce = Some(announce);
    let mut lines = BufReader::new(errors).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = line.split_once("listening address=").and_then(|(_, rest)| rest.trim().parse().ok()) {
            let _ = announce.take().map(|announce| announce.send(address));
        }
        let mut log = log.lock().expect("no panic");
        log.push_str(&line);
        log.push('\n');
    }
}
