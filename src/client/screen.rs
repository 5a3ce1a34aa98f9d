//! The only file of the client that prints: plain lines, JSON, or lines above the one that is
//! being typed.
//!
//! A thread of its own, so that a reader who takes his time with our output does not keep the
//! mind from answering. It reports what has been written and flushed, for the confirmations.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustyline::ExternalPrinter;

use super::state::sharing::{Report, Trouble};
use super::state::told::Told;
use super::state::{End, PeerNotice, Shown};
use super::{Input, json};
use crate::wire::name::{Text, UserName};
use crate::wire::text::Speller;
use crate::wire::{Letter, Notice, Road, Scope};

/// Things written with one call, if so many wait.
const BATCH_MAX: usize = 256;

/// Moves the cursor up and down again: nothing to see, but the editor takes it only after it
/// has shown what was printed before.
const FENCE: &str = "\x1b[1A\n";

/// How things look.
#[derive(Debug, Clone)]
pub struct Look {
    /// One object per line instead of text.
    pub json: bool,
    /// A time before what others say and do.
    pub times: bool,
    /// Colours by sender, own name highlighted.
    pub colour: bool,
    /// Ring the terminal's bell at every message.
    pub bell: bool,
    /// A bar on standard error, if that is a terminal, instead of lines about progress.
    pub bar: bool,
    /// The local zone.
    pub zone: TimeZone,
}

/// Where things are written.
pub(super) enum Outlet {
    /// Standard output.
    Plain,
    /// Above the line that is being typed.
    Editor(Box<dyn ExternalPrinter + Send>),
}

/// Whether a person sits at a terminal on which lines can be edited.
pub fn can_edit() -> bool {
    let dumb = std::env::var("TERM").is_ok_and(|term| ["dumb", "cons25", "emacs"].contains(&term.as_str()));
    !dumb && io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Starts the thread. It ends when the sender of `things` is gone, and gives back the text that
/// could not be shown because the editor had been left; nothing if the output cannot be written.
pub(super) fn start(
    look: Look,
    outlet: Outlet,
    things: Receiver<(u64, Shown)>,
    reports: Sender<Input>,
) -> io::Result<JoinHandle<Option<String>>> {
    let mut painter = Painter::new(look);
    start_with(move |shown, out| painter.paint(shown, out), outlet, things, reports)
}

/// The same for the clients that do not talk to the line port.
pub(super) fn start_told(
    look: Look,
    outlet: Outlet,
    things: Receiver<(u64, Told)>,
    reports: Sender<Input>,
) -> io::Result<JoinHandle<Option<String>>> {
    let painter = Painter::new(look);
    start_with(move |told, out| painter.paint_told(told, out), outlet, things, reports)
}

fn start_with<T: Send + 'static>(
    mut paint: impl FnMut(&T, &mut String) + Send + 'static,
    mut outlet: Outlet,
    things: Receiver<(u64, T)>,
    reports: Sender<Input>,
) -> io::Result<JoinHandle<Option<String>>> {
    let run = move || {
        let mut left_over = String::new();
        while let Ok(first) = things.recv() {
            let mut text = String::new();
            let mut mark = first.0;
            paint(&first.1, &mut text);
            for (next, thing) in things.try_iter().take(BATCH_MAX) {
                paint(&thing, &mut text);
                mark = next;
            }
            match print(&mut outlet, &text, &left_over) {
                Ok(()) => drop(reports.send(Input::Displayed(mark))),
                Err(_) if matches!(outlet, Outlet::Editor(_)) => left_over.push_str(&text),
                Err(error) => {
                    let why = (error.kind() != ErrorKind::BrokenPipe).then(|| error.to_string());
                    drop(reports.send(Input::OutputClosed(why)));
                    return None;
                }
            }
        }
        Some(left_over)
    };
    thread::Builder::new().name("screen".into()).spawn(run)
}

