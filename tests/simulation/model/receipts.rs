//! Receipts: what a sender must learn of his texts, and must not learn too early or twice.
//!
//! A text that was sent with a wish for receipts is told as delivered once for each coming to our
//! client, and as seen once. Both are counted per sender and reader. What is seen while the sender
//! is away waits for him, text by text, and is forgotten with the text by which he was told.
//! A text that comes a second time may be seen twice; such a receipt may be told and need not.

use chinwag::server::ids::ConnId;
use chinwag::wire::time::Moment;
use chinwag::wire::{Letter, Notice, Readers};

use super::facts::Fact;
use super::reach::Rule;
use super::texts::text;
use super::{CONFIRM_MILLIS_MAX, Model, Session, Stage, UserId};

/// What stands between a text and its reader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behind {
    /// The socket takes no more.
    pub(crate) full: bool,
    /// An answer before it waits for the disk.
    pub(crate) held: bool,
}

/// A text that was seen, or is `delivered` only.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    from: UserId,
    reader: UserId,
    sent: i64,
    delivered: bool,
    /// Its first time.
    certain: bool,
}

/// Receipts on their way to a sender who is here.
#[derive(Debug)]
pub(super) struct Due {
    reader: UserId,
    seen: bool,
    /// So many must be told, and so many more may be.
    certain: u32,
    perhaps: u32,
}

/// One text that was seen while its sender was away.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    by: UserId,
    number: u64,
    sent: i64,
    seen: i64,
    certain: bool,
}

/// What is told at a log-in of one reader.
#[derive(Debug, Clone)]
pub(super) struct Told {
    by: UserId,
    texts: Vec<Waiting>,
}

impl Waiting {
    pub(super) fn by(&self) -> UserId {
        self.by
    }

    pub(super) fn is_certain(&self) -> bool {
        self.certain
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.number == other.number
    }

    /// The same; no longer certain, unless it stays so.
    pub(super) fn clone_if(&self, stays: bool) -> Self {
        Self { certain: self.certain && stays, ..self.clone() }
    }
}

impl Told {
    pub(super) fn is_optional(&self) -> bool {
        self.texts.iter().all(|text| !text.certain)
    }
}

impl Model {
    // Texts that somebody gets.

    /// A text stands in the stream of its reader.
    pub(super) fn await_receipts(&mut self, reader: UserId, number: u64, id: ConnId, is_ours: bool) {
        let Some(text) = text(&mut self.users[reader], number).filter(|text| text.receipt) else { return };
        let is_noted = text.noted == Some(id);
        let user = &mut self.users[reader];
        if !is_noted && !user.unwritten.contains(&(number, id)) {
            user.unwritten.push((number, id));
        }
        if is_ours && !user.unseen.contains(&(number, id)) {
            user.unseen.push((number, id));
        }
    }

    /// A visit has moved to a new link, and what it has not confirmed with it.
    pub(super) fn move_receipts(&mut self, reader: UserId, old: ConnId, new: ConnId) {
        let user = &mut self.users[reader];
        user.unwritten.retain(|(_, id)| *id != old);
        user.unseen.iter_mut().filter(|(_, id)| *id == old).for_each(|(_, id)| *id = new);
        user.texts.iter_mut().filter(|text| text.noted == Some(old)).for_each(|text| text.noted = Some(new));
    }

    /// What a connection has not confirmed comes again on another.
    pub(super) fn drop_receipts(&mut self, reader: UserId, id: ConnId) {
        let user = &mut self.users[reader];
        user.unwritten.retain(|(_, other)| *other != id);
        user.unseen.retain(|(_, other)| *other != id);
    }

    /// Our client has shown everything up to this number of what came on this connection.
    pub(super) fn shown_by_ours(&mut self, reader: UserId, id: ConnId, upto: u64) {
        let unseen = std::mem::take(&mut self.users[reader].unseen);
        for (number, other) in unseen {
            let shown = text(&mut self.users[reader], number).is_some_and(|text| text.id <= upto);
            if other == id && shown {
                self.is_seen(reader, number, true);
                self.reach(Rule::SeenByOurs);
            } else {
                self.users[reader].unseen.push((number, other));
            }
        }
    }

