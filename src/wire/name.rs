//! Names and texts: checked once at the door, afterwards a type.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use arrayvec::ArrayString;

/// Longest user or group name, in bytes; a longer one is refused with the reason.
pub const NAME_BYTES_MAX: usize = 32;

/// A legal user name: 1 to 32 printable ASCII characters, no space.
///
/// Held in place, not on the heap: a name is copied with every message, and looked up with every
/// command.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(ArrayString<NAME_BYTES_MAX>);

/// Why a word cannot be a user name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// Nothing there.
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes.
    TooLong,
    /// A space, a control character or something outside ASCII.
    BadCharacter,
}

impl UserName {
    /// Checks a word and keeps it as a name.
    pub fn parse(word: &str) -> Result<Self, NameError> {
        if word.is_empty() {
            Err(NameError::Empty)
        } else if word.len() <= NAME_BYTES_MAX && !word.bytes().all(|byte| byte.is_ascii_graphic()) {
            Err(NameError::BadCharacter)
        } else {
            ArrayString::from(word).map(Self).map_err(|_| NameError::TooLong)
        }
    }

    /// The name as typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for UserName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the name is empty"),
            Self::TooLong => write!(f, "the name is longer than {NAME_BYTES_MAX} characters"),
            Self::BadCharacter => f.write_str("a name is made of printable ASCII characters without spaces"),
        }
    }
}

/// A legal group name: as a user name, but without a slash, which stands behind it where a text
/// is shown. A name space of its own.
///
/// Shared, not held in place: every text has room for one, and hardly any text is a group's.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// Checks a word and keeps it as a name.
    pub fn parse(word: &str) -> Option<Self> {
        let is_legal = UserName::parse(word).is_ok() && !word.contains('/');
        is_legal.then(|| Self(word.into()))
    }

    /// The name as typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for GroupName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Longest file name, in bytes: what file systems allow.
pub const FILE_NAME_BYTES_MAX: usize = 255;

/// Names that stand for devices on some systems, with any extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// The same with a digit behind it.
const NUMBERED_DEVICES: [&str; 2] = ["com", "lpt"];

/// A legal name of a file that is shared: one plain file in one folder, on every system.
///
/// 1 to 255 bytes, without separators, blanks and characters that are not harmless. No leading
/// dot, no name of a device, and no `.part` at the end: so unfinished files are called.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName(Arc<str>);

impl FileName {
    /// Checks a word and keeps it as a name.
    pub fn parse(word: &str) -> Option<Self> {
        let is_plain = !word.starts_with('.')
            && !word.contains(|c: char| matches!(c, '/' | '\\') || c.is_whitespace())
            && Text::harmless(word).as_str() == word;
        let fits = (1..=FILE_NAME_BYTES_MAX).contains(&word.len());
        (fits && is_plain && !is_device(word) && !is_unfinished(word)).then(|| Self(word.into()))
    }

    /// The name as typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a name ends like that of a file which is being fetched.
fn is_unfinished(word: &str) -> bool {
    let end = word.len().checked_sub(".part".len()).and_then(|at| word.as_bytes().get(at..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(b".part"))
}

fn is_device(word: &str) -> bool {
    let stem = word.split('.').next().unwrap_or_default().to_lowercase();
    let mut chars = stem.chars();
    let last = chars.next_back();
    // Superscript digits count there too.
    let is_numbered = last.is_some_and(|c| c.is_ascii_digit() || matches!(c, '\u{b9}' | '\u{b2}' | '\u{b3}'));
    DEVICES.contains(&&*stem) || (is_numbered && NUMBERED_DEVICES.contains(&chars.as_str()))
}

impl std::borrow::Borrow<str> for FileName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Longest password in plain text, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 128;

/// Whether a password can stand in Credentials.txt: printable ASCII without spaces.
pub fn is_legal_password(word: &str) -> bool {
    (1..=PASSWORD_BYTES_MAX).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_graphic())
}

/// One line of text that can do no harm on anybody's terminal.
///
/// Cheap to clone: every receiver shares one copy.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(Arc<str>);

impl Text {
    /// Keeps `raw`, with every character that could drive or fool a terminal written out.
    ///
    /// Control characters become their pictures (ESC is shown as `␛`), C1 controls, bidi
    /// controls and characters without width become `<U+202E>` and the like. Tabs stay.
    pub fn harmless(raw: &str) -> Self {
        // Nearly every text is plain ASCII, and then one pass decides; without an early way out,
        // so that it takes many bytes at a time.
        if raw.bytes().fold(true, |plain, byte| plain & ((byte == b'\t') | (b' '..=b'~').contains(&byte))) {
            return Self(raw.into());
        }
        let mut shown = String::with_capacity(raw.len() + 16);
        for c in raw.chars() {
            show(c, &mut shown);
        }
        Self(shown.into())
    }

