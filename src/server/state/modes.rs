//! What a line means without a command word: the modes of the Aalto system.
//!
//! A session begins in command mode. In the others a line is a text, or in group mode perhaps the
//! answer to a question; a line that begins with a slash is a command, and two slashes send one.

use super::groups::GroupId;
use super::roster::UserId;
use super::{ConnId, State};
use crate::wire::command::{self, BLANKS};
use crate::wire::name::GroupName;
use crate::wire::{GroupAct, Mode, Notice, Question, Refusal};

/// Modes that `/exit` finds its way back through; of more the oldest is forgotten.
const MODES_DEEP_MAX: usize = 16;

/// How a session talks.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) mode: Mode,
    /// The modes that led here, the first one first.
    entered_from: Vec<Mode>,
    /// What group mode has asked.
    question: Option<Asked>,
    /// The group last created or used.
    pub(super) group: Option<GroupId>,
    /// Texts bring receipts in command mode too.
    receipts: bool,
}

/// An open question of group mode.
#[derive(Debug, Clone)]
enum Asked {
    Create,
    Name,
    Members(GroupName),
}

impl Talk {
    pub(super) fn new() -> Self {
        Self { mode: Mode::Command, entered_from: Vec::new(), question: None, group: None, receipts: false }
    }

    pub(super) fn wants_receipts(&self) -> bool {
        self.receipts || self.mode != Mode::Command
    }

    fn enter(&mut self, mode: Mode) {
        if self.mode != mode {
            if self.entered_from.len() >= MODES_DEEP_MAX {
                // The first is command mode, which is always the last to return to.
                self.entered_from.remove(1);
            }
            self.entered_from.push(self.mode);
            self.mode = mode;
        }
        self.question = (mode == Mode::Group).then_some(Asked::Create);
    }

    fn exit(&mut self) -> Option<Mode> {
        self.mode = self.entered_from.pop()?;
        self.question = None;
        Some(self.mode)
    }
}

/// The text in a line of a chat mode; `None` if the line is a command.
pub(super) fn text_of(line: &str) -> Option<&str> {
    match line.strip_prefix('/') {
        None => Some(line),
        Some(rest) => rest.starts_with('/').then_some(rest),
    }
}

/// `name~text`: the first tilde ends the name.
fn addressed(line: &str) -> Option<(&str, &str)> {
    let (name, text) = line.split_once('~')?;
    let name = name.trim_matches(BLANKS);
    (!name.is_empty() && !command::is_blank(text)).then_some((name, text))
}

impl State {
    /// `/general`, `/direct`, `/group`
    pub(super) fn enter_mode(&mut self, conn: ConnId, user: UserId, mode: Mode) {
        let Some(visit) = self.visit(conn) else { return };
        visit.talk.enter(mode);
        self.line_passed(user, Some(Notice::Mode(mode)));
        self.send(conn, Notice::Mode(mode));
        if mode == Mode::Group {
            self.list_groups(conn, user);
            self.send(conn, Notice::Asked(Question::Create));
        }
    }

    /// `/exit`
    pub(super) fn exit_mode(&mut self, conn: ConnId, user: UserId) {
        match self.visit(conn).and_then(|visit| visit.talk.exit()) {
            Some(mode) => {
                self.line_passed(user, Some(Notice::Mode(mode)));
                self.send(conn, Notice::Mode(mode));
            }
            None => self.refuse(conn, Refusal::NoMode),
        }
    }

    /// After a dead link: our client must know what its next line means.
    pub(super) fn tell_mode(&mut self, conn: ConnId) {
        if let Some(mode) = self.visit(conn).map(|visit| visit.talk.mode)
            && mode != Mode::Command
        {
            self.send(conn, Notice::Mode(mode));
        }
    }

    /// `receipts [on|off]`
    pub(super) fn set_receipts(&mut self, conn: ConnId, on: Option<bool>) {
        let Some(visit) = self.visit(conn) else { return };
        visit.talk.receipts = on.unwrap_or(visit.talk.receipts);
        let on = visit.talk.wants_receipts();
        self.send(conn, Notice::Receipts { on });
    }

    /// A line of a chat mode that is no command.
    pub(super) fn say(&mut self, conn: ConnId, user: UserId, mode: Mode, line: &str) {
        let question = self.visit(conn).and_then(|visit| visit.talk.question.clone());
        if command::is_blank(line) && !matches!(question, Some(Asked::Members(_))) {
            return;
        }
        self.touch(conn);
        match (mode, question) {
            (Mode::Command, _) => {}
            (Mode::General, _) => self.general(conn, user, line),
            (Mode::Direct, _) => match addressed(line) {
                Some((to, text)) => self.message(conn, user, to, text),
                None => self.refuse(conn, Refusal::DirectForm),
            },
            (Mode::Group, Some(question)) => self.answer(conn, user, question, line),
            (Mode::Group, None) => self.say_in_group(conn, user, line),
        }
    }

    fn say_in_group(&mut self, conn: ConnId, user: UserId, line: &str) {
        match addressed(line) {
            Some((group, text)) => self.group(conn, user, group, GroupAct::Send { text }),
            None => self.refuse(conn, Refusal::GroupForm),
        }
    }

    /// Creates a group step by step. Whoever types a text instead does not want one.
    fn answer(&mut self, conn: ConnId, user: UserId, question: Asked, line: &str) {
        let word = line.trim_matches(BLANKS);
        let next = match (question, word) {
            (Asked::Create, "y" | "yes") => Some(Asked::Name),
            (Asked::Create, "n" | "no") => None,
            (Asked::Create, _) if line.contains('~') => {
                self.put_question(conn, user, None);
                return self.say_in_group(conn, user, line);
            }
            (Asked::Create, _) => Some(Asked::Create),
            (Asked::Name, word) => Some(self.free_name(conn, word).map_or(Asked::Name, Asked::Members)),
            (Asked::Members(name), word) => {
                self.put_question(conn, user, None);
                let users = word.split('~').map(|user| user.trim_matches(BLANKS)).filter(|user| !user.is_empty());
                return self.create_group(conn, user, name.as_str(), users);
            }
        };
        let is_over = next.is_none();
        self.put_question(conn, user, next);
        if is_over {
            self.send(conn, Notice::Mode(Mode::Group));
        }
    }

    fn put_question(&mut self, conn: ConnId, user: UserId, question: Option<Asked>) {
        let notice = question.as_ref().map(|question| {
            Notice::Asked(match question {
                Asked::Create => Question::Create,
                Asked::Name => Question::Name,
                Asked::Members(_) => Question::Members,
            })
        });
        if let Some(visit) = self.visit(conn) {
            visit.talk.question = question;
        }
        self.line_passed(user, notice.clone());
        if let Some(notice) = notice {
            self.send(conn, notice);
        }
    }
}
