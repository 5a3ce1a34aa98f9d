//! What the session of this user is like at the server: its mode, and what else ends with it.
//!
//! The mind follows its own typed lines, once they are answered. So it knows what a line means
//! there, and which lines bring a new session to where the lost one was.

use crate::wire::command::{self, BLANKS};
use crate::wire::name::GroupName;
use crate::wire::{GroupVerb, Mode, Question, Request};

/// Modes that the server finds its way back through.
pub(super) const MODES_MAX: usize = 16;

/// Answers the open question of group mode, or asks it anew and says no: no question is open.
pub(super) const NO_QUESTION: [&str; 2] = ["/group", "n"];

/// What a session knows beyond who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Talk {
    /// The modes entered, one out of the other; none is command mode.
    path: Vec<Mode>,
    /// What group mode has asked.
    question: Option<Question>,
    /// The name for a new group, while its members are asked for.
    name: String,
    /// The group last created or used.
    pub(super) group: Option<GroupName>,
    receipts: bool,
}

impl Talk {
    pub(super) fn mode(&self) -> Mode {
        self.path.last().copied().unwrap_or(Mode::Command)
    }

    /// What the prompt shows.
    pub(super) fn prompt(&self) -> (Mode, Option<&GroupName>) {
        let mode = self.mode();
        (mode, self.group.as_ref().filter(|_| mode == Mode::Group))
    }

    /// The command in a line that is one here.
    pub(super) fn request<'a>(&self, line: &'a str) -> Option<Request<'a>> {
        let is_command = self.mode() == Mode::Command || (line.starts_with('/') && !line.starts_with("//"));
        if is_command { command::parse(line).ok() } else { None }
    }

    pub(super) fn is_asked_for_members(&self) -> bool {
        self.question == Some(Question::Members)
    }

    /// The server asks again, or something else than was expected.
    pub(super) fn asked(&mut self, question: Question) {
        self.question = Some(question);
    }

    /// Follows a line that is carried out. Returns whether it does nothing but change the session:
    /// such a line is to be carried out again in a new one.
    pub(super) fn follow(&mut self, line: &str) -> bool {
        let Some(request) = self.request(line) else {
            return self.mode() == Mode::Group && !line.starts_with('/') && self.answer(line);
        };
        match request {
            Request::Enter(mode) => self.enter(mode),
            Request::Exit => {
                self.path.pop();
                self.question = None;
            }
            Request::Receipts { on: Some(on) } => self.receipts = on,
            Request::Group { group, .. } | Request::InGroup { verb: GroupVerb::Members, words: group } => {
                self.use_group(group);
                return false;
            }
            _ => return false,
        }
        true
    }

    fn enter(&mut self, mode: Mode) {
        if self.mode() != mode {
            if self.path.len() >= MODES_MAX {
                self.path.remove(0);
            }
            self.path.push(mode);
        }
        self.question = (mode == Mode::Group).then_some(Question::Create);
    }

    /// A text in group mode; `true` if it is an answer and no more.
    fn answer(&mut self, line: &str) -> bool {
        let word = line.trim_matches(BLANKS);
        match (self.question, word) {
            (Some(Question::Create), "y" | "yes") => self.question = Some(Question::Name),
            (Some(Question::Create), "n" | "no") => self.question = None,
            (Some(Question::Create), _) if !line.contains('~') => {}
            (Some(Question::Name), _) => {
                word.clone_into(&mut self.name);
                self.question = Some(Question::Members);
            }
            (Some(Question::Members), _) => {
                self.question = None;
                let name = std::mem::take(&mut self.name);
                self.use_group(&name);
                return false;
            }
            _ => {
                self.question = None;
                if let Some((group, _)) = line.split_once('~') {
                    self.use_group(group.trim_matches(BLANKS));
                }
                return false;
            }
        }
        true
    }

    fn use_group(&mut self, name: &str) {
        if let Some(group) = GroupName::parse(name) {
            self.group = Some(group);
        }
    }

    /// The lines that bring a new session here.
    pub(super) fn way_here(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.receipts {
            lines.push("receipts on".to_owned());
        }
        lines.extend(self.group.iter().map(|group| format!("group members {group}")));
        let enter = |mode: &Mode| match mode {
            Mode::Command => "/exit",
            Mode::General => "/general",
            Mode::Direct => "/direct",
            Mode::Group => "/group",
        };
        lines.extend(self.path.iter().map(|mode| enter(mode).to_owned()));
        if self.mode() == Mode::Group {
            match self.question {
                Some(Question::Create) => {}
                Some(Question::Name) => lines.push("y".to_owned()),
                Some(Question::Members) => lines.extend(["y".to_owned(), self.name.clone()]),
                None => lines.push("n".to_owned()),
            }
        }
        lines
    }
}
