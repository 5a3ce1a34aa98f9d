//! What the disk holds, what it refuses, and what is left after a crash.

use chinwag::server::ids::ConnId;
use chinwag::wire::name::UserName;
use chinwag::wire::time::Moment;
use chinwag::wire::{Notice, Tag};

use super::addresses::Addresses;
use super::groups::Changed;
use super::login::Failures;
use super::reach::Rule;
use super::receipts::Waiting;
use super::texts::text;
use super::{Fate, HEARTBEAT, Model, Outcome, Session, Stage, Tokens, UserId, ago, set};

/// Something the disk must learn.
#[derive(Clone)]
pub(super) enum Fact {
    Came(UserId, i64),
    Went(UserId, i64),
    Heartbeat(i64),
    Tokens(UserId, Tokens),
    Block {
        by: UserId,
        whom: UserId,
        blocked: bool,
        outcome: usize,
    },
    Text {
        to: UserId,
        number: u64,
        outcome: usize,
    },
    /// A text that netcat had perhaps not got is back.
    Back {
        to: UserId,
        number: u64,
    },
    /// A text that was not pushed waits in the mailbox, with a mark perhaps.
    Kept {
        to: UserId,
        number: u64,
        is_marked: bool,
    },
    Group(Changed),
    /// All that waits for a sender from one reader, or perhaps it is as it was before.
    Receipts {
        to: UserId,
        by: UserId,
        texts: Vec<Waiting>,
        perhaps: bool,
    },
}

impl Model {
    /// All facts so far belong to whole batches of the hub.
    pub(crate) fn end_batch(&mut self) {
        self.whole = self.facts.len();
    }

    /// The facts of whole batches go to the store as one.
    pub(crate) fn hand_over(&mut self) {
        self.at_store.push_back(self.facts.drain(..self.whole).collect());
        self.whole = 0;
    }

    /// Facts of which the server has not heard whether the disk has them.
    pub(super) fn pending_facts(&self) -> impl Iterator<Item = &Fact> {
        self.at_store.iter().flatten().chain(&self.facts)
    }

    /// What went to the store last is on the disk, whether anybody knows it yet or not.
    pub(crate) fn written(&mut self) {
        let Some(facts) = self.at_store.pop_back() else { return };
        for fact in &facts {
            match fact {
                &Fact::Came(user, wall) => {
                    (self.users[user].stored.online, self.users[user].stored.seen) = (true, Some(wall));
                }
                &Fact::Went(user, wall) => {
                    (self.users[user].stored.online, self.users[user].stored.seen) = (false, Some(wall));
                }
                &Fact::Heartbeat(wall) => self.stored_heartbeat = wall,
                &Fact::Tokens(user, tokens) => self.users[user].stored.tokens = tokens,
                &Fact::Block { by, whom, blocked, .. } => set(&mut self.users[by].stored.blocks, whom, blocked),
                &Fact::Text { to, number, .. } => {
                    if let Some(text) = text(&mut self.users[to], number) {
                        text.is_stored = true;
                    }
                }
                &Fact::Kept { to, number, is_marked } => {
                    if let Some(text) = text(&mut self.users[to], number) {
                        text.is_stored = true;
                        text.is_marked |= is_marked;
                    }
                }
                &Fact::Back { to, number } => {
                    if let Some(text) = text(&mut self.users[to], number) {
                        text.is_adrift = false;
                    }
                }
                Fact::Group(changed) => {
                    if !self.stored_groups.apply(changed.group, &changed.change) {
                        self.groundless.insert(changed.outcome);
                    }
                }
                Fact::Receipts { to, by, texts, perhaps } => {
                    let waiting = &mut self.users[*to].stored.waiting;
                    let before: Vec<Waiting> = waiting.extract_if(.., |text| text.by() == *by).collect();
                    let is_in = |texts: &[Waiting], text: &Waiting| texts.iter().any(|other| other.is(text));
                    let is_sure = |text: &Waiting| before.iter().any(|other| other.is(text) && other.is_certain());
                    let fresh = texts.iter().map(|text| text.clone_if(!perhaps || is_sure(text)));
                    waiting.extend(fresh);
                    if *perhaps {
                        waiting
                            .extend(before.iter().filter(|text| !is_in(texts, text)).map(|text| text.clone_if(false)));
                    }
                }
            }
        }
        self.at_store.push_back(facts);
    }

