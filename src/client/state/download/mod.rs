//! The plan of all downloads: which chunk next, from whom, and what if he fails.
//!
//! The rarest chunk comes first, from the holder with the fewest chunks on their way; ties fall at
//! random. Every holder has a few chunks on their way at a time, so that his line is never idle,
//! and one connection for all files. A holder who leaves, stalls or cannot be reached gives his
//! chunks back to the others; one who sends wrong bytes is not asked for anything in this run any
//! more. A chunk is given to somebody else only when the connection that it was to come from is
//! known to be closed: so nobody writes over what another has brought.
//!
//! Not here: bytes, files, sockets. `files.rs` has the bytes and `transfer.rs` the connections.

mod manifest;
mod pick;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub use manifest::Manifest;

use crate::wire::chunks::{ChunkSet, Digest};
use crate::wire::name::{FileName, UserName};

/// Holders that are connected to at once, in all downloads together; the others wait until one
/// of these has nothing to give any more.
pub const HOLDERS_MAX: usize = 8;

/// ChunkSet on their way from one holder; then he gets no more until one is there.
pub const WINDOW_CHUNKS_MAX: usize = 32;

/// Bytes on their way from one holder; beyond this only the chunk that is due and one more.
pub const WINDOW_BYTES_MAX: u64 = 4 << 20;

/// A holder who moves fewer than [`STALL_BYTES`] and no whole chunk in this time is dropped, in
/// milliseconds.
pub const STALL_MAX: i64 = 10_000;

/// What must move in [`STALL_MAX`]: a byte now and then does not keep a chunk for ever.
pub const STALL_BYTES: u64 = 4096;

/// After this time others get the chunks of a holder who is still being dialled, in milliseconds.
pub const DIAL_PATIENCE: i64 = 2_000;

/// After this time he counts as out of reach, in milliseconds.
pub const DIAL_MAX: i64 = 15_000;

/// How often the server is asked who holds what, in milliseconds.
pub const LOOK_UP_EVERY: i64 = 10_000;

/// When the server is back after an outage, the holders come back one by one: so long nobody is
/// given up for missing in its list, in milliseconds. More than the pauses of a client that tries.
pub const RETURN_MAX: i64 = 15_000;

/// Meanwhile the server is asked so often, in milliseconds.
pub const LOOK_UP_SOON: i64 = 1_000;

/// A connection on which nothing is asked for is closed after so many milliseconds.
pub const IDLE_MAX: i64 = 10_000;

/// Failures of a holder in one download until he is not tried again for it.
pub const TRIES_MAX: u8 = 3;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Fetch these chunks of a file. It is no download under way.
    Begin {
        /// What it consists of.
        manifest: Arc<Manifest>,
        /// What is to be fetched.
        wanted: ChunkSet,
        /// Who has what.
        holders: Vec<(UserName, ChunkSet)>,
    },
    /// Who has what now; answers [`Order::LookUp`].
    Holders(FileName, Vec<(UserName, ChunkSet)>),
    /// The file cannot be written: nothing more is fetched of it, nothing more is said.
    Abandon(FileName),
    /// The connection to a holder is there.
    Opened(UserName),
    /// So many bytes of the chunk that is due from him have come.
    Moved(UserName, u64),
    /// A chunk is there as a whole, with this hash.
    Fetched(UserName, FileName, u32, Digest),
    /// He does not give the chunk that is due.
    Refused(UserName),
    /// There is no connection to a holder: it could not be had, or it has ended and nothing of it
    /// is written any more. Follows exactly once on [`Order::Dial`].
    Closed(UserName, Why),
    /// The server can be asked again after an outage; what it was asked before has no answer.
    Back,
    /// The time of [`Plan::deadline`] has come.
    Tick,
}

/// Why a holder is no longer asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// He is not needed.
    Done,
    /// No connection could be had.
    Unreachable,
    /// The connection ended.
    Left,
    /// Nothing came for [`STALL_MAX`].
    Stalled,
    /// What he sent is not the chunk.
    Lied,
}

