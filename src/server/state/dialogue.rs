//! What a line means now: at a prompt, as a command, or nothing any more.

use std::net::{IpAddr, SocketAddr};

use super::framed::Post;
use super::lines::Fate;
use super::mailbox::Reading;
use super::modes::{self, Talk};
use super::roster::UserId;
use super::tokens::Tokens;
use super::tracker::{Listing, Manifest};
use super::unconfirmed::Unconfirmed;
use super::{ConnId, Effect, Notice, Parting, State, Timer};
use crate::wire::command::{self, COMMANDS, ParseError};
use crate::wire::control::{Say, Unknown};
use crate::wire::line::{self, LINE_BYTES_MAX, LOGIN_LINE_BYTES_MAX};
use crate::wire::name::{Text, UserName};
use crate::wire::{Mode, Refusal, Request, Road, Tag};

/// Commands one client may send at once; then its reader pauses and nothing is lost.
const COMMANDS_BURST_MAX: i64 = 100_000;

/// Commands per millisecond that are earned back.
const COMMANDS_PER_MILLI: i64 = 100;

/// Receivers of one text that cost as much as one command.
const RECEIVERS_PER_COMMAND: usize = 16;

/// Lines that a ticket costs, for the other side must keep it: 100 at once, then 100 a second.
const TICKET_COST: i64 = 1000;

/// How long a leaving user may take to read what is to be confirmed, in milliseconds.
const WRITE_MILLIS_MAX: i64 = 10_000;

/// Names in one page of a list; the next page follows when the socket has taken this one.
const LIST_NAMES_MAX: usize = 1000;

/// One lasting connection, from its first byte to its last.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) peer: IpAddr,
    pub(super) stage: Stage,
    /// When [`Timer::Silence`] is due; activity moves the truth, the timer finds out.
    pub(super) silence: i64,
    /// Until when this client's commands are paid, in units of 1/[`COMMANDS_PER_MILLI`] ms.
    paid_until: i64,
    /// Output waits for the socket.
    pub(super) stalled: bool,
    /// Answers of this connection that wait for the disk; what follows them waits too.
    pub(super) holds: u32,
    /// Stands in `State::unfinished`.
    pub(super) queued: bool,
    /// Our client: control lines, and confirmations that are proof.
    pub(super) is_ours: bool,
    /// The last line of a leaving user, while what was sent before it is not yet written.
    last: Option<Option<Notice>>,
    /// What our client says it has shown, until it has logged in.
    pub(super) shown: u64,
    /// A framed client: there is no lasting connection, what it is sent is pushed.
    pub(super) post: Option<Post>,
}

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Asked for a name; so many in a row were unknown.
    Name { unknown: u8 },
    /// Asked for this account's password.
    Password(UserId),
    /// Asked for a password for this new name.
    NewPassword(UserName),
    /// The new account is being written.
    Enrolling,
    /// Logged in.
    Online(Box<Visit>),
    /// Told to close; what was not confirmed may yet return to the mailbox.
    Leaving(UserId, Unconfirmed),
    /// Told to close before anybody had logged in.
    Refused,
}

/// A user while logged in.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) user: UserId,
    /// The last valid command, in elapsed milliseconds.
    pub(super) active: i64,
    pub(super) unconfirmed: Unconfirmed,
    pub(super) reading: Reading,
    /// A `PING` waits for what waited at log-in.
    pub(super) pong_due: bool,
    pub(super) talk: Talk,
    /// What is left of a long list, last page first.
    pages: Vec<Notice>,
    /// Where other clients can dial this one.
    pub(super) listens: Option<SocketAddr>,
    pub(super) manifest: Option<Box<Manifest>>,
    /// What is left of a list of holders.
    pub(super) listing: Option<Box<Listing>>,
}

impl Session {
    pub(super) fn new(peer: IpAddr, silence: i64) -> Self {
        let stage = Stage::Name { unknown: 0 };
        Self {
            peer,
            stage,
            silence,
            paid_until: 0,
            stalled: false,
            holds: 0,
            queued: false,
            is_ours: false,
            last: None,
            shown: 0,
            post: None,
        }
    }

