//! The state folder: which messages have been shown, what was typed before, and which files were
//! offered.
//!
//! One file per store and user, one of these also per folder of files, and one history per user:
//! two clients with different users share the folder without touching each other's files.
//! Passwords never come here.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::state::Reader;
use super::state::sharing::{OFFERED_MAX, Offered};
use crate::wire::chunks::{CHUNKS_MAX, Digest};
use crate::wire::name::FileName;

/// Lines of history that are kept.
pub(super) const HISTORY_LINES_MAX: usize = 1000;

/// Digits by which folders of files are told apart.
const PLACE_DIGITS: usize = 16;

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

    /// Keeps the highest number that was shown: a program that was stopped for a while may come with
    /// a lower one than another has kept since. The file holds the old or the new number, whenever
    /// the program ends. Of two programs that write in one moment the lower number may stay; what is
    /// above it is shown again.
    pub(super) fn keep_shown(&self, reader: &Reader, number: u64) -> io::Result<()> {
        let Some(path) = self.shown_file(reader) else { return Ok(()) };
        if self.shown(reader) >= number {
            return Ok(());
        }
        replace(&path, &format!("{number}\n"))
    }

    /// Which files of the folder `place` this reader has offered. A line that makes no sense is none.
    pub(super) fn offered(&self, reader: &Reader, place: &Path) -> Vec<Offered> {
        let Some(path) = self.offered_file(reader, place) else { return Vec::new() };
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(read_offered).take(OFFERED_MAX).collect()
    }

    /// Keeps which files of the folder `place` this reader offers.
    pub(super) fn keep_offered(&self, reader: &Reader, place: &Path, offered: &[Offered]) -> io::Result<()> {
        let Some(path) = self.offered_file(reader, place) else { return Ok(()) };
        let lines: Vec<String> = offered.iter().map(spell_offered).collect();
        // The first line is for people.
        replace(&path, &format!("in {}\n{}", place.display(), lines.concat()))
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

    fn offered_file(&self, reader: &Reader, place: &Path) -> Option<PathBuf> {
        let place = Digest(Sha256::digest(place.as_os_str().as_encoded_bytes()).into()).to_string();
        self.file("offered", &format!("{}:{}:{}", reader.store, reader.user, &place[..PLACE_DIGITS]))
    }

    fn file(&self, kind: &str, of: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{kind}-{}", spelled(of))))
    }
}

fn shorten(path: &Path, lines: &[String]) -> io::Result<()> {
    replace(path, &format!("{}\n", lines.join("\n")))
}

/// The file holds the old or the new text, whenever the program ends.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension(format!("{}", std::process::id()));
    let mut file = private(OpenOptions::new().write(true).create(true).truncate(true), &fresh)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&fresh, path)
}

/// Whether all is there, chunks, bytes, hash, name.
fn spell_offered(offered: &Offered) -> String {
    let Offered { file, chunks, bytes, digest, whole } = offered;
    format!("{} {chunks} {bytes} {digest} {file}\n", if *whole { "whole" } else { "part" })
}

fn read_offered(line: &str) -> Option<Offered> {
    let words: Vec<&str> = line.split(' ').collect();
    let [kind @ ("whole" | "part"), chunks, bytes, digest, file] = words[..] else { return None };
    Some(Offered {
        file: FileName::parse(file)?,
        chunks: chunks.parse().ok().filter(|chunks| (1..=CHUNKS_MAX).contains(chunks))?,
        bytes: bytes.parse().ok()?,
        digest: Digest::parse(digest)?,
        whole: kind == "whole",
    })
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
    fn every_folder_has_its_own_offers_and_damaged_lines_are_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Memory::open(folder.path()).expect("there");
        let (hans, digest) = (reader("a", "hans"), Digest([7; 32]));
        let file = FileName::parse("a.bin").expect("a name");
        let offered = [true, false].map(|whole| Offered { file: file.clone(), chunks: 3, bytes: 7, digest, whole });
        let [one, other] = ["/one", "/two"].map(Path::new);
        memory.keep_offered(&hans, one, &offered).expect("kept");
        assert_eq!(memory.offered(&hans, one), offered);
        assert_eq!(memory.offered(&hans, other), []);
        assert_eq!(memory.offered(&reader("b", "hans"), one), []);
        let path = memory.offered_file(&hans, one).expect("a path");
        for line in
            ["", "whole", "whole 0 7 {} a", "whole 65537 7 {} a", "part 1 -1 {} a", "part 1 1 {} ../a", "x 1 1 {} a"]
        {
            fs::write(&path, line.replace("{}", &digest.to_string())).expect("written");
            assert_eq!(memory.offered(&hans, one), [], "{line}");
        }
    }

    #[test]
    fn the_highest_number_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Memory::open(folder.path()).expect("there");
        let hans = reader("a", "hans");
        for (number, highest) in [(7, 7), (9, 9), (8, 9), (10, 10)] {
            memory.keep_shown(&hans, number).expect("kept");
            assert_eq!(memory.shown(&hans), highest);
        }
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
