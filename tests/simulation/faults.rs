//! Faults that can be planted between the two minds, the store and the world: what goes in or
//! comes out is altered. The product has none of this; a test says that each is found.

mod framed;

use chinwag::client::state as mind;
use chinwag::server::ids::ConnId;
use chinwag::server::state::{Ask, Change, Effect, Event, Parting, Record, Remembered, Rules, State};
use chinwag::wire::control::Say;
use chinwag::wire::framed::Answer;
use chinwag::wire::name::UserName;
use chinwag::wire::time::Moment;
use chinwag::wire::{Letter, News, Notice, Refusal, Road, Scope, Tag};

use crate::disk::Store;

macro_rules! faults {
    ($($name:ident: $what:literal,)*) => {
        /// What is wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Fault {
            $(#[doc = $what] $name,)*
        }

        /// All of them, each with what it does.
        pub(crate) const FAULTS: &[(Fault, &str)] = &[$((Fault::$name, $what)),*];
    };
}

faults! {
    // The server: logging in.
    FourthTry: "the third wrong password is not the last",
    MissForgotten: "a wrong password on the line of the name does not count",
    LockoutLong: "a lockout lasts a millisecond longer",
    TimeoutLong: "a user may be silent for a millisecond longer",
    TickLate: "the server wakes up a millisecond late",
    UnknownIsActivity: "an unknown command counts as activity",
    TokenNotStored: "a token does not survive a crash",
    TakeOverSilent: "a session that moves to a new link does not bring along what is unconfirmed",
    ClosedForgotten: "a connection that was never logged in is kept for ever",
    // Presence and lists.
    LeftLost: "nobody hears that somebody left",
    ArrivedToBlocked: "somebody hears of the log-in of one who blocks him",
    ArrivedToStrangers: "who has not logged in hears who comes",
    LeftUnlisted: "whoelsesince leaves out who has gone",
    HeartbeatOld: "after a crash users count as gone ten seconds too early",
    // Messages.
    StoredAnswerLost: "the answer that a message is stored is lost",
    AnsweredBeforeDisk: "a message is called stored before the disk has it",
    AnswerOvertakes: "what follows an answer that waits for the disk does not wait behind it",
    Twice: "a text is delivered twice",
    SwappedWhenSlow: "two texts to a slow client change places",
    TextToAnother: "a text goes to somebody else",
    MailOfAnother: "the mail of somebody else is delivered",
    PageShort: "the first message of a page is lost",
    ConfirmedEarly: "a reset counts as an orderly end, so what was not read is lost",
    ConfirmedNotStored: "mail that was read is not deleted",
    SeenForgotten: "what our client has shown is not confirmed",
    AgainUnmarked: "a text that may be a repetition is not marked",
    ResentTwice: "a line that is sent again is carried out again",
    BroadcastToBlocker: "a broadcast reaches who blocks the sender",
    SkippedUntold: "the sender is not told that somebody did not get his broadcast",
    BlockedAfterOffline: "a message to somebody away is called stored although he blocks the sender",
    BlockNotStored: "a block does not survive a crash",
    UnblockNotStored: "the end of a block does not survive a crash",
    // Receipts.
    ReceiptEarly: "a receipt does not wait for the socket of the reader",
    SeenWhenDelivered: "what is delivered to our client counts as seen",
    ReceiptTwice: "a receipt is told twice",
    ReceiptLost: "a receipt is not told",
    ReceiptToAnother: "a receipt goes to somebody else",
    SentBeforeDisk: "a text is called sent before the disk has it",
    ReceiptNotStored: "a receipt that waits does not survive a crash",
    ReceiptNotForgotten: "a receipt that our client has shown waits on",
    MeanwhileLost: "a receipt that has waited is not told",
    // Groups.
    GroupTextToStranger: "a group text reaches who is no member, or no longer",
    GroupTextToBlocker: "a group text reaches who blocks the sender",
    GroupTextNotStored: "a group text is not stored for the first who is away",
    RenameNotStored: "the new name of a group does not survive a crash",
    KickNotStored: "the end of a membership does not survive a crash",
    OwnerNotStored: "the new owner of a group is forgotten in a crash",
    StrangerKicks: "who is not the owner may remove members",
    OwnerLeaves: "the owner may leave while others remain",
    NewsLost: "members hear nothing of a group's new name",
    NewsToBlocker: "news of a group reach who blocks its author",
    // Modes.
    ExitTooFar: "/exit leaves two modes",
    SecondTildeLost: "a text ends at its tilde",
    GeneralToBlocker: "a general text reaches who blocks the sender",
    GeneralNotStored: "a general text is stored for nobody",
    ModeUntold: "a session that moves to a new link does not tell its mode",
    ModeNotRestored: "our client does not lead a new session back to its mode",
    // Framed users.
    PushCalledDone: "a push that failed is reported as done",
    PushedTextLost: "a text whose push has failed does not wait",
    PushesSwapped: "two texts to a framed client change places",
    DoubtUnmarked: "a text that was pushed without a proper end is not marked when it comes again",
    PushUnconfirmed: "a text whose push has arrived comes again",
    PushedNotForgotten: "what a framed client has got is not deleted from the disk",
    OldTokenAccepted: "a token opens the next session too",
    HeartbeatIgnored: "a heartbeat is no sign of life",
    SilenceTwice: "everybody hears twice that a framed user is gone",
    StrangerBetrayed: "a framed log-in with a name that does not exist is not counted",
    FramedMissForgotten: "a wrong password in a frame does not count",
    ForeignTaken: "a framed client may say that it listens somewhere else",
    MoveTold: "others hear of a log-in that replaces a session",
    ReplacedUntold: "a session that is replaced is not told",
    AddressUntold: "who may know where a framed user listens does not hear that it has changed",
    AskedTwice: "somebody is asked twice for his address",
    // The store.
    BatchLost: "a batch is reported and not written",
    RefusedKept: "a batch is refused and written all the same",
    OneNotDeleted: "the last message that was read is not deleted",
    TagNotStored: "the store does not know again a line that comes after a crash",
    // Our client.
    ShownTwice: "our client shows a text twice",
    NotRemembered: "our client does not keep what it has shown",
    ShownTooFar: "our client says at its log-in that it has shown more than it has",
    NotResent: "our client does not send again what has no answer",
    ResentAnew: "our client sends a line again under a new tag",
}