    /// A page has come from the store: what our client had shown when it logged in is seen.
    pub(super) fn read_before(&mut self, id: ConnId, page: &[Letter]) {
        let Some(reader) = self.user_of(id) else { return };
        let upto = self.session(id).map_or(0, |session| session.shown_at_first);
        for letter in page.iter().filter(|letter| letter.number <= upto) {
            let from = self.find(letter.from.as_str());
            let texts = &self.users[reader].texts;
            // The store may know it by an older number.
            let text = texts.iter().find(|text| text.id == letter.number);
            let text = text.or_else(|| texts.iter().find(|text| text.is_like(letter, from)));
            let Some(text) = text.filter(|text| text.receipt) else { continue };
            // What the disk refused to take back comes first, and then this page once more.
            let is_dropped = self.retry_due || self.users[reader].since.elapsed <= self.last_retry;
            let (number, certain) = (text.number, !is_dropped);
            self.is_seen(reader, number, certain);
            self.reach(Rule::ShownBefore);
        }
    }

    pub(super) fn is_seen(&mut self, reader: UserId, number: u64, certain: bool) {
        let Some(text) = text(&mut self.users[reader], number) else { return };
        let certain = certain && !std::mem::replace(&mut text.is_seen, true);
        self.seen.push(Seen { from: text.from, reader, sent: text.sent, delivered: false, certain });
    }

    // The end of a batch.

    /// All that was sent so far has been offered to the sockets.
    pub(crate) fn flushed(&mut self, now: Moment, behind: impl Fn(ConnId) -> Option<Behind>) {
        if self.is_off {
            return;
        }
        for reader in 0..self.users.len() {
            if !self.users[reader].unwritten.is_empty() {
                self.note_written(reader, &behind);
            }
        }
        self.confirm_by_end(now, &behind);
        for seen in std::mem::take(&mut self.seen) {
            self.is_due(now, seen);
        }
    }

    fn note_written(&mut self, reader: UserId, behind: &impl Fn(ConnId) -> Option<Behind>) {
        for (number, id) in std::mem::take(&mut self.users[reader].unwritten) {
            let Some(session) = self.session(id).filter(|session| !session.is_void) else { continue };
            let is_ours = session.is_ours;
            // What our client has not shown when it goes is taken back at once.
            if is_ours && !matches!(session.stage, Stage::Online(_)) {
                continue;
            }
            match behind(id) {
                Some(Behind { full: false, held: false }) => {}
                Some(Behind { full, .. }) => {
                    self.reach(if full { Rule::NotWhileFull } else { Rule::NotBehindPlace });
                    self.users[reader].unwritten.push((number, id));
                    continue;
                }
                None => continue,
            }
            let Some(text) = text(&mut self.users[reader], number) else { continue };
            text.noted = Some(id);
            if is_ours {
                let certain = !text.is_seen;
                self.seen.push(Seen { from: text.from, reader, sent: text.sent, delivered: true, certain });
            } else {
                self.is_seen(reader, number, true);
                self.reach(Rule::SeenByNetcat);
            }
        }
    }

    /// The sender is told if he is here; else what was seen waits for him.
    fn is_due(&mut self, now: Moment, Seen { from, reader, sent, delivered, certain }: Seen) {
        let number = self.count();
        let session = self.users[from].conn.and_then(|id| self.session_mut(id));
        let Some(session) = session else {
            if !delivered {
                self.users[from].waiting.push(Waiting { by: reader, number, sent, seen: now.wall, certain });
                self.keep_receipts(from, reader, !certain);
                self.reach(Rule::MeanwhileKept);
            }
            return;
        };
        let at = session.due.iter().position(|due| (due.reader, due.seen) == (reader, !delivered));
        let at = at.unwrap_or_else(|| {
            session.due.push(Due { reader, seen: !delivered, certain: 0, perhaps: 0 });
            session.due.len() - 1
        });
        let due = &mut session.due[at];
        if certain { due.certain += 1 } else { due.perhaps += 1 }
    }

