//! What commands print. A reader that has seen enough, as `head` has, is no failure.

use std::io::{self, ErrorKind, Write};

/// Prints a text as it is.
///
/// # Errors
/// When it cannot be written although somebody reads.
pub fn print(text: &str) -> io::Result<()> {
    write(io::stdout().lock(), text)
}

/// Prints a line beside the output proper.
///
/// # Errors
/// When it cannot be written although somebody reads.
pub fn remark(line: &str) -> io::Result<()> {
    write(io::stderr().lock(), &format!("{line}\n"))
}

fn write(mut out: impl Write, text: &str) -> io::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
