//! The rules of framed users: what a request is answered, how they come and go, when they have
//! been silent for too long, and what becomes of a text by its push.
//!
//! Such a user is online by a session like any other; what is said to it stands in the queue of its
//! pushes. A text there is the reader's when its push has arrived. If that is not so when the
//! session has ended, it is as if it had not been sent yet: it comes in its order to the next
//! session, with a mark if it may have been read.

use std::net::IpAddr;

use chinwag::server::ids::ConnId;
use chinwag::server::state::{Ask, Outcome};
use chinwag::wire::framed::{self, Act, Answer, Asked, Fault};
use chinwag::wire::time::Moment;
use chinwag::wire::{Notice, Request};

use super::login::{Failures, Verdict};
use super::modes::Talk;
use super::reach::Rule;
use super::texts::text;
use super::{Expected, Fact, Model, Session, Stage, Tokens, UserId};

/// Without a sign of life for so long a framed user is logged out, in milliseconds.
const SILENCE_MILLIS_MAX: i64 = 30_000;

/// What makes a session a framed one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Post {
    token: u128,
    /// The last sign of life.
    heard: i64,
    /// Where it listens.
    pub(super) at: (IpAddr, u16),
    /// All that was pushed has arrived.
    is_drained: bool,
}

/// All that is known of framed clients between their requests.
#[derive(Default)]
pub(super) struct Desk {
    /// Who has the right password and has not said where he listens; and his token.
    entering: Vec<(ConnId, UserId, u128)>,
    /// Names that do not exist, and what was tried with them.
    strangers: Vec<(String, Failures)>,
    /// What must be answered next.
    due: Option<(ConnId, Due)>,
    /// Tokens that this run of the server has given out.
    given: Vec<u128>,
}

/// What a request must be answered.
#[derive(Debug)]
enum Due {
    This(Answer),
    /// A token that nobody has had before, for this user.
    Token(UserId),
}

impl Post {
    pub(super) fn limit(&self) -> i64 {
        self.heard + SILENCE_MILLIS_MAX
    }
}

impl Desk {
    fn stranger(&mut self, name: &str) -> &mut Failures {
        let at = self.strangers.iter().position(|(other, _)| other == name).unwrap_or_else(|| {
            self.strangers.push((name.to_owned(), Failures::default()));
            self.strangers.len() - 1
        });
        &mut self.strangers[at].1
    }

    pub(super) fn crash(&mut self) {
        *self = Self::default();
    }
}

/// Everybody is shown lines.
fn one_line(text: &str) -> String {
    text.trim_end_matches(['\r', '\n']).replace("\r\n", "\n").replace(['\r', '\n'], " ")
}

impl Model {
    fn post(&self, id: ConnId) -> Option<&Post> {
        self.session(id)?.post.as_ref()
    }

    pub(super) fn is_framed(&self, id: ConnId) -> bool {
        self.post(id).is_some()
    }

    /// Whose session a token opens.
    pub(crate) fn let_in(&self, name: &str, token: &str) -> Option<ConnId> {
        let token = u128::from_str_radix(token, 16).ok()?;
        let id = self.users[self.find(name)?].conn?;
        (self.post(id)?.token == token).then_some(id)
    }

    // Requests.

    pub(super) fn asked(&mut self, now: Moment, id: ConnId, peer: IpAddr, ask: Ask<'_>) {
        let due = match ask {
            _ if self.stopping => Due::This(Answer::Refused(Fault::Unavailable)),
            Ask::LogIn { name, password } => self.try_framed(now, name, password),
            Ask::Listen { host, port } => Due::This(self.listens(now, id, peer, host, port)),
            Ask::Request(frame) => Due::This(match framed::parse(frame) {
                Ok(Asked::Act { user, token, act }) => self.requested(now, user, token, act),
                Ok(Asked::LogIn) => Answer::Nothing,
                Err(fault) => Answer::Refused(fault),
            }),
        };
        self.desk.due = Some((id, due));
    }

