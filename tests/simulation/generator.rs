//! A seed made into acts: a few users who get in each other's way, at a few seats.

use chinwag::client::state::Question;
use chinwag::server::ids::ConnId;
use chinwag::wire::{self, Mode};

use crate::dice::Dice;
use chinwag::server::state::MAILBOX_MESSAGES_MAX;

use crate::play::{ACCOUNTS, Act, Disk, Ear, Setup};
use crate::world::World;

/// Bare connections, our client in a pipe, our client with a person.
const SEATS: [char; 7] = ['a', 'b', 'c', 'd', 'A', 'B', 'N'];

/// Framed clients; a seed has some of them, or none.
pub(crate) const FRAMED: [char; 3] = ['1', '2', '3'];

/// Users who act; the last of the accounts only looks odd.
const USERS: usize = 5;

/// Names that groups get; one is a user's too, one has a tilde, and one is illegal.
const GROUPS: [&str; 5] = ["g", "rebels", "luke", "x~y", "a/b"];

/// Names in a list, not all of them good.
const LISTED: usize = USERS + 1;

/// From where connections come; two of them are one network.
const SOURCES: [&str; 4] = ["127.0.0.1", "192.0.2.7", "2001:db8::1", "2001:db8::2"];

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
    seats: Vec<char>,
    texts: u32,
    /// Acts that are due: the rest of a burst.
    due: Vec<Act>,
}

impl Generator {
    pub(crate) fn new(mut random: Random) -> Self {
        let framed = random.below(FRAMED.len() + 1);
        let seats = SEATS.into_iter().chain(FRAMED.into_iter().take(framed)).collect();
        Self { random, seats, texts: 0, due: Vec::new() }
    }

