//! What a line means: commands, and texts to those who are to get them.

use chinwag::server::ids::ConnId;
use chinwag::wire::command::{self, ParseError};
use chinwag::wire::control::Say;
use chinwag::wire::name::{self, UserName};
use chinwag::wire::time::Moment;
use chinwag::wire::{Notice, Refusal, Request, Scope, Tag};

use super::reach::Rule;
use super::texts::{self, Text};
use super::{Expected, Fact, Fate, Model, Outcome, User, UserId, ago, repeated, set};

/// A text whose way the server is about to choose.
pub(super) struct Choice {
    id: ConnId,
    from: UserId,
    tag: Option<Tag>,
    /// Its readers, each with his text.
    texts: Vec<(UserId, u64)>,
    /// The answer if all of them get it at once, and once the disk has it.
    sent: Option<Notice>,
    stored: Option<Notice>,
}

impl Model {
    pub(super) fn ours(&mut self, now: Moment, id: ConnId, user: UserId, line: &str) {
        self.users[user].tokens.used = None;
        match Say::parse(line) {
            Ok(Say::Typed { tag, line }) => self.tagged(now, id, user, line, tag),
            Ok(Say::Seen(number)) => self.confirm(user, id, number),
            Ok(Say::Told(reader)) => self.confirm_told(id, user, reader),
            Ok(Say::Ping) => {
                if let Some(session) = self.session_mut(id) {
                    (session.pings, session.ponged) = (session.pings + 1, false);
                }
            }
            Err(_) => self.typed(now, id, user, line, None),
            // Not simulated: talk between clients.
            Ok(_) => self.is_off = true,
        }
    }

    /// A line with a tag: carried out once.
    fn tagged(&mut self, now: Moment, id: ConnId, user: UserId, line: &str, tag: Tag) {
        let known = self.users[user].lines.iter().rev().find(|(known, _)| *known == tag).map(|(_, fate)| fate.clone());
        self.users[user].active = if known.is_some() { now.elapsed } else { self.users[user].active };
        match known {
            Some(Fate::Waits { outcome, answer, has_effect })
                if has_effect || self.outcomes[outcome] != Outcome::Failed =>
            {
                self.expect(id, Expected::AfterDisk(outcome, answer));
            }
            Some(Fate::Done(answer)) => {
                if tag.session < self.first_of_run {
                    self.reach(Rule::LineKnown);
                }
                answer.into_iter().for_each(|answer| self.say(id, answer));
            }
            Some(Fate::Waits { .. }) | None => {
                self.check_belief(id, tag, line);
                self.typed(now, id, user, line, Some(tag));
            }
        }
        if self.is_online(id) {
            self.say(id, Notice::Done(tag));
        }
    }

    /// A line of somebody logged in: a text or a command, as its mode has it.
    pub(super) fn typed(&mut self, now: Moment, id: ConnId, user: UserId, line: &str, tag: Option<Tag>) {
        match self.text_in(id, line) {
            Some(text) => self.speak(now, id, user, text, tag),
            None => self.command(now, id, user, line, tag),
        }
    }

    fn command(&mut self, now: Moment, id: ConnId, user: UserId, line: &str, tag: Option<Tag>) {
        let request = match command::parse(line) {
            Ok(request) => request,
            Err(ParseError::Empty) => return,
            Err(ParseError::Unknown(word)) => return self.refuse(id, Refusal::InvalidCommand(repeated(word))),
            Err(ParseError::Usage(command)) => {
                self.users[user].active = now.elapsed;
                return self.refuse(id, Refusal::Usage(command));
            }
        };
        self.request(now, id, user, request, tag);
    }

