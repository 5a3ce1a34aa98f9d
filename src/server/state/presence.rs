//! Who is here, since when, who was; and who is told about it.

use std::collections::HashSet;

use super::dialogue::{Stage, Visit, shown};
use super::login::Failures;
use super::mailbox::Reading;
use super::roster::UserId;
use super::{ConnId, Effect, Notice, Record, State, Timer, TokenHash};
use crate::wire::name::UserName;
use crate::wire::{Ago, Refusal};

/// With so many online, comings and goings are gathered and told together: else each would cost
/// a send to everybody, and a lecture hall that logs in would wait for its own announcements.
pub const CROWD_MIN: usize = 16;

/// They are gathered for a millisecond for so many online, and a second at most: telling costs a
/// send to each, so however large the crowd is, it takes the same share of the time.
const ONLINE_PER_MILLI: usize = 10;

/// Longest time for which they are gathered, in milliseconds.
const MOVES_MILLIS_MAX: i64 = 1000;

/// How many are gathered; then they are told at once.
const MOVES_MAX: usize = 1024;

/// Somebody came or went, and nobody has been told yet.
#[derive(Debug)]
pub(super) struct Move {
    user: UserId,
    /// [`Notice::Arrived`] or [`Notice::Left`].
    notice: Notice,
}

impl State {
    /// A user comes online on this connection: welcome, waiting messages, presence to others.
    /// `shown`: up to this number our client has shown everything. `used`: its token, if it
    /// resumes.
    pub(super) fn arrive(&mut self, conn: ConnId, user: UserId, shown: u64, used: Option<TokenHash>) {
        let now = self.now;
        let account = &mut self.roster[user];
        account.session = Some(conn);
        account.seen = Some(now);
        account.failures = Failures::default();
        let name = account.name.clone();
        let waiting = account.mailbox.count;
        let reading = Reading::new(&account.mailbox, shown);
        let unread = reading.is_first();

        self.enter(conn, Box::new(Visit::new(user, now.elapsed, reading)));
        self.welcome(conn, user, used);
        self.show_receipts(conn, user);
        if unread {
            // Our client may have shown some of them and counts for itself; and it must be heard,
            // because it confirms each page before it gets the next.
            let session = self.sessions.get(&conn);
            let (is_ours, is_framed) =
                session.map_or((false, false), |session| (session.is_ours, session.post.is_some()));
            if !is_ours {
                self.send(conn, Notice::Waiting { count: waiting });
            }
            if !is_ours && !is_framed {
                self.effects.push(Effect::Pause(conn));
            }
            self.queue(conn);
        }
        self.store_quietly(Record::CameOnline { user: name.clone(), wall: now.wall });
        if !self.moving {
            self.announce(user, Notice::Arrived(name.clone()));
        }
        self.online.insert(name, user);
    }

