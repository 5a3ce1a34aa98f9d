//! The state thread: takes what waits, lets the state decide, writes, stores. It is the only
//! thread that touches the state, and it never blocks on anything but its own input.
//!
//! One round: wait for an input and take up to [`INPUTS_PER_BATCH`] more; cut lines and hand
//! them to [`State::handle`]; carry out the effects, in order, into the clients' outboxes; send
//! once per touched client; hand what the batch has for the store over to it.
//!
//! What it does not do: it decides nothing that a user can notice, beyond the order of turns and
//! when a connection counts as broken.

use std::collections::VecDeque;
use std::net::{IpAddr, Shutdown};
use std::ops::Range;
use std::sync::Arc;
use std::thread::Thread;
use std::time::Duration;

use crossbeam_channel::Sender;
use socket2::SockRef;

use super::exchange::Frames;
use super::flusher::{Flusher, Piece};
use super::ids::{ConnId, IdMap};
use super::inbox::Inbox;
use super::outbox::{self, Outbox, Sent};
use super::push::{Posts, Word};
use super::session::{Chunk, Connection, End};
use super::state::{Effect, Event, Outcome, Parting, State};
use super::store::{Job, Report};
use crate::clock::Clock;
use crate::wire::Notice;
use crate::wire::control;
use crate::wire::framed::{self, Answer};
use crate::wire::line::{Line, LineCutter};
use crate::wire::text::Speller;
use crate::wire::time::Moment;

/// Inputs that may wait for the hub; then the readers wait, and TCP makes the clients wait.
pub(super) const INPUTS_MAX: usize = 1024;

/// Inputs taken between two rounds of sending.
const INPUTS_PER_BATCH: usize = 512;

/// Output after which a batch is sent, however few its inputs, in bytes.
const ARENA_BYTES_MAX: usize = 1024 * 1024;

/// Lines of one client taken before the others have their turn.
const LINES_PER_TURN: usize = 64;

/// How long a closing client may take to read what waits for it, in milliseconds.
const FLUSH_MILLIS_MAX: i64 = 10_000;

/// The same for a client that is cut off because it does not read, in milliseconds.
const CUT_MILLIS_MAX: i64 = 1_000;

/// How long the peer's own end is waited for after ours, in milliseconds.
const LINGER_MILLIS: i64 = 1_000;

/// How long records may wait for others when nobody's answer depends on them, in milliseconds.
const UNAWAITED_MILLIS_MAX: i64 = 1_000;

/// How long a stop may take before the remaining clients are dropped, in milliseconds.
const STOP_MILLIS_MAX: i64 = 3_000;

/// How long the store may take after that, in milliseconds.
const LAST_STORE_MILLIS_MAX: i64 = 1_500;

/// What the threads tell the hub.
#[derive(Debug)]
pub(super) enum Input {
    /// A connection and its reader; the first word about it.
    Opened { conn: ConnId, peer: IpAddr, connection: Arc<Connection>, reader: Thread },
    /// Bytes that the client sent.
    Bytes(ConnId, Chunk),
    /// The reader has ended; its last word.
    Ended(ConnId, End),
    /// The flusher has written a client's piece, or could not.
    Flushed(ConnId, bool),
    /// The store has done its job.
    Stored(Report),
    /// A framed client asks something, on a connection of its own, and waits for the answer.
    Asked { conn: ConnId, peer: IpAddr, frames: Frames, reply: Sender<Answer> },
    /// That connection is gone in the middle of a log-in.
    Hung(ConnId),
    /// A push has come to its end.
    Pushed { conn: ConnId, number: Option<u64>, outcome: Outcome },
    /// The server must stop.
    Stop,
}

/// A connection as the hub sees it.
#[derive(Debug)]
struct Client {
    connection: Arc<Connection>,
    reader: Thread,
    dialect: Dialect,
    lines: LineCutter,
    /// Bytes whose turn has not come.
    input: VecDeque<Chunk>,
    /// How much of the first of them has been taken.
    taken: usize,
    /// The reader's last word; it counts once all input is taken.
    end: Option<End>,
    /// The state wants no lines now.
    paused: bool,
    /// Stands in `Hub::turns`.
    in_turns: bool,
    out: Outbox,
    /// Stands in `Hub::touched`.
    touched: bool,
    /// The state knows that output waits for the socket.
    stalled: bool,
    health: Health,
    phase: Phase,
}