    /// What somebody asks for, by a line or in a frame.
    pub(super) fn request(&mut self, now: Moment, id: ConnId, user: UserId, request: Request<'_>, tag: Option<Tag>) {
        self.users[user].active = now.elapsed;
        match request {
            Request::Message { to, text } => self.message(now, id, user, to, text, tag),
            Request::Broadcast { text } => self.broadcast(id, user, text, tag),
            Request::WhoElse => self.list(id, user, |other| other.conn.is_some()),
            Request::WhoElseSince { millis } => self.list(id, user, |other| {
                let gone = other.seen.map(|seen| now.elapsed - seen.elapsed);
                other.conn.is_some() || gone.is_some_and(|gone| gone <= millis)
            }),
            Request::Block { user: word } => self.block(id, user, word, true, tag),
            Request::Unblock { user: word } => self.block(id, user, word, false, tag),
            Request::Status { user: word } => self.status(now, id, user, word),
            Request::Receipts { on } => self.set_receipts(id, on),
            Request::Group { group, act } => self.group(now, id, user, group, act, tag),
            Request::InGroup { verb, words } => self.in_group(now, id, user, verb, words, tag),
            Request::Groups => self.list_groups(id, user),
            Request::Enter(mode) => self.enter(id, user, mode, tag),
            Request::Exit => self.exit(id, user, tag),
            Request::Help { topic } => self.help(id, topic),
            Request::Logout => self.part(now, id, Some(Notice::Goodbye)),
            Request::Private { .. } => self.refuse(id, Refusal::NeedsClient("private")),
            // Not simulated.
            Request::StartPrivate { .. } | Request::StopPrivate { .. } | Request::GetAddress { .. } => {
                self.is_off = true;
            }
            Request::Allow { .. } | Request::Deny { .. } | Request::Register { .. } => self.is_off = true,
            Request::SearchFile { .. } | Request::SearchChunk { .. } | Request::Download { .. } => self.is_off = true,
        }
    }

    fn help(&mut self, id: ConnId, topic: Option<&str>) {
        let Some(word) = topic else { return self.say(id, Notice::HelpAll) };
        let found = command::find(word).or_else(|| command::find(word.strip_prefix('/').unwrap_or(word)));
        let Some(command) = found else { return self.refuse(id, Refusal::InvalidCommand(repeated(word))) };
        let forms = command::COMMANDS.iter().filter(|form| command::is_form(form, command));
        [command].into_iter().chain(forms).for_each(|command| self.say(id, Notice::Help(command)));
    }

    /// The user of that name, unless it is nobody or the asker.
    fn other(&mut self, id: ConnId, asker: UserId, word: &str, verb: &'static str) -> Option<UserId> {
        let found = self.find(word);
        match found {
            None => self.refuse(id, Refusal::InvalidUser(repeated(word))),
            Some(user) if user == asker => self.refuse(id, Refusal::Yourself(verb)),
            Some(_) => return found,
        }
        None
    }

    pub(super) fn message(&mut self, now: Moment, id: ConnId, from: UserId, word: &str, text: &str, tag: Option<Tag>) {
        let Some(to) = self.other(id, from, word, "message") else { return };
        // First the block, then whether he is here.
        if self.users[to].blocks.contains(&from) {
            return self.refuse(id, Refusal::Blocked(self.name(to)));
        }
        let seen = self.users[to].seen.map(|seen| ago(now, seen));
        let is_away = self.users[to].conn.is_none();
        let answer = is_away.then(|| Notice::Stored { to: self.name(to), seen });
        self.publish(now, id, from, &[to], Scope::Plain, text, answer, tag);
    }

    /// A text to some. `answer`: what its sender is told once the disk has it, if not that it is on
    /// its way.
    #[allow(clippy::too_many_arguments, reason = "all of it makes the text")]
    pub(super) fn publish(
        &mut self,
        now: Moment,
        id: ConnId,
        from: UserId,
        to: &[UserId],
        scope: Scope,
        text: &str,
        answer: Option<Notice>,
        tag: Option<Tag>,
    ) {
        let receipt = self.wants_receipts(id);
        let sent = receipt.then_some(Notice::Sent);
        if receipt {
            self.reach(Rule::Sent);
        }
        let mut texts = Vec::with_capacity(to.len());
        for &reader in to {
            let twice = |other: &Text| tag.is_some() && other.tag == tag && other.from == from && !other.is_refused;
            if self.users[reader].texts.iter().any(|other| twice(other) && !other.may_be_lost) {
                self.fail(format!("the line {tag:?} is carried out twice"));
            }
            let number = self.count();
            let meant_for = self.users[reader].conn;
            let text = Text::new(number, from, text, now.wall, tag, scope.clone(), meant_for, receipt);
            self.users[reader].texts.push(text);
            texts.push((reader, number));
        }
        self.expect(id, Expected::Choice);
        let stored = answer.or(sent.clone());
        self.choice = Some(Choice { id, from, tag, texts, sent, stored });
    }

