//! Who is at the other end: two clients prove to each other that the server has introduced them.
//!
//! The server has given both the same ticket. Neither shows it; each shows an HMAC-SHA256 made
//! with its secret over who dials whom, what for, with which ticket, and fresh random bytes of
//! both sides. The two proofs begin with different words, so one cannot be sent back as the
//! other; and a ticket is good for one connection, so neither can be sent again.

use std::collections::{BTreeMap, VecDeque};

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;

use crate::wire::name::UserName;
use crate::wire::peer::{Frame, Hello, Mac, Nonce};
use crate::wire::{Purpose, Ticket};

/// The first words of the two proofs.
const ACCEPTOR: &[u8] = b"chinwag acceptor";
const DIALLER: &[u8] = b"chinwag dialler";

/// Tickets of one user that are expected; then his oldest is forgotten.
pub const EXPECTED_OF_ONE_MAX: usize = 64;

/// Tickets that are expected in all; then the oldest of the user who has most is forgotten.
pub const EXPECTED_MAX: usize = 1024;

/// How long a ticket for files is good, in milliseconds. One for a private session is good until
/// the program ends.
pub const FILE_TICKET_MAX: i64 = 60_000;

/// The side that has dialled.
#[derive(Debug, Clone)]
pub struct Dialler {
    hello: Hello,
    ticket: Ticket,
}

impl Dialler {
    /// `from` has dialled `to` with this ticket.
    pub fn new(purpose: Purpose, from: UserName, to: UserName, ticket: Ticket, nonce: Nonce) -> Self {
        Self { hello: Hello { purpose, from, to, ticket: ticket.number, nonce }, ticket }
    }

    /// The first frame.
    pub fn hello(&self) -> Frame {
        Frame::Hello(self.hello.clone())
    }

    /// The last frame, if the other side has proven to have the ticket.
    pub fn check(&self, frame: &Frame) -> Option<Frame> {
        let Frame::Proof { nonce, mac } = frame else { return None };
        let proof = hmac(&self.ticket, ACCEPTOR, &self.hello, nonce);
        proof.verify_slice(mac).ok()?;
        Some(Frame::Answer { mac: finish(hmac(&self.ticket, DIALLER, &self.hello, nonce)) })
    }
}

/// The side that was dialled, by somebody with a ticket that it knows.
#[derive(Debug, Clone)]
pub struct Acceptor {
    hello: Hello,
    ticket: Ticket,
    nonce: Nonce,
}

impl Acceptor {
    /// Somebody says this, and that is the ticket which he must have.
    pub fn new(hello: Hello, ticket: Ticket, nonce: Nonce) -> Self {
        Self { hello, ticket, nonce }
    }

    /// What he said.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The answer to his first frame.
    pub fn proof(&self) -> Frame {
        let mac = finish(hmac(&self.ticket, ACCEPTOR, &self.hello, &self.nonce));
        Frame::Proof { nonce: self.nonce, mac }
    }

    /// Whether he has proven to have the ticket.
    pub fn check(&self, frame: &Frame) -> bool {
        let Frame::Answer { mac } = frame else { return false };
        hmac(&self.ticket, DIALLER, &self.hello, &self.nonce).verify_slice(mac).is_ok()
    }
}

/// Every part with its length before it, so that no two lists of parts are the same bytes.
fn hmac(ticket: &Ticket, role: &[u8], hello: &Hello, nonce: &Nonce) -> Hmac<Sha256> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(&ticket.secret.to_be_bytes()).expect("a key of any length is good");
    let fields = hello.fields();
    for part in [role].into_iter().chain(fields.iter().map(Vec::as_slice)).chain([&nonce[..]]) {
        hmac.update(&[u8::try_from(part.len()).unwrap_or(u8::MAX)]);
        hmac.update(part);
    }
    hmac
}

fn finish(hmac: Hmac<Sha256>) -> Mac {
    hmac.finalize().into_bytes().into()
}

/// The tickets with which others may connect.
#[derive(Debug, Default)]
pub struct Expected {
    by_user: BTreeMap<UserName, VecDeque<Expectation>>,
}

#[derive(Debug)]
struct Expectation {
    ticket: Ticket,
    purpose: Purpose,
    /// When it is forgotten.
    until: Option<i64>,
}

impl Expected {
    /// The server has told that `user` may connect with this ticket.
    pub fn add(&mut self, now: i64, user: UserName, ticket: Ticket, purpose: Purpose) {
        self.forget_old(now);
        let until = (purpose == Purpose::File).then_some(now + FILE_TICKET_MAX);
        let of_user = self.by_user.entry(user).or_default();
        of_user.push_back(Expectation { ticket, purpose, until });
        if of_user.len() > EXPECTED_OF_ONE_MAX {
            of_user.pop_front();
        }
        if self.len() > EXPECTED_MAX
            && let Some(most) = self.by_user.values_mut().max_by_key(|tickets| tickets.len())
        {
            most.pop_front();
        }
    }

    /// The ticket that fits this hello to `me`. Of two with one number, the newer.
    pub fn find(&mut self, now: i64, hello: &Hello, me: &UserName) -> Option<Ticket> {
        self.forget_old(now);
        let fits = |known: &&Expectation| known.ticket.number == hello.ticket && known.purpose == hello.purpose;
        let known = self.by_user.get(&hello.from)?.iter().rev().find(fits)?;
        (hello.to == *me).then_some(known.ticket)
    }

    /// The ticket has been proven: takes it out. False if another connection was faster.
    pub fn use_up(&mut self, user: &UserName, ticket: &Ticket) -> bool {
        let Some(of_user) = self.by_user.get_mut(user) else { return false };
        let at = of_user.iter().position(|known| known.ticket == *ticket);
        at.and_then(|at| of_user.remove(at)).is_some()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_user.values().map(VecDeque::len).sum()
    }

    /// Whether nobody is expected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn forget_old(&mut self, now: i64) {
        self.by_user.retain(|_, tickets| {
            tickets.retain(|known| known.until.is_none_or(|until| now < until));
            !tickets.is_empty()
        });
    }
}