/// How a client is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// For people: netcat.
    Words,
    /// For our client.
    Control,
}

/// Whether a connection can end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// What is written arrives, as far as anybody knows.
    Fine,
    /// Too much waited and was dropped; the state is about to hear of it.
    Flooded,
    /// It has heard; a last line is all that will follow.
    CutOff,
    /// Nothing can be written any more.
    Broken,
}

/// How far a connection's end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Lines are taken.
    Open,
    /// The state has closed it; output is still to be written.
    Closing { watch: bool },
    /// The kernel has all of it and is still sending.
    Draining,
    /// Our end is sent; the peer's is waited for.
    Lingering,
}

/// The state thread and all it holds.
pub(super) struct Hub {
    pub(super) clock: Clock,
    pub(super) state: State,
    pub(super) speller: Speller,
    pub(super) inbox: Inbox,
    pub(super) flusher: Flusher,
    pub(super) store: StoreLink,
    pub(super) posts: Posts,
    pub(super) desk: Desk,
}

/// The hub's end of the store.
pub(super) struct StoreLink {
    /// Without a bound: how much may wait for the disk is the state's to decide.
    jobs: Sender<Job>,
    /// Jobs that have not been reported.
    underway: usize,
    /// What this batch has for the store so far. A crash must not come between what belongs together.
    batch: Job,
    /// What earlier batches have, and nobody waits for.
    unawaited: Job,
    /// Since when it has been collected, in elapsed milliseconds.
    since: Option<i64>,
}

/// What the hub works with.
#[derive(Debug, Default)]
pub(super) struct Desk {
    now: Option<Moment>,
    clients: IdMap<Client>,
    effects: Vec<Effect>,
    /// The output of this batch, spelled once, whoever gets it.
    arena: Vec<u8>,
    /// Clients with output in this batch.
    touched: Vec<ConnId>,
    /// Clients with input left; served in turns.
    turns: VecDeque<ConnId>,
    /// Clients for which more waits than the limit allows.
    overrun: Vec<ConnId>,
    /// Clients whose end may go one step further.
    parting: Vec<ConnId>,
    /// When closing clients are given up: one list per time limit, so each is in order.
    flush_limits: VecDeque<(i64, ConnId)>,
    cut_limits: VecDeque<(i64, ConnId)>,
    linger_limits: VecDeque<(i64, ConnId)>,
    /// When a stop must be over.
    stop_at: Option<i64>,
    /// Who waits for the answer to a framed request.
    asker: Option<(ConnId, Sender<Answer>)>,
}

impl StoreLink {
    pub(super) fn new(jobs: Sender<Job>) -> Self {
        Self { jobs, underway: 0, batch: Job::default(), unawaited: Job::default(), since: None }
    }

    fn is_idle(&self) -> bool {
        self.underway == 0 && self.batch.is_empty() && self.unawaited.is_empty()
    }

    /// Hands over what is collected, if it is due; a store that is gone refuses it.
    fn end_batch(&mut self, now: i64, stops: bool) -> Option<Report> {
        let is_due = stops || self.deadline().is_some_and(|at| at <= now) || self.batch.is_awaited();
        self.unawaited.append(&mut self.batch);
        if self.unawaited.is_empty() {
            return None;
        }
        if !is_due {
            self.since.get_or_insert(now);
            return None;
        }
        self.since = None;
        self.underway += 1;
        let refused = self.jobs.try_send(std::mem::take(&mut self.unawaited)).err()?;
        Some(refused.into_inner().refused())
    }

    /// When the collected records must go although nobody waits for them.
    fn deadline(&self) -> Option<i64> {
        self.since.map(|since| since + UNAWAITED_MILLIS_MAX)
    }
}

