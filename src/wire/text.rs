//! Every [`Notice`] as a person reads it on the line port. The only place with wording.
//!
//! A line of the server never has the shape `name: text`, which is how a user's text is shown;
//! refusals begin with `Error.` followed by a full stop for the same reason (UNSW samples).

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::Write as _;

use arrayvec::ArrayString;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::command::{COMMANDS, Command};
use super::framed::{self, Fault};
use super::name::UserName;
use super::{Ago, Letter, Membership, Mode, News, Notice, Question, Readers, Refusal, Road, Scope};

/// Bytes of a time as it is written.
const TIME_BYTES: usize = "dd/mm/yy HH:MM:SS".len();

/// Spells notices in the zone of the server's clock.
#[derive(Debug, Clone)]
pub struct Speller {
    zone: TimeZone,
    /// The last second that was written, since 1970, and how: stored texts come in their order, so
    /// the next one is often of the same second, and a calendar costs more than all the rest.
    last: Cell<(i64, ArrayString<TIME_BYTES>)>,
}

impl Speller {
    /// A speller for one time zone.
    pub fn new(zone: TimeZone) -> Self {
        Self { zone, last: Cell::new((i64::MIN, ArrayString::new())) }
    }

    /// Appends `notice` to `out`: whole lines, but for the two prompts.
    pub fn spell(&self, notice: &Notice, out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        let _ = self.write(notice, out);
    }

    /// A notice as it is pushed to a framed client (W4119): one text without a line end; nothing if
    /// it has no words.
    pub fn spell_push(&self, notice: &Notice) -> String {
        let mut out = Vec::new();
        // Writing to a Vec cannot fail.
        let _ = match notice {
            Notice::Said(letter) => self.write_letter(letter, Brackets::Square, &mut out),
            Notice::Arrived(user) => write!(out, "{} has logged on.", First(user.as_str())),
            Notice::Left(user) => write!(out, "{} is offline.", First(user.as_str())),
            Notice::Names(users) => write!(out, "Online: {}", Names(users)),
            Notice::Address { user, at, .. } => {
                let host = at.ip().to_string();
                return framed::Push::Address { user: user.as_str(), host: &host, port: at.port() }.spell();
            }
            other => self.write(other, &mut out),
        };
        let text = String::from_utf8_lossy(&out);
        framed::Push::Text(text.trim_end_matches('\n')).spell()
    }

