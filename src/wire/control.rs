//! Control lines: what our two programs say to each other on the line port.
//!
//! From the server, every [`Notice`] is one whole line: a tag, its fields, and last whatever may
//! hold spaces. A person can still read it; the client turns it back into the notice and spells
//! it in its own time zone and colours. Both directions stand here side by side, and every
//! notice survives the way there and back. From the client, [`Say`].

use std::io::Write as _;
use std::str::FromStr;

use super::command::{self, FOR_CLIENT};
use super::name::{NameError, Text, UserName};
use super::{Ago, Letter, Notice, Pass, Refusal, Road, Tag};

/// Our client's first line: three words, so never a log-in.
pub const HELLO: &str = "HELLO chinwag/1 line";

/// Longest control line, in bytes: texts that came by another dialect can be longer than a line.
pub const CONTROL_BYTES_MAX: usize = 80 * 1024;

/// What our client says, besides the password.
#[allow(missing_docs, reason = "the line of a variant speaks of its fields too")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Say<'a> {
    /// `HELLO chinwag/1 ...`: control lines from now on.
    Hello,
    /// `LOGIN <name> <number>`: the password follows when asked for. Everything up to this number
    /// has been shown.
    Login { name: &'a str, shown: u64 },
    /// `RESUME <name> <token> <number>`: the same with a token instead of the password.
    Resume { name: &'a str, token: u128, shown: u64 },
    /// `#<session>.<line> <typed line>`: a line that is carried out once, however often it comes.
    Typed { tag: Tag, line: &'a str },
    /// `SEEN <number>`: everything up to this number has been shown.
    Seen(u64),
    /// `PING`: is anybody there?
    Ping,
}

/// A line that is not a control line known to this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown;

/// Verbs of [`Refusal::Yourself`].
const VERBS: [&str; 3] = ["message", "block", "unblock"];

impl<'a> Say<'a> {
    /// Reads a line of our client; a password and a plain typed line are none of these.
    pub fn parse(line: &'a str) -> Result<Self, Unknown> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let fields = Fields(rest);
        Ok(match word {
            "HELLO" if rest == "chinwag/1" || rest.starts_with("chinwag/1 ") => Self::Hello,
            "LOGIN" if fields.count() == 2 => Self::Login { name: fields.word(0)?, shown: fields.number(1)? },
            "RESUME" if fields.count() == 3 => {
                let token = u128::from_str_radix(fields.word(1)?, 16).map_err(|_| Unknown)?;
                Self::Resume { name: fields.word(0)?, token, shown: fields.number(2)? }
            }
            "SEEN" if fields.count() == 1 => Self::Seen(fields.number(0)?),
            "PING" if rest.is_empty() => Self::Ping,
            _ => Self::Typed { tag: read_tag(word.strip_prefix('#').ok_or(Unknown)?)?, line: rest },
        })
    }

    /// The line to send, without its end.
    pub fn spell(&self) -> String {
        match *self {
            Self::Hello => HELLO.to_owned(),
            Self::Login { name, shown } => format!("LOGIN {name} {shown}"),
            Self::Resume { name, token, shown } => format!("RESUME {name} {token:032x} {shown}"),
            Self::Typed { tag, line } => format!("#{}.{} {line}", tag.session, tag.line),
            Self::Seen(number) => format!("SEEN {number}"),
            Self::Ping => "PING".to_owned(),
        }
    }
}

/// Appends `notice` as one line. The end of a prompt's line is nothing here.
pub fn encode(notice: &Notice, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write(notice, out);
}

fn write(notice: &Notice, out: &mut Vec<u8>) -> std::io::Result<()> {
    match notice {
        Notice::Said(Letter { number, from, text, sent, road }) => {
            writeln!(out, "said {number} {} {sent} {from} {}", spell_road(*road), text.as_str())
        }
        Notice::Hello { store } => writeln!(out, "hello chinwag/1 {}", store.as_str()),
        Notice::Done(tag) => writeln!(out, "done {}.{}", tag.session, tag.line),
        Notice::Pong => writeln!(out, "pong"),
        Notice::AskName => writeln!(out, "ask name"),
        Notice::AskPassword => writeln!(out, "ask password"),
        Notice::NewUser(user) => writeln!(out, "new-user {user}"),
        Notice::WrongPassword { tries } => writeln!(out, "wrong-password {tries}"),
        Notice::JustLocked { seconds } => writeln!(out, "locked {seconds}"),
        Notice::StillLocked { seconds } => writeln!(out, "still-locked {seconds}"),
        Notice::AlreadyOnline { user, idle } => writeln!(out, "already-online {user} {idle}"),
        Notice::Welcome { user, pass: Some(Pass { session, token }) } => {
            writeln!(out, "welcome {user} {session} {token:032x}")
        }
        Notice::Welcome { user, pass: None } => writeln!(out, "welcome {user}"),
        Notice::PromptEnd => Ok(()),
        Notice::Goodbye => writeln!(out, "goodbye"),
        Notice::TimedOut { seconds } => writeln!(out, "timed-out {seconds}"),
        Notice::LoginTimedOut => writeln!(out, "login-timed-out"),
        Notice::Stopping => writeln!(out, "stopping"),
        Notice::Full => writeln!(out, "full"),
        Notice::Crowded => writeln!(out, "crowded"),
        Notice::TooSlow => writeln!(out, "too-slow"),
        Notice::TooManyNames => writeln!(out, "too-many-names"),
        Notice::Waiting { count } => writeln!(out, "waiting {count}"),
        Notice::Stored { to, seen: Some(Ago { wall, millis }) } => writeln!(out, "stored {to} {wall} {millis}"),
        Notice::Stored { to, seen: None } => writeln!(out, "stored {to}"),
        Notice::SomeSkipped => writeln!(out, "some-skipped"),
        Notice::Arrived(user) => writeln!(out, "arrived {user}"),
        Notice::Left(user) => writeln!(out, "left {user}"),
        Notice::Names(users) => {
            write!(out, "names")?;
            users.iter().try_for_each(|user| write!(out, " {user}"))?;
            writeln!(out)
        }
        Notice::Nobody => writeln!(out, "nobody"),
        Notice::Blocked(user) => writeln!(out, "blocked {user}"),
        Notice::Unblocked(user) => writeln!(out, "unblocked {user}"),
        Notice::Online { user, since, idle } => writeln!(out, "online {user} {} {} {idle}", since.wall, since.millis),
        Notice::Offline { user, seen } => writeln!(out, "offline {user} {} {}", seen.wall, seen.millis),
        Notice::NeverOnline(user) => writeln!(out, "never-online {user}"),
        Notice::HelpAll => writeln!(out, "help"),
        Notice::Help(command) => writeln!(out, "help {}", command.name),
        Notice::Refused(refusal) => write_refusal(refusal, out),
    }
}

fn write_refusal(refusal: &Refusal, out: &mut Vec<u8>) -> std::io::Result<()> {
    write!(out, "refused ")?;
    match refusal {
        Refusal::Usage(command) => writeln!(out, "usage {}", command.name),
        Refusal::InvalidCommand(word) => writeln!(out, "invalid-command {}", word.as_str()),
        Refusal::NeedsClient(word) => writeln!(out, "needs-client {word}"),
        Refusal::InvalidUser(word) => writeln!(out, "invalid-user {}", word.as_str()),
        Refusal::UnknownUser => writeln!(out, "unknown-user"),
        Refusal::BadName(why) => writeln!(out, "bad-name {}", spell_name_error(*why)),
        Refusal::BadPassword => writeln!(out, "bad-password"),
        Refusal::BadToken => writeln!(out, "bad-token"),
        Refusal::NameTaken => writeln!(out, "name-taken"),
        Refusal::NoAccount => writeln!(out, "no-account"),
        Refusal::Yourself(verb) => writeln!(out, "yourself {verb}"),
        Refusal::Blocked(user) => writeln!(out, "blocked {user}"),
        Refusal::AlreadyBlocked(user) => writeln!(out, "already-blocked {user}"),
        Refusal::NotBlocked(user) => writeln!(out, "not-blocked {user}"),
        Refusal::MailboxFull(user) => writeln!(out, "mailbox-full {user}"),
        Refusal::Busy => writeln!(out, "busy"),
        Refusal::DiskFailed => writeln!(out, "disk-failed"),
        Refusal::LineTooLong { max } => writeln!(out, "line-too-long {max}"),
        Refusal::NotUtf8 => writeln!(out, "not-utf8"),
    }
}

fn spell_road(road: Road) -> &'static str {
    match road {
        Road::Live => "live",
        Road::Mail => "mail",
        Road::Again => "again",
    }
}

fn spell_name_error(error: NameError) -> &'static str {
    match error {
        NameError::Empty => "empty",
        NameError::TooLong => "too-long",
        NameError::BadCharacter => "bad-character",
    }
}