    /// The server has decided on an event: the texts in hand go to the disk for these readers, and
    /// at once to the others. Whoever is away has no other way.
    pub(crate) fn chose(&mut self, to_disk: &[UserName]) {
        let Some(Choice { id, from, tag, texts, sent, stored }) = self.choice.take() else { return };
        let outcome = self.outcome();
        let (mut is_stored, mut has_effect) = (false, false);
        for (to, number) in texts {
            let is_away = self.users[to].conn.is_none();
            if to_disk.contains(&self.users[to].name) {
                is_stored = true;
                self.facts.push(Fact::Text { to, number, outcome });
                if let Some(text) = texts::text(&mut self.users[to], number) {
                    text.is_mail = true;
                }
            } else if is_away {
                self.fail(format!("a text for {}, who is away, is not stored", self.users[to].name));
            } else {
                has_effect = true;
            }
        }
        let (fate, expected) = if is_stored {
            (Fate::Waits { outcome, answer: stored.clone(), has_effect }, Some(Expected::AfterDisk(outcome, stored)))
        } else {
            (Fate::Done(sent.clone()), sent.map(Expected::This))
        };
        self.remember(from, tag, fate);
        let Some(session) = self.session_mut(id) else { return };
        let Some(at) = session.expected.iter().rposition(|expected| matches!(expected, Expected::Choice)) else {
            return;
        };
        match expected {
            Some(expected) => session.expected[at] = expected,
            None => drop(session.expected.remove(at)),
        }
    }

    pub(super) fn remember(&mut self, user: UserId, tag: Option<Tag>, fate: Fate) {
        let Some(tag) = tag else { return };
        let lines = &mut self.users[user].lines;
        lines.retain(|(known, _)| *known != tag);
        lines.push((tag, fate));
    }

    pub(super) fn outcome(&mut self) -> usize {
        self.outcomes.push(Outcome::Open);
        self.outcomes.len() - 1
    }

    fn broadcast(&mut self, id: ConnId, from: UserId, text: &str, tag: Option<Tag>) {
        let mut skipped = None;
        for other in 0..self.users.len() {
            let Some(reader) = self.users[other].conn.filter(|_| other != from) else { continue };
            if self.users[other].blocks.contains(&from) {
                skipped = Some(Notice::SomeSkipped);
            } else {
                self.expect(reader, Expected::Broadcast(from, name::Text::harmless(text).as_str().into()));
            }
        }
        if let Some(notice) = &skipped {
            self.say(id, notice.clone());
        }
        self.remember(from, tag, Fate::Done(skipped));
    }

    /// Everybody else who is wanted and not hidden, sorted.
    fn list(&mut self, id: ConnId, asker: UserId, is_wanted: impl Fn(&User) -> bool) {
        let others = self.users.iter().enumerate().filter(|(other, user)| *other != asker && is_wanted(user));
        let seen = others.filter(|(_, user)| !(self.hide_blockers && user.blocks.contains(&asker)));
        let mut names: Vec<UserName> = seen.map(|(_, user)| user.name.clone()).collect();
        names.sort();
        self.say(id, if names.is_empty() { Notice::Nobody } else { Notice::Names(names) });
    }

    fn block(&mut self, id: ConnId, by: UserId, word: &str, blocked: bool, tag: Option<Tag>) {
        let Some(whom) = self.other(id, by, word, if blocked { "block" } else { "unblock" }) else { return };
        let name = self.name(whom);
        let answer = match (self.users[by].blocks.contains(&whom), blocked) {
            (true, true) => return self.refuse(id, Refusal::AlreadyBlocked(name)),
            (false, false) => return self.refuse(id, Refusal::NotBlocked(name)),
            (_, true) => Notice::Blocked(name),
            (_, false) => Notice::Unblocked(name),
        };
        set(&mut self.users[by].blocks, whom, blocked);
        if blocked {
            self.distrust(by, whom);
        }
        let outcome = self.outcome();
        self.facts.push(Fact::Block { by, whom, blocked, outcome });
        let answer = Some(answer);
        self.expect(id, Expected::AfterDisk(outcome, answer.clone()));
        self.remember(by, tag, Fate::Waits { outcome, answer, has_effect: false });
    }

    fn status(&mut self, now: Moment, id: ConnId, asker: UserId, word: &str) {
        let Some(user) = self.find(word) else { return self.refuse(id, Refusal::InvalidUser(repeated(word))) };
        let (name, account) = (self.name(user), &self.users[user]);
        let notice = match (account.conn, account.seen) {
            _ if self.hide_blockers && account.blocks.contains(&asker) => Notice::NeverOnline(name),
            (Some(_), _) => {
                Notice::Online { user: name, since: ago(now, account.since), idle: now.elapsed - account.active }
            }
            (None, Some(seen)) => Notice::Offline { user: name, seen: ago(now, seen) },
            (None, None) => Notice::NeverOnline(name),
        };
        self.say(id, notice);
    }
}
