//! Files that this client shares: registered, announced, fetched, and what is said of them.
//!
//! A file is registered by reading it, then telling the server its hashes. A download asks for
//! the manifest, opens the place for the file, follows the [`Plan`], and ends with a file that has
//! the hash of the whole, or with a list of what is missing. Every chunk that has come is announced
//! and given to others from then on, and by later runs.

mod again;
mod fetch;
mod register;
mod report;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

pub use again::{OFFERED_MAX, Offered};
pub use report::{Fetched, Report, Size, Trouble};

use super::PeerId;
use super::download::{self, Manifest, Plan, Why};
use crate::wire::chunks::{CHUNKS_PER_LINE_MAX, ChunkSet, Digest};
use crate::wire::control::Say;
use crate::wire::name::{FileName, UserName};
use crate::wire::{Notice, Purpose, Refusal, Ticket};
use again::{Again, NO_LINE};
use fetch::{Running, Wanting};
use register::Registering;

/// Files that are read or fetched at once; a further one is refused.
pub const UNDER_WAY_MAX: usize = 16;

/// Chunks that come within this time are announced together, in milliseconds.
pub const ANNOUNCE_EVERY: i64 = 50;

/// Between two reports to a bar, in milliseconds.
const BAR_EVERY: i64 = 100;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Answers [`Chore::Read`].
    Read(FileName, Result<Arc<Manifest>, Trouble>),
    /// What an earlier run has offered.
    Recalled(Vec<Offered>),
    /// A file of this client is not what it was when it was read.
    Spoiled(FileName),
    /// Answers [`Chore::Open`] and [`Chore::Find`]: which chunks are there and right.
    Opened(FileName, Result<ChunkSet, Trouble>),
    /// A file of which the last chunk was kept is whole, right, on the disk, and has its name; or
    /// it cannot get so far.
    Finished(FileName, Result<Digest, Trouble>),
    /// A chunk could not be written.
    NotWritten(FileName, Trouble),
    /// Chunks can be asked for on this connection. [`Event::Closed`] will be the last of it.
    Linked(PeerId),
    /// So many bytes of the chunk that is due have come.
    Moved(PeerId, u64),
    /// A chunk is there as a whole, with this hash.
    Fetched(PeerId, FileName, u32, Digest),
    /// The chunk that is due is not given.
    Refused(PeerId),
    /// The connection has ended, and nothing of it is written any more.
    Closed(PeerId, Why),
    /// Who was to be dialled cannot be reached.
    NotReached(PeerId),
    /// The server can be spoken to; `anew` if it may know nothing of us.
    Arrived {
        /// This is another session than before.
        anew: bool,
    },
    /// It cannot.
    Lost,
    /// The time of [`Sharing::deadline`] has come.
    Tick,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Work for the hands.
    Do(Chore),
    /// Tell the server.
    Say(String),
    /// Connect to a holder; [`Sharing::dialled`] is to be told at once.
    Dial(UserName, SocketAddr, Ticket),
    /// Close the connection to a holder.
    HangUp(PeerId),
    /// Tell the user.
    Show(Report),
    /// Tell the user what the server says, or would say.
    Tell(Notice),
    /// Everything about this typed line has been told.
    Done(u64),
    /// Offer the name of this file for completion.
    Known(FileName),
    /// Keep for later runs what is offered.
    Remember(Vec<Offered>),
}

/// Work on files and their connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chore {
    /// Read a file for its hashes.
    Read(FileName, u32),
    /// Share a file that was read; or do not.
    Share(FileName),
    /// As above.
    Discard(FileName),
    /// Open the place for a file that is fetched, and share what is there of it.
    Open(Arc<Manifest>),
    /// The same, if something of it is there already.
    Find(Arc<Manifest>),
    /// A chunk is right: share it. After the last one follows [`Event::Finished`].
    Keep(FileName, u32),
    /// No more chunks of it will come; what is there stays shared.
    Leave(FileName),
    /// Do not share it any more.
    Forget(FileName),
    /// Ask for a chunk.
    Fetch(PeerId, FileName, u32),
}

/// How far the connection to a holder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    /// The server was asked for a ticket.
    Asked,
    /// He is being dialled.
    Dialled(PeerId),
    /// A thread works on it.
    Linked(PeerId),
}

