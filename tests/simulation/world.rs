//! The simulated world: clock, network, disk, people and our client's processes around the two
//! minds. It is a hub without sockets: it carries out what the server's mind decides, and tells
//! the model of every step.
//!
//! After every act everything that can happen at once does happen. What is slow is an act of its
//! own: a disk that waits, a client that does not read, a link that is dead. So a script is a
//! transcript, and a shorter script is a script.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use chinwag::client::state as mind;
use chinwag::server::ids::ConnId;
use chinwag::server::state::{Effect, Event, Parting, Record, Rules};
use chinwag::wire::control::{self, Say};
use chinwag::wire::name::UserName;
use chinwag::wire::text::Speller;
use chinwag::wire::time::Moment;
use chinwag::wire::{Letter, Mode, Notice};

use crate::disk::Store;
use crate::faults::{Fault, Mind, Server};
use crate::framed::Framed;
use crate::model::{Behind, Model};
use crate::play::{ACCOUNTS, Act, Disk, Setup, Stage, describe};

/// When every play begins: 2 March 2026, 09:00 UTC.
const BEGIN: i64 = 1_772_442_000_000;

/// How long a client that is told to go may take to read what waits for it, in milliseconds.
const FLUSH_MILLIS_MAX: i64 = 10_000;

/// How long a dead link can be written to before the kernel gives up, in milliseconds.
const DEAD_MILLIS_MAX: i64 = 30_000;

/// Connections that may wait to log in.
const LOBBY_MAX: usize = 4;

/// Tokens that one run of the server can give out.
const TOKENS_PER_RUN: u128 = 1_000_000;

/// Things that may happen at one moment; more are an endless loop.
const STEPS_MAX: u32 = 10_000;

pub(crate) struct World {
    setup: Setup,
    fault: Option<Fault>,
    now: Moment,
    server: Server,
    store: Store,
    disk: Disk,
    /// What this batch has for the store, what whole batches have, and what it works on.
    job: Job,
    next: Job,
    at_store: Option<Job>,
    /// What it has done, and has not said.
    reports: VecDeque<Report>,
    conns: Vec<Conn>,
    last_conn: u64,
    programs: Vec<Program>,
    pub(crate) framed: Framed,
    /// The state folder of our client, one for all.
    shown: Vec<(mind::Reader, u64)>,
    accounts: Vec<(UserName, String)>,
    /// The server of this run counts its tokens from here; on the other stages every run does from 0.
    first_token: u128,
    pub(crate) tokens_repeat: bool,
    effects: Vec<Effect>,
    pub(crate) model: Model,
    /// Rises whenever anybody was sent or asked anything.
    moves: u64,
    steps: u32,
    speller: Speller,
    /// What a transcript shows, if one is wanted.
    seen: Option<Seen>,
}

#[derive(Default)]
struct Seen {
    stored: Vec<String>,
    lines: Vec<(char, String)>,
}

#[derive(Default)]
struct Job {
    records: Vec<Record>,
    fetches: Vec<(ConnId, UserName, u64)>,
    enrolments: Vec<(ConnId, UserName, String)>,
}

/// What became of a job.
struct Report {
    records: usize,
    /// They are written and the rest is done; otherwise nothing is.
    done: bool,
    enrolled: Vec<ConnId>,
    pages: Vec<(ConnId, Option<Vec<Letter>>)>,
}

/// A connection as the hub and the kernels see it.
struct Conn {
    id: ConnId,
    /// Who has its other end; nobody once that is gone.
    seat: Option<char>,
    is_ours: bool,
    /// Lines on their way to the server; `None` is the end of input.
    input: VecDeque<Option<String>>,
    paused: bool,
    /// Places kept for answers, and what stands behind them.
    held: VecDeque<Option<Notice>>,
    /// Sent and not read, each with whether it is a control line.
    unread: VecDeque<(Notice, bool)>,
    reads: bool,
    /// The server knows that the socket is full.
    full: bool,
    /// The server has closed it; until then the client may read.
    closing: Option<i64>,
    dead_since: Option<i64>,
}

