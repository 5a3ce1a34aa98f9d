//! Who is here, since when, who was; and who is told about it.

use super::dialogue::{Stage, Visit, shown};
use super::mailbox::Reading;
use super::roster::UserId;
use super::{ConnId, Effect, Notice, Record, State, Timer, TokenHash};
use crate::wire::name::UserName;
use crate::wire::{Ago, Refusal};

impl State {
    /// A user comes online on this connection: welcome, waiting messages, presence to others.
    /// `shown`: up to this number our client has shown everything. `used`: its token, if it
    /// resumes.
    pub(super) fn arrive(&mut self, conn: ConnId, user: UserId, shown: u64, used: Option<TokenHash>) {
        let now = self.now;
        let account = &mut self.roster[user];
        account.session = Some(conn);
        account.seen = Some(now);
        account.misses = 0;
        account.locked_until = None;
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
            if !self.sessions.get(&conn).is_some_and(|session| session.is_ours) {
                self.send(conn, Notice::Waiting { count: waiting });
                self.effects.push(Effect::Pause(conn));
            }
            self.queue(conn);
        }
        self.store_quietly(Record::CameOnline { user: name.clone(), wall: now.wall });
        let witnesses = self.witnesses(user);
        self.cast(witnesses, Notice::Arrived(name.clone()));
        self.online.insert(name, user);
    }

    /// A connection leaves the lobby with this visit.
    pub(super) fn enter(&mut self, conn: ConnId, visit: Box<Visit>) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        self.timers.remove(&(session.silence, Timer::Silence(conn)));
        session.silence = visit.active + self.rules.timeout;
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
        self.store_quietly(Record::WentOffline { user: name.clone(), wall: self.now.wall });
        // At a stop everybody goes; nobody needs to hear of each.
        if !self.stopping {
            let witnesses = self.witnesses(user);
            self.cast(witnesses, Notice::Left(name));
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
    fn is_hidden(&self, user: UserId, from: UserId) -> bool {
        self.rules.hide_blockers && self.roster[user].blocks.contains(&from)
    }
}
