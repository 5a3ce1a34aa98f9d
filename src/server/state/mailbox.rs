//! Who may write to whom; deliver at once or keep; what becomes of what was not confirmed.
//!
//! A text to somebody present is sent at once and stays in his ring of unconfirmed texts; a text
//! to somebody absent is stored first. Until a mailbox has been read to its end, everything for
//! its owner goes there too: so order holds without a merge.

use super::dialogue::{Session, Stage};
use super::journal::Promise;
use super::roster::UserId;
use super::unconfirmed::{Got, Read, Stored, Unconfirmed};
use super::{ConnId, Effect, Record, State};
use crate::wire::name::Text;
use crate::wire::{Letter, Notice, Refusal, Road, Scope};

/// Messages that may wait for one user unless the operator chose another number; then the sender
/// is told that the mailbox is full.
pub const MAILBOX_MESSAGES_MAX: u32 = 1000;

/// Bytes of text that may wait for one user if so many messages may, and in proportion if more or
/// fewer may; then the sender is told that the mailbox is full.
pub const MAILBOX_BYTES_MAX: usize = 1024 * 1024;

/// What waits for one user in the store: numbers only, the texts stay there.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// Messages not yet confirmed.
    pub(super) count: u32,
    /// Their texts, in bytes.
    bytes: usize,
    /// The highest number ever put in.
    last: u64,
    /// The highest number that was confirmed; what is stored up to it is as good as deleted.
    pub(super) confirmed: u64,
    /// The highest number that the store is known to have deleted.
    pub(super) deleted: u64,
    /// The highest number that was sent to our client.
    passed: u64,
    /// The highest number that a session which left in order was ever to confirm.
    pub(super) confirming: u64,
}

impl Mailbox {
    /// A mailbox as an earlier run left it.
    pub(super) fn remembered(count: u32, bytes: usize, last: u64) -> Self {
        Self { count, bytes, last, confirmed: 0, deleted: 0, passed: 0, confirming: 0 }
    }

    /// Whether there is no room for one more message, of `more` bytes, where `max` may wait.
    fn is_full(&self, max: u32, more: usize) -> bool {
        let bytes_max = u64::from(max) * MAILBOX_BYTES_MAX as u64 / u64::from(MAILBOX_MESSAGES_MAX);
        self.count >= max || (self.bytes + more) as u64 > bytes_max
    }

    /// Whether the store may still hold what was confirmed.
    pub(super) fn is_undeleted(&self) -> bool {
        self.confirmed > self.deleted
    }

    fn put(&mut self, number: u64, bytes: usize) {
        self.count += 1;
        self.bytes += bytes;
        self.last = self.last.max(number);
    }

    fn confirm(&mut self, read: &Read) {
        self.forget(read.count, read.bytes);
        self.confirmed = self.confirmed.max(read.upto);
    }

