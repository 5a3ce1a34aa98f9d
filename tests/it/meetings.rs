//! Two clients that begin a private session with each other at the same moment, in every order in
//! which things can arrive: two minds, a server that introduces them, and connections between them
//! whose two ends are read independently. A world is played anew for every order, and two orders
//! that lead to the same world are followed once.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use chinwag::client::state::{
    Effect, Event, Hindrance, PING_EVERY, PeerEvent, PeerId, PeerNotice, Question, Rules, Shown, State,
};
use chinwag::wire::Purpose;
use chinwag::wire::peer::Frame;
use chinwag::wire::time::Moment;

/// Two users; the first has the smaller name.
const NAMES: [&str; 2] = ["hans", "luke"];

/// One way in which a world can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// This user types his next line.
    Type(usize),
    /// The server takes the next line from this user.
    Serve(usize),
    /// This user hears the next line of the server.
    Hear(usize),
    /// What comes next on this connection arrives at this end of it: 0 is who has dialled.
    Arrive(usize, usize),
    /// This connection breaks.
    Break(usize),
    /// Nothing else can happen until something must be given up.
    Wait,
}

/// One user.
struct Side {
    mind: State,
    script: VecDeque<&'static str>,
    /// So many lines may be typed.
    asked: usize,
    to_server: VecDeque<String>,
    from_server: VecDeque<String>,
    accepted: u64,
    /// What he has seen of private sessions.
    seen: Vec<PeerNotice>,
}

/// What is read of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Copy)]
enum Reading {
    Nothing,
    OneFrame,
    Everything,
}

#[derive(Debug)]
enum Coming {
    Open,
    Says(Frame),
    End,
}

/// One end of a connection, as the threads of the client treat it.
#[derive(Debug)]
struct End {
    side: usize,
    peer: Option<PeerId>,
    coming: VecDeque<Coming>,
    reading: Reading,
    proven: bool,
    /// Nothing more is said from here.
    closed: bool,
}

struct World {
    sides: [Side; 2],
    wires: Vec<[End; 2]>,
    tickets: u64,
    breaks: usize,
    now: i64,
}

fn rules() -> Rules {
    Rules { person: true, reconnect: true, chat: false, errand: None }
}

impl Side {
    fn new(script: &[&'static str]) -> Self {
        Self {
            mind: State::new(rules(), Moment { elapsed: 0, wall: 0 }),
            script: script.iter().copied().collect(),
            asked: 0,
            to_server: VecDeque::new(),
            from_server: VecDeque::new(),
            accepted: 0,
            seen: Vec::new(),
        }
    }
}

impl World {
    fn new(scripts: &Scripts, breaks: usize) -> Self {
        let sides = [Side::new(scripts[0]), Side::new(scripts[1])];
        let mut world = Self { sides, wires: Vec::new(), tickets: 0, breaks, now: 0 };
        for (side, name) in NAMES.iter().enumerate() {
            world.tell(side, Event::Start);
            world.tell(side, Event::Connected);
            for line in ["Username: hello chinwag/1 S", "ask name"] {
                world.tell(side, Event::Line(line.as_bytes()));
            }
            world.tell(side, Event::Typed(Question::Name, format!("{name} secret").as_bytes()));
            for line in ["ask password", &format!("welcome {name} 5 a")] {
                world.tell(side, Event::Line(line.as_bytes()));
            }
            world.sides[side].to_server.clear();
        }
        world
    }

    fn tell(&mut self, side: usize, event: Event<'_>) {
        let mut effects = Vec::new();
        let now = Moment { elapsed: self.now, wall: 0 };
        self.sides[side].mind.handle(now, event, &mut effects);
        for effect in effects {
            self.carry_out(side, effect);
        }
    }

