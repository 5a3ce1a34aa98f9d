//! Framed clients in the simulated world: their requests, each on a connection of its own, and the
//! pushes to them. As `src/server/push.rs` does, it keeps a queue per session and has one push of
//! each under way.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use chinwag::server::ids::ConnId;
use chinwag::server::state::{Ask, Event, Outcome, Parting};
use chinwag::wire::command;
use chinwag::wire::framed::{Act, Answer, Asked};
use chinwag::wire::{Letter, Notice};

use crate::play::{Ear, NO_WORDS};
use crate::world::World;

/// How long a connection to a client may take to come about, in milliseconds.
const CONNECT_MILLIS_MAX: i64 = 1_000;

/// How long a push may take once it is connected, in milliseconds.
const PUSH_MILLIS_MAX: i64 = 2_000;

/// How long the last notices of a session may take, in milliseconds.
const LAST_MILLIS_MAX: i64 = 4_000;

/// The port of the first client; each has its own.
const FIRST_PORT: u16 = 5001;

/// All framed clients, and what waits for them.
#[derive(Default)]
pub(crate) struct Framed {
    callers: Vec<Caller>,
    posts: Vec<Post>,
    next_port: u16,
    /// The answer to the request in hand.
    answer: Option<Answer>,
}

/// A framed client.
struct Caller {
    seat: char,
    peer: IpAddr,
    port: u16,
    user: String,
    /// What it was given last, and before that.
    token: String,
    old_token: String,
    ear: Ear,
    /// A log-in that it has begun, and whether the password was right.
    exchange: Option<(ConnId, bool)>,
}

/// What is pushed for one session.
struct Post {
    id: ConnId,
    address: SocketAddr,
    /// Places kept for answers, and what stands behind them.
    held: VecDeque<Option<Notice>>,
    queue: VecDeque<Notice>,
    /// A push that has begun, and when.
    under_way: Option<(Notice, i64)>,
    stalled: bool,
    /// The session has ended, and when its last notices are given up.
    closing: Option<i64>,
}

impl Post {
    fn waits(&self) -> bool {
        self.under_way.is_some() || !self.queue.is_empty() || !self.held.is_empty()
    }

    fn forget_all(&mut self) {
        self.queue.clear();
        self.held.clear();
    }
}

/// The number of a text that is to be confirmed.
fn number(notice: &Notice) -> Option<u64> {
    letter(notice).map(|letter| letter.number)
}

fn letter(notice: &Notice) -> Option<&Letter> {
    match notice {
        Notice::Said(letter) if letter.number > 0 => Some(letter),
        _ => None,
    }
}

impl Framed {
    fn caller(&mut self, seat: char) -> &mut Caller {
        let at = self.callers.iter().position(|caller| caller.seat == seat).unwrap_or_else(|| {
            self.callers.push(Caller {
                seat,
                peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
                port: FIRST_PORT + self.next_port,
                user: String::new(),
                token: String::new(),
                old_token: String::new(),
                ear: Ear::Listens,
                exchange: None,
            });
            self.next_port += 1;
            self.callers.len() - 1
        });
        &mut self.callers[at]
    }

    /// Who would get a push to this address.
    fn listener(&self, address: SocketAddr) -> Option<&Caller> {
        self.callers.iter().find(|caller| SocketAddr::new(caller.peer.to_canonical(), caller.port) == address)
    }