    /// The store has said what became of the oldest that went to it.
    pub(crate) fn reported(&mut self, written: bool) {
        let Some(facts) = self.at_store.pop_front() else { return };
        if !written {
            (self.retry_due, self.owes) = (true, true);
            self.keep_uncovered();
            // The mark of a repetition may be what was refused.
            for text in self.users.iter_mut().flat_map(|user| &mut user.texts) {
                text.may_say_again |= std::mem::take(&mut text.must_say_again);
            }
            return self.refused(facts);
        }
        for fact in facts {
            match fact {
                Fact::Block { outcome, .. } | Fact::Text { outcome, .. } => self.outcomes[outcome] = Outcome::Done,
                Fact::Group(changed) if self.groundless.remove(&changed.outcome) => {
                    self.outcomes[changed.outcome] = Outcome::Groundless;
                }
                Fact::Group(changed) => {
                    self.outcomes[changed.outcome] = Outcome::Done;
                    self.tell_change(&changed);
                }
                Fact::Came(..) | Fact::Went(..) | Fact::Heartbeat(_) | Fact::Tokens(..) => {}
                Fact::Back { .. } | Fact::Kept { .. } | Fact::Receipts { .. } => {}
            }
        }
    }

    /// The disk has refused all of these.
    fn refused(&mut self, facts: Vec<Fact>) {
        let has_changes = facts.iter().any(|fact| matches!(fact, Fact::Group(_)));
        for fact in facts {
            match fact {
                Fact::Block { by, outcome, .. } => {
                    self.outcomes[outcome] = Outcome::Failed;
                    let mut blocks = self.users[by].stored.blocks.clone();
                    for fact in self.pending_facts() {
                        if let Fact::Block { by: other, whom, blocked, .. } = *fact
                            && other == by
                        {
                            set(&mut blocks, whom, blocked);
                        }
                    }
                    self.users[by].blocks = blocks;
                }
                Fact::Text { to, number, outcome } => {
                    self.outcomes[outcome] = Outcome::Failed;
                    if let Some(text) = text(&mut self.users[to], number) {
                        (text.is_refused, text.may_be_lost) = (true, true);
                    }
                }
                Fact::Group(changed) => {
                    self.outcomes[changed.outcome] = Outcome::Failed;
                    self.reach(Rule::GroupRefused);
                }
                Fact::Kept { to, number, .. } => {
                    self.unreturned.push((to, number));
                    self.reach(Rule::ReturnRefused);
                }
                Fact::Receipts { to, by, perhaps, .. } => {
                    let is_sure = self.unkept.contains(&(to, by, false));
                    self.unkept.retain(|other| (other.0, other.1) != (to, by));
                    self.unkept.push((to, by, perhaps && !is_sure));
                    self.reach(Rule::MeanwhileRefused);
                }
                Fact::Came(..) | Fact::Went(..) | Fact::Heartbeat(_) | Fact::Tokens(..) | Fact::Back { .. } => {}
            }
        }
        if has_changes {
            self.undo_changes();
        }
    }

    /// A page of mail could not be read.
    pub(crate) fn page_refused(&mut self) {
        (self.retry_due, self.owes) = (true, true);
    }