    fn write(&self, notice: &Notice, out: &mut Vec<u8>) -> std::io::Result<()> {
        match notice {
            Notice::Said(letter) => self.write_letter(letter, Brackets::None, out),

            // Our client is told these in control lines; a person has no use for them.
            Notice::Hello { .. } | Notice::Done(_) | Notice::Pong => Ok(()),

            Notice::AskName => write!(out, "Username: "),
            Notice::AskPassword => write!(out, "Password: "),
            Notice::NewUser(user) => writeln!(out, "The name {user} is new: choose a password"),
            Notice::WrongPassword { tries: 1 } => writeln!(out, "Invalid password, 1 try left"),
            Notice::WrongPassword { tries } => writeln!(out, "Invalid password, {tries} tries left"),
            Notice::JustLocked { seconds: 0 } => writeln!(out, "Invalid password. No tries left, goodbye"),
            Notice::JustLocked { seconds } => writeln!(out, "Invalid password. Account blocked for {seconds} s"),
            Notice::StillLocked { seconds } => writeln!(out, "Account blocked after failed logins, {seconds} s left"),
            Notice::AlreadyOnline { user, idle } => {
                writeln!(
                    out,
                    "{} is already logged in; that session last spoke {} ago",
                    First(user.as_str()),
                    Span(*idle)
                )
            }
            Notice::Welcome { user, .. } => writeln!(out, "Welcome to chinwag, {user}! Type help for the commands"),

            Notice::PromptEnd => writeln!(out),
            Notice::Goodbye => writeln!(out, "Goodbye"),
            Notice::TimedOut { seconds } => writeln!(out, "You timed out: no command for {seconds} s"),
            Notice::FellSilent { seconds } => {
                writeln!(out, "You timed out: nothing was heard from you for {seconds} s")
            }
            Notice::TakenOver => writeln!(out, "Logged in from another place"),
            Notice::LoginTimedOut => writeln!(out, "You timed out before logging in"),
            Notice::Stopping => writeln!(out, "The server is stopping, goodbye"),
            Notice::Full => writeln!(out, "Error. The server is full, try again later"),
            Notice::Crowded => writeln!(out, "Error. Too many connections wait to log in, this one was closed"),
            Notice::TooSlow => writeln!(out, "Error. Too much output waits for you, connection closed"),
            Notice::TooManyNames => writeln!(out, "Error. Three unknown names, goodbye"),

            Notice::Waiting { count: 1 } => writeln!(out, "1 message came while you were away"),
            Notice::Waiting { count } => writeln!(out, "{count} messages came while you were away"),
            Notice::Stored { to, seen } => {
                write!(out, "{} is offline (", First(to.as_str()))?;
                self.write_last_online(*seen, out)?;
                writeln!(out, "), message stored")
            }
            Notice::SomeSkipped => writeln!(out, "Some recipients did not get your message"),
            Notice::SomeFull => writeln!(out, "Some mailboxes are full, not everybody will get your message"),
            Notice::StoredInGroup { group, here, away } => {
                write!(out, "Sent to {group}: ")?;
                if !here.is_empty() {
                    write!(out, "{}; ", Names(here))?;
                }
                write!(out, "stored for ")?;
                for (at, (user, seen)) in away.iter().enumerate() {
                    write!(out, "{}{user} (", if at == 0 { "" } else { ", " })?;
                    self.write_last_online(*seen, out)?;
                    write!(out, ")")?;
                }
                writeln!(out)
            }
            Notice::Sent => writeln!(out, "[*sent*]"),
            Notice::Delivered(readers) => writeln!(out, "[delivered to {readers}]"),
            Notice::Seen(readers) => writeln!(out, "[seen by {readers}]"),
            Notice::SeenMeanwhile { by, texts, sent, seen } => {
                write!(out, "[seen by {by} ")?;
                self.write_time(*seen, out)?;
                write!(out, ": {}, the last of ", Texts(*texts))?;
                self.write_time(*sent, out)?;
                writeln!(out, "]")
            }
            Notice::ReceiptsDropped { max } => {
                writeln!(out, "[more than {max} users read what you had sent: some are not named]")
            }
            Notice::Arrived(user) => writeln!(out, "{} logged in", First(user.as_str())),
            Notice::Left(user) => writeln!(out, "{} logged out", First(user.as_str())),

            Notice::Names(users) => users.iter().try_for_each(|user| writeln!(out, "{}", First(user.as_str()))),
            Notice::Nobody => writeln!(out, "Nobody else"),
            Notice::Blocked(user) => writeln!(out, "{} is blocked", First(user.as_str())),
            Notice::Unblocked(user) => writeln!(out, "{} is unblocked", First(user.as_str())),
            Notice::Online { user, since, idle } => {
                write!(out, "{} is online since ", First(user.as_str()))?;
                self.write_ago(*since, out)?;
                writeln!(out, ", idle for {}", Span(*idle))
            }
            Notice::Offline { user, seen } => {
                write!(out, "{} is offline, last online ", First(user.as_str()))?;
                self.write_ago(*seen, out)?;
                writeln!(out)
            }
            Notice::NeverOnline(user) => writeln!(out, "{} has never been online", First(user.as_str())),
            Notice::Receipts { on: true } => writeln!(out, "Receipts are on"),
            Notice::Receipts { on: false } => writeln!(out, "Receipts are off"),
            Notice::Groups(groups) => groups.iter().try_for_each(|Membership { group, owned, members }| {
                let owned = if *owned { "yours, " } else { "" };
                let plural = if *members == 1 { "" } else { "s" };
                writeln!(out, "{} ({owned}{members} member{plural})", First(group.as_str()))
            }),
            Notice::NoGroups => writeln!(out, "You are in no group"),
            Notice::Members { owner, members } => members.iter().try_for_each(|user| {
                writeln!(out, "{}{}", First(user.as_str()), if user == owner { " (owner)" } else { "" })
            }),
            Notice::Group { group, by, news } => write_news(group.as_str(), by, news, out),
            Notice::Mode(mode) => writeln!(out, "{}", entered(*mode)),
            Notice::Asked(Question::Create) => writeln!(out, "Create a new group? (y/n)"),
            Notice::Asked(Question::Name) => writeln!(out, "Name of the new group?"),
            Notice::Asked(Question::Members) => writeln!(out, "Its members? (user~user~..., or ~ for nobody yet)"),
            Notice::Peer { .. } | Notice::Expect { .. } | Notice::NoPeer { .. } => Ok(()),
            Notice::Manifest { .. } | Notice::ChunkHashes { .. } | Notice::Holder { .. } => Ok(()),
            Notice::ManifestEnd(_) | Notice::HoldersEnd(_) => Ok(()),
            Notice::Address { user, .. } => {
                writeln!(out, "You may write to {user} privately, type: private {user} <text>")
            }
            Notice::AsksAddress(user) => {
                writeln!(out, "{} wants your address, type: allow {user} or deny {user}", First(user.as_str()))
            }
            Notice::AsksPrivate(user) => {
                let first = First(user.as_str());
                writeln!(out, "{first} wants a private session with you, type: allow {user} or deny {user}")
            }
            Notice::RequestSent(user) => writeln!(out, "Request sent to {user}"),
            Notice::Allowed(user) => writeln!(out, "{} is told that you agree", First(user.as_str())),
            Notice::Denied(user) => writeln!(out, "{} is told that you decline", First(user.as_str())),
            Notice::Declined(user) => writeln!(out, "{} declined", First(user.as_str())),
            Notice::Registered { file, chunks } => {
                writeln!(out, "{} is registered, {}", First(file.as_str()), Chunks(*chunks))
            }
            Notice::Available { file, bytes, chunks } => {
                let plural = if *bytes == 1 { "" } else { "s" };
                writeln!(out, "{} is available, {bytes} byte{plural} in {}", First(file.as_str()), Chunks(*chunks))
            }
            Notice::Has { user, chunks, .. } => writeln!(out, "{} [{chunks}]", First(user.as_str())),
            Notice::NotAvailable { file, of_chunks } => {
                let what = if *of_chunks { "these chunks" } else { "it" };
                writeln!(out, "{} is not available: nobody online has {what}", First(file.as_str()))
            }
            Notice::HelpAll => write_help(out),
            Notice::Help(command) => {
                writeln!(out, "{} - {}{}", Usage(command), command.summary, marked(command))?;
                writeln!(out, "  {}", command.rule)?;
                writeln!(out, "  for example {}", command.example)
            }
            Notice::Refused(refusal) => {
                write!(out, "Error. ")?;
                write_refusal(refusal, out)?;
                writeln!(out)
            }
        }
    }

