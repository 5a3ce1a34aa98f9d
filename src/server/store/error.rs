//! What can go wrong with the store, one line each.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use rusqlite::{ErrorCode, ffi};

use super::schema::VERSION;

/// Why the store cannot be used; one line each, naming the file.
#[derive(Debug)]
pub enum OpenError {
    /// Another server or program has it.
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be created, written or locked.
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What the system or SQLite says.
        reason: String,
    },
    /// It is no database, or a broken one; it was left as it is.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// It is a database, but not one of this server.
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer server wrote it.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: i64,
    },
    /// This program was built with an SQLite that may damage files.
    OldSqlite,
}

impl OpenError {
    pub(super) fn from_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::InUse { path },
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::Unknown) => {
                Self::Damaged { path, reason: reason(error) }
            }
            Some(_) => Self::NotWritable { path, reason: reason(error) },
            // A value of the wrong type, or a missing row: somebody changed the file.
            None => Self::Damaged { path, reason: reason(error) },
        }
    }

    pub(super) fn from_io(path: &Path, error: &io::Error) -> Self {
        Self::NotWritable { path: path.to_owned(), reason: error.to_string() }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path } => write!(f, "{}: in use by another server or program", path.display()),
            Self::NotWritable { path, reason } => write!(f, "{}: not writable: {reason}", path.display()),
            Self::Damaged { path, reason } => write!(f, "{} is damaged ({reason})", path.display()),
            Self::Foreign { path } => write!(f, "{}: the database of another program", path.display()),
            Self::Newer { path, version } => {
                let path = path.display();
                write!(f, "{path}: written by a newer server: version {version}, known up to {VERSION}")
            }
            Self::OldSqlite => write!(f, "SQLite {} may damage files; 3.51.3 or later is needed", rusqlite::version()),
        }
    }
}

impl std::error::Error for OpenError {}

/// Why something could not be stored or read; one line.
#[derive(Debug)]
pub enum StoreError {
    /// SQLite says no.
    Sqlite(rusqlite::Error),
    /// A message number that SQLite cannot hold.
    NumberTooBig(u64),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(error) => f.write_str(&reason(error)),
            Self::NumberTooBig(number) => write!(f, "message number {number} is too big"),
        }
    }
}

impl std::error::Error for StoreError {}

/// One line, with SQLite's own code: the words alone do not tell a failed write from a failed sync.
pub(super) fn reason(error: &rusqlite::Error) -> String {
    let line = error.to_string().replace(['\n', '\r'], " ");
    match error.sqlite_error() {
        // SQLite calls this an I/O error, and nothing more.
        Some(failure) if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => {
            format!("no room for the index of its log, the disk is full (SQLite code {})", failure.extended_code)
        }
        Some(failure) => format!("{line} (SQLite code {})", failure.extended_code),
        None => line,
    }
}