/// A process of our client.
struct Program {
    seat: char,
    mind: Mind,
    /// When it was told how far others had come.
    told: u64,
    conn: Option<ConnId>,
    /// What it says that lines mean, and the lines a person has typed for that, each with the
    /// connection there was.
    mode: Mode,
    meant: Vec<(String, Mode, Option<ConnId>)>,
    asked: VecDeque<mind::Question>,
    /// What will be typed; `None` is the end of input.
    typed: VecDeque<Option<String>>,
    /// Bytes of a line that has not ended.
    started: Vec<u8>,
    /// Lines typed once logged in, and the last one with all its answers.
    lines: u64,
    done: u64,
    ended: bool,
}

impl World {
    pub(crate) fn new(setup: &Setup, fault: Option<Fault>) -> Self {
        let now = Moment { elapsed: 0, wall: BEGIN };
        let mut store = Store::default();
        let accounts = ACCOUNTS.map(|(name, password)| (UserName::parse(name).expect("legal"), password.to_owned()));
        let remembered = store.open(BEGIN);
        let model = Model::new(setup, &accounts, LOBBY_MAX);
        Self {
            setup: setup.clone(),
            fault,
            now,
            server: Server::new(fault, rules(setup), accounts.to_vec(), remembered, now, 0),
            store,
            disk: Disk::Works,
            job: Job::default(),
            next: Job::default(),
            at_store: None,
            reports: VecDeque::new(),
            conns: Vec::new(),
            last_conn: 0,
            programs: Vec::new(),
            framed: Framed::default(),
            shown: Vec::new(),
            accounts: accounts.to_vec(),
            first_token: 0,
            tokens_repeat: false,
            effects: Vec::new(),
            model,
            moves: 0,
            steps: 0,
            speller: Speller::new(jiff::tz::TimeZone::UTC),
            seen: None,
        }
    }

    /// The same, but what is seen is written down.
    pub(crate) fn recorded(setup: &Setup, fault: Option<Fault>) -> Self {
        Self { seen: Some(Seen::default()), ..Self::new(setup, fault) }
    }

    pub(crate) fn now(&self) -> Moment {
        self.now
    }

    pub(crate) fn disk(&self) -> Disk {
        self.disk
    }

    /// The connection in front of a seat.
    pub(crate) fn conn_of(&self, seat: char) -> Option<ConnId> {
        self.conns.iter().find(|conn| conn.seat == Some(seat)).map(|conn| conn.id)
    }

    /// Whether the seat has a connection that it does not read.
    pub(crate) fn is_slow(&self, seat: char) -> bool {
        self.conns.iter().any(|conn| conn.seat == Some(seat) && !conn.reads)
    }

    /// What our client at this seat asks for; `None` if none runs.
    pub(crate) fn asked(&self, seat: char) -> Option<Option<mind::Question>> {
        let program = self.programs.iter().find(|program| program.seat == seat && !program.ended)?;
        Some(program.asked.front().copied())
    }

    /// Performs one act, and all that follows at once.
    pub(crate) fn act(&mut self, act: &Act) {
        self.steps = 0;
        if matches!(act, Act::Crash | Act::Stop) {
            self.finish();
        }
        match act {
            Act::Send(seat, line) if seat.is_ascii_uppercase() => self.type_in(*seat, Some(line.clone())),
            Act::EndOfInput(seat) if seat.is_ascii_uppercase() => self.type_in(*seat, None),
            Act::Send(seat, line) if seat.is_ascii_digit() => self.type_framed(*seat, line),
            Act::EndOfInput(seat) if seat.is_ascii_digit() => self.type_framed(*seat, "logout"),
            Act::Cut(seat) if seat.is_ascii_digit() => self.hang_up_exchange(*seat),
            Act::From(seat, peer) if seat.is_ascii_digit() => self.call_from(*seat, *peer),
            Act::Ear(seat, ear) => self.set_ear(*seat, *ear),
            Act::Moves(seat) => self.move_framed(*seat),
            Act::From(seat, peer) => drop(self.open_from(*seat, *peer)),
            Act::Send(seat, line) => self.say(*seat, Some(line.clone())),
            Act::EndOfInput(seat) => self.say(*seat, None),
            Act::Cut(seat) => self.lose(*seat, false),
            Act::Dead(seat) => self.lose(*seat, true),
            Act::Killed(seat) => {
                self.programs.retain(|program| program.seat != *seat);
                self.lose(*seat, false);
            }
            Act::Stall(seat) => self.set_reading(*seat, false, true),
            Act::Sleep(seat) => self.set_reading(*seat, false, false),
            Act::Drain(seat) => self.set_reading(*seat, true, false),
            Act::Pass(millis) => self.pass(*millis),
            Act::Disk(disk) => self.disk = *disk,
            Act::Crash => self.crash(),
            Act::Stop => self.tell(Event::Stop),
        }
        self.settle();
    }