    fn write_letter(&self, letter: &Letter, brackets: Brackets, out: &mut Vec<u8>) -> std::io::Result<()> {
        if letter.scope == Scope::General {
            write!(out, "[GENERAL] ")?;
        }
        match letter.road {
            // General texts show their time always, as the Aalto system does.
            Road::Live if letter.scope != Scope::General => {}
            Road::Live | Road::Mail => {
                write!(out, "[")?;
                self.write_time(letter.sent, out)?;
                write!(out, "] ")?;
            }
            Road::Again => {
                write!(out, "[")?;
                self.write_time(letter.sent, out)?;
                write!(out, ", perhaps repeated] ")?;
            }
        }
        // The hot line of the whole server: no formatting machinery.
        match &letter.scope {
            Scope::Group(group) => write!(out, "[{group}/{}] ", letter.from)?,
            Scope::Plain | Scope::General if brackets == Brackets::Square => write!(out, "[{}]: ", letter.from)?,
            Scope::Plain if reads_oddly(letter.from.as_str()) => write!(out, "\"{}\": ", letter.from)?,
            Scope::Plain | Scope::General => {
                out.extend_from_slice(letter.from.as_str().as_bytes());
                out.extend_from_slice(b": ");
            }
        }
        out.extend_from_slice(letter.text.as_str().as_bytes());
        out.push(b'\n');
        Ok(())
    }

