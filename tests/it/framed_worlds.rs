//! Random worlds of framed users and a line user: clients that hang, refuse, reset, move and fall
//! silent. Whatever was accepted is shown once, in order, or once more with a mark; and everybody
//! hears of every coming and going once.

use std::collections::HashMap;

use crate::dice::Dice;
use crate::play::{Act, Ear, Setup, Stage};
use crate::pure::Pure;

/// Worlds that are played; `CHINWAG_FRAMED_WORLDS` asks for another number.
const WORLDS: u64 = 60;

const ACTS: usize = 150;

/// Who sits where: users 0 and 1 have two framed clients each, user 2 one, user 3 is at netcat.
const SEATS: [(char, usize); 6] = [('1', 0), ('2', 0), ('3', 1), ('4', 1), ('5', 2), ('a', 3)];

const USERS: [(&str, &str); 4] = [("yoda", "wise"), ("hans", "falcon"), ("luke", "skywalker"), ("vader", "sithlord")];

struct World {
    stage: Pure,
    dice: Dice,
    script: Vec<String>,
    /// Texts that were accepted, with sender and receiver; the number is the text.
    sent: Vec<(usize, usize)>,
    /// What each seat was shown, in order: the text, and whether it was marked as repeated.
    shown: HashMap<char, Vec<(usize, bool)>>,
    /// Whom each seat takes for present.
    present: HashMap<(char, usize), bool>,
    netcat_is_in: bool,
}

fn user_of(seat: char) -> usize {
    SEATS.iter().find(|(other, _)| *other == seat).map(|&(_, user)| user).expect("a seat")
}

fn user_named(name: &str) -> Option<usize> {
    USERS.iter().position(|(user, _)| *user == name)
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            stage: Pure::new(&Setup::default()),
            dice: Dice(seed),
            script: Vec::new(),
            sent: Vec::new(),
            shown: HashMap::new(),
            present: HashMap::new(),
            netcat_is_in: false,
        }
    }

    fn perform(&mut self, act: &Act) -> Vec<String> {
        self.script.push(act.to_string());
        let seen = self.stage.perform(act);
        self.script.extend(seen.iter().map(|line| format!("    {line}")));
        for line in &seen {
            self.note(line);
        }
        seen
    }

    fn note(&mut self, line: &str) {
        if line == "a closed" {
            self.netcat_is_in = false;
        }
        let Some((seat, said)) = line.split_once("< ") else { return };
        let Some(seat) = seat.chars().next().filter(|_| seat.len() == 1) else { return };
        let moved = [(" has logged on.", true), (" logged in", true), (" is offline.", false), (" logged out", false)]
            .into_iter()
            .find_map(|(words, came)| Some((user_named(said.strip_suffix(words)?)?, came)));
        if let Some((user, came)) = moved {
            let before = self.present.insert((seat, user), came);
            assert_ne!(before, Some(came), "{seat} hears twice that {said}");
        } else if let Some((_, text)) = said.split_once(": text ").or_else(|| said.split_once("]: text ")) {
            let text: usize = text.parse().expect("a number");
            self.shown.entry(seat).or_default().push((text, said.contains("perhaps repeated")));
        }
    }

    /// A new session at this seat knows of nobody yet.
    fn log_in(&mut self, seat: char) {
        let (name, password) = USERS[user_of(seat)];
        self.present.retain(|(other, _), _| *other != seat);
        let line = if seat == 'a' { format!("{name} {password}") } else { format!("login {name} {password}") };
        self.perform(&Act::Send(seat, line));
        self.netcat_is_in |= seat == 'a';
    }

    fn step(&mut self) {
        let (seat, user) = SEATS[self.dice.pick(SEATS.len())];
        let framed = seat != 'a';
        match self.dice.pick(20) {
            0..2 if framed || !self.netcat_is_in => self.log_in(seat),
            2 if framed => drop(self.perform(&Act::Moves(seat))),
            3..6 if framed => {
                let ear = [Ear::Refuses, Ear::Resets, Ear::Hangs][self.dice.pick(3)];
                self.perform(&Act::Ear(seat, ear));
            }
            6..9 if framed => drop(self.perform(&Act::Ear(seat, Ear::Listens))),
            9 if framed || self.netcat_is_in => {
                self.perform(&Act::Send(seat, "logout".to_owned()));
            }
            10 => {
                let millis = 1_000 * (1 + i64::try_from(self.dice.pick(12)).expect("small"));
                self.perform(&Act::Pass(millis));
            }
            11 if framed => drop(self.perform(&Act::Send(seat, "heartbeat".to_owned()))),
            _ if framed || self.netcat_is_in => self.write(seat, user),
            _ => {}
        }
    }

    fn write(&mut self, seat: char, from: usize) {
        let to = (from + 1 + self.dice.pick(USERS.len() - 1)) % USERS.len();
        let line = format!("message {} text {}", USERS[to].0, self.sent.len());
        // The place is taken before anything is shown.
        self.sent.push((from, to));
        let seen = self.perform(&Act::Send(seat, line));
        if seen.iter().any(|line| line.starts_with(&format!("{seat}= Error"))) {
            // Not accepted: it is nobody's.
            self.sent.pop();
        }
    }

    /// Everybody comes back, at the first seat, and takes what waits.
    fn settle(&mut self) {
        for (seat, _) in SEATS.into_iter().filter(|(seat, _)| *seat != 'a') {
            self.perform(&Act::Ear(seat, Ear::Listens));
        }
        for seat in ['1', '3', '5'] {
            self.log_in(seat);
        }
        if !self.netcat_is_in {
            self.log_in('a');
        }
    }

    fn judge(&self) {
        for (text, &(from, to)) in self.sent.iter().enumerate() {
            let seats = self.shown.iter().filter(|(seat, _)| user_of(**seat) == to);
            let all = seats.flat_map(|(_, shown)| shown).filter(|(other, _)| *other == text);
            let shown: Vec<bool> = all.map(|&(_, again)| again).collect();
            assert!(!shown.is_empty(), "text {text} from {from} is lost to {to}");
            let unmarked = shown.iter().filter(|again| !**again).count();
            assert!(unmarked <= 1, "text {text} from {from} is shown to {to} {unmarked} times without a mark");
        }
        for shown in self.shown.values() {
            for from in 0..USERS.len() {
                // What comes once more comes late; the others keep their order.
                let firsts = shown.iter().filter(|(text, again)| !again && self.sent[*text].0 == from);
                let texts: Vec<usize> = firsts.map(|&(text, _)| text).collect();
                assert!(texts.is_sorted(), "texts of {from} are out of order: {texts:?}");
            }
        }
    }
}

#[test]
fn no_world_loses_or_doubles_a_text() {
    let worlds = std::env::var("CHINWAG_FRAMED_WORLDS").map_or(WORLDS, |number| number.parse().expect("a number"));
    let mut said = 0;
    for seed in 0..worlds {
        let mut world = World::new(seed);
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..ACTS {
                world.step();
            }
            world.settle();
            world.judge();
        }));
        if let Err(panic) = played {
            println!("seed {seed}:\n{}", world.script.join("\n"));
            std::panic::resume_unwind(panic);
        }
        said += world.sent.len();
    }
    println!("{said} texts in {worlds} worlds");
    assert!(said as u64 > 10 * worlds, "little was said");
}
