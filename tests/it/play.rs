//! A transcript: what is typed, what is seen. The file is the play, a stage performs it.
//!
//! Those of the server look like this; `client_mind.rs` says how those of the client look.
//!
//! ```text
//! # What it proves, in our words.
//! server block=60 timeout=120 hide-blockers allow-new-users
//! a> yoda wise          the client `a` sends a line; the first one opens the connection
//! a< Welcome ...        what `a` is shown (checked)
//! store message ...     what must be on the disk before what follows is shown (checked)
//! a closed              the server has ended the connection (checked)
//! a/                    end of input: the client sends no more but still reads
//! a cut                 the connection breaks; what was unconfirmed was not read
//! a stalls, a drains    the client does not read and its socket is full; it reads again
//! a sleeps, a drains    the client does not read, but the kernels still take what it is sent
//! a dead                the link is dead, and only the client knows
//! a killed              the client's process is killed
//! a from 192.0.2.7      the client connects from there; it sends nothing yet
//! 1> login yoda wise    the framed client `1` logs in; a third word is where it says it listens
//! 1> message hans hi    what its user types; `heartbeat`, or `frame ...` as it is on the wire
//! 1> try yoda wise      the first half of a log-in, on a connection that stays
//! 1> listen             the second half; a second word is where it says it listens
//! 1> old heartbeat      a request with the token before the last one it has got
//! 1> as hans heartbeat  a request in another name
//! 1= OKAY               an answer on the connection of the request (checked)
//! 1< [yoda]: hi         a push that it got (checked)
//! 1 refuses, 1 resets   pushes to it fail, or are written and then reset
//! 1 hangs, 1 listens    pushes to it stay under way; it takes them again
//! 1 vanishes            connections to it do not come about
//! 1 moves               it listens on another port from its next log-in on
//! +5s, +20ms            time passes
//! disk fails, disk works
//! disk waits            the store does nothing until the disk works or fails
//! disk mute             the store writes, but reports it only when the disk works or fails
//! crash                 the server is killed and started again
//! stop                  the server is asked to stop
//! ```
//!
//! A small letter is a bare connection. A capital one is our client with all it decides: lines are
//! typed into it and shown by it. `A` to `M` have a pipe as their input, `N` to `Z` a person. Only
//! the simulator can play those.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use chinwag::server::state::{Change, MAILBOX_MESSAGES_MAX, Record};
use chinwag::wire::name::UserName;

/// One line that makes something happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    Send(char, String),
    From(char, IpAddr),
    /// What becomes of pushes to a framed client.
    Ear(char, Ear),
    Moves(char),
    EndOfInput(char),
    Cut(char),
    Stall(char),
    Drain(char),
    Sleep(char),
    Dead(char),
    Killed(char),
    Pass(i64),
    Disk(Disk),
    Crash,
    Stop,
}

/// What a framed client does with pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ear {
    Listens,
    Refuses,
    Resets,
    Hangs,
    Vanishes,
}

/// Seen instead of an answer when a dialect has no words for a line; then nothing is expected.
pub(crate) const NO_WORDS: &str = "(no words)";

/// What the disk does with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    Works,
    Fails,
    Waits,
    Mute,
}

impl Act {
    /// Who acts, unless it is the world.
    pub(crate) fn actor(&self) -> Option<char> {
        match *self {
            Self::Send(name, _) | Self::EndOfInput(name) | Self::Cut(name) | Self::Stall(name) => Some(name),
            Self::Drain(name) | Self::Sleep(name) | Self::Dead(name) | Self::Killed(name) => Some(name),
            Self::From(name, _) | Self::Ear(name, _) | Self::Moves(name) => Some(name),
            Self::Pass(_) | Self::Disk(_) | Self::Crash | Self::Stop => None,
        }
    }
}

