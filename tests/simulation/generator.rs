//! A seed made into acts: a few users who get in each other's way, at a few seats.

use chinwag::client::state::Question;

use crate::dice::Dice;
use chinwag::server::state::MAILBOX_MESSAGES_MAX;

use crate::play::{ACCOUNTS, Act, Disk, Setup};
use crate::world::World;

/// Bare connections, our client in a pipe, our client with a person.
const SEATS: [char; 7] = ['a', 'b', 'c', 'd', 'A', 'B', 'N'];

/// Users who act; the last of the accounts only looks odd.
const USERS: usize = 5;

/// Choices out of a seed.
pub(crate) struct Random(Dice);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Seeds that follow each other must not share their numbers.
        Self(Dice(Dice(seed).roll(u64::MAX)))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0.pick(end)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }
}

/// What the server of this run is started with.
pub(crate) fn setup(random: &mut Random) -> Setup {
    Setup {
        block: random.pick(&[0, 3, 20]),
        timeout: random.pick(&[7, 40, 120, 300]),
        hide_blockers: random.percent(25),
        ask_private: false,
        mailbox_max: MAILBOX_MESSAGES_MAX,
        allow_new_users: false,
    }
}

/// Chooses acts one by one, looking at the world.
pub(crate) struct Generator {
    random: Random,
    texts: u32,
    /// Acts that are due: the rest of a burst.
    due: Vec<Act>,
}

impl Generator {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, texts: 0, due: Vec::new() }
    }

    pub(crate) fn next(&mut self, world: &World) -> Act {
        if let Some(act) = self.due.pop() {
            return act;
        }
        let seat = self.random.pick(&SEATS);
        match self.random.below(1000) {
            0..4 => Act::Crash,
            4..60 => self.disk(world.disk()),
            60..85 => Act::Cut(seat),
            85..95 => Act::Dead(self.random.pick(&SEATS[4..])),
            95..100 => Act::Killed(seat),
            100..110 => Act::EndOfInput(seat),
            110..120 => Act::Stall(seat),
            120..140 => Act::Sleep(seat),
            140..155 => Act::Drain(seat),
            155..235 => self.pass(world),
            235..237 => self.burst(world, seat),
            _ if world.is_slow(seat) && self.random.percent(20) => Act::Drain(seat),
            _ => Act::Send(seat, self.line(world, seat)),
        }
    }

    /// A disk that is not well gets well soon.
    fn disk(&mut self, now: Disk) -> Act {
        let next =
            if now == Disk::Works { &[Disk::Waits, Disk::Waits, Disk::Mute, Disk::Fails][..] } else { &[Disk::Works] };
        let also = if now == Disk::Waits && self.random.percent(25) { Disk::Fails } else { self.random.pick(next) };
        Act::Disk(also)
    }

    fn pass(&mut self, world: &World) -> Act {
        let spans: Vec<i64> = world.model.spans(world.now().elapsed).collect();
        let millis = match self.random.below(10) {
            0 | 1 if !spans.is_empty() => self.random.pick(&spans),
            2 if !spans.is_empty() => self.random.pick(&spans) - 1,
            3 => self.random.pick(&[10_000, 20_000, 31_000]),
            4 | 5 => self.random.pick(&[1_000, 3_000, 5_000]),
            _ => self.random.pick(&[1, 20, 200, 400, 999]),
        };
        Act::Pass(millis.max(1))
    }

    /// More texts to one reader than a page or the ring of unconfirmed ones holds.
    fn burst(&mut self, world: &World, seat: char) -> Act {
        let to = self.user();
        if world.conn_of(seat).is_some_and(|id| world.model.is_online(id)) {
            for _ in 0..70 {
                let line = format!("message {to} {}", self.text());
                self.due.push(Act::Send(seat, line));
            }
        }
        Act::Pass(1)
    }

    fn user(&mut self) -> &'static str {
        ACCOUNTS[self.random.below(USERS)].0
    }

    fn text(&mut self) -> String {
        self.texts += 1;
        format!("t{}", self.texts)
    }

    /// What fits best is typed most.
    fn line(&mut self, world: &World, seat: char) -> String {
        let id = world.conn_of(seat);
        if seat.is_ascii_uppercase() {
            return match world.asked(seat) {
                Some(Some(Question::Password)) => {
                    let right = id.and_then(|id| world.model.asked_password(id)).unwrap_or("lost");
                    if self.random.percent(85) { right.to_owned() } else { "wrong".to_owned() }
                }
                None | Some(Some(Question::Name)) => self.log_in(seat),
                Some(_) => self.command(),
            };
        }
        let right = id.and_then(|id| world.model.asked_password(id));
        match (id, right) {
            (_, Some(right)) if self.random.percent(70) => right.to_owned(),
            (_, Some(_)) => "wrong".to_owned(),
            (Some(id), None) if world.model.is_online(id) => self.command(),
            _ => self.log_in(seat),
        }
    }

    /// Everybody has a seat of his own, and sometimes takes another.
    fn log_in(&mut self, seat: char) -> String {
        let own = SEATS.iter().position(|other| *other == seat).unwrap_or(0) % USERS;
        let at = if self.random.percent(70) { own } else { self.random.below(USERS) };
        let (name, password) = ACCOUNTS[at];
        match self.random.below(20) {
            0 => "nobody".to_owned(),
            1 => name.to_owned(),
            2 | 3 => format!("{name} wrong"),
            _ => format!("{name} {password}"),
        }
    }

    fn command(&mut self) -> String {
        let (user, text) = (self.user(), self.text());
        match self.random.below(100) {
            0..58 => format!("message {user} {text}"),
            58..65 => format!("broadcast {text}"),
            65..69 => format!("block {user}"),
            69..74 => format!("unblock {user}"),
            74..78 => "whoelse".to_owned(),
            78..84 => format!("whoelsesince {}", self.random.pick(&[0, 1, 5, 10, 60, 1000])),
            84..90 => format!("status {user}"),
            90..92 => "help".to_owned(),
            92..94 => "hello".to_owned(),
            94 => "message".to_owned(),
            95 => format!("message nobody {text}"),
            _ => "logout".to_owned(),
        }
    }
}

/// How every run ends: all comes to rest, everybody reads what waits, and once more after a crash.
pub(crate) fn epilogue() -> Vec<Act> {
    let mut acts = vec![Act::Disk(Disk::Works)];
    acts.extend(SEATS.map(Act::Drain));
    // Our clients come back, dead links are noticed, what the disk refused is tried again.
    acts.push(Act::Pass(45_000));
    acts.extend(SEATS.map(Act::EndOfInput));
    acts.extend(SEATS[4..].iter().copied().map(Act::Killed));
    acts.push(Act::Pass(45_000));
    for crash in [true, false] {
        acts.extend(
            ACCOUNTS[..USERS]
                .iter()
                .zip('e'..)
                .map(|((name, password), seat)| Act::Send(seat, format!("{name} {password}"))),
        );
        if crash {
            acts.extend(('e'..).take(USERS).map(|seat| Act::Send(seat, "logout".to_owned())));
            acts.push(Act::Crash);
        }
    }
    // Nothing is left of anybody.
    acts.extend([Act::Send('z', "nobody".to_owned()), Act::Cut('z'), Act::Stop, Act::Pass(15_000)]);
    acts
}
