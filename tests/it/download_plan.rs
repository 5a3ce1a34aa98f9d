//! The plan of downloads in a world of holders who lie, stall, leave and cannot be reached.
//!
//! The world owns the clock, the disk and the connections. A connection writes what it likes to
//! the place of the chunk that it was asked for, until it is closed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use chinwag::client::state::download::{Event, HOLDERS_MAX, Manifest, Order, Plan, Summary, WINDOW_CHUNKS_MAX, Why};
use chinwag::wire::chunks::{ChunkSet, Digest, span};
use chinwag::wire::name::{FileName, UserName};
use sha2::{Digest as _, Sha256};

use crate::dice::Dice;

/// What a holder is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Honest,
    /// Turns a bit around.
    Flips,
    /// Sends less than the chunk.
    Truncates,
    /// Sends another chunk in its place, and says which or not.
    Swaps {
        says: bool,
    },
    /// Sends the chunk and then more.
    Adds,
    /// Sends half a chunk, then nothing.
    Stalls,
    /// Sends a byte now and then.
    Drips,
    /// Gives some chunks, then the connection ends. He is here no more.
    Leaves,
    /// Has nothing that he is asked for.
    Refuses,
    /// Is there for the server, but not for us.
    Unreachable,
    /// Neither answers nor refuses a connection.
    Silent,
}

impl Kind {
    fn lies(self) -> bool {
        matches!(self, Self::Flips | Self::Truncates | Self::Swaps { .. } | Self::Adds)
    }
}

const LIES: [Kind; 5] =
    [Kind::Flips, Kind::Truncates, Kind::Swaps { says: true }, Kind::Swaps { says: false }, Kind::Adds];

const FAULTS: [Kind; 6] = [Kind::Stalls, Kind::Drips, Kind::Leaves, Kind::Refuses, Kind::Unreachable, Kind::Silent];

struct Holder {
    kind: Kind,
    /// Per file.
    chunks: BTreeMap<FileName, ChunkSet>,
    /// Milliseconds per chunk.
    pace: i64,
    online: bool,
    connected: bool,
    hung_up: bool,
    asked: VecDeque<(FileName, u32)>,
    given: u32,
}

struct File {
    bytes: Vec<u8>,
    manifest: Arc<Manifest>,
    part: Vec<u8>,
    kept: BTreeSet<u32>,
    wanted: ChunkSet,
    summary: Option<Summary>,
}

/// What is going to happen.
enum Next {
    Tell(Event),
    Answer(UserName),
    List(FileName),
    End(UserName, Why),
}

struct World {
    now: i64,
    dice: Dice,
    plan: Plan,
    holders: BTreeMap<UserName, Holder>,
    files: BTreeMap<FileName, File>,
    to_come: BTreeMap<(i64, u64), Next>,
    count: u64,
    dropped: Vec<(UserName, Why)>,
    told: Vec<(FileName, u8)>,
}

fn user(at: usize) -> UserName {
    UserName::parse(&format!("u{at}")).expect("a name")
}

