//! The state folder: which messages have been shown, and what was typed before.
//!
//! One file per store and user, and one history per user: two clients with different users
//! share the folder without touching each other's files. Passwords never come here.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::state::Reader;

/// Lines of history that are kept.
pub(super) const HISTORY_LINES_MAX: usize = 1000;

/// The state folder; without one, nothing is remembered.
#[derive(Debug, Clone)]
pub struct Memory {
    folder: Option<PathBuf>,
}

impl Memory {
    /// Uses `folder`, made if need be.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self { folder: Some(folder.to_owned()) })
    }

    /// Remembers nothing.
    pub fn none() -> Self {
        Self { folder: None }
    }

    /// Where the folder is unless another is asked for.
    pub fn default_folder() -> Option<PathBuf> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
        base.map(|base| base.join("chinwag"))
    }

    /// The highest number that was shown; 0 if nothing is known.
    pub(super) fn shown(&self, reader: &Reader) -> u64 {
        let Some(path) = self.shown_file(reader) else { return 0 };
        fs::read_to_string(path).ok().and_then(|text| text.trim_end().parse().ok()).unwrap_or(0)
    }

    /// Keeps the highest number that was shown. The file holds the old or the new number,
    /// whenever the program ends.
    pub(super) fn keep_shown(&self, reader: &Reader, number: u64) -> io::Result<()> {
        let Some(path) = self.shown_file(reader) else { return Ok(()) };
        let fresh = path.with_extension(format!("{}", std::process::id()));
        let mut file = private(OpenOptions::new().write(true).create(true).truncate(true), &fresh)?;
        writeln!(file, "{number}")?;
        fs::rename(&fresh, &path)
    }

    /// What this user typed in earlier runs, oldest first.
    pub(super) fn history(&self, user: &str) -> Vec<String> {
        let Some(path) = self.file("history", user) else { return Vec::new() };
        let text = fs::read(&path).unwrap_or_default();
        let lines: Vec<String> = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
        let kept = lines[lines.len().saturating_sub(HISTORY_LINES_MAX)..].to_vec();
        if lines.len() > 2 * HISTORY_LINES_MAX {
            // A history that cannot be shortened now will be next time.
            let _ = shorten(&path, &kept);
        }
        kept
    }

    /// Adds a line to the history of this user.
    pub(super) fn keep_line(&self, user: &str, line: &str) -> io::Result<()> {
        let Some(path) = self.file("history", user) else { return Ok(()) };
        let mut file = private(OpenOptions::new().append(true).create(true), &path)?;
        file.write_all(format!("{line}\n").as_bytes())
    }

    fn shown_file(&self, reader: &Reader) -> Option<PathBuf> {
        self.file("shown", &format!("{}:{}", reader.store, reader.user))
    }

    fn file(&self, kind: &str, of: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{kind}-{}", spelled(of))))
    }
}

fn shorten(path: &Path, lines: &[String]) -> io::Result<()> {
    let fresh = path.with_extension(format!("{}", std::process::id()));
    let mut file = private(OpenOptions::new().write(true).create(true).truncate(true), &fresh)?;
    file.write_all(format!("{}\n", lines.join("\n")).as_bytes())?;
    fs::rename(&fresh, path)
}

fn private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.mode(0o600).open(path)
}

/// A name of printable ASCII as part of a file name: no two names are spelled alike.
fn spelled(name: &str) -> String {
    let mut spelled = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            spelled.push(char::from(byte));
        } else {
            spelled.push_str(&format!("%{byte:02x}"));
        }
    }
    spelled
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn reader(store: &str, user: &str) -> Reader {
        Reader { store: store.to_owned(), user: user.to_owned() }
    }

    #[test]
    fn every_user_of_every_store_has_his_own_number() {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Memory::open(&folder.path().join("new")).expect("made");
        let readers =
            [reader("a", "../x"), reader("a", ".."), reader("a", "%2e"), reader("b", ".."), reader("", "a:.")];
        for (number, reader) in (1..).zip(&readers) {
            assert_eq!(memory.shown(reader), 0);
            memory.keep_shown(reader, number).expect("kept");
        }
        for (number, reader) in (1..).zip(&readers) {
            assert_eq!(memory.shown(reader), number, "{reader:?}");
        }
        let files = fs::read_dir(folder.path().join("new")).expect("a folder").count();
        assert_eq!(files, readers.len(), "nothing else is left");
    }

    #[test]
    fn a_history_is_private_and_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Memory::open(folder.path()).expect("there");
        let count = 2 * HISTORY_LINES_MAX + 1;
        (0..count).for_each(|n| memory.keep_line("hans", &n.to_string()).expect("kept"));
        let path = folder.path().join("history-hans");
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        for _ in 0..2 {
            let lines = memory.history("hans");
            assert_eq!((lines.len(), lines.last()), (HISTORY_LINES_MAX, Some(&(count - 1).to_string())));
        }
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(memory.history("yoda"), Vec::<String>::new());
    }

    #[test]
    fn a_damaged_number_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Memory::open(folder.path()).expect("there");
        let hans = reader("a", "hans");
        memory.keep_shown(&hans, 7).expect("kept");
        let path = memory.shown_file(&hans).expect("a path");
        fs::write(path, "what?").expect("written");
        assert_eq!(memory.shown(&hans), 0);
        assert_eq!(Memory::none().shown(&hans), 0);
    }
}