/// All that the mind knows of files.
#[derive(Debug)]
pub struct Sharing {
    now: i64,
    orders: VecDeque<Order>,
    plan: Plan,
    /// Tell often how far a download is.
    bar: bool,
    told: i64,
    online: bool,
    ours: BTreeMap<FileName, Ours>,
    registering: BTreeMap<FileName, Registering>,
    /// Files that the server is to be told of, one after the other; it has not answered the first.
    said: VecDeque<FileName>,
    wanting: BTreeMap<FileName, Wanting>,
    running: BTreeMap<FileName, Running>,
    /// Downloads that cannot be written, of which something still may be: whose line, and why.
    failing: BTreeMap<FileName, (u64, Trouble)>,
    /// What the server is listing, in answer to the plan.
    lists: BTreeMap<FileName, BTreeMap<UserName, ChunkSet>>,
    /// The ways to all holders who are dialled, or were.
    routes: BTreeMap<UserName, Route>,
    /// Chunks that the server was not told of, and when it was told last.
    unsaid: BTreeMap<FileName, ChunkSet>,
    announced: i64,
    again: Again,
    /// Files of this run that are not offered any more.
    withdrawn: BTreeSet<FileName>,
    /// The server has been told that this is another program than before.
    begun: bool,
}

/// A file that this client shares.
#[derive(Debug)]
struct Ours {
    manifest: Arc<Manifest>,
    have: ChunkSet,
}

impl Ours {
    fn is_whole(&self) -> bool {
        self.have.len() == self.manifest.chunks()
    }
}

impl Sharing {
    /// Nothing is shared yet; `seed` is for the plan. With `bar` it is for one download alone:
    /// [`Report::Moved`] is told, and nothing of earlier runs is offered.
    pub fn new(seed: u64, bar: bool) -> Self {
        Self {
            now: 0,
            orders: VecDeque::new(),
            plan: Plan::new(seed),
            bar,
            told: 0,
            online: false,
            ours: BTreeMap::new(),
            registering: BTreeMap::new(),
            said: VecDeque::new(),
            wanting: BTreeMap::new(),
            running: BTreeMap::new(),
            failing: BTreeMap::new(),
            lists: BTreeMap::new(),
            routes: BTreeMap::new(),
            unsaid: BTreeMap::new(),
            announced: i64::MIN / 2,
            again: Again::default(),
            withdrawn: BTreeSet::new(),
            begun: false,
        }
    }

    /// Whether something that was typed is still being done.
    pub fn is_busy(&self) -> bool {
        let is_typed = |wanting: &Wanting| wanting.line != NO_LINE;
        self.is_registering()
            || self.wanting.values().any(is_typed)
            || !self.running.is_empty()
            || !self.failing.is_empty()
    }

    /// Whether a file that was typed is being registered.
    pub fn is_registering(&self) -> bool {
        self.registering.values().any(|registering| registering.line.is_some())
    }

    /// Decides what follows from `event`.
    pub fn handle(&mut self, now: i64, event: Event) -> VecDeque<Order> {
        self.now = now;
        match event {
            Event::Read(file, read) => self.has_read(&file, read),
            Event::Recalled(offered) => self.recall(offered),
            Event::Spoiled(file) => self.spoiled(&file),
            Event::Opened(file, opened) => self.opened(&file, opened),
            Event::Finished(file, finished) => self.finished(&file, finished),
            Event::NotWritten(file, trouble) => self.not_written(&file, trouble),
            Event::Linked(peer) => {
                if let Some(user) = self.user_of(Route::Dialled(peer)) {
                    self.routes.insert(user.clone(), Route::Linked(peer));
                    self.plan_on(download::Event::Opened(user));
                }
            }
            Event::Moved(peer, bytes) => {
                self.on_link(peer, |user| download::Event::Moved(user, bytes));
                self.move_bar();
            }
            Event::Fetched(peer, file, chunk, hash) => {
                self.on_link(peer, |user| download::Event::Fetched(user, file, chunk, hash));
            }
            Event::Refused(peer) => self.on_link(peer, download::Event::Refused),
            Event::Closed(peer, why) => self.route_ends(Route::Linked(peer), why),
            Event::NotReached(peer) => self.route_ends(Route::Dialled(peer), Why::Unreachable),
            Event::Arrived { anew } => self.arrive(anew),
            Event::Lost => self.online = false,
            Event::Tick if self.plan.deadline().is_some_and(|at| at <= now) => self.plan_on(download::Event::Tick),
            Event::Tick => {}
        }
        self.take()
    }

    /// What was decided since the last time.
    fn take(&mut self) -> VecDeque<Order> {
        self.announce();
        std::mem::take(&mut self.orders)
    }

    fn user_of(&self, route: Route) -> Option<UserName> {
        self.routes.iter().find(|(_, known)| **known == route).map(|(user, _)| user.clone())
    }

    fn on_link(&mut self, peer: PeerId, event: impl FnOnce(UserName) -> download::Event) {
        if let Some(user) = self.user_of(Route::Linked(peer)) {
            self.plan_on(event(user));
        }
    }