impl Why {
    /// A word for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unreachable => "unreachable",
            Self::Left => "left",
            Self::Stalled => "stalled",
            Self::Lied => "lied",
        }
    }
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Connect to a holder: [`Event::Closed`] follows, perhaps after [`Event::Opened`].
    Dial(UserName),
    /// Ask a holder for a chunk. He answers in the order in which he was asked.
    Fetch(UserName, FileName, u32),
    /// Close the connection to a holder.
    HangUp(UserName),
    /// Ask the server who has what of a file.
    LookUp(FileName),
    /// The chunk is the right one.
    Keep(FileName, u32),
    /// Tell the user that a holder has failed.
    Dropped(UserName, Why),
    /// Tell the user how far a download is.
    Progress(Progress),
    /// A download is at its end.
    Ended(Summary),
}

/// How far a download is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Of which file.
    pub file: FileName,
    /// A multiple of ten.
    pub percent: u8,
    /// Bytes that have come in this run.
    pub bytes: u64,
    /// Bytes per second, on average since the beginning.
    pub rate: u64,
    /// Milliseconds to the end at this rate.
    pub left: i64,
    /// Who has sent something since the last time.
    pub from: Vec<UserName>,
}

/// What a download has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Of which file.
    pub file: FileName,
    /// Bytes that have come in this run.
    pub bytes: u64,
    /// Milliseconds that it took.
    pub millis: i64,
    /// How many chunks came from whom.
    pub from: BTreeMap<UserName, u32>,
    /// ChunkSet that nobody gives.
    pub gaps: Vec<u32>,
}

/// All downloads of this client, and all that it knows of the holders.
#[derive(Debug)]
pub struct Plan {
    now: i64,
    orders: Vec<Order>,
    downloads: BTreeMap<FileName, Download>,
    peers: BTreeMap<UserName, Peer>,
    /// They are not asked for anything in this run.
    liars: BTreeSet<UserName>,
    /// The next tie falls by this.
    dice: u64,
    /// The download that has got a chunk last: the others come first.
    last: Option<FileName>,
}

/// A holder who is connected to.
#[derive(Debug)]
struct Peer {
    link: Link,
    /// What he was asked for, in this order.
    tasks: VecDeque<Task>,
    /// Since when we wait: for the connection, or for bytes, or for something to ask for.
    since: i64,
    /// Bytes since then.
    moved: u64,
    /// Bytes of the chunk that is due.
    partial: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Asked for, and with [`DIAL_PATIENCE`].
    Dialling,
    /// Asked for, and without any more.
    Late,
    Open,
    /// To be closed.
    Closing,
}

#[derive(Debug)]
struct Task {
    file: FileName,
    chunk: u32,
    bytes: u64,
}

#[derive(Debug)]
struct Download {
    manifest: Arc<Manifest>,
    /// Not there yet.
    wanted: ChunkSet,
    /// Of these, those that somebody was asked for.
    taken: ChunkSet,
    offers: BTreeMap<UserName, Offer>,
    /// The wanted chunks, the rarest first, and where to look for one that is not taken.
    queue: Vec<u32>,
    cursor: usize,
    /// The server was asked for holders, and has not answered.
    looking: bool,
    looked: i64,
    /// The end of [`RETURN_MAX`], if there was an outage.
    returning: Option<i64>,
    /// A holder has failed since then.
    stale: bool,
    failures: BTreeMap<UserName, u8>,
    refused: BTreeMap<UserName, ChunkSet>,
    // What the user is told.
    began: i64,
    got: u64,
    goal: u64,
    goal_chunks: u32,
    told: u8,
    lately: BTreeSet<UserName>,
    from: BTreeMap<UserName, u32>,
}

/// What a holder has of a file.
#[derive(Debug)]
struct Offer {
    chunks: ChunkSet,
    /// How many of these are wanted and not taken.
    left: u32,
}