impl Hub {
    /// Runs until the server has stopped.
    pub(super) fn run(mut self) {
        self.desk.now = Some(self.clock.now());
        while !self.is_done() {
            self.take_inputs();
            self.keep_time();
            self.serve_turns();
            self.send_all();
            self.turn_pages();
            self.end_batch();
            self.end_closing();
        }
    }

    fn is_done(&self) -> bool {
        let now = self.now().elapsed;
        self.desk
            .stop_at
            .is_some_and(|at| (self.state.is_settled() && self.store.is_idle()) || now >= at + LAST_STORE_MILLIS_MAX)
    }

    fn now(&self) -> Moment {
        self.desk.now.unwrap_or_else(|| self.clock.now())
    }

    /// Waits for one input, unless there is work left, and takes what else is there.
    fn take_inputs(&mut self) {
        let first = if self.desk.turns.is_empty() && self.is_idle() {
            self.inbox.wait(self.clock.until(self.deadline()))
        } else {
            self.inbox.take()
        };
        self.desk.now = Some(self.clock.now());
        let Some(first) = first else { return };
        self.take(first);
        for _ in 1..INPUTS_PER_BATCH {
            if self.desk.arena.len() > ARENA_BYTES_MAX {
                return;
            }
            let Some(input) = self.inbox.take() else { return };
            self.take(input);
        }
    }

    /// Whether nothing is left to be done without a further input.
    fn is_idle(&self) -> bool {
        // What the end of a connection has for the store comes after the end of its batch.
        let desk = &self.desk;
        desk.touched.is_empty() && desk.parting.is_empty() && !self.posts.is_touched() && self.store.batch.is_empty()
    }

