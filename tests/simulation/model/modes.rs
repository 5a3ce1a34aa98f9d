//! Modes: what a line means without a command word.

use chinwag::server::ids::ConnId;
use chinwag::wire::command::{self, BLANKS};
use chinwag::wire::name::GroupName;
use chinwag::wire::time::Moment;
use chinwag::wire::{GroupAct, Mode, Notice, Question, Refusal, Scope, Tag};

use super::groups::GroupId;
use super::reach::Rule;
use super::{Fate, Model, UserId};

/// Modes that `/exit` finds its way back through.
const MODES_MAX: usize = 16;

/// How a session talks.
#[derive(Debug, Clone, Default)]
pub(super) struct Talk {
    /// The modes entered, one out of the other; none is command mode.
    path: Vec<Mode>,
    question: Option<Asked>,
    /// The group last created or used.
    pub(super) group: Option<GroupId>,
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
    pub(super) fn mode(&self) -> Mode {
        self.path.last().copied().unwrap_or(Mode::Command)
    }

    pub(super) fn wants_receipts(&self) -> bool {
        self.receipts || self.mode() != Mode::Command
    }
}

/// What somebody at our client takes his line for.
#[derive(Debug)]
pub(super) struct Belief {
    tag: Tag,
    mode: Mode,
    typed_at: Option<ConnId>,
}

/// `name~text`
fn addressed(line: &str) -> Option<(&str, &str)> {
    let (name, text) = line.split_once('~')?;
    let name = name.trim_matches(BLANKS);
    (!name.is_empty() && !command::is_blank(text)).then_some((name, text))
}

impl Model {
    /// What a line means at this connection, and what group mode has asked there.
    pub(crate) fn mode_at(&self, id: ConnId) -> (Mode, Option<Question>) {
        let talk = self.session(id).map(|session| &session.talk);
        let question = talk.and_then(|talk| talk.question.as_ref()).map(|asked| match asked {
            Asked::Create => Question::Create,
            Asked::Name => Question::Name,
            Asked::Members(_) => Question::Members,
        });
        (talk.map_or(Mode::Command, Talk::mode), question)
    }

    fn talk(&mut self, id: ConnId) -> Option<&mut Talk> {
        self.session_mut(id).map(|session| &mut session.talk)
    }

    /// Whether texts of this connection bring receipts.
    pub(super) fn wants_receipts(&self, id: ConnId) -> bool {
        self.session(id).is_some_and(|session| session.talk.wants_receipts())
    }

    pub(super) fn set_receipts(&mut self, id: ConnId, on: Option<bool>) {
        let Some(talk) = self.talk(id) else { return };
        talk.receipts = on.unwrap_or(talk.receipts);
        let on = talk.wants_receipts();
        self.say(id, Notice::Receipts { on });
    }

    pub(super) fn enter(&mut self, id: ConnId, user: UserId, mode: Mode, tag: Option<Tag>) {
        let Some(talk) = self.talk(id) else { return };
        if talk.mode() != mode {
            if talk.path.len() == MODES_MAX {
                talk.path.remove(0);
            }
            talk.path.push(mode);
        }
        talk.question = (mode == Mode::Group).then_some(Asked::Create);
        self.say(id, Notice::Mode(mode));
        self.remember(user, tag, Fate::Done(Some(Notice::Mode(mode))));
        if mode == Mode::Group {
            self.list_groups(id, user);
            self.say(id, Notice::Asked(Question::Create));
        }
    }

    /// Back to the mode that this one was entered from.
    pub(super) fn exit(&mut self, id: ConnId, user: UserId, tag: Option<Tag>) {
        let Some(talk) = self.talk(id) else { return };
        if talk.path.pop().is_none() {
            self.reach(Rule::NoMode);
            return self.refuse(id, Refusal::NoMode);
        }
        talk.question = None;
        let mode = talk.mode();
        if mode != Mode::Command {
            self.reach(Rule::Exit);
        }
        self.say(id, Notice::Mode(mode));
        self.remember(user, tag, Fate::Done(Some(Notice::Mode(mode))));
    }

