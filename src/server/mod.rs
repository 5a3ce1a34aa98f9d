//! Hands of the server: every socket, channel, thread and file.
//!
//! [`start`] is the wiring: read it first. Threads are named after the file they run:
//! `listener` accepts, `session` reads one client, `hub` decides and sends, `flusher` writes to
//! clients that are slow, `store` keeps what must last. For framed clients, `exchange` takes one
//! request each, and some `push` threads carry what they are told.

pub mod credentials;
mod exchange;
mod flusher;
mod hub;
pub mod ids;
mod inbox;
pub mod limits;
mod listener;
mod outbox;
mod push;
mod readers;
mod session;
pub mod state;
pub mod store;
pub mod udp;

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded, unbounded};
use jiff::tz::TimeZone;
use socket2::SockRef;

use crate::clock::Clock;
use crate::wire::Notice;
use crate::wire::text::Speller;
use credentials::{Appender, CredentialsError};
use exchange::Counter;
use flusher::Flusher;
use hub::{Desk, Hub, Input, StoreLink};
use inbox::{ToHub, inbox};
use listener::{Door, ListenError};
use push::Posts;
use readers::Readers;
use state::{Remembered, Rules, State};
use store::{OpenError, Place, Store, salvage};

/// What the operator asks for.
#[derive(Debug, Clone)]
pub struct Config {
    /// The line port, if there shall be one; 0 for any free one.
    pub port: Option<u16>,
    /// The port for framed clients, if there shall be one; 0 for any free one.
    pub framed_port: Option<u16>,
    /// How long a framed client may give no sign of life, in seconds.
    pub heartbeat_timeout: u32,
    /// How long three wrong passwords lock a name, in seconds; 0: not at all.
    pub block: u32,
    /// How long a user may be silent, in seconds.
    pub timeout: u32,
    /// Where to listen; empty for loopback.
    pub bind: Vec<IpAddr>,
    /// Names and passwords.
    pub credentials: PathBuf,
    /// Where to keep what must last.
    pub data: Place,
    /// A damaged store is replaced by what can be read of it.
    pub salvage: bool,
    /// Unknown names may become accounts.
    pub allow_new_users: bool,
    /// Users who block the asker are hidden from his lists.
    pub hide_blockers: bool,
    /// The port of the rendezvous for datagrams, if there shall be one; 0 for any free one.
    pub udp_port: Option<u16>,
    /// How many messages may wait for one user.
    pub mailbox_max: u32,
    /// A private session needs the consent of the other.
    pub ask_private: bool,
}

/// Why the server does not start: one line, and what to do about it.
#[derive(Debug)]
pub enum StartError {
    /// Credentials.txt cannot be used.
    Credentials(CredentialsError),
    /// Nobody could ever log in.
    NoAccounts(PathBuf),
    /// An address or port cannot be had.
    Listen(ListenError),
    /// The same for datagrams.
    ListenUdp(ListenError),
    /// The store cannot be used.
    Store(OpenError),
    /// A thread or a descriptor cannot be had.
    System(io::Error),
}

/// A server at work.
#[derive(Debug)]
pub struct Running {
    /// Where it listens for lines.
    pub addresses: Vec<SocketAddr>,
    /// Where it listens for framed clients.
    pub framed: Vec<SocketAddr>,
    /// What the operator should know, a line each.
    pub notes: Vec<String>,
    stopper: Stopper,
    hub: JoinHandle<()>,
    store: JoinHandle<()>,
    rendezvous: Option<udp::Service>,
}

/// Stops a server; may be cloned into a signal handler.
#[derive(Debug, Clone)]
pub struct Stopper {
    hub: ToHub,
    listeners: Arc<Vec<TcpListener>>,
    /// Dropped by the first who stops: then the listeners know.
    accepting: Arc<std::sync::Mutex<Option<Sender<()>>>>,
    rendezvous: Option<udp::Stopper>,
}