/// The server's mind, with a fault perhaps.
pub(crate) struct Server {
    fault: Option<Fault>,
    state: State,
    names: Vec<UserName>,
    lobby: Vec<ConnId>,
    online: Vec<(ConnId, UserName)>,
    stalled: Vec<ConnId>,
    /// A text that waits to be overtaken.
    kept: Option<Effect>,
    /// For whom the last record was a message.
    mail_to: Option<UserName>,
    /// Connections with an answer that was given too early.
    answered: Vec<ConnId>,
    tags: Vec<Tag>,
    /// Connections that were ever logged in.
    welcomed: Vec<ConnId>,
    /// Who blocks whom.
    blocks: Vec<(UserName, UserName)>,
    /// Framed sessions, and the log-ins that begin them.
    framed: Vec<ConnId>,
    entering: Vec<(ConnId, UserName)>,
    /// What framed clients were given, the newest last.
    given: Vec<(UserName, u128)>,
}

/// Added to the number of a line that comes again.
const ANEW: u64 = 1_000_000;

impl Server {
    pub(crate) fn new(
        fault: Option<Fault>,
        mut rules: Rules,
        accounts: Vec<(UserName, String)>,
        remembered: Remembered,
        now: Moment,
        first_token: u128,
    ) -> Self {
        // As on every stage, tokens are 1, 2, 3 ...
        let mut last = first_token;
        let tokens = move || {
            last += 1;
            last
        };
        match fault {
            Some(Fault::LockoutLong) if rules.block > 0 => rules.block += 1,
            Some(Fault::TimeoutLong) => rules.timeout += 1,
            _ => {}
        }
        let remembered_blocks = remembered.blocks.clone();
        let names = accounts.iter().map(|(name, _)| name.clone()).collect();
        Self {
            fault,
            state: State::new(rules, accounts, remembered, now, tokens),
            names,
            lobby: Vec::new(),
            online: Vec::new(),
            stalled: Vec::new(),
            kept: None,
            mail_to: None,
            answered: Vec::new(),
            tags: Vec::new(),
            welcomed: Vec::new(),
            blocks: remembered_blocks,
            framed: Vec::new(),
            entering: Vec::new(),
            given: Vec::new(),
        }
    }