    /// The text, ready for a terminal.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

fn show(c: char, shown: &mut String) {
    match c {
        '\t' => shown.push(c),
        '\0'..='\x1f' => shown.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('?')),
        '\x7f' => shown.push('\u{2421}'),
        _ if misleads(c) => {
            // Writing to a String cannot fail.
            let _ = write!(shown, "<U+{:04X}>", u32::from(c));
        }
        _ => shown.push(c),
    }
}

/// Whether a character is invisible, breaks lines or changes the direction of its neighbours.
/// The two selectors that ask for a text or a picture form (U+FE0E, U+FE0F) are let through:
/// every phone puts them behind its emoji, and they do no more than that.
fn misleads(c: char) -> bool {
    matches!(u32::from(c),
        0x80..=0x9f                         // C1 controls
        | 0xad                              // soft hyphen
        | 0x034f | 0x061c | 0x180b..=0x180f // joiners, Arabic letter mark, Mongolian selectors
        | 0x115f | 0x1160 | 0x3164 | 0xffa0 // Hangul fillers
        | 0x17b4 | 0x17b5                   // Khmer inherent vowels
        | 0x200b..=0x200f                   // zero width, direction marks
        | 0x2028..=0x202e                   // line separators, bidi embeddings and overrides
        | 0x2060..=0x206f                   // invisible operators, bidi isolates
        | 0xfeff | 0xfff9..=0xfffb          // byte order mark, interlinear annotations
        | 0xfe00..=0xfe0d | 0xfff0..=0xfff8 | 0x1bca0..=0x1bca3 // selectors, specials, shorthand
        | 0x1d173..=0x1d17a                 // musical formatting
        | 0xe0000..=0xe0fff                 // tags and their selectors
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_special_of_the_courses_is_a_legal_name() {
        for c in "~!@#$%^&*_-+=`|\\(){}[]:;\"'<>,.?/".chars() {
            assert!(UserName::parse(&c.to_string()).is_ok(), "{c}");
        }
    }

    #[test]
    fn a_bad_name_says_why() {
        assert_eq!(UserName::parse(""), Err(NameError::Empty));
        assert_eq!(UserName::parse(&"x".repeat(33)), Err(NameError::TooLong));
        assert!(UserName::parse(&"x".repeat(32)).is_ok());
        for bad in ["two words", "tab\there", "caf\u{e9}", "bell\x07"] {
            assert_eq!(UserName::parse(bad), Err(NameError::BadCharacter), "{bad:?}");
        }
    }

    #[test]
    fn a_group_name_is_a_user_name_without_a_slash() {
        assert!(GroupName::parse("r~!]:").is_some());
        for bad in ["", "two words", "a/b", "caf\u{e9}"] {
            assert_eq!(GroupName::parse(bad), None, "{bad:?}");
        }
    }

    /// Names that would be more, less or something else than one plain file in one folder.
    fn hostile_names() -> Vec<String> {
        let mut names: Vec<String> =
            ["", ".", "..", "...", "~/.ssh", "-/x", "C:\\x", "\\\\host\\x", "file:///etc/passwd"]
                .map(str::to_owned)
                .to_vec();
        for way in
            ["/", "//", "../", "../../../", "./", ".", "..\\", "\\", "C:\\", "a/", "a/../", "a\\..\\", "\0", "%2e/"]
        {
            for end in ["x", "a.bin", "etc/passwd", ".ssh/id", "Credentials.txt", "x\0.bin", "\u{fc}"] {
                names.push(format!("{way}{end}"));
            }
        }
        for device in
            ["con", "prn", "aux", "nul", "com1", "com9", "com0", "lpt1", "lpt9", "com\u{b9}", "conin$", "conout$"]
        {
            for end in ["", ".", ".txt", ".tar.gz", ".part"] {
                let name = format!("{device}{end}");
                names.extend([name.to_uppercase(), name[..1].to_uppercase() + &name[1..], name]);
            }
        }
        let controls = (0..0x20).chain(0x7f..0xa1).chain([0xad, 0x61c, 0x1680, 0x180e, 0x2028, 0x2029, 0x3000, 0xfeff]);
        let marks = (0x200b..0x2010).chain(0x202a..0x2030).chain(0x2066..0x206a).chain([0xe0001, 0xe007f]);
        for c in controls.chain(marks).filter_map(char::from_u32) {
            names.extend([format!("a{c}b"), format!("{c}a"), format!("a{c}")]);
        }
        for end in [".part", ".PART", ".Part"] {
            names.extend(["", "a", "a.bin", "a.part"].map(|name| format!("{name}{end}")));
        }
        names.extend([256, 1000].map(|length| "x".repeat(length)));
        names.push("\u{fc}".repeat(128));
        names
    }

    #[test]
    fn hostile_file_names_are_no_file_names() {
        let names = hostile_names();
        assert!(names.len() >= 500, "{}", names.len());
        for name in names {
            assert_eq!(FileName::parse(&name), None, "{name:?}");
        }
    }

    #[test]
    fn plain_file_names_are_taken_as_they_are() {
        let long = "x".repeat(255);
        for name in [
            "a",
            "a.bin",
            "README",
            "a.part.bin",
            "part",
            "xpart",
            "console",
            "com",
            "com10",
            "nuls.txt",
            "null",
            "a~1",
            "-x",
            "a..b",
            "gr\u{fc}ezi.bin",
            "\u{1f600}",
            "hans:",
            "[x",
            "$HOME",
            "%2e",
            "a'b\"c",
            &long,
        ] {
            assert_eq!(FileName::parse(name).as_ref().map(FileName::as_str), Some(name));
        }
    }

    #[test]
    fn harmful_characters_are_shown() {
        let shown = |raw: &str| Text::harmless(raw).as_str().to_owned();
        assert_eq!(shown("\x1b[2Jhi"), "\u{241b}[2Jhi");
        assert_eq!(shown("a\tb"), "a\tb");
        assert_eq!(shown("\r\x7f\0"), "\u{240d}\u{2421}\u{2400}");
        assert_eq!(shown("\u{9b}31m"), "<U+009B>31m");
        assert_eq!(shown("abc\u{202e}fed"), "abc<U+202E>fed");
        assert_eq!(shown("a\u{200b}b\u{feff}"), "a<U+200B>b<U+FEFF>");
        assert_eq!(shown("gr\u{fc}ezi \u{1f600} \u{4f60}\u{597d}"), "gr\u{fc}ezi \u{1f600} \u{4f60}\u{597d}");
    }
}
