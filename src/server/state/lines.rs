//! Lines of our client that may come twice: each is carried out once.
//!
//! After a dead link the client sends again what it has no answer to, with the tag it had at
//! first. A line that has had an effect is remembered with its answer; then only the answer is
//! given again. Lines without an effect, questions and refusals, may as well be asked again.

use std::collections::VecDeque;

use super::State;
use super::roster::UserId;
use crate::wire::{Notice, Tag};

/// Lines of each kind remembered per user; the client keeps fewer without an answer.
const LINES_MAX: usize = 256;

/// What one user's clients sent lately, oldest first.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Lines that did more than change the session: they keep their tag, however often they come.
    lasting: Fates,
    /// Lines that changed the session alone. To be carried out again in the next one, they come
    /// with a new tag after each dead link, so there is no end to them.
    passing: Fates,
}

#[derive(Debug, Default)]
struct Fates(VecDeque<(Tag, Fate)>);

/// What became of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It waits for the disk.
    Pending,
    /// It has been carried out, with this answer.
    Done(Option<Notice>),
}

impl Lines {
    pub(super) fn find(&self, tag: Tag) -> Option<&Fate> {
        self.lasting.find(tag).or_else(|| self.passing.find(tag))
    }

    pub(super) fn done(&mut self, tag: Tag, answer: Option<Notice>) {
        self.lasting.set(tag, Fate::Done(answer));
    }

    /// The line had no effect after all: it may be tried again.
    pub(super) fn forget(&mut self, tag: Tag) {
        self.lasting.forget(tag);
        self.passing.forget(tag);
    }
}

impl Fates {
    fn find(&self, tag: Tag) -> Option<&Fate> {
        self.0.iter().rev().find(|(known, _)| *known == tag).map(|(_, fate)| fate)
    }

    fn set(&mut self, tag: Tag, fate: Fate) {
        if let Some(line) = self.0.iter_mut().rev().find(|(known, _)| *known == tag) {
            line.1 = fate;
            return;
        }
        if self.0.len() >= LINES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((tag, fate));
    }

    fn forget(&mut self, tag: Tag) {
        self.0.retain(|(known, _)| *known != tag);
    }
}

impl State {
    /// The line in hand, if it has a tag, has been carried out.
    pub(super) fn line_done(&mut self, user: UserId, answer: Option<Notice>) {
        if let Some(tag) = self.tag {
            self.roster[user].lines.done(tag, answer);
        }
    }

    /// The same for one that changed the session and nothing else.
    pub(super) fn line_passed(&mut self, user: UserId, answer: Option<Notice>) {
        if let Some(tag) = self.tag {
            self.roster[user].lines.passing.set(tag, Fate::Done(answer));
        }
    }

    /// The line in hand, if it has a tag, waits for the disk. Returns what to report then.
    pub(super) fn line_pending(&mut self, user: UserId) -> Option<(UserId, Tag)> {
        let tag = self.tag?;
        self.roster[user].lines.lasting.set(tag, Fate::Pending);
        Some((user, tag))
    }
}
