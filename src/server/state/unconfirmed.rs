//! What was written to a client that has not confirmed it, oldest first.
//!
//! Every text between present users goes in here and comes out 64 texts later, from memory that
//! has left the processor's cache by then. So the texts lie one behind the other, where they are
//! read in order, and are not shared with other readers of the same text.

use std::collections::VecDeque;

use super::receipts::Told;
use super::roster::{Roster, UserId};
use crate::wire::name::Text;
use crate::wire::{Letter, Road, Scope};

/// Delivered texts kept per client until they are confirmed; at more, the oldest that has been
/// written to the socket counts as confirmed.
pub const UNCONFIRMED_MAX: usize = 64;

/// A ring with room for more texts than that has held a page of a mailbox.
const ROOM_PAGED: usize = 2 * UNCONFIRMED_MAX;

/// Bytes of text for which an empty ring keeps the room.
const ROOM_BYTES: usize = 4096;

/// The texts and receipts one client has not confirmed.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    ring: VecDeque<Delivered>,
    /// Their texts, one behind the other.
    texts: VecDeque<u8>,
    /// Stored ones that left the ring and are not yet deleted from the store.
    read: Read,
    /// A text that may have been read although nobody confirmed it.
    doubtful: Option<u64>,
    /// Receipts that had waited for this user.
    pub(super) told: Vec<Told>,
}

/// A [`Letter`] without its text, and how it was delivered.
#[derive(Debug)]
struct Delivered {
    number: u64,
    from: UserId,
    bytes: usize,
    sent: i64,
    scope: Scope,
    /// The batch it was sent in.
    batch: u32,
    road: Road,
    /// The sender is still to be told that it was read.
    receipt: bool,
    stored: Stored,
    /// The sender knows that it was delivered.
    noted: bool,
}

/// Whether the store holds a text as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    No,
    Yes,
    /// It is being deleted there.
    Leaving,
    /// The user has read it in a newer session.
    ReadElsewhere,
}

/// A text that somebody has got.
#[derive(Debug, Clone, Copy)]
pub(super) struct Got {
    /// Who sent it.
    pub(super) from: UserId,
    pub(super) number: u64,
    /// When it was sent, in milliseconds since 1970, UTC.
    pub(super) sent: i64,
}

/// Stored messages that were read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) upto: u64,
    pub(super) count: u32,
    pub(super) bytes: usize,
}

