//! What is typed: whole lines out of a pipe, or a line editor on a terminal.
//!
//! A line is read only when it is asked for, so nothing piles up between here and the server.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, BufRead, IsTerminal, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use crossbeam_channel::{Receiver, Sender};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::completion::Completer;
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{ColorMode, CompletionType, Config, Context, Editor, ExternalPrinter, Helper};

use super::depot::Depot;
use super::memory::{HISTORY_LINES_MAX, Memory};
use super::state::Question;
use super::state::complete::{Known, Offer};
use super::{Input, screen};
use crate::wire::line::LINE_BYTES_MAX;

/// A question of the mind, and who is logged in.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) user: Option<String>,
}

/// What the mind and the typing thread share.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// The program ends: leave the editor.
    pub(super) ended: AtomicBool,
    /// For the prompt and for completion.
    pub(super) known: Mutex<Known>,
    /// The same in the clients that do not talk to the line port.
    pub(super) offer: Mutex<Option<Offer>>,
    /// Knows the names of files; missing in those clients.
    pub(super) depot: OnceLock<Depot>,
    /// The terminal as it was before its echo was turned off.
    echoing: Mutex<Option<Termios>>,
}

impl Desk {
    fn prompt(&self) -> String {
        match (self.offer.lock().as_deref(), self.known.lock()) {
            (Ok(Some(offer)), _) => offer.prompt.clone(),
            (_, Ok(known)) => known.prompt(),
            _ => "> ".to_owned(),
        }
    }

    fn complete(&self, line: &str, at: usize) -> (usize, Vec<String>) {
        match (self.offer.lock().as_deref(), self.known.lock()) {
            (Ok(Some(offer)), _) => offer.complete(line, at),
            (_, Ok(mut known)) => {
                if let Some(depot) = self.depot.get().filter(|_| Known::needs_own_files(line)) {
                    known.own_files = depot.names();
                }
                known.complete(line, at)
            }
            _ => (at, Vec::new()),
        }
    }

    /// Turns the echo of the terminal off, if standard input is one.
    fn hide(&self) {
        let stdin = io::stdin();
        let (Ok(mut kept), Ok(mut terminal)) = (self.echoing.lock(), tcgetattr(&stdin)) else { return };
        kept.get_or_insert_with(|| terminal.clone());
        terminal.local_modes.remove(LocalModes::ECHO);
        // A terminal that refuses shows the password; there is no other way to read it.
        let _ = tcsetattr(&stdin, OptionalActions::Drain, &terminal);
    }

    /// Turns it on again. Also done at the end of the program, whoever is asked for what.
    pub(super) fn unhide(&self) {
        if let Ok(mut kept) = self.echoing.lock()
            && let Some(terminal) = kept.take()
        {
            let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &terminal);
        }
    }
}

/// Reads a line per question, until the input ends or nobody asks any more. Prompts appear only
/// if a person types: on standard error, for standard output is for the events.
pub(super) fn read_lines(questions: &Receiver<Asked>, inputs: &Sender<Input>, desk: &Desk) {
    let person = io::stdin().is_terminal();
    let mut lines = io::stdin().lock();
    while let Ok(Asked { mut question, .. }) = questions.recv() {
        if person && let Some(last) = questions.try_iter().last() {
            question = last.question;
        }
        if person && question != Question::Line {
            screen::prompt(&prompt_of(question, desk));
        }
        let hidden = person && question == Question::Password;
        if hidden {
            desk.hide();
        }
        let line = read_line(&mut lines);
        if hidden {
            desk.unhide();
            screen::prompt("\n");
        }
        let input = line.map_or(Input::Ended, |line| Input::Typed(question, line));
        let ended = matches!(input, Input::Ended);
        if inputs.send(input).is_err() || ended {
            return;
        }
    }
}

/// One line without its end, cut off where it is longer than any line may be.
fn read_line(lines: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let max = LINE_BYTES_MAX as u64 + 1;
    let count = lines.by_ref().take(max).read_until(b'\n', &mut line).ok()?;
    if count == 0 {
        return None;
    }
    if line.pop_if(|byte| *byte == b'\n').is_none() && line.len() > LINE_BYTES_MAX {
        lines.skip_until(b'\n').ok()?;
    }
    Some(line)
}

fn prompt_of(question: Question, desk: &Desk) -> String {
    match question {
        Question::Name => "Username: ".to_owned(),
        Question::Password => "Password: ".to_owned(),
        Question::Line => desk.prompt(),
    }
}

/// The line editor of a terminal.
pub(super) struct Desktop<'a> {
    editor: Editor<Assistant<'a>, MemHistory>,
    desk: &'a Desk,
    memory: Memory,
    /// Whose history is loaded.
    user: Option<String>,
    /// A started line and the place of the cursor, while something else is asked.
    put_aside: Option<(String, usize)>,
}

/// How the question of the mind was answered.
enum Answer {
    Typed(String),
    /// Something else is asked; the started line is put aside.
    Overtaken,
    /// Ctrl-C on an empty line.
    Leave,
    EndOfInput,
}