    /// A connection leaves the lobby with this visit.
    pub(super) fn enter(&mut self, conn: ConnId, visit: Box<Visit>) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        self.timers.remove(&(session.silence, Timer::Silence(conn)));
        let silence = if session.post.is_some() { self.rules.heartbeat_timeout } else { self.rules.timeout };
        session.silence = visit.active + silence;
        self.timers.insert((session.silence, Timer::Silence(conn)));
        session.stage = Stage::Online(visit);
        let peer = session.peer;
        self.lobby.leave(conn, peer);
    }

    /// A user goes, in whatever way.
    pub(super) fn depart(&mut self, user: UserId) {
        let account = &mut self.roster[user];
        account.session = None;
        account.seen = Some(self.now);
        let name = account.name.clone();
        self.online.remove(&name);
        self.forget_requests(user);
        self.store_quietly(Record::WentOffline { user: name.clone(), wall: self.now.wall });
        // At a stop everybody goes; nobody needs to hear of each.
        if !self.stopping && !self.moving {
            self.announce(user, Notice::Left(name));
        }
    }

    /// Tells everybody who may know that `mover` came or went; a crowd is told a little later.
    fn announce(&mut self, mover: UserId, notice: Notice) {
        if self.moves.is_empty() {
            if self.online.len() < CROWD_MIN {
                let witnesses = self.witnesses(mover);
                return self.cast(witnesses, notice);
            }
            let millis = i64::try_from(self.online.len() / ONLINE_PER_MILLI).unwrap_or(i64::MAX);
            self.timers.insert((self.now.elapsed + millis.min(MOVES_MILLIS_MAX), Timer::Moves));
        }
        self.moves.push(Move { user: mover, notice });
        if self.moves.len() >= MOVES_MAX {
            self.tell_moves();
        }
    }

    /// Nobody hears a user speak before he has heard that he came.
    pub(super) fn announce_speaker(&mut self, user: UserId) {
        if self.moves.iter().any(|other| other.user == user) {
            self.tell_moves();
        }
    }

    /// Tells what was gathered: the same to nearly everybody. Who came meanwhile hears only what
    /// happened since, and nobody hears of those who block him.
    pub(super) fn tell_moves(&mut self) {
        let moves = std::mem::take(&mut self.moves);
        let movers = moves.iter().map(|one| one.user);
        let apart: HashSet<UserId> =
            movers.flat_map(|mover| self.roster[mover].blocks.iter().copied().chain([mover])).collect();
        let here = self.online.values().filter_map(|&user| Some((user, self.roster[user].session?)));
        let (few, crowd): (Vec<_>, Vec<_>) = here.partition(|(user, _)| apart.contains(user));
        let since = |user| moves.iter().rposition(|one| one.user == user).map_or(0, |at| at + 1);
        let few: Vec<_> = few.into_iter().map(|(user, conn)| (user, conn, since(user))).collect();
        for (at, one) in moves.iter().enumerate() {
            let blocks = &self.roster[one.user].blocks;
            let hears = |user: &UserId, since: usize| since <= at && !blocks.contains(user);
            let receivers =
                few.iter().filter(|(user, _, since)| hears(user, *since)).map(|(_, conn, _)| *conn).collect();
            self.cast(receivers, one.notice.clone());
        }
        let crowd: Vec<ConnId> = crowd.into_iter().map(|(_, conn)| conn).collect();
        if !crowd.is_empty() {
            self.effects.push(Effect::CastAll(crowd, moves.into_iter().map(|one| one.notice).collect()));
        }
    }

    /// Everybody online whom `mover` has not blocked: those who are told that he comes or goes.
    fn witnesses(&self, mover: UserId) -> Vec<ConnId> {
        let blocks = &self.roster[mover].blocks;
        self.online
            .values()
            .filter(|user| **user != mover && (blocks.is_empty() || !blocks.contains(user)))
            .filter_map(|&user| self.roster[user].session)
            .collect()
    }

    pub(super) fn who_else(&mut self, conn: ConnId, asker: UserId) {
        let others = self.online.iter().filter(|(_, user)| **user != asker && !self.is_hidden(**user, asker));
        let names = others.map(|(name, _)| name.clone()).collect();
        self.send_list(conn, names);
    }

    /// Everybody who was online at any moment of the last `millis` (UNSW, section 8): online
    /// now, or gone for no longer than that.
    pub(super) fn who_else_since(&mut self, conn: ConnId, asker: UserId, millis: i64) {
        let now = self.now;
        let mut names: Vec<UserName> = self
            .roster
            .iter()
            .filter(|(id, user)| {
                let recent = user.session.is_some() || user.seen.is_some_and(|seen| now.since(seen) <= millis);
                recent && *id != asker && user.password.is_some() && !self.is_hidden(*id, asker)
            })
            .map(|(_, user)| user.name.clone())
            .collect();
        names.sort_unstable();
        self.send_list(conn, names);
    }

    pub(super) fn status(&mut self, conn: ConnId, asker: UserId, word: &str) {
        let Some(user) = self.roster.find(word) else {
            return self.refuse(conn, Refusal::InvalidUser(shown(word)));
        };
        let now = self.now;
        let name = self.roster[user].name.clone();
        let seen = self.roster[user].seen_ago(now);
        let notice = match (seen, self.idle(user)) {
            _ if self.is_hidden(user, asker) => Notice::NeverOnline(name),
            (Some(since), Some(idle)) => Notice::Online { user: name, since, idle },
            (Some(seen), None) => Notice::Offline { user: name, seen },
            (None, _) => Notice::NeverOnline(name),
        };
        self.send(conn, notice);
    }

    /// How long an online user has given no valid command, in milliseconds.
    pub(super) fn idle(&mut self, user: UserId) -> Option<i64> {
        let now = self.now.elapsed;
        let conn = self.roster[user].session?;
        self.visit(conn).map(|visit| now - visit.active)
    }

    /// When an absent user was last online, as people are told.
    pub(super) fn last_seen(&self, user: UserId) -> Option<Ago> {
        self.roster[user].seen_ago(self.now)
    }

    /// UNSW 2021: who blocks me is not shown to me.
    pub(super) fn is_hidden(&self, user: UserId, from: UserId) -> bool {
        self.rules.hide_blockers && self.roster[user].blocks.contains(&from)
    }
}
