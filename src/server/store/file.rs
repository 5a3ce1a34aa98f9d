//! Where the store is on the disk, and that one server at a time has it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::OpenError;

/// The same file by every path, so that links do not lead around the lock.
///
/// Absolute, because SQLite would take a name like `file:x` or `:memory:` for something else.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(name) = path.file_name() else { return Err(error) };
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Ok(fs::canonicalize(dir)?.join(name))
        }
        result => result,
    }
}

/// A file that belongs to the store and has its name, and more.
pub(super) fn beside(real: &Path, more: &str) -> PathBuf {
    let mut path = real.as_os_str().to_owned();
    path.push(more);
    path.into()
}

/// Where the store really is, and the lock that makes it ours.
pub(super) fn claim(path: &Path) -> Result<(PathBuf, File), OpenError> {
    let real = real_path(path).map_err(|error| OpenError::from_io(path, &error))?;
    let lock = lock(&real).map_err(|error| match error {
        TryLockError::WouldBlock => OpenError::InUse { path: path.to_owned() },
        TryLockError::Error(error) => OpenError::from_io(path, &error),
    })?;
    Ok((real, lock))
}

/// Locks a file beside the store: one on the store itself would disturb SQLite's own locks.
fn lock(real: &Path) -> Result<File, TryLockError> {
    let file = open_private(&beside(real, ".lock")).map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

/// Opens for writing, and creates with no rights for others; SQLite gives its side files the same.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}