    /// The disk must hold what waits for a sender of one reader, as it is now.
    pub(super) fn keep_receipts(&mut self, to: UserId, by: UserId, perhaps: bool) {
        let texts = self.users[to].waiting.iter().filter(|text| text.by == by).cloned().collect();
        self.facts.push(Fact::Receipts { to, by, texts, perhaps });
    }

    /// The sign of life: what the disk refused is tried again.
    pub(super) fn keep_again(&mut self) {
        for (to, by, perhaps) in std::mem::take(&mut self.unkept) {
            self.keep_receipts(to, by, perhaps);
        }
    }

    // What the sender is told.

    pub(super) fn hear_receipt(&mut self, id: ConnId, readers: &Readers, seen: bool) {
        let what = if seen { "seen" } else { "delivered" };
        if !seen {
            self.reach(Rule::Delivered);
        }
        if readers.more > 0 || readers.names.is_empty() || !readers.names.is_sorted() {
            return self.fail(format!("connection {} hears of odd readers: {readers:?}", id.0));
        }
        for name in &readers.names {
            let reader = self.find(name.as_str());
            let Some(session) = self.session_mut(id) else { return };
            let due = session.due.iter_mut().find(|due| Some(due.reader) == reader && due.seen == seen);
            let (certain, perhaps) = due.as_ref().map_or((0, 0), |due| (due.certain, due.perhaps));
            match due {
                Some(due) if certain + perhaps >= readers.texts => {
                    due.certain = certain.saturating_sub(readers.texts);
                    due.perhaps = perhaps - readers.texts.saturating_sub(certain);
                }
                _ => {
                    let texts = readers.texts;
                    let all = certain + perhaps;
                    return self.fail(format!(
                        "connection {} is told that {name} has {what} {texts} texts, and {all} are to be told",
                        id.0
                    ));
                }
            }
        }
    }

    /// A receipt that a session should have been told by now.
    pub(super) fn untold(&self, session: &Session) -> Option<String> {
        if session.is_void || !matches!(session.stage, Stage::Online(_)) {
            return None;
        }
        let due = session.due.iter().find(|due| due.certain > 0)?;
        let what = if due.seen { "seen" } else { "got" };
        Some(format!("connection {} is not told what {} has {what}", session.id.0, self.users[due.reader].name))
    }

    // What has waited.

    /// A log-in: what others have seen meanwhile, by their names.
    pub(super) fn expect_meanwhile(&mut self, id: ConnId, user: UserId) {
        let mut readers: Vec<UserId> = self.users[user].waiting.iter().map(|text| text.by).collect();
        readers.sort_unstable_by_key(|reader| self.users[*reader].name.as_str());
        readers.dedup();
        let waiting = &self.users[user].waiting;
        let told = readers.into_iter().map(|by| {
            let texts = waiting.iter().filter(|text| text.by == by).cloned().collect();
            Told { by, texts }
        });
        let told: Vec<Told> = told.collect();
        if let Some(session) = self.session_mut(id) {
            session.expected.extend(told.iter().cloned().map(super::Expected::Meanwhile));
            session.told = told;
        }
    }

    pub(super) fn hear_meanwhile(&mut self, id: ConnId, told: &Told, notice: &Notice) -> Result<bool, String> {
        let Notice::SeenMeanwhile { by, texts, sent, seen } = notice else { return Ok(false) };
        if *by != self.users[told.by].name {
            return Ok(false);
        }
        let certain = told.texts.iter().filter(|text| text.certain).count();
        let texts = usize::try_from(*texts).unwrap_or(usize::MAX);
        if !(certain..=told.texts.len()).contains(&texts) || texts == 0 {
            return Err(format!("{by} has seen {certain} to {} texts meanwhile, and not {texts}", told.texts.len()));
        }
        let last = told.texts.iter().map(|text| text.seen).max().zip(told.texts.iter().map(|text| text.sent).max());
        let is_known =
            told.texts.iter().any(|text| text.seen == *seen) && told.texts.iter().any(|text| text.sent <= *sent);
        if !is_known || (certain == told.texts.len() && last != Some((*seen, *sent))) {
            return Err(format!("{notice:?} has a wrong time"));
        }
        self.reach(Rule::MeanwhileTold);
        if texts == told.texts.len() {
            self.settle_meanwhile(id, told, |text| text.certain = true);
        } else if texts == certain {
            self.forget_perhaps(id, told);
        }
        Ok(true)
    }