    fn deadline(&self) -> i64 {
        let front = |limits: &VecDeque<(i64, ConnId)>| limits.front().map(|&(at, _)| at);
        [
            self.state.deadline(),
            self.store.deadline(),
            self.posts.deadline(),
            front(&self.desk.flush_limits),
            front(&self.desk.cut_limits),
            front(&self.desk.linger_limits),
            self.desk.stop_at.map(|at| if at > self.now().elapsed { at } else { at + LAST_STORE_MILLIS_MAX }),
        ]
        .into_iter()
        .flatten()
        .min()
        // Nothing is due: look again in an hour.
        .unwrap_or_else(|| self.now().elapsed + 3_600_000)
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Opened { conn, peer, connection, reader } => {
                log::debug!("connection {} from {peer}", conn.0);
                self.desk.clients.insert(conn, Client::new(connection, reader));
                self.decide(Event::Opened(conn, peer));
            }
            Input::Bytes(conn, chunk) => {
                let Some(client) = self.desk.clients.get_mut(&conn) else { return };
                if client.phase == Phase::Open {
                    client.input.push_back(chunk);
                    self.serve(conn);
                }
            }
            Input::Ended(conn, end) => {
                let Some(client) = self.desk.clients.get_mut(&conn) else { return };
                // A send that failed has taken the error away, and the reader took the rest for an
                // end. Later, when both ends are sent, a connection is gone in order.
                let is_gone = client.phase == Phase::Open && client.connection.stream.peer_addr().is_err();
                let end = if is_gone { End::Reset } else { end };
                client.end = Some(end);
                let phase = client.phase;
                if end == End::Reset {
                    client.health = Health::Broken;
                    self.decide(Event::Stalled(conn));
                }
                match phase {
                    Phase::Open => self.serve(conn),
                    Phase::Closing { .. } | Phase::Draining | Phase::Lingering => self.desk.parting.push(conn),
                }
            }
            Input::Flushed(conn, ok) => self.flushed(conn, ok),
            Input::Stored(report) => self.stored(report),
            Input::Asked { conn, peer, frames, reply } => {
                self.desk.asker = Some((conn, reply));
                self.decide(Event::Asked(conn, peer, frames.as_ask()));
            }
            Input::Hung(conn) => self.decide(Event::Hung(conn)),
            Input::Pushed { conn, number, outcome } => {
                self.posts.reported(conn, outcome);
                self.decide(Event::Pushed { conn, number, outcome });
            }
            Input::Stop => {
                if self.desk.stop_at.is_none() {
                    self.desk.stop_at = Some(self.now().elapsed + STOP_MILLIS_MAX);
                    self.decide(Event::Stop);
                }
            }
        }
    }

    /// Gives one client its turn: up to [`LINES_PER_TURN`] lines, then its end if it has come.
    fn serve(&mut self, conn: ConnId) {
        let Some(client) = self.desk.clients.get_mut(&conn) else { return };
        let mut lines = std::mem::take(&mut client.lines);
        let mut left = LINES_PER_TURN;
        while let Some((chunk, taken)) = self.next_chunk(conn) {
            let mut bytes = &chunk[taken..];
            while left > 0
                && let Some(line) = lines.next(&mut bytes)
            {
                left -= 1;
                match line {
                    Line::Whole(line) => self.decide(Event::Line(conn, line)),
                    Line::Overlong => self.decide(Event::Overlong(conn)),
                }
                if !self.takes_lines(conn) {
                    break;
                }
            }
            if !bytes.is_empty() {
                let taken = chunk.len() - bytes.len();
                self.put_back(conn, chunk, taken);
                if left == 0 {
                    break;
                }
            }
        }
        let Some(client) = self.desk.clients.get_mut(&conn) else { return };
        client.lines = lines;
        if !client.input.is_empty() {
            client.connection.hold();
            if client.takes_lines() && !std::mem::replace(&mut client.in_turns, true) {
                self.desk.turns.push_back(conn);
            }
            return;
        }
        if !client.paused && client.connection.release() {
            client.reader.unpark();
        }
        if client.end.is_some() && client.takes_lines() {
            self.hear_end(conn);
        }
    }

    /// The next bytes of a client that may have its say, and how many of them have been taken.
    fn next_chunk(&mut self, conn: ConnId) -> Option<(Chunk, usize)> {
        let client = self.desk.clients.get_mut(&conn).filter(|client| client.takes_lines())?;
        let chunk = client.input.pop_front()?;
        Some((chunk, std::mem::take(&mut client.taken)))
    }

    fn put_back(&mut self, conn: ConnId, chunk: Chunk, taken: usize) {
        if let Some(client) = self.desk.clients.get_mut(&conn)
            && client.phase == Phase::Open
        {
            client.input.push_front(chunk);
            client.taken = taken;
        }
    }

    fn takes_lines(&self, conn: ConnId) -> bool {
        self.desk.clients.get(&conn).is_some_and(Client::takes_lines)
    }

    /// All input is taken and no more will come.
    fn hear_end(&mut self, conn: ConnId) {
        let Some(client) = self.desk.clients.get_mut(&conn) else { return };
        if client.health == Health::Broken {
            return self.finish(conn, Parting::Cut);
        }
        // The end of input ends a line too: scripts forget the last line end. Our client does not;
        // what it has not ended was cut by a dying link.
        if let Some(line) = client.lines.finish().filter(|_| client.dialect == Dialect::Words) {
            self.decide(Event::Line(conn, &line));
        }
        if self.takes_lines(conn) {
            self.decide(Event::EndOfInput(conn));
        }
    }

    fn serve_turns(&mut self) {
        for _ in 0..self.desk.turns.len() {
            if self.desk.arena.len() > ARENA_BYTES_MAX {
                return;
            }
            let Some(conn) = self.desk.turns.pop_front() else { return };
            if let Some(client) = self.desk.clients.get_mut(&conn) {
                client.in_turns = false;
                self.serve(conn);
            }
        }
    }

    fn decide(&mut self, event: Event<'_>) {
        let now = self.now();
        self.state.handle(now, event, &mut self.desk.effects);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        let mut effects = std::mem::take(&mut self.desk.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Send(conn, notice) => {
                    log_visit(conn, &notice);
                    if let Some(dialect) = self.dialect(conn) {
                        let place = self.spell(&notice, dialect);
                        self.desk.put(conn, place);
                    } else {
                        self.post(&[conn], &notice);
                    }
                }
                Effect::Cast(receivers, notice) => self.cast(&receivers, &[notice]),
                Effect::CastAll(receivers, notices) => self.cast(&receivers, &notices),
                Effect::Hold(conn) => {
                    if let Some(client) = self.desk.clients.get_mut(&conn) {
                        client.out.hold();
                    } else {
                        self.posts.hold(conn);
                    }
                }
                Effect::Release(conn, notice) => self.release(conn, notice.as_ref()),
                Effect::Store(record) => self.store.batch.records.push(record),
                Effect::Fetch { conn, user, after } => self.store.batch.fetches.push((conn, user, after)),
                Effect::Enroll { conn, user, password } => self.store.batch.enrolments.push((conn, user, password)),
                Effect::Adopt(conn) => {
                    if let Some(client) = self.desk.clients.get_mut(&conn) {
                        client.dialect = Dialect::Control;
                    }
                }
                Effect::Pause(conn) => self.desk.pause(conn),
                Effect::Resume(conn) => self.desk.resume(conn),
                Effect::Close { conn, watch } => self.close(conn, watch),
                Effect::Answer(conn, answer) => self.answer(conn, answer),
                Effect::Listen(conn, address) => {
                    log::debug!("connection {} is pushed to {address}", conn.0);
                    self.posts.open(conn, address);
                }
            }
        }
        self.desk.effects = effects;
    }

    /// The same for many: spelled once for each dialect that is among them.
    fn cast(&mut self, receivers: &[ConnId], notices: &[Notice]) {
        let mut places: [Option<Range<usize>>; 2] = [None, None];
        let mut framed = Vec::new();
        for &conn in receivers {
            let Some(dialect) = self.dialect(conn) else {
                framed.push(conn);
                continue;
            };
            let place = places[dialect as usize]
                .get_or_insert_with(|| {
                    let start = self.desk.arena.len();
                    for notice in notices {
                        self.spell(notice, dialect);
                    }
                    start..self.desk.arena.len()
                })
                .clone();
            self.desk.put(conn, place);
        }
        for notice in notices {
            self.post(&framed, notice);
        }
    }

    /// The same for framed clients: each gets a push.
    fn post(&mut self, receivers: &[ConnId], notice: &Notice) {
        if !receivers.iter().any(|&conn| self.posts.has(conn)) {
            return;
        }
        let Some(frame) = self.frame(notice) else { return };
        let number = match notice {
            // A broadcast has no number and is not confirmed.
            Notice::Said(letter) if letter.number > 0 => Some(letter.number),
            _ => None,
        };
        receivers.iter().for_each(|&conn| self.posts.put(conn, Arc::clone(&frame), number));
    }

    /// A notice as a frame, if it has words in that dialect.
    fn frame(&self, notice: &Notice) -> Option<Arc<[u8]>> {
        let text = self.speller.spell_push(notice);
        let mut frame = Vec::new();
        framed::encode(&text, &mut frame);
        (!text.is_empty()).then(|| frame.into())
    }

    fn answer(&mut self, conn: ConnId, answer: Answer) {
        if let Some((_, reply)) = self.desk.asker.take_if(|(asker, _)| *asker == conn) {
            // Its thread waits for this one answer, or has gone.
            let _ = reply.try_send(answer);
        }
    }

    fn dialect(&self, conn: ConnId) -> Option<Dialect> {
        self.desk.clients.get(&conn).map(|client| client.dialect)
    }

    fn spell(&mut self, notice: &Notice, dialect: Dialect) -> Range<usize> {
        let arena = &mut self.desk.arena;
        let start = arena.len();
        match dialect {
            Dialect::Words => self.speller.spell(notice, arena),
            Dialect::Control => control::encode(notice, arena),
        }
        start..arena.len()
    }

    fn release(&mut self, conn: ConnId, notice: Option<&Notice>) {
        let Some(dialect) = self.dialect(conn) else {
            let frame = notice.and_then(|notice| self.frame(notice));
            return self.posts.release(conn, frame);
        };
        let start = self.desk.arena.len();
        if let Some(notice) = notice {
            self.spell(notice, dialect);
        }
        let place = start..self.desk.arena.len();
        let Some(client) = self.desk.clients.get_mut(&conn) else { return };
        client.out.release(place, &mut self.desk.arena);
        if !std::mem::replace(&mut client.touched, true) {
            self.desk.touched.push(conn);
        }
    }

    /// Sends this batch's output, once per client.
    fn send_all(&mut self) {
        let mut stalled = Vec::new();
        let mut touched = std::mem::take(&mut self.desk.touched);
        for conn in touched.drain(..) {
            let Some(client) = self.desk.clients.get_mut(&conn) else { continue };
            client.touched = false;
            match client.out.send(&client.connection.stream, &self.desk.arena) {
                Sent::All => {}
                Sent::Part => {
                    client.stalled = true;
                    stalled.push(conn);
                    self.flush_next(conn);
                }
                Sent::Broken => {
                    self.break_off(conn);
                    stalled.push(conn);
                }
            }
            self.look_after(conn);
        }
        self.desk.touched = touched;
        self.desk.arena.clear();
        self.desk.arena.shrink_to(ARENA_BYTES_MAX);
        for conn in stalled {
            self.decide(Event::Stalled(conn));
        }
        for word in self.posts.send() {
            self.decide(match word {
                Word::Stalled(conn) => Event::Stalled(conn),
                Word::Drained(conn) => Event::Drained(conn),
                Word::Overrun(conn) => Event::Overrun(conn),
                Word::Closed(conn) => Event::Closed(conn, Parting::Clean),
            });
        }
        for conn in std::mem::take(&mut self.desk.overrun) {
            if let Some(client) = self.desk.clients.get_mut(&conn)
                && client.health == Health::Flooded
            {
                client.health = Health::CutOff;
                self.decide(Event::Overrun(conn));
            }
        }
    }

    /// After output went: a client whose answers have gone may speak again, one that is closing
    /// may go on closing.
    fn look_after(&mut self, conn: ConnId) {
        let Some(client) = self.desk.clients.get_mut(&conn) else { return };
        match client.phase {
            Phase::Open if !client.input.is_empty() || client.end.is_some() => {
                if client.takes_lines() && !std::mem::replace(&mut client.in_turns, true) {
                    self.desk.turns.push_back(conn);
                }
            }
            Phase::Open | Phase::Draining | Phase::Lingering => {}
            Phase::Closing { .. } => self.desk.parting.push(conn),
        }
    }

    /// Hands the next piece of a slow client to the flusher.
    fn flush_next(&mut self, conn: ConnId) -> bool {
        let Some(client) = self.desk.clients.get_mut(&conn) else { return false };
        let Some(bytes) = client.out.next_piece() else { return false };
        self.flusher.flush(Piece { conn, connection: Arc::clone(&client.connection), bytes });
        true
    }

    fn flushed(&mut self, conn: ConnId, ok: bool) {
        if !ok {
            // It stays stalled for the state: what it has not got must not count as written.
            return self.break_off(conn);
        }
        if self.phase(conn) == Some(Phase::Draining) {
            return self.send_fin(conn);
        }
        if self.flush_next(conn) {
            return;
        }
        let Some(client) = self.desk.clients.get_mut(&conn) else { return };
        if std::mem::take(&mut client.stalled) {
            self.decide(Event::Drained(conn));
        }
        self.look_after(conn);
    }

    /// Nothing can be written any more. The reader notices too; its last word ends the client.
    fn break_off(&mut self, conn: ConnId) {
        let Some(client) = self.desk.clients.get_mut(&conn) else { return };
        client.health = Health::Broken;
        client.out.discard();
        // Fails only if the connection is gone already.
        let _ = client.connection.stream.shutdown(Shutdown::Both);
        self.desk.hear_out(conn);
    }

    /// The end of a batch for the state; it may have further pages to send.
    fn turn_pages(&mut self) {
        self.decide(Event::Flushed);
    }

    fn end_batch(&mut self) {
        if let Some(refused) = self.store.end_batch(self.now().elapsed, self.desk.stop_at.is_some()) {
            self.stored(refused);
        }
    }

    fn stored(&mut self, report: Report) {
        self.store.underway -= report.jobs;
        if report.records > 0 {
            let event = if report.stored { Event::Committed } else { Event::StoreFailed };
            self.decide(event(report.records));
        }
        for (conn, written) in report.enrolled {
            self.decide(Event::Enrolled(conn, written));
        }
        for (conn, page) in report.pages {
            self.decide(Event::Mail(conn, page));
        }
    }

    fn close(&mut self, conn: ConnId, watch: bool) {
        let now = self.now().elapsed;
        let Some(client) = self.desk.clients.get_mut(&conn) else { return self.posts.close(conn, now) };
        client.phase = Phase::Closing { watch };
        client.input.clear();
        if client.connection.release() {
            client.reader.unpark();
        }
        if client.health != Health::Fine {
            self.desk.cut_limits.push_back((now + CUT_MILLIS_MAX, conn));
        } else {
            self.desk.flush_limits.push_back((now + FLUSH_MILLIS_MAX, conn));
        }
        self.desk.parting.push(conn);
    }

    /// Takes every closing client one step further, where it can go.
    fn end_closing(&mut self) {
        for conn in std::mem::take(&mut self.desk.parting) {
            let Some(client) = self.desk.clients.get_mut(&conn) else { continue };
            match (client.phase, client.end) {
                (Phase::Open, _) => {}
                (_, Some(_)) if client.health == Health::Broken => self.finish(conn, Parting::Cut),
                (Phase::Closing { watch: false }, Some(_)) if client.out.is_empty() => {
                    self.finish(conn, Parting::Clean);
                }
                (Phase::Closing { .. }, _) if client.out.is_empty() => {
                    if outbox::is_sent(&client.connection.stream) {
                        self.send_fin(conn);
                    } else {
                        // A piece without bytes is written once the kernel has nothing left.
                        client.phase = Phase::Draining;
                        let connection = Arc::clone(&client.connection);
                        self.flusher.flush(Piece { conn, connection, bytes: Vec::new() });
                    }
                }
                // The peer answered our end with its own.
                (Phase::Lingering, Some(End::Fin)) => self.finish(conn, Parting::Clean),
                (Phase::Closing { .. } | Phase::Draining | Phase::Lingering, _) => {}
            }
        }
    }

    fn send_fin(&mut self, conn: ConnId) {
        let until = self.now().elapsed + LINGER_MILLIS;
        let Some(client) = self.desk.clients.get_mut(&conn) else { return };
        // Fails only if the connection is gone already, which `finish` finds out.
        let _ = client.connection.stream.shutdown(Shutdown::Write);
        client.phase = Phase::Lingering;
        self.desk.linger_limits.push_back((until, conn));
    }

    fn keep_time(&mut self) {
        let now = self.now().elapsed;
        if self.state.deadline().is_some_and(|at| at <= now) {
            self.decide(Event::Tick);
        }
        while let Some(conn) = due(&mut self.desk.linger_limits, now) {
            if self.phase(conn) == Some(Phase::Lingering) {
                self.finish(conn, Parting::Clean);
            }
        }
        while let Some(conn) = due(&mut self.desk.flush_limits, now).or_else(|| due(&mut self.desk.cut_limits, now)) {
            if matches!(self.phase(conn), Some(Phase::Closing { .. } | Phase::Draining)) {
                self.finish(conn, Parting::Cut);
            }
        }
        let is_over = self.desk.stop_at.is_some_and(|at| at <= now);
        for (conn, number) in self.posts.give_up(now, is_over) {
            self.decide(Event::Pushed { conn, number, outcome: Outcome::Doubtful });
            self.decide(Event::Closed(conn, Parting::Cut));
        }
        if is_over {
            for conn in self.desk.clients.keys().copied().collect::<Vec<_>>() {
                let lingers = self.phase(conn) == Some(Phase::Lingering);
                self.finish(conn, if lingers { Parting::Clean } else { Parting::Cut });
            }
        }
    }

    fn phase(&self, conn: ConnId) -> Option<Phase> {
        self.desk.clients.get(&conn).map(|client| client.phase)
    }

    /// Lets go of a connection and tells the state how it ended.
    fn finish(&mut self, conn: ConnId, parting: Parting) {
        let Some(client) = self.desk.clients.remove(&conn) else { return };
        let stream = &client.connection.stream;
        let failed = !matches!(stream.take_error(), Ok(None));
        let cut = parting == Parting::Cut || client.health != Health::Fine || failed;
        if client.end != Some(End::Fin) || cut {
            // A peer that does not end: a reset instead of a socket that lingers with unread
            // input. All of these fail only if the connection is gone already.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            let _ = stream.shutdown(Shutdown::Both);
        }
        client.connection.release();
        client.reader.unpark();
        log::debug!("connection {} closed{}", conn.0, if cut { ", cut" } else { "" });
        self.decide(Event::Closed(conn, if cut { Parting::Cut } else { Parting::Clean }));
    }
}