    fn carry_out(&mut self, side: usize, effect: Effect) {
        match effect {
            Effect::Send(line) => self.sides[side].to_server.push_back(line),
            Effect::Ask(Question::Line) => self.sides[side].asked += 1,
            Effect::Recall(_) => self.tell(side, Event::Recalled(0)),
            Effect::Listen => self.tell(side, Event::Listening(Ok(4711))),
            Effect::Show(_, Shown::Peer(notice, _)) => self.sides[side].seen.push(notice),
            Effect::Dial(peer, _) => {
                let end = |side, peer| End {
                    side,
                    peer,
                    coming: VecDeque::from([Coming::Open]),
                    reading: Reading::OneFrame,
                    proven: false,
                    closed: false,
                };
                self.wires.push([end(side, Some(peer)), end(1 - side, None)]);
            }
            Effect::Tell(peer, frame) => {
                let Some((wire, end)) = self.find(side, peer) else { return };
                if let Frame::Hello(_) | Frame::Proof { .. } = frame {
                    self.wires[wire][end].reading = Reading::OneFrame;
                }
                self.say(wire, end, Coming::Says(frame));
            }
            Effect::Proven(peer, _, purpose) => {
                assert_eq!(purpose, Purpose::Private);
                let Some((wire, end)) = self.find(side, peer) else { return };
                self.wires[wire][end].reading = Reading::Everything;
                self.wires[wire][end].proven = true;
            }
            Effect::HangUp(peer) => {
                let Some((wire, end)) = self.find(side, peer) else { return };
                self.close(wire, end);
            }
            _ => {}
        }
    }

    /// Which end of which connection this is.
    fn find(&self, side: usize, peer: PeerId) -> Option<(usize, usize)> {
        let ends = self.wires.iter().enumerate().flat_map(|(wire, ends)| [(wire, 0, &ends[0]), (wire, 1, &ends[1])]);
        let mut found = ends.filter(|(_, _, end)| end.side == side && end.peer == Some(peer));
        found.next().map(|(wire, end, _)| (wire, end))
    }

    /// Something is said at this end.
    fn say(&mut self, wire: usize, end: usize, what: Coming) {
        let [from, to] = [end, 1 - end];
        if !self.wires[wire][from].closed {
            self.wires[wire][to].coming.push_back(what);
        }
    }

    /// This end hangs up. In a session what still comes is heard; otherwise nothing is.
    fn close(&mut self, wire: usize, end: usize) {
        self.say(wire, end, Coming::End);
        let this = &mut self.wires[wire][end];
        this.closed = true;
        if !this.proven {
            this.coming.clear();
        }
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (number, side) in self.sides.iter().enumerate() {
            if side.asked > 0 && !side.script.is_empty() {
                steps.push(Step::Type(number));
            }
            if !side.to_server.is_empty() {
                steps.push(Step::Serve(number));
            }
            if !side.from_server.is_empty() {
                steps.push(Step::Hear(number));
            }
        }
        for (wire, ends) in self.wires.iter().enumerate() {
            for (number, end) in ends.iter().enumerate() {
                let is_read = match end.coming.front() {
                    None => false,
                    Some(Coming::Open) => true,
                    Some(_) => end.reading != Reading::Nothing,
                };
                if is_read && (end.peer.is_some() || matches!(end.coming.front(), Some(Coming::Open))) {
                    steps.push(Step::Arrive(wire, number));
                }
            }
            if self.breaks > 0 && ends.iter().all(|end| !end.closed) {
                steps.push(Step::Break(wire));
            }
        }
        if steps.is_empty() && self.next().is_some() {
            steps.push(Step::Wait);
        }
        steps
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Type(side) => {
                self.sides[side].asked -= 1;
                let line = self.sides[side].script.pop_front().expect("a line");
                self.tell(side, Event::Typed(Question::Line, line.as_bytes()));
            }
            Step::Serve(side) => {
                let line = self.sides[side].to_server.pop_front().expect("a line");
                self.serve(side, &line);
            }
            Step::Hear(side) => {
                let line = self.sides[side].from_server.pop_front().expect("a line");
                self.tell(side, Event::Line(line.as_bytes()));
            }
            Step::Arrive(wire, end) => self.arrive(wire, end),
            Step::Break(wire) => {
                self.breaks -= 1;
                for end in &mut self.wires[wire] {
                    end.coming.retain(|coming| matches!(coming, Coming::Open));
                    end.coming.push_back(Coming::End);
                    end.closed = true;
                }
            }
            Step::Wait => {
                self.now = self.next().expect("something is due");
                for side in 0..2 {
                    if self.sides[side].mind.deadline().is_some_and(|due| due <= self.now) {
                        self.tell(side, Event::Tick);
                    }
                }
            }
        }
    }

    /// When something must be given up.
    fn next(&self) -> Option<i64> {
        let at = self.sides.iter().filter_map(|side| side.mind.deadline()).min();
        at.filter(|&at| at < PING_EVERY)
    }

