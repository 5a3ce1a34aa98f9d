//! The pure part of what the hub does, for users who are all here: lines cut and decided, letters
//! spelled. `message.rs` times it, and `tests/allocations.rs` counts in it.

use chinwag::server::ids::ConnId;
use chinwag::server::state::{Effect, Event, MAILBOX_MESSAGES_MAX, Remembered, Rules, State};
use chinwag::wire::line::{Line, LineCutter};
use chinwag::wire::name::UserName;
use chinwag::wire::text::Speller;
use chinwag::wire::time::Moment;

const START: Moment = Moment { elapsed: 0, wall: 0 };

/// A state in which `u0`, `u1` ... are logged in on connections of the same number.
pub(crate) struct Crowd {
    state: State,
    effects: Vec<Effect>,
    speller: Speller,
    cutter: LineCutter,
    out: Vec<u8>,
    millis: i64,
}

impl Crowd {
    pub(crate) fn new(users: u64) -> Self {
        let accounts = (0..users).filter_map(|n| Some((UserName::parse(&format!("u{n}")).ok()?, "secret".to_owned())));
        let rules = Rules {
            block: 0,
            timeout: 1_000_000,
            heartbeat_timeout: 30_000,
            allow_new_users: false,
            hide_blockers: false,
            ask_private: false,
            mailbox_max: MAILBOX_MESSAGES_MAX,
            lobby_max: usize::MAX,
        };
        let mut state = State::new(rules, accounts, Remembered::default(), START, || 7);
        let mut effects = Vec::new();
        for n in 0..users {
            state.handle(START, Event::Opened(ConnId(n), [127, 0, 0, 1].into()), &mut effects);
            state.handle(START, Event::Line(ConnId(n), format!("u{n} secret").as_bytes()), &mut effects);
            effects.clear();
        }
        let speller = Speller::new(jiff::tz::TimeZone::UTC);
        Self { state, effects, speller, cutter: LineCutter::default(), out: Vec::new(), millis: 0 }
    }

    /// A round of the hub in which user `n` has sent these lines: the output, spelled once
    /// however many get it.
    pub(crate) fn say(&mut self, n: u64, mut lines: &[u8]) -> &[u8] {
        // The clock goes on, or the user would run out of lines.
        self.millis += 1;
        let now = Moment { elapsed: self.millis, wall: self.millis };
        self.out.clear();
        while let Some(Line::Whole(line)) = self.cutter.next(&mut lines) {
            self.state.handle(now, Event::Line(ConnId(n), line), &mut self.effects);
        }
        for effect in self.effects.drain(..) {
            if let Effect::Send(_, notice) | Effect::Cast(_, notice) = effect {
                self.speller.spell(&notice, &mut self.out);
            }
        }
        self.state.handle(now, Event::Flushed, &mut self.effects);
        &self.out
    }
}