    fn post(&mut self, id: ConnId) -> Option<&mut Post> {
        self.posts.iter_mut().find(|post| post.id == id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.posts.is_empty()
    }

    /// Sessions for which nothing waits.
    pub(crate) fn idle(&self) -> Vec<ConnId> {
        self.posts.iter().filter(|post| !post.waits()).map(|post| post.id).collect()
    }

    /// Whether it may be a while until this session is closed.
    pub(crate) fn is_slow(&self, id: ConnId) -> bool {
        self.posts.iter().any(|post| post.id == id && post.closing.is_some() && post.waits())
    }

    /// When the next push or session is given up.
    pub(crate) fn deadline(&self) -> Option<i64> {
        let pushes = self.posts.iter().filter_map(|post| {
            let (_, begun) = post.under_way.as_ref()?;
            match self.listener(post.address)?.ear {
                Ear::Hangs => Some(begun + PUSH_MILLIS_MAX),
                Ear::Vanishes => Some(begun + CONNECT_MILLIS_MAX),
                Ear::Listens | Ear::Resets | Ear::Refuses => None,
            }
        });
        pushes.chain(self.posts.iter().filter_map(|post| post.closing)).min()
    }

    pub(crate) fn crash(&mut self) {
        self.posts.clear();
        self.callers.iter_mut().for_each(|caller| caller.exchange = None);
    }

    pub(crate) fn ear(&self, seat: char) -> Ear {
        self.callers.iter().find(|caller| caller.seat == seat).map_or(Ear::Listens, |caller| caller.ear)
    }

    /// Whether a log-in at this seat has come to the right password.
    pub(crate) fn is_entering(&self, seat: char) -> bool {
        self.callers.iter().any(|caller| caller.seat == seat && caller.exchange.is_some_and(|(_, right)| right))
    }

    /// Who sits there, and the token of his session, dead or alive.
    pub(crate) fn pass(&self, seat: char) -> Option<(&str, &str)> {
        let caller = self.callers.iter().find(|caller| caller.seat == seat)?;
        Some((&caller.user, &caller.token))
    }
}

impl World {
    // Requests.

    /// A typed line, as a framed client carries it out.
    pub(crate) fn type_framed(&mut self, seat: char, line: &str) {
        let caller = self.framed.caller(seat);
        let (mut user, mut token, mut words) = (caller.user.clone(), caller.token.clone(), line);
        match line.split_once(' ').unwrap_or((line, "")) {
            ("frame", frame) => return self.send_frame(seat, frame.as_bytes()),
            ("try", rest) => return self.try_log_in(seat, rest),
            ("listen", host) => return self.listen(seat, host),
            ("login", rest) => {
                let (rest, host) = match rest.match_indices(' ').nth(1) {
                    Some((at, _)) => (&rest[..at], &rest[at + 1..]),
                    None => (rest, ""),
                };
                self.hang_up_exchange(seat);
                self.try_log_in(seat, rest);
                return if self.framed.is_entering(seat) {
                    self.listen(seat, host)
                } else {
                    self.hang_up_exchange(seat)
                };
            }
            ("old", rest) => (token, words) = (caller.old_token.clone(), rest),
            ("as", rest) => {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                (user, words) = (name.to_owned(), rest);
            }
            _ => {}
        }
        let act = if words == "heartbeat" { Some(Act::Alive) } else { command::parse(words).ok().map(Act::Request) };
        match act.and_then(|act| Asked::Act { user: &user, token: &token, act }.spell()) {
            Some(frame) => self.send_frame(seat, frame.as_bytes()),
            None => self.see(seat, NO_WORDS.to_owned()),
        }
    }

    fn send_frame(&mut self, seat: char, frame: &[u8]) {
        let id = self.next_conn();
        let answer = self.ask(seat, id, Ask::Request(frame));
        self.show_answer(seat, answer);
    }

    /// A name and a password.
    fn try_log_in(&mut self, seat: char, words: &str) {
        let open = self.framed.caller(seat).exchange;
        if open.is_some_and(|(_, right)| right) {
            self.hang_up_exchange(seat);
        }
        let id = match open {
            Some((id, false)) => id,
            _ => self.next_conn(),
        };
        let (name, password) = words.split_once(' ').unwrap_or((words, ""));
        let answer = self.ask(seat, id, Ask::LogIn { name: name.as_bytes(), password: password.as_bytes() });
        self.show_answer(seat, answer);
        let caller = self.framed.caller(seat);
        caller.exchange = Some((id, false));
        if let Some(Answer::LoggedIn { token }) = answer {
            caller.exchange = Some((id, true));
            (caller.user, caller.old_token) = (name.to_owned(), std::mem::take(&mut caller.token));
            caller.token = format!("{token:032x}");
        }
    }