impl Plan {
    /// A plan without downloads; ties fall by `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            now: 0,
            orders: Vec::new(),
            downloads: BTreeMap::new(),
            peers: BTreeMap::new(),
            liars: BTreeSet::new(),
            dice: seed | 1,
            last: None,
        }
    }

    /// How many downloads are under way.
    pub fn len(&self) -> usize {
        self.downloads.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.downloads.is_empty()
    }

    /// Whether this file is being downloaded, or bytes of it may still be written.
    pub fn contains(&self, file: &FileName) -> bool {
        let is_asked_for = |peer: &Peer| peer.tasks.iter().any(|task| task.file == *file);
        self.downloads.contains_key(file) || self.peers.values().any(is_asked_for)
    }

    /// Bytes of a download that have come, and that it fetches.
    pub fn bytes(&self, file: &FileName) -> Option<(u64, u64)> {
        let download = self.downloads.get(file)?;
        let under_way = self.peers.values().filter(|peer| peer.tasks.front().is_some_and(|task| task.file == *file));
        let under_way: u64 = under_way.map(|peer| peer.partial).sum();
        Some(((download.got + under_way).min(download.goal), download.goal))
    }

    /// Decides what follows from `event` and appends it to `orders`.
    pub fn handle(&mut self, now: i64, event: Event, orders: &mut Vec<Order>) {
        self.now = now;
        std::mem::swap(&mut self.orders, orders);
        match event {
            Event::Begin { manifest, wanted, holders } => self.begin(manifest, wanted, holders),
            Event::Holders(file, holders) => self.hear_holders(&file, holders),
            Event::Abandon(file) => self.abandon(&file),
            Event::Opened(user) => self.opened(&user),
            Event::Moved(user, bytes) => self.moved(&user, bytes),
            Event::Fetched(user, file, chunk, hash) => self.fetched(&user, &file, chunk, &hash),
            Event::Refused(user) => self.refused(&user),
            Event::Closed(user, why) => self.closed(&user, why),
            Event::Back => {
                for download in self.downloads.values_mut() {
                    (download.looking, download.stale, download.returning) = (false, true, Some(now + RETURN_MAX));
                }
            }
            Event::Tick => self.tick(),
        }
        self.settle();
        std::mem::swap(&mut self.orders, orders);
    }

    /// When [`Event::Tick`] is due, in milliseconds.
    pub fn deadline(&self) -> Option<i64> {
        let peers = self.peers.values().filter_map(Peer::deadline);
        let looks = self.downloads.values().filter(|download| !download.looking);
        peers.chain(looks.map(|download| download.looked + download.pause(self.now))).min()
    }

    fn begin(&mut self, manifest: Arc<Manifest>, wanted: ChunkSet, holders: Vec<(UserName, ChunkSet)>) {
        let file = manifest.file.clone();
        let goal = wanted.iter().map(|chunk| manifest.size(chunk)).sum();
        let download = Download {
            taken: ChunkSet::default(),
            offers: BTreeMap::new(),
            queue: Vec::new(),
            cursor: 0,
            looking: false,
            looked: self.now,
            returning: None,
            stale: false,
            failures: BTreeMap::new(),
            refused: BTreeMap::new(),
            began: self.now,
            got: 0,
            goal,
            goal_chunks: wanted.len(),
            told: 0,
            lately: BTreeSet::new(),
            from: BTreeMap::new(),
            manifest,
            wanted,
        };
        self.downloads.insert(file.clone(), download);
        self.hear_holders(&file, holders);
    }

    fn hear_holders(&mut self, file: &FileName, holders: Vec<(UserName, ChunkSet)>) {
        let mut dice = self.roll();
        let Some(download) = self.downloads.get_mut(file) else { return };
        (download.looking, download.looked, download.stale) = (false, self.now, false);
        // Whoever is connected serves, whether the server knows him again or not.
        let is_connected = |user: &UserName| self.peers.get(user).is_some_and(|peer| peer.link == Link::Open);
        let is_returning = download.is_returning(self.now);
        download.offers.retain(|user, _| is_returning && is_connected(user));
        let all = ChunkSet::first(download.manifest.chunks());
        for (user, chunks) in holders {
            let is_out = download.failures.get(&user).is_some_and(|count| *count >= TRIES_MAX);
            if is_out || self.liars.contains(&user) {
                continue;
            }
            let mut chunks = chunks.shared(&all);
            for chunk in download.refused.get(&user).iter().flat_map(|refused| refused.iter()) {
                chunks.remove(chunk);
            }
            download.offers.insert(user, Offer { chunks, left: 0 });
        }
        download.line_up(&mut dice);
        self.dice = dice | 1;
    }

    fn abandon(&mut self, file: &FileName) {
        self.downloads.remove(file);
        let theirs = |peer: &Peer| peer.tasks.iter().any(|task| task.file == *file);
        let users: Vec<_> = self.peers.iter().filter(|(_, peer)| theirs(peer)).map(|(user, _)| user.clone()).collect();
        users.iter().for_each(|user| self.hang_up(user));
    }

    fn opened(&mut self, user: &UserName) {
        let Some(peer) = self.peers.get_mut(user) else { return };
        if !matches!(peer.link, Link::Dialling | Link::Late) {
            return;
        }
        (peer.link, peer.since, peer.moved) = (Link::Open, self.now, 0);
        for task in &peer.tasks {
            self.orders.push(Order::Fetch(user.clone(), task.file.clone(), task.chunk));
        }
    }

    fn moved(&mut self, user: &UserName, bytes: u64) {
        let Some(peer) = self.peers.get_mut(user) else { return };
        peer.partial += bytes;
        peer.moved += bytes;
        if peer.moved >= STALL_BYTES {
            (peer.since, peer.moved) = (self.now, 0);
        }
        let Some(file) = peer.tasks.front().map(|task| task.file.clone()) else { return };
        if let Some(download) = self.downloads.get_mut(&file) {
            download.lately.insert(user.clone());
        }
        self.tell(&file);
    }

    fn fetched(&mut self, user: &UserName, file: &FileName, chunk: u32, hash: &Digest) {
        let Some(peer) = self.peers.get_mut(user) else { return };
        if peer.link != Link::Open {
            return;
        }
        let is_due = peer.tasks.front().is_some_and(|task| task.file == *file && task.chunk == chunk);
        let Some(download) = self.downloads.get_mut(file) else { return };
        if !is_due || download.manifest.hashes.get(chunk as usize) != Some(hash) {
            return self.cut(user, Why::Lied);
        }
        (peer.since, peer.moved, peer.partial) = (self.now, 0, 0);
        peer.tasks.pop_front();
        download.wanted.remove(chunk);
        download.taken.remove(chunk);
        download.got += download.manifest.size(chunk);
        download.lately.insert(user.clone());
        *download.from.entry(user.clone()).or_default() += 1;
        self.orders.push(Order::Keep(file.clone(), chunk));
        self.tell(file);
    }

    fn refused(&mut self, user: &UserName) {
        let Some(peer) = self.peers.get_mut(user) else { return };
        let Some(task) = peer.tasks.pop_front() else { return };
        (peer.since, peer.moved, peer.partial) = (self.now, 0, 0);
        let Some(download) = self.downloads.get_mut(&task.file) else { return };
        download.refused.entry(user.clone()).or_default().insert(task.chunk);
        if let Some(offer) = download.offers.get_mut(user) {
            offer.chunks.remove(task.chunk);
        }
        download.give_back(task.chunk);
        download.stale = true;
    }

    fn closed(&mut self, user: &UserName, why: Why) {
        let Some(peer) = self.peers.get(user) else { return };
        if peer.link != Link::Closing && why != Why::Done {
            self.fail(user, why);
        }
        let Some(peer) = self.peers.remove(user) else { return };
        self.release(peer.tasks);
    }

    /// Closes the connection to a holder who has failed.
    fn cut(&mut self, user: &UserName, why: Why) {
        self.fail(user, why);
        self.hang_up(user);
    }

    fn hang_up(&mut self, user: &UserName) {
        if let Some(peer) = self.peers.get_mut(user)
            && peer.link != Link::Closing
        {
            peer.link = Link::Closing;
            self.orders.push(Order::HangUp(user.clone()));
        }
    }

    /// A holder has failed: he is told of, and asked less or not at all.
    fn fail(&mut self, user: &UserName, why: Why) {
        self.orders.push(Order::Dropped(user.clone(), why));
        if why == Why::Lied {
            self.liars.insert(user.clone());
        }
        for download in self.downloads.values_mut() {
            if download.offers.remove(user).is_some() {
                download.stale = true;
                let failures = download.failures.entry(user.clone()).or_default();
                *failures = if why == Why::Stalled { TRIES_MAX } else { failures.saturating_add(1) };
            }
        }
    }

    /// What somebody was asked for can be asked of others.
    fn release(&mut self, tasks: VecDeque<Task>) {
        for task in tasks {
            if let Some(download) = self.downloads.get_mut(&task.file) {
                download.give_back(task.chunk);
            }
        }
    }

    fn tick(&mut self) {
        let due = |peer: &Peer| peer.deadline().is_some_and(|at| at <= self.now);
        let due: Vec<UserName> =
            self.peers.iter().filter(|(_, peer)| due(peer)).map(|(user, _)| user.clone()).collect();
        for user in due {
            let Some(peer) = self.peers.get_mut(&user) else { continue };
            match peer.link {
                Link::Dialling => {
                    peer.link = Link::Late;
                    let tasks = std::mem::take(&mut peer.tasks);
                    self.release(tasks);
                }
                Link::Late => self.cut(&user, Why::Unreachable),
                Link::Open if peer.tasks.is_empty() => self.hang_up(&user),
                Link::Open => self.cut(&user, Why::Stalled),
                Link::Closing => {}
            }
        }
    }

    /// Gives out what there is to fetch, asks for holders, and ends what can come no further.
    fn settle(&mut self) {
        self.give_out();
        for (file, download) in &mut self.downloads {
            let is_due = download.stale || self.now >= download.looked + download.pause(self.now);
            if !download.looking && is_due && !download.wanted.is_empty() {
                (download.looking, download.looked, download.stale) = (true, self.now, false);
                self.orders.push(Order::LookUp(file.clone()));
            }
        }
        let over: Vec<FileName> = self
            .downloads
            .iter()
            .filter(|(_, download)| download.is_over(self.now))
            .map(|(file, _)| file.clone())
            .collect();
        for file in over {
            if let Some(download) = self.downloads.remove(&file) {
                self.orders.push(Order::Ended(download.sum_up(file, self.now)));
            }
        }
        let needed = |user: &UserName| self.downloads.values().any(|download| download.offers.contains_key(user));
        let idle = |user: &UserName, peer: &Peer| peer.tasks.is_empty() && !needed(user);
        let idle: Vec<UserName> =
            self.peers.iter().filter(|(user, peer)| idle(user, peer)).map(|(user, _)| user.clone()).collect();
        idle.iter().for_each(|user| self.hang_up(user));
    }

    /// Tells the user of every ten per cent; of the last the summary tells.
    fn tell(&mut self, file: &FileName) {
        let Some((bytes, _)) = self.bytes(file) else { return };
        let Some(download) = self.downloads.get_mut(file) else { return };
        let (part, whole) = match download.goal {
            0 => (u64::from(download.goal_chunks - download.wanted.len()), u64::from(download.goal_chunks)),
            goal => (bytes, goal),
        };
        let tens = u8::try_from(u128::from(part) * 10 / u128::from(whole.max(1))).unwrap_or(10);
        if tens <= download.told || tens >= 10 {
            return;
        }
        download.told = tens;
        let millis = u64::try_from(self.now - download.began).unwrap_or(0).max(1);
        let rate = bytes.saturating_mul(1000) / millis;
        let left = u128::from(millis) * u128::from(whole - part) / u128::from(part.max(1));
        let from = std::mem::take(&mut download.lately).into_iter().collect();
        let left = i64::try_from(left).unwrap_or(i64::MAX);
        self.orders.push(Order::Progress(Progress { file: file.clone(), percent: tens * 10, bytes, rate, left, from }));
    }

    /// Below `u64::MAX`, by xorshift; good enough for ties.
    fn roll(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice
    }
}