fn hash(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn file(name: &str, bytes: Vec<u8>, chunks: u32) -> File {
    let name = FileName::parse(name).expect("a name");
    let size = bytes.len() as u64;
    let piece = |chunk| {
        let place = span(size, chunks, chunk);
        hash(&bytes[place.start as usize..place.end as usize])
    };
    let hashes = (0..chunks).map(piece).collect();
    let manifest = Arc::new(Manifest { file: name, bytes: size, digest: hash(&bytes), hashes });
    let part = vec![0; bytes.len()];
    File { bytes, manifest, part, kept: BTreeSet::new(), wanted: ChunkSet::first(chunks), summary: None }
}

impl World {
    fn new(seed: u64, kinds: &[Kind], files: Vec<File>) -> Self {
        let mut dice = Dice(seed);
        let plan = Plan::new(dice.roll(u64::MAX));
        let files: BTreeMap<_, _> = files.into_iter().map(|file| (file.manifest.file.clone(), file)).collect();
        let holder = |(at, &kind): (usize, &Kind)| {
            let chunks =
                files.iter().map(|(name, file)| (name.clone(), ChunkSet::first(file.manifest.chunks()))).collect();
            let pace = 1 + dice.roll(50) as i64;
            let (asked, given) = (VecDeque::new(), 0);
            (user(at), Holder { kind, chunks, pace, online: true, connected: false, hung_up: false, asked, given })
        };
        let holders = kinds.iter().enumerate().map(holder).collect();
        let (to_come, dropped, told) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { now: 0, dice, plan, holders, files, to_come, count: 0, dropped, told }
    }

    /// Downloads everything at once, to the end.
    fn play(&mut self) {
        let names: Vec<FileName> = self.files.keys().cloned().collect();
        for name in names {
            let file = &self.files[&name];
            let (manifest, wanted) = (file.manifest.clone(), file.wanted.clone());
            let holders = self.list(&name);
            self.tell(Event::Begin { manifest, wanted, holders });
        }
        while !self.plan.is_empty() {
            let event = self.to_come.first_key_value().map(|(key, _)| key.0);
            let due = self.plan.deadline();
            match (event, due) {
                (Some(event), due) if due.is_none_or(|due| event <= due) => {
                    let (key, next) = self.to_come.pop_first().expect("it is there");
                    self.now = self.now.max(key.0);
                    self.happen(next);
                }
                (_, Some(due)) => {
                    self.now = self.now.max(due);
                    self.tell(Event::Tick);
                }
                _ => panic!("nothing will ever happen: {:?}", self.plan),
            }
            assert!(self.now < 3_600_000, "an hour: {:?}", self.plan);
        }
    }

    fn later(&mut self, millis: i64, next: Next) {
        self.count += 1;
        self.to_come.insert((self.now + millis, self.count), next);
    }

    /// What the server says of a file.
    fn list(&self, file: &FileName) -> Vec<(UserName, ChunkSet)> {
        let online = self.holders.iter().filter(|(_, holder)| holder.online);
        let chunks = |holder: &Holder| holder.chunks.get(file).cloned().unwrap_or_default();
        online.map(|(user, holder)| (user.clone(), chunks(holder))).collect()
    }

    fn tell(&mut self, event: Event) {
        let mut orders = Vec::new();
        self.plan.handle(self.now, event, &mut orders);
        for order in orders {
            self.obey(order);
        }
        let asked: Vec<_> = self.holders.values().flat_map(|holder| &holder.asked).collect();
        assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), asked.len(), "no chunk is asked for twice");
        assert!(self.holders.values().filter(|holder| holder.connected).count() <= HOLDERS_MAX);
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Dial(user) => {
                let delay = self.dice.roll(100) as i64;
                let holder = self.holders.get_mut(&user).expect("known");
                assert!(!holder.connected, "one connection to each");
                (holder.connected, holder.hung_up, holder.given) = (true, false, 0);
                match holder.kind {
                    Kind::Silent => {}
                    Kind::Unreachable => self.later(delay, Next::End(user, Why::Unreachable)),
                    _ if !holder.online => self.later(delay, Next::End(user, Why::Unreachable)),
                    _ => self.later(delay, Next::Tell(Event::Opened(user))),
                }
            }
            Order::Fetch(user, file, chunk) => {
                let holder = self.holders.get_mut(&user).expect("known");
                assert!(holder.connected && !holder.hung_up);
                assert!(holder.chunks[&file].contains(chunk), "only what he has");
                holder.asked.push_back((file, chunk));
                assert!(holder.asked.len() <= WINDOW_CHUNKS_MAX);
                let pace = holder.pace;
                if holder.asked.len() == 1 {
                    self.later(pace, Next::Answer(user));
                }
            }
            Order::HangUp(user) => {
                let delay = self.dice.roll(100) as i64;
                let holder = self.holders.get_mut(&user).expect("known");
                assert!(holder.connected && !holder.hung_up);
                holder.hung_up = true;
                self.later(delay, Next::End(user, Why::Left));
            }
            Order::LookUp(file) => self.later(5, Next::List(file)),
            Order::Keep(file, chunk) => {
                let file = self.files.get_mut(&file).expect("known");
                let place = file.manifest.place(chunk);
                let place = place.start as usize..place.end as usize;
                assert_eq!(file.part[place.clone()], file.bytes[place], "what is kept is right");
                assert!(
                    file.wanted.contains(chunk) && file.kept.insert(chunk),
                    "and was asked for, and not kept before"
                );
            }
            Order::Dropped(user, why) => self.dropped.push((user, why)),
            Order::Progress(progress) => self.told.push((progress.file, progress.percent)),
            Order::Ended(summary) => {
                let file = self.files.get_mut(&summary.file).expect("known");
                let left: BTreeSet<u32> = summary.gaps.iter().copied().collect();
                assert!(file.wanted.iter().all(|chunk| file.kept.contains(&chunk) != left.contains(&chunk)));
                assert_eq!(summary.from.values().sum::<u32>() as usize, file.kept.len());
                assert!(file.summary.replace(summary).is_none(), "it ends once");
            }
        }
    }

    fn happen(&mut self, next: Next) {
        match next {
            Next::Tell(Event::Opened(user)) if self.holders[&user].hung_up => {}
            Next::Tell(event) => self.tell(event),
            Next::List(file) => {
                let holders = self.list(&file);
                self.tell(Event::Holders(file, holders));
            }
            Next::Answer(user) => self.answer(&user),
            Next::End(user, why) => {
                let holder = self.holders.get_mut(&user).expect("known");
                if std::mem::take(&mut holder.connected) {
                    // The last moment in which something of this connection is written.
                    let asked = std::mem::take(&mut holder.asked);
                    if let Some((file, chunk)) = asked.front() {
                        self.write(file, *chunk, b"remains");
                    }
                    self.tell(Event::Closed(user, why));
                }
            }
        }
    }

    fn write(&mut self, file: &FileName, chunk: u32, bytes: &[u8]) {
        let file = self.files.get_mut(file).expect("known");
        assert!(!file.kept.contains(&chunk), "nobody writes where something is kept");
        let place = file.manifest.place(chunk);
        let part = &mut file.part[place.start as usize..place.end as usize];
        let count = part.len().min(bytes.len());
        part[..count].copy_from_slice(&bytes[..count]);
    }

    /// A holder sends what he is asked for, or what he likes.
    fn answer(&mut self, user: &UserName) {
        let holder = self.holders.get_mut(user).expect("known");
        if !holder.connected || holder.hung_up {
            return;
        }
        let Some((name, chunk)) = holder.asked.front().cloned() else { return };
        let (kind, pace) = (holder.kind, holder.pace);
        holder.given += 1;
        let given = holder.given;
        let file = &self.files[&name];
        let place = file.manifest.place(chunk);
        let mut bytes = file.bytes[place.start as usize..place.end as usize].to_vec();
        let end = |world: &mut Self, why| world.later(1, Next::End(user.clone(), why));
        match kind {
            Kind::Truncates => return end(self, Why::Lied),
            Kind::Swaps { says: true } => {
                let other = (chunk + 1) % file.manifest.chunks();
                let hash = file.manifest.hashes[other as usize];
                if other != chunk {
                    return self.tell(Event::Fetched(user.clone(), name, other, hash));
                }
            }
            Kind::Swaps { says: false } => {
                let other = file.manifest.place((chunk + 1) % file.manifest.chunks());
                let other = &file.bytes[other.start as usize..other.end as usize];
                bytes = other.iter().copied().chain(std::iter::repeat(0)).take(bytes.len()).collect();
            }
            Kind::Flips => {
                if let Some(byte) = bytes.first_mut() {
                    *byte ^= 4;
                }
            }
            Kind::Stalls => {
                self.write(&name, chunk, &bytes[..bytes.len() / 2]);
                return self.tell(Event::Moved(user.clone(), bytes.len() as u64 / 2));
            }
            Kind::Drips => {
                self.later(3000, Next::Answer(user.clone()));
                return self.tell(Event::Moved(user.clone(), 1));
            }
            Kind::Leaves if given > 3 => {
                holder_of(&mut self.holders, user).online = false;
                return end(self, Why::Left);
            }
            Kind::Refuses => {
                let holder = holder_of(&mut self.holders, user);
                holder.asked.pop_front();
                if !holder.asked.is_empty() {
                    self.later(pace, Next::Answer(user.clone()));
                }
                return self.tell(Event::Refused(user.clone()));
            }
            _ => {}
        }
        self.write(&name, chunk, &bytes);
        let holder = holder_of(&mut self.holders, user);
        holder.asked.pop_front();
        if kind == Kind::Adds {
            end(self, Why::Lied);
        } else if !holder.asked.is_empty() {
            self.later(pace, Next::Answer(user.clone()));
        }
        self.tell(Event::Moved(user.clone(), bytes.len() as u64));
        self.tell(Event::Fetched(user.clone(), name, chunk, hash(&bytes)));
    }
}