/// Reads one line of the server, its LF removed.
pub fn decode(line: &str) -> Result<Notice, Unknown> {
    let (tag, rest) = line.split_once(' ').unwrap_or((line, ""));
    let fields = Fields(rest);
    Ok(match tag {
        "said" => read_letter(rest)?,
        "hello" => Notice::Hello { store: Text::harmless(rest.strip_prefix("chinwag/1 ").ok_or(Unknown)?) },
        "done" => Notice::Done(read_tag(rest)?),
        "pong" => Notice::Pong,
        "ask" if rest == "name" => Notice::AskName,
        "ask" if rest == "password" => Notice::AskPassword,
        "new-user" => Notice::NewUser(fields.user(0)?),
        "wrong-password" => Notice::WrongPassword { tries: fields.number(0)? },
        "locked" => Notice::JustLocked { seconds: fields.number(0)? },
        "still-locked" => Notice::StillLocked { seconds: fields.number(0)? },
        "already-online" => Notice::AlreadyOnline { user: fields.user(0)?, idle: fields.number(1)? },
        "welcome" if fields.count() == 1 => Notice::Welcome { user: fields.user(0)?, pass: None },
        "welcome" => {
            let token = u128::from_str_radix(fields.word(2)?, 16).map_err(|_| Unknown)?;
            Notice::Welcome { user: fields.user(0)?, pass: Some(Pass { session: fields.number(1)?, token }) }
        }
        "goodbye" => Notice::Goodbye,
        "timed-out" => Notice::TimedOut { seconds: fields.number(0)? },
        "login-timed-out" => Notice::LoginTimedOut,
        "stopping" => Notice::Stopping,
        "full" => Notice::Full,
        "crowded" => Notice::Crowded,
        "too-slow" => Notice::TooSlow,
        "too-many-names" => Notice::TooManyNames,
        "waiting" => Notice::Waiting { count: fields.number(0)? },
        "stored" if fields.count() == 1 => Notice::Stored { to: fields.user(0)?, seen: None },
        "stored" => Notice::Stored { to: fields.user(0)?, seen: Some(fields.ago(1)?) },
        "some-skipped" => Notice::SomeSkipped,
        "arrived" => Notice::Arrived(fields.user(0)?),
        "left" => Notice::Left(fields.user(0)?),
        "names" => Notice::Names(rest.split(' ').map(read_user).collect::<Result<_, _>>()?),
        "nobody" => Notice::Nobody,
        "blocked" => Notice::Blocked(fields.user(0)?),
        "unblocked" => Notice::Unblocked(fields.user(0)?),
        "online" => Notice::Online { user: fields.user(0)?, since: fields.ago(1)?, idle: fields.number(3)? },
        "offline" => Notice::Offline { user: fields.user(0)?, seen: fields.ago(1)? },
        "never-online" => Notice::NeverOnline(fields.user(0)?),
        "help" if rest.is_empty() => Notice::HelpAll,
        "help" => Notice::Help(command::find(rest).ok_or(Unknown)?),
        "refused" => Notice::Refused(read_refusal(rest)?),
        _ => return Err(Unknown),
    })
}