    pub(crate) fn deadline(&self) -> Option<i64> {
        let late = i64::from(self.fault == Some(Fault::TickLate));
        self.state.deadline().map(|at| at + late)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.state.is_settled()
    }

    pub(crate) fn handle(&mut self, now: Moment, event: Event<'_>, effects: &mut Vec<Effect>) {
        let Some(fault) = self.fault else { return self.state.handle(now, event, effects) };
        match &event {
            Event::Opened(id, _) => self.lobby.push(*id),
            Event::Closed(id, _) => self.forget(*id),
            Event::Asked(id, _, Ask::LogIn { name, .. }) => {
                let name = str::from_utf8(name).ok().and_then(|name| UserName::parse(name).ok());
                self.entering.retain(|(other, _)| other != id);
                self.entering.extend(name.map(|name| (*id, name)));
            }
            Event::Stalled(id) => self.stalled.push(*id),
            Event::Drained(id) => {
                self.stalled.retain(|other| other != id);
                effects.extend(self.kept.take());
            }
            _ => {}
        }
        let resumes = matches!(&event, Event::Line(_, line) if line.starts_with(b"RESUME "));
        let (is_push, is_listen) =
            (matches!(&event, Event::Pushed { .. }), matches!(&event, Event::Asked(_, _, Ask::Listen { .. })));
        self.handle_event(fault, now, event, effects);
        for effect in std::mem::take(effects) {
            match (fault, &effect) {
                (Fault::PushedNotForgotten, Effect::Store(Record::Confirmed { .. })) if is_push => {
                    effects.push(Effect::Store(Record::Nothing));
                }
                (Fault::AddressUntold, Effect::Send(_, Notice::Address { .. })) if is_listen => {}
                _ => self.alter(fault, now, effect, resumes, effects),
            }
        }
    }

    fn forget(&mut self, id: ConnId) {
        self.online.retain(|(other, _)| *other != id);
        self.lobby.retain(|other| *other != id);
        self.stalled.retain(|other| *other != id);
        self.answered.retain(|other| *other != id);
    }

    fn is_online(&self, name: &UserName) -> bool {
        self.online.iter().any(|(_, other)| other == name)
    }

    fn is_framed(&self, name: &UserName) -> bool {
        self.online.iter().any(|(id, other)| other == name && self.framed.contains(id))
    }

    fn all_but(&self, name: &UserName) -> Vec<ConnId> {
        self.online.iter().filter(|(_, other)| other != name).map(|(id, _)| *id).collect()
    }

    /// The connections of those who block this user, added to others.
    fn and_blockers(&self, mut ids: Vec<ConnId>, whom: &UserName) -> Vec<ConnId> {
        let blocks = |by: &UserName| self.blocks.iter().any(|(other, blocked)| other == by && blocked == whom);
        ids.extend(self.online.iter().filter(|(_, name)| blocks(name)).map(|(id, _)| *id));
        ids
    }