fn holder_of<'a>(holders: &'a mut BTreeMap<UserName, Holder>, user: &UserName) -> &'a mut Holder {
    holders.get_mut(user).expect("known")
}

fn random_file(dice: &mut Dice, name: &str) -> File {
    let size = [0, 1, 7, 100, 5000, 40_000][dice.pick(6)];
    let bytes = (0..size).map(|_| dice.roll(256) as u8).collect();
    let chunks = [1, 2, 10, 100, 300][dice.pick(5)];
    file(name, bytes, chunks)
}

#[test]
fn a_hundred_files_come_whole_from_ten_holders_of_whom_three_lie() {
    for seed in 0..100 {
        let mut dice = Dice(seed);
        let kinds: Vec<Kind> = (0..10).map(|at| if at % 3 == 1 { LIES[dice.pick(5)] } else { Kind::Honest }).collect();
        let bytes: Vec<u8> = (0..30_000).map(|_| dice.roll(256) as u8).collect();
        let mut world = World::new(seed, &kinds, vec![file("a.bin", bytes, 100)]);
        world.play();
        let file = world.files.first_entry().expect("there is one").remove();
        assert_eq!(file.summary.expect("it ended").gaps, [], "seed {seed}");
        assert!(file.part == file.bytes, "seed {seed}");
        let liars: BTreeSet<_> =
            world.dropped.iter().filter(|(_, why)| *why == Why::Lied).map(|(user, _)| user).collect();
        for (at, kind) in kinds.iter().enumerate() {
            let given = world.holders[&user(at)].given;
            assert_eq!(liars.contains(&user(at)), kind.lies() && given > 0, "seed {seed}: {at} {kind:?} gave {given}");
        }
        assert!(!liars.is_empty());
    }
}

