//! A private Postgres server.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::place;
use crate::supervisor::{Program, Supervisor};

const PACKAGE: &str = "postgresql";
const HOST: &str = "127.0.0.1";
/// Who owns everything; comes in without a password, as every role that is not a member of [`NEEDS_PASSWORD`].
const OWNER: &str = "postgres";
/// Ports that are tried before starting is given up.
const START_ATTEMPTS_MAX: u32 = 8;

/// Members of a role of this name must give their password. A test creates it where it needs one.
pub const NEEDS_PASSWORD: &str = "needs_password";

/// What makes a server small. It is as durable as a large one.
const SETTINGS: [&str; 7] = [
    "shared_buffers=32MB",
    "max_connections=100",
    "max_wal_size=256MB",
    "min_wal_size=32MB",
    "max_worker_processes=2",
    "autovacuum_max_workers=1",
    "log_min_messages=warning",
];

/// Makes the data folder when there is none, then becomes the server.
const RUN: &str = r#"
initdb=$1 data=$2
shift 2
if [ ! -s "$data/PG_VERSION" ]; then
    "$initdb" --auth=trust --username=postgres --encoding=UTF8 --locale=C --no-sync --no-instructions -D "$data" &&
        printf '%s\n' 'host all +needs_password all scram-sha-256' 'local all all trust' 'host all all all trust' \
            >"$data/pg_hba.conf" || exit
fi
exec "$@"
"#;

/// A server with a data folder of its own. Dropping it stops it and deletes the data.
#[derive(Debug, Clone)]
pub struct Postgres {
    server: Arc<Supervisor>,
    port: u16,
    databases: Arc<AtomicU32>,
}

impl Postgres {
    /// A server of one's own, to stop and to crash.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A server with more settings, as in `max_connections=20`.
    pub async fn start_with(settings: &[&str]) -> Self {
        let settings: Vec<String> = SETTINGS.iter().chain(settings).map(|&setting| setting.to_owned()).collect();
        blocking(move || Self::start_now(&settings)).await
    }

    /// The server that the tests of this process share.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    fn start_now(settings: &[String]) -> Self {
        let mut log = String::new();
        for _ in 0..START_ATTEMPTS_MAX {
            let port = place::free_port();
            let server = Supervisor::new(program(port, settings));
            if server.start(|| is_ready(server.folder())) {
                return Self { server: Arc::new(server), port, databases: Arc::default() };
            }
            log = server.log();
        }
        panic!("postgres does not start:\n{log}");
    }

    /// The address of a fresh, empty database.
    pub async fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed) + 1);
        self.execute(&self.url("postgres"), &format!("CREATE DATABASE {name}")).await;
        self.url(&name)
    }

    /// The address of a database, for the owner of everything.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{OWNER}@{HOST}:{}/{database}", self.port)
    }

    /// Where the server listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its unix socket.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        self.server.folder()
    }

    /// Runs SQL through `psql` and returns the rows, one a line, columns parted by `|`.
    ///
    /// # Panics
    /// When the SQL fails, with the message of the server.
    pub async fn execute(&self, database_url: &str, sql: &str) -> String {
        match self.try_execute(database_url, sql).await {
            Ok(rows) => rows,
            Err(message) => panic!("{sql}: {message}"),
        }
    }

    /// As [`execute`](Self::execute), for SQL that may fail.
    ///
    /// # Errors
    /// The message of the server.
    pub async fn try_execute(&self, database_url: &str, sql: &str) -> Result<String, String> {
        let mut command = Command::new(place::program("psql", PACKAGE));
        command.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", database_url]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut psql = command.spawn().expect("psql starts");
        let mut input = psql.stdin.take().expect("its input is a pipe");
        let _ended_early = input.write_all(sql.as_bytes()).await; // then its exit status says why
        drop(input);
        let output = psql.wait_with_output().await.expect("psql ends");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// Loses everything that is only in memory, as a crash does, and comes back.
    pub async fn restart_immediate(&self) {
        self.crash().await;
        self.start_again().await;
    }

    /// Ends the server without a checkpoint and without a word to its clients.
    pub async fn crash(&self) {
        self.order(|server| server.stop("QUIT")).await;
    }

    /// Stops the server in good order; open connections are closed.
    pub async fn stop(&self) {
        self.order(|server| server.stop("INT")).await;
    }

    /// Starts the server again, on the same port and with the same data.
    pub async fn start_again(&self) {
        self.order(|server| server.start_again(|| is_ready(server.folder()))).await;
    }

    /// Sends a signal to the first process of the server, as in `STOP`.
    pub async fn signal(&self, signal: &'static str) {
        self.order(move |server| server.signal(signal)).await;
    }

    /// Takes all space from the server, as a full disk does: none of its processes can make a file longer. A server ends
    /// when it cannot write its log; when it is started again it has space.
    pub async fn take_space(&self) {
        let first = *self.pids().first().expect("the server runs");
        assert!(limit_files(first).await, "prlimit refuses to limit the files of the server");
        for child in children(first) {
            let _ended_meanwhile = limit_files(child).await; // those that start from now on have the limit of the first
        }
    }

    /// The processes of the server, the first one first.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let Some(first) = pid_line(self.server.folder(), 0).and_then(|line| line.parse().ok()) else {
            return Vec::new();
        };
        std::iter::once(first).chain(children(first)).collect()
    }

    async fn order(&self, order: impl FnOnce(&Supervisor) + Send + 'static) {
        let server = Arc::clone(&self.server);
        blocking(move || order(&server)).await;
    }
}

fn program(port: u16, settings: &[String]) -> Program {
    let folder = place::folder("postgres");
    let path = |path: PathBuf| path.to_string_lossy().into_owned();
    let (initdb, postgres) = (place::program("initdb", PACKAGE), place::program("postgres", PACKAGE));
    let data = path(folder.join("data"));
    let mut command: Vec<String> = ["/bin/sh", "-c", RUN, "run"].map(str::to_owned).into();
    command.extend([path(initdb), data.clone(), path(postgres), "-D".to_owned(), data]);
    let mut sockets = String::from("unix_socket_directories=");
    write!(sockets, "{}", folder.display()).expect("a string grows");
    let places = [format!("port={port}"), format!("listen_addresses={HOST}"), sockets];
    for setting in places.iter().chain(settings) {
        command.extend(["-c".to_owned(), setting.clone()]);
    }
    // QUIT: an immediate shutdown, that also ends the processes of connections.
    Program { name: "postgres", folder, command, last_signal: "QUIT" }
}

/// The server writes its state into the last line of its lock file.
fn is_ready(folder: &Path) -> bool {
    pid_line(folder, 7).is_some_and(|line| line.trim() == "ready")
}

fn pid_line(folder: &Path, line: usize) -> Option<String> {
    let text = std::fs::read_to_string(folder.join("data/postmaster.pid")).ok()?;
    text.lines().nth(line).map(str::to_owned)
}

/// Whoever has the same user may lower the limit.
async fn limit_files(process: u32) -> bool {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &process.to_string(), "--fsize=1:unlimited"]);
    if let Some(user) = place::user() {
        command.uid(user.uid).gid(user.gid);
    }
    command.status().await.expect("prlimit runs").success()
}

/// The processes that have this parent.
fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| parent_of(pid) == Some(parent)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_name, fields) = stat.rsplit_once(") ")?; // a name may have spaces
    fields.split(' ').nth(1)?.parse().ok()
}

/// Runs what waits for a server beside the test's own tasks.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