    /// Whether output waits, so that what was sent has perhaps not been written.
    pub(super) fn is_behind(&self) -> bool {
        self.stalled || self.holds > 0
    }

    /// Whether the other end says itself which texts it has got, so that no others count as read.
    pub(super) fn confirms(&self) -> bool {
        self.is_ours || self.post.is_some()
    }

    /// Whether what was sent to a leaving user is still to be confirmed.
    pub(super) fn is_confirming(&self) -> bool {
        self.last.is_some()
    }

    fn is_prompted(&self) -> bool {
        matches!(self.stage, Stage::Name { .. } | Stage::Password(_) | Stage::NewPassword(_))
    }

    pub(super) fn online(&self) -> Option<&Visit> {
        match &self.stage {
            Stage::Online(visit) => Some(visit),
            _ => None,
        }
    }

    pub(super) fn visit(&mut self) -> Option<&mut Visit> {
        match &mut self.stage {
            Stage::Online(visit) => Some(visit),
            _ => None,
        }
    }

    /// Whose session it is or was, and what he has not confirmed.
    pub(super) fn unconfirmed(&mut self) -> Option<(UserId, &mut Unconfirmed)> {
        match &mut self.stage {
            Stage::Online(visit) => Some((visit.user, &mut visit.unconfirmed)),
            Stage::Leaving(user, unconfirmed) => Some((*user, unconfirmed)),
            _ => None,
        }
    }
}

impl Visit {
    pub(super) fn new(user: UserId, now: i64, reading: Reading) -> Self {
        let (unconfirmed, talk) = (Unconfirmed::default(), Talk::new());
        Self {
            user,
            active: now,
            unconfirmed,
            reading,
            pong_due: false,
            talk,
            pages: Vec::new(),
            listens: None,
            manifest: None,
            listing: None,
        }
    }
}

impl State {
    pub(super) fn visit(&mut self, conn: ConnId) -> Option<&mut Visit> {
        self.sessions.get_mut(&conn)?.visit()
    }

    pub(super) fn hear(&mut self, conn: ConnId, line: &[u8]) {
        let Some(session) = self.sessions.get(&conn) else { return };
        match &session.stage {
            Stage::Online(visit) => {
                let (user, mode) = (visit.user, visit.talk.mode);
                if session.is_ours {
                    self.hear_ours(conn, user, mode, line);
                } else {
                    self.take_line(conn, user, mode, line);
                }
            }
            Stage::Leaving(..) | Stage::Refused => {}
            _ if line.len() > LOGIN_LINE_BYTES_MAX => self.refuse_overlong(conn),
            _ => self.answer_prompt(conn, line),
        }
    }

    pub(super) fn refuse_overlong(&mut self, conn: ConnId) {
        if self.visit(conn).is_some() {
            self.charge_line(conn);
            self.refuse(conn, Refusal::LineTooLong { max: LINE_BYTES_MAX });
        } else {
            let max = LOGIN_LINE_BYTES_MAX;
            self.part(conn, Some(Notice::Refused(Refusal::LineTooLong { max })));
        }
    }

    /// A line of our client: a control line, or a typed line with its tag.
    fn hear_ours(&mut self, conn: ConnId, user: UserId, mode: Mode, line: &[u8]) {
        self.forget_used_token(user);
        match std::str::from_utf8(line).map_err(|_| Unknown).and_then(Say::parse) {
            Ok(Say::Typed { tag, line }) => self.carry_out_once(conn, user, mode, tag, line),
            Ok(Say::Seen(number)) => self.seen(conn, number),
            Ok(Say::Told(reader)) => self.confirm_receipt(conn, user, reader),
            Ok(Say::Ping) => {
                self.charge_line(conn);
                self.pong(conn);
            }
            Ok(Say::Hello | Say::Login { .. } | Say::Resume { .. }) | Err(Unknown) => {
                self.take_line(conn, user, mode, line);
            }
            Ok(say) => self.hear_between_clients(conn, user, say),
        }
    }