    /// The checks that are due before everything ends: nobody waits for anything.
    pub(crate) fn finish(&mut self) {
        let busy = self.disk != Disk::Works;
        for conn in self.conns.iter().filter(|conn| !busy && conn.reads && conn.dead_since.is_none()) {
            self.model.all_is_shown(conn.id);
        }
        for id in self.framed.idle().into_iter().filter(|_| !busy) {
            self.model.all_is_shown(id);
        }
        for program in self.programs.iter().filter(|program| !busy && !program.ended && program.typed.is_empty()) {
            let reads = self.conns.iter().any(|conn| Some(conn.id) == program.conn && conn.reads);
            let is_heard =
                program.conn.is_some_and(|conn| self.model.is_online(conn) && !self.model.is_behind_mail(conn));
            if reads && is_heard && program.done < program.lines {
                self.model.fail(format!("{} has no answer to its line {}", program.seat, program.lines));
            }
        }
        if self.model.is_stopping()
            && !busy
            && self.conns.is_empty()
            && self.framed.is_empty()
            && !self.server.is_settled()
        {
            self.model.fail("everybody has gone, and the server does not stop".to_owned());
        }
    }

    // The network.

    pub(crate) fn next_conn(&mut self) -> ConnId {
        self.last_conn += 1;
        ConnId(self.last_conn)
    }