    fn route_ends(&mut self, route: Route, why: Why) {
        if let Some(user) = self.user_of(route) {
            self.routes.remove(&user);
            self.plan_on(download::Event::Closed(user, why));
        }
    }

    /// When [`Event::Tick`] is due.
    pub fn deadline(&self) -> Option<i64> {
        let announce = self.can_announce().then_some(self.announced + ANNOUNCE_EVERY);
        self.plan.deadline().into_iter().chain(announce).min()
    }

    /// What the server says, if it is about files; `None` if it is not.
    pub fn hear(&mut self, now: i64, notice: &Notice) -> Option<VecDeque<Order>> {
        self.now = now;
        match notice {
            Notice::Registered { file, .. } => self.registered(file, notice)?,
            Notice::Available { file, .. } => {
                self.orders.push_back(Order::Known(file.clone()));
                self.orders.push_back(Order::Tell(notice.clone()));
            }
            Notice::Manifest { file, chunks, bytes, digest } => self.hear_manifest(file, *chunks, *bytes, *digest),
            Notice::ChunkHashes { file, first, hashes } => self.hear_hashes(file, *first, hashes),
            Notice::Holder { file, user, chunks } => self.hear_holder(file, user, chunks),
            Notice::ManifestEnd(file) => self.hear_end(file),
            Notice::HoldersEnd(file) => {
                let holders = self.lists.remove(file).unwrap_or_default().into_iter().collect();
                self.plan_on(download::Event::Holders(file.clone(), holders));
            }
            Notice::Peer { user, at, ticket, purpose: Purpose::File } => {
                if self.routes.get(user) == Some(&Route::Asked) {
                    self.orders.push_back(Order::Dial(user.clone(), *at, *ticket));
                }
            }
            Notice::NoPeer { user, purpose: Purpose::File, .. } => self.no_peer(user),
            Notice::Refused(refusal) => self.hear_refusal(refusal, notice)?,
            _ => return None,
        }
        Some(self.take())
    }

    /// The connection that [`Order::Dial`] wanted is being made.
    pub fn dialled(&mut self, user: UserName, peer: PeerId) {
        self.routes.insert(user, Route::Dialled(peer));
    }

    fn hear_refusal(&mut self, refusal: &Refusal, notice: &Notice) -> Option<()> {
        match refusal {
            Refusal::AlreadyRegistered { file, same } => self.already_registered(file, *same, notice),
            Refusal::BadManifest(file) => {
                let file = file.clone();
                self.not_registered(&file, notice)
            }
            Refusal::BadFileName
            | Refusal::TooManyChunks { .. }
            | Refusal::FilesFull { .. }
            | Refusal::ChunksFull { .. }
            | Refusal::OwnsTooManyFiles { .. }
            | Refusal::OwnsTooManyChunks { .. } => {
                let file = self.said.front()?.clone();
                self.not_registered(&file, notice)
            }
            Refusal::NotRegistered(file) => self.unknown(file, notice),
            _ => None,
        }
    }

    fn no_peer(&mut self, user: &UserName) {
        if self.routes.get(user) == Some(&Route::Asked) {
            self.routes.remove(user);
            self.plan_on(download::Event::Closed(user.clone(), Why::Unreachable));
        }
    }

    /// Back at the server: what has no answer is asked again, what it may not know is told.
    fn arrive(&mut self, anew: bool) {
        self.online = true;
        self.begin();
        for wanting in self.wanting.values_mut() {
            if let Some(say) = wanting.ask_again() {
                self.orders.push_back(Order::Say(say));
            }
        }
        self.say_next();
        if anew {
            self.unsaid.clear();
            self.announce_all();
        }
        for (user, _) in self.routes.iter().filter(|(_, route)| **route == Route::Asked) {
            self.orders.push_back(Order::Say(Say::Dial { user: user.as_str(), purpose: Purpose::File }.spell()));
        }
        self.lists.clear();
        self.plan_on(download::Event::Back);
    }

    /// After a log-in the server may be another one: it is told what is here. A part is described
    /// too, for nobody else may be there who knows what it is a part of.
    fn announce_all(&mut self) {
        let is_new = |file: &FileName| !self.registering.contains_key(file);
        let offered = self.ours.iter().filter(|(file, ours)| !ours.have.is_empty() && is_new(file));
        let again: Vec<Registering> = offered
            .map(|(file, ours)| {
                let part = !ours.is_whole() || self.running.contains_key(file);
                Registering::again(Arc::clone(&ours.manifest), part)
            })
            .collect();
        for registering in again {
            let Some(file) = registering.manifest.as_ref().map(|manifest| manifest.file.clone()) else { continue };
            self.registering.insert(file.clone(), registering);
            self.say_manifest(&file);
        }
    }