/// Starts every thread of the server.
pub fn start(config: &Config) -> Result<Running, StartError> {
    let clock = Clock::start();
    let speller = Speller::new(TimeZone::system());
    let mut full = Vec::new();
    speller.spell(&Notice::Full, &mut full);
    let accounts = credentials::load(&config.credentials).map_err(StartError::Credentials)?;
    if accounts.is_empty() && !config.allow_new_users {
        return Err(StartError::NoAccounts(config.credentials.clone()));
    }
    let mut capacity = limits::capacity();
    if config.framed_port.is_some() {
        // Their threads and descriptors are spoken for.
        let framed = exchange::EXCHANGES_MAX + push::THREADS;
        capacity.clients = capacity.clients.saturating_sub(framed).max(1);
    }
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut addresses = if config.bind.is_empty() { loopback.to_vec() } else { config.bind.clone() };
    let is_local = addresses.iter().all(IpAddr::is_loopback);
    let mut named = HashSet::new();
    addresses.retain(|address| named.insert(*address));
    let may_lack = |address: IpAddr| config.bind.is_empty() && address.is_ipv6();
    let mut notes = Vec::new();
    let mut bind = |port: Option<u16>| -> Result<Vec<TcpListener>, StartError> {
        let Some(port) = port else { return Ok(Vec::new()) };
        let (listeners, missing) = listener::bind(&addresses, port, may_lack).map_err(StartError::Listen)?;
        notes.extend(missing);
        Ok(listeners)
    };
    let (listeners, framed_listeners) = (bind(config.port)?, bind(config.framed_port)?);
    let rendezvous = config.udp_port.map(|port| udp::start(&config.bind, port)).transpose()?;
    let (store, remembered) = open_store(config, clock.now().wall, &mut notes).map_err(StartError::Store)?;

    let rules = Rules {
        block: i64::from(config.block) * 1000,
        timeout: i64::from(config.timeout) * 1000,
        heartbeat_timeout: i64::from(config.heartbeat_timeout) * 1000,
        allow_new_users: config.allow_new_users,
        hide_blockers: config.hide_blockers,
        ask_private: config.ask_private,
        mailbox_max: config.mailbox_max,
        lobby_max: (capacity.clients / 4).max(1),
    };
    if config.framed_port.is_some() {
        notes.extend(describe_unreachable(accounts.iter().map(|account| account.name.as_str())));
    }
    let accounts = accounts.into_iter().map(|account| (account.name, account.password));
    let state = State::new(rules, accounts, remembered, clock.now(), random);
    notes.push(describe_store(&config.data, &store, &state));
    notes.push(format!("room for {} clients (limit: {})", capacity.clients, capacity.limited_by));
    if is_local {
        notes.push("only this machine can connect; --bind 0.0.0.0 or --bind :: opens the server to others".to_owned());
    } else if credentials::readable_by_others(&config.credentials) {
        notes.push(format!(
            "warning: {} holds plain passwords and other users of this machine can read it (chmod 600)",
            config.credentials.display()
        ));
    }

    notes.extend(rendezvous.iter().flat_map(udp::Service::describe));

    let (to_hub, inbox) = inbox(hub::INPUTS_MAX);
    let (jobs, job_receiver) = unbounded();
    let reports = to_hub.clone();
    let appender = match config.data {
        Place::File(_) => Some(Appender::new(config.credentials.clone())),
        Place::Memory => None,
    };
    let store = spawn("store", move || {
        store::run(store, appender, job_receiver, |report| reports.send(Input::Stored(report)).is_ok());
    })?;
    let flusher = Flusher::start(to_hub.clone()).map_err(StartError::System)?;
    let hub = Hub {
        clock,
        state,
        speller,
        inbox,
        flusher,
        store: StoreLink::new(jobs),
        posts: match config.framed_port {
            Some(_) => push::start(clock, &to_hub).map_err(StartError::System)?,
            None => Posts::none(),
        },
        desk: Desk::default(),
    };
    let hub = spawn("hub", move || hub.run())?;

    let next = Arc::new(AtomicU64::new(1));
    let counter = Arc::new(Counter::new(to_hub.clone(), clock, Arc::clone(&next)));
    let door = Arc::new(Door {
        readers: Readers::new(to_hub.clone()),
        full,
        capacity: capacity.clients,
        open: Arc::new(AtomicUsize::new(0)),
        next,
    });
    let (accepting, stop) = bounded(0);
    let local = |listeners: &[TcpListener]| {
        let addresses: Result<Vec<SocketAddr>, _> = listeners.iter().map(TcpListener::local_addr).collect();
        addresses.map_err(StartError::System)
    };
    let (addresses, framed) = (local(&listeners)?, local(&framed_listeners)?);
    let lines = listeners.len();
    let listeners: Arc<Vec<TcpListener>> = Arc::new(listeners.into_iter().chain(framed_listeners).collect());
    for at in 0..listeners.len() {
        let (listeners, door, counter, stop) =
            (Arc::clone(&listeners), Arc::clone(&door), Arc::clone(&counter), stop.clone());
        spawn("listener", move || match at {
            at if at < lines => listener::accept(&listeners[at], &*door, clock, &stop),
            at => listener::accept(&listeners[at], &counter, clock, &stop),
        })?;
    }
    let accepting = Arc::new(std::sync::Mutex::new(Some(accepting)));
    let for_datagrams = rendezvous.as_ref().map(udp::Service::stopper);
    let stopper = Stopper { hub: to_hub, listeners, accepting, rendezvous: for_datagrams };
    Ok(Running { addresses, framed, notes, stopper, hub, store, rendezvous })
}