    fn open(&mut self, seat: char) -> ConnId {
        self.open_from(seat, IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    fn open_from(&mut self, seat: char, peer: IpAddr) -> ConnId {
        let id = self.next_conn();
        self.conns.push(Conn {
            id,
            seat: Some(seat),
            is_ours: false,
            input: VecDeque::new(),
            paused: false,
            held: VecDeque::new(),
            unread: VecDeque::new(),
            reads: true,
            full: false,
            closing: None,
            dead_since: None,
        });
        self.tell(Event::Opened(id, peer));
        id
    }

    fn conn(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.iter_mut().find(|conn| conn.id == id)
    }

    /// A bare connection sends a line, or the end of its input.
    fn say(&mut self, seat: char, line: Option<String>) {
        let id = self.conn_of(seat).unwrap_or_else(|| self.open(seat));
        if let Some(conn) = self.conn(id).filter(|conn| conn.closing.is_none()) {
            conn.input.push_back(line);
        }
    }

    /// The connection of a seat breaks, or dies without the server's knowledge.
    fn lose(&mut self, seat: char, secretly: bool) {
        let Some(id) = self.conn_of(seat) else { return };
        if secretly {
            let now = self.now.elapsed;
            if let Some(conn) = self.conn(id) {
                (conn.seat, conn.dead_since) = (None, Some(now));
                conn.unread.clear();
            }
            self.lose_link(id);
        } else {
            self.end(id, Parting::Cut);
        }
    }

    /// The server's end of a connection is gone, and the client hears of it.
    fn end(&mut self, id: ConnId, parting: Parting) {
        let Some(at) = self.conns.iter().position(|conn| conn.id == id) else { return };
        let conn = self.conns.remove(at);
        self.moves += 1;
        if let (Some(seen), Some(seat), Parting::Clean) = (&mut self.seen, conn.seat, parting)
            && seat.is_ascii_lowercase()
        {
            seen.lines.push((seat, format!("{seat} closed")));
        }
        self.tell(Event::Closed(id, parting));
        self.lose_link(id);
    }

    fn lose_link(&mut self, id: ConnId) {
        if let Some(at) = self.programs.iter().position(|program| program.conn == Some(id)) {
            self.programs[at].conn = None;
            self.tell_mind(at, mind::Event::Lost("reset".to_owned()));
        }
    }

    fn set_reading(&mut self, seat: char, reads: bool, full: bool) {
        let Some(id) = self.conn_of(seat) else { return };
        let Some(conn) = self.conn(id) else { return };
        conn.reads = reads;
        let was_full = conn.full;
        if reads || full {
            conn.full = full;
        }
        match (was_full, full) {
            (false, true) => self.tell(Event::Stalled(id)),
            (true, false) if reads => self.tell(Event::Drained(id)),
            _ => {}
        }
    }

    // The hub.

    pub(crate) fn tell(&mut self, event: Event<'_>) {
        self.model.learn(self.now, &event);
        let mut effects = std::mem::take(&mut self.effects);
        self.server.handle(self.now, event, &mut effects);
        let to_disk = effects.iter().find_map(|effect| match effect {
            Effect::Store(Record::Message { to, .. }) => Some(&to[..]),
            _ => None,
        });
        self.model.chose(to_disk.unwrap_or_default());
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        self.effects = effects;
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send(id, notice) => self.put(id, notice),
            Effect::Cast(ids, notice) => ids.into_iter().for_each(|id| self.put(id, notice.clone())),
            Effect::CastAll(ids, notices) => {
                for id in ids {
                    notices.iter().for_each(|notice| self.put(id, notice.clone()));
                }
            }
            Effect::Store(record) => self.job.records.push(record),
            Effect::Hold(id) => match self.conn(id) {
                Some(conn) => conn.held.push_back(None),
                None => self.hold_post(id),
            },
            Effect::Release(id, answer) => self.release(id, answer),
            Effect::Fetch { conn, user, after } => self.job.fetches.push((conn, user, after)),
            Effect::Enroll { conn, user, password } => self.job.enrolments.push((conn, user, password)),
            Effect::Adopt(id) => {
                if let Some(conn) = self.conn(id) {
                    conn.is_ours = true;
                }
            }
            Effect::Answer(id, answer) => self.answer_framed(id, answer),
            Effect::Listen(id, address) => self.open_post(id, address),
            Effect::Pause(id) => self.pause(id, true),
            Effect::Resume(id) => self.pause(id, false),
            Effect::Close { conn: id, .. } => {
                let limit = self.now.elapsed + FLUSH_MILLIS_MAX;
                self.moves += 1;
                self.model.closes(id);
                match self.conn(id) {
                    Some(conn) => {
                        conn.closing = Some(limit);
                        conn.input.clear();
                    }
                    None => self.close_post(id),
                }
            }
        }
    }

    fn pause(&mut self, id: ConnId, paused: bool) {
        if let Some(conn) = self.conn(id) {
            conn.paused = paused;
        }
    }

    fn put(&mut self, id: ConnId, notice: Notice) {
        match self.conn(id) {
            Some(conn) if !conn.held.is_empty() => conn.held.push_back(Some(notice)),
            Some(_) => self.write(id, notice),
            None => drop(self.post(id, &notice)),
        }
    }

    fn release(&mut self, id: ConnId, answer: Option<Notice>) {
        let Some(conn) = self.conn(id) else { return self.release_post(id, answer) };
        if conn.held.pop_front() != Some(None) {
            return self.model.fail("an answer has no place".to_owned());
        }
        if let Some(answer) = answer {
            self.write(id, answer);
        }
        while let Some(conn) = self.conn(id)
            && let Some(Some(_)) = conn.held.front()
        {
            if let Some(notice) = conn.held.pop_front().flatten() {
                self.write(id, notice);
            }
        }
    }

    /// What is written now stands in the client's stream, in its order.
    fn write(&mut self, id: ConnId, notice: Notice) {
        self.moves += 1;
        self.model.hear(self.now, id, &notice);
        let Some(conn) = self.conns.iter_mut().find(|conn| conn.id == id) else { return };
        if let (Some(seen), Some(seat)) = (&mut self.seen, conn.seat)
            && seat.is_ascii_lowercase()
        {
            let text = spell(&self.speller, &notice, conn.is_ours);
            let lines = text.lines().filter(|line| !line.is_empty());
            seen.lines.extend(lines.map(|line| (seat, format!("{seat}< {}", line.trim_end()))));
        }
        if conn.seat.is_some() {
            conn.unread.push_back((notice, conn.is_ours));
        }
    }

    /// Goes on until nothing moves any more.
    fn settle(&mut self) {
        loop {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return self.model.fail("it does not come to rest".to_owned());
            }
            if self.turn_store() {
                continue;
            }
            if let Some((id, line)) = self.next_line() {
                self.moves += 1;
                match line {
                    Some(line) => self.tell(Event::Line(id, line.as_bytes())),
                    None => self.tell(Event::EndOfInput(id)),
                }
            } else if let Some(at) = self.conns.iter().position(|conn| conn.reads && !conn.unread.is_empty()) {
                self.read(at);
            } else if !self.finish_push() && !self.end_batch() {
                break;
            }
        }
        let conns = &self.conns;
        let framed = &self.framed;
        let is_slow = |id| framed.is_slow(id) || conns.iter().any(|conn| conn.id == id && conn.is_slow());
        self.model.rest(matches!(self.disk, Disk::Waits | Disk::Mute), is_slow);
    }

