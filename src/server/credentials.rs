//! Credentials.txt: the only place where accounts live.
//!
//! One `name password` per line. The file is written by teachers in every kind of editor, so
//! CRLF, a byte order mark and one blank line at the end are fine; anything else that does not
//! fit is refused with its line number, because a skipped line is a student who cannot log in.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::wire::name::{PASSWORD_BYTES_MAX, UserName, is_legal_password};

/// The names under which the file is looked for, in this order.
const DEFAULT_NAMES: [&str; 2] = ["Credentials.txt", "credentials.txt"];

/// What some editors put in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Somebody who may log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub name: UserName,
    /// The password as written in the file.
    pub password: String,
}

// Written by hand so that no log line can ever show a password.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why the accounts could not be read: one line that names the place and never the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialsError {
    file: PathBuf,
    line: Option<usize>,
    reason: String,
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.reason)
    }
}

impl std::error::Error for CredentialsError {}

/// Reads the accounts of a file.
pub fn load(path: &Path) -> Result<Vec<Account>, CredentialsError> {
    match fs::read(path) {
        Ok(bytes) => parse(path, &bytes),
        Err(error) => {
            Err(CredentialsError { file: path.to_owned(), line: None, reason: format!("cannot be read: {error}") })
        }
    }
}

/// Turns the bytes of a file into accounts; `file` is only for messages.
pub fn parse(file: &Path, bytes: &[u8]) -> Result<Vec<Account>, CredentialsError> {
    let (head, content, _) = dissect(bytes);
    let mut accounts = Vec::new();
    let mut first_lines = HashMap::new();
    for (index, line) in bytes[head..content].split_inclusive(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        let fault = |reason| CredentialsError { file: file.to_owned(), line: Some(number), reason };
        let account = parse_line(without_line_end(line)).map_err(fault)?;
        if let Some(first) = first_lines.insert(account.name.clone(), number) {
            return Err(fault(format!("the same name as on line {first}")));
        }
        accounts.push(account);
    }
    Ok(accounts)
}

/// The file to use when none is named: `Credentials.txt`, or else `credentials.txt`.
pub fn find_default(dir: &Path) -> Option<PathBuf> {
    DEFAULT_NAMES.iter().map(|name| dir.join(name)).find(|path| path.exists())
}

/// Whether other users of this machine may read the file; `false` if nobody can tell.
pub fn readable_by_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o044 != 0)
}

/// Adds new accounts at the end of the file.
#[derive(Debug, Clone)]
pub struct Appender {
    path: PathBuf,
}

impl Appender {
    /// Appends to this file, which is created when the first account comes.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Appends one account; it is on the disk when this returns `Ok`.
    pub fn append(&self, name: &UserName, password: &str) -> io::Result<()> {
        self.append_all([(name, password)])
    }

    /// Appends several accounts with one write and one sync: all of them or none.
    pub fn append_all<'a>(&self, accounts: impl IntoIterator<Item = (&'a UserName, &'a str)>) -> io::Result<()> {
        let created = !self.path.exists();
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
        // The file is read again each time: a teacher may have edited it since.
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (head, content, newline) = dissect(&bytes);

        let mut lines = String::new();
        if content > head && bytes[content - 1] != b'\n' {
            lines.push_str(newline);
        }
        for (name, password) in accounts {
            // A line end in a password would smuggle in a second account.
            if !is_legal_password(password) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the password cannot be kept in a file"));
            }
            lines.extend([name.as_str(), " ", password, newline]);
        }

        let end = u64::try_from(content).map_err(io::Error::other)?;
        let written = write_at(&mut file, end, lines.as_bytes());
        if written.is_err() {
            // Half a line would be an account with a shortened password. Should this fail as
            // well, the next start refuses or shows it; nobody was told that it is stored.
            let _ = file.set_len(end).and_then(|()| file.sync_all());
        }
        written?;
        if created { sync_directory_of(&self.path) } else { Ok(()) }
    }
}

fn write_at(file: &mut File, end: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(end))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A new name is on the disk only when its directory is.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if dir != Path::new("") => File::open(dir)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Where the lines begin, where they end (one blank last line does not count), and what ends a
/// line in this file.
fn dissect(bytes: &[u8]) -> (usize, usize, &'static str) {
    let head = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let body = &bytes[head..];
    let newline = if body.windows(2).any(|pair| pair == b"\r\n") { "\r\n" } else { "\n" };
    let shorter = body.strip_suffix(b"\r\n").or_else(|| body.strip_suffix(b"\n")).unwrap_or(body);
    let blank_end = shorter.is_empty() || shorter.ends_with(b"\n");
    (head, head + if blank_end { shorter.len() } else { body.len() }, newline)
}

/// A carriage return belongs to the line end only in front of a line feed.
fn without_line_end(line: &[u8]) -> &[u8] {
    match line.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
        None => line,
    }
}