    fn write_last_online(&self, seen: Option<Ago>, out: &mut Vec<u8>) -> std::io::Result<()> {
        let Some(seen) = seen else { return write!(out, "never online yet") };
        write!(out, "last online ")?;
        self.write_ago(seen, out)
    }

    fn write_ago(&self, ago: Ago, out: &mut Vec<u8>) -> std::io::Result<()> {
        self.write_time(ago.wall, out)?;
        write!(out, ", {} ago", Span(ago.millis))
    }

    /// `dd/mm/yy HH:MM:SS` in the zone, the layout of the Aalto system.
    fn write_time(&self, wall: i64, out: &mut Vec<u8>) -> std::io::Result<()> {
        let second = wall.div_euclid(1000);
        let (last, mut time) = self.last.get();
        if second != last {
            let local = Timestamp::from_second(second).unwrap_or_default().to_zoned(self.zone.clone());
            time.clear();
            // Fits: every field has two digits.
            let _ = write!(time, "{}", local.strftime("%d/%m/%y %H:%M:%S"));
            self.last.set((second, time));
        }
        out.extend_from_slice(time.as_bytes());
        Ok(())
    }
}

/// How a sender stands before his text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brackets {
    /// `hans: hi`
    None,
    /// `[hans]: hi`
    Square,
}

/// Why a framed request was not carried out.
pub(super) fn fault(fault: Fault) -> String {
    let max = framed::FRAME_BYTES_MAX;
    let why = match fault {
        Fault::TooLong => format!("No frame, or one of over {max} bytes; netcat is welcome at the line port"),
        Fault::CutShort => "The connection ended inside a frame".to_owned(),
        Fault::TooSlow => "The request took too long".to_owned(),
        Fault::NotUtf8 => "The frame is not UTF-8 text".to_owned(),
        Fault::UnknownRequest => "No such request".to_owned(),
        Fault::MissingFields => "Fields of the request are missing or wrong".to_owned(),
        Fault::NotLoggedIn => "You are not logged in here, or not any longer".to_owned(),
        Fault::BadAddress => "You must listen at an address and a port from 1 to 65535".to_owned(),
        Fault::ForeignAddress => "You must listen at the address that you call from, or at localhost".to_owned(),
        Fault::TooManyTries => "Too many tries on one connection".to_owned(),
        Fault::Unavailable => "The server stops or is full, try again later".to_owned(),
    };
    format!("Error. {why}")
}

fn write_news(group: &str, by: &UserName, news: &News, out: &mut Vec<u8>) -> std::io::Result<()> {
    let actor = First(by.as_str());
    match news {
        News::Created(members) if members.is_empty() => writeln!(out, "{actor} created the group {group}"),
        News::Created(members) => writeln!(out, "{actor} created the group {group} with {}", Names(members)),
        News::Added(users) => writeln!(out, "{actor} added {} to {group}", Names(users)),
        News::Removed(users) => writeln!(out, "{actor} removed {} from {group}", Names(users)),
        News::Renamed(to) => writeln!(out, "{actor} renamed {group} to {to}"),
        News::Owned(user) => writeln!(out, "{actor} made {user} the owner of {group}"),
        News::Left => writeln!(out, "{actor} left {group}"),
        News::Deleted => writeln!(out, "{actor} deleted {group}"),
    }
}

/// What to type in a mode, and how to leave it.
fn entered(mode: Mode) -> &'static str {
    match mode {
        Mode::Command => "Command mode: type commands, help lists them",
        Mode::General => "General mode: what you type goes to everybody; /exit leaves, /help lists commands",
        Mode::Direct => "Direct mode: type user~text; /exit leaves, /help lists commands",
        Mode::Group => "Group mode: type group~text; /exit leaves, /help lists commands",
    }
}

