//! Framed clients on the stage without a world: their requests, and the pushes to them.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use chinwag::server::ids::ConnId;
use chinwag::server::state::{Ask, Event, Outcome, Parting};
use chinwag::wire::Notice;
use chinwag::wire::command;
use chinwag::wire::framed::{Act, Answer, Asked};

use super::Pure;
use crate::play::{Ear, NO_WORDS};

/// All framed clients, and what waits for them.
#[derive(Default)]
pub(super) struct Framed {
    /// Letters that are framed clients in this performance.
    pub(super) letters: Vec<char>,
    clients: BTreeMap<char, Client>,
    /// By session: two sessions of one client may overlap.
    posts: BTreeMap<ConnId, Post>,
    /// The answer to the request in hand.
    answer: Option<Answer>,
    next_port: u16,
}

struct Client {
    user: String,
    token: String,
    port: u16,
    ear: Ear,
    seen: Vec<String>,
}

struct Post {
    name: char,
    port: u16,
    /// Notices with the numbers of their texts; `None` is a place that is kept.
    queue: VecDeque<Option<(Option<u64>, String)>>,
    /// A push that has begun.
    under_way: Option<(Option<u64>, String)>,
    stalled: bool,
    closing: bool,
}

impl Pure {
    pub(super) fn is_framed(&self, name: char) -> bool {
        name.is_ascii_digit() || self.framed.letters.contains(&name)
    }

    fn framed_client(&mut self, name: char) -> &mut Client {
        let next_port = &mut self.framed.next_port;
        self.framed.clients.entry(name).or_insert_with(|| {
            *next_port += 1;
            let (user, token, seen) = (String::new(), String::new(), Vec::new());
            Client { user, token, port: 5000 + *next_port, ear: Ear::Listens, seen }
        })
    }

    /// A typed line, as a framed client carries it out.
    pub(super) fn type_framed(&mut self, name: char, line: &str) {
        let client = self.framed_client(name);
        if let Some(frame) = line.strip_prefix("frame ") {
            return self.send_frame(name, frame.as_bytes());
        }
        let (user, token) = (client.user.clone(), client.token.clone());
        let is_in = self.framed.letters.contains(&name) && !token.is_empty();
        if !is_in && (line.starts_with("login ") || self.framed.letters.contains(&name)) {
            return self.log_in_framed(name, line.strip_prefix("login ").unwrap_or(line));
        }
        let act = match line.split_once(' ').unwrap_or((line, "")) {
            ("heartbeat", _) => Some(Act::Alive),
            _ => command::parse(line).ok().map(Act::Request),
        };
        let frame = act.and_then(|act| Asked::Act { user: &user, token: &token, act }.spell());
        match frame {
            Some(frame) => {
                if frame.starts_with("OUT") {
                    self.framed_client(name).token = String::new();
                }
                self.send_frame(name, frame.as_bytes());
            }
            None => self.seen.push(NO_WORDS.to_owned()),
        }
    }

    fn send_frame(&mut self, name: char, frame: &[u8]) {
        let conn = self.number();
        let answer = self.ask(conn, Ask::Request(frame));
        self.show_answer(name, answer);
    }

    /// `name password`, or with a third word the address at which the client says that it listens.
    fn log_in_framed(&mut self, name: char, line: &str) {
        let mut words = line.split(' ');
        let (user, password) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let host = words.next().unwrap_or("127.0.0.1");
        let conn = self.number();
        let answer = self.ask(conn, Ask::LogIn { name: user.as_bytes(), password: password.as_bytes() });
        self.show_answer(name, answer);
        let Answer::LoggedIn { token } = answer else { return };
        let client = self.framed_client(name);
        (client.user, client.token) = (user.to_owned(), format!("{token:032x}"));
        let port = client.port.to_string();
        self.names.insert(conn, name);
        let answer = self.ask(conn, Ask::Listen { host: host.as_bytes(), port: port.as_bytes() });
        self.show_answer(name, answer);
    }

    fn ask(&mut self, conn: ConnId, ask: Ask<'_>) -> Answer {
        self.tell(Event::Asked(conn, IpAddr::V4(Ipv4Addr::LOCALHOST), ask));
        self.framed.answer.take().expect("every request is answered")
    }

    pub(super) fn answer_framed(&mut self, answer: Answer) {
        self.framed.answer = Some(answer);
    }

    fn show_answer(&mut self, name: char, answer: Answer) {
        let mut bytes = Vec::new();
        answer.encode(&mut bytes);
        // The first frame; tokens are not shown.
        if bytes.len() > 4 {
            let length = usize::from(bytes[3]) + 256 * usize::from(bytes[2]);
            let text = String::from_utf8_lossy(&bytes[4..4 + length]).into_owned();
            self.framed_client(name).seen.push(format!("= {text}"));
        }
    }