/// As it is written in the file.
impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(name, line) => write!(f, "{name}> {line}"),
            Self::From(name, peer) => write!(f, "{name} from {peer}"),
            Self::Ear(name, ear) => write!(f, "{name} {}", format!("{ear:?}").to_lowercase()),
            Self::Moves(name) => write!(f, "{name} moves"),
            Self::EndOfInput(name) => write!(f, "{name}/"),
            Self::Cut(name) => write!(f, "{name} cut"),
            Self::Stall(name) => write!(f, "{name} stalls"),
            Self::Drain(name) => write!(f, "{name} drains"),
            Self::Sleep(name) => write!(f, "{name} sleeps"),
            Self::Dead(name) => write!(f, "{name} dead"),
            Self::Killed(name) => write!(f, "{name} killed"),
            Self::Pass(millis) if millis % 1000 == 0 => write!(f, "+{}s", millis / 1000),
            Self::Pass(millis) => write!(f, "+{millis}ms"),
            Self::Disk(disk) => write!(f, "disk {}", format!("{disk:?}").to_lowercase()),
            Self::Crash => f.write_str("crash"),
            Self::Stop => f.write_str("stop"),
        }
    }
}

/// What the server of a play is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) block: u32,
    pub(crate) timeout: u32,
    pub(crate) hide_blockers: bool,
    pub(crate) ask_private: bool,
    pub(crate) mailbox_max: u32,
    pub(crate) allow_new_users: bool,
}

/// The accounts of every play.
pub(crate) const ACCOUNTS: [(&str, &str); 6] = [
    ("yoda", "wise"),
    ("hans", "falcon"),
    ("luke", "skywalker"),
    ("vader", "sithlord"),
    ("r2d2", "droid"),
    ("~!@#$%^&*_-+=`|\\(){}[]:;\"'<>,.?/", "/?.,><'\";:][}{)(\\|`=+-_*&^%$#@!~"),
];

/// Performs acts and tells what came of each: lines like those of the file.
pub(crate) trait Stage<A = Act> {
    fn perform(&mut self, act: &A) -> Vec<String>;
}

/// The language of a kind of play: how its stage is set up, and which lines are acts.
pub(crate) trait Language: Default {
    type Act;

    /// Where these plays are, below the folder of all.
    const FOLDER: &'static str;

    /// Takes a line that says how the stage is set up; false if it says something else.
    fn set_up(&mut self, line: &str) -> bool;

    fn act(line: &str) -> Option<Self::Act>;
}

/// A file with its acts and what is expected of each.
pub(crate) struct Play<L: Language = Setup> {
    path: PathBuf,
    /// Comments and how the stage is set up.
    head: String,
    pub(crate) setup: L,
    scenes: Vec<Scene<L::Act>>,
}

struct Scene<A> {
    /// Blank lines and comments before the act, and the act as written.
    text: String,
    act: A,
    expected: Vec<String>,
}

/// The folder of the plays in this language.
fn folder<L: Language>() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(L::FOLDER)
}

/// The names of all plays in this language.
pub(crate) fn names<L: Language>() -> Vec<String> {
    let entries = std::fs::read_dir(folder::<L>()).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let plays = paths.filter(|path| path.extension().is_some_and(|extension| extension == "txt"));
    plays.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect()
}

impl<L: Language> Play<L> {
    pub(crate) fn load(name: &str) -> Self {
        let path = folder::<L>().join(format!("{name}.txt"));
        let file = std::fs::read_to_string(&path).expect("the transcript exists");
        Self::parse(path, &file)
    }

    /// Reads a transcript that would stand at `path`.
    pub(crate) fn parse(path: PathBuf, file: &str) -> Self {
        let name = path.display().to_string();
        let mut play = Self { path, head: String::new(), setup: L::default(), scenes: Vec::new() };
        let mut before = String::new();
        for line in file.lines() {
            if line.is_empty() || line.starts_with('#') {
                let _ = writeln!(before, "{line}");
            } else if play.setup.set_up(line) {
                let _ = writeln!(play.head, "{}{line}", std::mem::take(&mut before));
            } else if let Some(act) = L::act(line) {
                let text = format!("{}{line}\n", std::mem::take(&mut before));
                play.scenes.push(Scene { text, act, expected: Vec::new() });
            } else {
                let scene = play.scenes.last_mut().unwrap_or_else(|| panic!("{name}: {line:?} follows no act"));
                scene.expected.push(line.to_owned());
            }
        }
        let comment =
            if play.head.is_empty() { play.scenes.first().map(|scene| &scene.text) } else { Some(&play.head) };
        assert!(comment.is_some_and(|text| text.starts_with("# ")), "{name} says what it proves");
        play
    }