/// Logs what an operator looks for: who came, who was refused. Never what somebody typed.
fn log_visit(conn: ConnId, notice: &Notice) {
    match notice {
        Notice::Welcome { user, .. } => log::debug!("connection {} is {user}", conn.0),
        Notice::JustLocked { .. } | Notice::StillLocked { .. } | Notice::AlreadyOnline { .. } | Notice::TooSlow => {
            log::debug!("connection {}: {notice:?}", conn.0);
        }
        _ => {}
    }
}

/// The first of `limits` if its time has come.
fn due(limits: &mut VecDeque<(i64, ConnId)>, now: i64) -> Option<ConnId> {
    let &(at, conn) = limits.front()?;
    (at <= now).then(|| {
        limits.pop_front();
        conn
    })
}

impl Desk {
    /// Puts a place of the arena into a client's outbox.
    fn put(&mut self, conn: ConnId, place: Range<usize>) {
        let Some(client) = self.clients.get_mut(&conn) else { return };
        if matches!(client.health, Health::Flooded | Health::Broken) {
            return;
        }
        client.out.push(place, &self.arena);
        if !std::mem::replace(&mut client.touched, true) {
            self.touched.push(conn);
        }
        if client.phase == Phase::Open && client.out.is_over_limit() {
            client.out.discard();
            client.health = Health::Flooded;
            self.overrun.push(conn);
        }
    }

