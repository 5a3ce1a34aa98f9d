//! Every text on its way to one reader: who may get it, in which order, how often, and when it may
//! be lost.

use chinwag::server::ids::ConnId;
use chinwag::server::state::UNCONFIRMED_MAX;
use chinwag::wire::{Letter, Road, Scope, Tag, name};

use super::facts::Fact;
use super::{Model, Stage, User, UserId};

/// One text on its way to one reader.
pub(super) struct Text {
    /// Its place in the order of all texts.
    pub(super) number: u64,
    pub(super) from: UserId,
    pub(super) text: Box<str>,
    pub(super) sent: i64,
    pub(super) tag: Option<Tag>,
    pub(super) scope: Scope,
    /// The sender wants to know what becomes of it; he was told that it is delivered on this
    /// connection; that it is seen.
    pub(super) receipt: bool,
    pub(super) noted: Option<ConnId>,
    pub(super) is_seen: bool,
    /// It goes over the disk, which must have it before the sender is answered.
    pub(super) is_mail: bool,
    /// The connection it is meant for now, and was at first; the order of others is not compared
    /// with it.
    pub(super) meant_for: Option<ConnId>,
    pub(super) first_for: Option<ConnId>,
    /// The last number the server gave it, and whether that was not the first.
    pub(super) id: u64,
    pub(super) is_renumbered: bool,
    /// It came to another session than it was meant for, behind newer ones perhaps.
    is_displaced: bool,
    /// The number under which it came late to a session that had ended.
    pub(super) late_id: u64,
    /// Where it was written last, and whether that was our client.
    pub(super) written: Option<(ConnId, bool)>,
    /// It may, and does, come once more.
    pub(super) may_repeat: bool,
    /// Its next coming must, or may, say that it is perhaps a repetition.
    pub(super) must_say_again: bool,
    pub(super) may_say_again: bool,
    /// Two connections of its reader hold it; when one breaks, it comes to the other once more.
    pub(super) is_double: bool,
    /// The reader has it for good, and the disk knows.
    pub(super) is_confirmed: bool,
    pub(super) is_forgotten: bool,
    /// A push of it has failed, so it waits under no line of our client.
    pub(super) is_returned: bool,
    /// Netcat had it when it left in order: it need not come again.
    pub(super) is_read: bool,
    /// It is on the disk with the mark of a repetition.
    pub(super) is_marked: bool,
    /// It came back from a connection once, so the disk may hold it, and not under its line.
    pub(super) is_back: bool,
    /// It is on the disk.
    pub(super) is_stored: bool,
    /// It may be lost: a crash took it, or 64 newer ones count for it.
    pub(super) may_be_lost: bool,
    /// Netcat had left in order, which confirmed it, and then broke: until the disk has it back, a
    /// crash takes it.
    pub(super) is_adrift: bool,
    /// It was refused and must never come.
    pub(super) is_refused: bool,
    /// How often it was read.
    pub(super) read: u32,
    /// Which process of our client has shown it, and when.
    pub(super) shown: Option<(char, u64)>,
}

impl Text {
    #[allow(clippy::too_many_arguments, reason = "all of it makes the text")]
    pub(super) fn new(
        number: u64,
        from: UserId,
        text: &str,
        sent: i64,
        tag: Option<Tag>,
        scope: Scope,
        meant_for: Option<ConnId>,
        receipt: bool,
    ) -> Self {
        Self {
            number,
            from,
            text: name::Text::harmless(text).as_str().into(),
            sent,
            tag,
            scope,
            receipt,
            noted: None,
            is_seen: false,
            is_mail: false,
            meant_for,
            first_for: meant_for,
            id: 0,
            is_renumbered: false,
            is_displaced: false,
            late_id: 0,
            written: None,
            may_repeat: false,
            must_say_again: false,
            may_say_again: false,
            is_double: false,
            is_confirmed: false,
            is_forgotten: false,
            is_returned: false,
            is_read: false,
            is_marked: false,
            is_back: false,
            is_stored: false,
            may_be_lost: false,
            is_adrift: false,
            is_refused: false,
            read: 0,
            shown: None,
        }
    }

    /// Whether its place among the others is open, or another connection may have confirmed it.
    pub(super) fn has_lost_its_place(&self) -> bool {
        self.is_renumbered || self.is_displaced || self.is_double || self.is_read
    }

    /// Whether this letter of `from` can be this text.
    pub(super) fn is_like(&self, letter: &Letter, from: Option<UserId>) -> bool {
        let is_same = Some(self.from) == from && *self.text == *letter.text.as_str() && self.scope == letter.scope;
        is_same && self.sent == letter.sent
    }
}