fn read_refusal(line: &str) -> Result<Refusal, Unknown> {
    let (tag, rest) = line.split_once(' ').unwrap_or((line, ""));
    let fields = Fields(rest);
    Ok(match tag {
        "usage" => Refusal::Usage(command::find(rest).ok_or(Unknown)?),
        "invalid-command" => Refusal::InvalidCommand(Text::harmless(rest)),
        "needs-client" => Refusal::NeedsClient(known(&FOR_CLIENT, rest)?),
        "invalid-user" => Refusal::InvalidUser(Text::harmless(rest)),
        "unknown-user" => Refusal::UnknownUser,
        "bad-name" => {
            let errors = [NameError::Empty, NameError::TooLong, NameError::BadCharacter];
            Refusal::BadName(errors.into_iter().find(|error| spell_name_error(*error) == rest).ok_or(Unknown)?)
        }
        "bad-password" => Refusal::BadPassword,
        "bad-token" => Refusal::BadToken,
        "name-taken" => Refusal::NameTaken,
        "no-account" => Refusal::NoAccount,
        "yourself" => Refusal::Yourself(known(&VERBS, rest)?),
        "blocked" => Refusal::Blocked(fields.user(0)?),
        "already-blocked" => Refusal::AlreadyBlocked(fields.user(0)?),
        "not-blocked" => Refusal::NotBlocked(fields.user(0)?),
        "mailbox-full" => Refusal::MailboxFull(fields.user(0)?),
        "busy" => Refusal::Busy,
        "disk-failed" => Refusal::DiskFailed,
        "line-too-long" => Refusal::LineTooLong { max: fields.number(0)? },
        "not-utf8" => Refusal::NotUtf8,
        _ => return Err(Unknown),
    })
}

