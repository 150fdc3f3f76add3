//! Processes on one core each, and what they cost by the kernel's own books.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Failure;

/// The unit of times in `/proc/PID/stat`: Linux shows a hundred to the second on every machine.
const TICK: Duration = Duration::from_millis(10);

/// Binds this process to a core; children choose their own.
///
/// # Errors
/// When `taskset` fails.
pub fn bind_this_process(core: u32) -> Result<(), Failure> {
    let own = std::process::id().to_string();
    let arguments = ["--cpu-list", "--pid", &core.to_string(), &own];
    let bound = Command::new("taskset").args(arguments).stdout(Stdio::null()).status()?;
    if bound.success() { Ok(()) } else { Err("taskset refuses the core".into()) }
}

/// A child process that is bound to a core, and killed when it is dropped.
#[derive(Debug)]
pub struct Pinned {
    child: Child,
}

impl Pinned {
    /// Starts a program on a core. What it prints on standard error is shown.
    ///
    /// # Errors
    /// When `taskset` or the program cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(core: u32, program: &OsStr, arguments: &[S]) -> Result<Self, Failure> {
        Self::spawn_with(core, program, arguments, Stdio::null())
    }

    /// Starts a program that prints the address that it listens on as its first line.
    ///
    /// # Errors
    /// When it cannot be started, or prints something else.
    pub fn spawn_listening<S: AsRef<OsStr>>(
        core: u32,
        program: &OsStr,
        arguments: &[S],
    ) -> Result<(Self, SocketAddr), Failure> {
        let mut process = Self::spawn_with(core, program, arguments, Stdio::piped())?;
        let output = process.child.stdout.take().ok_or("no standard output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| format!("expected an address, got `{}`", line.trim()))?;
        Ok((process, address))
    }

    fn spawn_with<S: AsRef<OsStr>>(
        core: u32,
        program: &OsStr,
        arguments: &[S],
        output: Stdio,
    ) -> Result<Self, Failure> {
        let child = Command::new("taskset")
            .args(["--cpu-list", &core.to_string()])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output)
            .spawn()
            .map_err(|error| format!("taskset (of util-linux) does not start: {error}"))?;
        Ok(Self { child })
    }

    /// Processor time that all its threads have used, dead ones included.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu(&self) -> Result<Duration, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let ticks = cpu_ticks(&stat).ok_or("a /proc/PID/stat of another kind")?;
        Ok(TICK * ticks)
    }

    /// Memory that is resident, in KiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident_kib(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        Ok(status_kib(&status, "VmRSS:").ok_or("a /proc/PID/status of another kind")?)
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    /// When it does not end with success.
    pub fn stop(mut self) -> Result<(), Failure> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the process ended with {status}").into()) }
    }

    /// Whether it still runs; the exit status when it does not.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub fn ensure_running(&mut self) -> Result<(), Failure> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("the process ended too early: {status}").into()),
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time: the 14th and 15th field, counted after the name, which may itself hold blanks and brackets.
fn cpu_ticks(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

fn status_kib(status: &str, field: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(field))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_a_name_with_brackets() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 3 0 100 1 2";
        assert_eq!(cpu_ticks(stat), Some(175));
    }

    #[test]
    fn memory_is_read_from_its_own_line() {
        assert_eq!(status_kib("Name:\tx\nVmHWM:\t 99 kB\nVmRSS:\t    1234 kB\n", "VmRSS:"), Some(1234));
    }
}