    fn handle_event(&mut self, fault: Fault, now: Moment, event: Event<'_>, effects: &mut Vec<Effect>) {
        let event = match (fault, event) {
            (Fault::ConfirmedEarly, Event::Closed(id, _)) => Event::Closed(id, Parting::Clean),
            (Fault::ClosedForgotten, Event::Closed(id, _)) if !self.welcomed.contains(&id) => return,
            (Fault::SeenForgotten, Event::Line(_, line)) if line.starts_with(b"SEEN ") => return,
            (Fault::ReceiptEarly, Event::Stalled(_)) => return,
            (Fault::ReceiptNotForgotten, Event::Line(_, line)) if line.starts_with(b"TOLD ") => return,
            (Fault::ExitTooFar, Event::Line(id, b"/exit")) => {
                self.state.handle(now, Event::Line(id, b"/exit"), effects);
                return self.state.handle(now, Event::Line(id, b"/exit"), &mut Vec::new());
            }
            (Fault::SecondTildeLost, Event::Line(id, line)) => {
                let mut tildes = line.iter().enumerate().filter(|(_, byte)| **byte == b'~').map(|(at, _)| at);
                let end = tildes.nth(1).filter(|_| line.ends_with(b"~more")).unwrap_or(line.len());
                return self.state.handle(now, Event::Line(id, &line[..end]), effects);
            }
            (Fault::StrangerKicks | Fault::OwnerLeaves, Event::Line(id, line)) => {
                self.state.handle(now, Event::Line(id, line), effects);
                return self.allow(fault, now, line, effects);
            }
            (Fault::MissForgotten, Event::Line(id, line)) if line.ends_with(b" wrong") => {
                effects.push(Effect::Send(id, Notice::WrongPassword { tries: 2 }));
                return effects.push(Effect::Send(id, Notice::AskPassword));
            }
            (Fault::PageShort, Event::Mail(id, Some(mut page))) if page.len() > 1 => {
                page.remove(0);
                Event::Mail(id, Some(page))
            }
            (Fault::UnknownIsActivity, Event::Line(id, b"hello")) if self.online.iter().any(|(on, _)| *on == id) => {
                self.state.handle(now, Event::Line(id, b"help"), &mut Vec::new());
                Event::Line(id, b"hello")
            }
            (Fault::ResentTwice, Event::Line(id, line)) => {
                if let Ok(Say::Typed { tag, line }) = Say::parse(&String::from_utf8_lossy(line)) {
                    let again = self.tags.contains(&tag);
                    self.tags.push(tag);
                    let anew = Tag { line: tag.line + if again { ANEW } else { 0 }, ..tag };
                    let line = Say::Typed { tag: anew, line }.spell();
                    return self.state.handle(now, Event::Line(id, line.as_bytes()), effects);
                }
                Event::Line(id, line)
            }
            (_, Event::Asked(id, peer, ask)) => return self.handle_request(fault, now, (id, peer), ask, effects),
            (_, Event::Pushed { conn, number, outcome }) => {
                return self.handle_push(fault, now, (conn, number), outcome, effects);
            }
            (_, event) => event,
        };
        self.state.handle(now, event, effects);
    }

    /// Carries out for another what was refused to somebody for not being the owner, or for being it.
    fn allow(&mut self, fault: Fault, now: Moment, line: &[u8], effects: &mut Vec<Effect>) {
        let line = String::from_utf8_lossy(line);
        let is_refused = |effect: &Effect| match effect {
            Effect::Send(_, Notice::Refused(Refusal::NotOwner(_))) => fault == Fault::StrangerKicks,
            Effect::Send(_, Notice::Refused(Refusal::OwnerStays(_))) => fault == Fault::OwnerLeaves,
            _ => false,
        };
        let Some(words) = line.find("group kick").or_else(|| line.find("group leave")) else { return };
        if !effects.iter().any(is_refused) {
            return;
        }
        for (id, _) in self.online.clone() {
            let mut more = Vec::new();
            // With a slash it is a command in every mode.
            self.state.handle(now, Event::Line(id, format!("/{}", &line[words..]).as_bytes()), &mut more);
            if more.iter().any(|effect| matches!(effect, Effect::Store(_))) {
                effects.clear();
                return effects.append(&mut more);
            }
        }
    }