    pub(super) fn forget(&mut self, count: u32, bytes: usize) {
        self.count = self.count.saturating_sub(count);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// How far a session has read its user's mailbox.
#[derive(Debug)]
pub(super) struct Reading {
    /// The highest number read.
    upto: u64,
    /// A page was asked for, and then the mailbox went up to this number.
    asked: Option<u64>,
    /// An older text has been put in since, which that page will miss.
    is_stale: bool,
    /// What waited at log-in goes up to this number; no command is heard before it is read, so
    /// that a script which logs out at once gets its messages all the same.
    first: Option<u64>,
    /// Up to this number our client had shown everything when it logged in.
    shown: u64,
}

impl Reading {
    /// A session begins; our client has shown everything up to `shown` before.
    pub(super) fn new(mailbox: &Mailbox, shown: u64) -> Self {
        let first = (mailbox.count > 0 && mailbox.last > mailbox.confirmed).then_some(mailbox.last);
        Self { upto: mailbox.confirmed, asked: None, is_stale: false, first, shown }
    }

    /// Forgets that a page was asked for.
    pub(super) fn ask_again(&mut self) {
        self.asked = None;
    }

    /// An older text is put in behind the question for a page.
    pub(super) fn mark_stale(&mut self) {
        self.is_stale = self.asked.is_some();
    }

    /// What waited at log-in is no longer waited for.
    pub(super) fn end_first(&mut self) {
        self.first = None;
    }

    /// Whether what waited at log-in is still to come.
    pub(super) fn is_first(&self) -> bool {
        self.first.is_some()
    }
}

impl State {
    /// `message <user> <text>`. The order of the checks is the assignment's: unknown, self,
    /// blocked, and only then offline; a blocked sender's text is never stored.
    pub(super) fn message(&mut self, conn: ConnId, from: UserId, word: &str, text: &str) {
        let Some(to) = self.target(conn, from, word, "message") else { return };
        if self.roster[to].blocks.contains(&from) {
            let name = self.roster[to].name.clone();
            return self.refuse(conn, Refusal::Blocked(name));
        }
        let letter = self.write(from, text, Scope::Plain);
        match self.receiver(to) {
            Some(receiver) => {
                self.deliver(receiver, from, letter, false);
                self.accept(conn, from);
            }
            None => self.keep(conn, from, to, letter),
        }
    }

    /// A text is on its way and needs no disk.
    fn accept(&mut self, conn: ConnId, from: UserId) {
        let answer = self.receipt.then_some(Notice::Sent);
        self.line_done(from, answer.clone());
        if let Some(notice) = answer {
            self.send(conn, notice);
        }
    }

    /// `broadcast <text>`: to everybody online who has not blocked the sender; never stored.
    pub(super) fn broadcast(&mut self, conn: ConnId, from: UserId, text: &str) {
        let mut receivers = Vec::with_capacity(self.online.len());
        let mut skipped = false;
        for &user in self.online.values().filter(|user| **user != from) {
            let other = &self.roster[user];
            if !other.blocks.is_empty() && other.blocks.contains(&from) {
                skipped = true;
            } else {
                receivers.extend(other.session);
            }
        }
        self.charge_receivers(conn, receivers.len());
        // Without a number: it is not confirmed, and must not seem to confirm what still waits.
        let letter = Letter { number: 0, receipt: false, ..self.write(from, text, Scope::Plain) };
        self.cast(receivers, Notice::Said(letter));
        let answer = skipped.then_some(Notice::SomeSkipped);
        self.line_done(from, answer.clone());
        if let Some(notice) = answer {
            self.send(conn, notice);
        }
    }

    /// A text in general mode: to everybody online, and to everybody who has been here before; but
    /// not to who has blocked the sender.
    pub(super) fn general(&mut self, conn: ConnId, from: UserId, text: &str) {
        let known =
            self.roster.iter().filter(|(id, user)| *id != from && user.password.is_some() && user.seen.is_some());
        let (blockers, others): (Vec<_>, Vec<_>) = known.partition(|(_, user)| user.blocks.contains(&from));
        let skipped = blockers.iter().any(|(_, user)| user.session.is_some());
        let to: Vec<UserId> = others.into_iter().map(|(id, _)| id).collect();
        self.publish(conn, from, &to, skipped, Scope::General, text);
    }

    /// One text to many: at once to those who can take it, by way of their mailboxes to the others.
    /// `skipped`: somebody is not among them because he blocks the sender.
    pub(super) fn publish(
        &mut self,
        conn: ConnId,
        from: UserId,
        to: &[UserId],
        skipped: bool,
        scope: Scope,
        text: &str,
    ) {
        self.charge_receivers(conn, to.len());
        let letter = self.write(from, text, scope);
        let (mut here, mut conns, mut later, mut some_full) = (Vec::new(), Vec::new(), Vec::new(), false);
        for &user in to {
            if let Some(conn) = self.receiver(user) {
                here.push(user);
                conns.push(conn);
            } else if self.roster[user].mailbox.is_full(self.rules.mailbox_max, letter.text.as_str().len()) {
                some_full = true;
            } else {
                later.push(user);
            }
        }
        if !later.is_empty() && self.journal.is_full() {
            return self.refuse(conn, Refusal::Busy);
        }
        conns.iter().for_each(|&conn| self.remember(conn, from, &letter, false));
        self.cast(conns, Notice::Said(letter.clone()));
        if skipped {
            self.send(conn, Notice::SomeSkipped);
        }
        if some_full {
            self.send(conn, Notice::SomeFull);
        }
        if later.is_empty() {
            self.accept(conn, from);
        } else {
            let some_have_it = !here.is_empty();
            let answer = self.stored_for(&letter.scope, here, &later);
            self.put(conn, from, later, letter, answer, some_have_it);
        }
    }

    /// What the sender of a text to many is told once the store has it.
    fn stored_for(&self, scope: &Scope, mut here: Vec<UserId>, later: &[UserId]) -> Option<Notice> {
        let (slow, absent): (Vec<UserId>, Vec<UserId>) =
            later.iter().copied().partition(|&user| self.roster[user].session.is_some());
        match scope {
            Scope::Group(group) if !absent.is_empty() => {
                here.extend(slow);
                let mut away: Vec<_> =
                    absent.into_iter().map(|user| (self.roster[user].name.clone(), self.last_seen(user))).collect();
                away.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                Some(Notice::StoredInGroup { group: group.clone(), here: self.sorted_names(&here), away })
            }
            _ => self.receipt.then_some(Notice::Sent),
        }
    }

    fn write(&mut self, from: UserId, text: &str, scope: Scope) -> Letter {
        self.announce_speaker(from);
        let number = self.next_number;
        self.next_number += 1;
        let from = self.roster[from].name.clone();
        let (text, sent) = (Text::harmless(text), self.now.wall);
        Letter { number, from, text, sent, road: Road::Live, scope, receipt: self.receipt }
    }

    /// The connection that can take a text at once: its user has read all that waited, and there
    /// is room in the ring. In netcat's case there always is, unless the socket is full.
    fn receiver(&mut self, user: UserId) -> Option<ConnId> {
        let conn = self.roster[user].session.filter(|_| self.roster[user].departing == 0)?;
        let last = self.roster[user].mailbox.last;
        let session = self.sessions.get_mut(&conn)?;
        let must_fit = session.is_behind() || session.confirms();
        let visit = session.visit()?;
        let ready = visit.reading.upto >= last && !(must_fit && visit.unconfirmed.is_full());
        ready.then_some(conn)
    }

    /// Sends a text and keeps it until it is confirmed. `stored`: the store holds it as well.
    fn deliver(&mut self, conn: ConnId, from: UserId, letter: Letter, stored: bool) {
        self.remember(conn, from, &letter, stored);
        self.send(conn, Notice::Said(letter));
    }

    /// Keeps a text that is being sent until it is confirmed.
    fn remember(&mut self, conn: ConnId, from: UserId, letter: &Letter, stored: bool) {
        let batch = self.batch;
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let is_ours = session.is_ours;
        let may_lapse = !session.is_behind() && !session.confirms();
        let Some(visit) = session.visit() else { return };
        visit.unconfirmed.push(letter, from, stored, batch, may_lapse);
        let (user, read) = (visit.user, visit.unconfirmed.take_run());
        if is_ours {
            let mailbox = &mut self.roster[user].mailbox;
            mailbox.passed = mailbox.passed.max(letter.number);
        }
        if letter.receipt {
            self.queue(conn);
        }
        self.forget_run(user, read);
    }

    /// Deletes from the store what has been read, once per run of stored texts.
    pub(super) fn forget_read(&mut self, conn: ConnId) {
        let Some(visit) = self.visit(conn) else { return };
        let (user, read) = (visit.user, visit.unconfirmed.take_run());
        self.forget_run(user, read);
    }

    fn forget_run(&mut self, user: UserId, read: Option<Read>) {
        if let Some(read) = read {
            self.roster[user].mailbox.confirm(&read);
            self.forget_mail(user, None);
        }
    }

    /// `SEEN`: our client has shown everything up to `number`, so there is room for more.
    pub(super) fn seen(&mut self, conn: ConnId, number: u64) {
        let Some(visit) = self.visit(conn) else { return };
        let user = visit.user;
        for got in visit.unconfirmed.confirm(number) {
            self.note(got, user, true);
        }
        self.forget_read(conn);
        self.queue(conn);
    }

    /// Sends again what was sent to a connection that turned out to be dead.
    pub(super) fn repeat_unconfirmed(&mut self, conn: ConnId) {
        let batch = self.batch;
        let Some(visit) = self.sessions.get_mut(&conn).and_then(Session::visit) else { return };
        visit.unconfirmed.send_again(batch);
        let letters = visit.unconfirmed.letters(&self.roster);
        for (_, _, letter) in letters {
            self.send(conn, Notice::Said(letter));
        }
    }

    /// Stores a text; the sender's answer waits for the disk.
    fn keep(&mut self, conn: ConnId, from: UserId, to: UserId, letter: Letter) {
        let bytes = letter.text.as_str().len();
        if self.journal.is_full() {
            return self.refuse(conn, Refusal::Busy);
        }
        if self.roster[to].mailbox.is_full(self.rules.mailbox_max, bytes) {
            let name = self.roster[to].name.clone();
            return self.refuse(conn, Refusal::MailboxFull(name));
        }
        let answer = match self.roster[to].session {
            None => Some(Notice::Stored { to: self.roster[to].name.clone(), seen: self.last_seen(to) }),
            Some(_) => self.receipt.then_some(Notice::Sent),
        };
        self.put(conn, from, vec![to], letter, answer, false);
    }

    /// Puts a text into mailboxes that have room for it; the sender's answer waits for the disk.
    /// `some_have_it`: others have got it at once.
    fn put(
        &mut self,
        conn: ConnId,
        from: UserId,
        to: Vec<UserId>,
        letter: Letter,
        answer: Option<Notice>,
        some_have_it: bool,
    ) {
        let bytes = letter.text.as_str().len();
        let mut names = Vec::with_capacity(to.len());
        for &user in &to {
            let user = &mut self.roster[user];
            user.mailbox.put(letter.number, bytes);
            names.push(user.name.clone());
        }
        let line = self.line_pending(from);
        let record = Record::Message { to: names, letter, tag: self.tag };
        // Who is here but not ready reads it from there.
        let readers: Vec<ConnId> = to.iter().filter_map(|&user| self.roster[user].session).collect();
        self.store(record, Some(conn), line, Promise::Message { to, bytes, answer, some_have_it });
        readers.into_iter().for_each(|reader| self.queue(reader));
    }

    /// Asks for the next page of a mailbox that has one.
    pub(super) fn read_on(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let confirms = session.confirms();
        let Some(visit) = session.visit() else { return };
        let (user, upto, asked) = (visit.user, visit.reading.upto, visit.reading.asked);
        let last = self.roster[user].mailbox.last;
        // Who confirms does so before he gets more.
        let must_wait = confirms && visit.unconfirmed.is_full();
        if asked.is_some() || upto >= last || must_wait || self.roster[user].departing > 0 {
            return;
        }
        if let Some(visit) = self.visit(conn) {
            visit.reading.asked = Some(last);
        }
        // What an older session has confirmed meanwhile may not be deleted yet.
        let (user, confirmed) = (self.roster[user].name.clone(), self.roster[user].mailbox.confirmed);
        self.effects.push(Effect::Fetch { conn, user, after: upto.max(confirmed) });
    }

    /// A page has come from the store, for a session that asked for it or is gone.
    pub(super) fn deliver_page(&mut self, conn: ConnId, page: Option<Vec<Letter>>) {
        let Some(visit) = self.visit(conn) else { return };
        let (user, asked) = (visit.user, visit.reading.asked.take());
        if std::mem::take(&mut visit.reading.is_stale) {
            return self.queue(conn);
        }
        // What the disk has refused to take back comes first.
        let Some(page) = page.filter(|_| !self.journal.owes_return(user)) else {
            self.unread.push(conn);
            return self.first_is_read(conn);
        };
        let Some(visit) = self.visit(conn) else { return };
        visit.reading.upto = match page.last() {
            Some(last) => last.number,
            // Nothing was left, so what had been put in until the question is all read.
            None => visit.reading.upto.max(asked.unwrap_or(0)),
        };
        // What our client has shown before it only has to confirm.
        let shown = visit.reading.shown;
        let (shown, fresh): (Vec<Letter>, Vec<Letter>) = page.into_iter().partition(|letter| letter.number <= shown);
        let first_is_read = visit.reading.first.is_some_and(|goal| goal <= visit.reading.upto);
        let user = visit.user;
        for Letter { number, sent, from, text, receipt, .. } in shown {
            if receipt {
                let from = self.roster.id(&from);
                self.note(Got { from, number, sent }, user, true);
            }
            if let Some(visit) = self.visit(conn) {
                visit.unconfirmed.add_read(number, text.as_str().len());
            }
        }
        for letter in fresh {
            let from = self.roster.id(&letter.from);
            self.deliver(conn, from, letter, true);
        }
        self.forget_read(conn);
        if first_is_read {
            self.first_is_read(conn);
        }
        self.queue(conn);
    }

    /// Whether the store still holds any of what was delivered to a leaving user.
    pub(super) fn has_mail_to_confirm(&self, conn: ConnId) -> bool {
        let Some(session) = self.sessions.get(&conn) else { return false };
        let Stage::Leaving(user, unconfirmed) = &session.stage else { return false };
        if session.post.is_some() {
            return false;
        }
        unconfirmed.is_stored() || (!session.is_ours && self.roster[*user].mailbox.is_undeleted())
    }

    /// Counts everything delivered to a session as read, at its end. Whether the store holds any
    /// of it.
    pub(super) fn confirm_mail(&mut self, conn: ConnId, user: UserId) -> bool {
        let confirmed = self.roster[user].mailbox.confirmed;
        let Some(session) = self.sessions.get_mut(&conn) else { return false };
        let Stage::Leaving(_, unconfirmed) = &mut session.stage else { return false };
        let read = unconfirmed.take_all_read(confirmed);
        let mut told = std::mem::take(&mut unconfirmed.told);
        if let Some(read) = &read {
            self.roster[user].mailbox.confirm(read);
        }
        self.confirm_receipts(user, &mut told);
        if let Some((_, unconfirmed)) = self.sessions.get_mut(&conn).and_then(Session::unconfirmed) {
            unconfirmed.told = told;
        }
        read.is_some()
    }

    /// Takes back texts that were written to a connection which then broke: to the user at once
    /// if he is already here again, else to his mailbox, whatever its size.
    /// `road` says whether they may have been read: our client would have said so.
    pub(super) fn give_back(&mut self, user: UserId, mut unconfirmed: Unconfirmed, road: Road) {
        if let Some(read) = unconfirmed.take_read() {
            self.roster[user].mailbox.confirm(&read);
            self.forget_mail(user, None);
        }
        self.give_back_receipts(user, &mut unconfirmed);
        for (from, stored, letter) in unconfirmed.letters(&self.roster) {
            let is_doubtful = unconfirmed.is_doubtful(letter.number);
            let road = if is_doubtful { Road::Again } else { road };
            // What was a repetition perhaps still is one.
            let mark = if letter.road == Road::Again { Road::Again } else { road };
            let letter = Letter { road: mark, ..letter };
            let bytes = letter.text.as_str().len();
            let is_held = matches!(stored, Stored::Yes | Stored::ReadElsewhere);
            // Our client may have shown newer ones, which it takes for all up to there.
            // And what another session is about to confirm up to there would be deleted unread.
            let is_passed = road == Road::Again
                && (letter.number <= self.roster[user].mailbox.passed || self.is_confirming(user, letter.number));
            match self.roster[user].session {
                // Nothing has been delivered there yet, so it keeps its place.
                Some(_) if !is_held && self.roster[user].departing > 0 => {
                    self.keep_again(user, letter, bytes, Stored::No);
                }
                // A stored one is read again by the new session, or has been confirmed by it. The
                // other gets a new number, behind what still waits: numbers rise for whoever is here.
                Some(reader) if !is_held => {
                    let letter = self.renumber(letter);
                    if let Some(receiver) = self.receiver(user) {
                        self.deliver(receiver, from, letter, false);
                    } else {
                        self.keep_again(user, letter, bytes, Stored::No);
                        self.queue(reader);
                    }
                }
                None if !is_held && is_passed => {
                    let letter = self.renumber(letter);
                    self.keep_again(user, letter, bytes, Stored::No);
                }
                None if !is_held => self.keep_again(user, letter, bytes, stored),
                // Who is here reads it again, with the mark.
                session
                    if stored == Stored::Yes
                        && letter.number > self.roster[user].mailbox.confirmed
                        && (session.is_none() || is_doubtful) =>
                {
                    self.roster[user].mailbox.forget(1, bytes);
                    self.keep_again(user, letter, bytes, stored);
                }
                _ => {}
            }
        }
    }

    /// Whether a session that is leaving is still to confirm this number or a higher one.
    fn is_confirming(&mut self, user: UserId, number: u64) -> bool {
        number <= self.roster[user].mailbox.confirming
            && self.sessions.values_mut().filter(|session| session.is_confirming()).any(|session| {
                session.unconfirmed().is_some_and(|(owner, ring)| owner == user && number <= ring.last())
            })
    }

    fn renumber(&mut self, letter: Letter) -> Letter {
        let number = self.next_number;
        self.next_number += 1;
        Letter { number, ..letter }
    }

    fn keep_again(&mut self, user: UserId, letter: Letter, bytes: usize, stored: Stored) {
        let mailbox = &mut self.roster[user].mailbox;
        mailbox.put(letter.number, bytes);
        mailbox.confirmed = mailbox.confirmed.min(letter.number.saturating_sub(1));
        self.return_letter(user, letter, stored);
    }
}