impl Model {
    /// What was written to a session that has ended, and not confirmed, comes once more.
    pub(super) fn free(&mut self, user: UserId, id: ConnId, again: bool, is_taken_over: bool) {
        let now_at = self.users[user].conn;
        // Once a newer text was meant for another session, the order of what comes back is open.
        let elsewhere = |text: &&Text| {
            let conns = [text.written.map(|(other, _)| other), text.first_for];
            conns.into_iter().flatten().any(|other| other != id)
        };
        let passed = self.users[user].texts.iter().filter(elsewhere).map(|text| text.number).max().unwrap_or(0);
        for text in &mut self.users[user].texts {
            if text.written.is_some_and(|(written, _)| written == id) && !text.is_confirmed {
                // A user who is back already may have read it from the store meanwhile.
                (text.may_repeat, text.must_say_again) = (true, again && now_at.is_none());
                text.may_say_again |= again;
                // And the newer session may get it from the disk besides.
                text.is_double |= again && (text.is_stored || text.is_back) && now_at.is_some();
                text.is_back |= now_at.is_none();
            }
            text.is_back |= text.meant_for == Some(id) && !text.is_mail && now_at.is_none();
            text.may_say_again |= again && text.meant_for == Some(id);
            if text.meant_for == Some(id) && (is_taken_over || (now_at.is_none() && text.number > passed)) {
                text.meant_for = now_at;
            }
        }
        if again {
            self.uncover(user, id);
        }
    }

    /// What came back stands before what newer sessions have read meanwhile. If the disk refuses to
    /// forget that, it comes again.
    fn uncover(&mut self, user: UserId, id: ConnId) {
        let now_at = self.users[user].conn;
        let is_back = |text: &Text| text.may_repeat && text.written == Some((id, false));
        let texts = self.users[user].texts.iter_mut().skip_while(|text| !is_back(text));
        for text in texts.filter(|text| !text.is_forgotten) {
            let is_gone = |(other, _)| other != id && Some(other) != now_at;
            if text.is_confirmed || text.written.is_some_and(is_gone) {
                text.may_repeat |= self.owes;
                self.uncovered.push((user, text.number));
            }
        }
    }

    /// The disk has refused a batch.
    pub(super) fn keep_uncovered(&mut self) {
        for (user, number) in std::mem::take(&mut self.uncovered) {
            if let Some(text) = text(&mut self.users[user], number) {
                text.may_repeat = true;
            }
        }
    }

    /// Everything is at rest, so the disk has forgotten what was read, unless it has refused to.
    pub(super) fn forget_read(&mut self) {
        if !self.retry_due {
            self.owes = false;
            self.uncovered.clear();
        }
    }

    /// Netcat has broken after it had left in order.
    pub(super) fn set_adrift(&mut self, user: UserId, id: ConnId) {
        let is_away = self.users[user].conn.is_none();
        for text in self.users[user].texts.iter_mut().filter(|text| text.written == Some((id, false))) {
            text.is_adrift = true;
            if is_away {
                self.facts.push(Fact::Back { to: user, number: text.number });
            }
        }
    }

    /// Our client has shown everything up to this number of what came on this connection.
    pub(super) fn confirm(&mut self, user: UserId, id: ConnId, number: u64) {
        for text in &mut self.users[user].texts {
            if text.written == Some((id, true)) && text.id <= number {
                (text.is_confirmed, text.may_repeat) = (true, false);
            }
        }
        self.shown_by_ours(user, id, number);
    }