impl Peer {
    fn deadline(&self) -> Option<i64> {
        match self.link {
            Link::Dialling => Some(self.since + DIAL_PATIENCE),
            Link::Late => Some(self.since + DIAL_MAX),
            Link::Open if self.tasks.is_empty() => Some(self.since + IDLE_MAX),
            Link::Open => Some(self.since + STALL_MAX),
            Link::Closing => None,
        }
    }
}

impl Download {
    /// Whether all is there, or nobody is left who could give what is missing.
    fn is_over(&self, now: i64) -> bool {
        let can_go_on = self.is_returning(now) || self.offers.values().any(|offer| offer.left > 0);
        self.wanted.is_empty() || (self.taken.is_empty() && !can_go_on && !self.looking && !self.stale)
    }

    fn is_returning(&self, now: i64) -> bool {
        self.returning.is_some_and(|until| now < until)
    }

    /// Between two questions to the server.
    fn pause(&self, now: i64) -> i64 {
        if self.is_returning(now) { LOOK_UP_SOON } else { LOOK_UP_EVERY }
    }

    fn sum_up(self, file: FileName, now: i64) -> Summary {
        let gaps = self.wanted.iter().collect();
        Summary { file, bytes: self.got, millis: now - self.began, from: self.from, gaps }
    }
}
