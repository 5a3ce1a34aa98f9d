//! The stage without a world: the state, a store, and a clock that the play moves.

mod framed;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use chinwag::server::ids::ConnId;
use chinwag::server::state::{Effect, Event, Parting, Record, Remembered, Rules, State};
use chinwag::server::store::{Place, Store};
use chinwag::wire::Notice;
use chinwag::wire::control;
use chinwag::wire::name::UserName;
use chinwag::wire::text::Speller;
use chinwag::wire::time::Moment;

use tempfile::TempDir;

use crate::play::{ACCOUNTS, Act, Disk, Setup, Stage, describe};

/// When every play begins: 2 March 2026, 09:00 UTC.
const BEGIN: i64 = 1_772_442_000_000;

pub(crate) struct Pure {
    setup: Setup,
    state: State,
    /// On disk, so that a crash in a play is answered by what is really there.
    folder: TempDir,
    store: Option<Store>,
    speller: Speller,
    now: Moment,
    clients: BTreeMap<char, Client>,
    names: HashMap<ConnId, char>,
    next: u64,
    effects: Vec<Effect>,
    /// What is collected for the store, and what it works on.
    job: Job,
    at_store: Option<Job>,
    disk: Disk,
    /// Accounts made during the play: the file of this stage.
    accounts: Vec<(UserName, String)>,
    /// Clients that were closed during this act.
    gone: Vec<(char, Client)>,
    seen: Vec<String>,
    framed: framed::Framed,
}

#[derive(Default)]
struct Job {
    records: Vec<Record>,
    /// Pages to read behind the records.
    fetches: Vec<(ConnId, UserName, u64)>,
    written: bool,
}

struct Client {
    conn: ConnId,
    /// Our client: it is spoken to in control lines.
    is_ours: bool,
    input: VecDeque<Option<String>>,
    paused: bool,
    closing: bool,
    /// What waits behind answers that wait for the disk.
    held: VecDeque<Option<Notice>>,
    seen: Vec<String>,
}