    /// The server answers.
    pub(crate) fn answered(&mut self, id: ConnId, answer: Answer) {
        if self.is_off {
            return;
        }
        match (self.desk.due.take(), answer) {
            (Some((asker, Due::This(due))), _) if asker == id && due == answer => {}
            (Some((asker, Due::Token(user))), Answer::LoggedIn { token })
                if asker == id && !self.desk.given.contains(&token) =>
            {
                self.desk.given.push(token);
                self.desk.entering.push((id, user, token));
            }
            (due, answer) => self.fail(format!("request {} is answered {answer:?} instead of {due:?}", id.0)),
        }
    }

    fn try_framed(&mut self, now: Moment, name: &[u8], password: &[u8]) -> Due {
        let (Ok(name), Ok(password)) = (std::str::from_utf8(name), std::str::from_utf8(password)) else {
            return Due::This(Answer::Refused(Fault::NotUtf8));
        };
        let (user, block) = (self.find(name), self.block);
        let is_right = user.is_some_and(|user| self.users[user].password == password);
        let verdict = match user {
            Some(user) => self.users[user].failures.judge(is_right, block, now.elapsed),
            // Nobody can tell that there is no such user.
            None => self.desk.stranger(name).judge(false, block, now.elapsed),
        };
        match (verdict, user) {
            (Verdict::Right, Some(user)) => return Due::Token(user),
            (_, None) => self.reach(Rule::StrangerCounted),
            (Verdict::Locked(_), _) => self.reach(Rule::FramedLocked),
            _ => {}
        }
        Due::This(match verdict {
            Verdict::Right => Answer::Nothing,
            Verdict::Wrong(tries) => Answer::WrongPassword { tries },
            Verdict::JustLocked => Answer::JustLocked { millis: block },
            Verdict::Locked(millis) => Answer::StillLocked { millis },
        })
    }

    /// The connection of a log-in is gone before it has come to its end.
    pub(super) fn hung(&mut self, id: ConnId) {
        self.desk.entering.retain(|(other, ..)| *other != id);
        self.reach(Rule::LogInHungUp);
    }