impl<'a> Desktop<'a> {
    /// Takes the terminal; fails if it is none that can be edited on.
    pub(super) fn new(desk: &'a Desk, memory: Memory) -> rustyline::Result<Self> {
        let config = Config::builder()
            .max_history_size(HISTORY_LINES_MAX)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .completion_show_all_if_ambiguous(true)
            .completion_prompt_limit(usize::MAX)
            .keyseq_timeout(Some(100))
            // The highlighter hides passwords, whatever the user thinks of colours.
            .color_mode(ColorMode::Forced)
            .build();
        let history = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, history)?;
        editor.set_helper(Some(Assistant { desk, masking: false, line: RefCell::default() }));
        Ok(Self { editor, desk, memory, user: None, put_aside: None })
    }

    /// The way to print above the line that is being typed.
    pub(super) fn printer(&mut self) -> rustyline::Result<Box<dyn ExternalPrinter + Send>> {
        Ok(Box::new(self.editor.create_external_printer()?))
    }

    /// Answers questions until nobody asks any more or the program ends.
    pub(super) fn answer(mut self, questions: &Receiver<Asked>, inputs: &Sender<Input>) {
        while let Ok(mut asked) = questions.recv() {
            // A question makes those before it void.
            asked = questions.try_iter().last().unwrap_or(asked);
            let input = match self.ask(&asked, questions) {
                Answer::Typed(line) => Input::Typed(asked.question, line.into_bytes()),
                Answer::Overtaken => continue,
                Answer::Leave => Input::Leave,
                Answer::EndOfInput => Input::Ended,
            };
            if inputs.send(input).is_err() {
                return;
            }
        }
    }

    fn ask(&mut self, asked: &Asked, questions: &Receiver<Asked>) -> Answer {
        let is_line = asked.question == Question::Line;
        if is_line && self.user != asked.user {
            self.load_history(asked.user.as_deref());
        }
        if let Some(assistant) = self.editor.helper_mut() {
            assistant.masking = asked.question == Question::Password;
        }
        let prompt = prompt_of(asked.question, self.desk);
        let mut started = if is_line { self.put_aside.take() } else { None };
        loop {
            if self.desk.ended.load(Ordering::SeqCst) {
                return Answer::Overtaken;
            }
            let (text, at) = started.take().unwrap_or_default();
            let (left, right) = text.split_at_checked(at).unwrap_or((&text, ""));
            self.note(left, right);
            match self.editor.readline_with_initial(&prompt, (left, right)) {
                Ok(line) => {
                    if is_line {
                        self.keep(&line);
                    }
                    return Answer::Typed(line);
                }
                Err(ReadlineError::Interrupted) => {
                    let line = self.editor.helper().map(|assistant| assistant.line.take()).unwrap_or_default();
                    if self.desk.ended.load(Ordering::SeqCst) || !questions.is_empty() {
                        if is_line {
                            self.put_aside = Some(line);
                        }
                        return Answer::Overtaken;
                    }
                    if line.0.is_empty() {
                        return Answer::Leave;
                    }
                }
                // A terminal that went away is the end of the input too.
                Err(_) => return Answer::EndOfInput,
            }
        }
    }

    fn note(&self, left: &str, right: &str) {
        if let Some(assistant) = self.editor.helper() {
            *assistant.line.borrow_mut() = (format!("{left}{right}"), left.len());
        }
    }

    fn load_history(&mut self, user: Option<&str>) {
        self.user = user.map(str::to_owned);
        let _ = self.editor.clear_history();
        for line in user.map(|user| self.memory.history(user)).unwrap_or_default() {
            let _ = self.editor.add_history_entry(line);
        }
        self.editor.set_auto_add_history(false);
    }

    fn keep(&mut self, line: &str) {
        let fresh = self.editor.add_history_entry(line).unwrap_or(false);
        if let Some(user) = &self.user
            && fresh
            && !line.trim().is_empty()
        {
            // Without a place to keep it, the history lasts as long as the program.
            let _ = self.memory.keep_line(user, line);
        }
    }
}

/// Helps the editor: completes, hides passwords, and knows what is being typed.
struct Assistant<'a> {
    desk: &'a Desk,
    masking: bool,
    line: RefCell<(String, usize)>,
}

impl Helper for Assistant<'_> {}

impl Validator for Assistant<'_> {}

impl Completer for Assistant<'_> {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        if self.masking {
            return Ok((at, Vec::new()));
        }
        Ok(self.desk.complete(line, at))
    }
}

impl Hinter for Assistant<'_> {
    type Hint = String;

    /// Offers nothing; only listens.
    fn hint(&self, line: &str, at: usize, _: &Context<'_>) -> Option<String> {
        let text = if self.masking { "*".repeat(line.len()) } else { line.to_owned() };
        *self.line.borrow_mut() = (text, at);
        None
    }
}

impl Highlighter for Assistant<'_> {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if self.masking { Cow::Owned("*".repeat(line.chars().count())) } else { Cow::Borrowed(line) }
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        self.masking && !matches!(kind, CmdKind::MoveCursor)
    }
}