    /// Appends what becomes of an effect.
    fn alter(&mut self, fault: Fault, now: Moment, effect: Effect, resumes: bool, effects: &mut Vec<Effect>) {
        match &effect {
            Effect::Send(id, Notice::Welcome { user, .. }) => {
                self.lobby.retain(|other| other != id);
                self.welcomed.push(*id);
                self.online.push((*id, user.clone()));
            }
            Effect::Answer(id, Answer::LoggedIn { token }) => {
                let name = self.entering.iter().find(|(other, _)| other == id).map(|(_, name)| name.clone());
                self.given.extend(name.map(|name| (name, *token)));
            }
            Effect::Listen(id, _) => {
                self.framed.push(*id);
                if let Some(at) = self.entering.iter().position(|(other, _)| other == id) {
                    self.online.push(self.entering.swap_remove(at));
                }
            }
            Effect::Close { conn, .. } => {
                let conn = *conn;
                self.online.retain(|(other, _)| *other != conn);
                self.lobby.retain(|other| *other != conn);
            }
            _ => {}
        }
        match &effect {
            Effect::Store(Record::Block { by, whom }) => self.blocks.push((by.clone(), whom.clone())),
            Effect::Store(Record::Unblock { by, whom }) => {
                self.blocks.retain(|block| *block != (by.clone(), whom.clone()))
            }
            _ => {}
        }
        let mail_to = self.mail_to.take();
        if let Effect::Store(Record::Message { to, .. }) = &effect {
            self.mail_to = to.first().cloned();
        }
        let nothing = Effect::Store(Record::Heartbeat { wall: now.wall });
        let altered = match (fault, effect) {
            (Fault::FourthTry, Effect::Send(id, Notice::JustLocked { .. })) => {
                effects.push(Effect::Send(id, Notice::WrongPassword { tries: 1 }));
                Effect::Send(id, Notice::AskPassword)
            }
            (Fault::TakeOverSilent, Effect::Send(_, Notice::Said(_))) if resumes => return,
            (Fault::SilenceTwice, Effect::Cast(ids, Notice::Left(name))) if self.is_framed(&name) => {
                effects.push(Effect::Cast(ids.clone(), Notice::Left(name.clone())));
                Effect::Cast(ids, Notice::Left(name))
            }
            (Fault::MoveTold, Effect::Send(id, Notice::TakenOver)) => {
                if let Some((_, name)) = self.online.iter().find(|(other, _)| *other == id) {
                    effects.push(Effect::Cast(self.all_but(name), Notice::Left(name.clone())));
                }
                Effect::Send(id, Notice::TakenOver)
            }
            (Fault::ReplacedUntold, Effect::Send(_, Notice::TakenOver)) => return,
            (Fault::AskedTwice, Effect::Send(id, Notice::AsksAddress(name))) => {
                effects.push(Effect::Send(id, Notice::AsksAddress(name.clone())));
                Effect::Send(id, Notice::AsksAddress(name))
            }
            (Fault::LeftLost, Effect::Cast(_, Notice::Left(_))) => return,
            (Fault::ArrivedToBlocked, Effect::Cast(_, Notice::Arrived(name))) => {
                Effect::Cast(self.all_but(&name), Notice::Arrived(name))
            }
            (Fault::ArrivedToStrangers, Effect::Cast(mut ids, Notice::Arrived(name))) => {
                ids.extend(&self.lobby);
                Effect::Cast(ids, Notice::Arrived(name))
            }
            (Fault::LeftUnlisted, Effect::Send(id, Notice::Names(mut names))) => {
                names.retain(|name| self.is_online(name));
                Effect::Send(id, if names.is_empty() { Notice::Nobody } else { Notice::Names(names) })
            }
            (Fault::HeartbeatOld, Effect::Store(Record::Heartbeat { wall })) => {
                Effect::Store(Record::Heartbeat { wall: wall - 10_000 })
            }
            (Fault::TokenNotStored, Effect::Store(Record::Tokens { .. }))
            | (Fault::ConfirmedNotStored, Effect::Store(Record::Confirmed { .. }))
            | (Fault::BlockNotStored, Effect::Store(Record::Block { .. }))
            | (Fault::UnblockNotStored, Effect::Store(Record::Unblock { .. })) => nothing,
            (Fault::StoredAnswerLost, Effect::Release(id, Some(Notice::Stored { .. }))) => Effect::Release(id, None),
            (Fault::AnsweredBeforeDisk, Effect::Hold(id)) if mail_to.is_some() => {
                self.answered.push(id);
                effects.push(Effect::Hold(id));
                Effect::Release(id, mail_to.map(|to| Notice::Stored { to, seen: None }))
            }
            (Fault::AnsweredBeforeDisk, Effect::Release(id, answer)) => {
                match self.answered.iter().position(|other| *other == id) {
                    Some(at) => {
                        self.answered.remove(at);
                        return;
                    }
                    None => Effect::Release(id, answer),
                }
            }
            (Fault::AnswerOvertakes, Effect::Hold(_) | Effect::Release(_, None)) => return,
            (Fault::AnswerOvertakes, Effect::Release(id, Some(answer))) => Effect::Send(id, answer),
            (Fault::Twice, Effect::Send(id, Notice::Said(letter))) => {
                effects.push(Effect::Send(id, Notice::Said(letter.clone())));
                Effect::Send(id, Notice::Said(letter))
            }
            (Fault::SwappedWhenSlow | Fault::PushesSwapped, Effect::Send(id, Notice::Said(letter)))
                if self.stalled.contains(&id) && (fault == Fault::SwappedWhenSlow || self.framed.contains(&id)) =>
            {
                match self.kept.take() {
                    None => {
                        self.kept = Some(Effect::Send(id, Notice::Said(letter)));
                        return;
                    }
                    Some(kept) => {
                        effects.push(Effect::Send(id, Notice::Said(letter)));
                        kept
                    }
                }
            }
            (Fault::TextToAnother, Effect::Send(id, Notice::Said(letter))) => {
                let other = self.online.iter().find(|(other, _)| *other != id).map_or(id, |(other, _)| *other);
                Effect::Send(other, Notice::Said(letter))
            }
            (Fault::MailOfAnother, Effect::Fetch { conn, user, after }) => {
                let other = self.names.iter().find(|name| **name != user).cloned().unwrap_or(user);
                Effect::Fetch { conn, user: other, after }
            }
            (Fault::AgainUnmarked, Effect::Send(id, Notice::Said(letter))) if letter.road == Road::Again => {
                Effect::Send(id, Notice::Said(Letter { road: Road::Mail, ..letter }))
            }
            (Fault::ResentTwice, Effect::Send(id, Notice::Done(tag))) => {
                Effect::Send(id, Notice::Done(Tag { line: tag.line % ANEW, ..tag }))
            }
            (Fault::BroadcastToBlocker, Effect::Cast(_, Notice::Said(letter))) => {
                Effect::Cast(self.all_but(&letter.from), Notice::Said(letter))
            }
            (Fault::SkippedUntold, Effect::Send(_, Notice::SomeSkipped)) => return,
            (Fault::SeenWhenDelivered, Effect::Send(id, Notice::Delivered(readers))) => {
                Effect::Send(id, Notice::Seen(readers))
            }
            (Fault::ReceiptTwice, Effect::Send(id, Notice::Seen(readers))) => {
                effects.push(Effect::Send(id, Notice::Seen(readers.clone())));
                Effect::Send(id, Notice::Seen(readers))
            }
            (Fault::ReceiptLost, Effect::Send(_, Notice::Seen(_)))
            | (Fault::MeanwhileLost, Effect::Send(_, Notice::SeenMeanwhile { .. }))
            | (Fault::NewsLost, Effect::Cast(_, Notice::Group { news: News::Renamed(_), .. })) => return,
            (Fault::ModeUntold, Effect::Send(_, Notice::Mode(_))) if resumes => return,
            (Fault::ReceiptToAnother, Effect::Send(id, Notice::Seen(readers))) => {
                let other = self.online.iter().find(|(other, _)| *other != id).map_or(id, |(other, _)| *other);
                Effect::Send(other, Notice::Seen(readers))
            }
            (Fault::SentBeforeDisk, Effect::Hold(id)) if mail_to.is_some() => {
                effects.push(Effect::Send(id, Notice::Sent));
                Effect::Hold(id)
            }
            (Fault::SentBeforeDisk, Effect::Release(id, Some(Notice::Sent))) => Effect::Release(id, None),
            (Fault::GroupTextToStranger, Effect::Cast(_, Notice::Said(letter))) if is_for_group(&letter) => {
                Effect::Cast(self.all_but(&letter.from), Notice::Said(letter))
            }
            (Fault::GroupTextToBlocker, Effect::Cast(ids, Notice::Said(letter))) if is_for_group(&letter) => {
                Effect::Cast(self.and_blockers(ids, &letter.from), Notice::Said(letter))
            }
            (Fault::GeneralToBlocker, Effect::Cast(ids, Notice::Said(letter))) if letter.scope == Scope::General => {
                Effect::Cast(self.and_blockers(ids, &letter.from), Notice::Said(letter))
            }
            (Fault::NewsToBlocker, Effect::Cast(ids, Notice::Group { group, by, news })) => {
                Effect::Cast(self.and_blockers(ids, &by), Notice::Group { group, by, news })
            }
            (Fault::GroupTextNotStored, Effect::Store(Record::Message { mut to, letter, tag }))
                if is_for_group(&letter) && !to.is_empty() =>
            {
                to.remove(0);
                Effect::Store(Record::Message { to, letter, tag })
            }
            (Fault::BlockedAfterOffline, Effect::Send(id, Notice::Refused(Refusal::Blocked(name))))
                if !self.is_online(&name) =>
            {
                Effect::Send(id, Notice::Stored { to: name, seen: None })
            }
            (_, effect) => effect,
        };
        effects.push(altered);
    }

