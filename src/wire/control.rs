//! Control lines: what our two programs say to each other on the line port.
//!
//! From the server, every [`Notice`] is one whole line: a tag, its fields, and last whatever may
//! hold spaces. A person can still read it; the client turns it back into the notice and spells
//! it in its own time zone and colours. Both directions stand here side by side, and every
//! notice survives the way there and back. From the client, [`Say`].

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::chunks::{self, CHUNKS_MAX, CHUNKS_PER_LINE_MAX, ChunkSet, Digest, HASHES_PER_LINE_MAX};
use super::command;
use super::name::{FileName, GroupName, NameError, Text, UserName};
use super::{
    Ago, Letter, Membership, Mode, News, Notice, Pass, Purpose, Question, Readers, Refusal, Road, Scope, Tag, Ticket,
    WhyNot,
};

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
    /// `TOLD <name>`: what this reader has seen meanwhile has been shown.
    Told(&'a str),
    /// `PING`: is anybody there?
    Ping,
    /// `PORT <port>`: where other clients may dial, at the address that the server sees.
    Port(u16),
    /// `ALIVE`: something was said in private, which the server does not see.
    Alive,
    /// `DIAL <user> private|file`: asks for a ticket.
    Dial { user: &'a str, purpose: Purpose },
    /// `REGISTER <file> <chunks> <bytes> <sha256>`: the head of a manifest; its hashes follow. With
    /// `part` behind it, who says it has not all of the file and will say what he has.
    Register { file: &'a str, chunks: u32, bytes: u64, digest: Digest, part: bool },
    /// `CHUNK-HASH <first> <sha256> ...`: of the chunks from `first` on, see [`digests`].
    ChunkHash { first: u32, hashes: &'a str },
    /// `WANT <file>`: asks for the manifest and the holders.
    Want(&'a str),
    /// `HOLDERS <file>`: asks for the holders.
    Holders(&'a str),
    /// `HAVE <file> <chunk> ...`: these were checked and are served from now on, see [`numbers`].
    Have { file: &'a str, chunks: &'a str },
    /// `WITHDRAW [file]`: nothing of it is served any more; without a name, nothing at all.
    Withdraw(Option<&'a str>),
}

/// The hashes of a `CHUNK-HASH`.
pub fn digests(words: &str) -> impl Iterator<Item = Digest> {
    words.split(' ').filter_map(Digest::parse)
}

/// The chunks of a `HAVE`.
pub fn numbers(words: &str) -> impl Iterator<Item = u32> {
    words.split(' ').filter_map(chunks::chunk)
}

/// A line that is not a control line known to this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown;

/// Verbs of [`Refusal::Yourself`].
const VERBS: [&str; 6] = ["message", "block", "unblock", "kick", "start a private session with", "ask"];

/// The last word of a `REGISTER` by who has not all of the file.
const PART: &str = "part";

const PURPOSES: [(Purpose, &str); 2] = [(Purpose::Private, "private"), (Purpose::File, "file")];

const REASONS: [(WhyNot, &str); 5] = [
    (WhyNot::Offline, "offline"),
    (WhyNot::Blocked, "blocked"),
    (WhyNot::NoPort, "no-port"),
    (WhyNot::NotAllowed, "not-allowed"),
    (WhyNot::NoFile, "no-file"),
];

const MODES: [(Mode, &str); 4] =
    [(Mode::Command, "command"), (Mode::General, "general"), (Mode::Direct, "direct"), (Mode::Group, "group")];

const QUESTIONS: [(Question, &str); 3] =
    [(Question::Create, "group"), (Question::Name, "group-name"), (Question::Members, "group-members")];

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
            "TOLD" if fields.count() == 1 => Self::Told(rest),
            "PING" if rest.is_empty() => Self::Ping,
            "PORT" if fields.count() == 1 => Self::Port(fields.number(0)?),
            "ALIVE" if rest.is_empty() => Self::Alive,
            "DIAL" if fields.count() == 2 => {
                Self::Dial { user: fields.word(0)?, purpose: meaning(&PURPOSES, fields.word(1)?)? }
            }
            "REGISTER" if fields.count() == 4 || (fields.count() == 5 && fields.word(4)? == PART) => Self::Register {
                file: fields.word(0)?,
                chunks: fields.number(1)?,
                bytes: fields.number(2)?,
                digest: read_digest(fields.word(3)?)?,
                part: fields.count() == 5,
            },
            "CHUNK-HASH" => {
                let (first, hashes) = rest.split_once(' ').ok_or(Unknown)?;
                let known = all_known(hashes, HASHES_PER_LINE_MAX, |word| Digest::parse(word).is_some())?;
                Self::ChunkHash { first: first.parse().map_err(|_| Unknown)?, hashes: known }
            }
            "WANT" if fields.count() == 1 => Self::Want(rest),
            "HOLDERS" if fields.count() == 1 => Self::Holders(rest),
            "HAVE" => {
                let (file, words) = rest.split_once(' ').ok_or(Unknown)?;
                let known = all_known(words, CHUNKS_PER_LINE_MAX, |word| chunks::chunk(word).is_some())?;
                Self::Have { file, chunks: known }
            }
            "WITHDRAW" if line == word => Self::Withdraw(None),
            "WITHDRAW" if fields.count() == 1 => Self::Withdraw(Some(rest)),
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
            Self::Told(name) => format!("TOLD {name}"),
            Self::Ping => "PING".to_owned(),
            Self::Port(port) => format!("PORT {port}"),
            Self::Alive => "ALIVE".to_owned(),
            Self::Dial { user, purpose } => format!("DIAL {user} {}", spelling(&PURPOSES, purpose)),
            Self::Register { file, chunks, bytes, digest, part } => {
                let part = if part { format!(" {PART}") } else { String::new() };
                format!("REGISTER {file} {chunks} {bytes} {digest}{part}")
            }
            Self::ChunkHash { first, hashes } => format!("CHUNK-HASH {first} {hashes}"),
            Self::Want(file) => format!("WANT {file}"),
            Self::Holders(file) => format!("HOLDERS {file}"),
            Self::Have { file, chunks } => format!("HAVE {file} {chunks}"),
            Self::Withdraw(None) => "WITHDRAW".to_owned(),
            Self::Withdraw(Some(file)) => format!("WITHDRAW {file}"),
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
        Notice::Said(Letter { number, from, text, sent, road, scope, .. }) => {
            let road = spell_road(*road);
            match scope {
                Scope::Plain => write!(out, "said {number} {road} {sent} {from} ")?,
                Scope::General => write!(out, "said-general {number} {road} {sent} {from} ")?,
                Scope::Group(group) => write!(out, "said-group {group} {number} {road} {sent} {from} ")?,
            }
            writeln!(out, "{}", text.as_str())
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
        Notice::FellSilent { seconds } => writeln!(out, "fell-silent {seconds}"),
        Notice::TakenOver => writeln!(out, "taken-over"),
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
        Notice::SomeFull => writeln!(out, "some-full"),
        Notice::StoredInGroup { group, here, away } => {
            write!(out, "stored-in-group {group} {}{}", here.len(), Words(here))?;
            away.iter().try_for_each(|(user, seen)| match seen {
                Some(Ago { wall, millis }) => write!(out, " {user} {wall} {millis}"),
                None => write!(out, " {user} - -"),
            })?;
            writeln!(out)
        }
        Notice::Sent => writeln!(out, "sent"),
        Notice::Delivered(readers) => write_readers("delivered", readers, out),
        Notice::Seen(readers) => write_readers("seen", readers, out),
        Notice::SeenMeanwhile { by, texts, sent, seen } => writeln!(out, "seen-meanwhile {by} {texts} {sent} {seen}"),
        Notice::ReceiptsDropped { max } => writeln!(out, "receipts-dropped {max}"),
        Notice::Arrived(user) => writeln!(out, "arrived {user}"),
        Notice::Left(user) => writeln!(out, "left {user}"),
        Notice::Names(users) => writeln!(out, "names{}", Words(users)),
        Notice::Nobody => writeln!(out, "nobody"),
        Notice::Blocked(user) => writeln!(out, "blocked {user}"),
        Notice::Unblocked(user) => writeln!(out, "unblocked {user}"),
        Notice::Online { user, since, idle } => writeln!(out, "online {user} {} {} {idle}", since.wall, since.millis),
        Notice::Offline { user, seen } => writeln!(out, "offline {user} {} {}", seen.wall, seen.millis),
        Notice::NeverOnline(user) => writeln!(out, "never-online {user}"),
        Notice::Receipts { on } => writeln!(out, "receipts {}", if *on { "on" } else { "off" }),
        Notice::Groups(groups) => {
            write!(out, "groups")?;
            groups.iter().try_for_each(|Membership { group, owned, members }| {
                write!(out, " {group} {} {members}", if *owned { "owner" } else { "member" })
            })?;
            writeln!(out)
        }
        Notice::NoGroups => writeln!(out, "no-groups"),
        Notice::Members { owner, members } => writeln!(out, "members {owner}{}", Words(members)),
        Notice::Group { group, by, news } => match news {
            News::Created(users) => writeln!(out, "group-created {group} {by}{}", Words(users)),
            News::Added(users) => writeln!(out, "group-added {group} {by}{}", Words(users)),
            News::Removed(users) => writeln!(out, "group-removed {group} {by}{}", Words(users)),
            News::Renamed(to) => writeln!(out, "group-renamed {group} {by} {to}"),
            News::Owned(user) => writeln!(out, "group-owned {group} {by} {user}"),
            News::Left => writeln!(out, "group-left {group} {by}"),
            News::Deleted => writeln!(out, "group-deleted {group} {by}"),
        },
        Notice::Mode(mode) => writeln!(out, "mode {}", spelling(&MODES, *mode)),
        Notice::Peer { user, at, ticket, purpose } => {
            let (place, purpose) = (Place(at), spelling(&PURPOSES, *purpose));
            writeln!(out, "peer {user} {place} {} {:032x} {purpose}", ticket.number, ticket.secret)
        }
        Notice::Expect { user, ticket, purpose } => {
            let purpose = spelling(&PURPOSES, *purpose);
            writeln!(out, "expect {user} {} {:032x} {purpose}", ticket.number, ticket.secret)
        }
        Notice::NoPeer { user, purpose, why } => {
            writeln!(out, "no-peer {user} {} {}", spelling(&PURPOSES, *purpose), spelling(&REASONS, *why))
        }
        Notice::Address { user, at, ticket } => {
            writeln!(out, "address {user} {} {} {:032x}", Place(at), ticket.number, ticket.secret)
        }
        Notice::AsksAddress(user) => writeln!(out, "asks-address {user}"),
        Notice::AsksPrivate(user) => writeln!(out, "asks-private {user}"),
        Notice::RequestSent(user) => writeln!(out, "request-sent {user}"),
        Notice::Allowed(user) => writeln!(out, "allowed {user}"),
        Notice::Declined(user) => writeln!(out, "declined {user}"),
        Notice::Denied(user) => writeln!(out, "denied {user}"),
        Notice::Registered { file, chunks } => writeln!(out, "registered {file} {chunks}"),
        Notice::Available { file, bytes, chunks } => writeln!(out, "available {file} {bytes} {chunks}"),
        Notice::Has { file, user, chunks } => writeln!(out, "has {file} {user} {chunks}"),
        Notice::NotAvailable { file, of_chunks: false } => writeln!(out, "not-available {file}"),
        Notice::NotAvailable { file, of_chunks: true } => writeln!(out, "not-available {file} chunks"),
        Notice::Manifest { file, chunks, bytes, digest } => writeln!(out, "manifest {file} {chunks} {bytes} {digest}"),
        Notice::ChunkHashes { file, first, hashes } => {
            write!(out, "chunk-hash {file} {first}")?;
            hashes.iter().try_for_each(|hash| write!(out, " {hash}"))?;
            writeln!(out)
        }
        Notice::Holder { file, user, chunks } => writeln!(out, "holder {file} {user} {chunks}"),
        Notice::ManifestEnd(file) => writeln!(out, "manifest-end {file}"),
        Notice::HoldersEnd(file) => writeln!(out, "holders-end {file}"),
        Notice::Asked(question) => writeln!(out, "ask {}", spelling(&QUESTIONS, *question)),
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
        Refusal::NoSuchGroup(word) => writeln!(out, "no-such-group {}", word.as_str()),
        Refusal::GroupExists(group) => writeln!(out, "group-exists {group}"),
        Refusal::BadGroupName => writeln!(out, "bad-group-name"),
        Refusal::NotOwner(group) => writeln!(out, "not-owner {group}"),
        Refusal::NotMember(group) => writeln!(out, "not-member {group}"),
        Refusal::NotInGroup { group, user } => writeln!(out, "not-in-group {group} {user}"),
        Refusal::AlreadyMember { group, user } => writeln!(out, "already-member {group} {user}"),
        Refusal::AlreadyOwner(group) => writeln!(out, "already-owner {group}"),
        Refusal::NotAdded(user) => writeln!(out, "not-added {user}"),
        Refusal::OwnerStays(group) => writeln!(out, "owner-stays {group}"),
        Refusal::GroupsFull { max } => writeln!(out, "groups-full {max}"),
        Refusal::OwnsTooMany { max } => writeln!(out, "owns-too-many {max}"),
        Refusal::HeOwnsTooMany { user, max } => writeln!(out, "he-owns-too-many {user} {max}"),
        Refusal::GroupFull { group, max } => writeln!(out, "group-full {group} {max}"),
        Refusal::NamesFull { max } => writeln!(out, "names-full {max}"),
        Refusal::NoGroupYet => writeln!(out, "no-group-yet"),
        Refusal::DirectForm => writeln!(out, "direct-form"),
        Refusal::GroupForm => writeln!(out, "group-form"),
        Refusal::NoMode => writeln!(out, "no-mode"),
        Refusal::Offline(user) => writeln!(out, "offline {user}"),
        Refusal::NoPrivate(user) => writeln!(out, "no-private {user}"),
        Refusal::CannotBeFound(word) => writeln!(out, "cannot-be-found {}", word.as_str()),
        Refusal::RequestsFull { user, max } => writeln!(out, "requests-full {user} {max}"),
        Refusal::NoRequest(word) => writeln!(out, "no-request {}", word.as_str()),
        Refusal::RequesterGone(user) => writeln!(out, "requester-gone {user}"),
        Refusal::BadFileName => writeln!(out, "bad-file-name"),
        Refusal::AlreadyRegistered { file, same } => {
            writeln!(out, "already-registered {file} {}", if *same { "same" } else { "other" })
        }
        Refusal::NotRegistered(file) => writeln!(out, "not-registered {file}"),
        Refusal::NoChunk { file, word } => writeln!(out, "no-chunk {file} {}", word.as_str()),
        Refusal::BadManifest(file) => writeln!(out, "bad-manifest {file}"),
        Refusal::TooManyChunks { max } => writeln!(out, "too-many-chunks {max}"),
        Refusal::FilesFull { max } => writeln!(out, "files-full {max}"),
        Refusal::ChunksFull { max } => writeln!(out, "chunks-full {max}"),
        Refusal::OwnsTooManyFiles { max } => writeln!(out, "owns-too-many-files {max}"),
        Refusal::OwnsTooManyChunks { max } => writeln!(out, "owns-too-many-chunks {max}"),
        Refusal::Busy => writeln!(out, "busy"),
        Refusal::DiskFailed => writeln!(out, "disk-failed"),
        Refusal::TextTooLong { max } => writeln!(out, "text-too-long {max}"),
        Refusal::LineTooLong { max } => writeln!(out, "line-too-long {max}"),
        Refusal::NotUtf8 => writeln!(out, "not-utf8"),
    }
}

fn write_readers(tag: &str, readers: &Readers, out: &mut Vec<u8>) -> std::io::Result<()> {
    writeln!(out, "{tag} {} {}{}", readers.texts, readers.more, Words(&readers.names))
}

/// An address as two words.
struct Place<'a>(&'a SocketAddr);

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.0.ip(), self.0.port())
    }
}

/// Names behind other fields, each with its space.
struct Words<'a>(&'a [UserName]);