fn print(outlet: &mut Outlet, text: &str, left_over: &str) -> io::Result<()> {
    match outlet {
        _ if text.is_empty() => Ok(()),
        Outlet::Plain => write_out(text),
        Outlet::Editor(_) if !left_over.is_empty() => Err(ErrorKind::BrokenPipe.into()),
        Outlet::Editor(printer) => {
            let mut print = |text: &str| printer.print(text.to_owned()).map_err(io::Error::other);
            print(text)?;
            print(FENCE)
        }
    }
}

/// Writes to standard output, outside the editor.
pub(super) fn write_out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a prompt to standard error, for input that is typed while the output goes elsewhere.
pub(super) fn prompt(text: &str) {
    let mut err = io::stderr().lock();
    // With standard error closed there is nobody left to ask.
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Says on standard error why the program ends.
pub fn complain(end: &End) {
    let mut err = io::stderr().lock();
    // With standard error closed there is nobody left to tell.
    if !end.error.is_empty() {
        let _ = writeln!(err, "error: {}", end.error);
    }
    if !end.hint.is_empty() {
        let _ = writeln!(err, "hint: {}", end.hint);
    }
}

/// Says on standard error what is worth knowing.
pub fn remark(text: &str) {
    let _ = writeln!(io::stderr().lock(), "note: {text}");
}

/// Makes text of things.
#[derive(Debug)]
struct Painter {
    look: Look,
    speller: Speller,
    own_name: String,
    bar: Bar,
}

/// Colours of senders; black, white and the colours of dim and red lines are left out.
const COLOURS: [u8; 10] = [32, 33, 34, 35, 36, 92, 93, 94, 95, 96];

impl Painter {
    fn new(look: Look) -> Self {
        let speller = Speller::new(look.zone.clone());
        Self { look, speller, own_name: String::new(), bar: Bar::default() }
    }

    fn paint(&mut self, shown: &Shown, out: &mut String) {
        if let Shown::Notice(Notice::Welcome { user, .. }, _) = shown {
            user.as_str().clone_into(&mut self.own_name);
        }
        if self.look.json {
            if let Some(object) = json::object(shown) {
                out.push_str(&object);
                out.push('\n');
            }
            return;
        }
        match shown {
            Shown::Notice(Notice::Said(letter), _) => self.paint_letter(letter, out),
            Shown::Notice(notice, wall) if self.is_of_others(notice) => {
                let line = format!("{}{}", self.time(*wall), self.spell(notice));
                self.paint_line("2", &line, out);
            }
            Shown::Notice(
                notice @ (Notice::Sent | Notice::SeenMeanwhile { .. } | Notice::ReceiptsDropped { .. }),
                _,
            ) => self.paint_line("2", &self.spell(notice), out),
            Shown::Notice(notice @ Notice::Refused(_), _) => self.paint_line("31", &self.spell(notice), out),
            Shown::Notice(notice, _) => out.push_str(&self.spell(notice)),
            Shown::Done(_) => {}
            Shown::Lost(why) => self.own_line(&format!("Connection lost ({why}), trying to get it back"), out),
            Shown::Back(millis) => self.own_line(&format!("Connected again after {} s", millis.div_euclid(1000)), out),
            Shown::Peer(PeerNotice::Said { from, text }, wall) => self.paint_private(from, text, *wall, out),
            Shown::Peer(notice, wall) => self.paint_peer(notice, *wall, out),
            Shown::Files(report, _) => self.paint_report(report, out),
            Shown::PasswordAgain => self.own_line("The server does not know this session any more, log in again", out),
        }
    }

    fn paint_told(&self, told: &Told, out: &mut String) {
        if self.look.json {
            return out.extend([&*json::told(told), "\n"]);
        }
        match told {
            Told::Said { from, text, when } => {
                self.style("2", &self.time(*when), out);
                self.style(&colour_of(from.as_str()).to_string(), from.as_str(), out);
                out.extend([": ", text.as_str(), if self.look.bell { "\x07\n" } else { "\n" }]);
            }
            Told::Pushed { text, when } => {
                self.style("2", &self.time(*when), out);
                let bell = self.look.bell && text.starts_with(['[', '<']);
                out.extend([text.as_str(), if bell { "\x07\n" } else { "\n" }]);
            }
            Told::News(text) => self.own_line(text, out),
            Told::Answer(text) => out.extend([text, "\n"]),
            Told::Refused(text) => self.paint_line("31", &format!("Error. {text}"), out),
        }
    }

    /// Whether it tells what others have just done.
    fn is_of_others(&self, notice: &Notice) -> bool {
        match notice {
            Notice::Arrived(_) | Notice::Left(_) | Notice::Delivered(_) | Notice::Seen(_) => true,
            Notice::Group { by, .. } => by.as_str() != self.own_name,
            _ => false,
        }
    }

    fn own_line(&self, text: &str, out: &mut String) {
        self.paint_line("33", &format!("-- {text}"), out);
    }

    fn paint_line(&self, style: &str, line: &str, out: &mut String) {
        self.style(style, line.trim_end(), out);
        out.push('\n');
    }

    fn paint_letter(&self, letter: &Letter, out: &mut String) {
        let spelled = self.spell(&Notice::Said(letter.clone()));
        let (from, text) = (letter.from.as_str(), letter.text.as_str());
        // The line is `[when] from: text` or `[group/from] text`; a name may stand in quotes.
        let head = &spelled[..spelled.len().saturating_sub(text.len() + 1)];
        let (before, after) = head.split_at(head.rfind(from).unwrap_or(head.len()));
        let after = after.strip_prefix(from).unwrap_or(after);
        if letter.road == Road::Live && letter.scope != Scope::General {
            let time = self.time(letter.sent);
            self.style("2", &time, out);
        }
        self.style("2", before, out);
        self.style(&colour_of(from).to_string(), from, out);
        out.push_str(after);
        self.paint_text(text, out);
        self.end_of_message(out);
    }

    /// `from(private): text`; the name may stand in quotes.
    fn paint_private(&self, from: &UserName, text: &Text, wall: i64, out: &mut String) {
        let spelled = PeerNotice::Said { from: from.clone(), text: text.clone() }.to_string();
        let head = &spelled[..spelled.len().saturating_sub(text.as_str().len())];
        let (before, after) = head.split_at(head.find(from.as_str()).unwrap_or(head.len()));
        let after = after.strip_prefix(from.as_str()).unwrap_or(after);
        self.style("2", &self.time(wall), out);
        out.push_str(before);
        self.style(&colour_of(from.as_str()).to_string(), from.as_str(), out);
        out.push_str(after);
        self.paint_text(text.as_str(), out);
        self.end_of_message(out);
    }

    fn paint_peer(&self, notice: &PeerNotice, wall: i64, out: &mut String) {
        match notice {
            PeerNotice::Hindered(_) => self.paint_line("31", &notice.to_string(), out),
            PeerNotice::Started { by_him: false, .. } => self.paint_line("", &notice.to_string(), out),
            PeerNotice::Unannounced { .. } | PeerNotice::NotListening(_) => self.own_line(&notice.to_string(), out),
            _ => self.paint_line("2", &format!("{}{notice}", self.time(wall)), out),
        }
    }

    fn paint_report(&mut self, report: &Report, out: &mut String) {
        match report {
            Report::Moved { bytes, of } => self.bar.show(*bytes, *of),
            Report::Progress(_) if self.look.bar => {}
            Report::Progress(_) | Report::Dropped(..) | Report::Again(_) | Report::Withdrawn(..) => {
                self.own_line(&report.to_string(), out)
            }
            // What is written after this stands where the bar was.
            Report::Here(..) | Report::Part { .. } | Report::HaveChunks(..) => {
                self.bar.clear();
                self.paint_line("", &report.to_string(), out);
            }
            Report::Failed(file, trouble @ Trouble::HaveAll) if self.look.bar => {
                self.paint_line("", &format!("{file}: {trouble}"), out);
            }
            Report::Failed(..) | Report::UnderWay(_) | Report::TooMany(_) | Report::Gaps(..) => {
                self.bar.clear();
                // `client get` says it at its end.
                if !self.look.bar {
                    self.paint_line("31", &report.to_string(), out);
                }
            }
        }
    }

    fn end_of_message(&self, out: &mut String) {
        if self.look.bell {
            out.push('\x07');
        }
        out.push('\n');
    }

    /// The text, with our own name highlighted where it stands as a word.
    fn paint_text(&self, text: &str, out: &mut String) {
        if self.own_name.is_empty() || !self.look.colour {
            return out.push_str(text);
        }
        let mut rest = text;
        let mut last = None;
        while let Some(at) = rest.find(&self.own_name) {
            let (before, found) = rest.split_at(at);
            let (name, after) = found.split_at(self.own_name.len());
            let edge = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
            out.push_str(before);
            if edge(before.chars().next_back().or(last)) && edge(after.chars().next()) {
                self.style("1;7", name, out);
            } else {
                out.push_str(name);
            }
            last = name.chars().next_back();
            rest = after;
        }
        out.push_str(rest);
    }

    fn style(&self, style: &str, text: &str, out: &mut String) {
        if !self.look.colour || text.is_empty() || style.is_empty() {
            return out.push_str(text);
        }
        out.extend(["\x1b[", style, "m", text, "\x1b[0m"]);
    }

    fn spell(&self, notice: &Notice) -> String {
        let mut bytes = Vec::new();
        self.speller.spell(notice, &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// `HH:MM ` in the local zone.
    fn time(&self, wall: i64) -> String {
        if !self.look.times {
            return String::new();
        }
        let local = Timestamp::from_millisecond(wall).unwrap_or_default().to_zoned(self.look.zone.clone());
        local.strftime("%H:%M ").to_string()
    }
}

/// How far `client get` is, on standard error.
#[derive(Debug, Default)]
struct Bar(Option<ProgressBar>);

impl Bar {
    fn show(&mut self, bytes: u64, of: u64) {
        let bar = self.0.get_or_insert_with(|| {
            // It draws nothing where standard error is no terminal.
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = "{bar:40} {percent} % of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
            ProgressStyle::with_template(style).map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
        });
        bar.set_length(of);
        bar.set_position(bytes);
    }

    fn clear(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

/// The same for a name in every run.
fn colour_of(name: &str) -> u8 {
    let sum = name.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    COLOURS[sum as usize % COLOURS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::name::GroupName;
    use crate::wire::{News, Readers};

    fn look(colour: bool, times: bool) -> Look {
        Look { json: false, times, colour, bell: false, bar: false, zone: TimeZone::UTC }
    }

    fn name(name: &str) -> UserName {
        UserName::parse(name).expect("a name")
    }

    fn painted(look: Look, notices: &[Notice]) -> String {
        let mut painter = Painter::new(look);
        let mut out = String::new();
        for notice in notices {
            painter.paint(&Shown::Notice(notice.clone(), 60_000), &mut out);
        }
        out
    }

    fn said_by(from: &str, text: &str, road: Road, scope: Scope) -> Notice {
        let (from, text) = (name(from), Text::harmless(text));
        Notice::Said(Letter { number: 1, from, text, sent: 0, road, scope, receipt: false })
    }

    fn said(text: &str, road: Road) -> Notice {
        said_by("hans:", text, road, Scope::Plain)
    }

    fn in_group(text: &str, road: Road) -> Notice {
        said_by("yoda", text, road, Scope::Group(GroupName::parse("friends").expect("a name")))
    }

    fn seen() -> Notice {
        Notice::Seen(Readers { names: vec![name("yoda")], more: 0, texts: 1 })
    }

    fn made_by(owner: &str) -> Notice {
        let group = GroupName::parse("friends").expect("a name");
        Notice::Group { group, by: name(owner), news: News::Created(Vec::new()) }
    }

    #[test]
    fn without_colours_and_times_it_is_what_netcat_shows() {
        let notices = [said("hi", Road::Live), said("ho", Road::Mail), Notice::Arrived(name("yoda"))];
        let plain = painted(look(false, false), &notices);
        assert_eq!(plain, "hans:: hi\n[01/01/70 00:00:00] hans:: ho\nyoda logged in\n");
    }

    #[test]
    fn times_stand_before_what_comes_unasked() {
        let notices = [said("hi", Road::Live), said("ho", Road::Mail), Notice::Left(name("yoda")), Notice::Nobody];
        let timed = painted(look(false, true), &notices);
        assert_eq!(timed, "00:00 hans:: hi\n[01/01/70 00:00:00] hans:: ho\n00:01 yoda logged out\nNobody else\n");
    }

    #[test]
    fn texts_to_many_and_what_became_of_ours() {
        let welcome = Notice::Welcome { user: name("bo"), pass: None };
        let notices = [
            welcome,
            in_group("hi", Road::Live),
            in_group("ho", Road::Mail),
            said_by("yoda", "hu", Road::Live, Scope::General),
            Notice::Sent,
            seen(),
            made_by("bo"),
            made_by("yoda"),
        ];
        let timed = painted(look(false, true), &notices);
        let lines: Vec<&str> = timed.lines().skip(1).collect();
        let wanted = [
            "00:00 [friends/yoda] hi",
            "[01/01/70 00:00:00] [friends/yoda] ho",
            "[GENERAL] [01/01/70 00:00:00] yoda: hu",
            "[*sent*]",
            "00:01 [seen by yoda]",
            "bo created the group friends",
            "00:01 yoda created the group friends",
        ];
        assert_eq!(lines, wanted);
        let yoda = format!("\x1b[{}myoda\x1b[0m", colour_of("yoda"));
        let coloured = painted(look(true, false), &notices);
        let lines: Vec<&str> = coloured.lines().skip(1).collect();
        assert_eq!(lines[0], format!("\x1b[2m[friends/\x1b[0m{yoda}] hi"));
        assert_eq!(lines[2], format!("\x1b[2m[GENERAL] [01/01/70 00:00:00] \x1b[0m{yoda}: hu"));
        assert_eq!(lines[3..5], ["\x1b[2m[*sent*]\x1b[0m", "\x1b[2m[seen by yoda]\x1b[0m"]);
    }

    #[test]
    fn what_is_told_without_a_line_port() {
        let told = [
            Told::said("anna", "a: b\x1b[2J", 60_000),
            Told::News("anna talks to you".to_owned()),
            Told::Answer("lab".to_owned()),
            Told::Refused("Nobody is called carla".to_owned()),
        ];
        let paint = |look: Look| {
            let painter = Painter::new(look);
            let mut out = String::new();
            told.iter().for_each(|told| painter.paint_told(told, &mut out));
            out
        };
        let words = "00:01 anna: a: b\u{241b}[2J\n-- anna talks to you\nlab\nError. Nobody is called carla\n";
        assert_eq!(paint(look(false, true)), words);
        let coloured = paint(look(true, false));
        assert!(coloured.contains("\x1b[31mError. ") && coloured.contains("\x1b[33m-- anna"), "{coloured:?}");
    }

    #[test]
    fn a_name_in_quotes_is_one() {
        let text = painted(look(false, false), &[said_by("[02/03/26", "hi", Road::Live, Scope::Plain)]);
        assert_eq!(text, "\"[02/03/26\": hi\n");
    }

    #[test]
    fn the_own_name_is_highlighted_as_a_word() {
        let welcome = Notice::Welcome { user: name("bo"), pass: None };
        let text = painted(look(true, false), &[welcome, said("bo, bobo and bo", Road::Live)]);
        assert_eq!(text.matches("\x1b[1;7mbo\x1b[0m").count(), 2, "{text:?}");
        assert!(text.contains("\x1b[0m: "), "the sender has a colour: {text:?}");
    }
}