    /// Performs the play; `see` makes what is expected and what is seen comparable. With
    /// `UPDATE=1` in the environment and `may_update`, what is seen becomes what is expected.
    pub(crate) fn perform(
        &self,
        stage: &mut dyn Stage<L::Act>,
        see: impl Fn(&str) -> Option<String>,
        may_update: bool,
    ) {
        let update = may_update && std::env::var_os("UPDATE").is_some();
        let mut text = self.head.clone();
        let mut wrong = None;
        for scene in &self.scenes {
            let seen = stage.perform(&scene.act);
            let _ = write!(text, "{}", scene.text);
            seen.iter().for_each(|line| text += &format!("{line}\n"));
            let has_words = seen != [NO_WORDS];
            let comparable =
                |lines: &[String]| lines.iter().filter_map(|line| see(line)).collect::<Vec<_>>().join("\n");
            let (expected, seen) = (comparable(&scene.expected), comparable(&seen));
            if expected != seen && has_words && wrong.is_none() {
                wrong = Some(format!(
                    "{}\n{}expected:\n  {}\nseen:\n  {}",
                    self.path.display(),
                    scene.text,
                    expected.replace('\n', "\n  "),
                    seen.replace('\n', "\n  ")
                ));
            }
        }
        if update {
            std::fs::write(&self.path, text).expect("the transcript can be written");
        } else if let Some(wrong) = wrong {
            panic!("{wrong}");
        }
    }
}

impl Play {
    /// Whether our client acts, which takes the simulator.
    pub(crate) fn has_clients(&self) -> bool {
        self.scenes.iter().any(|scene| scene.act.actor().is_some_and(|name| name.is_ascii_uppercase()))
    }

    /// Whether a framed client acts, which no stage with sockets can.
    pub(crate) fn has_framed(&self) -> bool {
        self.scenes.iter().any(|scene| scene.act.actor().is_some_and(|name| name.is_ascii_digit()))
    }

    /// What happens, without what is expected.
    #[allow(dead_code, reason = "the simulator alone looks at acts")]
    pub(crate) fn acts(&self) -> Vec<Act> {
        self.scenes.iter().map(|scene| scene.act.clone()).collect()
    }

    /// Whether every act can be performed over a socket: no time passes, nothing breaks, and
    /// nobody is given numbers that differ from run to run, as our client is.
    pub(crate) fn fits_sockets(&self) -> bool {
        !self.has_framed()
            && self.scenes.iter().all(|scene| match &scene.act {
                Act::Send(_, line) => !line.starts_with("HELLO "),
                act => matches!(act, Act::EndOfInput(_) | Act::Stop),
            })
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            block: 60,
            timeout: 120,
            hide_blockers: false,
            ask_private: false,
            mailbox_max: MAILBOX_MESSAGES_MAX,
            allow_new_users: false,
        }
    }
}

impl Language for Setup {
    type Act = Act;

    const FOLDER: &'static str = "";

    fn set_up(&mut self, line: &str) -> bool {
        let options = line.strip_prefix("server ");
        options.into_iter().flat_map(|options| options.split(' ')).for_each(|option| self.set(option));
        options.is_some()
    }

    fn act(line: &str) -> Option<Act> {
        act(line)
    }
}

/// As the first line of a transcript.
impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server block={} timeout={}", self.block, self.timeout)?;
        f.write_str(if self.hide_blockers { " hide-blockers" } else { "" })?;
        f.write_str(if self.ask_private { " ask-private" } else { "" })?;
        f.write_str(if self.allow_new_users { " allow-new-users" } else { "" })?;
        if self.mailbox_max == MAILBOX_MESSAGES_MAX { Ok(()) } else { write!(f, " mailbox-max={}", self.mailbox_max) }
    }
}

impl Setup {
    fn set(&mut self, option: &str) {
        match option.split_once('=') {
            Some(("block", seconds)) => self.block = seconds.parse().expect("seconds"),
            Some(("timeout", seconds)) => self.timeout = seconds.parse().expect("seconds"),
            Some(("mailbox-max", number)) => self.mailbox_max = number.parse().expect("a number"),
            None if option == "hide-blockers" => self.hide_blockers = true,
            None if option == "ask-private" => self.ask_private = true,
            None if option == "allow-new-users" => self.allow_new_users = true,
            _ => panic!("no such option: {option}"),
        }
    }
}