#[test]
fn whatever_goes_wrong_all_comes_that_somebody_gives() {
    for seed in 0..2000 {
        let mut dice = Dice(seed);
        let count = 1 + dice.pick(12);
        let kinds: Vec<Kind> = (0..count)
            .map(|_| match dice.roll(3) {
                0 => LIES[dice.pick(LIES.len())],
                1 => FAULTS[dice.pick(FAULTS.len())],
                _ => Kind::Honest,
            })
            .collect();
        let files = (0..1 + dice.pick(3)).map(|at| random_file(&mut dice, &format!("f{at}"))).collect();
        let mut world = World::new(seed, &kinds, files);
        for holder in world.holders.values_mut() {
            for (name, chunks) in &mut holder.chunks {
                let share = [100, 100, 50, 5][dice.pick(4)];
                let some = world.files[name].wanted.iter().filter(|_| dice.roll(100) < share).collect::<Vec<_>>();
                *chunks = some.into_iter().collect();
            }
        }
        world.play();
        for (name, file) in &world.files {
            let gaps = &file.summary.as_ref().expect("it ended").gaps;
            let honest = world.holders.values().filter(|holder| holder.kind == Kind::Honest);
            let given: BTreeSet<u32> = honest.flat_map(|holder| holder.chunks[name].iter()).collect();
            assert!(gaps.iter().all(|chunk| !given.contains(chunk)), "seed {seed}: {gaps:?} of {name:?}");
            for &chunk in &file.kept {
                let place = file.manifest.place(chunk);
                let place = place.start as usize..place.end as usize;
                assert!(file.part[place.clone()] == file.bytes[place], "seed {seed}: chunk {chunk} stays right");
            }
        }
        let lied = |at: usize| world.dropped.contains(&(user(at), Why::Lied));
        assert!((0..count).all(|at| kinds[at].lies() || !lied(at)), "seed {seed}: who is honest is not called a liar");
    }
}