impl Unconfirmed {
    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty() && self.told.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.ring.len() >= UNCONFIRMED_MAX
    }

    /// Whether the store still holds any of it.
    pub(super) fn is_stored(&self) -> bool {
        self.read.count > 0
            || !self.told.is_empty()
            || self.ring.iter().any(|delivered| delivered.stored == Stored::Yes)
    }

    /// Notes that this text may have been read.
    pub(super) fn doubt(&mut self, number: u64) {
        self.doubtful = Some(number);
    }

    pub(super) fn is_doubtful(&self, number: u64) -> bool {
        self.doubtful == Some(number)
    }

    /// The highest number in the ring, 0 if it is empty.
    pub(super) fn last(&self) -> u64 {
        self.ring.back().map_or(0, |delivered| delivered.number)
    }

    /// Whether a sender is still to be told of a text in the ring.
    pub(super) fn awaits_receipt(&self) -> bool {
        self.ring.iter().any(|delivered| delivered.receipt && !delivered.noted)
    }

    /// The texts with a receipt that earlier batches have written, each once. What netcat has got
    /// is then done with; our client is still to say what it has shown.
    pub(super) fn take_written(&mut self, batch: u32, is_ours: bool) -> Vec<Got> {
        let is_due = |delivered: &&mut Delivered| delivered.receipt && !delivered.noted && delivered.batch != batch;
        let written = self.ring.iter_mut().filter(is_due);
        written
            .map(|delivered| {
                delivered.noted = true;
                delivered.receipt = is_ours;
                delivered.got()
            })
            .collect()
    }

    /// Adds a text of `from`; the oldest ones beyond the limit leave if an earlier batch has
    /// written them and `may_lapse` says that this is all the confirmation there will be.
    /// `stored`: the store holds it as well.
    pub(super) fn push(&mut self, letter: &Letter, from: UserId, stored: bool, batch: u32, may_lapse: bool) {
        while self.is_full() && may_lapse && self.pop_if(|oldest| oldest.batch != batch && !oldest.receipt).is_some() {}
        if self.ring.len() < UNCONFIRMED_MAX && self.ring.capacity() > ROOM_PAGED {
            self.shrink();
        }
        let text = letter.text.as_str().as_bytes();
        self.texts.extend(text);
        self.ring.push_back(Delivered {
            number: letter.number,
            from,
            bytes: text.len(),
            sent: letter.sent,
            scope: letter.scope.clone(),
            batch,
            road: letter.road,
            receipt: letter.receipt,
            stored: if stored { Stored::Yes } else { Stored::No },
            noted: false,
        });
    }

    fn pop_if(&mut self, leaves: impl FnOnce(&mut Delivered) -> bool) -> Option<Delivered> {
        let oldest = self.ring.pop_front_if(leaves)?;
        self.texts.drain(..oldest.bytes);
        self.read.add(&oldest);
        Some(oldest)
    }

    /// Our client has shown everything up to `number`; gives what has a receipt.
    pub(super) fn confirm(&mut self, number: u64) -> Vec<Got> {
        let mut seen = Vec::new();
        while let Some(oldest) = self.pop_if(|oldest| oldest.number <= number) {
            seen.extend(oldest.receipt.then(|| oldest.got()));
        }
        if self.ring.is_empty() {
            self.shrink();
        }
        seen
    }

    /// Gives back the room for more than is usually there.
    fn shrink(&mut self) {
        self.ring.shrink_to(UNCONFIRMED_MAX);
        self.texts.shrink_to(ROOM_BYTES);
    }

    /// A stored text that our client had shown before.
    pub(super) fn add_read(&mut self, number: u64, bytes: usize) {
        self.read.add_one(number, bytes);
    }

    /// What may be deleted from the store: asked once per run of stored texts, not for each.
    pub(super) fn take_run(&mut self) -> Option<Read> {
        // In this order: the oldest text has long left the processor's cache.
        let more_to_come = self.read.count > 0 && self.ring.front().is_some_and(|oldest| oldest.stored == Stored::Yes);
        if more_to_come { None } else { self.take_read() }
    }

    /// What left the ring and is not yet deleted from the store.
    pub(super) fn take_read(&mut self) -> Option<Read> {
        (self.read.count > 0).then(|| std::mem::take(&mut self.read))
    }

    /// Everything stored counts as read; from now on the ring alone holds it. Up to `confirmed` the
    /// user has read it in a newer session.
    pub(super) fn take_all_read(&mut self, confirmed: u64) -> Option<Read> {
        for delivered in self.ring.iter_mut().filter(|delivered| delivered.stored == Stored::Yes) {
            if delivered.number <= confirmed {
                delivered.stored = Stored::ReadElsewhere;
            } else {
                self.read.add(delivered);
                delivered.stored = Stored::Leaving;
            }
        }
        self.take_read()
    }

    /// All texts are sent once more, in this batch.
    pub(super) fn send_again(&mut self, batch: u32) {
        for delivered in &mut self.ring {
            delivered.batch = batch;
        }
    }

    /// All texts: from whom, whether the store holds them, and as they were sent.
    pub(super) fn letters(&self, roster: &Roster) -> Vec<(UserId, Stored, Letter)> {
        let mut start = 0;
        let letters = self.ring.iter().map(|delivered| {
            let bytes: Vec<u8> = self.texts.range(start..start + delivered.bytes).copied().collect();
            start += delivered.bytes;
            let &Delivered { number, from, sent, road, receipt, stored, .. } = delivered;
            let text = Text::harmless(&String::from_utf8_lossy(&bytes));
            let name = roster[from].name.clone();
            let letter = Letter { number, from: name, text, sent, road, scope: delivered.scope.clone(), receipt };
            (from, stored, letter)
        });
        letters.collect()
    }
}

impl Delivered {
    fn got(&self) -> Got {
        Got { from: self.from, number: self.number, sent: self.sent }
    }
}

impl Read {
    fn add(&mut self, delivered: &Delivered) {
        if delivered.stored == Stored::Yes {
            self.add_one(delivered.number, delivered.bytes);
        }
    }

    fn add_one(&mut self, number: u64, bytes: usize) {
        self.upto = self.upto.max(number);
        self.count += 1;
        self.bytes += bytes;
    }
}