fn act(line: &str) -> Option<Act> {
    match line {
        "crash" => return Some(Act::Crash),
        "stop" => return Some(Act::Stop),
        "disk fails" => return Some(Act::Disk(Disk::Fails)),
        "disk works" => return Some(Act::Disk(Disk::Works)),
        "disk waits" => return Some(Act::Disk(Disk::Waits)),
        "disk mute" => return Some(Act::Disk(Disk::Mute)),
        _ => {}
    }
    if let Some(millis) = millis(line) {
        return Some(Act::Pass(millis));
    }
    let mut chars = line.chars();
    let name = chars.next()?;
    match chars.as_str() {
        "/" => Some(Act::EndOfInput(name)),
        " listens" => Some(Act::Ear(name, Ear::Listens)),
        " refuses" => Some(Act::Ear(name, Ear::Refuses)),
        " resets" => Some(Act::Ear(name, Ear::Resets)),
        " hangs" => Some(Act::Ear(name, Ear::Hangs)),
        " vanishes" => Some(Act::Ear(name, Ear::Vanishes)),
        " moves" => Some(Act::Moves(name)),
        " cut" => Some(Act::Cut(name)),
        " stalls" => Some(Act::Stall(name)),
        " drains" => Some(Act::Drain(name)),
        " sleeps" => Some(Act::Sleep(name)),
        " dead" => Some(Act::Dead(name)),
        " killed" => Some(Act::Killed(name)),
        ">" => Some(Act::Send(name, String::new())),
        rest => match rest.strip_prefix(" from ") {
            Some(address) => Some(Act::From(name, address.parse().expect("an address"))),
            None => rest.strip_prefix("> ").map(|text| Act::Send(name, unescape(text))),
        },
    }
}

/// The milliseconds of `+5s` or `+20ms`.
pub(crate) fn millis(line: &str) -> Option<i64> {
    let span = line.strip_prefix('+')?;
    let (number, unit) = span.split_at(span.find(|c: char| !c.is_ascii_digit()).expect("a unit"));
    let number: i64 = number.parse().expect("a number");
    Some(if unit == "s" { number * 1000 } else { number })
}

/// `\r` and `\u{202e}` in what is typed: transcripts stay plain text.
fn unescape(text: &str) -> String {
    let mut parts = text.split("\\u{");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_once('}').expect("a closing brace");
        out.extend(u32::from_str_radix(code, 16).ok().and_then(char::from_u32));
        out += rest;
    }
    out.replace("\\r", "\r")
}

fn join(users: &[UserName]) -> String {
    users.iter().map(UserName::as_str).collect::<Vec<_>>().join(", ")
}

fn describe_change(change: &Change<UserName>) -> String {
    match change {
        Change::Made { name, owner, members } => format!("{name} made by {owner} with {}", join(members)),
        Change::Added(users) => format!("with {}", join(users)),
        Change::Removed(users) => format!("without {}", join(users)),
        Change::Renamed(name) => format!("named {name}"),
        Change::Owned(user) => format!("owned by {user}"),
        Change::Gone => "gone".to_owned(),
    }
}

/// A record as the line of a transcript.
pub(crate) fn describe(record: &Record) -> String {
    match record {
        Record::Message { to, letter, .. } => format!("store message from {} to {}", letter.from, join(to)),
        Record::Confirmed { user, .. } => format!("store confirmed by {user}"),
        Record::Receipt { to, by, receipt: Some(_) } => format!("store receipt from {by} for {to}"),
        Record::Receipt { to, by, receipt: None } => format!("store no receipt from {by} for {to}"),
        Record::Block { by, whom } => format!("store block by {by} of {whom}"),
        Record::Unblock { by, whom } => format!("store unblock by {by} of {whom}"),
        Record::Group { change, .. } => format!("store group {}", describe_change(change)),
        Record::Tokens { user, tokens } => {
            format!("store {} of {user}", if tokens.latest.is_some() { "token" } else { "no token" })
        }
        Record::Nothing => "store nothing".to_owned(),
        Record::CameOnline { .. } | Record::WentOffline { .. } | Record::Heartbeat { .. } => String::new(),
    }
}