    /// All that was sent has been offered to the sockets. As in the hub, only then the store can get
    /// what the batch has for it, and connections close. Whether anything moves.
    fn end_batch(&mut self) -> bool {
        let before = self.moves;
        self.send_posts();
        let conns = &self.conns;
        self.model.flushed(self.now, |id| {
            let conn = conns.iter().find(|conn| conn.id == id)?;
            Some(Behind { full: conn.full, held: !conn.held.is_empty() })
        });
        self.tell(Event::Flushed);
        self.next.append(&mut self.job);
        self.model.end_batch();
        let hands_over = self.hand_over();
        if let Some(id) = self.next_closing() {
            self.end(id, Parting::Clean);
        }
        hands_over || self.moves > before
    }

    fn hand_over(&mut self) -> bool {
        let hands_over = self.at_store.is_none() && !self.next.is_empty();
        if hands_over {
            self.at_store = Some(std::mem::take(&mut self.next));
            self.model.hand_over();
        }
        hands_over
    }

    fn next_line(&mut self) -> Option<(ConnId, Option<String>)> {
        let mut conns = self.conns.iter_mut();
        let conn = conns.find(|conn| !conn.paused && conn.closing.is_none() && !conn.input.is_empty())?;
        Some((conn.id, conn.input.pop_front()?))
    }

    /// A closed connection whose output is written; the kernel sends what the client reads late.
    fn next_closing(&mut self) -> Option<ConnId> {
        let at = self.conns.iter().position(|conn| {
            conn.closing.is_some() && conn.held.is_empty() && !conn.full && conn.dead_since.is_none()
        })?;
        let id = self.conns[at].id;
        self.conns[at].reads = true;
        if !self.conns[at].unread.is_empty() {
            self.read(at);
        }
        Some(id)
    }

    /// A client reads what was sent to it.
    fn read(&mut self, at: usize) {
        self.moves += 1;
        let conn = &mut self.conns[at];
        let (id, unread) = (conn.id, std::mem::take(&mut conn.unread));
        if let Some(at) = self.programs.iter().position(|program| program.conn == Some(id)) {
            return self.read_as_program(at, id, &unread);
        }
        for (notice, _) in unread {
            if let Notice::Said(letter) = &notice {
                self.model.shown(id, letter, None);
            }
        }
    }