    /// Tells the server of the chunks that have come: of the first at once, of those that follow
    /// soon after together.
    fn announce(&mut self) {
        if self.now >= self.announced + ANNOUNCE_EVERY {
            self.announce_now();
        }
    }

    /// Whether something can be said: not of a file that the server is just being told of.
    fn can_announce(&self) -> bool {
        self.online && self.unsaid.keys().any(|file| !self.registering.contains_key(file))
    }

    fn announce_now(&mut self) {
        if !self.can_announce() {
            return;
        }
        self.announced = self.now;
        let unsaid = std::mem::take(&mut self.unsaid);
        let (later, now) = unsaid.into_iter().partition(|(file, _)| self.registering.contains_key(file));
        self.unsaid = later;
        let now: BTreeMap<FileName, ChunkSet> = now;
        for (file, chunks) in now {
            let chunks: Vec<String> = chunks.iter().map(|chunk| chunk.to_string()).collect();
            for some in chunks.chunks(CHUNKS_PER_LINE_MAX) {
                let say = Say::Have { file: file.as_str(), chunks: &some.join(" ") };
                self.orders.push_back(Order::Say(say.spell()));
            }
        }
    }

    /// Lets the plan decide, and turns what it orders into what can be done.
    fn plan_on(&mut self, event: download::Event) {
        let mut orders = Vec::new();
        self.plan.handle(self.now, event, &mut orders);
        for order in orders {
            match order {
                download::Order::Dial(user) => self.ask_for_ticket(user),
                download::Order::Fetch(user, file, chunk) => {
                    if let Some(Route::Linked(peer)) = self.routes.get(&user) {
                        self.chore(Chore::Fetch(*peer, file, chunk));
                    }
                }
                download::Order::HangUp(user) => self.hang_up(user),
                download::Order::LookUp(file) if self.online => {
                    self.lists.insert(file.clone(), BTreeMap::new());
                    self.orders.push_back(Order::Say(Say::Holders(file.as_str()).spell()));
                }
                // Asked again when the server is back.
                download::Order::LookUp(_) => {}
                download::Order::Keep(file, chunk) => self.keep(file, chunk),
                download::Order::Dropped(user, why) => self.orders.push_back(Order::Show(Report::Dropped(user, why))),
                download::Order::Progress(progress) => {
                    if !self.bar {
                        self.orders.push_back(Order::Show(Report::Progress(progress)));
                    }
                }
                download::Order::Ended(summary) => self.ended(summary),
            }
        }
        self.tell_of_failures();
    }

    fn ask_for_ticket(&mut self, user: UserName) {
        if self.online {
            self.orders.push_back(Order::Say(Say::Dial { user: user.as_str(), purpose: Purpose::File }.spell()));
        }
        self.routes.insert(user, Route::Asked);
    }

    /// While no thread works on it, the connection is over at once; else the thread says when.
    fn hang_up(&mut self, user: UserName) {
        match self.routes.get(&user) {
            Some(Route::Linked(peer)) => return self.orders.push_back(Order::HangUp(*peer)),
            Some(Route::Dialled(peer)) => self.orders.push_back(Order::HangUp(*peer)),
            Some(Route::Asked) | None => {}
        }
        self.routes.remove(&user);
        self.plan_on(download::Event::Closed(user, Why::Done));
    }

    fn chore(&mut self, chore: Chore) {
        self.orders.push_back(Order::Do(chore));
    }

    fn show(&mut self, report: Report) {
        self.orders.push_back(Order::Show(report));
    }

    fn done(&mut self, line: u64) {
        self.orders.push_back(Order::Done(line));
    }

    fn under_way(&self) -> usize {
        let wanting = self.wanting.values().filter(|wanting| wanting.line != NO_LINE).count();
        wanting
            + self.running.len()
            + self.failing.len()
            + self.registering.values().filter(|it| it.line.is_some()).count()
    }

    /// Refuses a name that no file can have, one that is under way, and too many at once.
    fn admit(&mut self, line: u64, file: &str) -> Option<FileName> {
        let refusal = match FileName::parse(file) {
            None => Order::Tell(Notice::Refused(Refusal::BadFileName)),
            Some(file) if self.is_under_way(&file) => Order::Show(Report::UnderWay(file)),
            Some(_) if self.under_way() >= UNDER_WAY_MAX => Order::Show(Report::TooMany(UNDER_WAY_MAX)),
            Some(file) => return Some(file),
        };
        self.orders.push_back(refusal);
        self.done(line);
        None
    }

    fn is_under_way(&self, file: &FileName) -> bool {
        self.registering.get(file).is_some_and(|registering| !registering.part)
            || self.wanting.contains_key(file)
            || self.running.contains_key(file)
            || self.plan.contains(file)
    }
}