    /// The store writes a batch.
    pub(crate) fn commit(&self, store: &mut Store, records: &[Record]) {
        let Some(fault) = self.fault else { return store.commit(records) };
        let altered = records.iter().cloned().map(|record| match (fault, record) {
            (Fault::OneNotDeleted, Record::Confirmed { user, upto }) => Record::Confirmed { user, upto: upto - 1 },
            (Fault::ReceiptNotStored, Record::Receipt { receipt: Some(_), .. })
            | (Fault::RenameNotStored, Record::Group { change: Change::Renamed(_), .. })
            | (Fault::KickNotStored, Record::Group { change: Change::Removed(_), .. })
            | (Fault::OwnerNotStored, Record::Group { change: Change::Owned(_), .. }) => Record::Nothing,
            (Fault::GeneralNotStored, Record::Message { letter, tag, .. }) if letter.scope == Scope::General => {
                Record::Message { to: Vec::new(), letter, tag }
            }
            (Fault::TagNotStored, Record::Message { to, letter, .. }) => Record::Message { to, letter, tag: None },
            (_, record) => record,
        });
        let has_mail = records.iter().any(|record| matches!(record, Record::Message { .. }));
        if fault != Fault::BatchLost || !has_mail {
            store.commit(&altered.collect::<Vec<_>>());
        }
    }