    /// Answers `PING`, after what waited at log-in: so a script that pings gets its messages before
    /// it leaves, as netcat's does.
    fn pong(&mut self, conn: ConnId) {
        match self.visit(conn) {
            Some(visit) if visit.reading.is_first() => visit.pong_due = true,
            _ => self.send(conn, Notice::Pong),
        }
    }

    /// What waited at log-in has been sent, or cannot be read now.
    pub(super) fn first_is_read(&mut self, conn: ConnId) {
        let Some(visit) = self.visit(conn) else { return };
        visit.reading.end_first();
        if std::mem::take(&mut visit.pong_due) {
            self.send(conn, Notice::Pong);
        }
        self.resume(conn);
    }

    /// A line that may have come before on a connection that died.
    fn carry_out_once(&mut self, conn: ConnId, user: UserId, mode: Mode, tag: Tag, line: &str) {
        match self.roster[user].lines.find(tag).cloned() {
            None => {
                self.tag = Some(tag);
                self.take_line(conn, user, mode, line.as_bytes());
                self.tag = None;
            }
            Some(fate) => {
                self.charge_line(conn);
                self.touch(conn);
                match fate {
                    Fate::Pending => self.await_line(conn, user, tag),
                    Fate::Done(Some(answer)) => self.send(conn, answer),
                    Fate::Done(None) => {}
                }
            }
        }
        if self.visit(conn).is_some() {
            self.send(conn, Notice::Done(tag));
        }
    }

    /// A line of somebody logged in: a text or a command, as its mode has it.
    fn take_line(&mut self, conn: ConnId, user: UserId, mode: Mode, line: &[u8]) {
        self.charge_line(conn);
        let Ok(line) = line::text(line) else {
            return self.refuse(conn, Refusal::NotUtf8);
        };
        match modes::text_of(&line).filter(|_| mode != Mode::Command) {
            Some(text) => self.say(conn, user, mode, text),
            None => self.command(conn, user, &line),
        }
    }

    fn command(&mut self, conn: ConnId, user: UserId, line: &str) {
        let request = match command::parse(line) {
            Ok(request) => request,
            Err(ParseError::Empty) => return,
            Err(ParseError::Unknown(word)) => return self.refuse(conn, invalid_command(word)),
            Err(ParseError::Usage(command)) => {
                self.touch(conn);
                if command.needs_client && !self.sessions.get(&conn).is_some_and(|session| session.is_ours) {
                    return self.refuse(conn, Refusal::NeedsClient(command.name));
                }
                return self.refuse(conn, Refusal::Usage(command));
            }
        };
        self.carry_out(conn, user, request);
    }

    /// Does what somebody logged in asks for, in whatever dialect.
    pub(super) fn carry_out(&mut self, conn: ConnId, user: UserId, request: Request<'_>) {
        self.touch(conn);
        match request {
            Request::Message { to, text } => self.message(conn, user, to, text),
            Request::Broadcast { text } => self.broadcast(conn, user, text),
            Request::WhoElse => self.who_else(conn, user),
            Request::WhoElseSince { millis } => self.who_else_since(conn, user, millis),
            Request::Block { user: whom } => self.block(conn, user, whom, true),
            Request::Unblock { user: whom } => self.block(conn, user, whom, false),
            Request::Status { user: whom } => self.status(conn, user, whom),
            Request::Receipts { on } => self.set_receipts(conn, on),
            Request::Group { group, act } => self.group(conn, user, group, act),
            Request::InGroup { verb, words } => self.in_group(conn, user, verb, words),
            Request::Groups => self.list_groups(conn, user),
            Request::Enter(mode) => self.enter_mode(conn, user, mode),
            Request::Exit => self.exit_mode(conn, user),
            Request::Help { topic } => self.help(conn, topic),
            Request::Logout => self.part(conn, Some(Notice::Goodbye)),
            request => self.between_clients(conn, user, request),
        }
    }