impl std::fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|name| write!(f, " {name}"))
    }
}

fn spelling<T: PartialEq>(table: &[(T, &'static str)], value: T) -> &'static str {
    table.iter().find(|(known, _)| *known == value).map_or("", |(_, word)| word)
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
        "said" => read_letter(Scope::Plain, rest)?,
        "said-general" => read_letter(Scope::General, rest)?,
        "said-group" => {
            let (group, rest) = rest.split_once(' ').ok_or(Unknown)?;
            read_letter(Scope::Group(read_group(group)?), rest)?
        }
        "hello" => Notice::Hello { store: Text::harmless(rest.strip_prefix("chinwag/1 ").ok_or(Unknown)?) },
        "done" => Notice::Done(read_tag(rest)?),
        "pong" => Notice::Pong,
        "ask" if rest == "name" => Notice::AskName,
        "ask" if rest == "password" => Notice::AskPassword,
        "ask" => Notice::Asked(meaning(&QUESTIONS, rest)?),
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
        "fell-silent" => Notice::FellSilent { seconds: fields.number(0)? },
        "taken-over" => Notice::TakenOver,
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
        "some-full" => Notice::SomeFull,
        "stored-in-group" => read_stored_in_group(fields)?,
        "sent" => Notice::Sent,
        "delivered" => Notice::Delivered(fields.readers()?),
        "seen" => Notice::Seen(fields.readers()?),
        "seen-meanwhile" => Notice::SeenMeanwhile {
            by: fields.user(0)?,
            texts: fields.number(1)?,
            sent: fields.number(2)?,
            seen: fields.number(3)?,
        },
        "receipts-dropped" => Notice::ReceiptsDropped { max: fields.number(0)? },
        "arrived" => Notice::Arrived(fields.user(0)?),
        "left" => Notice::Left(fields.user(0)?),
        "names" => Notice::Names(fields.users(0)?),
        "nobody" => Notice::Nobody,
        "blocked" => Notice::Blocked(fields.user(0)?),
        "unblocked" => Notice::Unblocked(fields.user(0)?),
        "online" => Notice::Online { user: fields.user(0)?, since: fields.ago(1)?, idle: fields.number(3)? },
        "offline" => Notice::Offline { user: fields.user(0)?, seen: fields.ago(1)? },
        "never-online" => Notice::NeverOnline(fields.user(0)?),
        "receipts" if rest == "on" => Notice::Receipts { on: true },
        "receipts" if rest == "off" => Notice::Receipts { on: false },
        "groups" => {
            Notice::Groups((0..fields.count()).step_by(3).map(|at| fields.membership(at)).collect::<Result<_, _>>()?)
        }
        "no-groups" => Notice::NoGroups,
        "members" => Notice::Members { owner: fields.user(0)?, members: fields.users(1)? },
        "group-created" => fields.news(News::Created(fields.users(2)?))?,
        "group-added" => fields.news(News::Added(fields.users(2)?))?,
        "group-removed" => fields.news(News::Removed(fields.users(2)?))?,
        "group-renamed" => fields.news(News::Renamed(fields.group(2)?))?,
        "group-owned" => fields.news(News::Owned(fields.user(2)?))?,
        "group-left" => fields.news(News::Left)?,
        "group-deleted" => fields.news(News::Deleted)?,
        "mode" => Notice::Mode(meaning(&MODES, rest)?),
        "peer" => Notice::Peer {
            user: fields.user(0)?,
            at: fields.place(1)?,
            ticket: fields.ticket(3)?,
            purpose: meaning(&PURPOSES, fields.word(5)?)?,
        },
        "expect" => Notice::Expect {
            user: fields.user(0)?,
            ticket: fields.ticket(1)?,
            purpose: meaning(&PURPOSES, fields.word(3)?)?,
        },
        "no-peer" => Notice::NoPeer {
            user: fields.user(0)?,
            purpose: meaning(&PURPOSES, fields.word(1)?)?,
            why: meaning(&REASONS, fields.word(2)?)?,
        },
        "address" => Notice::Address { user: fields.user(0)?, at: fields.place(1)?, ticket: fields.ticket(3)? },
        "asks-address" => Notice::AsksAddress(fields.user(0)?),
        "asks-private" => Notice::AsksPrivate(fields.user(0)?),
        "request-sent" => Notice::RequestSent(fields.user(0)?),
        "allowed" => Notice::Allowed(fields.user(0)?),
        "declined" => Notice::Declined(fields.user(0)?),
        "denied" => Notice::Denied(fields.user(0)?),
        "registered" => Notice::Registered { file: fields.file(0)?, chunks: fields.number(1)? },
        "available" => Notice::Available { file: fields.file(0)?, bytes: fields.number(1)?, chunks: fields.number(2)? },
        "has" => {
            let (file, user, chunks) = read_holding(rest)?;
            Notice::Has { file, user, chunks }
        }
        "not-available" => {
            let of_chunks = fields.count() == 2 && fields.word(1)? == "chunks";
            Notice::NotAvailable { file: fields.file(0)?, of_chunks }
        }
        "manifest" => Notice::Manifest {
            file: fields.file(0)?,
            chunks: fields.chunks(1)?,
            bytes: fields.number(2)?,
            digest: read_digest(fields.word(3)?)?,
        },
        "chunk-hash" => read_hashes(rest)?,
        "holder" => {
            let (file, user, chunks) = read_holding(rest)?;
            Notice::Holder { file, user, chunks }
        }
        "manifest-end" => Notice::ManifestEnd(fields.file(0)?),
        "holders-end" => Notice::HoldersEnd(fields.file(0)?),
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
        "needs-client" => {
            let command = command::find(rest).filter(|command| command.needs_client);
            Refusal::NeedsClient(command.ok_or(Unknown)?.name)
        }
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
        "no-such-group" => Refusal::NoSuchGroup(Text::harmless(rest)),
        "group-exists" => Refusal::GroupExists(fields.group(0)?),
        "bad-group-name" => Refusal::BadGroupName,
        "not-owner" => Refusal::NotOwner(fields.group(0)?),
        "not-member" => Refusal::NotMember(fields.group(0)?),
        "not-in-group" => Refusal::NotInGroup { group: fields.group(0)?, user: fields.user(1)? },
        "already-member" => Refusal::AlreadyMember { group: fields.group(0)?, user: fields.user(1)? },
        "already-owner" => Refusal::AlreadyOwner(fields.group(0)?),
        "not-added" => Refusal::NotAdded(fields.user(0)?),
        "owner-stays" => Refusal::OwnerStays(fields.group(0)?),
        "groups-full" => Refusal::GroupsFull { max: fields.number(0)? },
        "owns-too-many" => Refusal::OwnsTooMany { max: fields.number(0)? },
        "he-owns-too-many" => Refusal::HeOwnsTooMany { user: fields.user(0)?, max: fields.number(1)? },
        "group-full" => Refusal::GroupFull { group: fields.group(0)?, max: fields.number(1)? },
        "names-full" => Refusal::NamesFull { max: fields.number(0)? },
        "no-group-yet" => Refusal::NoGroupYet,
        "direct-form" => Refusal::DirectForm,
        "group-form" => Refusal::GroupForm,
        "no-mode" => Refusal::NoMode,
        "offline" => Refusal::Offline(fields.user(0)?),
        "no-private" => Refusal::NoPrivate(fields.user(0)?),
        "cannot-be-found" => Refusal::CannotBeFound(Text::harmless(rest)),
        "requests-full" => Refusal::RequestsFull { user: fields.user(0)?, max: fields.number(1)? },
        "no-request" => Refusal::NoRequest(Text::harmless(rest)),
        "requester-gone" => Refusal::RequesterGone(fields.user(0)?),
        "bad-file-name" => Refusal::BadFileName,
        "already-registered" => Refusal::AlreadyRegistered { file: fields.file(0)?, same: fields.word(1)? == "same" },
        "not-registered" => Refusal::NotRegistered(fields.file(0)?),
        "no-chunk" => {
            let (file, word) = rest.split_once(' ').ok_or(Unknown)?;
            Refusal::NoChunk { file: read_file(file)?, word: Text::harmless(word) }
        }
        "bad-manifest" => Refusal::BadManifest(fields.file(0)?),
        "too-many-chunks" => Refusal::TooManyChunks { max: fields.number(0)? },
        "files-full" => Refusal::FilesFull { max: fields.number(0)? },
        "chunks-full" => Refusal::ChunksFull { max: fields.number(0)? },
        "owns-too-many-files" => Refusal::OwnsTooManyFiles { max: fields.number(0)? },
        "owns-too-many-chunks" => Refusal::OwnsTooManyChunks { max: fields.number(0)? },
        "busy" => Refusal::Busy,
        "disk-failed" => Refusal::DiskFailed,
        "text-too-long" => Refusal::TextTooLong { max: fields.number(0)? },
        "line-too-long" => Refusal::LineTooLong { max: fields.number(0)? },
        "not-utf8" => Refusal::NotUtf8,
        _ => return Err(Unknown),
    })
}

fn read_letter(scope: Scope, line: &str) -> Result<Notice, Unknown> {
    let mut parts = line.splitn(5, ' ');
    let mut next = || parts.next().ok_or(Unknown);
    let number = next()?.parse().map_err(|_| Unknown)?;
    let word = next()?;
    let road = [Road::Live, Road::Mail, Road::Again].into_iter().find(|road| spell_road(*road) == word);
    let sent = next()?.parse().map_err(|_| Unknown)?;
    let from = read_user(next()?)?;
    // The server has made the text harmless; a terminal trusts nobody.
    let text = Text::harmless(next()?);
    Ok(Notice::Said(Letter { number, from, text, sent, road: road.ok_or(Unknown)?, scope, receipt: false }))
}

fn read_stored_in_group(fields: Fields<'_>) -> Result<Notice, Unknown> {
    let here: usize = fields.number(1)?;
    let away = here.checked_add(2).filter(|&at| at <= fields.count()).ok_or(Unknown)?;
    Ok(Notice::StoredInGroup {
        group: fields.group(0)?,
        here: (2..away).map(|at| fields.user(at)).collect::<Result<_, _>>()?,
        away: (away..fields.count())
            .step_by(3)
            .map(|at| {
                Ok((fields.user(at)?, if fields.word(at + 1)? == "-" { None } else { Some(fields.ago(at + 1)?) }))
            })
            .collect::<Result<_, _>>()?,
    })
}

/// Who has which chunks of which file.
fn read_holding(line: &str) -> Result<(FileName, UserName, ChunkSet), Unknown> {
    let mut parts = line.splitn(3, ' ');
    let mut next = || parts.next().ok_or(Unknown);
    let (file, user) = (read_file(next()?)?, read_user(next()?)?);
    Ok((file, user, ChunkSet::parse(next()?).ok_or(Unknown)?))
}

fn read_hashes(line: &str) -> Result<Notice, Unknown> {
    let mut parts = line.splitn(3, ' ');
    let mut next = || parts.next().ok_or(Unknown);
    let (file, first) = (read_file(next()?)?, next()?.parse().map_err(|_| Unknown)?);
    let hashes = next()?;
    if hashes.split(' ').count() > HASHES_PER_LINE_MAX {
        return Err(Unknown);
    }
    Ok(Notice::ChunkHashes { file, first, hashes: hashes.split(' ').map(read_digest).collect::<Result<_, _>>()? })
}

/// `words` if there are not too many and all are as they should be.
fn all_known(words: &str, max: usize, is_known: impl Fn(&str) -> bool) -> Result<&str, Unknown> {
    let fits = words.split(' ').count() <= max && words.split(' ').all(is_known);
    if fits { Ok(words) } else { Err(Unknown) }
}

fn read_digest(word: &str) -> Result<Digest, Unknown> {
    Digest::parse(word).ok_or(Unknown)
}

fn read_file(word: &str) -> Result<FileName, Unknown> {
    FileName::parse(word).ok_or(Unknown)
}

fn read_tag(word: &str) -> Result<Tag, Unknown> {
    let (session, line) = word.split_once('.').ok_or(Unknown)?;
    Ok(Tag { session: session.parse().map_err(|_| Unknown)?, line: line.parse().map_err(|_| Unknown)? })
}

fn read_user(word: &str) -> Result<UserName, Unknown> {
    UserName::parse(word).map_err(|_| Unknown)
}

fn read_group(word: &str) -> Result<GroupName, Unknown> {
    GroupName::parse(word).ok_or(Unknown)
}

fn meaning<T: Copy>(table: &[(T, &str)], word: &str) -> Result<T, Unknown> {
    table.iter().find(|(_, known)| *known == word).map(|(value, _)| *value).ok_or(Unknown)
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

    /// The names from this field on.
    fn users(&self, from: usize) -> Result<Vec<UserName>, Unknown> {
        if self.count() <= from { Ok(Vec::new()) } else { self.0.split(' ').skip(from).map(read_user).collect() }
    }

    fn group(&self, at: usize) -> Result<GroupName, Unknown> {
        read_group(self.word(at)?)
    }

    fn file(&self, at: usize) -> Result<FileName, Unknown> {
        read_file(self.word(at)?)
    }

    /// How many chunks a file has.
    fn chunks(&self, at: usize) -> Result<u32, Unknown> {
        self.number(at).and_then(|chunks| if (1..=CHUNKS_MAX).contains(&chunks) { Ok(chunks) } else { Err(Unknown) })
    }

    fn place(&self, at: usize) -> Result<SocketAddr, Unknown> {
        let address: IpAddr = self.number(at)?;
        Ok(SocketAddr::new(address, self.number(at + 1)?))
    }

    fn ticket(&self, at: usize) -> Result<Ticket, Unknown> {
        let secret = u128::from_str_radix(self.word(at + 1)?, 16).map_err(|_| Unknown)?;
        Ok(Ticket { number: self.number(at)?, secret })
    }

    fn news(&self, news: News) -> Result<Notice, Unknown> {
        Ok(Notice::Group { group: self.group(0)?, by: self.user(1)?, news })
    }

    fn membership(&self, at: usize) -> Result<Membership, Unknown> {
        let owned = match self.word(at + 1)? {
            "owner" => true,
            "member" => false,
            _ => return Err(Unknown),
        };
        Ok(Membership { group: self.group(at)?, owned, members: self.number(at + 2)? })
    }

    fn readers(&self) -> Result<Readers, Unknown> {
        Ok(Readers { names: self.users(2)?, more: self.number(1)?, texts: self.number(0)? })
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
            Say::Told("luke"),
            Say::Ping,
            Say::Port(40_000),
            Say::Alive,
            Say::Dial { user: "luke", purpose: Purpose::Private },
            Say::Dial { user: "luke", purpose: Purpose::File },
            Say::Register { file: "a.bin", chunks: 10, bytes: u64::MAX, digest: Digest([171; 32]), part: false },
            Say::Register { file: "a.bin", chunks: 10, bytes: 0, digest: Digest([171; 32]), part: true },
            Say::Withdraw(None),
            Say::Withdraw(Some("a.bin")),
            Say::ChunkHash { first: 64, hashes: &["5c"; 32].concat() },
            Say::Want("a.bin"),
            Say::Holders("a.bin"),
            Say::Have { file: "a.bin", chunks: "0 65535" },
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
        for line in [
            "PORT",
            "PORT 65536",
            "PORT -1",
            "DIAL luke",
            "DIAL luke chat",
            "ALIVE 1",
            "WANT",
            "WANT a b",
            "HAVE a",
            "WITHDRAW a b",
        ] {
            assert!(Say::parse(line).is_err(), "{line:?}");
        }
        for line in [
            "HAVE a 65536",
            "HAVE a +1",
            "HAVE a 1  2",
            "REGISTER a 1 1 aa",
            "WITHDRAW ",
            "CHUNK-HASH 0",
            "CHUNK-HASH 0 aa",
        ] {
            assert!(Say::parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_line_holds_64_chunks_or_hashes() {
        let (hash, chunk) = (" 5c".replace("5c", &["5c"; 32].concat()), " 7");
        for (head, word) in [("CHUNK-HASH 0", &*hash), ("HAVE a", chunk), ("chunk-hash a 0", &*hash)] {
            let line = |count: usize| format!("{head}{}", word.repeat(count));
            let is_known = |line: &str| Say::parse(line).is_ok() || decode(line).is_ok();
            assert!(is_known(&line(64)), "{head}");
            assert!(!is_known(&line(65)), "{head}");
            assert!(line(64).len() <= crate::wire::line::LINE_BYTES_MAX);
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "[a-z]{0,12}( [a-zA-Z0-9.#é-]{0,8}){0,6}") {
            let _ = (decode(&line), decode(&format!("refused {line}")), Say::parse(&line));
        }
    }
}