    /// The store refuses a batch.
    pub(crate) fn refuse(&self, store: &mut Store, records: &[Record]) {
        if self.fault == Some(Fault::RefusedKept) {
            store.commit(records);
        }
    }
}

fn is_for_group(letter: &Letter) -> bool {
    matches!(letter.scope, Scope::Group(_))
}

/// The client's mind, with a fault perhaps.
pub(crate) struct Mind {
    fault: Option<Fault>,
    state: mind::State,
    tags: Vec<Tag>,
    /// Sessions in which it has entered a mode.
    modes: Vec<u64>,
}

impl Mind {
    pub(crate) fn new(fault: Option<Fault>, rules: mind::Rules, now: Moment) -> Self {
        Self { fault, state: mind::State::new(rules, now), tags: Vec::new(), modes: Vec::new() }
    }

    pub(crate) fn deadline(&self) -> Option<i64> {
        self.state.deadline()
    }

    pub(crate) fn handle(&mut self, now: Moment, event: mind::Event<'_>, effects: &mut Vec<mind::Effect>) {
        self.state.handle(now, event, effects);
        let Some(fault) = self.fault else { return };
        for effect in std::mem::take(effects) {
            self.alter(fault, effect, effects);
        }
    }

    fn alter(&mut self, fault: Fault, effect: mind::Effect, effects: &mut Vec<mind::Effect>) {
        match (fault, &effect) {
            (Fault::ShownTwice, mind::Effect::Show(_, mind::Shown::Notice(Notice::Said(_), _))) => {
                effects.push(effect.clone());
            }
            (Fault::NotRemembered, mind::Effect::Remember(..)) => return,
            (Fault::ModeNotRestored, mind::Effect::Send(line)) => {
                if let Ok(Say::Typed { tag, line: "/general" | "/direct" | "/group" }) = Say::parse(line) {
                    // Carried out the first time, and never again.
                    if self.modes.iter().any(|session| *session != tag.session) {
                        return effects.push(mind::Effect::Send(Say::Typed { tag, line: "groups" }.spell()));
                    }
                    self.modes.push(tag.session);
                }
            }
            (Fault::ShownTooFar | Fault::NotResent | Fault::ResentAnew, mind::Effect::Send(line)) => {
                match Say::parse(line) {
                    Ok(Say::Login { name, shown }) if fault == Fault::ShownTooFar => {
                        let further = Say::Login { name, shown: shown + 1000 };
                        return effects.push(mind::Effect::Send(further.spell()));
                    }
                    Ok(Say::Typed { tag, line }) if fault != Fault::ShownTooFar => {
                        let again = self.tags.contains(&tag);
                        self.tags.push(tag);
                        match (again, fault) {
                            (true, Fault::NotResent) => return,
                            (true, _) => {
                                let anew = Tag { line: tag.line + ANEW, ..tag };
                                return effects.push(mind::Effect::Send(Say::Typed { tag: anew, line }.spell()));
                            }
                            _ => {}
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        effects.push(effect);
    }
}