    /// Says where the client listens.
    fn listen(&mut self, seat: char, host: &str) {
        let caller = self.framed.caller(seat);
        let Some((id, _)) = caller.exchange.take() else { return };
        let host = if host.is_empty() { caller.peer.to_string() } else { host.to_owned() };
        let port = caller.port.to_string();
        let answer = self.ask(seat, id, Ask::Listen { host: host.as_bytes(), port: port.as_bytes() });
        self.show_answer(seat, answer);
    }

    /// The connection of a log-in is gone, with whatever was to be said on it.
    pub(crate) fn hang_up_exchange(&mut self, seat: char) {
        if let Some((id, right)) = self.framed.caller(seat).exchange.take()
            && right
        {
            self.tell(Event::Hung(id));
        }
    }

    fn ask(&mut self, seat: char, id: ConnId, ask: Ask<'_>) -> Option<Answer> {
        let peer = self.framed.caller(seat).peer;
        self.tell(Event::Asked(id, peer, ask));
        let answer = self.framed.answer.take();
        if answer.is_none() {
            self.model.fail(format!("{seat} has no answer"));
        }
        answer
    }

    pub(crate) fn answer_framed(&mut self, id: ConnId, answer: Answer) {
        self.model.answered(id, answer);
        self.framed.answer = Some(answer);
    }

    fn show_answer(&mut self, seat: char, answer: Option<Answer>) {
        let mut bytes = Vec::new();
        if let Some(answer) = answer {
            answer.encode(&mut bytes);
        }
        // The first frame; tokens are not shown.
        if let Some((length, rest)) = bytes.split_first_chunk() {
            let length = usize::try_from(u32::from_be_bytes(*length)).expect("a short answer");
            self.see(seat, format!("{seat}= {}", String::from_utf8_lossy(&rest[..length])));
        }
    }

    // Where and how they listen.

    pub(crate) fn call_from(&mut self, seat: char, peer: IpAddr) {
        self.framed.caller(seat).peer = peer;
    }

    pub(crate) fn set_ear(&mut self, seat: char, ear: Ear) {
        self.framed.caller(seat).ear = ear;
    }

    pub(crate) fn move_framed(&mut self, seat: char) {
        let port = FIRST_PORT + self.framed.next_port;
        self.framed.next_port += 1;
        self.framed.caller(seat).port = port;
    }

    // Pushes.

    pub(crate) fn open_post(&mut self, id: ConnId, address: SocketAddr) {
        self.framed.posts.push(Post {
            id,
            address,
            held: VecDeque::new(),
            queue: VecDeque::new(),
            under_way: None,
            stalled: false,
            closing: None,
        });
    }

    /// Appends a notice to what is pushed; false if this is no framed session.
    pub(crate) fn post(&mut self, id: ConnId, notice: &Notice) -> bool {
        let Some(post) = self.framed.post(id) else { return false };
        // This one has no words for a person.
        if matches!(notice, Notice::Expect { .. }) {
            return true;
        }
        if !post.held.is_empty() {
            post.held.push_back(Some(notice.clone()));
        } else {
            self.enqueue(id, notice.clone());
        }
        true
    }

    fn enqueue(&mut self, id: ConnId, notice: Notice) {
        self.moved();
        self.model.hear(self.now(), id, &notice);
        if let Some(post) = self.framed.post(id) {
            post.queue.push_back(notice);
        }
    }

    pub(crate) fn hold_post(&mut self, id: ConnId) {
        if let Some(post) = self.framed.post(id) {
            post.held.push_back(None);
        }
    }

    /// A place that was kept is filled; after a push that failed there is none.
    pub(crate) fn release_post(&mut self, id: ConnId, answer: Option<Notice>) {
        let Some(post) = self.framed.post(id) else { return };
        if post.held.pop_front() != Some(None) {
            return;
        }
        let mut ready: Vec<Notice> = answer.into_iter().collect();
        while let Some(Some(_)) = post.held.front() {
            ready.extend(post.held.pop_front().flatten());
        }
        self.moved();
        ready.into_iter().for_each(|notice| self.enqueue(id, notice));
    }