    pub(super) fn nothing_meanwhile(&mut self, id: ConnId, told: &Told) {
        self.forget_perhaps(id, told);
    }

    /// Those that were only perhaps seen twice were not.
    fn forget_perhaps(&mut self, id: ConnId, told: &Told) {
        let is_not = |text: &Waiting| !text.certain && told.texts.iter().any(|other| other.number == text.number);
        let Some(session) = self.session_mut(id) else { return };
        let all = session.told.iter_mut().chain(&mut session.confirmed);
        all.for_each(|told| told.texts.retain(|text| !is_not(text)));
        session.told.retain(|told| !told.texts.is_empty());
        if let Some(user) = self.visitor(id) {
            self.users[user].waiting.retain(|text| !is_not(text));
        }
    }

    fn settle_meanwhile(&mut self, id: ConnId, told: &Told, settle: impl Fn(&mut Waiting)) {
        let is_told = |text: &Waiting| told.texts.iter().any(|other| other.number == text.number);
        if let Some(user) = self.visitor(id) {
            self.users[user].waiting.iter_mut().filter(|text| is_told(text)).for_each(&settle);
        }
        let Some(session) = self.session_mut(id) else { return };
        let all = session.told.iter_mut().chain(&mut session.confirmed);
        all.flat_map(|told| &mut told.texts).filter(|text| is_told(text)).for_each(settle);
    }

    /// Whose connection it is or was.
    fn visitor(&self, id: ConnId) -> Option<UserId> {
        match self.session(id)?.stage {
            Stage::Online(user) | Stage::Gone(Some(user)) => Some(user),
            _ => None,
        }
    }

    /// `TOLD`: our client has shown what this reader has seen.
    pub(super) fn confirm_told(&mut self, id: ConnId, user: UserId, reader: &str) {
        let by = self.find(reader);
        let Some(session) = self.session_mut(id) else { return };
        let Some(at) = session.told.iter().position(|told| Some(told.by) == by) else { return };
        let told = session.told.remove(at);
        self.forget_told(user, &told);
    }

    pub(super) fn forget_told(&mut self, user: UserId, told: &Told) {
        self.users[user].waiting.retain(|text| !told.texts.iter().any(|other| other.number == text.number));
        self.keep_receipts(user, told.by, false);
        self.reach(Rule::MeanwhileForgotten);
    }

    /// The end of netcat's session confirms what was written to it, if it takes that in time.
    fn confirm_by_end(&mut self, now: Moment, behind: &impl Fn(ConnId) -> Option<Behind>) {
        for at in 0..self.sessions.len() {
            let session = &mut self.sessions[at];
            let Stage::Gone(Some(user)) = session.stage else { continue };
            let is_in_time = now.elapsed - session.left < CONFIRM_MILLIS_MAX;
            if session.post.is_some() || session.told.is_empty() || session.is_ours || session.is_void || !is_in_time {
                continue;
            }
            if behind(session.id).is_none_or(|behind| behind.full) {
                continue;
            }
            let told = std::mem::take(&mut session.told);
            session.confirmed.clone_from(&told);
            told.iter().for_each(|told| self.forget_told(user, told));
        }
    }

    /// The link of netcat has broken after all.
    pub(super) fn take_back_told(&mut self, user: UserId, confirmed: Vec<Told>) {
        for told in confirmed {
            let by = told.by;
            // Two sessions may have been told of the same text, and have confirmed it.
            let waiting = &mut self.users[user].waiting;
            let fresh = told.texts.into_iter().filter(|text| !waiting.iter().any(|other| other.is(text)));
            let fresh: Vec<Waiting> = fresh.collect();
            waiting.extend(fresh);
            self.keep_receipts(user, by, false);
            self.reach(Rule::MeanwhileBack);
        }
    }
}