    /// A line in a mode: the text in it if it is no command.
    pub(super) fn text_in<'a>(&mut self, id: ConnId, line: &'a str) -> Option<&'a str> {
        match line.strip_prefix('/') {
            _ if self.mode_at(id).0 == Mode::Command => None,
            None => Some(line),
            Some(rest) if rest.starts_with('/') => {
                self.reach(Rule::SlashText);
                Some(rest)
            }
            Some(_) => None,
        }
    }

    /// A line of a chat mode that is no command.
    pub(super) fn speak(&mut self, now: Moment, id: ConnId, user: UserId, line: &str, tag: Option<Tag>) {
        let question = self.talk(id).and_then(|talk| talk.question.clone());
        if command::is_blank(line) && !matches!(question, Some(Asked::Members(_))) {
            return;
        }
        self.users[user].active = now.elapsed;
        match (self.mode_at(id).0, question) {
            (Mode::Command, _) => {}
            (Mode::General, _) => self.general(now, id, user, line, tag),
            (Mode::Direct, _) => match addressed(line) {
                Some((to, text)) => {
                    self.reach(if text.contains('~') { Rule::SecondTilde } else { Rule::DirectText });
                    self.message(now, id, user, to, text, tag);
                }
                None => {
                    self.reach(Rule::WrongForm);
                    self.refuse(id, Refusal::DirectForm);
                }
            },
            (Mode::Group, Some(question)) => self.answer(now, id, user, question, line, tag),
            (Mode::Group, None) => self.speak_in_group(now, id, user, line, tag),
        }
    }

    fn speak_in_group(&mut self, now: Moment, id: ConnId, user: UserId, line: &str, tag: Option<Tag>) {
        match addressed(line) {
            Some((group, text)) => self.group(now, id, user, group, GroupAct::Send { text }, tag),
            None => {
                self.reach(Rule::WrongForm);
                self.refuse(id, Refusal::GroupForm);
            }
        }
    }

    fn answer(&mut self, now: Moment, id: ConnId, user: UserId, question: Asked, line: &str, tag: Option<Tag>) {
        let word = line.trim_matches(BLANKS);
        match (question, word) {
            (Asked::Create, "y" | "yes") => self.ask(id, user, Some(Asked::Name), tag),
            (Asked::Create, "n" | "no") => {
                self.ask(id, user, None, tag);
                self.say(id, Notice::Mode(Mode::Group));
            }
            (Asked::Create, _) if line.contains('~') => {
                self.ask(id, user, None, tag);
                self.speak_in_group(now, id, user, line, tag);
            }
            (Asked::Create, _) => self.ask(id, user, Some(Asked::Create), tag),
            (Asked::Name, _) => {
                let next = self.free_name(id, word).map_or(Asked::Name, Asked::Members);
                self.ask(id, user, Some(next), tag);
            }
            (Asked::Members(name), _) => {
                self.ask(id, user, None, tag);
                let users = word.split('~').map(|user| user.trim_matches(BLANKS)).filter(|user| !user.is_empty());
                self.reach(Rule::CreatedByDialogue);
                self.create_group(id, user, name.as_str(), users, tag);
            }
        }
    }

    fn ask(&mut self, id: ConnId, user: UserId, next: Option<Asked>, tag: Option<Tag>) {
        let question = next.as_ref().map(|asked| match asked {
            Asked::Create => Question::Create,
            Asked::Name => Question::Name,
            Asked::Members(_) => Question::Members,
        });
        if let Some(talk) = self.talk(id) {
            talk.question = next;
        }
        let notice = question.map(Notice::Asked);
        self.remember(user, tag, Fate::Done(notice.clone()));
        if let Some(notice) = notice {
            self.say(id, notice);
        }
    }

    /// To everybody who is here or has been here before, but not to who blocks the sender.
    fn general(&mut self, now: Moment, id: ConnId, from: UserId, text: &str, tag: Option<Tag>) {
        let known = (0..self.users.len()).filter(|other| {
            let user = &self.users[*other];
            *other != from && (user.conn.is_some() || user.seen.is_some())
        });
        let (blockers, to): (Vec<_>, Vec<_>) = known.partition(|user| self.users[*user].blocks.contains(&from));
        if !blockers.is_empty() {
            self.reach(Rule::GeneralSkipped);
        }
        if blockers.iter().any(|user| self.users[*user].conn.is_some()) {
            self.say(id, Notice::SomeSkipped);
        }
        let is_stored = to.iter().any(|user| self.users[*user].conn.is_none());
        self.reach(if is_stored { Rule::GeneralStored } else { Rule::GeneralText });
        self.publish(now, id, from, &to, Scope::General, text, None, tag);
    }

    // Our client.

    /// Somebody at our client takes the line with this tag for something in this mode; he typed it
    /// when his client had this connection.
    pub(crate) fn believe(&mut self, tag: Tag, mode: Mode, typed_at: Option<ConnId>) {
        self.beliefs.retain(|belief| belief.tag != tag);
        self.beliefs.push(Belief { tag, mode, typed_at });
    }

    /// A line of our client is carried out: does it mean what it meant when it was typed?
    pub(super) fn check_belief(&mut self, id: ConnId, tag: Tag, line: &str) {
        let Some(at) = self.beliefs.iter().position(|belief| belief.tag == tag) else { return };
        let Belief { mode: believed, typed_at, .. } = self.beliefs.swap_remove(at);
        let mode = self.mode_at(id).0;
        if believed != mode {
            self.fail(format!("{line:?} was typed in {believed:?} mode and is taken in {mode:?} mode"));
        } else if believed != Mode::Command && typed_at != Some(id) {
            self.reach(Rule::LedBack);
        }
    }
}