    fn read_as_program(&mut self, at: usize, id: ConnId, unread: &VecDeque<(Notice, bool)>) {
        let mut bytes = std::mem::take(&mut self.programs[at].started);
        for (notice, is_ours) in unread {
            if *is_ours { control::encode(notice, &mut bytes) } else { self.speller.spell(notice, &mut bytes) }
        }
        let mut rest = &bytes[..];
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.tell_mind(at, mind::Event::Line(&rest[..end]));
            rest = &rest[end + 1..];
            if self.programs[at].conn != Some(id) {
                return;
            }
        }
        self.programs[at].started = rest.to_vec();
    }

    // The disk.

    /// Does what the disk allows with the job at the store; like the real one it goes on with the next
    /// before the server has heard of this. Whether anything moved.
    fn turn_store(&mut self) -> bool {
        if self.disk == Disk::Waits {
            return false;
        }
        if let Some(job) = self.at_store.take() {
            let report = self.work(job);
            self.reports.push_back(report);
        }
        let report = if self.disk == Disk::Mute { None } else { self.reports.pop_front() };
        if let Some(report) = &report {
            self.model.reported(report.done);
        }
        let hands_over = self.hand_over();
        let Some(Report { records, done, enrolled, pages }) = report else { return hands_over };
        if records > 0 {
            self.tell(if done { Event::Committed(records) } else { Event::StoreFailed(records) });
        }
        for id in enrolled {
            self.tell(Event::Enrolled(id, done));
        }
        for (id, page) in pages {
            if page.is_none() {
                self.model.page_refused();
            }
            self.tell(Event::Mail(id, page));
        }
        true
    }

    fn work(&mut self, job: Job) -> Report {
        let Job { records, fetches, enrolments } = job;
        let done = self.disk != Disk::Fails;
        if done {
            self.server.commit(&mut self.store, &records);
            self.model.written();
            if let Some(seen) = &mut self.seen {
                seen.stored.extend(records.iter().filter(|record| record.is_awaited()).map(describe));
            }
        } else {
            self.server.refuse(&mut self.store, &records);
        }
        let enrolled = enrolments.iter().map(|(id, ..)| *id).collect();
        if done {
            self.accounts.extend(enrolments.into_iter().map(|(_, user, password)| (user, password)));
        }
        let pages = fetches.into_iter().map(|(id, user, after)| (id, done.then(|| self.store.page(&user, after))));
        Report { records: records.len(), done, enrolled, pages: pages.collect() }
    }

    /// The server is killed and starts again.
    fn crash(&mut self) {
        (self.job, self.next, self.at_store) = (Job::default(), Job::default(), None);
        self.reports.clear();
        let remembered = self.store.open(self.now.wall);
        self.model.crash(self.now, remembered.first_number, &remembered.tags);
        let accounts = self.accounts.clone();
        if !self.tokens_repeat {
            self.first_token += TOKENS_PER_RUN;
        }
        self.server = Server::new(self.fault, rules(&self.setup), accounts, remembered, self.now, self.first_token);
        self.conns.clear();
        self.framed.crash();
        for at in 0..self.programs.len() {
            if let Some(id) = self.programs[at].conn {
                self.lose_link(id);
            }
        }
    }

    // The clock.

    /// Moves the clock, stopping wherever anybody wants to be woken.
    fn pass(&mut self, millis: i64) {
        let end = self.now.elapsed + millis;
        while let Some(at) = self.deadline().filter(|&at| at <= end) {
            self.advance(at.max(self.now.elapsed));
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return self.model.fail("the clock does not go on".to_owned());
            }
            let now = self.now.elapsed;
            self.model.tick(self.now);
            if self.server.deadline().is_some_and(|at| at <= now) {
                self.tell(Event::Tick);
            }
            for at in 0..self.programs.len() {
                if !self.programs[at].ended && self.programs[at].mind.deadline().is_some_and(|at| at <= now) {
                    self.tell_mind(at, mind::Event::Tick);
                }
            }
            while let Some(conn) = self.conns.iter().find(|conn| conn.limit().is_some_and(|at| at <= now)) {
                self.end(conn.id, Parting::Cut);
            }
            self.give_up_posts();
            self.settle();
        }
        self.advance(end);
    }

    fn deadline(&self) -> Option<i64> {
        let programs =
            self.programs.iter().filter(|program| !program.ended).filter_map(|program| program.mind.deadline());
        let limits = self.conns.iter().filter_map(Conn::limit);
        let minds = [self.server.deadline(), self.model.deadline(), self.framed.deadline()];
        minds.into_iter().flatten().chain(programs).chain(limits).min()
    }

    /// Somebody was sent something, or something ended.
    pub(crate) fn moved(&mut self) {
        self.moves += 1;
    }

    pub(crate) fn is_recorded(&self) -> bool {
        self.seen.is_some()
    }

    pub(crate) fn speller(&self) -> &Speller {
        &self.speller
    }

    /// A line of a transcript, if one is wanted.
    pub(crate) fn see(&mut self, seat: char, line: String) {
        if let Some(seen) = &mut self.seen {
            seen.lines.push((seat, line));
        }
    }

    fn advance(&mut self, elapsed: i64) {
        let passed = elapsed - self.now.elapsed;
        self.now = Moment { elapsed, wall: self.now.wall + passed };
    }

    // Our client.

    fn type_in(&mut self, seat: char, line: Option<String>) {
        let running = self.programs.iter().position(|program| program.seat == seat && !program.ended);
        let at = running.unwrap_or_else(|| {
            self.programs.retain(|program| program.seat != seat);
            let rules = mind::Rules { person: seat >= 'N', reconnect: true, chat: false, errand: None };
            self.programs.push(Program {
                seat,
                mind: Mind::new(self.fault, rules, self.now),
                told: 0,
                conn: None,
                mode: Mode::Command,
                meant: Vec::new(),
                asked: VecDeque::new(),
                typed: VecDeque::new(),
                started: Vec::new(),
                lines: 0,
                done: 0,
                ended: false,
            });
            let at = self.programs.len() - 1;
            self.tell_mind(at, mind::Event::Start);
            at
        });
        self.programs[at].typed.push_back(line);
        self.feed(at);
    }

    /// Types what is asked for.
    fn feed(&mut self, at: usize) {
        loop {
            let program = &mut self.programs[at];
            match program.typed.front() {
                _ if program.ended => return,
                None => return,
                Some(None) => {
                    program.typed.pop_front();
                    self.tell_mind(at, mind::Event::EndOfInput);
                }
                Some(Some(_)) => {
                    let Some(question) = program.asked.pop_front() else { return };
                    let Some(line) = program.typed.pop_front().flatten() else { return };
                    program.lines += u64::from(question == mind::Question::Line);
                    // In a pipe nobody waits for the mode before he types on. What the client says of its
                    // own accord has no number in it.
                    let is_text = line.bytes().any(|byte| byte.is_ascii_digit());
                    if question == mind::Question::Line && program.seat >= 'N' && is_text {
                        program.meant.push((line.clone(), program.mode, program.conn));
                    }
                    self.tell_mind(at, mind::Event::Typed(question, line.as_bytes()));
                }
            }
        }
    }

    fn tell_mind(&mut self, at: usize, event: mind::Event<'_>) {
        let mut effects = Vec::new();
        self.programs[at].mind.handle(self.now, event, &mut effects);
        self.moves += 1;
        let (mut connects, mut highest) = (false, None);
        for effect in effects {
            let program = &mut self.programs[at];
            let seat = program.seat;
            match effect {
                mind::Effect::Connect => connects = true,
                mind::Effect::Disconnect => self.hang_up(at),
                // Like PORT, which says where others can dial: there are no files in this world.
                mind::Effect::Send(line) if matches!(Say::parse(&line), Ok(Say::Withdraw(_))) => {}
                mind::Effect::Send(line) => {
                    let id = program.conn;
                    if let Ok(Say::Typed { tag, line }) = Say::parse(&line)
                        && let Some((_, mode, typed_at)) = program.meant.iter().rfind(|(typed, ..)| typed == line)
                    {
                        self.model.believe(tag, *mode, *typed_at);
                    }
                    if let Some(conn) = self.conns.iter_mut().find(|conn| Some(conn.id) == id && conn.closing.is_none())
                    {
                        conn.input.push_back(Some(line));
                    }
                }
                mind::Effect::Recall(reader) => {
                    program.told = self.moves;
                    let known = self.shown.iter().find(|(other, _)| *other == reader);
                    let number = known.map_or(0, |(_, number)| *number);
                    self.tell_mind(at, mind::Event::Recalled(number));
                }
                mind::Effect::Remember(reader, number) => {
                    match self.shown.iter_mut().find(|(other, _)| *other == reader) {
                        Some((_, known)) => *known = number.max(*known),
                        None => self.shown.push((reader, number)),
                    }
                }
                mind::Effect::Ask(question) => {
                    // A person is asked one thing; what he has begun is put aside, or entered this moment.
                    if seat >= 'N' {
                        program.asked.truncate(usize::from(self.moves.is_multiple_of(2)));
                    }
                    program.asked.push_back(question);
                }
                mind::Effect::Show(mark, shown) => {
                    highest = Some(mark);
                    self.show(at, &shown);
                }
                mind::Effect::Mode(mode, _) => program.mode = mode,
                mind::Effect::Present(..)
                | mind::Effect::NobodyPresent
                | mind::Effect::Member(..)
                | mind::Effect::Partner(..) => {}
                mind::Effect::RecallOffered(_) => self.tell_mind(at, mind::Event::Offered(Vec::new())),
                // No other client can be dialled in this world.
                mind::Effect::Listen
                | mind::Effect::Dial(..)
                | mind::Effect::Tell(..)
                | mind::Effect::Proven(..)
                | mind::Effect::HangUp(..)
                | mind::Effect::Do(..)
                | mind::Effect::Known(..)
                | mind::Effect::KeepOffered(..) => {}
                mind::Effect::End(end) => {
                    program.ended = true;
                    if let Some(seen) = &mut self.seen {
                        seen.lines.push((seat, format!("{seat} ended {}", end.code as u8)));
                    }
                    self.hang_up(at);
                }
            }
        }
        if let Some(mark) = highest {
            self.tell_mind(at, mind::Event::Displayed(mark));
        }
        if connects {
            let id = self.open(self.programs[at].seat);
            self.programs[at].conn = Some(id);
            self.programs[at].started.clear();
            self.tell_mind(at, mind::Event::Connected);
        }
        self.feed(at);
    }

    fn show(&mut self, at: usize, shown: &mind::Shown) {
        let program = &mut self.programs[at];
        let seat = program.seat;
        match shown {
            mind::Shown::Notice(Notice::Said(letter), _) => {
                if let Some(id) = program.conn {
                    self.model.shown(id, letter, Some((seat, self.moves, program.told)));
                }
            }
            mind::Shown::Done(count) if *count <= program.done => {
                self.model.fail(format!("{seat} has two ends of its line {count}"));
            }
            mind::Shown::Done(count) => {
                program.done = *count;
                program.meant.clear();
            }
            _ => {}
        }
        let Some(seen) = &mut self.seen else { return };
        let text = match shown {
            mind::Shown::Notice(notice, _) => spell(&self.speller, notice, false),
            mind::Shown::Done(_) => return,
            other => format!("({other:?})"),
        };
        seen.lines.extend(text.lines().map(|line| (seat, format!("{seat}< {}", line.trim_end()))));
    }

    /// Our client closes its connection: an end for the server, or a reset if it has not read all.
    fn hang_up(&mut self, at: usize) {
        let Some(id) = self.programs[at].conn.take() else { return };
        let Some(conn) = self.conn(id) else { return };
        conn.seat = None;
        let has_read = conn.unread.is_empty();
        conn.unread.clear();
        if !has_read || conn.full {
            self.end(id, Parting::Cut);
        } else if conn.closing.is_none() {
            conn.input.push_back(None);
        }
    }
}