impl Pure {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self::with_accounts(setup, ACCOUNTS.map(|(name, password)| (name.to_owned(), password.to_owned())))
    }

    pub(crate) fn with_accounts(setup: &Setup, accounts: impl IntoIterator<Item = (String, String)>) -> Self {
        let now = Moment { elapsed: 0, wall: BEGIN };
        let folder = tempfile::tempdir().expect("a folder");
        let (store, remembered) = open(&folder, BEGIN);
        let accounts: Vec<_> =
            accounts.into_iter().map(|(name, password)| (UserName::parse(&name).expect("legal"), password)).collect();
        Self {
            setup: setup.clone(),
            state: State::new(rules(setup), accounts.clone(), remembered, now, tokens()),
            folder,
            store: Some(store),
            speller: Speller::new(jiff::tz::TimeZone::UTC),
            now,
            clients: BTreeMap::new(),
            names: HashMap::new(),
            next: 1,
            effects: Vec::new(),
            job: Job::default(),
            at_store: None,
            disk: Disk::Works,
            accounts,
            gone: Vec::new(),
            seen: Vec::new(),
            framed: framed::Framed::default(),
        }
    }

    /// These small letters are framed clients.
    pub(crate) fn with_framed(setup: &Setup, letters: &str) -> Self {
        let mut stage = Self::new(setup);
        stage.framed.letters = letters.chars().collect();
        stage
    }

    /// The next connection's number.
    fn number(&mut self) -> ConnId {
        self.next += 1;
        ConnId(self.next - 1)
    }

    fn client(&mut self, name: char) -> &mut Client {
        self.client_from(name, IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    fn client_from(&mut self, name: char, peer: IpAddr) -> &mut Client {
        if !self.clients.contains_key(&name) {
            let conn = self.number();
            let client = Client {
                conn,
                is_ours: false,
                input: VecDeque::new(),
                paused: false,
                closing: false,
                held: VecDeque::new(),
                seen: Vec::new(),
            };
            self.clients.insert(name, client);
            self.names.insert(conn, name);
            self.tell(Event::Opened(conn, peer));
        }
        self.clients.get_mut(&name).expect("just inserted")
    }

    fn by_conn(&mut self, conn: ConnId) -> Option<&mut Client> {
        self.clients.get_mut(self.names.get(&conn)?).filter(|client| client.conn == conn)
    }

    fn tell(&mut self, event: Event<'_>) {
        let mut effects = std::mem::take(&mut self.effects);
        self.state.handle(self.now, event, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        self.effects = effects;
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send(conn, notice) => self.show(conn, notice),
            Effect::Cast(conns, notice) => conns.into_iter().for_each(|conn| self.show(conn, notice.clone())),
            Effect::CastAll(conns, notices) => {
                for conn in conns {
                    notices.iter().for_each(|notice| self.show(conn, notice.clone()));
                }
            }
            Effect::Store(record) => self.job.records.push(record),
            Effect::Hold(conn) => {
                if let Some(client) = self.by_conn(conn) {
                    client.held.push_back(None);
                } else {
                    self.hold_post(conn);
                }
            }
            Effect::Release(conn, notice) => {
                let Some(client) = self.by_conn(conn) else { return self.release_post(conn, notice.as_ref()) };
                assert_eq!(client.held.pop_front(), Some(None), "a place was kept");
                let mut ready: Vec<Notice> = notice.into_iter().collect();
                while let Some(Some(_)) = client.held.front() {
                    ready.extend(client.held.pop_front().flatten());
                }
                let held = std::mem::take(&mut client.held);
                ready.into_iter().for_each(|notice| self.show(conn, notice));
                if let Some(client) = self.by_conn(conn) {
                    client.held = held;
                }
            }
            Effect::Fetch { conn, user, after } => self.job.fetches.push((conn, user, after)),
            Effect::Enroll { conn, user, password } => {
                let written = self.disk != Disk::Fails;
                if written {
                    self.accounts.push((user, password));
                }
                self.tell(Event::Enrolled(conn, written));
            }
            Effect::Adopt(conn) => {
                if let Some(client) = self.by_conn(conn) {
                    client.is_ours = true;
                }
            }
            Effect::Pause(conn) => self.pause(conn, true),
            Effect::Resume(conn) => self.pause(conn, false),
            Effect::Close { conn, .. } => {
                if let Some(client) = self.by_conn(conn) {
                    client.closing = true;
                } else {
                    self.close_post(conn);
                }
            }
            Effect::Answer(_, answer) => self.answer_framed(answer),
            Effect::Listen(conn, address) => self.open_post(conn, address),
        }
    }

    fn pause(&mut self, conn: ConnId, paused: bool) {
        if let Some(client) = self.by_conn(conn) {
            client.paused = paused;
        }
    }

    fn show(&mut self, conn: ConnId, notice: Notice) {
        let mut bytes = Vec::new();
        match self.by_conn(conn) {
            None => return self.post(conn, &notice),
            Some(client) if client.is_ours => control::encode(&notice, &mut bytes),
            Some(_) => self.speller.spell(&notice, &mut bytes),
        }
        let Some(client) = self.by_conn(conn) else { return };
        if !client.held.is_empty() {
            return client.held.push_back(Some(notice));
        }
        let text = String::from_utf8(bytes).expect("UTF-8");
        client.seen.extend(text.lines().filter(|line| !line.is_empty()).map(|line| line.trim_end().to_owned()));
    }

    /// Stores what was collected, as one batch, and then reads.
    fn commit(&mut self) {
        if self.at_store.is_none() && !(self.job.records.is_empty() && self.job.fetches.is_empty()) {
            self.at_store = Some(std::mem::take(&mut self.job));
        }
        if self.disk == Disk::Waits {
            return;
        }
        let Some(mut job) = self.at_store.take() else { return };
        if !job.written && self.disk != Disk::Fails {
            job.written = self.store.as_mut().is_some_and(|store| store.commit(&job.records).is_ok());
            if job.written {
                self.seen.extend(job.records.iter().filter(|record| record.is_awaited()).map(describe));
            }
        }
        if self.disk == Disk::Mute {
            self.at_store = Some(job);
            return;
        }
        match job.records.len() {
            0 => {}
            count => self.tell(if job.written { Event::Committed(count) } else { Event::StoreFailed(count) }),
        }
        for (conn, user, after) in job.fetches {
            let store = self.store.as_mut().filter(|_| self.disk == Disk::Works);
            let page = store.and_then(|store| store.page(&user, after).ok());
            self.tell(Event::Mail(conn, page));
        }
    }

    /// Goes on until nothing moves any more.
    fn settle(&mut self) {
        loop {
            self.commit();
            if self.push_one() {
                continue;
            }
            if let Some((conn, line)) = self.next_line() {
                match line {
                    Some(line) => self.tell(Event::Line(conn, line.as_bytes())),
                    None => self.tell(Event::EndOfInput(conn)),
                }
            } else if let Some(conn) = self.next_closing() {
                self.tell(Event::Closed(conn, Parting::Clean));
            } else {
                let before = self.activity();
                self.tell(Event::Flushed);
                let waits = matches!(self.disk, Disk::Waits | Disk::Mute) && self.at_store.is_some();
                let idle = self.job.records.is_empty() && self.job.fetches.is_empty();
                if self.activity() == before && (waits || idle) {
                    return;
                }
            }
        }
    }

    /// A number that changes whenever anybody was shown anything.
    fn activity(&self) -> usize {
        self.seen.len() + self.gone.len() + self.clients.values().map(|client| client.seen.len()).sum::<usize>()
    }

    fn next_line(&mut self) -> Option<(ConnId, Option<String>)> {
        let client =
            self.clients.values_mut().find(|client| !client.paused && !client.closing && !client.input.is_empty())?;
        Some((client.conn, client.input.pop_front()?))
    }

    fn next_closing(&mut self) -> Option<ConnId> {
        let (&name, _) = self.clients.iter().find(|(_, client)| client.closing && client.held.is_empty())?;
        let client = self.clients.remove(&name)?;
        let conn = client.conn;
        self.gone.push((name, client));
        Some(conn)
    }

    fn crash(&mut self) {
        (self.job, self.at_store) = (Job::default(), None);
        self.clients.clear();
        self.crash_framed();
        // The first lets go of the lock before the second takes it.
        self.store = None;
        let (store, remembered) = open(&self.folder, self.now.wall);
        self.store = Some(store);
        self.state = State::new(rules(&self.setup), self.accounts.clone(), remembered, self.now, tokens());
    }
}

fn open(folder: &TempDir, wall: i64) -> (Store, Remembered) {
    let (store, remembered) = Store::open(&Place::File(folder.path().join("chinwag.db")), wall).expect("a store");
    // The real name is random.
    (store, Remembered { store: "mystore".to_owned(), ..remembered })
}

/// Tokens that a play can name: 1, 2, 3 ...
fn tokens() -> impl FnMut() -> u128 + Send + 'static {
    let mut last = 0;
    move || {
        last += 1;
        last
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
        lobby_max: 4,
    }
}