    /// The server has been killed and starts again from the disk: with this number, and with what
    /// is known of lines by the texts they have stored (from whom, tag, to whom).
    pub(crate) fn crash(&mut self, now: Moment, first_of_run: u64, tags: &[(UserName, Tag, UserName)]) {
        // What netcat had left with and the kernels still held may be lost.
        let is_gone = |session: &&Session| matches!(session.stage, Stage::Gone(_));
        let gone: Vec<ConnId> = self.sessions.iter().filter(is_gone).map(|session| session.id).collect();
        for text in self.users.iter_mut().flat_map(|user| &mut user.texts) {
            text.may_be_lost |= text.written.is_some_and(|(id, is_ours)| !is_ours && gone.contains(&id));
            text.may_be_lost |= text.is_adrift;
        }
        self.first_of_run = first_of_run;
        self.crash_framed();
        self.sessions.clear();
        self.facts.clear();
        self.whole = 0;
        self.at_store.clear();
        self.groundless.clear();
        self.unkept.clear();
        self.unreturned.clear();
        self.uncovered.clear();
        self.addresses = Addresses::default();
        (self.stopping, self.retry_due, self.owes) = (false, false, false);
        self.next_heartbeat = now.elapsed + HEARTBEAT;
        self.groups = self.stored_groups.clone();
        if !self.groups.is_empty() {
            self.reach(Rule::GroupsAfterCrash);
        }
        if self.users.iter().any(|user| !user.stored.waiting.is_empty()) {
            self.reach(Rule::MeanwhileAfterCrash);
        }
        for user in &mut self.users {
            let stored = &mut user.stored;
            if std::mem::take(&mut stored.online) {
                stored.seen = stored.seen.max(Some(self.stored_heartbeat));
            }
            (user.conn, user.failures) = (None, Failures::default());
            (user.blocks, user.tokens) = (stored.blocks.clone(), stored.tokens);
            user.waiting.clone_from(&stored.waiting);
            user.seen = stored.seen.map(|wall| Moment { elapsed: now.elapsed - (now.wall - wall).max(0), wall });
            user.lines.clear();
            user.unwritten.clear();
            user.unseen.clear();
        }
        self.crash_texts(tags);
        self.stored_heartbeat = now.wall;
        self.know_lines(now, tags);
    }

    fn crash_texts(&mut self, tags: &[(UserName, Tag, UserName)]) {
        for to in 0..self.users.len() {
            let mut texts = std::mem::take(&mut self.users[to].texts);
            for text in texts.iter_mut().filter(|text| !text.is_refused) {
                text.must_say_again = text.is_marked;
                text.is_refused = text.is_mail && !text.is_stored;
                text.may_be_lost |= !text.is_stored;
                text.may_repeat = text.written.is_some() && !text.is_forgotten;
                text.is_confirmed &= text.is_forgotten;
                text.noted = None;
                // The disk may hold it under both numbers, if it refused to forget the first.
                text.is_double |= text.is_renumbered && text.is_stored && !text.is_forgotten;
                let Some(tag) = text.tag else { continue };
                let is_this = |(from, known, reader): &&(UserName, Tag, UserName)| {
                    *known == tag && *from == self.users[text.from].name && *reader == self.users[to].name
                };
                if !tags.iter().any(|line| is_this(&line)) {
                    // The same line would be carried out again.
                    text.tag = None;
                    // What came back from a session waits under no line.
                    let is_new = text.written.is_none() && !text.is_returned && !text.is_back;
                    if text.is_stored && is_new {
                        self.fail(format!("the disk does not know the line {tag:?} that has stored a text"));
                    }
                }
            }
            self.users[to].texts = texts;
        }
    }

    /// These lines are answered as if they had been carried out now.
    fn know_lines(&mut self, now: Moment, tags: &[(UserName, Tag, UserName)]) {
        for (from, tag, to) in tags {
            let (Some(from), Some(reader)) = (self.find(from.as_str()), self.find(to.as_str())) else { continue };
            let is_known = self.users[from].lines.iter().any(|(known, _)| known == tag);
            let seen = self.users[reader].seen.map(|seen| ago(now, seen));
            // It was for more than one.
            let answer = if is_known { Notice::Sent } else { Notice::Stored { to: to.clone(), seen } };
            self.remember(from, Some(*tag), Fate::Done(Some(answer)));
        }
    }
}