fn write_help(out: &mut Vec<u8>) -> std::io::Result<()> {
    let width = COMMANDS.iter().map(|command| command.name.len() + command.arguments.len() + 1).max().unwrap_or(0);
    for command in &COMMANDS {
        let usage = format!("{} {}", command.name, command.arguments);
        writeln!(out, "{usage:width$}  {}{}", command.summary, marked(command))?;
    }
    Ok(())
}

/// What help says behind a summary.
fn marked(command: &Command) -> &'static str {
    if command.needs_client { " (client only)" } else { "" }
}

fn write_refusal(refusal: &Refusal, out: &mut Vec<u8>) -> std::io::Result<()> {
    match refusal {
        Refusal::Usage(command) => write!(out, "Usage: {}", Usage(command)),
        Refusal::InvalidCommand(word) => write!(out, "Invalid command {} (try help)", word.as_str()),
        Refusal::NeedsClient(word) => write!(out, "{word} needs the client program"),
        Refusal::InvalidUser(word) => write!(out, "Invalid user {}", word.as_str()),
        Refusal::UnknownUser => write!(out, "Unknown user"),
        Refusal::BadName(why) => write!(out, "Invalid user name: {why}"),
        Refusal::BadPassword => {
            write!(out, "A password is 1 to 128 printable ASCII characters without spaces, choose another")
        }
        Refusal::BadToken => write!(out, "This session cannot be resumed, log in with the password"),
        Refusal::NameTaken => write!(out, "This name is taken, choose another"),
        Refusal::NoAccount => write!(out, "The account could not be written, not created"),
        Refusal::Yourself(verb) => write!(out, "You cannot {verb} yourself"),
        Refusal::Blocked(user) => write!(out, "{user} has blocked you, nothing sent"),
        Refusal::AlreadyBlocked(user) => write!(out, "{user} is already blocked"),
        Refusal::NotBlocked(user) => write!(out, "{user} was not blocked"),
        Refusal::MailboxFull(user) => write!(out, "The mailbox of {user} is full, message not stored"),
        Refusal::NoSuchGroup(word) => write!(out, "No such group {}", word.as_str()),
        Refusal::GroupExists(group) => write!(out, "The group {group} already exists"),
        Refusal::BadGroupName => {
            write!(out, "A group name is 1 to 32 printable ASCII characters without spaces and slashes")
        }
        Refusal::NotOwner(group) => write!(out, "Only the owner of {group} may do that"),
        Refusal::NotMember(group) => write!(out, "You are not a member of {group}"),
        Refusal::NotInGroup { group, user } => write!(out, "{user} is not a member of {group}"),
        Refusal::AlreadyMember { group, user } => write!(out, "{user} is already a member of {group}"),
        Refusal::AlreadyOwner(group) => write!(out, "You already own {group}"),
        Refusal::NotAdded(user) => write!(out, "{user} has blocked you, not added"),
        Refusal::OwnerStays(group) => {
            write!(out, "You own {group} and others remain: hand it over (group owner) or delete it first")
        }
        Refusal::GroupsFull { max } => write!(out, "The server has {max} groups and no room for more"),
        Refusal::OwnsTooMany { max } => write!(out, "You own {max} groups, nobody may own more"),
        Refusal::HeOwnsTooMany { user, max } => write!(out, "{user} owns {max} groups, nobody may own more"),
        Refusal::GroupFull { group, max } => write!(out, "{group} would have more than {max} members"),
        Refusal::NamesFull { max } => write!(out, "Too many names, {max} at most in one command"),
        Refusal::NoGroupYet => write!(out, "Which group? You have created or used none in this session"),
        Refusal::DirectForm => write!(out, "Direct mode: type user~text, or /exit"),
        Refusal::GroupForm => write!(out, "Group mode: type group~text, or /exit"),
        Refusal::NoMode => write!(out, "There is no mode to leave; logout or /leave leaves the server"),
        Refusal::Offline(user) => write!(out, "{user} is offline"),
        Refusal::NoPrivate(user) => {
            write!(out, "{user} cannot take private connections (he is not using the client program)")
        }
        Refusal::CannotBeFound(word) => write!(out, "{} cannot be found", word.as_str()),
        Refusal::RequestsFull { user, max } => write!(out, "{user} has {max} requests to answer, ask again later"),
        Refusal::NoRequest(word) => write!(out, "No request from {}", word.as_str()),
        Refusal::RequesterGone(user) => write!(out, "{user} is offline, nothing sent"),
        Refusal::BadFileName => write!(
            out,
            "A file name is 1 to 255 bytes without separators and blanks, with no dot in front and no .part at the end"
        ),
        Refusal::AlreadyRegistered { file, same: true } => {
            write!(out, "{file} is already registered, you serve it too")
        }
        Refusal::AlreadyRegistered { file, same: false } => {
            write!(out, "{file} is already registered, with other content or chunks")
        }
        Refusal::NotRegistered(file) => write!(out, "{file} is not registered"),
        Refusal::NoChunk { file, word } => write!(out, "{file} has no chunk {}", word.as_str()),
        Refusal::BadManifest(file) => write!(out, "The hashes of {file} do not fit, not registered"),
        Refusal::TooManyChunks { max } => write!(out, "A file has at most {max} chunks"),
        Refusal::FilesFull { max } => write!(out, "The server knows {max} files and has no room for more"),
        Refusal::ChunksFull { max } => write!(out, "The server has room for {max} chunks, these are too many"),
        Refusal::OwnsTooManyFiles { max } => write!(out, "You have registered {max} files, nobody may register more"),
        Refusal::OwnsTooManyChunks { max } => {
            write!(out, "Nobody may register files with more than {max} chunks in all")
        }
        Refusal::Busy => write!(out, "Not stored: the server is busy, try again"),
        Refusal::DiskFailed => write!(out, "Not stored: the disk refused"),
        Refusal::TextTooLong { max } => write!(out, "The text is too long (over {max} bytes), not sent"),
        Refusal::LineTooLong { max } => write!(out, "The line is too long (over {max} bytes), dropped"),
        Refusal::NotUtf8 => write!(out, "The line is not UTF-8 text, dropped"),
    }
}

