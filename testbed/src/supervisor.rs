//! A server and the shell that ends it with us.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::place;

const SCRIPT: &str = include_str!("supervisor.sh");

/// How long a server may take to start, on a machine that is busy with other tests.
const START_WAIT: Duration = Duration::from_secs(120);
/// How often a server that starts is asked whether it is ready: it has no way to tell.
const READY_POLL: Duration = Duration::from_millis(20);
/// Lines of a server's log that a failure shows.
const LOG_LINES_SHOWN: usize = 20;

/// Runs a server. Dropping it, or the end of this process, ends the server and deletes its folder.
#[derive(Debug)]
pub(crate) struct Supervisor {
    name: &'static str,
    folder: PathBuf,
    shell: Mutex<Shell>,
}

#[derive(Debug)]
struct Shell {
    child: Child,
    /// None once the shell was told to end.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// A server to run.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) folder: PathBuf,
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// The signal that ends it at once.
    pub(crate) last_signal: &'static str,
}

impl Supervisor {
    /// Starts the shell, not yet the server.
    pub(crate) fn new(program: Program) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "supervisor"]).arg(&program.folder).arg(program.last_signal).args(&program.command);
        // A group of its own: an interrupt on the terminal ends the tests, and then the pipe ends this.
        command.current_dir(&program.folder).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(user) = place::user() {
            command.uid(user.uid).gid(user.gid);
        }
        let mut child = command.spawn().expect("a shell starts");
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        Self { name: program.name, folder: program.folder, shell: Mutex::new(Shell { child, orders, answers }) }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts the server and waits until it is ready. False when it ended at once, as it does on a port that is taken.
    pub(crate) fn start(&self, ready: impl Fn() -> bool) -> bool {
        self.order("start");
        for _ in 0..START_WAIT.as_millis() / READY_POLL.as_millis() {
            if ready() {
                return true;
            }
            if self.order("alive") == "no" {
                return false;
            }
            std::thread::sleep(READY_POLL);
        }
        panic!("{} did not start within {START_WAIT:?}:\n{}", self.name, self.log());
    }

    /// Starts a server that ran before.
    pub(crate) fn start_again(&self, ready: impl Fn() -> bool) {
        assert!(self.start(ready), "{} ended while it started:\n{}", self.name, self.log());
    }

    /// Sends a signal and waits until the server has ended.
    pub(crate) fn stop(&self, signal: &str) {
        self.order(&format!("stop {signal}"));
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        self.order(&format!("signal {signal}"));
    }

    /// The end of what the server wrote.
    pub(crate) fn log(&self) -> String {
        let file = File::open(self.folder.join("log")).map(BufReader::new);
        let lines: Vec<_> = file.into_iter().flat_map(BufRead::lines).map_while(Result::ok).collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    fn order(&self, order: &str) -> String {
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = shell.orders.as_mut().expect("the shell ends only with its handle");
        orders.write_all(format!("{order}\n").as_bytes()).expect("the supervising shell reads");
        let mut answer = String::new();
        shell.answers.read_line(&mut answer).expect("the supervising shell answers");
        answer.trim_end().to_owned()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let shell = self.shell.get_mut().unwrap_or_else(PoisonError::into_inner);
        shell.orders = None;
        let _gone_anyway = shell.child.wait();
    }
}
