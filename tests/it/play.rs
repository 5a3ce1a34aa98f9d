//! A transcript: what is typed, what is seen. The file is the play, a stage performs it.
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
//! a stalls, a drains    the client does not read, and reads again
//! +5s, +20ms            time passes
//! disk fails, disk works
//! crash                 the server is killed and started again
//! stop                  the server is asked to stop
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// One line that makes something happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    Send(char, String),
    EndOfInput(char),
    Cut(char),
    Stall(char),
    Drain(char),
    Pass(i64),
    Disk(bool),
    Crash,
    Stop,
}

/// What the server of a play is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) block: u32,
    pub(crate) timeout: u32,
    pub(crate) hide_blockers: bool,
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
pub(crate) trait Stage {
    fn perform(&mut self, act: &Act) -> Vec<String>;
}

/// A file with its acts and what is expected of each.
pub(crate) struct Play {
    path: PathBuf,
    /// Comments and the server line.
    head: String,
    pub(crate) setup: Setup,
    scenes: Vec<Scene>,
}

struct Scene {
    /// Blank lines and comments before the act, and the act as written.
    text: String,
    act: Act,
    expected: Vec<String>,
}

impl Play {
    pub(crate) fn load(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(format!("{name}.txt"));
        let file = std::fs::read_to_string(&path).expect("the transcript exists");
        let setup = Setup { block: 60, timeout: 120, hide_blockers: false, allow_new_users: false };
        let mut play = Self { path, head: String::new(), setup, scenes: Vec::new() };
        let mut before = String::new();
        for line in file.lines() {
            if line.is_empty() || line.starts_with('#') {
                let _ = writeln!(before, "{line}");
            } else if let Some(options) = line.strip_prefix("server ") {
                options.split(' ').for_each(|option| play.setup.set(option));
                let _ = writeln!(play.head, "{}{line}", std::mem::take(&mut before));
            } else if let Some(act) = act(line) {
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

    /// Whether every act can be performed over a socket: no time passes, nothing breaks, and
    /// nobody is given numbers that differ from run to run, as our client is.
    pub(crate) fn fits_sockets(&self) -> bool {
        self.scenes.iter().all(|scene| match &scene.act {
            Act::Send(_, line) => !line.starts_with("HELLO "),
            act => matches!(act, Act::EndOfInput(_) | Act::Stop),
        })
    }

    /// Performs the play; `see` makes what is expected and what is seen comparable. With
    /// `UPDATE=1` in the environment and `may_update`, what is seen becomes what is expected.
    pub(crate) fn perform(&self, stage: &mut dyn Stage, see: impl Fn(&str) -> Option<String>, may_update: bool) {
        let update = may_update && std::env::var_os("UPDATE").is_some();
        let mut text = self.head.clone();
        let mut wrong = None;
        for scene in &self.scenes {
            let seen = stage.perform(&scene.act);
            let _ = write!(text, "{}", scene.text);
            seen.iter().for_each(|line| text += &format!("{line}\n"));
            let comparable = |lines: &[String]| lines.iter().filter_map(|line| see(line)).collect::<Vec<_>>();
            let (expected, seen) = (comparable(&scene.expected), comparable(&seen));
            if expected != seen && wrong.is_none() {
                wrong = Some(format!(
                    "{}\n{}expected:\n  {}\nseen:\n  {}",
                    self.path.display(),
                    scene.text,
                    expected.join("\n  "),
                    seen.join("\n  ")
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

impl Setup {
    fn set(&mut self, option: &str) {
        match option.split_once('=') {
            Some(("block", seconds)) => self.block = seconds.parse().expect("seconds"),
            Some(("timeout", seconds)) => self.timeout = seconds.parse().expect("seconds"),
            None if option == "hide-blockers" => self.hide_blockers = true,
            None if option == "allow-new-users" => self.allow_new_users = true,
            _ => panic!("no such option: {option}"),
        }
    }
}

fn act(line: &str) -> Option<Act> {
    match line {
        "crash" => return Some(Act::Crash),
        "stop" => return Some(Act::Stop),
        "disk fails" => return Some(Act::Disk(false)),
        "disk works" => return Some(Act::Disk(true)),
        _ => {}
    }
    if let Some(span) = line.strip_prefix('+') {
        let (number, unit) = span.split_at(span.find(|c: char| !c.is_ascii_digit()).expect("a unit"));
        let number: i64 = number.parse().expect("a number");
        return Some(Act::Pass(if unit == "s" { number * 1000 } else { number }));
    }
    let mut chars = line.chars();
    let name = chars.next()?;
    match chars.as_str() {
        "/" => Some(Act::EndOfInput(name)),
        " cut" => Some(Act::Cut(name)),
        " stalls" => Some(Act::Stall(name)),
        " drains" => Some(Act::Drain(name)),
        ">" => Some(Act::Send(name, String::new())),
        rest => rest.strip_prefix("> ").map(|text| Act::Send(name, unescape(text))),
    }
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
