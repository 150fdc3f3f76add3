//! One process owns the file: a lock file beside it, which also tells whether the last owner left in good order.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::open::OpenError;

/// The lock. It is held until it is dropped; [`FileLock::left_in_good_order`] is for the next owner to see.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
    /// What the owner before left in it.
    before: String,
    /// The owner before did not say goodbye: it crashed, was killed, or the machine lost power.
    pub(crate) unclean: bool,
}

impl FileLock {
    /// Takes the lock of a database and writes our process id into it.
    pub(crate) fn take(database: &Path) -> Result<Self, OpenError> {
        let path = lock_path(database);
        let refused = |source| OpenError::LockFile { path: path.clone(), source };
        let mut file = open(&path).map_err(refused)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(database, &mut file)),
            Err(TryLockError::Error(source)) => return Err(refused(source)),
        }
        let before = read(&mut file).map_err(refused)?;
        let unclean = !before.is_empty();
        write(&mut file, &std::process::id().to_string()).map_err(refused)?;
        Ok(Self { file, before, unclean })
    }

    /// Leaves word that everything was written and closed.
    pub(crate) fn left_in_good_order(mut self) -> io::Result<()> {
        write(&mut self.file, "")
    }

    /// Leaves the word of the owner before, for whoever wrote nothing.
    pub(crate) fn left_as_found(mut self) -> io::Result<()> {
        let before = std::mem::take(&mut self.before);
        write(&mut self.file, &before)
    }
}

/// Unlocked by name and not by closing: a child process that was just forked may still have the file open.
impl Drop for FileLock {
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the database's lock file was not unlocked");
        }
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn in_use(database: &Path, file: &mut File) -> OpenError {
    let holder = read(file).unwrap_or_default();
    let holder = if holder.is_empty() { "unknown".to_owned() } else { holder };
    OpenError::InUse { path: database.to_owned(), holder }
}

fn read(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

/// Synced: after a power loss the next owner must still see it.
fn write(file: &mut File, text: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