    /// As the real one introduces two who may speak to each other.
    fn serve(&mut self, side: usize, line: &str) {
        let Some((tag, typed)) = line.strip_prefix('#').and_then(|rest| rest.split_once(' ')) else { return };
        assert!(typed.starts_with("startprivate "), "{line}");
        self.tickets += 1;
        let (ticket, other) = (self.tickets, 1 - side);
        let expect = format!("expect {} {ticket} abc private", NAMES[side]);
        self.sides[other].from_server.push_back(expect);
        let peer = format!("peer {} 127.0.0.1 4711 {ticket} abc private", NAMES[other]);
        self.sides[side].from_server.extend([peer, format!("done {tag}")]);
    }

    fn arrive(&mut self, wire: usize, end: usize) {
        let this = &mut self.wires[wire][end];
        let (side, coming) = (this.side, this.coming.pop_front().expect("something comes"));
        let peer = *this.peer.get_or_insert_with(|| {
            self.sides[side].accepted += 1;
            PeerId::Accepted(self.sides[side].accepted)
        });
        let event = match coming {
            // What was hung up meanwhile is not heard of.
            Coming::Open if this.closed && end == 0 => return,
            Coming::Open => PeerEvent::Open([127, 0, 0, 1].into(), [1; 16]),
            Coming::Says(frame) => {
                if this.reading == Reading::OneFrame {
                    this.reading = Reading::Nothing;
                }
                PeerEvent::Heard(frame)
            }
            Coming::End => {
                this.reading = Reading::Nothing;
                PeerEvent::Ended
            }
        };
        self.tell(side, Event::Peer(peer, event));
    }

    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for side in &self.sides {
            format!("{:?}", side.mind).hash(&mut hasher);
            (&side.script, side.asked, &side.to_server, &side.from_server, side.accepted).hash(&mut hasher);
            format!("{:?}", side.seen).hash(&mut hasher);
        }
        format!("{:?} {} {} {}", self.wires, self.tickets, self.breaks, self.now).hash(&mut hasher);
        hasher.finish()
    }

    /// What this user has seen, in few words.
    fn seen(&self, side: usize) -> Vec<String> {
        self.sides[side].seen.iter().map(ToString::to_string).collect()
    }

    /// The private texts that have been shown to this user.
    fn texts(&self, side: usize) -> Vec<String> {
        let seen = self.sides[side].seen.iter();
        let text = |notice: &PeerNotice| match notice {
            PeerNotice::Said { text, .. } => Some(text.as_str().to_owned()),
            _ => None,
        };
        seen.filter_map(text).collect()
    }

    /// Whether a session is on, as this user sees it; he never sees two begin or end in a row.
    fn is_on(&self, side: usize) -> bool {
        self.sides[side].seen.iter().fold(false, |is_on, notice| match notice {
            PeerNotice::Started { .. } if is_on => panic!("two sessions: {:?}", self.seen(side)),
            PeerNotice::Ended { .. } if !is_on => panic!("no session ends: {:?}", self.seen(side)),
            PeerNotice::Started { .. } => true,
            PeerNotice::Ended { .. } => false,
            _ => is_on,
        })
    }
}

type Scripts = [&'static [&'static str]; 2];

/// Plays every order, and has each end judged. Returns how many worlds there were, and ends.
fn explore(scripts: &Scripts, breaks: usize, judge: impl Fn(&World)) -> (usize, usize) {
    let (mut known, mut ends) = (HashSet::new(), 0);
    let mut open: Vec<Vec<Step>> = vec![Vec::new()];
    while let Some(mut way) = open.pop() {
        let mut world = World::new(scripts, breaks);
        way.iter().for_each(|&step| world.perform(step));
        // On along one way, with the others kept for another time.
        loop {
            if !known.insert(world.key()) {
                break;
            }
            let steps = world.steps();
            let Some((&first, others)) = steps.split_first() else {
                ends += 1;
                let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| judge(&world)));
                if let Err(panic) = judged {
                    println!("{scripts:?}: {way:?}\nhans: {:#?}\nluke: {:#?}", world.seen(0), world.seen(1));
                    std::panic::resume_unwind(panic);
                }
                break;
            };
            for &other in others {
                let mut other_way = way.clone();
                other_way.push(other);
                open.push(other_way);
            }
            way.push(first);
            world.perform(first);
        }
    }
    (known.len(), ends)
}

