//! How files come into the talk: typed lines, lines of the server, connections, and what is shown.

use std::collections::VecDeque;

use super::peers::{Introduction, PeerId};
use super::private::Outcome;
use super::sharing::{Event, Order, Report, Trouble};
use super::{Code, Effect, End, Phase, Shown, State, Task};
use crate::wire::{Notice, Purpose, Request};

/// Counts as the line of `client get`.
const GET: u64 = u64::MAX;

impl State {
    /// Carries out a typed line about files; `begun` tells that it has been begun. In a pipe the
    /// lines behind `register` wait for it, and a log-out waits for everything.
    pub(super) fn carry_out_files(&mut self, request: &Request<'_>, line: u64, begun: bool) -> Option<Outcome> {
        let now = self.now.elapsed;
        match *request {
            Request::Register { .. } if begun && self.sharing.is_registering() => return Some(Outcome::Waits),
            Request::Register { .. } if begun => {}
            Request::Register { file, chunks } => {
                let orders = self.sharing.register(now, line, file, chunks);
                self.obey(orders);
                if !self.rules.person && self.sharing.is_registering() {
                    return Some(Outcome::Tries);
                }
            }
            Request::Download { file, chunks } => {
                let orders = self.sharing.download(now, line, file, chunks);
                self.obey(orders);
            }
            Request::Logout if !self.rules.person && self.sharing.is_busy() => return Some(Outcome::Waits),
            _ => return None,
        }
        Some(Outcome::Taken)
    }

    /// Something has happened to a file, or on a connection for files.
    pub(super) fn hear_of_sharing(&mut self, event: Event) {
        // Who fetches is not silent, however long one chunk takes.
        if matches!(event, Event::Moved(..)) {
            self.tell_alive();
        }
        let orders = self.sharing.handle(self.now.elapsed, event);
        if !orders.is_empty() {
            self.obey(orders);
            self.go_on_with_lines();
        }
    }

    /// What the server says about files. Returns what is not about them.
    pub(super) fn hear_of_files(&mut self, notice: Notice) -> Option<Notice> {
        match self.sharing.hear(self.now.elapsed, &notice) {
            Some(orders) => self.obey(orders),
            None => return Some(notice),
        }
        None
    }

    /// `client get` begins.
    pub(super) fn get(&mut self) {
        if let Some(Task::Get { file, chunks }) = self.rules.errand.as_ref().map(|errand| &errand.task) {
            let orders = self.sharing.download(self.now.elapsed, GET, file, chunks);
            self.obey(orders);
        }
    }

    fn obey(&mut self, mut orders: VecDeque<Order>) {
        while let Some(order) = orders.pop_front() {
            match order {
                Order::Do(chore) => self.effects.push(Effect::Do(chore)),
                Order::Say(line) => {
                    if self.phase == Phase::Online {
                        self.effects.push(Effect::Send(line));
                    }
                }
                Order::Dial(user, at, ticket) => {
                    let to = Introduction { user: user.clone(), ticket, purpose: Purpose::File };
                    let peer = self.dial(to, at);
                    self.sharing.dialled(user, peer);
                }
                Order::HangUp(peer) => {
                    self.hang_up(peer);
                    self.peers.links.remove(&peer);
                }
                Order::Show(report) => {
                    self.judge(&report);
                    self.put(Shown::Files(report, self.now.wall));
                }
                Order::Tell(Notice::Refused(refusal)) if self.rules.errand.is_some() => {
                    self.errand_end.get_or_insert(End::not_fetched(refusal));
                }
                Order::Tell(notice) => self.show(notice),
                Order::Done(GET) => self.log_out(),
                Order::Done(line) if line > 0 => self.put(Shown::Done(line)),
                Order::Done(_) => {}
                Order::Known(file) => self.effects.push(Effect::Known(file)),
                Order::Remember(offered) => self.effects.push(Effect::KeepOffered(self.reader(), offered)),
            }
        }
    }

    /// What a report means for the end of `client get`.
    fn judge(&mut self, report: &Report) {
        if self.rules.errand.is_none() {
            return;
        }
        let (code, hint) = match report {
            Report::Gaps(..) => (Code::NotFetched, "what has come is kept; try again later"),
            Report::Failed(_, Trouble::HaveAll) => return,
            Report::Failed(_, Trouble::WrongDigest) => (Code::NotFetched, "ask who registered the file"),
            Report::Failed(..) => (Code::Other, "what has come is kept, unless it is another file"),
            _ => return,
        };
        let error = report.to_string();
        self.errand_end.get_or_insert(End::error(code, error.trim_start_matches("Error. "), hint));
    }

    /// A connection for files could not be had, or has ended before any work on it.
    pub(super) fn file_link_lost(&mut self, peer: PeerId) {
        self.hear_of_sharing(Event::NotReached(peer));
    }
}