    /// The session has ended: its texts are not pushed any more.
    pub(crate) fn close_post(&mut self, id: ConnId) {
        let limit = self.now().elapsed + LAST_MILLIS_MAX;
        let Some(post) = self.framed.post(id) else { return };
        post.closing = Some(limit);
        post.queue.retain(|notice| number(notice).is_none());
        post.held.retain(|notice| notice.as_ref().is_none_or(|notice| number(notice).is_none()));
        self.moved();
    }

    /// The end of a batch: pushes begin, and the server hears which sessions wait or have ended.
    pub(crate) fn send_posts(&mut self) {
        let now = self.now().elapsed;
        let mut ids: Vec<ConnId> = self.framed.posts.iter().map(|post| post.id).collect();
        ids.sort_unstable();
        let (mut events, mut begins) = (Vec::new(), false);
        for id in ids {
            let Some(post) = self.framed.post(id) else { continue };
            if post.under_way.is_none() {
                post.under_way = post.queue.pop_front().map(|notice| (notice, now));
                begins |= post.under_way.is_some();
            }
            let waits = post.waits();
            if post.closing.is_some() && !waits {
                self.framed.posts.retain(|post| post.id != id);
                events.push(Event::Closed(id, Parting::Clean));
            } else if std::mem::replace(&mut post.stalled, waits) != waits {
                events.push(if waits { Event::Stalled(id) } else { Event::Drained(id) });
            }
        }
        if begins || !events.is_empty() {
            self.moved();
        }
        events.into_iter().for_each(|event| self.tell(event));
    }

    /// The fate of one push, if it is decided. Whether there was one.
    pub(crate) fn finish_push(&mut self) -> bool {
        let now = self.now().elapsed;
        let decided = self.framed.posts.iter().find_map(|post| {
            let (_, begun) = post.under_way.as_ref()?;
            let listener = self.framed.listener(post.address);
            let outcome = match listener.map_or(Ear::Refuses, |caller| caller.ear) {
                Ear::Hangs if now >= begun + PUSH_MILLIS_MAX => Outcome::Doubtful,
                Ear::Vanishes if now >= begun + CONNECT_MILLIS_MAX => Outcome::Failed,
                Ear::Hangs | Ear::Vanishes => return None,
                Ear::Listens => Outcome::Delivered,
                Ear::Resets => Outcome::Doubtful,
                Ear::Refuses => Outcome::Failed,
            };
            Some((post.id, listener.map(|caller| caller.seat), outcome))
        });
        if let Some((id, seat, outcome)) = decided {
            self.push_ends(id, seat, outcome);
        }
        decided.is_some()
    }

    fn push_ends(&mut self, id: ConnId, seat: Option<char>, outcome: Outcome) {
        let Some(post) = self.framed.post(id) else { return };
        let Some((notice, _)) = post.under_way.take() else { return };
        if outcome != Outcome::Delivered {
            post.forget_all();
        }
        if let Some(letter) = letter(&notice).filter(|_| outcome == Outcome::Delivered) {
            self.model.shown(id, letter, None);
        }
        if let Some(seat) = seat.filter(|_| outcome != Outcome::Failed && self.is_recorded()) {
            let text = self.speller().spell_push(&notice);
            text.lines().for_each(|line| self.see(seat, format!("{seat}< {}", line.trim_end())));
        }
        self.moved();
        self.tell(Event::Pushed { conn: id, number: number(&notice), outcome });
    }

    /// Sessions whose last notices have taken too long.
    pub(crate) fn give_up_posts(&mut self) {
        let now = self.now().elapsed;
        while let Some(at) = self.framed.posts.iter().position(|post| post.closing.is_some_and(|limit| limit <= now)) {
            let post = self.framed.posts.remove(at);
            let number = post.under_way.as_ref().and_then(|(notice, _)| number(notice));
            self.tell(Event::Pushed { conn: post.id, number, outcome: Outcome::Doubtful });
            self.tell(Event::Closed(post.id, Parting::Cut));
        }
    }
}