#[test]
fn two_full_holders_both_serve() {
    for seed in 0..50 {
        let mut world = World::new(seed, &[Kind::Honest; 2], vec![file("a", vec![7; 1000], 10)]);
        world.play();
        let summary = world.files.pop_first().expect("one").1.summary.expect("ended");
        assert_eq!(summary.from.into_values().collect::<Vec<_>>(), [5, 5]);
    }
}

#[test]
fn only_what_is_wanted_comes_and_progress_is_told_by_tens() {
    let mut one = file("a", (0..100_000u32).map(|n| n as u8).collect(), 100);
    one.wanted = [3, 5].into_iter().collect();
    let two = file("b", vec![1; 100_000], 100);
    let empty = file("c", Vec::new(), 20);
    let mut world = World::new(3, &[Kind::Honest], vec![one, two, empty]);
    world.play();
    let [a, b, c] = ["a", "b", "c"].map(|name| FileName::parse(name).expect("a name"));
    assert_eq!(world.files[&a].kept, BTreeSet::from([3, 5]));
    let told =
        |name: &FileName| world.told.iter().filter(|(file, _)| file == name).map(|told| told.1).collect::<Vec<_>>();
    assert_eq!((told(&a), told(&b)), (vec![50], (1..10).map(|tens| tens * 10).collect()));
    assert_eq!(told(&c), told(&b));
}

#[test]
fn the_rare_chunks_come_first() {
    let mut world = World::new(1, &[Kind::Honest; 3], vec![file("a", vec![9; 6000], 60)]);
    let name = world.files.keys().next().expect("one").clone();
    // Chunks 50 to 59 are with u0 alone.
    for at in [1, 2] {
        holder_of(&mut world.holders, &user(at)).chunks.insert(name.clone(), ChunkSet::first(50));
    }
    let (manifest, wanted, holders) = (world.files[&name].manifest.clone(), ChunkSet::first(60), world.list(&name));
    let mut orders = Vec::new();
    world.plan.handle(0, Event::Begin { manifest, wanted, holders }, &mut orders);
    orders.clear();
    world.plan.handle(0, Event::Opened(user(0)), &mut orders);
    let first: BTreeSet<u32> = orders
        .iter()
        .filter_map(|order| if let Order::Fetch(_, _, chunk) = order { Some(*chunk) } else { None })
        .take(10)
        .collect();
    assert_eq!(first, BTreeSet::from_iter(50..60));
}

#[test]
fn nobody_to_ask_means_gaps_at_once() {
    let mut world = World::new(1, &[], vec![file("a", vec![9; 60], 3)]);
    world.play();
    assert_eq!(world.now, 0);
    assert_eq!(world.files.pop_first().expect("one").1.summary.expect("ended").gaps, [0, 1, 2]);
}

#[test]
fn a_holder_who_appears_later_is_used() {
    let mut world = World::new(1, &[Kind::Honest; 2], vec![file("a", vec![9; 100_000], 1000)]);
    holder_of(&mut world.holders, &user(0)).pace = 100;
    holder_of(&mut world.holders, &user(1)).online = false;
    let name = world.files.keys().next().expect("one").clone();
    let (manifest, wanted, holders) = (world.files[&name].manifest.clone(), ChunkSet::first(1000), world.list(&name));
    world.tell(Event::Begin { manifest, wanted, holders });
    holder_of(&mut world.holders, &user(1)).online = true;
    while !world.plan.is_empty() {
        let ((at, _), next) = world.to_come.pop_first().expect("something to come");
        world.now = at;
        world.tell(Event::Tick);
        world.happen(next);
    }
    let summary = world.files.pop_first().expect("one").1.summary.expect("ended");
    assert!(summary.gaps.is_empty() && summary.from[&user(1)] > 0, "{summary:?}");
}