impl Job {
    fn append(&mut self, other: &mut Self) {
        self.records.append(&mut other.records);
        self.fetches.append(&mut other.fetches);
        self.enrolments.append(&mut other.enrolments);
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.fetches.is_empty() && self.enrolments.is_empty()
    }
}

impl Conn {
    /// Whether it may be a while until all is said and done here: our client confirms what it reads.
    fn is_slow(&self) -> bool {
        self.full || self.dead_since.is_some() || (self.is_ours && !self.reads)
    }

    /// When the server gives it up.
    fn limit(&self) -> Option<i64> {
        let dead = self.dead_since.map(|since| since + DEAD_MILLIS_MAX);
        self.closing.into_iter().chain(dead).min()
    }
}

fn rules(setup: &Setup) -> Rules {
    Rules {
        block: i64::from(setup.block) * 1000,
        timeout: i64::from(setup.timeout) * 1000,
        heartbeat_timeout: 30_000,
        allow_new_users: setup.allow_new_users,
        hide_blockers: setup.hide_blockers,
        ask_private: setup.ask_private,
        mailbox_max: setup.mailbox_max,
        lobby_max: LOBBY_MAX,
    }
}

fn spell(speller: &Speller, notice: &Notice, is_ours: bool) -> String {
    let mut bytes = Vec::new();
    if is_ours {
        control::encode(notice, &mut bytes)
    } else {
        speller.spell(notice, &mut bytes)
    }
    String::from_utf8(bytes).expect("UTF-8")
}

impl Stage for World {
    fn perform(&mut self, act: &Act) -> Vec<String> {
        self.act(act);
        let Some(seen) = &mut self.seen else { return Vec::new() };
        let mut lines = std::mem::take(&mut seen.stored);
        seen.lines.sort_by_key(|(seat, _)| *seat);
        lines.extend(seen.lines.drain(..).map(|(_, line)| line));
        lines
    }
}