impl Stage for Pure {
    fn perform(&mut self, act: &Act) -> Vec<String> {
        match act {
            Act::Send(name, line) if self.is_framed(*name) => self.type_framed(*name, line),
            Act::EndOfInput(name) if self.is_framed(*name) => self.type_framed(*name, "logout"),
            Act::Ear(name, ear) => self.set_ear(*name, *ear),
            Act::Moves(name) => self.move_framed(*name),
            Act::Send(name, line) => {
                let line = Some(line.clone());
                self.client(*name).input.push_back(line);
            }
            Act::From(name, peer) => {
                self.client_from(*name, *peer);
            }
            Act::EndOfInput(name) => self.client(*name).input.push_back(None),
            Act::Cut(name) | Act::Killed(name) => {
                let client = self.clients.remove(name).expect("the client is there");
                self.tell(Event::Closed(client.conn, Parting::Cut));
            }
            Act::Dead(name) => drop(self.clients.remove(name)),
            // What is sent is shown here when it is sent, so this changes nothing.
            Act::Sleep(_) => {}
            Act::Stall(name) => {
                let conn = self.client(*name).conn;
                self.tell(Event::Stalled(conn));
            }
            Act::Drain(name) => {
                let conn = self.client(*name).conn;
                self.tell(Event::Drained(conn));
            }
            Act::Pass(millis) => self.pass(*millis),
            Act::Disk(disk) => self.disk = *disk,
            Act::Crash => self.crash(),
            Act::Stop => self.tell(Event::Stop),
        }
        self.settle();
        let mut seen = std::mem::take(&mut self.seen);
        let mut shown: Vec<(char, String)> = Vec::new();
        for (name, client) in self.gone.drain(..) {
            shown.extend(client.seen.into_iter().map(|line| (name, format!("{name}< {line}"))));
            shown.push((name, format!("{name} closed")));
        }
        for (name, client) in &mut self.clients {
            shown.extend(client.seen.drain(..).map(|line| (*name, format!("{name}< {line}"))));
        }
        shown.extend(self.take_framed());
        shown.sort_by_key(|(name, _)| *name);
        seen.extend(shown.into_iter().map(|(_, line)| line));
        seen
    }
}

impl Pure {
    /// Moves the clock, stopping wherever the state wants to be woken.
    fn pass(&mut self, millis: i64) {
        if !self.framed.letters.is_empty() {
            return self.pass_with_heartbeats(millis);
        }
        self.pass_in_silence(millis);
    }

    fn pass_in_silence(&mut self, millis: i64) {
        let end = self.now.elapsed + millis;
        while let Some(at) = self.state.deadline().filter(|&at| at <= end) {
            self.advance(at);
            self.tell(Event::Tick);
            self.settle();
        }
        self.advance(end);
    }

    fn advance(&mut self, elapsed: i64) {
        let passed = elapsed - self.now.elapsed;
        self.now = Moment { elapsed, wall: self.now.wall + passed };
    }
}