    fn help(&mut self, conn: ConnId, topic: Option<&str>) {
        let Some(word) = topic else { return self.send(conn, Notice::HelpAll) };
        let Some(command) = command::find(word).or_else(|| command::find(word.strip_prefix('/').unwrap_or(word)))
        else {
            return self.refuse(conn, invalid_command(word));
        };
        self.send(conn, Notice::Help(command));
        for form in COMMANDS.iter().filter(|form| command::is_form(form, command)) {
            self.send(conn, Notice::Help(form));
        }
    }

    pub(super) fn refuse(&mut self, conn: ConnId, refusal: Refusal) {
        self.send(conn, Notice::Refused(refusal));
    }

    /// Counts a valid command as a sign of life; its texts bring receipts if the session wants that.
    pub(super) fn touch(&mut self, conn: ConnId) {
        let now = self.now.elapsed;
        if let Some(visit) = self.visit(conn) {
            visit.active = now;
            self.receipt = visit.talk.wants_receipts();
        }
    }

    pub(super) fn check_silence(&mut self, conn: ConnId) {
        let timeout = self.rules.timeout;
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        match &session.stage {
            Stage::Online(_) if session.post.is_some() => self.check_heartbeat(conn),
            Stage::Online(visit) if visit.active + timeout > self.now.elapsed => {
                session.silence = visit.active + timeout;
                self.timers.insert((session.silence, Timer::Silence(conn)));
            }
            // The account is being written; whoever asked for it hears of that first.
            Stage::Enrolling => {
                session.silence = self.now.elapsed + timeout;
                self.timers.insert((session.silence, Timer::Silence(conn)));
            }
            Stage::Online(_) => self.part(conn, Some(Notice::TimedOut { seconds: timeout / 1000 })),
            // He does not read what was to be confirmed, so it is not.
            Stage::Leaving(..) => {
                if let Some(last) = session.last.take() {
                    self.say_last(conn, last);
                }
            }
            _ => self.turn_out(conn, Notice::LoginTimedOut),
        }
    }

    /// Makes the client pay for one line.
    pub(super) fn charge_line(&mut self, conn: ConnId) {
        self.charge(conn, 1);
    }

    /// Makes the client pay for the receivers of a text.
    pub(super) fn charge_receivers(&mut self, conn: ConnId, receivers: usize) {
        self.charge(conn, i64::try_from(receivers / RECEIVERS_PER_COMMAND).unwrap_or(COMMANDS_BURST_MAX));
    }

    /// Makes the client pay for a ticket.
    pub(super) fn charge_ticket(&mut self, conn: ConnId) {
        self.charge(conn, TICKET_COST);
    }

    /// A client in debt is paused until it has paid.
    fn charge(&mut self, conn: ConnId, cost: i64) {
        let now = self.now.elapsed.saturating_mul(COMMANDS_PER_MILLI);
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let before = session.paid_until;
        session.paid_until = before.max(now) + cost;
        let limit = now + COMMANDS_BURST_MAX;
        if session.paid_until > limit && before <= limit {
            let debt = (session.paid_until - limit) / COMMANDS_PER_MILLI + 1;
            self.effects.push(Effect::Pause(conn));
            self.timers.insert((self.now.elapsed + debt, Timer::Resume(conn)));
        }
    }

    /// Takes lines again, unless there is still something to wait for.
    pub(super) fn resume(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let debt = session.paid_until / COMMANDS_PER_MILLI - self.now.elapsed - COMMANDS_BURST_MAX / COMMANDS_PER_MILLI;
        if debt > 0 {
            self.timers.insert((self.now.elapsed + debt, Timer::Resume(conn)));
            return;
        }
        let waits = match &session.stage {
            // Our client is heard while it reads: it confirms each page before the next.
            Stage::Online(visit) => {
                !visit.pages.is_empty() || visit.listing.is_some() || (visit.reading.is_first() && !session.is_ours)
            }
            stage => matches!(stage, Stage::Enrolling),
        };
        if !waits {
            self.effects.push(Effect::Resume(conn));
        }
    }