    pub(super) fn hear_text(&mut self, id: ConnId, letter: &Letter) {
        let Some(session) = self.session_mut(id) else { return };
        let (Stage::Online(user) | Stage::Gone(Some(user))) = session.stage else {
            return self.fail("a text comes to nobody".to_owned());
        };
        // It stood behind an answer that waited for the disk, while its reader went.
        let is_late = matches!(session.stage, Stage::Gone(_));
        let (is_ours, rises) = (session.is_ours, session.last < letter.number);
        session.last = letter.number;
        let from = self.find(letter.from.as_str());
        let texts = &self.users[user].texts;
        let is_like = |text: &Text| text.is_like(letter, from);
        let is_copy = |text: &Text| text.is_double && letter.road == Road::Again;
        let at = texts
            .iter()
            .position(|text| text.id == letter.number && is_like(text))
            .or_else(|| texts.iter().position(|text| text.written.is_none() && !text.is_refused && is_like(text)))
            .or_else(|| texts.iter().position(|text| (text.may_repeat || is_copy(text)) && is_like(text)));
        let what = || format!("{} gets {:?} of {}", self.users[user].name, letter.text.as_str(), letter.from);
        let Some(at) = at else { return self.fail(format!("{}, which is not for him", what())) };
        let text = &texts[at];
        let is_first = text.written.is_none();
        let number = text.number;
        if is_late && !is_first {
            let text = &mut self.users[user].texts[at];
            text.is_renumbered |= text.id != letter.number;
            text.late_id = letter.number;
            return self.await_receipts(user, number, id, is_ours);
        }
        let is_owed = |text: &Text| {
            let is_comparable = text.meant_for.is_none_or(|meant| meant == id);
            // Our client need not get again what it has shown.
            is_comparable && text.shown.is_none() && text.written.is_none() && !text.is_refused && !text.may_be_lost
        };
        let why = if text.is_refused {
            "which was refused"
        } else if !rises {
            "with a number that does not rise"
        } else if is_first && !is_late && texts[..at].iter().any(is_owed) {
            "before an older text"
        } else if !is_first && !text.may_repeat && !is_copy(text) {
            "twice"
        } else if is_first && letter.road == Road::Again && !text.may_say_again
            || text.must_say_again && letter.road != Road::Again
        {
            "with a wrong mark"
        } else {
            ""
        };
        if !why.is_empty() {
            return self.fail(format!("{}, {why}", what()));
        }
        let before = self.users[user].texts[at].written.filter(|(other, _)| *other != id);
        let is_double = before.is_some_and(|(other, _)| self.session(other).is_some());
        let text = &mut self.users[user].texts[at];
        text.is_double |= is_double;
        text.is_renumbered |= text.id > 0 && text.id != letter.number;
        text.is_displaced |= text.meant_for.is_some_and(|meant| meant != id);
        (text.id, text.written, text.may_repeat) = (letter.number, Some((id, is_ours)), is_late && is_ours);
        if self.is_framed(id) {
            return;
        }
        self.await_receipts(user, number, id, is_ours);
        if let Some(session) = self.session_mut(id).filter(|session| !session.is_ours) {
            session.ring.push_back(number);
            let lapsed = if session.ring.len() > UNCONFIRMED_MAX { session.ring.pop_front() } else { None };
            if let Some(lapsed) = lapsed.and_then(|number| self::text(&mut self.users[user], number)) {
                lapsed.may_be_lost = true;
            }
        }
    }

    /// A text was read at the other end. `by`: our client has shown it, in which process, when, and
    /// when that process was told how far others had come.
    pub(crate) fn shown(&mut self, id: ConnId, letter: &Letter, by: Option<(char, u64, u64)>) {
        let Some(Stage::Online(user) | Stage::Gone(Some(user))) = self.session(id).map(|session| session.stage) else {
            return;
        };
        let is_this = |text: &&mut Text| text.id == letter.number || text.late_id == letter.number;
        let Some(text) = self.users[user].texts.iter_mut().find(|text| letter.number > 0 && is_this(text)) else {
            return;
        };
        text.read += 1;
        let Some((process, now, told)) = by else { return };
        let is_twice = !text.is_renumbered && text.shown.is_some_and(|(other, then)| other == process || then < told);
        text.shown = Some((process, now));
        if is_twice {
            self.fail(format!("our client shows {:?} twice", letter.text.as_str()));
        }
    }

    /// The user of this connection has nothing left to wait for.
    pub(crate) fn all_is_shown(&mut self, id: ConnId) {
        let Some(user) = self.user_of(id).filter(|user| !self.retry_due && !self.is_departing(*user)) else { return };
        // An older connection of this user may still take what was written to it.
        let is_elsewhere = |text: &Text| {
            let conn = text.written.map(|(conn, _)| conn).or(text.meant_for);
            conn.is_some_and(|conn| conn != id && self.session(conn).is_some())
        };
        let owed = |text: &&Text| !text.is_refused && !text.may_be_lost && text.read == 0 && !is_elsewhere(text);
        if let Some(text) = self.users[user].texts.iter().find(owed) {
            let what = if text.is_stored { "stored" } else { "accepted" };
            self.fail(format!("{:?} for {} was {what} and is lost", text.text, self.users[user].name));
        }
    }
}

pub(super) fn text(user: &mut User, number: u64) -> Option<&mut Text> {
    let at = user.texts.binary_search_by_key(&number, |text| text.number).ok()?;
    Some(&mut user.texts[at])
}