    /// Where the client listens: with this the log-in is complete.
    fn listens(&mut self, now: Moment, id: ConnId, peer: IpAddr, host: &[u8], port: &[u8]) -> Answer {
        let Some(at) = self.desk.entering.iter().position(|(other, ..)| *other == id) else {
            return Answer::Refused(Fault::NotLoggedIn);
        };
        let (_, user, token) = self.desk.entering.remove(at);
        let (Ok(host), Ok(port)) = (std::str::from_utf8(host), std::str::from_utf8(port)) else {
            return Answer::Refused(Fault::NotUtf8);
        };
        let peer = peer.to_canonical();
        let ip = match host.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical(),
            Err(_) if host == "localhost" => peer,
            Err(_) => return Answer::Refused(Fault::BadAddress),
        };
        let Some(port) = port.parse().ok().filter(|port| *port > 0) else {
            return Answer::Refused(Fault::BadAddress);
        };
        if ip != peer || (host == "localhost" && !peer.is_loopback()) {
            self.reach(Rule::ForeignAddress);
            return Answer::Refused(Fault::ForeignAddress);
        }
        self.come_framed(now, id, user, Post { token, heard: now.elapsed, at: (ip, port), is_drained: false });
        Answer::Nothing
    }

    /// A framed log-in replaces any session of its user, and nobody else hears of that.
    fn come_framed(&mut self, now: Moment, id: ConnId, user: UserId, post: Post) {
        let old = self.users[user].conn;
        if let Some(old) = old {
            self.reach(if self.is_framed(old) { Rule::FramedReplaced } else { Rule::LineReplaced });
            self.replace(now, old, user);
        }
        let mut session = Session::new(id, post.at.0, i64::MAX);
        session.post = Some(post);
        self.sessions.push(session);
        self.come_online(now, id, user);
        self.set_tokens(user, Tokens::default());
        self.begin_visit(id, user, None, (Talk::default(), 0));
        self.expect_meanwhile(id, user);
        self.expect(id, Expected::Waiting);
        if old.is_none() {
            self.witness(user, &Notice::Arrived(self.name(user)));
        }
        self.renew_addresses(user);
    }

    /// Ends the session of somebody who has come by another. What netcat was sent counts as read.
    fn replace(&mut self, now: Moment, old: ConnId, user: UserId) {
        self.go_offline(now, user);
        self.say(old, Notice::TakenOver);
        let Some(session) = self.session_mut(old) else { return };
        (session.stage, session.must_close, session.left) = (Stage::Gone(Some(user)), true, now.elapsed);
        session.is_replaced = true;
        if session.is_ours {
            self.drop_receipts(user, old);
            self.free(user, old, false, false);
        } else if session.post.is_none() {
            let told = std::mem::take(&mut session.told);
            session.confirmed.clone_from(&told);
            told.iter().for_each(|told| self.forget_told(user, told));
        }
    }

    fn requested(&mut self, now: Moment, name: &str, token: &str, act: Act<'_>) -> Answer {
        let Some(id) = self.let_in(name, token) else {
            let token = u128::from_str_radix(token, 16).unwrap_or_default();
            if self.desk.given.contains(&token) {
                self.reach(Rule::DeadToken);
            }
            let is_get = matches!(act, Act::Request(Request::GetAddress { .. }));
            return if is_get { Answer::Fail } else { Answer::Refused(Fault::NotLoggedIn) };
        };
        let Some(user) = self.user_of(id) else { return Answer::Nothing };
        if let Some(post) = self.session_mut(id).and_then(|session| session.post.as_mut()) {
            post.heard = now.elapsed;
        }
        match act {
            Act::Alive => {}
            Act::Request(Request::Logout) => self.part(now, id, None),
            Act::Request(Request::GetAddress { user: word }) => {
                self.users[user].active = now.elapsed;
                return self.get_address(user, word);
            }
            Act::Request(Request::Allow { user: word }) => {
                self.users[user].active = now.elapsed;
                self.allow(id, user, word);
            }
            Act::Request(Request::Deny { user: word }) => {
                self.users[user].active = now.elapsed;
                self.deny(id, user, word);
            }
            Act::Request(Request::Message { to, text }) => {
                let text = one_line(text);
                self.request(now, id, user, Request::Message { to, text: &text }, None);
            }
            Act::Request(Request::Broadcast { text }) => {
                let text = one_line(text);
                self.request(now, id, user, Request::Broadcast { text: &text }, None);
            }
            Act::Request(request) => self.request(now, id, user, request, None),
        }
        Answer::Nothing
    }

    // Pushes.

    /// What became of the push of a notice, or of the text with this number.
    pub(super) fn pushed(&mut self, now: Moment, id: ConnId, number: Option<u64>, outcome: Outcome) {
        let Some(Stage::Online(user) | Stage::Gone(Some(user))) = self.session(id).map(|session| session.stage) else {
            return;
        };
        let is_this = |text: &&super::Text| text.written == Some((id, false)) && Some(text.id) == number;
        let number = self.users[user].texts.iter().find(is_this).map(|text| text.number);
        if let Some(number) = number {
            self.text_pushed(user, number, outcome);
        }
        if outcome == Outcome::Delivered {
            return;
        }
        if self.is_online(id) {
            self.reach(Rule::PushFailed);
            self.go_offline(now, user);
            self.witness(user, &Notice::Left(self.name(user)));
        }
        let Some(session) = self.session_mut(id) else { return };
        session.expected.clear();
        session.told.clear();
        (session.stage, session.must_close, session.is_void) = (Stage::Gone(Some(user)), true, true);
    }

    fn text_pushed(&mut self, user: UserId, number: u64, outcome: Outcome) {
        let Some(text) = text(&mut self.users[user], number) else { return };
        match outcome {
            Outcome::Delivered => {
                let is_again = text.must_say_again;
                (text.is_confirmed, text.may_repeat) = (true, false);
                if text.receipt {
                    self.is_seen(user, number, true);
                }
                if is_again {
                    self.reach(Rule::PushedAgain);
                }
            }
            Outcome::Doubtful => {
                (text.must_say_again, text.may_say_again) = (true, true);
                self.reach(Rule::PushDoubtful);
            }
            Outcome::Failed => {}
        }
    }

    /// Everything is at rest, so the disk has deleted what has arrived where nothing waits.
    pub(super) fn forget_pushed(&mut self) {
        if self.retry_due {
            return;
        }
        for session in self.sessions.iter().filter(|session| session.post.is_some_and(|post| post.is_drained)) {
            let Stage::Online(user) = session.stage else { continue };
            let texts = self.users[user].texts.iter_mut().rev();
            for text in texts.take_while(|text| !text.is_forgotten).filter(|text| text.is_confirmed) {
                text.is_forgotten |= text.written == Some((session.id, false));
            }
        }
    }

    /// All that was pushed has arrived, also what others had seen meanwhile.
    pub(super) fn all_pushed(&mut self, id: ConnId) {
        let Some(user) = self.user_of(id) else { return };
        let Some(session) = self.session_mut(id).filter(|session| session.post.is_some()) else { return };
        if let Some(post) = &mut session.post {
            post.is_drained = true;
        }
        let told = std::mem::take(&mut session.told);
        told.iter().for_each(|told| self.forget_told(user, told));
    }

    /// Something waits to be pushed.
    pub(super) fn is_behind(&mut self, id: ConnId) {
        if let Some(post) = self.session_mut(id).and_then(|session| session.post.as_mut()) {
            post.is_drained = false;
        }
    }

    /// A framed session is closed: what has not arrived waits, on the disk, in its place.
    pub(super) fn return_unpushed(&mut self, user: UserId, id: ConnId) {
        let now_at = self.users[user].conn;
        let texts = self.users[user].texts.iter_mut();
        let mut kept = Vec::new();
        for text in texts.filter(|text| !text.is_confirmed && !text.is_refused) {
            let was_here = text.written == Some((id, false));
            if was_here {
                let is_lost = text.has_lost_its_place();
                text.written = text.written.filter(|_| is_lost);
                text.may_repeat = is_lost;
                // Netcat had it before, and may yet break.
                text.may_say_again |= text.is_double;
            }
            if was_here || (text.meant_for == Some(id) && !text.is_mail && !text.is_returned) {
                kept.push((text.number, text.must_say_again));
                text.is_returned = true;
            }
            if was_here || text.meant_for == Some(id) {
                text.meant_for = now_at;
            }
        }
        if !kept.is_empty() {
            self.reach(if now_at.is_some() { Rule::ReturnedToNext } else { Rule::ReturnedToMailbox });
        }
        let kept = kept.into_iter().map(|(number, is_marked)| Fact::Kept { to: user, number, is_marked });
        self.facts.extend(kept);
    }

    /// What framed sessions held when the server was killed comes as if it had not been sent, if
    /// the disk has it.
    pub(super) fn crash_framed(&mut self) {
        let posts: Vec<ConnId> =
            self.sessions.iter().filter(|session| session.post.is_some()).map(|session| session.id).collect();
        for text in self.users.iter_mut().flat_map(|user| &mut user.texts) {
            let at_post = |id: Option<ConnId>| id.is_some_and(|id| posts.contains(&id));
            if at_post(text.meant_for) {
                text.meant_for = None;
            }
            let keeps_its_place = text.is_stored && !text.is_confirmed && !text.has_lost_its_place();
            if keeps_its_place && at_post(text.written.map(|(id, _)| id)) {
                text.written = None;
            }
        }
        self.desk.crash();
    }

    /// What the disk refused to take back is tried again with the sign of life.
    pub(super) fn return_again(&mut self) {
        let unreturned = std::mem::take(&mut self.unreturned);
        self.facts.extend(unreturned.into_iter().map(|(to, number)| Fact::Kept { to, number, is_marked: false }));
    }

    pub(super) fn waits_for_another(&self, session: &Session) -> bool {
        matches!(session.stage, Stage::Online(user) if self.is_departing(user))
    }

    /// Lines on this connection are perhaps not heard yet: first comes what waited at its log-in.
    pub(crate) fn is_behind_mail(&self, id: ConnId) -> bool {
        self.session(id).is_some_and(|session| self.waits_for_another(session))
    }

    /// An older framed session of this user is not at its end, so nothing comes to a newer one.
    pub(super) fn is_departing(&self, user: UserId) -> bool {
        let leaves = |session: &Session| session.post.is_some() && session.stage == Stage::Gone(Some(user));
        self.sessions.iter().any(leaves)
    }
}