    /// Sends a sorted list of names.
    pub(super) fn send_list(&mut self, conn: ConnId, names: Vec<UserName>) {
        if names.is_empty() {
            return self.send(conn, Notice::Nobody);
        }
        self.send_pages(conn, names.chunks(LIST_NAMES_MAX).map(|page| Notice::Names(page.to_vec())).collect());
    }

    /// Sends a list page by page as the socket takes it; no command is heard in between.
    pub(super) fn send_pages(&mut self, conn: ConnId, mut pages: Vec<Notice>) {
        pages.reverse();
        let first = pages.pop();
        if !pages.is_empty() {
            if let Some(visit) = self.visit(conn) {
                visit.pages = pages;
            }
            self.effects.push(Effect::Pause(conn));
            self.queue(conn);
        }
        if let Some(first) = first {
            self.send(conn, first);
        }
    }

    /// Asks to be looked at when the batch is flushed.
    pub(super) fn queue(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(&conn)
            && !std::mem::replace(&mut session.queued, true)
        {
            self.unfinished.push(conn);
        }
    }

    /// The end of a batch: the next page for everybody whose socket took the last one.
    pub(super) fn turn_pages(&mut self) {
        self.batch = self.batch.wrapping_add(1);
        for conn in std::mem::take(&mut self.unfinished) {
            let Some(session) = self.sessions.get_mut(&conn) else { continue };
            session.queued = false;
            // It comes again when it has drained.
            if session.stalled {
                continue;
            }
            self.note_written(conn);
            match self.sessions.get(&conn).map(|session| &session.stage) {
                Some(Stage::Leaving(..)) => self.confirm_and_close(conn),
                _ => self.turn_page(conn),
            }
        }
        if !self.facts.is_empty() {
            self.tell_receipts();
        }
    }

    fn turn_page(&mut self, conn: ConnId) {
        let Some(visit) = self.visit(conn) else { return };
        match visit.pages.pop() {
            Some(page) => self.send(conn, page),
            None if self.list_on(conn) => {}
            None => return self.read_on(conn),
        }
        self.resume(conn);
        self.queue(conn);
    }