/// A name of a user, group or file at the start of a line. `hans:` and `[02/03/26` are legal names, and unquoted they would
/// make the line look like something that hans said, or like a stored message.
pub(crate) struct First<'a>(pub(crate) &'a str);

/// Whether a name begins like a stored message or as if it were quoted, or ends like that of who
/// speaks in private.
fn reads_oddly(name: &str) -> bool {
    name.starts_with(['[', '"']) || name.ends_with("(private)")
}

impl std::fmt::Display for First<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.0;
        if reads_oddly(name) || name.ends_with(':') { write!(f, "\"{name}\"") } else { f.write_str(name) }
    }
}

/// Names in the middle of a line.
struct Names<'a>(&'a [UserName]);

impl std::fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut names = self.0.iter();
        names.next().map_or(Ok(()), |first| write!(f, "{first}"))?;
        names.try_for_each(|name| write!(f, ", {name}"))
    }
}

impl std::fmt::Display for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", Names(&self.names))?;
        if self.more > 0 {
            write!(f, " and {} more", self.more)?;
        }
        if self.texts == 1 { Ok(()) } else { write!(f, ": {}", Texts(self.texts)) }
    }
}

/// So many texts.
struct Texts(u32);

impl std::fmt::Display for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == 1 { f.write_str("1 message") } else { write!(f, "{} messages", self.0) }
    }
}

/// So many chunks.
struct Chunks(u32);

impl std::fmt::Display for Chunks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == 1 { f.write_str("1 chunk") } else { write!(f, "{} chunks", self.0) }
    }
}

/// A command as it is typed.
struct Usage<'a>(&'a Command);

impl std::fmt::Display for Usage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)?;
        if self.0.arguments.is_empty() { Ok(()) } else { write!(f, " {}", self.0.arguments) }
    }
}

/// A length of time in its largest whole unit.
struct Span(i64);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 / 1000 {
            seconds @ ..120 => write!(f, "{seconds} s"),
            seconds @ ..7200 => write!(f, "{} min", seconds / 60),
            seconds @ ..172_800 => write!(f, "{} h", seconds / 3600),
            seconds => write!(f, "{} days", seconds / 86_400),
        }
    }
}