fn parse_line(line: &[u8]) -> Result<Account, String> {
    let Ok(line) = str::from_utf8(line) else { return Err("not ASCII: the line is not even UTF-8".to_owned()) };
    if line.is_empty() {
        return Err("a blank line; each line is a name, one space and a password".to_owned());
    }
    if line.contains('\t') {
        return Err("a tab; one space stands between name and password".to_owned());
    }
    let Some((name, password)) = line.split_once(' ') else {
        return Err("no space between name and password".to_owned());
    };
    if password.contains(' ') {
        return Err("more than one space; names and passwords have none".to_owned());
    }
    let name = UserName::parse(name).map_err(|error| error.to_string())?;
    if password.is_empty() {
        return Err("the password is missing".to_owned());
    }
    if !is_legal_password(password) {
        return Err(format!("a password is 1 to {PASSWORD_BYTES_MAX} printable ASCII characters without spaces"));
    }
    Ok(Account { name, password: password.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "Credentials.txt";

    fn read(text: &str) -> Vec<(String, String)> {
        let accounts = parse(Path::new(FILE), text.as_bytes()).expect("legal");
        accounts.into_iter().map(|account| (account.name.to_string(), account.password)).collect()
    }

    fn refusal(bytes: &[u8]) -> String {
        parse(Path::new(FILE), bytes).expect_err("must be refused").to_string()
    }

    fn pair(name: &str, password: &str) -> (String, String) {
        (name.to_owned(), password.to_owned())
    }

    fn name(word: &str) -> UserName {
        UserName::parse(word).unwrap()
    }

    #[test]
    fn every_editors_file_is_read_alike() {
        let expected = [pair("hans", "pass1"), pair("yoda", "w!se")];
        for text in [
            "hans pass1\nyoda w!se\n",
            "hans pass1\nyoda w!se",
            "hans pass1\nyoda w!se\n\n",
            "hans pass1\r\nyoda w!se\r\n",
            "hans pass1\r\nyoda w!se\r\n\r\n",
            "hans pass1\r\nyoda w!se",
            "\u{feff}hans pass1\nyoda w!se\n",
            "\u{feff}hans pass1\r\nyoda w!se\r\n\r\n",
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn no_accounts_is_legal() {
        for text in ["", "\n", "\r\n", "\u{feff}", "\u{feff}\n"] {
            assert_eq!(read(text), [], "{text:?}");
        }
    }

    #[test]
    fn every_printable_special_works_in_names_and_passwords() {
        let specials = "~!@#$%^&*_-+=`|\\(){}[]:;\"'<>,.?/";
        assert_eq!(read(&format!("{specials} {specials}\n")), [pair(specials, specials)]);
        assert_eq!(read("Hans x\nhans y\n"), [pair("Hans", "x"), pair("hans", "y")], "case matters");
    }

    #[test]
    fn a_refusal_names_file_line_and_reason() {
        for (bytes, expected) in [
            (&b"a b\n\nc d\n"[..], "Credentials.txt:2: a blank line"),
            (b"a b\n\n\n", "Credentials.txt:2: a blank line"),
            (b"\na b\n", "Credentials.txt:1: a blank line"),
            (b"a b\r\n\r\nc d\r\n", "Credentials.txt:2: a blank line"),
            (b"a b\nlonely\n", "Credentials.txt:2: no space"),
            (b"a  b\n", "Credentials.txt:1: more than one space"),
            (b"a b \n", "Credentials.txt:1: more than one space"),
            (b"a b c\n", "Credentials.txt:1: more than one space"),
            (b" b\n", "Credentials.txt:1: the name is empty"),
            (b"a \n", "Credentials.txt:1: the password is missing"),
            (b"a\tb\n", "Credentials.txt:1: a tab"),
            (b"a b\tc\n", "Credentials.txt:1: a tab"),
            (b"a b\nc d\na e\n", "Credentials.txt:3: the same name as on line 1"),
            (b"caf\xc3\xa9 b\n", "Credentials.txt:1: a name is made of printable ASCII"),
            (b"a b\ncaf\xe9 b\n", "Credentials.txt:2: not ASCII"),
            (b"a \xc3\xa9\n", "Credentials.txt:1: a password is"),
            (b"a b\r", "Credentials.txt:1: a password is"),
            (b"a b\rc d\r\n", "Credentials.txt:1: more than one space"),
            (b"a b\0\n", "Credentials.txt:1: a password is"),
            (b"\xff\xfea\0 \0b\0", "Credentials.txt:1: not ASCII"),
        ] {
            let shown = refusal(bytes);
            assert!(shown.starts_with(expected), "{bytes:?}: {shown}");
            assert!(!shown.contains('\n'), "{shown}");
        }
        let long = "x".repeat(33);
        assert!(refusal(format!("{long} b\n").as_bytes()).starts_with("Credentials.txt:1: the name is longer than 32"));
        let long = "x".repeat(PASSWORD_BYTES_MAX + 1);
        assert!(refusal(format!("a {long}\n").as_bytes()).starts_with("Credentials.txt:1: a password is 1 to 128"));
        assert_eq!(read(&format!("a {}", &long[1..])).len(), 1);
    }

    #[test]
    fn nothing_ever_shows_a_password() {
        for bytes in [
            &b"a hunter2\x01\n"[..],
            b"a hunter2 x\n",
            b"hunter2\n",
            b"a b\na hunter2\n",
            b"\ta hunter2\n",
            b"\xe9 hunter2\n",
            b"caf\xc3\xa9 hunter2\n",
        ] {
            assert!(!refusal(bytes).contains("hunter2"), "{}", refusal(bytes));
        }
        let account = Account { name: name("hans"), password: "hunter2".to_owned() };
        assert!(!format!("{account:?}").contains("hunter2"));
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("nowhere.txt");
        let shown = load(&missing).expect_err("there is none").to_string();
        assert!(shown.starts_with(&format!("{}: cannot be read: ", missing.display())), "{shown}");
    }

    #[test]
    fn the_capital_name_is_found_first() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find_default(dir.path()), None);
        fs::write(dir.path().join("credentials.txt"), "").unwrap();
        assert_eq!(find_default(dir.path()), Some(dir.path().join("credentials.txt")));
        fs::write(dir.path().join("Credentials.txt"), "").unwrap();
        assert_eq!(find_default(dir.path()), Some(dir.path().join("Credentials.txt")));
    }

    #[test]
    fn others_can_read_what_the_mode_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert!(!readable_by_others(&path));
        fs::write(&path, "").unwrap();
        for (mode, expected) in [(0o600, false), (0o622, false), (0o640, true), (0o604, true), (0o644, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(readable_by_others(&path), expected, "{mode:o}");
        }
    }

    #[test]
    fn an_appended_account_fits_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        for (before, after) in [
            ("", "new p4ss\n"),
            ("\n", "new p4ss\n"),
            ("a b\n", "a b\nnew p4ss\n"),
            ("a b", "a b\nnew p4ss\n"),
            ("a b\n\n", "a b\nnew p4ss\n"),
            ("a b\r\n", "a b\r\nnew p4ss\r\n"),
            ("a b\r\nc d", "a b\r\nc d\r\nnew p4ss\r\n"),
            ("a b\r\n\r\n", "a b\r\nnew p4ss\r\n"),
            ("\u{feff}", "\u{feff}new p4ss\n"),
            ("\u{feff}a b", "\u{feff}a b\nnew p4ss\n"),
        ] {
            fs::write(&path, before).unwrap();
            Appender::new(path.clone()).append(&name("new"), "p4ss").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after, "{before:?}");
            assert_eq!(load(&path).unwrap().last().unwrap().name, name("new"), "{before:?}");
        }
    }

    #[test]
    fn a_first_account_makes_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let appender = Appender::new(dir.path().join(FILE));
        appender.append(&name("hans"), "one").unwrap();
        appender.append_all([(&name("yoda"), "two"), (&name("luke"), "three")]).unwrap();
        assert_eq!(fs::read_to_string(&appender.path).unwrap(), "hans one\nyoda two\nluke three\n");
        assert!(!readable_by_others(&appender.path));
    }

    #[test]
    fn a_password_cannot_bring_a_second_account() {
        let dir = tempfile::tempdir().unwrap();
        let appender = Appender::new(dir.path().join(FILE));
        appender.append(&name("hans"), "one").unwrap();
        assert!(appender.append_all([(&name("yoda"), "two"), (&name("eve"), "x\nroot y")]).is_err());
        assert_eq!(fs::read_to_string(&appender.path).unwrap(), "hans one\n", "all or none");
        assert!(Appender::new(dir.path().join("no/such/dir")).append(&name("hans"), "one").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(Path::new(FILE), &bytes);
        }

        #[test]
        fn no_near_miss_makes_it_panic_or_grow(text in "(\u{feff}|)([ab\t \r\n\u{e9}]|a b\r?\n){0,12}") {
            if let Ok(accounts) = parse(Path::new(FILE), text.as_bytes()) {
                prop_assert!(accounts.len() <= text.bytes().filter(|&byte| byte == b' ').count());
            }
        }

        #[test]
        fn a_legal_list_comes_back(
            accounts in proptest::collection::btree_map("[!-~]{1,32}", "[!-~]{1,128}", 0..20),
            newline in prop_oneof![Just("\n"), Just("\r\n")],
            mark in prop_oneof![Just(""), Just("\u{feff}")],
            ended in any::<bool>(),
        ) {
            let lines: Vec<String> = accounts.iter().map(|(name, password)| format!("{name} {password}")).collect();
            let end = if ended { newline } else { "" };
            let text = format!("{mark}{}{end}", lines.join(newline));
            prop_assert_eq!(read(&text), accounts.into_iter().collect::<Vec<_>>());
        }
    }
}