    pub(super) fn set_stalled(&mut self, conn: ConnId, stalled: bool) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.stalled = stalled;
            if !stalled {
                self.all_pushed(conn);
                self.queue(conn);
            }
        }
    }

    /// Ends a session in order: what was delivered counts as confirmed, and `last` is the last
    /// line. A reset soon after takes the confirmation back (see [`State::close`]).
    pub(super) fn part(&mut self, conn: ConnId, last: Option<Notice>) {
        let Some(user) = self.go(conn) else { return };
        // An end of input may be a link that died; these are not.
        if let (Some(user), Some(Notice::Goodbye | Notice::TimedOut { .. })) = (user, &last) {
            self.set_tokens(user, Tokens::default());
        }
        if user.is_none() || !self.has_mail_to_confirm(conn) {
            return self.say_last(conn, last);
        }
        // What was read is confirmed once it is written, and not for ever waited for.
        let until = self.now.elapsed + WRITE_MILLIS_MAX;
        if let Some(session) = self.sessions.get_mut(&conn) {
            if let Some((user, unconfirmed)) = session.unconfirmed() {
                let mailbox = &mut self.roster[user].mailbox;
                mailbox.confirming = mailbox.confirming.max(unconfirmed.last());
            }
            session.last = Some(last);
            session.silence = until;
            self.timers.insert((until, Timer::Silence(conn)));
            self.queue(conn);
        }
    }

    /// All that was sent to a leaving user has been written.
    fn confirm_and_close(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let (Stage::Leaving(user, _), Some(last)) = (&session.stage, session.last.take()) else { return };
        let user = *user;
        self.timers.remove(&(session.silence, Timer::Silence(conn)));
        if self.confirm_mail(conn, user) || self.roster[user].mailbox.is_undeleted() {
            // Whoever left in order must not get these again, not even after a crash: the last
            // line waits until that is on the disk.
            self.forget_mail(user, Some(conn));
        }
        self.say_last(conn, last);
    }

    /// Ends a connection that did not ask for it, in the middle of a prompt perhaps.
    pub(super) fn turn_out(&mut self, conn: ConnId, last: Notice) {
        if self.sessions.get(&conn).is_some_and(Session::is_prompted) {
            self.send(conn, Notice::PromptEnd);
        }
        self.part(conn, Some(last));
    }

    /// Ends the session of a client that does not read; nothing it has not got is confirmed.
    pub(super) fn cut_off(&mut self, conn: ConnId) {
        if self.go(conn).is_some() {
            self.say_last(conn, Some(Notice::TooSlow));
        }
    }

    /// The connection is gone, in order or not.
    pub(super) fn close(&mut self, conn: ConnId, parting: Parting) {
        self.go(conn);
        let Some(session) = self.sessions.remove(&conn) else { return };
        self.timers.remove(&(session.silence, Timer::Silence(conn)));
        match session.stage {
            // What was pushed and arrived is confirmed; the rest waits.
            Stage::Leaving(user, unconfirmed) if session.post.is_some() => {
                self.give_back(user, unconfirmed, Road::Mail);
                self.roster[user].departing -= 1;
                if let Some(conn) = self.roster[user].session {
                    self.queue(conn);
                }
            }
            Stage::Leaving(user, unconfirmed) if parting == Parting::Cut => {
                self.give_back(user, unconfirmed, Road::Again);
            }
            _ => {}
        }
    }

    /// Takes a session out of the chat: no more lines, presence to others. Returns whose it was
    /// if anybody's; `None` if it had gone before.
    pub(super) fn go(&mut self, conn: ConnId) -> Option<Option<UserId>> {
        let session = self.sessions.get_mut(&conn)?;
        if matches!(session.stage, Stage::Leaving(..) | Stage::Refused) {
            return None;
        }
        self.timers.remove(&(session.silence, Timer::Silence(conn)));
        if let Some(visit) = session.visit()
            && let Some(manifest) = visit.manifest.take()
        {
            self.tracker.release(visit.user, &manifest);
        }
        let Stage::Online(visit) = std::mem::replace(&mut session.stage, Stage::Refused) else {
            let peer = session.peer;
            self.lobby.leave(conn, peer);
            return Some(None);
        };
        let Visit { user, mut unconfirmed, .. } = *visit;
        // Our client has said what it has shown; the rest waits for it from now on, before
        // anything that comes later.
        let not_shown = session.is_ours.then(|| std::mem::take(&mut unconfirmed));
        session.stage = Stage::Leaving(user, unconfirmed);
        self.roster[user].departing += u32::from(session.post.is_some());
        self.depart(user);
        if let Some(not_shown) = not_shown {
            self.give_back(user, not_shown, Road::Mail);
        }
        Some(Some(user))
    }

    /// Sends the last line and closes.
    pub(super) fn say_last(&mut self, conn: ConnId, last: Option<Notice>) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let watch = matches!(&session.stage, Stage::Leaving(_, unconfirmed) if !unconfirmed.is_empty());
        if let Some(notice) = last {
            self.send(conn, notice);
        }
        self.effects.push(Effect::Close { conn, watch });
    }
}

fn invalid_command(word: &str) -> Refusal {
    Refusal::InvalidCommand(shown(word))
}

/// A typed word as it is shown in an error: harmless, and not longer than it takes to know it.
pub(super) fn shown(word: &str) -> Text {
    const SHOWN_CHARS_MAX: usize = 40;
    let end = word.char_indices().nth(SHOWN_CHARS_MAX).map_or(word.len(), |(at, _)| at);
    Text::harmless(&word[..end])
}