    /// A connection that can be told nothing any more need not wait for anything: what it has
    /// sent is taken, and its reader reads to the end.
    fn hear_out(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get_mut(&conn) else { return };
        client.paused = false;
        if client.connection.release() {
            client.reader.unpark();
        }
        if !std::mem::replace(&mut client.in_turns, true) {
            self.turns.push_back(conn);
        }
    }

    fn pause(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(&conn) {
            client.paused = true;
            client.connection.hold();
        }
    }

    fn resume(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(&conn) {
            client.paused = false;
            if !std::mem::replace(&mut client.in_turns, true) {
                self.turns.push_back(conn);
            }
        }
    }
}

impl Client {
    fn new(connection: Arc<Connection>, reader: Thread) -> Self {
        Self {
            connection,
            reader,
            dialect: Dialect::Words,
            lines: LineCutter::default(),
            input: VecDeque::new(),
            taken: 0,
            end: None,
            paused: false,
            in_turns: false,
            out: Outbox::default(),
            touched: false,
            stalled: false,
            health: Health::Fine,
            phase: Phase::Open,
        }
    }

    /// Whether the client may have its say: it has not been told to wait or to go, and reads the
    /// answers it has got.
    fn takes_lines(&self) -> bool {
        let answered = match self.health {
            // What came before the break still counts, and nothing else is left to wait for.
            Health::Fine => !self.paused && self.out.is_patient(),
            Health::Flooded | Health::CutOff => false,
            Health::Broken => true,
        };
        self.phase == Phase::Open && answered
    }
}
