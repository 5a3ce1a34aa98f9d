//! Faults in what framed clients ask, and in what is told of pushes to them.

use std::net::IpAddr;

use chinwag::server::ids::ConnId;
use chinwag::server::state::{Ask, Effect, Event, Outcome};
use chinwag::wire::framed::{self, Answer, Asked};
use chinwag::wire::time::Moment;

use super::{Fault, Server};

impl Server {
    /// A request of a framed client.
    pub(super) fn handle_request(
        &mut self,
        fault: Fault,
        now: Moment,
        (id, peer): (ConnId, IpAddr),
        ask: Ask<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let (own, mut frame) = (peer.to_string(), String::new());
        let ask = match (fault, ask) {
            (Fault::OldTokenAccepted, Ask::Request(bytes)) => {
                frame.push_str(&self.renewed(bytes));
                Ask::Request(frame.as_bytes())
            }
            (Fault::HeartbeatIgnored, Ask::Request(bytes)) if bytes.starts_with(b"HEY|") => {
                return effects.push(Effect::Answer(id, Answer::Nothing));
            }
            (Fault::StrangerBetrayed, Ask::LogIn { name: b"nobody", .. })
            | (Fault::FramedMissForgotten, Ask::LogIn { password: b"wrong", .. }) => {
                return effects.push(Effect::Answer(id, Answer::WrongPassword { tries: 2 }));
            }
            (Fault::ForeignTaken, Ask::Listen { port, .. }) => Ask::Listen { host: own.as_bytes(), port },
            (_, ask) => ask,
        };
        self.state.handle(now, Event::Asked(id, peer, ask), effects);
    }

    /// A frame with the newest token of its user instead of an older one.
    fn renewed(&self, frame: &[u8]) -> String {
        let frame_text = String::from_utf8_lossy(frame).into_owned();
        let Ok(Asked::Act { user, token, act }) = framed::parse(frame) else { return frame_text };
        let tokens = || self.given.iter().filter(|(name, _)| name.as_str() == user).map(|(_, token)| *token);
        let is_given = u128::from_str_radix(token, 16).is_ok_and(|token| tokens().any(|given| given == token));
        let newest = tokens().next_back().filter(|_| is_given).map(|newest| format!("{newest:032x}"));
        let renewed = newest.and_then(|token| Asked::Act { user, token: &token, act }.spell());
        renewed.unwrap_or(frame_text)
    }

    /// What became of a push.
    pub(super) fn handle_push(
        &mut self,
        fault: Fault,
        now: Moment,
        (conn, mut number): (ConnId, Option<u64>),
        mut outcome: Outcome,
        effects: &mut Vec<Effect>,
    ) {
        match (fault, outcome) {
            (Fault::PushCalledDone, Outcome::Failed) => outcome = Outcome::Delivered,
            (Fault::DoubtUnmarked, Outcome::Doubtful) => outcome = Outcome::Failed,
            (Fault::PushUnconfirmed, Outcome::Delivered) => number = None,
            (Fault::PushedTextLost, Outcome::Failed) if number.is_some() => {
                self.state.handle(now, Event::Pushed { conn, number, outcome: Outcome::Delivered }, effects);
                number = None;
            }
            _ => {}
        }
        self.state.handle(now, Event::Pushed { conn, number, outcome }, effects);
    }
}