const BOTH_START: Scripts = [&["startprivate luke"], &["startprivate hans"]];

const BOTH_TALK: Scripts = [
    &["startprivate luke", "private luke one", "private luke two"],
    &["startprivate hans", "private hans three", "private hans four"],
];

#[test]
fn who_starts_together_has_one_session_in_every_order() {
    for scripts in [BOTH_START, BOTH_TALK] {
        let (worlds, ends) = explore(&scripts, 0, |world| {
            for side in 0..2 {
                let started = world.sides[side].seen.iter().filter(|it| matches!(it, PeerNotice::Started { .. }));
                assert_eq!(started.count(), 1);
                assert!(world.is_on(side));
                let is_fine = |notice: &PeerNotice| {
                    matches!(
                        notice,
                        PeerNotice::Started { .. }
                            | PeerNotice::Said { .. }
                            | PeerNotice::Hindered(Hindrance::AlreadyStarted(_))
                    )
                };
                assert!(world.sides[side].seen.iter().all(is_fine));
                let said = scripts[1 - side].iter().filter_map(|line| line.strip_prefix("private "));
                let said: Vec<&str> = said.map(|words| words.split_once(' ').expect("a text").1).collect();
                assert_eq!(world.texts(side), said, "every text, once, in order");
            }
        });
        println!("{scripts:?}: {worlds} worlds, {ends} ends");
    }
}

/// Who ends a session and begins another at once may be dialling before his end of the first has
/// been heard: each is heard in its order all the same, whoever has the smaller name.
#[test]
fn a_session_that_follows_another_is_told_after_its_end() {
    for (one, other) in [(0, 1), (1, 0)] {
        let mut scripts: Scripts = [&[], &[]];
        scripts[one] = match other {
            0 => {
                &["startprivate hans", "private hans one", "stopprivate hans", "startprivate hans", "private hans two"]
            }
            _ => {
                &["startprivate luke", "private luke one", "stopprivate luke", "startprivate luke", "private luke two"]
            }
        };
        let (worlds, ends) = explore(&scripts, 0, |world| {
            let name = NAMES[one];
            let wanted = [
                format!("{name} started a private session with you"),
                format!("{name}(private): one"),
                format!("Private session with {name} ended (stopped)"),
                format!("{name} started a private session with you"),
                format!("{name}(private): two"),
            ];
            assert_eq!(world.seen(other), wanted);
        });
        println!("{scripts:?}: {worlds} worlds, {ends} ends");
    }
}

/// Stops from both sides, starts from both sides, and connections that break: in the end both have
/// a session or neither has, nobody sees two begin or end in a row, no text comes twice or too
/// early, and who wanted a session and has had none was told.
#[test]
fn both_sides_agree_in_the_end_whatever_breaks() {
    let stops: Scripts =
        [&["startprivate luke", "private luke one", "stopprivate luke"], &["startprivate hans", "stopprivate hans"]];
    let one_sided: Scripts = [&["startprivate luke", "private luke one"], &[]];
    let again: Scripts = [&[], &["startprivate hans", "stopprivate hans", "startprivate hans", "private hans one"]];
    for (scripts, breaks) in [(stops, 0), (BOTH_START, 1), (BOTH_START, 2), (one_sided, 1), (again, 1)] {
        let (worlds, ends) = explore(&scripts, breaks, |world| {
            assert_eq!(world.is_on(0), world.is_on(1), "who has a session?");
            for (side, script) in scripts.iter().enumerate() {
                let texts = world.texts(side);
                assert!(texts.is_sorted() && texts.windows(2).all(|two| two[0] != two[1]), "{texts:?}");
                let has = |wanted: fn(&PeerNotice) -> bool| world.sides[side].seen.iter().any(wanted);
                let wants = script.iter().any(|line| line.starts_with("startprivate"));
                let is_told = has(|it| matches!(it, PeerNotice::Started { .. } | PeerNotice::Hindered(_)));
                assert!(is_told || !wants, "nobody is told");
                assert!(breaks > 0 || !has(|it| matches!(it, PeerNotice::Ended { stopped: false, .. })), "gone");
                assert!(world.sides[side].script.is_empty(), "all could be typed");
            }
        });
        println!("{scripts:?}, {breaks} breaks: {worlds} worlds, {ends} ends");
    }
}