fn read_letter(line: &str) -> Result<Notice, Unknown> {
    let mut parts = line.splitn(5, ' ');
    let mut next = || parts.next().ok_or(Unknown);
    let number = next()?.parse().map_err(|_| Unknown)?;
    let word = next()?;
    let road = [Road::Live, Road::Mail, Road::Again].into_iter().find(|road| spell_road(*road) == word);
    let sent = next()?.parse().map_err(|_| Unknown)?;
    let from = read_user(next()?)?;
    // The server has made the text harmless; a terminal trusts nobody.
    Ok(Notice::Said(Letter { number, from, text: Text::harmless(next()?), sent, road: road.ok_or(Unknown)? }))
}

fn read_tag(word: &str) -> Result<Tag, Unknown> {
    let (session, line) = word.split_once('.').ok_or(Unknown)?;
    Ok(Tag { session: session.parse().map_err(|_| Unknown)?, line: line.parse().map_err(|_| Unknown)? })
}

fn read_user(word: &str) -> Result<UserName, Unknown> {
    UserName::parse(word).map_err(|_| Unknown)
}

fn known(words: &[&'static str], word: &str) -> Result<&'static str, Unknown> {
    words.iter().find(|known| **known == word).copied().ok_or(Unknown)
}

/// The words of a line.
struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    fn count(&self) -> usize {
        if self.0.is_empty() { 0 } else { self.0.split(' ').count() }
    }

    fn word(&self, at: usize) -> Result<&'a str, Unknown> {
        self.0.split(' ').nth(at).ok_or(Unknown)
    }

    fn user(&self, at: usize) -> Result<UserName, Unknown> {
        read_user(self.word(at)?)
    }

    fn number<N: FromStr>(&self, at: usize) -> Result<N, Unknown> {
        self.word(at)?.parse().map_err(|_| Unknown)
    }

    fn ago(&self, at: usize) -> Result<Ago, Unknown> {
        Ok(Ago { wall: self.number(at)?, millis: self.number(at + 1)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_of_our_client_survives_the_way() {
        let tag = Tag { session: 7, line: 12 };
        for say in [
            Say::Hello,
            Say::Login { name: "hans", shown: 9 },
            Say::Resume { name: "~!#", token: 0xabc, shown: 0 },
            Say::Typed { tag, line: "message yoda  two  spaces " },
            Say::Typed { tag, line: "" },
            Say::Seen(u64::MAX),
            Say::Ping,
        ] {
            assert!(Say::parse(&say.spell()).is_ok_and(|back| back == say), "{}", say.spell());
        }
    }

    #[test]
    fn other_lines_are_no_control_lines() {
        for line in
            ["", "HELLO", "HELLO world", "hello", "LOGIN hans", "LOGIN hans x", "#", "#1 hi", "#1.x hi", "PING 1"]
        {
            assert!(Say::parse(line).is_err(), "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "[a-z]{0,12}( [a-zA-Z0-9.#é-]{0,8}){0,6}") {
            let _ = (decode(&line), decode(&format!("refused {line}")), Say::parse(&line));
        }
    }
}