    pub(crate) fn next(&mut self, world: &World) -> Act {
        if let Some(act) = self.due.pop() {
            return act;
        }
        let seat = self.random.0.pick(self.seats.len());
        let seat = self.seats[seat];
        match self.random.below(1000) {
            0..4 => Act::Crash,
            4..60 => self.disk(world.disk()),
            155..235 => self.pass(world),
            _ if seat.is_ascii_digit() => self.framed(world, seat),
            60..85 => Act::Cut(seat),
            85..95 => Act::Dead(self.random.pick(&SEATS[4..])),
            95..100 => Act::Killed(seat),
            100..110 => Act::EndOfInput(seat),
            110..120 => Act::Stall(seat),
            120..140 => Act::Sleep(seat),
            140..155 => Act::Drain(seat),
            235..237 => self.burst(world, seat),
            237..247 if seat.is_ascii_lowercase() && world.conn_of(seat).is_none() => {
                Act::From(seat, self.random.pick(&SOURCES).parse().expect("an address"))
            }
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

    // Framed clients.

    fn framed(&mut self, world: &World, seat: char) -> Act {
        let listens = world.framed.ear(seat) == Ear::Listens;
        match self.random.below(100) {
            0..40 if !listens => Act::Ear(seat, Ear::Listens),
            0..8 => {
                let ears = [Ear::Hangs, Ear::Hangs, Ear::Hangs, Ear::Resets, Ear::Refuses, Ear::Vanishes];
                Act::Ear(seat, self.random.pick(&ears))
            }
            8..10 => Act::Moves(seat),
            10..12 => Act::Cut(seat),
            12 => Act::From(seat, self.random.pick(&SOURCES).parse().expect("an address")),
            _ => Act::Send(seat, self.framed_line(world, seat)),
        }
    }

    fn framed_line(&mut self, world: &World, seat: char) -> String {
        if world.framed.is_entering(seat) && self.random.percent(60) {
            return if self.random.percent(85) { "listen" } else { "listen localhost" }.to_owned();
        }
        let is_in = world.framed.pass(seat).is_some_and(|(user, token)| world.model.let_in(user, token).is_some());
        let asker = world.framed.pass(seat).and_then(|(user, _)| world.model.asker_of(user));
        if let Some(asker) = asker.filter(|_| is_in && self.random.percent(30)) {
            return format!("{} {asker}", self.random.pick(&["allow", "allow", "allow", "deny"]));
        }
        match self.random.below(100) {
            0..3 => format!("old {}", self.request()),
            3..5 => format!("as {} {}", self.user(), self.request()),
            5 => self.random.pick(&["frame ONL", "frame XYZ|yoda|1|", "frame MSG|yoda|1|hans", "frame LIN"]).to_owned(),
            6..8 => format!("try {}", self.name_and_password(seat)),
            8..12 => format!("login {}", self.name_and_password(seat)),
            12..60 if !is_in => format!("login {}", self.name_and_password(seat)),
            60..62 if !is_in => format!("login {} example.org", self.name_and_password(seat)),
            62..64 if !is_in => format!("login {} 192.0.2.7", self.name_and_password(seat)),
            64..80 if !is_in => format!("try {}", self.name_and_password(seat)),
            _ => self.request(),
        }
    }

    fn name_and_password(&mut self, seat: char) -> String {
        let own = usize::from(seat as u8 - b'1') % USERS;
        let at = if self.random.percent(70) { own } else { self.random.below(USERS) };
        let (name, password) = ACCOUNTS[at];
        match self.random.below(12) {
            0 => "nobody wrong".to_owned(),
            1 | 2 => format!("{name} wrong"),
            _ => format!("{name} {password}"),
        }
    }

    fn request(&mut self) -> String {
        let (user, text) = (self.user(), self.text());
        match self.random.below(100) {
            0..44 => format!("message {user} {text}"),
            44..50 => format!("broadcast {text}"),
            50..53 => format!("block {user}"),
            53..56 => format!("unblock {user}"),
            56..59 => "whoelse".to_owned(),
            59..65 => format!("getaddress {user}"),
            65 => format!("allow {user}"),
            66 => format!("deny {user}"),
            67 => format!("message nobody {text}"),
            68 => "logout".to_owned(),
            _ => "heartbeat".to_owned(),
        }
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
                Some(_) => self.talk(world, id),
            };
        }
        let right = id.and_then(|id| world.model.asked_password(id));
        match (id, right) {
            (_, Some(right)) if self.random.percent(70) => right.to_owned(),
            (_, Some(_)) => "wrong".to_owned(),
            (Some(online), None) if world.model.is_online(online) => self.talk(world, id),
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

    /// What somebody who is logged in types: most of it has a meaning in his mode.
    fn talk(&mut self, world: &World, id: Option<ConnId>) -> String {
        let (mode, question) = id.map_or((Mode::Command, None), |id| world.model.mode_at(id));
        let line = match mode {
            Mode::Command => return self.command(world, id),
            _ if self.random.percent(30) => return self.command_in_mode(world, id),
            Mode::General => self.text(),
            Mode::Direct => {
                let user = self.user();
                self.addressed(user)
            }
            Mode::Group => self.talk_in_group(world, id, question),
        };
        if self.random.percent(4) { format!("//{line}") } else { line }
    }

    /// `name~text`, also with a text that has a tilde, and in wrong forms.
    fn addressed(&mut self, name: &str) -> String {
        let text = self.text();
        match self.random.below(20) {
            0 | 1 => format!("{name}~{text}~more"),
            2 => text,
            3 => format!("~{text}"),
            4 => format!("nobody~{text}"),
            5 => format!(" {name} ~ {text}"),
            _ => format!("{name}~{text}"),
        }
    }

    fn talk_in_group(&mut self, world: &World, id: Option<ConnId>, question: Option<wire::Question>) -> String {
        let group = self.group(world, id, false);
        match question {
            Some(wire::Question::Create) if self.random.percent(60) => {
                self.random.pick(&["y", "n", "yes", "no", "perhaps"]).to_owned()
            }
            Some(wire::Question::Name) => self.random.pick(&GROUPS).to_owned(),
            Some(wire::Question::Members) if self.random.percent(25) => "~".to_owned(),
            Some(wire::Question::Members) => self.names().join(" ~"),
            _ => self.addressed(&group),
        }
    }

    /// A command in a chat mode begins with a slash.
    fn command_in_mode(&mut self, world: &World, id: Option<ConnId>) -> String {
        match self.random.below(10) {
            0..4 => "/exit".to_owned(),
            4 | 5 => self.mode(),
            6 if self.random.percent(30) => "/leave".to_owned(),
            _ => format!("/{}", self.command(world, id).trim_start_matches('/')),
        }
    }

    fn mode(&mut self) -> String {
        self.random.pick(&["/general", "/direct", "/group"]).to_owned()
    }

    fn command(&mut self, world: &World, id: Option<ConnId>) -> String {
        let (user, text) = (self.user(), self.text());
        match self.random.below(100) {
            0..38 => format!("message {user} {text}"),
            38..43 => format!("broadcast {text}"),
            43..47 => format!("block {user}"),
            47..52 => format!("unblock {user}"),
            52..54 => "whoelse".to_owned(),
            54..57 => format!("whoelsesince {}", self.random.pick(&[0, 1, 5, 10, 60, 1000])),
            57..60 => format!("status {user}"),
            60 => self.random.pick(&["help", "help group", "help /add", "help nonsense"]).to_owned(),
            61 => "hello".to_owned(),
            62 => {
                self.random.pick(&["message", "group", "group add g", "/rename a b c", "receipts perhaps"]).to_owned()
            }
            63 => format!("message nobody {text}"),
            64..69 => {
                self.random.pick(&["receipts on", "receipts on", "receipts on", "receipts off", "receipts"]).to_owned()
            }
            69..74 => self.mode(),
            74 => "/exit".to_owned(),
            75..97 => self.group_command(world, id, &text),
            _ => "logout".to_owned(),
        }
    }

    fn group_command(&mut self, world: &World, id: Option<ConnId>, text: &str) -> String {
        let (mine, any) = (self.group(world, id, true), self.group(world, id, false));
        let (names, user, fresh) = (self.names().join(" "), self.user(), self.random.pick(&GROUPS));
        match self.random.below(100) {
            0..14 => format!("group create {fresh} {names}"),
            14..48 => format!("group send {any} {text}"),
            48..56 => format!("group add {mine} {names}"),
            56..62 => format!("group kick {mine} {names}"),
            62..67 => format!("group rename {mine} {fresh}"),
            67..71 => format!("group owner {mine} {user}"),
            71..75 => format!("group leave {any}"),
            75..77 => format!("group delete {mine}"),
            77..80 => format!("group members {any}"),
            80..84 => "groups".to_owned(),
            84..87 => format!("/add {names}"),
            87..89 => format!("/add {mine} {user}"),
            89..92 => format!("/kick {names}"),
            92..94 => format!("/rename {fresh}"),
            94 => format!("/rename {mine} {fresh}"),
            95..98 => "/members".to_owned(),
            98 => format!("/members {any}"),
            _ => format!("group add {mine}{}", " luke".repeat(65)),
        }
    }

    /// The name of a group: most often one's own.
    fn group(&mut self, world: &World, id: Option<ConnId>, owned: bool) -> String {
        let mut groups = id.map_or_else(Vec::new, |id| world.model.groups_at(id));
        groups.retain(|(_, is_mine)| *is_mine || !owned);
        if groups.is_empty() || self.random.percent(12) {
            return self.random.pick(&GROUPS).to_owned();
        }
        let at = self.random.below(groups.len());
        groups.swap_remove(at).0
    }

    fn names(&mut self) -> Vec<&'static str> {
        let count = 1 + self.random.below(4);
        let name = |at: usize| if at < USERS { ACCOUNTS[at].0 } else { "nobody" };
        (0..count).map(|_| name(self.random.below(LISTED))).collect()
    }
}

/// How every run ends: all comes to rest, everybody reads what waits, and once more after a crash.
pub(crate) fn epilogue() -> Vec<Act> {
    let mut acts = vec![Act::Disk(Disk::Works)];
    acts.extend(SEATS.map(Act::Drain));
    acts.extend(FRAMED.map(|seat| Act::Ear(seat, Ear::Listens)));
    acts.push(Act::Pass(5_000));
    // Our clients come back, dead links are noticed, what the disk refused is tried again.
    acts.push(Act::Pass(45_000));
    acts.extend(SEATS.map(Act::EndOfInput));
    acts.extend(FRAMED.map(|seat| Act::Send(seat, "logout".to_owned())));
    acts.extend(SEATS[4..].iter().copied().map(Act::Killed));
    acts.push(Act::Pass(45_000));
    // Groups are as they were, and what was seen meanwhile is told.
    let questions =
        |seat| ["groups", "group members g", "group members rebels"].map(|line| Act::Send(seat, line.to_owned()));
    for crash in [true, false] {
        acts.extend(
            ACCOUNTS[..USERS]
                .iter()
                .zip('e'..)
                .map(|((name, password), seat)| Act::Send(seat, format!("{name} {password}"))),
        );
        acts.extend(('e'..).take(USERS).flat_map(questions));
        if crash {
            acts.extend(('e'..).take(USERS).map(|seat| Act::Send(seat, "logout".to_owned())));
            acts.push(Act::Crash);
        }
    }
    // Nothing is left of anybody.
    acts.extend([Act::Send('z', "nobody".to_owned()), Act::Cut('z'), Act::Stop, Act::Pass(15_000)]);
    acts
}