    pub(super) fn open_post(&mut self, conn: ConnId, address: SocketAddr) {
        let name = self.names[&conn];
        let post = Post {
            name,
            port: address.port(),
            queue: VecDeque::new(),
            under_way: None,
            stalled: false,
            closing: false,
        };
        self.framed.posts.insert(conn, post);
    }

    pub(super) fn post(&mut self, conn: ConnId, notice: &Notice) {
        let text = self.speller.spell_push(notice);
        let number = match notice {
            Notice::Said(letter) if letter.number > 0 => Some(letter.number),
            _ => None,
        };
        if let Some(post) = self.framed.posts.get_mut(&conn).filter(|_| !text.is_empty()) {
            post.queue.push_back(Some((number, text)));
        }
    }

    pub(super) fn hold_post(&mut self, conn: ConnId) {
        if let Some(post) = self.framed.posts.get_mut(&conn) {
            post.queue.push_back(None);
        }
    }

    pub(super) fn release_post(&mut self, conn: ConnId, notice: Option<&Notice>) {
        let text = notice.map(|notice| self.speller.spell_push(notice)).filter(|text| !text.is_empty());
        let Some(post) = self.framed.posts.get_mut(&conn) else { return };
        let Some(at) = post.queue.iter().position(Option::is_none) else { return };
        match text {
            Some(text) => post.queue[at] = Some((None, text)),
            None => drop(post.queue.remove(at)),
        }
    }

    pub(super) fn close_post(&mut self, conn: ConnId) {
        if let Some(post) = self.framed.posts.get_mut(&conn) {
            post.closing = true;
            post.queue.retain(|entry| !matches!(entry, Some((Some(_), _))));
        }
    }

    pub(super) fn set_ear(&mut self, name: char, ear: Ear) {
        self.framed_client(name).ear = ear;
    }

    /// Pushes one notice, or tells the state about a queue; whether there was something to do.
    pub(super) fn push_one(&mut self) -> bool {
        let conns: Vec<ConnId> = self.framed.posts.keys().copied().collect();
        conns.into_iter().any(|conn| self.push_to(conn))
    }

    fn push_to(&mut self, conn: ConnId) -> bool {
        let Some(post) = self.framed.posts.get_mut(&conn) else { return false };
        let waits = post.under_way.is_some() || !post.queue.is_empty();
        if post.closing && !waits {
            self.framed.posts.remove(&conn);
            self.tell(Event::Closed(conn, Parting::Clean));
            return true;
        }
        if std::mem::replace(&mut post.stalled, waits) != waits {
            self.tell(if waits { Event::Stalled(conn) } else { Event::Drained(conn) });
            return true;
        }
        let (name, port) = (post.name, post.port);
        let Some(client) = self.framed.clients.get_mut(&name) else { return false };
        let ear = if client.port == port { client.ear } else { Ear::Refuses };
        if post.under_way.is_none() && matches!(post.queue.front(), Some(Some(_))) {
            post.under_way = post.queue.pop_front().flatten();
        }
        let Some((number, text)) = post.under_way.clone() else { return false };
        let outcome = match ear {
            Ear::Hangs | Ear::Vanishes => return false,
            Ear::Listens => Outcome::Delivered,
            Ear::Resets => Outcome::Doubtful,
            Ear::Refuses => Outcome::Failed,
        };
        post.under_way = None;
        if outcome != Outcome::Delivered {
            post.queue.clear();
        }
        if outcome != Outcome::Failed {
            client.seen.extend(text.lines().map(|line| format!("< {}", line.trim_end())));
        }
        self.tell(Event::Pushed { conn, number, outcome });
        true
    }

    /// The client moves to another port.
    pub(super) fn move_framed(&mut self, name: char) {
        self.framed.next_port += 1;
        let port = 5000 + self.framed.next_port;
        self.framed_client(name).port = port;
    }

    /// Time passes, and every client says now and then that it is there.
    pub(super) fn pass_with_heartbeats(&mut self, millis: i64) {
        let mut left = millis;
        while left > 0 {
            let step = left.min(20_000);
            self.pass_in_silence(step);
            left -= step;
            let letters = self.framed.letters.clone();
            let is_in = |name: &char| self.framed.clients.get(name).is_some_and(|client| !client.token.is_empty());
            let here: Vec<char> = letters.into_iter().filter(is_in).collect();
            here.into_iter().for_each(|name| self.type_framed(name, "heartbeat"));
        }
    }

    pub(super) fn crash_framed(&mut self) {
        self.framed.posts.clear();
    }

    /// What each framed client has been shown.
    pub(super) fn take_framed(&mut self) -> Vec<(char, String)> {
        let clients = self.framed.clients.iter_mut();
        clients
            .flat_map(|(name, client)| client.seen.drain(..).map(move |line| (*name, format!("{name}{line}"))))
            .collect()
    }
}