/// Opens the store; if it is damaged and the operator wants that, what can be read of it.
fn open_store(config: &Config, now: i64, notes: &mut Vec<String>) -> Result<(Store, Remembered), OpenError> {
    let opened = Store::open(&config.data, now);
    let Place::File(path) = &config.data else { return opened };
    match opened {
        Err(OpenError::Damaged { .. }) if config.salvage => {
            notes.push(salvage::salvage(path, now)?.to_string());
            Store::open(&config.data, now)
        }
        Ok(opened) if config.salvage => {
            notes.push(format!("{} is not damaged, there is nothing to salvage", path.display()));
            Ok(opened)
        }
        opened => opened,
    }
}

/// 128 bits that nobody can guess.
fn random() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the store has opened, so the kernel gives random numbers");
    u128::from_be_bytes(bytes)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    thread::Builder::new().name(name.into()).spawn(body).map_err(StartError::System)
}

/// Names that a framed request cannot hold.
fn describe_unreachable<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<&str> = names.filter(|name| name.contains('|')).collect();
    let first = names.first()?;
    let more = if names.len() > 1 { format!(" and {} more", names.len() - 1) } else { String::new() };
    Some(format!("warning: framed clients cannot write to {first}{more}, because of the bar in the name"))
}

fn describe_store(place: &Place, store: &Store, state: &State) -> String {
    let Place::File(path) = place else {
        return "nothing is kept on disk (--ephemeral)".to_owned();
    };
    let (messages, users) = state.waiting();
    let count = |number: u64, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    let wait = if messages == 1 { "waits" } else { "wait" };
    let (messages, users) = (count(messages, "message"), count(users, "user"));
    let mut line = format!("{}: {messages} {wait} for {users}", path.display());
    if state.hidden_names() > 0 {
        line += &format!("; {} not in the credentials, all is kept", count(state.hidden_names(), "name"));
    }
    if store.journal() == store::Journal::Truncate {
        line += "; journal TRUNCATE, because this file system refuses WAL";
    }
    line
}

impl Running {
    /// What stops this server.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until the server has stopped; an error means that a thread of it has died.
    pub fn wait(self) -> Result<(), StopError> {
        let hub = self.hub.join();
        self.stopper.stop();
        let store = self.store.join();
        let rendezvous = self.rendezvous.map_or(Ok(()), udp::Service::wait);
        hub.and(store).map_err(|_| StopError).and(rendezvous)
    }
}

/// A thread of the server died; the log says why.
#[derive(Debug)]
pub struct StopError;

impl Stopper {
    /// Stops accepting and tells every client; [`Running::wait`] returns when all is done.
    pub fn stop(&self) {
        // A poisoned lock still holds the sender, and dropping it is all that is wanted.
        drop(self.accepting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        for listener in self.listeners.iter() {
            // Ends the blocked `accept`; fails only if that has happened already.
            let _ = SockRef::from(listener).shutdown(std::net::Shutdown::Both);
        }
        if let Some(rendezvous) = &self.rendezvous {
            rendezvous.stop();
        }
        // A hub that is gone has stopped.
        let _ = self.hub.send(Input::Stop);
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials(error) => write!(f, "{error}"),
            Self::NoAccounts(path) => write!(f, "{}: no accounts in it, nobody could log in", path.display()),
            Self::Listen(ListenError::InUse(address)) => write!(f, "port {} is in use ({address})", address.port()),
            Self::Listen(ListenError::Failed(address, error)) => write!(f, "cannot listen on {address}: {error}"),
            Self::ListenUdp(ListenError::InUse(address)) => {
                write!(f, "UDP port {} is in use ({address})", address.port())
            }
            Self::ListenUdp(ListenError::Failed(address, error)) => {
                write!(f, "cannot receive datagrams on {address}: {error}")
            }
            Self::Store(error) => write!(f, "{error}"),
            Self::System(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl StartError {
    /// What the operator can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Credentials(_) => {
                "each line is a name, one space and a password; --credentials names another file".into()
            }
            Self::NoAccounts(_) => "add a line `name password`, or start with --allow-new-users".into(),
            Self::Listen(ListenError::InUse(address)) => {
                format!("`ss -ltnp 'sport = :{}'` shows who has it; another port will do too", address.port())
            }
            Self::ListenUdp(ListenError::InUse(address)) => {
                format!("`ss -lunp 'sport = :{}'` shows who has it; another port will do too", address.port())
            }
            Self::Listen(ListenError::Failed(..)) | Self::ListenUdp(ListenError::Failed(..)) => {
                "--bind takes an address of this machine; ports below 1024 need rights".into()
            }
            Self::Store(OpenError::Damaged { .. }) => {
                "--salvage keeps what can be read and puts the damaged file aside".into()
            }
            Self::Store(_) => "--data FILE keeps the store elsewhere, --ephemeral keeps nothing".into(),
            Self::System(_) => "the limits of this account may be too low (ulimit -a)".into(),
        }
    }
}
